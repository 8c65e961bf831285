//! What the speaker should do: who it is, whom it talks to, what it originates and lets out.

mod cluster;
mod export;
mod identity;
mod peers;
mod selection;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;
use tortie_bgp::SpeakerConfig;
use tortie_bgp::table::OriginatedRoute;

use super::cache::Cache;
use super::{Problems, Settings};
use crate::desired::{BgpDesired, WorkloadInterface};
use cluster::Cluster;

pub use identity::RouterId;

/// LOCAL_PREF of originated routes: 2147483647 less the normal route priority 1024 (bgp-behaviour 4.1).
const NORMAL_LOCAL_PREF: u32 = 2_147_483_647 - 1024;

/// The speaker of this node.
pub(super) fn calculate(
    cache: &Cache,
    settings: &Settings,
    own_blocks: &BTreeSet<IpNetwork>,
    interfaces: &BTreeMap<String, WorkloadInterface>,
    problems: &mut Problems,
) -> BgpDesired {
    let mut desired = BgpDesired { config: None, originated: BTreeMap::new() };
    if !settings.bgp {
        return desired;
    }
    let Some(cluster) = Cluster::new(cache, settings) else { return desired };
    desired.config = Some(SpeakerConfig {
        router_id: settings.router_id.resolve(cluster.address(cluster.own, false), &settings.node),
        local_as: cluster.as_of(cluster.own),
        listen: listen(&cluster),
        cluster_id: cluster.reflector_id(cluster.own),
        peers: peers::calculate(&cluster, own_blocks, problems),
    });
    desired.originated = originated(own_blocks, interfaces);
    desired
}

/// Where to listen: on the wildcard, or with `bindMode: NodeIP` on the node's addresses, for families the node has.
fn listen(cluster: &Cluster<'_>) -> Vec<SocketAddr> {
    let port = cluster.port_of(cluster.own_name);
    let on_node_address = cluster.default_config().and_then(|c| c.bind_mode.as_deref()) == Some("NodeIP");
    let wildcard = |address: IpAddr| match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let addresses = cluster.own_addresses();
    addresses.map(|a| SocketAddr::new(if on_node_address { a } else { wildcard(a) }, port)).collect()
}

/// Own blocks, and addresses of local workloads borrowed from blocks of others: those need a route of their own
/// everywhere, since the block leads elsewhere.
fn originated(
    own_blocks: &BTreeSet<IpNetwork>,
    interfaces: &BTreeMap<String, WorkloadInterface>,
) -> BTreeMap<IpNetwork, OriginatedRoute> {
    let addresses = interfaces.values().flat_map(|interface| interface.addresses.iter().copied());
    let borrowed = addresses.filter(|address| !own_blocks.iter().any(|block| block.contains(*address)));
    let prefixes = own_blocks.iter().copied().chain(borrowed.map(IpNetwork::from));
    prefixes.map(|prefix| (prefix, OriginatedRoute { local_pref: NORMAL_LOCAL_PREF })).collect()
}
