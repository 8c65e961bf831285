//! What host endpoints add to random snapshots and packets, staged policies, parameters of a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use tortie_model::resource::{
    GlobalNetworkPolicySpec, StagedGlobalNetworkPolicySpec, StagedNetworkPolicySpec,
};
use tortie_model::rule::{Action, Rule};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::snapshot::{
    DenyAction, Endpoint, EndpointId, Failsafe, HostEndpoint, HostPlace, LogFormat, Options, PolicyBody,
    PolicyId, Snapshot, StagedBody,
};

use super::{NETS, PORTS, endpoint, order, packet, policy, snapshot, types};

/// Host endpoints: of this node by name, by address or for all interfaces, and of others.
pub(super) fn host_endpoints() -> impl Strategy<Value = BTreeMap<Arc<EndpointId>, Arc<HostEndpoint>>> {
    let place = select(vec![
        HostPlace::Elsewhere,
        HostPlace::Interface("eth0".to_owned()),
        HostPlace::Interface("eth0".to_owned()),
        HostPlace::Interface("lo".to_owned()),
        HostPlace::Addresses,
        HostPlace::All,
        HostPlace::All,
    ]);
    prop::collection::vec((place, endpoint()), 0..4).prop_map(|found| {
        let host = |(i, (place, endpoint)): (usize, (HostPlace, Endpoint))| {
            let id = EndpointId { namespace: String::new(), name: format!("h{i}") };
            (Arc::new(id), Arc::new(HostEndpoint { endpoint, place }))
        };
        found.into_iter().enumerate().map(host).collect()
    })
}

pub(super) fn options() -> impl Strategy<Value = Options> {
    let failsafe = (select(vec![6u8, 17]), select(&PORTS[..]), weighted(0.5, select(&NETS[..]))).prop_map(
        |(protocol, port, net)| Failsafe {
            protocol,
            port,
            net: net.map(|net| net.parse().expect("a literal")),
        },
    );
    let failsafes = || prop::collection::vec(failsafe.clone(), 0..2);
    (failsafes(), failsafes(), prop::bool::weighted(0.1), any::<bool>(), 0..10).prop_map(
        |(failsafe_inbound, failsafe_outbound, accept_invalid, vxlan, dice)| Options {
            failsafe_inbound,
            failsafe_outbound,
            accept_invalid,
            vxlan,
            ipip_from_workloads: dice == 0,
            vxlan_from_workloads: dice == 1,
            vxlan_port: if dice == 2 { 80 } else { 4789 },
            log: LogFormat { prefix: "%t %k %n".to_owned(), group: (dice == 3).then_some(5), limit: None },
            stop_refused: false,
            deny: if dice % 2 == 0 { DenyAction::Drop } else { DenyAction::Reject },
            ..Options::default()
        },
    )
}

/// Staged policies: whatever they say, they decide nothing.
pub(super) fn staged() -> impl Strategy<Value = BTreeMap<PolicyId, StagedBody>> {
    let body = |(id, body): (PolicyId, PolicyBody)| {
        let staged = match body {
            PolicyBody::Network(spec) => StagedBody::Network(Box::new(StagedNetworkPolicySpec {
                tier: spec.tier,
                order: spec.order,
                ingress: spec.ingress,
                egress: spec.egress,
                selector: spec.selector,
                types: spec.types,
                ..StagedNetworkPolicySpec::default()
            })),
            PolicyBody::Global(spec) => StagedBody::Global(Box::new(StagedGlobalNetworkPolicySpec {
                tier: spec.tier,
                ingress: spec.ingress,
                egress: spec.egress,
                selector: spec.selector,
                types: spec.types,
                do_not_track: spec.do_not_track,
                pre_dnat: spec.pre_dnat,
                apply_on_forward: spec.apply_on_forward,
                ..StagedGlobalNetworkPolicySpec::default()
            })),
            PolicyBody::Invalid(reason) => StagedBody::Invalid(reason),
        };
        (id, staged)
    };
    prop::collection::vec(policy().prop_map(body), 0..3).prop_map(|found| found.into_iter().collect())
}

/// A rule without a mistake and with few conditions, so that it often matches.
fn plain_rule() -> impl Strategy<Value = Rule> {
    let action = select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log]);
    let net = || weighted(0.2, select(&NETS[..])).prop_map(|n| n.map(|n| n.parse().expect("a literal")));
    let port = weighted(0.5, select(&PORTS[..]));
    (action, weighted(0.5, select(vec![Protocol::Tcp, Protocol::Udp])), net(), net(), port).prop_map(
        |(action, protocol, source, destination, port)| {
            let mut rule = Rule { action, protocol, ..Rule::default() };
            rule.source.nets = source.into_iter().collect();
            rule.destination.nets = destination.into_iter().collect();
            let port = port.filter(|_| protocol.is_some());
            rule.destination.ports = port.map(|p| Port::Range(p, p)).into_iter().collect();
            rule
        },
    )
}

/// A global policy about hosts: of each kind as many.
fn host_policy() -> impl Strategy<Value = (PolicyId, PolicyBody)> {
    let rules = || prop::collection::vec(plain_rule(), 0..3);
    let tier = select(&["default", "first", "last"][..]);
    let chosen = select(vec!["", "", "role == 'web'", "has(role)"]);
    ((0..8u8), tier, order(), types(), (rules(), rules()), chosen, 0..4u8).prop_map(
        |(name, tier, order, types, (ingress, egress), selector, kind)| {
            let spec = GlobalNetworkPolicySpec {
                tier: Some(tier.to_owned()),
                order,
                ingress,
                egress,
                selector: selector.to_owned(),
                types,
                do_not_track: kind == 0,
                pre_dnat: kind == 1,
                apply_on_forward: kind < 3,
                ..GlobalNetworkPolicySpec::default()
            };
            let id = PolicyId { name: format!("g{name}"), namespace: String::new() };
            (id, PolicyBody::Global(Box::new(spec)))
        },
    )
}

/// A snapshot where most decisions are those of host endpoints.
pub(crate) fn host_snapshot() -> impl Strategy<Value = Snapshot> {
    let policies = prop::collection::vec(host_policy(), 1..7);
    (snapshot(), policies, host_endpoints(), any::<bool>()).prop_map(|(snapshot, policies, hosts, keep)| {
        let kept = if keep { snapshot.host_endpoints } else { BTreeMap::new() };
        Snapshot {
            policies: policies.into_iter().collect(),
            host_endpoints: hosts.into_iter().chain(kept).collect(),
            ..snapshot
        }
    })
}

/// A packet that meets host endpoints: over an interface of the node, and mostly new.
pub(crate) fn host_packet() -> impl Strategy<Value = Packet> {
    let own = || weighted(0.6, select(vec!["eth0", "eth0", "eth1", "lo"]));
    (packet(), own(), own(), any::<bool>(), 0..3).prop_map(|(packet, input, output, new, dice)| Packet {
        input: packet.input.filter(|_| dice > 0).map(|was| input.map_or(was, str::to_owned)),
        output: match (packet.output, dice) {
            (None, 0) => Some("eth0".to_owned()),
            (was, _) => was.map(|was| output.map_or(was, str::to_owned)),
        },
        state: if new { CtState::New } else { packet.state },
        ..packet
    })
}
