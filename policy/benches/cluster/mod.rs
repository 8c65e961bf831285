//! A large cluster, of which 500 endpoints are on this node.

// Each benchmark uses its part.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tortie_model::resource::{NetworkPolicySpec, PolicyType, ProfileSpec, TierSpec};
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::snapshot::{Endpoint, EndpointId, PolicyBody, PolicyId, Snapshot};

pub(crate) const NAMESPACES: u32 = 100;
pub(crate) const APPS: u32 = 20;

/// Endpoint `n` of so many: each namespace has all applications, and five endpoints of different ones here.
pub(crate) fn endpoint(n: u32, endpoints: u32) -> (Arc<EndpointId>, Arc<Endpoint>) {
    endpoint_with(n, endpoints, true, &mut |text| text.into())
}

/// The same, its texts made by `text`; with a label that no other has, or with those of its application only.
pub(crate) fn endpoint_with(
    n: u32,
    endpoints: u32,
    own: bool,
    text: &mut impl FnMut(&str) -> Arc<str>,
) -> (Arc<EndpointId>, Arc<Endpoint>) {
    let namespace = format!("ns{}", n % NAMESPACES);
    let (row, rows) = (n / NAMESPACES, endpoints / NAMESPACES);
    let app = row * APPS / rows;
    let labels = [
        ("app", format!("app{app}")),
        ("tier", format!("t{}", app % 3)),
        ("projectcalico.org/namespace", namespace.clone()),
    ];
    let labels = labels.into_iter().chain(own.then(|| ("pod", format!("p{n}"))));
    let endpoint = Endpoint {
        labels: labels.map(|(name, value)| (text(name), text(&value))).collect(),
        profiles: vec![text(&format!("kns.{namespace}"))],
        addresses: [IpAddr::V4(Ipv4Addr::from(0x0a41_0000 + n))].into(),
        ports: Vec::new(),
        interface: row.is_multiple_of(rows / 5).then(|| format!("cali{n}")),
    };
    (Arc::new(EndpointId { namespace, name: format!("p{n}") }), Arc::new(endpoint))
}

/// The profile of a namespace.
pub(crate) fn profile(n: u32) -> (String, Option<ProfileSpec>) {
    let labels = [("pcns.team".to_owned(), format!("team{}", n % 10))];
    (format!("kns.ns{n}"), Some(ProfileSpec { labels_to_apply: labels.into(), ..ProfileSpec::default() }))
}

/// Policy `n`: one application of one namespace may be reached by another, and by every team that has the label.
pub(crate) fn policy(n: u32) -> (PolicyId, PolicyBody) {
    let app = n / NAMESPACES * 2 % APPS;
    let allow = |source: EntityRule, port| Rule {
        action: Action::Allow,
        protocol: Some(Protocol::Tcp),
        source,
        destination: EntityRule { ports: vec![Port::Range(port, port)], ..EntityRule::default() },
        ..Rule::default()
    };
    let neighbour =
        EntityRule { selector: format!("app == 'app{}'", (app + 1) % APPS), ..EntityRule::default() };
    let team = EntityRule {
        selector: "tier in {'t0', 't1'}".into(),
        namespace_selector: format!("team == 'team{}'", n % 10),
        ..EntityRule::default()
    };
    let spec = NetworkPolicySpec {
        order: Some(f64::from(n)),
        selector: format!("app == 'app{app}'"),
        types: vec![PolicyType::Ingress],
        ingress: vec![allow(neighbour, 8080), allow(team, 9090)],
        ..NetworkPolicySpec::default()
    };
    let id = PolicyId { name: format!("default.policy{n}"), namespace: format!("ns{}", n % NAMESPACES) };
    (id, PolicyBody::Network(Box::new(spec)))
}

/// A cluster of so many.
pub(crate) fn snapshot(endpoints: u32, policies: u32, policy: fn(u32) -> (PolicyId, PolicyBody)) -> Snapshot {
    Snapshot {
        tiers: [("default".to_owned(), TierSpec::default())].into(),
        policies: (0..policies).map(policy).collect(),
        profiles: (0..NAMESPACES).map(profile).collect(),
        endpoints: (0..endpoints).map(|n| endpoint(n, endpoints)).collect(),
        ..Snapshot::default()
    }
}
