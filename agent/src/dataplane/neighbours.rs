//! Permanent IPv4 neighbours of workloads; pure. They spare the first packet an ARP exchange and serve guests that do not
//! answer ARP (felix-dataplane 1.4).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::owner;
use crate::desired::Desired;
use crate::kernel::{Link, NeighbourKey};

/// Each IPv4 address of a workload whose MAC is known, on interfaces that are up.
pub(super) fn desired(desired: &Desired, links: &BTreeMap<String, Link>) -> BTreeMap<NeighbourKey, [u8; 6]> {
    let mut neighbours = BTreeMap::new();
    for (name, workload) in &desired.interfaces {
        let link = links.get(name).filter(|link| link.up && owner::is_workload_interface(name));
        let (Some(link), Some(mac)) = (link, workload.mac) else { continue };
        for address in &workload.addresses {
            if let IpAddr::V4(address) = *address {
                neighbours.insert(NeighbourKey { interface: link.index, address }, mac);
            }
        }
    }
    neighbours
}

/// Those among all permanent neighbours that are ours.
pub(super) fn ours(
    found: BTreeMap<NeighbourKey, [u8; 6]>,
    links: &BTreeMap<String, Link>,
) -> BTreeMap<NeighbourKey, [u8; 6]> {
    let workloads: std::collections::BTreeSet<u32> = links
        .values()
        .filter(|link| owner::is_workload_interface(&link.name))
        .map(|link| link.index)
        .collect();
    found.into_iter().filter(|(key, _)| workloads.contains(&key.interface)).collect()
}
