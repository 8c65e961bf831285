//! Routes that do not belong to a workload: own blocks, the IPIP device, and the context learned routes are judged in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::ipam::AffinityState;
use tortie_model::resource::EncapMode;

use super::cache::Cache;
use super::{Problems, Settings, felix};
use crate::desired::{IpipDevice, PoolEncap, RouteContext, RouteTarget};

/// Blocks that are this node's beyond doubt; a pending claim is as if absent (bgp-behaviour 3).
pub(super) fn own_blocks(cache: &Cache, settings: &Settings) -> BTreeSet<IpNetwork> {
    let confirmed = cache.affinities.iter().filter(|(_, state)| match state {
        AffinityState::Confirmed => true,
        AffinityState::Pending | AffinityState::PendingDeletion => false,
    });
    confirmed.map(|(block, _)| *block).filter(|block| block.is_ipv4() || settings.ipv6).collect()
}

/// Strays inside an own block end here instead of looping over the default route, and so do packets to services that
/// nobody translated. A block of a single address has none: it would swallow the workload itself.
pub(super) fn blackholes(
    own_blocks: &BTreeSet<IpNetwork>,
    services: &BTreeSet<IpNetwork>,
) -> BTreeMap<IpNetwork, RouteTarget> {
    let several = own_blocks.iter().filter(|block| !is_single(block));
    several.chain(services).map(|range| (*range, RouteTarget::Blackhole)).collect()
}

/// Whether a prefix is one address.
pub(super) fn is_single(prefix: &IpNetwork) -> bool {
    prefix.prefix() == if prefix.is_ipv4() { 32 } else { 128 }
}

/// The IPIP device, wanted as soon as any pool uses it, since routes to its addresses may come at any time.
pub(super) fn ipip_device(cache: &Cache, settings: &Settings, problems: &mut Problems) -> Option<IpipDevice> {
    let wanted = cache.pools.values().any(|pool| pool.cidr.is_ipv4() && pool.ipip() != EncapMode::Never);
    wanted.then(|| IpipDevice {
        address: cache
            .nodes
            .get(&settings.node)
            .and_then(|node| node.spec.bgp.as_ref())
            .and_then(|bgp| bgp.ipv4_ipip_tunnel_addr),
        mtu: felix::ipip_mtu(cache, settings, problems),
    })
}

/// Own addresses and the pools' encapsulation.
pub(super) fn context(cache: &Cache, settings: &Settings) -> RouteContext {
    let node = cache.nodes.get(&settings.node);
    let addresses =
        [false, true].into_iter().filter_map(|ipv6| node.and_then(|node| node.spec.bgp_address(ipv6)));
    RouteContext {
        node_addresses: addresses.collect(),
        pools: cache
            .pools
            .values()
            .map(|pool| PoolEncap { cidr: pool.cidr, ipip: pool.ipip(), vxlan: pool.vxlan() })
            .collect(),
        nodes_in_pools: nodes_in_pools(cache, settings),
    }
}

/// Addresses of other nodes inside a pool: none where pools and the nodes' networks are apart, as they should be.
fn nodes_in_pools(cache: &Cache, settings: &Settings) -> BTreeSet<IpAddr> {
    let others = cache.nodes.iter().filter(|(name, _)| **name != settings.node);
    let addresses =
        others.flat_map(|(_, node)| [false, true].into_iter().filter_map(|ipv6| node.spec.bgp_address(ipv6)));
    let in_pool = |address: &IpNetwork| cache.pools.values().any(|pool| pool.cidr.contains(address.ip()));
    addresses.filter(in_pool).map(|address| address.ip()).collect()
}

/// Largest packet that fits through the host's interface and every tunnel in use (felix-dataplane 1.8): VXLAN takes 50
/// octets over IPv4, 70 over IPv6.
pub(super) fn workload_mtu(cache: &Cache, settings: &Settings, ipip: Option<&IpipDevice>) -> u32 {
    let vxlan = cache.pools.values().filter(|pool| pool.vxlan() != EncapMode::Never);
    let vxlan = vxlan.map(|pool| settings.host_mtu.saturating_sub(if pool.cidr.is_ipv4() { 50 } else { 70 }));
    vxlan.chain(ipip.map(|device| device.mtu)).fold(settings.host_mtu, u32::min)
}
