//! What the speaker should do: who it is, whom it talks to, what it originates and lets out.
//!
//! Sessions and filters are calculated anew only when something they depend on is another one ([`Memo`]); what is
//! equal then stays the same allocation. Originated routes follow workloads and are cheap.

mod cluster;
mod export;
mod filters;
mod identity;
mod memo;
mod options;
mod peers;
mod selection;
mod services;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_bgp::SpeakerConfig;
use tortie_bgp::table::OriginatedRoute;

use super::cache::Cache;
use super::{Problems, Secrets, Settings};
use crate::desired::WorkloadInterface;
use cluster::Cluster;
use filters::{Shared, local_pref};
use services::Ranges;
use workloads::Workload;

pub use identity::RouterId;
pub(super) use memo::Memo;

/// What follows from the BGP resources for this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// The speaker and its peers; `None` while this node has no address.
    pub(super) config: Option<Arc<SpeakerConfig>>,
    /// LOCAL_PREF of originated routes, IPv4 and IPv6.
    local_prefs: [u32; 2],
    /// Service ranges.
    services: Ranges,
    /// Gateways to peers.
    pub(super) reachable_by: BTreeMap<IpAddr, IpAddr>,
    /// Addresses of this node on the interfaces of workloads that speak BGP with it.
    pub(super) peering_addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Workloads that speak BGP with this node, and their interfaces.
    pub(super) workload_peers: BTreeMap<IpAddr, String>,
    /// What could not be honoured.
    pub(super) problems: Problems,
}

/// What the outcome depends on.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    cache: &'a Cache,
    settings: &'a Settings,
    secrets: &'a Secrets,
    own_blocks: &'a BTreeSet<IpNetwork>,
    workloads: &'a [Workload],
}

/// The outcome with the filters in it, made from those of the last time where they are equal.
fn calculate(inputs: Inputs<'_>, before: &Shared) -> (Outcome, Shared) {
    let Inputs { cache, settings, own_blocks, .. } = inputs;
    let mut outcome = Outcome::default();
    if !settings.bgp {
        return (outcome, Shared::default());
    }
    let Some(cluster) = Cluster::new(cache, settings) else { return (outcome, Shared::default()) };
    let mut problems = Problems::default();
    outcome.local_prefs = [false, true].map(|ipv6| local_pref(cluster.normal_priority(ipv6)));
    outcome.services = services::ranges(&cluster, settings, &mut problems);
    let export = export::Inputs { own_blocks, services: &outcome.services };
    let rules = [false, true].map(|ipv6| export::rules(&cluster, export, ipv6, &mut problems));
    let (secrets, workloads) = (inputs.secrets, inputs.workloads);
    let session_inputs = peers::Inputs { cluster: &cluster, secrets, workloads, export: rules, before };
    let sessions = peers::calculate(&session_inputs, &mut problems);
    outcome.peering_addresses = peering_addresses(&cluster, &sessions.workloads);
    outcome.workload_peers = sessions.workloads;
    outcome.reachable_by = sessions.reachable_by;
    outcome.config = router_id(&cluster, settings, &mut problems).map(|router_id| {
        Arc::new(SpeakerConfig {
            router_id,
            local_as: cluster.as_of(cluster.own),
            listen: listen(&cluster, &outcome.peering_addresses),
            cluster_id: cluster.reflector_id(cluster.own),
            peers: sessions.peers,
        })
    });
    outcome.problems = problems;
    (outcome, sessions.filters)
}

/// The BGP identifier; `None` when no peer would accept it.
fn router_id(cluster: &Cluster<'_>, settings: &Settings, problems: &mut Problems) -> Option<Ipv4Addr> {
    let source = settings.router_id;
    let id = source.resolve(cluster.address(cluster.own, false), cluster.own_name);
    let subject = format!("Node {}", cluster.own_name);
    if !identity::is_acceptable(id) {
        problems.add(
            subject,
            format!(
                "its BGP identifier {id} is none (0.0.0.1 to 223.255.255.255): no BGP session; set CALICO_ROUTER_ID"
            ),
        );
        return None;
    }
    for (name, node) in cluster.others() {
        if source.guess(cluster.address(node, false), name) == id {
            let reason = format!(
                "its BGP identifier {id} is that of node {name} too, and equal ones have no session; see CALICO_ROUTER_ID"
            );
            problems.add(subject.clone(), reason);
        }
    }
    Some(id)
}

/// Where to listen, for families the node has: on the wildcard, or with `bindMode: NodeIP` on the node's addresses and on
/// those workloads dial.
fn listen(cluster: &Cluster<'_>, peering_addresses: &BTreeMap<String, BTreeSet<IpAddr>>) -> Vec<SocketAddr> {
    let port = cluster.port_of(cluster.own_name);
    let on_node_address = cluster.default_config().and_then(|c| c.bind_mode.as_deref()) == Some("NodeIP");
    let wildcard = |address: IpAddr| match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let addresses: Vec<IpAddr> = if on_node_address {
        // A link-local address is one of an interface; nobody can listen on it for all of them.
        let reachable = |address: &&IpAddr| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        };
        let dialled: BTreeSet<IpAddr> = peering_addresses.values().flatten().filter(reachable).copied().collect();
        cluster.own_addresses().chain(dialled).collect()
    } else {
        cluster.own_addresses().map(wildcard).collect()
    };
    addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

/// `localWorkloadPeeringIPV4` and `...IPV6` on the interfaces of workloads with a session of that family.
fn peering_addresses(
    cluster: &Cluster<'_>,
    workloads: &BTreeMap<IpAddr, String>,
) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let config = cluster.default_config();
    let address = |ipv6: bool| {
        let text = config.and_then(|c| match ipv6 {
            false => c.local_workload_peering_ipv4.as_deref(),
            true => c.local_workload_peering_ipv6.as_deref(),
        });
        text?.parse::<IpAddr>().ok().filter(|address| address.is_ipv6() == ipv6)
    };
    let mut addresses: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for (workload, interface) in workloads {
        if let Some(address) = address(workload.is_ipv6()) {
            addresses.entry(interface.clone()).or_default().insert(address);
        }
    }
    addresses
}

impl Outcome {
    /// Service ranges this node announces.
    pub(super) fn announced_services(&self) -> &BTreeSet<IpNetwork> {
        &self.services.announced
    }

    /// Ranges inside which learned routes stay out of the kernel.
    pub(super) fn never_program(&self) -> &BTreeSet<IpNetwork> {
        &self.services.never_program
    }

    /// Own blocks, service ranges, and addresses of local workloads borrowed from blocks of others: those need a route
    /// of their own everywhere, since the block leads elsewhere.
    pub(super) fn originated(
        &self,
        own_blocks: &BTreeSet<IpNetwork>,
        interfaces: &BTreeMap<String, WorkloadInterface>,
    ) -> BTreeMap<IpNetwork, OriginatedRoute> {
        if self.config.is_none() {
            return BTreeMap::new();
        }
        let addresses = interfaces.values().flat_map(|interface| interface.addresses.iter().copied());
        let borrowed = addresses.filter(|address| !own_blocks.iter().any(|block| block.contains(*address)));
        let prefixes = own_blocks.iter().copied().chain(borrowed.map(IpNetwork::from));
        let prefixes = prefixes.chain(self.services.announced.iter().copied());
        let route = |prefix: &IpNetwork| OriginatedRoute {
            local_pref: self.local_prefs[usize::from(prefix.is_ipv6())],
        };
        prefixes.map(|prefix| (prefix, route(&prefix))).collect()
    }
}
