//! The part of the rule-set that is the same on every node: base chains, and the maps that lead a packet from the name of
//! a workload's interface to the group of chains that decides about it.
//!
//! ```text
//! prerouting   cali*, spoofed source: drop
//! forward      established: accept; cali* ─▶ from-workload ─map─▶ out-…; then ─▶ cali*: to-workload ─map─▶ in-…
//! input        tunnels: only from nodes; established: accept; cali* ─▶ workload-to-host ─▶ from-workload; endpoint-to-host
//! postrouting  masquerade
//! ```
//!
//! A node reaches its own workloads whatever their policy, else health checks fail (felix-dataplane 3.4): there is no output
//! chain, unless host endpoints need one ([`Hooks`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::Problems;
use crate::host::Hooks;
use crate::ir::{
    Action, AddressSet, Base, Chain, ChainKind, Comment, Direction, Elements, Family, Hook, IcmpField,
    Interface, InterfaceName, Match, Op, PortSet, Rule, Ruleset, Set, Side, Verdict, VerdictMap,
    WORKLOAD_PREFIX,
};
use crate::sets::maximal;
use crate::snapshot::{EndpointId, EndpointToHost, Options, Surroundings};

/// Map from the interface a packet came in on to what its workload may send.
const FROM: &str = "from-endpoint";
/// Map from the interface a packet leaves by to what its workload may receive.
const TO: &str = "to-endpoint";

/// IP in IP.
const IPIP: u8 = 4;
/// UDP.
const UDP: u8 = 17;
/// Sets of the other nodes' addresses.
pub(crate) const TUNNEL_PEERS: [(Family, &str); 2] =
    [(Family::V4, "tunnel-peers4"), (Family::V6, "tunnel-peers6")];

/// Whose an interface is, of those that say so. Without an owner it stays unknown, so it drops.
pub(crate) fn owner<'a>(
    interface: &str,
    owners: &'a BTreeSet<Arc<EndpointId>>,
    problems: &mut Problems,
) -> Option<(InterfaceName, &'a Arc<EndpointId>)> {
    let mut each = owners.iter();
    let only = each.next().filter(|_| each.next().is_none());
    let reason = match (InterfaceName::new(interface), only) {
        (Some(name), Some(owner)) if interface.starts_with(WORKLOAD_PREFIX) => return Some((name, owner)),
        (Some(_), _) if interface.starts_with(WORKLOAD_PREFIX) => {
            format!("interface {interface} belongs to {} endpoints, so it drops everything", owners.len())
        }
        _ if interface.starts_with(WORKLOAD_PREFIX) => {
            format!("interface {interface:?} is no name of letters and digits, so it drops everything")
        }
        _ => format!(
            "no policy is enforced on interface {interface:?}, which does not begin with {WORKLOAD_PREFIX}"
        ),
    };
    for owner in owners {
        problems.add(format_args!("WorkloadEndpoint {}/{}", owner.namespace, owner.name), &reason);
    }
    None
}

/// The maps that lead to the policy of workloads, empty.
pub(crate) fn maps() -> OrdMap<String, VerdictMap> {
    let map = |text| VerdictMap { comment: Comment::new(text), elements: OrdMap::new() };
    OrdMap::from_iter([
        (FROM.to_owned(), map("egress policy by the interface a packet comes from")),
        (TO.to_owned(), map("ingress policy by the interface a packet goes to")),
    ])
}

/// The map with the policy of workloads in a direction.
pub(crate) fn map_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => TO,
        Direction::Egress => FROM,
    }
}

/// The rule-set without workloads and groups.
pub(crate) fn frame(around: &Surroundings, hosts: Hooks) -> Ruleset {
    let options = &around.options;
    let mut ruleset = Ruleset::empty();
    let mut put = |name: &str, chain| ruleset.chains.insert(name.to_owned(), chain);
    put("prerouting", prerouting(&hosts));
    put("forward", forward(options, &hosts));
    put("from-workload", workload(options, Interface::Input, FROM));
    put("to-workload", workload(options, Interface::Output, TO));
    put("input", input(options, &hosts));
    put("workload-to-host", workload_to_host(around.endpoint_to_host));
    tunnel(around, &mut ruleset);
    masquerade(around, &mut ruleset);
    hosts.install(around, &mut ruleset);
    ruleset
}

pub(crate) fn base(hook: Hook, kind: ChainKind, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { comment: Comment::default(), base: Some(Base { kind, hook, priority }), rules }
}

pub(crate) fn chain(comment: &str, rules: Vec<Rule>) -> Chain {
    Chain { comment: Comment::new(comment), base: None, rules }
}

pub(crate) fn rule(matches: Vec<Match>, verdict: Verdict, comment: &str) -> Rule {
    Rule { matches, counter: true, action: Action::Verdict(verdict), comment: Comment::new(comment) }
}

/// A rule most packets pass: counting them would cost more than it tells.
pub(crate) fn uncounted(rule: Rule) -> Rule {
    Rule { counter: false, ..rule }
}

pub(crate) fn jump(matches: Vec<Match>, to: &str) -> Rule {
    uncounted(rule(matches, Verdict::Jump(to.to_owned()), ""))
}

pub(crate) fn goto(matches: Vec<Match>, to: &str) -> Rule {
    uncounted(rule(matches, Verdict::Goto(to.to_owned()), ""))
}

/// Before connection tracking, so that what is forged never makes an entry nor passes as part of a known flow. Every packet of
/// a workload comes by here, so there is one rule, and no chain to go to.
fn prerouting(hosts: &Hooks) -> Chain {
    let from_workload = Match::WorkloadInterface(Interface::Input);
    let forged = vec![from_workload.clone(), Match::NoReverseRoute];
    let (mut rules, of_hosts) = hosts.prerouting();
    rules.push(rule(forged, Verdict::Drop, "source is not the workload's"));
    if !of_hosts.is_empty() {
        rules.push(uncounted(rule(vec![from_workload], Verdict::Accept, "not for host endpoints")));
        rules.extend(of_hosts);
    }
    base(Hook::Prerouting, ChainKind::Filter, -300, rules)
}

/// What no workload may begin: it would come out of the tunnel elsewhere as if this node had sent it.
fn encapsulated(options: &Options) -> Vec<Rule> {
    let ipip = rule(vec![Match::Protocol(Op::Is, IPIP)], Verdict::Drop, "IPIP from a workload");
    let vxlan = rule(vxlan(options), Verdict::Drop, "VXLAN from a workload");
    let guards = [(options.ipip_from_workloads, ipip), (options.vxlan_from_workloads, vxlan)];
    guards.into_iter().filter(|(allowed, _)| !allowed).map(|(_, rule)| rule).collect()
}

fn vxlan(options: &Options) -> Vec<Match> {
    let port = PortSet::Range(options.vxlan_port, options.vxlan_port);
    vec![Match::Protocol(Op::Is, UDP), Match::Port(Side::Destination, Op::Is, port)]
}

/// What a host endpoint allows has to pass the workloads' policy too.
fn forward(options: &Options, hosts: &Hooks) -> Chain {
    let (before, after) = hosts.forward();
    let mut rules = refused(options);
    rules.push(uncounted(rule(vec![Match::Established], Verdict::Accept, "known flows")));
    rules.extend(before);
    rules.push(jump(vec![Match::WorkloadInterface(Interface::Input)], "from-workload"));
    rules.push(goto(vec![Match::WorkloadInterface(Interface::Output)], "to-workload"));
    rules.extend(after);
    base(Hook::Forward, ChainKind::Filter, 0, rules)
}

/// Only workload traffic is refused as invalid: flows of others that this node sees one way of are none of ours.
fn workload(options: &Options, interface: Interface, map: &str) -> Chain {
    let invalid = rule(vec![Match::Invalid], Verdict::Drop, "invalid for connection tracking");
    let lookup = Rule {
        matches: vec![],
        counter: false,
        action: Action::Lookup(interface, map.to_owned()),
        comment: Comment::default(),
    };
    let mut rules: Vec<Rule> = (!options.accept_invalid).then_some(invalid).into_iter().collect();
    let comment = match interface {
        Interface::Input => {
            rules.extend(encapsulated(options));
            "egress policy of the source; returns when it allows"
        }
        Interface::Output => "ingress policy of the destination",
    };
    rules.extend([lookup, rule(vec![], Verdict::Drop, "unknown workload interface")]);
    chain(comment, rules)
}

/// Encapsulated packets come first: a flow that is known only because it was allowed once must not outlive its peer.
fn input(options: &Options, hosts: &Hooks) -> Chain {
    let mut rules = vec![goto(vec![Match::Protocol(Op::Is, IPIP)], "tunnel")];
    if options.vxlan {
        rules.push(goto(vxlan(options), "tunnel"));
    }
    rules.extend(refused(options));
    rules.push(uncounted(rule(vec![Match::Established], Verdict::Accept, "known flows")));
    rules.push(goto(vec![Match::WorkloadInterface(Interface::Input)], "workload-to-host"));
    rules.extend(hosts.input());
    base(Hook::Input, ChainKind::Filter, 0, rules)
}

/// Known flows pass without policy being asked again, so those it no longer allows are told apart before.
fn refused(options: &Options) -> Vec<Rule> {
    let stop = rule(vec![Match::Refused], Verdict::Drop, "policy no longer allows the flow");
    options.stop_refused.then_some(stop).into_iter().collect()
}

/// Neighbour discovery and group membership come before policy: without them a workload has no network at all
/// (felix-dataplane 3.4).
fn workload_to_host(action: EndpointToHost) -> Chain {
    let icmp = |low, high| vec![Match::Icmp(Family::V6, IcmpField::Type, Op::Is, low, high)];
    let verdict = match action {
        EndpointToHost::Drop => Verdict::Drop,
        EndpointToHost::Accept => Verdict::Accept,
        EndpointToHost::Return => Verdict::Return,
    };
    chain(
        "workload to this node",
        vec![
            rule(icmp(130, 133), Verdict::Accept, "multicast listener, router solicitation"),
            rule(icmp(135, 136), Verdict::Accept, "neighbour discovery"),
            jump(vec![], "from-workload"),
            rule(vec![], verdict, "endpoint to host action"),
        ],
    )
}

fn tunnel(around: &Surroundings, ruleset: &mut Ruleset) {
    // Though nobody should have the address of a node.
    let mut rules = vec![jump(vec![Match::WorkloadInterface(Interface::Input)], "from-workload")];
    for (family, name) in TUNNEL_PEERS {
        let peers: OrdSet<_> =
            around.tunnel_peers.iter().copied().filter(|a| Family::of(*a) == family).collect();
        if peers.is_empty() {
            continue;
        }
        let set = Set::new(Comment::new("other nodes"), Elements::Addresses(family, peers));
        ruleset.sets.insert(name.to_owned(), set);
        let from_peer = Match::Address(Side::Source, family, Op::Is, AddressSet::Named(name.to_owned()));
        rules.push(rule(vec![from_peer, Match::LocalDestination], Verdict::Accept, "tunnel from a node"));
    }
    rules.push(rule(vec![], Verdict::Drop, "tunnel from elsewhere"));
    ruleset.chains.insert("tunnel".to_owned(), chain("encapsulated packets to this node", rules));
}

/// After the service proxies' source NAT, which tie at 100. Made only when some pool asks for it: a NAT chain costs every
/// new connection something.
fn masquerade(around: &Surroundings, ruleset: &mut Ruleset) {
    let mut rules = Vec::new();
    for (family, nat, all) in [(Family::V4, "nat-pools4", "pools4"), (Family::V6, "nat-pools6", "pools6")] {
        let pools = around.pools.iter().filter(|p| p.cidr.is_ipv4() == (family == Family::V4));
        let masked = |p: &crate::snapshot::Pool| {
            ipnetwork::IpNetwork::new(p.cidr.network(), p.cidr.prefix()).unwrap_or(p.cidr)
        };
        let from = maximal(pools.clone().filter(|p| p.nat_outgoing).map(masked));
        if from.is_empty() {
            continue;
        }
        let everywhere = maximal(pools.map(masked));
        for (name, comment, prefixes) in
            [(nat, "pools with NAT outgoing", from), (all, "all pools", everywhere)]
        {
            let elements = Elements::Prefixes(family, prefixes.into_iter().collect());
            ruleset.sets.insert(name.to_owned(), Set::new(Comment::new(comment), elements));
        }
        let end = |side, op, set: &str| Match::Address(side, family, op, AddressSet::Named(set.to_owned()));
        rules.push(Rule {
            matches: vec![end(Side::Source, Op::Is, nat), end(Side::Destination, Op::IsNot, all)],
            counter: true,
            action: Action::Masquerade,
            comment: Comment::new("NAT outgoing"),
        });
    }
    if !rules.is_empty() {
        let chain = base(Hook::Postrouting, ChainKind::Nat, 110, rules);
        ruleset.chains.insert("postrouting".to_owned(), chain);
    }
}
