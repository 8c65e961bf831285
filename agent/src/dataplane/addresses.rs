//! Addresses on workload interfaces: what workloads that speak BGP dial (bgp-behaviour 2.4); pure. Every other address there
//! is none of ours or anybody's, and goes, except the link-local ones IPv6 makes by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::owner;
use crate::desired::Desired;
use crate::kernel::Link;

/// An address by interface index. The value says nothing.
pub(super) type Addresses = BTreeMap<(u32, IpNetwork), ()>;

/// A /32 or /128 each, on interfaces that are up: IPv6 takes none before.
pub(super) fn desired(desired: &Desired, links: &BTreeMap<String, Link>) -> Addresses {
    let mut addresses = Addresses::new();
    for (name, wanted) in &desired.peering_addresses {
        let usable = |link: &&Link| link.up && owner::is_workload_interface(name);
        let Some(link) = links.get(name).filter(usable) else { continue };
        addresses.extend(wanted.iter().map(|address| ((link.index, IpNetwork::from(*address)), ())));
    }
    addresses
}

/// Those that are there.
pub(super) fn actual(links: &BTreeMap<String, Link>) -> Addresses {
    let workloads = links.values().filter(|link| owner::is_workload_interface(&link.name));
    let all = workloads.flat_map(|link| link.addresses.iter().map(|address| ((link.index, *address), ())));
    all.filter(|((_, address), ())| !is_link_local(address.ip())).collect()
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
