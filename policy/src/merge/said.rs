//! What rules say, as far as merging goes: peers of a length of prefix, protocol and ports.

use std::collections::BTreeMap;

use super::{Part, Way};
use crate::ir::{AddressSet, Elements, Family, Match, Op, Origin, Peers, PortSet, Rule, Service, Side};
use crate::sets::{MANY_PEERS, Sets, size};

/// Rules with more ports are not merged with others about peers: each port is a row for each peer.
const MOST_SERVICES: usize = 32;

/// What a rule says, as far as merging goes.
struct Said<'r> {
    protocol: Option<u8>,
    ports: Option<&'r PortSet>,
    /// Families and addresses.
    rest: Vec<&'r Match>,
}

impl<'r> Said<'r> {
    /// `None` for a rule that says more.
    fn by(rule: &'r Rule) -> Option<Said<'r>> {
        let mut said = Said { protocol: None, ports: None, rest: Vec::new() };
        for condition in &rule.matches {
            if let (Match::Protocol(Op::Is, number @ (6 | 17 | 132)), None) = (condition, said.protocol) {
                said.protocol = Some(*number);
            } else if let (Match::Port(Side::Destination, Op::Is, ports), None) = (condition, said.ports) {
                said.ports = Some(ports);
            } else if let Match::Family(_) | Match::Address(..) = condition {
                said.rest.push(condition);
            } else {
                return None;
            }
        }
        Some(said)
    }

    /// Its protocol and ports, none when it names neither; `None` when it names one, or too many.
    fn services(&self, sets: &Sets) -> Option<Vec<Service>> {
        match (self.protocol, self.ports) {
            (None, None) => Some(Vec::new()),
            (Some(protocol), Some(ports)) => {
                services(protocol, ports, sets).filter(|services| count(services) <= MOST_SERVICES)
            }
            (Some(_), None) | (None, Some(_)) => None,
        }
    }

    fn conditions(&self) -> Vec<Match> {
        self.rest.iter().copied().cloned().collect()
    }

    /// The one set its peer is in.
    fn peers(&self, side: Side) -> Option<(Family, &'r AddressSet)> {
        let [before @ .., Match::Address(at, family, Op::Is, set)] = self.rest.as_slice() else {
            return None;
        };
        let known = before.iter().all(|condition| **condition == Match::Family(*family));
        (*at == side && known).then_some((*family, set))
    }
}

/// The parts of a rule that names peers, and protocol and ports or none of both, and nothing else.
pub(super) fn by_peers(rule: &Rule, side: Side, sets: &Sets) -> Vec<Part> {
    let Some(said) = Said::by(rule) else { return Vec::new() };
    let Some(((family, set), services)) = said.peers(side).zip(said.services(sets)) else {
        return Vec::new();
    };
    let part = |(length, peers, count): (u8, Peers, usize)| Part {
        way: if services.is_empty() { Way::Peers(family, length) } else { Way::Rows(family, length) },
        rows: count * self::count(&services).max(1),
        origin: Origin { comment: rule.comment.clone(), peers: Some(peers), services: services.clone() },
    };
    lengths(family, set, sets).into_iter().map(part).collect()
}

/// Peers by length of prefix, with how many there may be; nothing when there are too many.
fn lengths(family: Family, set: &AddressSet, sets: &Sets) -> Vec<(u8, Peers, usize)> {
    let of_set = |length, name: &String| match sets.elements(name) {
        Some(Elements::Addresses(_, all)) if all.len() <= MANY_PEERS => {
            vec![(length, Peers::Set(name.clone()), size(all.len()))]
        }
        _ => Vec::new(),
    };
    match set {
        AddressSet::Prefix(net) => vec![(net.prefix(), Peers::Nets(vec![*net]), 1)],
        AddressSet::Masked(length, name) => of_set(*length, name),
        AddressSet::Named(name) => match sets.elements(name) {
            Some(Elements::Prefixes(_, nets)) if nets.len() <= MANY_PEERS => {
                let mut lengths: BTreeMap<u8, Vec<_>> = BTreeMap::new();
                nets.iter().for_each(|net| lengths.entry(net.prefix()).or_default().push(*net));
                let part = |(length, nets): (u8, Vec<_>)| (length, nets.len(), Peers::Nets(nets));
                lengths.into_iter().map(part).map(|(length, count, nets)| (length, nets, count)).collect()
            }
            _ => of_set(family.bits(), name),
        },
    }
}

/// The part of a rule that names protocol and ports, and no more than families and addresses besides.
pub(super) fn by_service(rule: &Rule, sets: &Sets) -> Vec<Part> {
    let Some(said) = Said::by(rule) else { return Vec::new() };
    let services = said.services(sets).filter(|services| !services.is_empty());
    let part = |services: Vec<Service>| Part {
        rows: count(&services),
        way: Way::Services(said.conditions()),
        origin: Origin { comment: rule.comment.clone(), peers: None, services },
    };
    services.map(part).into_iter().collect()
}

/// The part of a rule that names ranges of ports, and no more than families and addresses besides.
pub(super) fn by_range(rule: &Rule, sets: &Sets) -> Vec<Part> {
    let Some(said) = Said::by(rule) else { return Vec::new() };
    let Some((protocol, ports)) = said.protocol.zip(said.ports) else { return Vec::new() };
    let part = |services: Vec<Service>| Part {
        rows: services.len(),
        way: Way::Ranges(protocol, said.conditions()),
        origin: Origin { comment: rule.comment.clone(), peers: None, services },
    };
    services(protocol, ports, sets).map(part).into_iter().collect()
}

/// The ranges of each way so far, first to last port. A packet is counted for one rule, so they may not overlap; the kernel
/// would refuse it.
#[derive(Default)]
pub(super) struct Apart(BTreeMap<Way, BTreeMap<u16, u16>>);

impl Apart {
    /// The parts, unless they touch others of their way.
    pub(super) fn apart(&mut self, mut parts: Vec<Part>) -> Vec<Part> {
        for part in &parts {
            let known = self.0.entry(part.way.clone()).or_default();
            let touches = |new: &Service| {
                let before = known.range(..=new.high.saturating_add(1)).next_back();
                before.is_some_and(|(_, high)| new.low <= high.saturating_add(1))
            };
            if part.origin.services.iter().any(touches) {
                parts.clear();
                return parts;
            }
            known.extend(part.origin.services.iter().map(|service| (service.low, service.high)));
        }
        parts
    }
}

/// Ports of a protocol; `None` when the set is not one of ports.
fn services(protocol: u8, ports: &PortSet, sets: &Sets) -> Option<Vec<Service>> {
    let service = |(low, high)| Service { protocol, low, high };
    match ports {
        PortSet::Range(low, high) => Some(vec![service((*low, *high))]),
        PortSet::Named(name) => match sets.elements(name)? {
            Elements::Ports(ranges) => Some(ranges.iter().copied().map(service).collect()),
            Elements::Addresses(..)
            | Elements::Prefixes(..)
            | Elements::Services(..)
            | Elements::ProtocolPorts(_) => None,
        },
    }
}

/// How many ports there are.
fn count(services: &[Service]) -> usize {
    services.iter().map(|service| usize::from(service.high.saturating_sub(service.low)) + 1).sum()
}
