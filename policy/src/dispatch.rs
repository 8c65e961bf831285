//! The part of the rule-set that is the same on every node: base chains, and the maps that lead a packet from the name of
//! a workload's interface to the group of chains that decides about it.
//!
//! ```text
//! prerouting   cali* ─▶ workload-source     spoofed source, encapsulated: drop
//! forward      established: accept; cali* ─▶ from-workload ─map─▶ out-…; then ─▶ cali*: to-workload ─map─▶ in-…
//! input        IPIP: only from nodes; established: accept; cali* ─▶ workload-to-host ─▶ from-workload; endpoint-to-host
//! postrouting  masquerade
//! ```
//!
//! There is no output chain: a node reaches its own workloads whatever their policy, else health checks fail
//! (felix-dataplane 3.4).

use std::collections::{BTreeMap, BTreeSet};

use crate::Problems;
use crate::ir::{
    Action, AddressSet, Base, Chain, ChainKind, Comment, Elements, Family, Hook, IcmpField, Interface,
    InterfaceName, Match, Op, PortSet, Rule, Ruleset, Set, Side, Verdict, VerdictMap, WORKLOAD_PREFIX,
};
use crate::select::Labelled;
use crate::sets::maximal;
use crate::snapshot::{EndpointToHost, Snapshot};

/// Map from the interface a packet came in on to what its workload may send.
const FROM: &str = "from-endpoint";
/// Map from the interface a packet leaves by to what its workload may receive.
const TO: &str = "to-endpoint";

/// IP in IP.
const IPIP: u8 = 4;
/// UDP.
const UDP: u8 = 17;
/// UDP port of VXLAN.
const VXLAN_PORT: u16 = 4789;

/// Interfaces of the endpoints on this node that can be told apart. The others stay unknown, so they drop.
pub(crate) fn interfaces<'a, 'e>(
    endpoints: &'e [Labelled<'a>],
    problems: &mut Problems,
) -> Vec<(InterfaceName, &'e Labelled<'a>)> {
    let mut by_name: BTreeMap<&str, Vec<&Labelled<'_>>> = BTreeMap::new();
    for endpoint in endpoints {
        if let Some(interface) = &endpoint.endpoint.interface {
            by_name.entry(interface).or_default().push(endpoint);
        }
    }
    let mut found = Vec::new();
    for (text, owners) in by_name {
        let reason = match (InterfaceName::new(text), owners.as_slice()) {
            (Some(name), [owner]) if text.starts_with(WORKLOAD_PREFIX) => {
                found.push((name, *owner));
                continue;
            }
            (Some(_), _) if text.starts_with(WORKLOAD_PREFIX) => {
                format!("interface {text} belongs to {} endpoints, so it drops everything", owners.len())
            }
            _ if text.starts_with(WORKLOAD_PREFIX) => {
                format!("interface {text:?} is no name of letters and digits, so it drops everything")
            }
            _ => format!(
                "no policy is enforced on interface {text:?}, which does not begin with {WORKLOAD_PREFIX}"
            ),
        };
        for owner in owners {
            problems.add(format_args!("WorkloadEndpoint {}/{}", owner.id.namespace, owner.id.name), &reason);
        }
    }
    found
}

/// Where packets of each known workload go.
#[derive(Default)]
pub(crate) struct Dispatch {
    from: BTreeMap<InterfaceName, Verdict>,
    to: BTreeMap<InterfaceName, Verdict>,
}

impl Dispatch {
    /// Sends the traffic of an interface to the chains of its groups.
    pub(crate) fn add(&mut self, interface: InterfaceName, ingress: String, egress: String) {
        self.to.insert(interface.clone(), Verdict::Goto(ingress));
        self.from.insert(interface, Verdict::Goto(egress));
    }

    /// The rule-set without the groups.
    pub(crate) fn base(self, snapshot: &Snapshot) -> Ruleset {
        let map = |elements, text| VerdictMap { comment: Comment::new(text), elements };
        let mut ruleset = Ruleset {
            sets: BTreeMap::new(),
            maps: BTreeMap::from([
                (FROM.to_owned(), map(self.from, "egress policy by the interface a packet comes from")),
                (TO.to_owned(), map(self.to, "ingress policy by the interface a packet goes to")),
            ]),
            chains: BTreeMap::new(),
        };
        let mut put = |name: &str, chain| ruleset.chains.insert(name.to_owned(), chain);
        put("prerouting", prerouting());
        put("workload-source", workload_source());
        put("forward", forward());
        put("from-workload", workload(Interface::Input, FROM));
        put("to-workload", workload(Interface::Output, TO));
        put("input", input());
        put("workload-to-host", workload_to_host(snapshot.endpoint_to_host));
        tunnel(snapshot, &mut ruleset);
        masquerade(snapshot, &mut ruleset);
        ruleset
    }
}

fn base(hook: Hook, kind: ChainKind, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { comment: Comment::default(), base: Some(Base { kind, hook, priority }), rules }
}

fn chain(comment: &str, rules: Vec<Rule>) -> Chain {
    Chain { comment: Comment::new(comment), base: None, rules }
}

fn rule(matches: Vec<Match>, verdict: Verdict, comment: &str) -> Rule {
    Rule { matches, counter: true, action: Action::Verdict(verdict), comment: Comment::new(comment) }
}

/// A rule most packets pass: counting them would cost more than it tells.
fn uncounted(rule: Rule) -> Rule {
    Rule { counter: false, ..rule }
}

fn jump(matches: Vec<Match>, to: &str) -> Rule {
    uncounted(rule(matches, Verdict::Jump(to.to_owned()), ""))
}

fn goto(matches: Vec<Match>, to: &str) -> Rule {
    uncounted(rule(matches, Verdict::Goto(to.to_owned()), ""))
}

/// Before connection tracking, so that what is forged never makes an entry.
fn prerouting() -> Chain {
    let from_workload = vec![Match::WorkloadInterface(Interface::Input)];
    base(Hook::Prerouting, ChainKind::Filter, -300, vec![goto(from_workload, "workload-source")])
}

fn workload_source() -> Chain {
    let vxlan = vec![
        Match::Protocol(Op::Is, UDP),
        Match::Port(Side::Destination, Op::Is, PortSet::Range(VXLAN_PORT, VXLAN_PORT)),
    ];
    chain(
        "what no workload may send",
        vec![
            rule(vec![Match::NoReverseRoute], Verdict::Drop, "source is not the workload's"),
            rule(vec![Match::Protocol(Op::Is, IPIP)], Verdict::Drop, "IPIP from a workload"),
            rule(vxlan, Verdict::Drop, "VXLAN from a workload"),
        ],
    )
}

fn forward() -> Chain {
    let rules = vec![
        uncounted(rule(vec![Match::Established], Verdict::Accept, "known flows")),
        jump(vec![Match::WorkloadInterface(Interface::Input)], "from-workload"),
        goto(vec![Match::WorkloadInterface(Interface::Output)], "to-workload"),
    ];
    base(Hook::Forward, ChainKind::Filter, 0, rules)
}

/// Only workload traffic is refused as invalid: flows of others that this node sees one way of are none of ours.
fn workload(interface: Interface, map: &str) -> Chain {
    let lookup = Rule {
        matches: vec![],
        counter: false,
        action: Action::Lookup(interface, map.to_owned()),
        comment: Comment::default(),
    };
    chain(
        match interface {
            Interface::Input => "egress policy of the source; returns when it allows",
            Interface::Output => "ingress policy of the destination",
        },
        vec![
            rule(vec![Match::Invalid], Verdict::Drop, "invalid for connection tracking"),
            lookup,
            rule(vec![], Verdict::Drop, "unknown workload interface"),
        ],
    )
}

/// Encapsulated packets come first: a flow that is known only because it was allowed once must not outlive its peer.
fn input() -> Chain {
    let rules = vec![
        goto(vec![Match::Protocol(Op::Is, IPIP)], "tunnel"),
        uncounted(rule(vec![Match::Established], Verdict::Accept, "known flows")),
        goto(vec![Match::WorkloadInterface(Interface::Input)], "workload-to-host"),
    ];
    base(Hook::Input, ChainKind::Filter, 0, rules)
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

fn tunnel(snapshot: &Snapshot, ruleset: &mut Ruleset) {
    let mut rules = Vec::new();
    for (family, name) in [(Family::V4, "tunnel-peers4"), (Family::V6, "tunnel-peers6")] {
        let peers: BTreeSet<_> =
            snapshot.tunnel_peers.iter().copied().filter(|a| Family::of(*a) == family).collect();
        if peers.is_empty() {
            continue;
        }
        let set = Set {
            comment: Comment::new("other nodes"),
            elements: Elements::Addresses(family, peers),
            counter: false,
        };
        ruleset.sets.insert(name.to_owned(), set);
        let from_peer = Match::Address(Side::Source, family, Op::Is, AddressSet::Named(name.to_owned()));
        rules.push(rule(vec![from_peer, Match::LocalDestination], Verdict::Accept, "IPIP from a node"));
    }
    rules.push(rule(vec![], Verdict::Drop, "IPIP from elsewhere"));
    ruleset.chains.insert("tunnel".to_owned(), chain("encapsulated packets to this node", rules));
}

/// After the service proxies' source NAT, which tie at 100. Made only when some pool asks for it: a NAT chain costs every
/// new connection something.
fn masquerade(snapshot: &Snapshot, ruleset: &mut Ruleset) {
    let mut rules = Vec::new();
    for (family, nat, all) in [(Family::V4, "nat-pools4", "pools4"), (Family::V6, "nat-pools6", "pools6")] {
        let pools = snapshot.pools.iter().filter(|p| p.cidr.is_ipv4() == (family == Family::V4));
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
            let elements = Elements::Prefixes(family, prefixes);
            ruleset
                .sets
                .insert(name.to_owned(), Set { comment: Comment::new(comment), elements, counter: false });
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
