//! From resources to what this node should be: pure.
//!
//! ```text
//! updates ─▶ cache ─flush─▶ endpoints ─▶ interfaces, routes ─▶ Desired    ─▶ dataplane
//!                      ├──▶ policies  ─▶ Ruleset            ─┘
//!                      └──▶ bgp: identity, peers, filters   ─▶ BgpDesired ─▶ peering
//! ```
//!
//! One owner; no lock, no await, no clock. Output is a function of the present inputs, never of a remembered good
//! value: what cannot be read is missing, and missing means deny. Policy is told change by change to an
//! engine that works out what follows ([`tortie_policy::Engine`]); sessions and filters are calculated when their inputs
//! are others; the rest, which is little, on each flush.

mod bgp;
mod cache;
mod duration;
mod endpoints;
mod feed;
mod felix;
mod hosts;
mod network_sets;
mod policies;
mod problems;
mod routes;
mod secrets;
#[cfg(test)]
pub(crate) mod tests;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_datastore::ipam::Allocation;
use tortie_datastore::syncer::Update;
use tortie_model::resource::{CalicoNodeStatusSpec, WorkloadEndpoint};
use tortie_model::{Key, Kind};
use tortie_policy::Ruleset;
use tortie_policy::snapshot::EndpointToHost;

use crate::desired::{BgpDesired, Desired};
use crate::metrics::Listen;
use cache::{Cache, StoredEndpoint};
use feed::Feed;

pub use bgp::RouterId;
pub use duration::parse as parse_duration;
pub use felix::parse_endpoint_to_host;
pub use problems::Problems;
pub use secrets::Secrets;

/// What is known about this node besides the datastore's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub node: String,
    /// Whether it speaks BGP at all (`CALICO_NETWORKING_BACKEND` is `bird`).
    pub bgp: bool,
    /// Whether IPv6 addresses are programmed.
    pub ipv6: bool,
    /// Where the BGP identifier comes from.
    pub router_id: RouterId,
    /// `CALICO_ADVERTISE_CLUSTER_IPS`; wins over BGPConfiguration.
    pub service_cluster_ips: Option<Vec<IpNetwork>>,
    /// `FELIX_DEFAULTENDPOINTTOHOSTACTION`; wins over FelixConfiguration.
    pub endpoint_to_host: Option<EndpointToHost>,
    /// `FELIX_IPINIPMTU` unless 0; wins over FelixConfiguration.
    pub ipip_mtu: Option<u32>,
    /// MTU of the interface that carries traffic between nodes.
    pub host_mtu: u32,
    /// `TORTIE_LOG_GROUP`: group of nflog that gets what `Log` rules match; the kernel's log when absent.
    pub log_group: Option<u16>,
    /// `TORTIE_REEVALUATE_FLOWS`: flows that policy no longer allows are stopped.
    pub stop_refused: bool,
}

/// The result of a calculation.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// For the dataplane.
    pub desired: Arc<Desired>,
    /// For the speaker.
    pub bgp: Arc<BgpDesired>,
    /// MTU of workloads that ask for none: what fits into every tunnel.
    pub workload_mtu: u32,
    /// Resources that could not be honoured.
    pub problems: Problems,
    /// Reports asked of this node, by name of the resource that asks.
    pub reports: BTreeMap<String, CalicoNodeStatusSpec>,
    /// Where metrics are served.
    pub metrics: Option<Listen>,
}

/// Who lives on this node and what is given out to it, for the search for leaks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tenancy {
    /// Addresses given out to this node, in its own blocks and in those of others.
    pub allocations: Vec<Allocation>,
    /// The workload endpoints of this node.
    pub endpoints: Vec<WorkloadEndpoint>,
}

/// The calculation of one node.
#[derive(Debug)]
pub struct Calc {
    settings: Settings,
    cache: Cache,
    in_sync: bool,
    /// The identity of the cluster, once there was a ClusterInformation; it may be empty.
    cluster: Option<String>,
    dirty: bool,
    /// Policy.
    feed: Feed,
    /// The last rules, so that equal ones stay the same allocation.
    ruleset: Arc<Ruleset>,
    /// Secrets on this machine.
    secrets: Arc<Secrets>,
    /// Sessions and filters.
    bgp: bgp::Memo,
}

impl Calc {
    /// A calculation that knows nothing yet.
    pub fn new(settings: Settings) -> Calc {
        Calc {
            settings,
            cache: Cache::default(),
            in_sync: false,
            cluster: None,
            dirty: true,
            feed: Feed::default(),
            ruleset: Arc::default(),
            secrets: Arc::default(),
            bgp: bgp::Memo::default(),
        }
    }

    /// Takes a change the syncer delivered.
    pub fn apply(&mut self, update: Update) {
        let key = update.key.clone();
        if self.cache.apply(&self.settings.node, update) {
            self.touch(&key);
        }
        if let Some(information) = self.cache.cluster_information.get("default")
            && self.cluster.as_ref().is_none_or(String::is_empty)
        {
            self.cluster = Some(information.cluster_guid.clone());
        }
    }

    /// Takes a change this process wrote itself, ahead of the watch.
    pub fn apply_own(&mut self, update: Update) {
        let key = update.key.clone();
        if self.cache.apply_own(&self.settings.node, update) {
            self.touch(&key);
        }
    }

    fn touch(&mut self, key: &Key) {
        self.dirty = true;
        self.feed.touch(key);
    }

    /// The MTU of the interface that carries traffic between nodes is another one.
    pub fn set_host_mtu(&mut self, mtu: u32) {
        self.dirty |= self.settings.host_mtu != mtu;
        self.settings.host_mtu = mtu;
    }

    /// The addresses of this node's own interfaces are others: they tell which of them a host endpoint is about that names
    /// none.
    pub fn set_host_interfaces(&mut self, interfaces: BTreeMap<String, BTreeSet<IpAddr>>) {
        if self.cache.host_interfaces != interfaces {
            self.cache.host_interfaces = interfaces;
            self.feed.touch_surroundings();
            self.dirty = true;
        }
    }

    /// The secrets on this machine are others.
    pub fn set_secrets(&mut self, secrets: Arc<Secrets>) {
        self.dirty |= self.secrets != secrets;
        self.secrets = secrets;
    }

    /// Everything is read again; until [`Calc::in_sync`] what arrives is a part of it, and nothing is made of that.
    pub fn relisting(&mut self) {
        self.in_sync = false;
        self.cache.relisting();
    }

    /// Everything that was stored when the syncer began has been applied.
    pub fn in_sync(&mut self) {
        self.in_sync = true;
    }

    /// The outcome, when something changed since the last flush. `None` before the datastore is in sync and while it is
    /// locked ([`Calc::locked`]): then what was wanted last stays wanted.
    pub fn flush(&mut self) -> Option<Output> {
        if !self.in_sync || !self.dirty || self.locked().is_some() {
            return None;
        }
        self.dirty = false;
        Some(self.calculate())
    }

    /// Who lives here and what is given out to them. `None` before the datastore is in sync, while it is locked, and as
    /// long as an endpoint cannot be read: it may be one of this node.
    pub fn tenancy(&self) -> Option<Tenancy> {
        let unread = |key: &Key| matches!(key, Key::Resource { kind: Kind::WorkloadEndpoint, .. });
        if !self.in_sync || self.locked().is_some() || self.cache.invalid.keys().any(unread) {
            return None;
        }
        let endpoints = self.cache.endpoints.values().filter_map(|endpoint| match endpoint {
            StoredEndpoint::Local(endpoint) => Some((**endpoint).clone()),
            StoredEndpoint::Remote(_) => None,
        });
        Some(Tenancy {
            allocations: self.cache.allocations.values().flatten().cloned().collect(),
            endpoints: endpoints.collect(),
        })
    }

    /// Why nothing may be programmed although the datastore is in sync: an operator locked it
    /// (`ClusterInformation.spec.datastoreReady` false), or nobody can tell.
    pub fn locked(&self) -> Option<String> {
        let key = Key::resource(Kind::ClusterInformation, None, "default");
        if let Some(reason) = self.cache.invalid.get(&key) {
            return Some(format!("ClusterInformation default cannot be read: {reason}"));
        }
        match self.cache.cluster_information.get("default") {
            Some(information) if information.datastore_ready == Some(false) => {
                Some("the datastore is locked (datastoreReady is false)".to_owned())
            }
            // Somebody began anew in a store that lost its contents, or it is another store.
            Some(information) if self.is_other_cluster(&information.cluster_guid) => Some(format!(
                "the datastore is another cluster's now (clusterGUID {} in ClusterInformation default); restore it, or \
                 restart tortie-node to join that one",
                information.cluster_guid
            )),
            // Every agent makes it at its start. Without it the rest may be gone as well, and that is no reason to tear
            // down what works.
            None if self.cluster.is_some() => Some(
                "ClusterInformation default is gone: the datastore may have lost its contents; restore it, or restart \
                 tortie-node to begin anew"
                    .to_owned(),
            ),
            Some(_) | None => None,
        }
    }

    fn is_other_cluster(&self, guid: &str) -> bool {
        self.cluster.as_deref().is_some_and(|known| !known.is_empty() && !guid.is_empty() && known != guid)
    }

    fn calculate(&mut self) -> Output {
        let (cache, settings) = (&self.cache, &self.settings);
        let mut problems = Problems::default();
        for (key, reason) in &cache.invalid {
            problems.add(problems::subject(key), reason);
        }
        let own = Key::resource(Kind::Node, None, &settings.node);
        if !cache.nodes.contains_key(&settings.node) && !cache.invalid.contains_key(&own) {
            let reason = "it is not in the datastore: no BGP session, no addresses for workloads; restart tortie-node to register \
                          the node again";
            problems.add(problems::subject(&own), reason);
        }
        let workloads = self.feed.tell_endpoints(cache, settings);
        problems.extend(&workloads.problems);
        let (interfaces, all) = (workloads.interfaces.clone(), &workloads.all);
        let own_blocks = routes::own_blocks(cache, settings);
        let bgp = self.bgp.outcome(cache, settings, &self.secrets, &own_blocks, all);
        problems.extend(&bgp.problems);
        let compiled = self.feed.flush(cache, settings, &mut problems);
        for problem in compiled.problems {
            problems.add(problem.subject, problem.reason);
        }
        if *self.ruleset != compiled.ruleset {
            self.ruleset = Arc::new(compiled.ruleset);
        }
        let originated = bgp.originated(&own_blocks, &interfaces);
        let speaker = BgpDesired { config: bgp.config.clone(), originated };
        let desired = Desired {
            interfaces,
            routes: routes::blackholes(&own_blocks, bgp.announced_services()),
            reachable_by: bgp.reachable_by.clone(),
            never_program: bgp.never_program().clone(),
            peering_addresses: bgp.peering_addresses.clone(),
            workload_peers: bgp.workload_peers.clone(),
            ruleset: Arc::clone(&self.ruleset),
            ipip: routes::ipip_device(cache, settings, &mut problems),
            route_context: routes::context(cache, settings),
        };
        let workload_mtu = routes::workload_mtu(cache, settings, desired.ipip.as_ref());
        let metrics = felix::metrics(cache, settings, &mut problems);
        Output {
            desired: Arc::new(desired),
            bgp: Arc::new(speaker),
            workload_mtu,
            problems,
            reports: cache.reports.clone(),
            metrics,
        }
    }
}
