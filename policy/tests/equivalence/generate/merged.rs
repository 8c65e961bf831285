//! Snapshots whose policies have long lists of rules alike enough to be merged.

use std::collections::BTreeMap;

use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tortie_model::resource::{GlobalNetworkPolicySpec, NetworkPolicySpec, PolicyType, TierSpec};
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::snapshot::{Options, PolicyBody, PolicyId, Snapshot};

use super::{ADDRESSES, NETS, PORTS, SELECTORS, network_sets, packet, snapshot};

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let port = (select(&PORTS[..]), select(vec![0u16, 0, 0, 1, 40]));
    prop::collection::vec(port.prop_map(|(low, more)| Port::Range(low, low + more)), 1..3)
}

fn peers() -> impl Strategy<Value = EntityRule> {
    let selector = select(&SELECTORS[3..11]).prop_map(|selector| EntityRule {
        selector: selector.to_owned(),
        namespace_selector: "all()".to_owned(),
        ..EntityRule::default()
    });
    let single = any::<Index>().prop_map(|index| vec![index.get(&ADDRESSES).parse().expect("a literal")]);
    let several = prop::collection::vec(select(&NETS[..]), 1..4)
        .prop_map(|nets| nets.into_iter().map(|net| net.parse().expect("a literal")).collect());
    let nets =
        prop_oneof![2 => single, 1 => several].prop_map(|nets| EntityRule { nets, ..EntityRule::default() });
    prop_oneof![5 => selector, 4 => nets, 3 => Just(EntityRule::default())]
}

fn rule(ingress: bool) -> impl Strategy<Value = Rule> {
    let services = weighted(0.7, (select(vec![Protocol::Tcp, Protocol::Udp]), ports()));
    (peers(), services, 0..30).prop_map(move |(peers, services, dice)| {
        let (mut near, mut far) = (EntityRule::default(), peers);
        let mut rule = Rule::default();
        if let Some((protocol, ports)) = services {
            rule.protocol = Some(protocol);
            let destination = if ingress { &mut near } else { &mut far };
            destination.ports = ports;
        }
        rule.not_protocol = (dice == 0).then_some(Protocol::Sctp);
        rule.ip_version = (dice == 1).then_some(6);
        (rule.source, rule.destination) = if ingress { (far, near) } else { (near, far) };
        rule
    })
}

/// Rules that differ in nothing but ranges of ports, which rarely overlap.
fn range_rules() -> impl Strategy<Value = Vec<Rule>> {
    let ranges = prop_oneof![
        5 => Just(vec![(1, 60), (70, 120), (4700, 4800), (8000, 8100)]),
        1 => Just(vec![(1, 60), (70, 120), (121, 5000), (8000, 8100), (8050, 9000)]),
    ];
    (ranges, select(vec![Protocol::Tcp, Protocol::Udp])).prop_map(|(ranges, protocol)| {
        let rule = |(low, high)| {
            let destination = EntityRule { ports: vec![Port::Range(low, high)], ..EntityRule::default() };
            Rule { protocol: Some(protocol), destination, ..Rule::default() }
        };
        ranges.into_iter().map(rule).collect()
    })
}

/// Runs of some rules with the same action.
fn rules(ingress: bool) -> impl Strategy<Value = Vec<Rule>> {
    let action =
        select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Deny, Action::Pass, Action::Log]);
    let rules = prop_oneof![6 => prop::collection::vec(rule(ingress), 1..12), 1 => range_rules()];
    let run = (action, rules);
    prop::collection::vec(run, 1..3).prop_map(|runs| {
        let run =
            |(action, rules): (Action, Vec<Rule>)| rules.into_iter().map(move |rule| Rule { action, ..rule });
        runs.into_iter().flat_map(run).collect()
    })
}

fn policy() -> impl Strategy<Value = (PolicyId, PolicyBody)> {
    (select(vec!["p", "q", "r"]), any::<bool>(), rules(true), rules(false), any::<bool>()).prop_map(
        |(name, global, ingress, egress, forward)| {
            let types = vec![PolicyType::Ingress, PolicyType::Egress];
            let namespace = if global { "" } else { "a" };
            let id = PolicyId { name: name.into(), namespace: namespace.into() };
            let body = if global {
                PolicyBody::Global(Box::new(GlobalNetworkPolicySpec {
                    ingress,
                    egress,
                    types,
                    apply_on_forward: forward,
                    ..GlobalNetworkPolicySpec::default()
                }))
            } else {
                let spec = NetworkPolicySpec { ingress, egress, types, ..NetworkPolicySpec::default() };
                PolicyBody::Network(Box::new(spec))
            };
            (id, body)
        },
    )
}

/// A snapshot of a few policies with runs of rules.
pub(crate) fn merged_snapshot() -> impl Strategy<Value = Snapshot> {
    let policies = prop::collection::vec(policy(), 1..4);
    let rows = select(vec![Options::default().merged_rows, 1000, 100, 20]);
    (snapshot(), policies, network_sets(), rows).prop_map(|(mut snapshot, policies, network_sets, rows)| {
        snapshot.options.merged_rows = rows;
        Snapshot {
            tiers: BTreeMap::from([("default".to_owned(), TierSpec::default())]),
            policies: policies.into_iter().collect(),
            network_sets,
            ..snapshot
        }
    })
}

/// The first packet of a flow of a known workload.
pub(crate) fn merged_packet() -> impl Strategy<Value = Packet> {
    let other = select(vec!["eth5", "eth1", "cali0", "cali1"]);
    let protocol = select(vec![6u8, 6, 17, 17, 132]);
    let ports = (select(&PORTS[..]), select(&PORTS[..]));
    (packet(), select(vec!["cali0", "cali1", "cali2"]), other, any::<bool>(), 0..10, protocol, ports)
        .prop_map(|(mut packet, workload, other, out, dice, protocol, ports)| {
            if dice < 8 {
                (packet.protocol, packet.ports, packet.icmp) = (protocol, Some(ports), None);
            }
            let (workload, other) = (Some(workload.to_owned()), Some(other.to_owned()));
            let (input, output) = if out { (workload, other) } else { (other, workload) };
            let state = if dice == 0 { packet.state } else { CtState::New };
            Packet { input, output, original: None, state, reverse_route: true, ..packet }
        })
}
