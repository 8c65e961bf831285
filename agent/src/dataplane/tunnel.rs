//! `tunl0` as it should be; pure. The device is the one the kernel's ipip module makes by itself: it cannot be deleted, so
//! without IPIP it loses its addresses and stays (felix-dataplane 2.1).

use std::collections::BTreeMap;

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::desired::IpipDevice;
use crate::kernel::{Link, LinkChange};

/// One thing about the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Its MTU, the value.
    Mtu,
    /// Up; before addresses, or IPv6 would not take them.
    Up,
    /// An IPv4 address; ours is the only one.
    Address(IpNetwork),
}

/// What the device should be, and what it is. With no IPIP wanted it keeps MTU and state.
pub(super) type Parts = BTreeMap<Part, u32>;

/// As it should be.
pub(super) fn desired(ipip: Option<&IpipDevice>) -> Parts {
    let Some(ipip) = ipip else { return Parts::new() };
    let mut parts = Parts::from([(Part::Mtu, ipip.mtu), (Part::Up, 1)]);
    if let Some(network) = ipip.address.and_then(|address| Ipv4Network::new(address, 32).ok()) {
        parts.insert(Part::Address(network.into()), 1);
    }
    parts
}

/// As it is, in so far as we care: MTU and state only when wanted.
pub(super) fn actual(link: &Link, wanted: bool) -> Parts {
    let addresses = link.addresses.iter().filter(|address| address.is_ipv4());
    let mut parts: Parts = addresses.map(|address| (Part::Address(*address), 1)).collect();
    if wanted {
        parts.insert(Part::Mtu, link.mtu);
        if link.up {
            parts.insert(Part::Up, 1);
        }
    }
    parts
}

/// How to set a part, or with `None` to remove it.
pub(super) fn change(index: u32, part: Part, value: Option<u32>) -> Option<LinkChange> {
    match (part, value) {
        (Part::Mtu, Some(mtu)) => Some(LinkChange::Mtu { index, mtu }),
        (Part::Up, Some(_)) => Some(LinkChange::Up { index }),
        (Part::Address(address), Some(_)) => Some(LinkChange::AddAddress { index, address }),
        (Part::Address(address), None) => Some(LinkChange::RemoveAddress { index, address }),
        (Part::Mtu | Part::Up, None) => None,
    }
}
