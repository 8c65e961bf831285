//! Snapshots where most decisions hang on who a peer is: by labels, namespaces and networks.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use tortie_model::resource::{GlobalNetworkPolicySpec, NetworkPolicySpec, TierSpec};
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::snapshot::{HostPlace, PolicyBody, PolicyId, Snapshot};

use super::{NAMESPACE_SELECTORS, SELECTORS, network_sets, packet, snapshot};

fn rule() -> impl Strategy<Value = Rule> {
    let negative = prop_oneof![2 => Just(""), 1 => select(&SELECTORS[3..])];
    let peer = (select(&SELECTORS[3..]), negative, select(&NAMESPACE_SELECTORS[..]), 0..4u8).prop_map(
        |(selector, not_selector, namespaces, dice)| EntityRule {
            // Sometimes nothing but a negation.
            selector: if dice == 0 { String::new() } else { selector.to_owned() },
            not_selector: not_selector.to_owned(),
            namespace_selector: if dice == 0 { String::new() } else { namespaces.to_owned() },
            ..EntityRule::default()
        },
    );
    let action = select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Log]);
    (action, peer, any::<bool>()).prop_map(|(action, peer, source)| {
        let (source, destination) =
            if source { (peer, EntityRule::default()) } else { (EntityRule::default(), peer) };
        Rule { action, source, destination, ..Rule::default() }
    })
}

fn policy() -> impl Strategy<Value = (PolicyId, PolicyBody)> {
    let rules = || prop::collection::vec(rule(), 1..3);
    (select(vec!["", "", "a", "b"]), rules(), rules()).prop_map(|(namespace, ingress, egress)| {
        let id = PolicyId { name: "p".into(), namespace: namespace.into() };
        let body = if namespace.is_empty() {
            let spec = GlobalNetworkPolicySpec { ingress, egress, ..GlobalNetworkPolicySpec::default() };
            PolicyBody::Global(Box::new(spec))
        } else {
            let spec = NetworkPolicySpec { ingress, egress, ..NetworkPolicySpec::default() };
            PolicyBody::Network(Box::new(spec))
        };
        (id, body)
    })
}

/// A snapshot of a few policies about nothing but peers. Host endpoints are peers only.
pub(crate) fn peer_snapshot() -> impl Strategy<Value = Snapshot> {
    let policies = prop::collection::vec(policy(), 1..3);
    (snapshot(), policies, network_sets()).prop_map(|(mut snapshot, policies, network_sets)| {
        for host in snapshot.host_endpoints.values_mut() {
            Arc::make_mut(host).place = HostPlace::Elsewhere;
        }
        Snapshot {
            tiers: BTreeMap::from([("default".to_owned(), TierSpec::default())]),
            policies: policies.into_iter().collect(),
            network_sets,
            ..snapshot
        }
    })
}

/// A packet of one known workload, so that one policy decides.
pub(crate) fn peer_packet() -> impl Strategy<Value = Packet> {
    (packet(), select(vec!["cali0", "cali1", "cali2"]), any::<bool>()).prop_map(|(packet, workload, out)| {
        let (workload, outside) = (Some(workload.to_owned()), Some("eth5".to_owned()));
        let (input, output) = if out { (workload, outside) } else { (outside, workload) };
        Packet { input, output, original: None, state: CtState::New, reverse_route: true, ..packet }
    })
}
