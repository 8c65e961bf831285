//! Failsafe ports: what policy of host endpoints cannot cut off, so that a mistake does not lock everybody out. Never for
//! what is forwarded, nor for workloads.

use std::collections::BTreeSet;

use crate::dispatch::{chain, rule};
use crate::ir::{
    AddressSet, Comment, Direction, Elements, Family, IcmpField, Match, Op, PortSet, Rule, Ruleset, Set,
    Side, Verdict,
};
use crate::phase::Phase;
use crate::snapshot::{Failsafe, Options};

/// Name of the chain for packets to or from this node, where flows are tracked or where each packet is on its own.
pub(super) fn chain_name(direction: Direction, tracked: bool) -> &'static str {
    match (direction, tracked) {
        (Direction::Ingress, true) => "failsafe-in",
        (Direction::Egress, true) => "failsafe-out",
        (Direction::Ingress, false) => "failsafe-raw-in",
        (Direction::Egress, false) => "failsafe-raw-out",
    }
}

/// Adds a chain and the sets it needs. Without tracking, the answers of the other direction's failsafes are let through too.
fn install(options: &Options, direction: Direction, tracked: bool, ruleset: &mut Ruleset) {
    let mut rules = discovery();
    rules.extend(ports(options, direction, Side::Destination, ruleset));
    if !tracked {
        let other = match direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        rules.extend(ports(options, other, Side::Source, ruleset));
    }
    let text = "what policy of the host cannot cut off";
    ruleset.chains.insert(chain_name(direction, tracked).to_owned(), chain(text, rules));
}

/// Without these IPv6 has no network at all: multicast listeners, routers, neighbours.
fn discovery() -> Vec<Rule> {
    let icmp = |low, high| vec![Match::Icmp(Family::V6, IcmpField::Type, Op::Is, low, high)];
    [(130, 136), (143, 143)]
        .map(|(low, high)| rule(icmp(low, high), Verdict::Accept, "neighbour discovery"))
        .into()
}

/// Rules for the failsafes of a direction, whose port is at this side of the packet. The other end, and so the side a
/// network is compared with, is the one that is not this node.
fn ports(options: &Options, of: Direction, side: Side, ruleset: &mut Ruleset) -> Vec<Rule> {
    let (list, name, word) = match of {
        Direction::Ingress => (&options.failsafe_inbound, "failsafe-inbound", "failsafe inbound"),
        Direction::Egress => (&options.failsafe_outbound, "failsafe-outbound", "failsafe outbound"),
    };
    let remote = match (of, side) {
        (Direction::Ingress, Side::Destination) | (Direction::Egress, Side::Source) => Side::Source,
        (Direction::Ingress, Side::Source) | (Direction::Egress, Side::Destination) => Side::Destination,
    };
    let (anywhere, confined): (BTreeSet<_>, BTreeSet<_>) =
        list.iter().partition(|failsafe| failsafe.net.is_none());
    let mut rules = Vec::new();
    if !anywhere.is_empty() {
        let members = anywhere.iter().map(|failsafe| (failsafe.protocol, failsafe.port)).collect();
        let set = Set::new(Comment::new(word), Elements::ProtocolPorts(members));
        ruleset.sets.insert(name.to_owned(), set);
        let member = Match::ProtocolPort(side, Op::Is, name.to_owned());
        rules.push(rule(vec![member], Verdict::Accept, word));
    }
    rules.extend(confined.into_iter().map(|failsafe| confined_rule(failsafe, side, remote, word)));
    rules
}

fn confined_rule(failsafe: &Failsafe, side: Side, remote: Side, word: &str) -> Rule {
    let mut matches = vec![
        Match::Protocol(Op::Is, failsafe.protocol),
        Match::Port(side, Op::Is, PortSet::Range(failsafe.port, failsafe.port)),
    ];
    matches.extend(failsafe.net.map(|net| match net.prefix() {
        0 => Match::Family(Family::of(net.network())),
        _ => Match::Address(remote, Family::of(net.network()), Op::Is, AddressSet::Prefix(net)),
    }));
    rule(matches, Verdict::Accept, word)
}

/// Adds the chains that policy of these phases and directions begins with ([`super::preamble`]).
pub(super) fn install_for(
    options: &Options,
    places: impl Iterator<Item = (Phase, Direction)>,
    ruleset: &mut Ruleset,
) {
    for (phase, direction) in places {
        match phase {
            Phase::Host | Phase::PreDnat => install(options, direction, true, ruleset),
            Phase::Untracked => install(options, direction, false, ruleset),
            Phase::Workload | Phase::Forward => {}
        }
    }
}
