//! A store with nodes and pools, and requests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tortie_datastore::ipam::{AssignRequest, Extra, Ipam};
use tortie_datastore::memory::MemoryStore;
use tortie_datastore::store::Operation;
use tortie_datastore::{Client, Store};
use tortie_model::ipam::IpamConfig;
use tortie_model::resource::{IpPool, IpPoolSpec, Node, NodeSpec};
use tortie_model::{Key, ObjectMeta};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn pool(name: &str, cidr: &str, block_size: u8) -> IpPool {
    let spec =
        IpPoolSpec { cidr: cidr.parse().unwrap(), block_size: Some(block_size), ..IpPoolSpec::default() };
    IpPool::new(ObjectMeta::named(name), spec)
}

/// 2026-01-02T03:04:05Z, for ever.
pub(crate) fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

pub(crate) fn ipam(client: &Client) -> Ipam {
    Ipam::new(client.clone(), clock)
}

pub(crate) async fn populate(store: Arc<dyn Store>, nodes: &[&str], pools: &[IpPool]) -> Client {
    let client = Client::new(store);
    for node in nodes {
        client.create(Node::new(ObjectMeta::named(*node), NodeSpec::default()).into()).await.unwrap();
    }
    for pool in pools {
        client.create(pool.clone().into()).await.unwrap();
    }
    client
}

pub(crate) async fn memory(nodes: &[&str], pools: &[IpPool]) -> Client {
    populate(Arc::new(MemoryStore::default()), nodes, pools).await
}

pub(crate) async fn configure(client: &Client, config: IpamConfig) {
    put(client, &Key::IpamConfig.to_string(), serde_json::to_vec(&config).unwrap()).await;
}

pub(crate) async fn put(client: &Client, key: &str, value: Vec<u8>) {
    let operation = Operation::Put { key: key.to_owned(), value, lease: 0 };
    let transaction =
        tortie_datastore::store::Transaction { compares: Vec::new(), operations: vec![operation] };
    client.store().transact(transaction).await.unwrap();
}

pub(crate) fn want(host: &str, handle: &str) -> AssignRequest {
    AssignRequest {
        attributes: BTreeMap::from([("node".into(), host.into()), ("pod".into(), handle.into())]),
        ..AssignRequest::new(host, handle)
    }
}

pub(crate) fn nothing_else(_: &[IpAddr]) -> Extra {
    Extra::default()
}

/// A stand-in for a workload's endpoint: its addresses under a key of its own.
pub(crate) fn endpoint_key(handle: &str) -> String {
    format!("/calico/resources/v3/projectcalico.org/workloadendpoints/default/{handle}")
}

pub(crate) fn with_endpoint(handle: &str) -> impl Fn(&[IpAddr]) -> Extra + Send + Sync {
    let key = endpoint_key(handle);
    move |addresses| {
        let value = serde_json::to_vec(addresses).unwrap();
        let put = Operation::Put { key: key.clone(), value, lease: 0 };
        Extra { compares: Vec::new(), operations: vec![put] }
    }
}

pub(crate) fn without_endpoint(handle: &str) -> Extra {
    Extra { compares: Vec::new(), operations: vec![Operation::Delete(endpoint_key(handle))] }
}

/// A clock that tests move.
#[derive(Clone, Debug, Default)]
pub(crate) struct Time(Arc<std::sync::atomic::AtomicU64>);

impl Time {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> SystemTime {
        clock() + Duration::from_secs(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// An allocator by this clock.
    pub(crate) fn ipam(&self, client: &Client) -> Ipam {
        let time = self.clone();
        Ipam::new(client.clone(), move || time.now())
    }
}

/// A network, for comparing.
pub(crate) fn net(text: &str) -> ipnetwork::IpNetwork {
    text.parse().unwrap()
}
