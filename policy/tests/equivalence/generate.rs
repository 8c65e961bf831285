//! Random snapshots and packets over a small world, so that rules and packets meet often.

#[path = "generate/host.rs"]
mod host;
#[path = "generate/merged.rs"]
mod merged;
#[path = "generate/peers.rs"]
mod peers;
#[path = "generate/runs.rs"]
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use tortie_model::resource::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, PolicyType, ProfileSpec, TierAction, TierSpec,
    WorkloadEndpointPort,
};
use tortie_model::rule::{Action, EntityRule, HttpMatch, Icmp, Rule, ServiceAccountMatch, ServiceMatch};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::snapshot::{
    Endpoint, EndpointId, EndpointToHost, NetworkSet, PolicyBody, PolicyId, Pool, Snapshot,
};

pub(crate) use host::{host_packet, host_snapshot};
pub(crate) use merged::{merged_packet, merged_snapshot};
pub(crate) use peers::{peer_packet, peer_snapshot};
pub(crate) use runs::{run_packet, run_snapshot};

/// All there are; [`HOST`] and the last one are of IPv4 and IPv6 networks of their own.
pub(crate) const ADDRESSES: [&str; 10] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.1.1",
    "192.0.2.1",
    "fd00::1",
    "fd00::2",
    "fd00::3",
    "fd00:0:0:1::1",
    "2001:db8::1",
];
const NETS: [&str; 12] = [
    "10.0.0.0/24",
    "10.0.0.0/31",
    "10.0.0.2/32",
    "10.0.0.0/8",
    "192.0.2.0/24",
    "0.0.0.0/0",
    "0.0.0.0/1",
    "fd00::/64",
    "fd00::/16",
    "fd00::2/128",
    "::/0",
    "2001:db8::/32",
];
/// An address of `eth1` of this node.
pub(crate) const HOST: &str = "192.0.2.1";
const INTERFACES: [&str; 9] = ["cali0", "cali1", "cali2", "cali9", "eth0", "eth0", "eth0", "eth1", "lo"];
const SELECTORS: [&str; 12] = [
    "",
    "",
    "",
    "all()",
    "role == 'web'",
    "role == 'db'",
    "has(role)",
    "role != 'web'",
    "role in {'web', 'x'}",
    "!has(env) && role == 'web'",
    "has(env) || role == 'db'",
    "",
];
const BAD_SELECTORS: [&str; 3] = ["role ==", "global()", "role == 'web' && global()"];
const NAMESPACE_SELECTORS: [&str; 6] = ["", "", "all()", "env == 'prod'", "global()", "env != 'prod'"];
const ACCOUNT_SELECTORS: [&str; 5] = ["", "", "", "all()", "team == 'x'"];
const PORT_NAMES: [&str; 3] = ["http", "dns", "none"];
const PORTS: [u16; 5] = [80, 81, 53, 8080, 4789];
const TIERS: [&str; 4] = ["default", "first", "last", "absent"];

/// A text, or rarely something that is no selector.
fn selector(good: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![60 => select(good), 1 => select(&BAD_SELECTORS[..])].prop_map(str::to_owned)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    use Protocol::*;
    select(vec![Tcp, Tcp, Tcp, Udp, Udp, Sctp, Icmp, IcmpV6, UdpLite, Number(47), Number(6), Number(1)])
}

fn nets() -> impl Strategy<Value = Vec<ipnetwork::IpNetwork>> {
    prop_oneof![4 => Just(vec![]), 1 => subsequence(&NETS[..], 1..4)]
        .prop_map(|nets| nets.into_iter().map(|n| n.parse().expect("a literal")).collect())
}

/// Ports that fit a protocol, mostly: numbers need one that has ports.
fn ports(protocol: Option<Protocol>) -> impl Strategy<Value = Vec<Port>> {
    let number = (select(&PORTS[..]), 0u16..3, 0u16..60).prop_map(|(low, n, dice)| match dice {
        // Ends before it begins: rare, since it breaks the whole policy.
        0 => Port::Range(low, low - 1),
        _ => Port::Range(low, low + n),
    });
    let name = select(&PORT_NAMES[..]).prop_map(|n| Port::Named(n.to_owned()));
    let fits = protocol.is_some_and(Protocol::has_ports);
    let (none, numeric, named) = match protocol {
        Some(_) if fits => (50, 30, 20),
        None => (80, 1, 30),
        Some(_) => (98, 1, 1),
    };
    prop_oneof![
        none => Just(vec![]),
        numeric => prop::collection::vec(number.clone(), 1..4),
        named => prop::collection::vec(name.clone(), 1..3),
        numeric / 3 => (prop::collection::vec(number, 1..3), name).prop_map(|(mut p, n)| { p.push(n); p }),
    ]
}

fn accounts() -> impl Strategy<Value = Option<ServiceAccountMatch>> {
    let names = subsequence(vec!["admin".to_owned(), "user".to_owned()], 0..3);
    weighted(0.1, (names, selector(&ACCOUNT_SELECTORS)))
        .prop_map(|found| found.map(|(names, selector)| ServiceAccountMatch { names, selector }))
}

fn entity(protocol: Option<Protocol>) -> BoxedStrategy<EntityRule> {
    let negative = prop_oneof![4 => Just(String::new()), 1 => selector(&SELECTORS)];
    let services = weighted(0.05, Just(ServiceMatch { name: "s".into(), namespace: "a".into() }));
    (
        (nets(), nets()),
        (selector(&SELECTORS), negative, selector(&NAMESPACE_SELECTORS)),
        (ports(protocol), prop_oneof![3 => Just(vec![]).boxed(), 1 => ports(protocol).boxed()]),
        accounts(),
        services,
        any::<bool>(),
    )
        .prop_map(
            |((nets, not_nets), (s, not_selector, ns), (ports, not_ports), accounts, services, labels)| {
                let mut entity = EntityRule { nets, ports, not_ports, services, ..EntityRule::default() };
                if labels {
                    entity.selector = s;
                    entity.not_selector = not_selector;
                    // The one place for global() is the whole namespace selector.
                    entity.namespace_selector = ns;
                    entity.service_accounts = accounts;
                } else {
                    entity.not_nets = not_nets;
                }
                entity
            },
        )
        .boxed()
}

fn icmp() -> impl Strategy<Value = Option<Icmp>> {
    let byte = || select(vec![0u8, 8, 128]);
    let some = (weighted(0.95, byte()), weighted(0.5, 0u8..2));
    weighted(0.5, some).prop_map(|i| i.map(|(icmp_type, code)| Icmp { icmp_type, code }))
}

fn rule() -> BoxedStrategy<Rule> {
    let action = select(vec![
        Action::Allow,
        Action::Allow,
        Action::Allow,
        Action::Deny,
        Action::Deny,
        Action::Pass,
        Action::Log,
    ]);
    (action, weighted(0.7, protocol()))
        .prop_flat_map(|(action, protocol)| {
            let has_icmp = protocol.is_some_and(|p| matches!(p.number(), 1 | 58));
            let icmp = move || weighted(if has_icmp { 0.9 } else { 0.005 }, icmp()).prop_map(Option::flatten);
            (
                weighted(0.1, select(vec![4u8, 4, 6, 6, 5])),
                (icmp(), icmp()),
                weighted(0.1, self::protocol()),
                (entity(protocol), entity(protocol)),
                weighted(0.01, Just(HttpMatch { methods: vec!["GET".to_owned()], ..HttpMatch::default() })),
            )
                .prop_map(
                    move |(version, (icmp, not_icmp), not_protocol, (source, destination), http)| Rule {
                        action,
                        // A version that does not exist must be rare, since it breaks the whole policy.
                        ip_version: version.filter(|v| *v != 5 || action == Action::Log),
                        protocol,
                        icmp,
                        not_protocol,
                        not_icmp,
                        source,
                        destination,
                        http,
                        metadata: None,
                    },
                )
        })
        .boxed()
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(rule(), 0..4)
}

fn order() -> impl Strategy<Value = Option<f64>> {
    select(vec![None, Some(1.0), Some(-1.0), Some(0.0), Some(-0.0), Some(2.5)])
}

fn types() -> impl Strategy<Value = Vec<PolicyType>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![PolicyType::Ingress]),
        Just(vec![PolicyType::Egress]),
        Just(vec![PolicyType::Ingress, PolicyType::Egress]),
    ]
}

fn policy() -> BoxedStrategy<(PolicyId, PolicyBody)> {
    let tier = weighted(0.7, select(&TIERS[..])).prop_map(|t| t.map(str::to_owned));
    (
        (select(vec!["p", "q", "r", "s"]), select(vec!["", "", "a", "b"])),
        (tier, order(), types()),
        (rules(), rules()),
        (
            selector(&SELECTORS),
            selector(&ACCOUNT_SELECTORS),
            select(vec!["", "", "", "all()", "env == 'prod'"]),
        ),
        (0..40, 0..9),
    )
        .prop_map(
            |((name, ns), (tier, order, types), (ingress, egress), (selector, accounts, spaces), dice)| {
                let id = PolicyId { name: name.into(), namespace: ns.into() };
                let body = if dice.0 == 0 {
                    PolicyBody::Invalid("not JSON".into())
                } else if ns.is_empty() {
                    PolicyBody::Global(Box::new(GlobalNetworkPolicySpec {
                        tier,
                        order,
                        ingress,
                        egress,
                        selector,
                        types,
                        do_not_track: dice.1 == 0,
                        pre_dnat: dice.1 == 1,
                        apply_on_forward: dice.1 < 4,
                        service_account_selector: accounts,
                        namespace_selector: spaces.to_owned(),
                        ..GlobalNetworkPolicySpec::default()
                    }))
                } else {
                    PolicyBody::Network(Box::new(NetworkPolicySpec {
                        tier,
                        order,
                        ingress,
                        egress,
                        selector,
                        types,
                        service_account_selector: accounts,
                        ..NetworkPolicySpec::default()
                    }))
                };
                (id, body)
            },
        )
        .boxed()
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let some = |p: f64, name: &'static str, values: Vec<&'static str>| {
        weighted(p, select(values)).prop_map(move |v| v.map(|v| (name.to_owned(), v.to_owned())))
    };
    (
        some(0.8, "role", vec!["web", "db"]),
        some(0.2, "env", vec!["x"]),
        some(0.9, "projectcalico.org/namespace", vec!["a", "b"]),
        some(0.5, "projectcalico.org/serviceaccount", vec!["admin", "user"]),
        some(0.1, "pcns.env", vec!["prod"]),
        some(0.1, "pcsa.team", vec!["x"]),
    )
        .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].into_iter().flatten().collect())
}

fn endpoint() -> BoxedStrategy<Endpoint> {
    let port =
        (select(&PORT_NAMES[..]), protocol(), select(&PORTS[..])).prop_map(|(name, protocol, port)| {
            WorkloadEndpointPort { name: name.into(), protocol, port, host_port: 0, host_ip: String::new() }
        });
    (
        labels(),
        subsequence(vec!["open", "ns", "sa", "odd", "gone", "bad"], 0..4),
        subsequence(&ADDRESSES[..], 0..4),
        prop::collection::vec(port, 0..4),
    )
        .prop_map(|(labels, profiles, addresses, ports)| Endpoint {
            labels: labels.into_iter().collect(),
            profiles: profiles.into_iter().map(Arc::from).collect(),
            addresses: addresses.into_iter().map(|a| a.parse().expect("a literal")).collect(),
            ports,
            interface: None,
        })
        .boxed()
}

/// Endpoints; the first three are on this node, and rarely two of them claim one interface.
fn endpoints() -> impl Strategy<Value = BTreeMap<Arc<EndpointId>, Arc<Endpoint>>> {
    (prop::collection::vec((select(vec!["a", "b"]), endpoint()), 3..6), 0..20).prop_map(|(found, dice)| {
        found
            .into_iter()
            .enumerate()
            .map(|(i, (namespace, mut endpoint))| {
                endpoint.interface =
                    (i < 3).then(|| if dice == 0 { "cali0".into() } else { format!("cali{i}") });
                (
                    Arc::new(EndpointId { namespace: namespace.into(), name: format!("e{i}") }),
                    Arc::new(endpoint),
                )
            })
            .collect()
    })
}

fn profiles() -> impl Strategy<Value = BTreeMap<String, Option<ProfileSpec>>> {
    let allow = || vec![Rule::default()];
    let label = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    (rules(), rules(), any::<bool>()).prop_map(move |(ingress, egress, prod)| {
        let open = ProfileSpec { ingress: allow(), egress: allow(), ..ProfileSpec::default() };
        let env = if prod { "prod" } else { "test" };
        let ns = ProfileSpec {
            egress: allow(),
            labels_to_apply: label("pcns.env", env),
            ..ProfileSpec::default()
        };
        let sa = ProfileSpec { labels_to_apply: label("pcsa.team", "x"), ..ProfileSpec::default() };
        let odd = ProfileSpec { ingress, egress, labels_to_apply: label("role", "x") };
        [("open", Some(open)), ("ns", Some(ns)), ("sa", Some(sa)), ("odd", Some(odd)), ("bad", None)]
            .into_iter()
            .map(|(name, profile)| (name.to_owned(), profile))
            .collect()
    })
}

fn tiers() -> impl Strategy<Value = BTreeMap<String, TierSpec>> {
    let tier = || {
        let action =
            select(vec![None, Some(TierAction::Deny), Some(TierAction::Pass), Some(TierAction::Pass)]);
        (order(), action).prop_map(|(order, default_action)| TierSpec { order, default_action })
    };
    (tier(), tier(), tier()).prop_map(|(first, default, last)| {
        BTreeMap::from([("first".into(), first), ("default".into(), default), ("last".into(), last)])
    })
}

/// Network sets in the namespaces or in none, with networks of many lengths.
fn network_sets() -> impl Strategy<Value = BTreeMap<Arc<EndpointId>, Arc<NetworkSet>>> {
    let namespace = select(vec!["", "a", "b"]);
    // A network of length 0 is everything: rare, since it hides the others.
    let nets = (subsequence(&NETS[..], 0..4), 0..3).prop_map(|(mut nets, dice)| {
        nets.retain(|net| dice == 0 || !net.ends_with("/0"));
        nets.into_iter().map(|net| net.parse().expect("a literal")).collect::<Vec<ipnetwork::IpNetwork>>()
    });
    prop::collection::vec((namespace, labels(), nets), 0..3).prop_map(|found| {
        let set = |(i, (namespace, mut labels, nets)): (usize, (&str, BTreeMap<String, String>, Vec<_>))| {
            labels.remove("projectcalico.org/namespace");
            let mut profiles = Vec::new();
            if !namespace.is_empty() {
                labels.insert("projectcalico.org/namespace".into(), namespace.into());
                profiles.push(Arc::from("ns"));
            }
            let set = NetworkSet { labels: labels.into_iter().collect(), profiles, nets: nets.into() };
            (Arc::new(EndpointId { namespace: namespace.into(), name: format!("s{i}") }), Arc::new(set))
        };
        found.into_iter().enumerate().map(set).collect()
    })
}

/// A snapshot of a node with three workloads.
pub(crate) fn snapshot() -> BoxedStrategy<Snapshot> {
    let pools = prop::collection::vec((select(&NETS[..]), any::<bool>()), 0..4);
    let action = select(vec![EndpointToHost::Drop, EndpointToHost::Accept, EndpointToHost::Return]);
    (
        tiers(),
        prop::collection::vec(policy(), 0..6),
        profiles(),
        endpoints(),
        pools,
        action,
        subsequence(&ADDRESSES[..], 0..3),
        (network_sets(), host::host_endpoints(), host::options(), host::staged(), prop::bool::weighted(0.6)),
    )
        .prop_map(|(tiers, policies, profiles, endpoints, pools, endpoint_to_host, peers, others)| Snapshot {
            network_sets: others.0,
            host_endpoints: if others.4 { others.1 } else { BTreeMap::new() },
            host_interfaces: BTreeMap::from([(
                "eth1".to_owned(),
                BTreeSet::from([HOST.parse().expect("a literal")]),
            )]),
            options: others.2,
            staged: others.3,
            tiers,
            policies: policies.into_iter().collect(),
            profiles,
            endpoints,
            pools: pools
                .into_iter()
                .map(|(cidr, nat_outgoing)| Pool { cidr: cidr.parse().expect("a literal"), nat_outgoing })
                .collect(),
            endpoint_to_host,
            tunnel_peers: peers
                .into_iter()
                .map(|a| a.parse().expect("a literal"))
                .collect::<BTreeSet<IpAddr>>(),
        })
        .boxed()
}

/// A packet between two addresses of one family.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    use CtState::*;
    let state = select(vec![New, New, New, New, New, New, New, Established, Related, Invalid, Untracked]);
    let protocol = select(vec![6u8, 6, 6, 17, 17, 132, 1, 58, 4, 47, 136]);
    let input = weighted(0.9, select(&INTERFACES[..]));
    let output = weighted(0.85, select(&INTERFACES[..]));
    (
        (input, output),
        (any::<Index>(), any::<Index>(), any::<bool>()),
        protocol,
        (select(&PORTS[..]), select(&PORTS[..])),
        (select(vec![0u8, 8, 128, 135]), 0u8..2),
        state,
        (
            prop::bool::weighted(0.95),
            weighted(0.2, (any::<Index>(), select(&PORTS[..]))),
            prop::bool::weighted(0.2),
        ),
    )
        .prop_map(
            |(
                (input, output),
                (source, destination, v6),
                protocol,
                ports,
                icmp,
                state,
                (reverse_route, original, marked),
            )| {
                let family: Vec<IpAddr> = ADDRESSES
                    .iter()
                    .map(|a| a.parse::<IpAddr>().expect("a literal"))
                    .filter(|a| a.is_ipv6() == v6)
                    .collect();
                // The kernel gives a packet at least one interface.
                let output = if input.is_none() { output.or(Some("eth0")) } else { output };
                Packet {
                    input: input.map(str::to_owned),
                    output: output.map(str::to_owned),
                    source: *source.get(&family),
                    destination: *destination.get(&family),
                    protocol,
                    ports: matches!(protocol, 6 | 17 | 132).then_some(ports),
                    icmp: (protocol == if v6 { 58 } else { 1 }).then_some(icmp),
                    state,
                    reverse_route,
                    original: original.map(|(address, port)| (*address.get(&family), port)),
                    marked,
                }
            },
        )
}
