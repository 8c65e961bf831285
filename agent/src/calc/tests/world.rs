//! Clusters for tests: what the datastore holds, in its stored JSON.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde_json::{Value as Json, json};
use tortie_datastore::syncer::{Update, Value};
use tortie_model::ipam::{AffinityState, Block, BlockAffinity};
use tortie_model::{AnyResource, Key, Kind, codec};

use crate::calc::{Calc, Output, RouterId, Settings};

/// One stored value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    Resource(Box<AnyResource>),
    Affinity(AffinityState),
    Block(Box<Block>),
    Unreadable(Kind),
}

impl Stored {
    pub(super) fn value(&self, key: &Key) -> Value {
        match self {
            Stored::Resource(resource) => Value::Resource(resource.clone()),
            Stored::Affinity(state) => {
                Value::Affinity(BlockAffinity { state: *state, ..BlockAffinity::default() })
            }
            Stored::Block(block) => Value::Block(block.clone()),
            Stored::Unreadable(kind) => Value::Invalid(codec::decode(*kind, key, b"{", 1).unwrap_err()),
        }
    }
}

/// What the datastore holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct World(pub(super) BTreeMap<Key, Stored>);

pub(crate) fn settings() -> Settings {
    Settings {
        node: "n1".into(),
        bgp: true,
        ipv6: true,
        router_id: RouterId::NodeAddress,
        service_cluster_ips: None,
        endpoint_to_host: None,
        ipip_mtu: None,
        host_mtu: 1500,
        log_group: None,
        stop_refused: false,
    }
}

pub(super) fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

impl World {
    /// Adds a resource with this metadata and spec; `name` may be `namespace/name`.
    pub(super) fn document(mut self, kind: Kind, name: &str, mut metadata: Json, spec: Json) -> World {
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, name),
        };
        metadata["name"] = json!(name);
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        let document = json!({"kind": kind.name(), "metadata": metadata, "spec": spec});
        let resource = codec::from_document(kind, document).unwrap();
        self.0.insert(Key::resource(kind, namespace, name), Stored::Resource(Box::new(resource)));
        self
    }

    pub(super) fn with(self, kind: Kind, name: &str, spec: Json) -> World {
        self.document(kind, name, json!({}), spec)
    }

    pub(super) fn node(self, name: &str, address: &str) -> World {
        self.with(Kind::Node, name, json!({"bgp": {"ipv4Address": address}}))
    }

    /// Nodes n1, n2, ... at 10.0.0.1/24, 10.0.0.2/24, ...
    pub(super) fn nodes(count: u8) -> World {
        (1..=count).fold(World::default(), |w, i| w.node(&format!("n{i}"), &format!("10.0.0.{i}/24")))
    }

    pub(super) fn pool(self, name: &str, cidr: &str, mut more: Json) -> World {
        more["cidr"] = json!(cidr);
        self.with(Kind::IpPool, name, more)
    }

    pub(super) fn endpoint(self, name: &str, node: &str, interface: &str, addresses: &[&str]) -> World {
        let spec = json!({
            "orchestrator": "cni", "node": node, "endpoint": "eth0", "containerID": "c0",
            "interfaceName": interface, "ipNetworks": addresses, "mac": "ca:fe:1d:52:bb:e9",
        });
        self.with(Kind::WorkloadEndpoint, name, spec)
    }

    pub(super) fn block(mut self, node: &str, block: &str, state: AffinityState) -> World {
        let key = Key::BlockAffinity { host: node.into(), block: net(block) };
        self.0.insert(key, Stored::Affinity(state));
        self
    }

    pub(super) fn confirmed(self, node: &str, block: &str) -> World {
        self.block(node, block, AffinityState::Confirmed)
    }

    pub(super) fn unreadable(mut self, kind: Kind, name: &str) -> World {
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, name),
        };
        self.0.insert(Key::resource(kind, namespace, name), Stored::Unreadable(kind));
        self
    }

    pub(super) fn without(mut self, key: &Key) -> World {
        self.0.remove(key).expect("the key is there");
        self
    }

    pub(super) fn updates(&self) -> Vec<Update> {
        let update = |(key, stored): (&Key, &Stored)| Update {
            key: key.clone(),
            value: Some(stored.value(key)),
            revision: 1,
        };
        self.0.iter().map(update).collect()
    }

    /// What node n1 makes of it from scratch.
    pub(super) fn output(&self) -> Output {
        self.output_with(settings())
    }

    pub(super) fn output_with(&self, settings: Settings) -> Output {
        let mut calc = Calc::new(settings);
        for update in self.updates() {
            calc.apply(update);
        }
        calc.in_sync();
        calc.flush().expect("in sync and changed")
    }
}
