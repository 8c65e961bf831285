//! What sets are asked for, in a form in which equal things are equal.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdSet;
use ipnetwork::IpNetwork;
use tortie_model::selector::Selector;

use crate::ir::{Elements, Family, Origin};
use crate::members::Member;
use crate::merge;

/// What a rule asks a set for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Definition {
    /// Addresses and networks of the peers a selector matches; see [`super::Sets::peers`].
    Peers(Family, Selector),
    /// Prefixes; see [`maximal`].
    Nets(Family, BTreeSet<IpNetwork>),
    /// Ports; see [`merged`].
    Ports(BTreeSet<(u16, u16)>),
    /// Addresses, protocols and ports that endpoints matching a selector have under one of these names.
    NamedPorts(Family, BTreeSet<String>, Selector),
    /// What several rules look for, in their order; see [`crate::merge`].
    Merged(Shape, Arc<[Origin]>, Width),
}

/// What is made of a merged set for the number of rows it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Width {
    /// Whether each element counts.
    pub(crate) counted: bool,
    /// How many elements there is room for, where that is worth saying.
    pub(crate) size: Option<u32>,
}

/// What the elements of a merged set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Shape {
    /// Address or network, protocol, port.
    Rows(Family),
    /// Address or network.
    Peers(Family),
    /// Protocol and port.
    Services,
    /// Ranges of ports, which neither overlap nor touch.
    Ranges,
}

impl Shape {
    /// No elements.
    pub(super) fn none(self) -> Elements {
        match self {
            Shape::Rows(family) => Elements::Services(family, OrdSet::new()),
            Shape::Peers(family) => Elements::Addresses(family, OrdSet::new()),
            Shape::Services => Elements::ProtocolPorts(OrdSet::new()),
            Shape::Ranges => Elements::Ports(OrdSet::new()),
        }
    }
}

impl Definition {
    /// How the names of its sets begin.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Definition::Peers(Family::V4, _) => "peers4-",
            Definition::Peers(Family::V6, _) => "peers6-",
            Definition::Nets(Family::V4, _) => "nets4-",
            Definition::Nets(Family::V6, _) => "nets6-",
            Definition::Ports(_) => "ports-",
            Definition::NamedPorts(Family::V4, ..) => "named4-",
            Definition::NamedPorts(Family::V6, ..) => "named6-",
            Definition::Merged(Shape::Rows(Family::V4), ..) => "rows4-",
            Definition::Merged(Shape::Rows(Family::V6), ..) => "rows6-",
            Definition::Merged(Shape::Peers(Family::V4), ..) => "any-port4-",
            Definition::Merged(Shape::Peers(Family::V6), ..) => "any-port6-",
            Definition::Merged(Shape::Services, ..) => "services-",
            Definition::Merged(Shape::Ranges, ..) => "ranges-",
        }
    }

    pub(super) fn comment(&self) -> String {
        match self {
            Definition::Peers(_, selector) => selector.to_string(),
            Definition::Nets(..) | Definition::Ports(_) => String::new(),
            Definition::NamedPorts(_, names, selector) => {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                format!("ports {} of {selector}", names.join(", "))
            }
            Definition::Merged(_, origins, _) => merge::comment("", origins).to_string(),
        }
    }

    /// The rules a merged set stands for.
    pub(super) fn origins(&self) -> Option<&Arc<[Origin]>> {
        match self {
            Definition::Merged(_, origins, _) => Some(origins),
            Definition::Peers(..)
            | Definition::Nets(..)
            | Definition::Ports(_)
            | Definition::NamedPorts(..) => None,
        }
    }

    /// The length under which a member counts; `None` for one of the other family.
    pub(super) fn length(&self, member: Member) -> Option<u8> {
        let of = |family: &Family, address: IpAddr| Family::of(address) == *family;
        match (self, member) {
            (Definition::Peers(family, _), Member::Network(net)) => {
                of(family, net.network()).then(|| net.prefix())
            }
            (Definition::NamedPorts(family, ..), Member::Service(address, ..)) => {
                of(family, address).then(|| family.bits())
            }
            _ => None,
        }
    }

    pub(super) fn is_of_networks(&self) -> bool {
        matches!(self, Definition::Peers(..))
    }
}

/// The prefixes without those inside another one; interval sets refuse overlaps.
pub(crate) fn maximal(nets: impl IntoIterator<Item = IpNetwork>) -> BTreeSet<IpNetwork> {
    let mut sorted: Vec<IpNetwork> = nets.into_iter().collect();
    // A shorter prefix sorts before what it holds, and everything it holds follows at once.
    sorted.sort_by_key(|net| (net.network(), net.prefix()));
    let mut kept: Vec<IpNetwork> = Vec::new();
    for net in sorted {
        let covered = kept.last().is_some_and(|last| {
            last.is_ipv4() == net.is_ipv4() && last.prefix() <= net.prefix() && last.contains(net.network())
        });
        if !covered {
            kept.push(net);
        }
    }
    kept.into_iter().collect()
}

/// The same ports as ranges that neither overlap nor touch.
pub(crate) fn merged(ranges: &[(u16, u16)]) -> BTreeSet<(u16, u16)> {
    let mut sorted: Vec<_> = ranges.iter().copied().filter(|(low, high)| low <= high).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (low, high) in sorted {
        match merged.last_mut() {
            Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> BTreeSet<IpNetwork> {
        maximal(texts.iter().map(|t| t.parse().unwrap()))
    }

    #[test]
    fn only_maximal_prefixes_stay() {
        let found =
            nets(&["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "11.0.0.0/8", "10.255.255.255/32", "fd00::/8"]);
        let expected: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(expected, ["10.0.0.0/8", "11.0.0.0/8", "fd00::/8"]);
        assert_eq!(nets(&["0.0.0.0/0", "1.0.0.0/8"]).len(), 1);
    }

    #[test]
    fn port_ranges_merge() {
        let found =
            merged(&[(80, 80), (81, 90), (85, 85), (100, 100), (65535, 65535), (65530, 65535), (9, 1)]);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(80, 90), (100, 100), (65530, 65535)]);
    }
}
