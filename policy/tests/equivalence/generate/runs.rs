//! Policies of runs: many rules in a row with one action, each about one peer and one port, as people and tools write them.
//! What a compiler may make one lookup of must mean what the rules mean one by one.

use std::collections::BTreeMap;

use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tortie_model::resource::{GlobalNetworkPolicySpec, NetworkPolicySpec, TierAction, TierSpec};
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::eval::Packet;
use tortie_policy::snapshot::{PolicyBody, PolicyId, Snapshot};

use super::{
    ADDRESSES, NETS, PORT_NAMES, PORTS, SELECTORS, network_sets, order, packet, peer_packet, snapshot,
};

/// What a run is made of: each rule has one of these on the peer's side, so that neighbours differ in one thing or in several.
fn peer() -> impl Strategy<Value = EntityRule> {
    let single = |address: &str| {
        let address: std::net::IpAddr = address.parse().expect("a literal");
        ipnetwork::IpNetwork::from(address)
    };
    let singles = subsequence(&ADDRESSES[..], 1..4).prop_map(move |all| EntityRule {
        nets: all.into_iter().map(single).collect(),
        ..Default::default()
    });
    let net = select(&NETS[..])
        .prop_map(|net| EntityRule { nets: vec![net.parse().expect("a literal")], ..EntityRule::default() });
    let selected = select(&SELECTORS[3..11])
        .prop_map(|selector| EntityRule { selector: selector.to_owned(), ..EntityRule::default() });
    let excluded = select(&SELECTORS[4..7])
        .prop_map(|selector| EntityRule { not_selector: selector.to_owned(), ..EntityRule::default() });
    prop_oneof![6 => selected, 5 => singles, 3 => Just(EntityRule::default()), 2 => net, 1 => excluded]
}

/// Ports of one rule: mostly a single one.
fn ports() -> impl Strategy<Value = Vec<Port>> {
    let single = || select(&PORTS[..]).prop_map(|port| Port::Range(port, port));
    let range = (select(&PORTS[..]), 1u16..40).prop_map(|(low, more)| Port::Range(low, low + more));
    prop_oneof![
        8 => single().prop_map(|port| vec![port]),
        4 => prop::collection::vec(single(), 2..5),
        3 => Just(vec![]),
        2 => range.prop_map(|range| vec![range]),
        1 => select(&PORT_NAMES[..]).prop_map(|name| vec![Port::Named(name.to_owned())]),
    ]
}

fn protocol() -> impl Strategy<Value = Option<Protocol>> {
    use Protocol::*;
    select(vec![Some(Tcp), Some(Tcp), Some(Tcp), Some(Udp), Some(Udp), Some(Sctp), None, Some(Icmp)])
}

/// A rule of a run in a direction. Rarely the ports are the peer's, or the local side is narrowed as well.
fn rule(action: Action, ingress: bool) -> impl Strategy<Value = Rule> {
    (protocol(), peer(), ports(), weighted(0.05, select(&NETS[..])), 0..20u8).prop_map(
        move |(protocol, mut peer, ports, local, dice)| {
            let mut local = EntityRule {
                nets: local.into_iter().map(|net| net.parse().expect("a literal")).collect(),
                ..EntityRule::default()
            };
            if protocol.is_some_and(Protocol::has_ports) {
                let of_source = dice == 0;
                let side = if of_source == ingress { &mut peer } else { &mut local };
                side.ports = ports;
            }
            let (source, destination) = if ingress { (peer, local) } else { (local, peer) };
            let ip_version = (dice == 1).then_some(4).or((dice == 2).then_some(6));
            Rule { action, ip_version, protocol, source, destination, ..Rule::default() }
        },
    )
}

/// Some runs, one after the other, sometimes with the same action. Where everything else is allowed in the end, it matters what
/// was denied.
fn rules(ingress: bool) -> impl Strategy<Value = Vec<Rule>> {
    use Action::*;
    let action = select(vec![Allow, Allow, Allow, Deny, Deny, Deny, Pass, Log]);
    let run = action.prop_flat_map(move |action| {
        // Log goes on, so it interrupts: one is enough.
        let length = if action == Log { 1..2 } else { 1..10 };
        prop::collection::vec(rule(action, ingress), length)
    });
    let end = weighted(0.4, Just(Rule::default()));
    (prop::collection::vec(run, 0..4), end)
        .prop_map(|(runs, end)| runs.into_iter().flatten().chain(end).collect())
}

fn policy() -> impl Strategy<Value = (PolicyId, PolicyBody)> {
    let name = (select(vec!["p", "q"]), select(vec!["", "", "a", "b"]));
    let tier = weighted(0.2, Just("first".to_owned()));
    (name, tier, order(), (rules(true), rules(false)), 0..12u8).prop_map(
        |((name, namespace), tier, order, (ingress, egress), dice)| {
            let id = PolicyId { name: name.into(), namespace: namespace.into() };
            let body = if namespace.is_empty() {
                PolicyBody::Global(Box::new(GlobalNetworkPolicySpec {
                    tier,
                    order,
                    ingress,
                    egress,
                    do_not_track: dice == 0,
                    pre_dnat: dice == 1,
                    apply_on_forward: dice < 4,
                    ..GlobalNetworkPolicySpec::default()
                }))
            } else {
                let spec = NetworkPolicySpec { tier, order, ingress, egress, ..NetworkPolicySpec::default() };
                PolicyBody::Network(Box::new(spec))
            };
            (id, body)
        },
    )
}

/// A snapshot of a few policies, all of them made of runs.
pub(crate) fn run_snapshot() -> impl Strategy<Value = Snapshot> {
    let policies = prop::collection::vec(policy(), 1..4);
    (snapshot(), policies, network_sets(), any::<bool>(), weighted(0.5, Just(TierAction::Pass))).prop_map(
        |(snapshot, policies, network_sets, hosts, default_action)| Snapshot {
            tiers: BTreeMap::from([
                ("default".to_owned(), TierSpec { default_action, ..TierSpec::default() }),
                ("first".to_owned(), TierSpec { order: Some(1.0), ..TierSpec::default() }),
            ]),
            policies: policies.into_iter().collect(),
            network_sets,
            host_endpoints: if hosts { snapshot.host_endpoints } else { BTreeMap::new() },
            ..snapshot
        },
    )
}

/// A packet to or from a known workload, mostly of a protocol with ports.
pub(crate) fn run_packet() -> impl Strategy<Value = Packet> {
    let ports = weighted(0.6, (select(vec![6u8, 6, 17, 132]), select(&PORTS[..]), select(&PORTS[..])));
    let any = prop_oneof![4 => peer_packet().boxed(), 1 => packet().boxed()];
    (any, ports).prop_map(|(packet, ports)| match ports {
        Some((protocol, source, destination)) => {
            Packet { protocol, ports: Some((source, destination)), icmp: None, ..packet }
        }
        None => packet,
    })
}
