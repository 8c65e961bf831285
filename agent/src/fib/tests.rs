//! Every decision of the chain once, and what holds for any input.

use proptest::prelude::*;

use super::decision::contains;
use super::*;
use crate::dataplane::owner::IPIP_DEVICE;
use crate::desired::{Gateway, PoolEncap};
use crate::kernel::{Hop, Link, Route, RouteKey, RouteKind};
use tortie_model::resource::EncapMode;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

/// `eth0` 10.0.0.1/24, `eth1` 10.0.1.1/24, `tunl0`, `cali1`, with the given foreign routes:
/// prefix, protocol, gateway, interface.
fn resolver(extra: &[(&str, u8, Option<&str>, u32)]) -> Resolver {
    let link = |name: &str, index, address: Option<&str>| {
        let addresses = address.map(net).into_iter().collect();
        (name.to_string(), Link { name: name.into(), index, up: true, addresses, ..Link::default() })
    };
    let links = BTreeMap::from([
        link("eth0", 2, Some("10.0.0.1/24")),
        link("eth1", 3, Some("10.0.1.1/24")),
        link("eth6", 4, Some("fd00::1/64")),
        link("tunl0", 5, Some("172.20.0.1/32")),
        link("cali1", 6, None),
    ]);
    let connected = [
        ("10.0.0.0/24", 2, None, 2),
        ("10.0.1.0/24", 2, None, 3),
        ("fd00::/64", 2, None, 4),
        ("fe80::/64", 2, None, 4),
    ];
    let mut routes: Vec<(RouteKey, Route)> = Vec::new();
    for (prefix, protocol, gateway, interface) in connected.iter().chain(extra) {
        let gateway: Option<IpAddr> = gateway.map(|text| text.parse().unwrap());
        let hop = Hop { gateway, interface: *interface, onlink: false };
        let metric = match (prefix.contains(':'), protocol) {
            (false, _) => 0,
            (true, 2) => 256,
            (true, _) => 1024,
        };
        let key = RouteKey { prefix: net(prefix), metric };
        let kind = if *interface == 0 { RouteKind::Blackhole } else { RouteKind::Unicast };
        let hops = if *interface == 0 { vec![] } else { vec![hop] };
        match routes.iter_mut().find(|(known, _)| *known == key) {
            Some((_, route)) => route.hops.extend(hops),
            None => {
                routes.push((key, Route { protocol: *protocol, kind, link_scope: false, hops, group: None }))
            }
        }
    }
    Resolver::new(&routes, &links)
}

fn context() -> RouteContext {
    let pool = |cidr, ipip, vxlan| PoolEncap { cidr: net(cidr), ipip, vxlan };
    RouteContext {
        node_addresses: vec![net("10.0.0.1/24"), net("fd00::1/64")],
        pools: vec![
            pool("192.168.0.0/16", EncapMode::Never, EncapMode::Never),
            pool("172.20.0.0/16", EncapMode::CrossSubnet, EncapMode::Never),
            pool("172.21.0.0/16", EncapMode::Always, EncapMode::Never),
            pool("172.22.0.0/16", EncapMode::Never, EncapMode::CrossSubnet),
            pool("fd02::/48", EncapMode::Never, EncapMode::Never),
        ],
        ..RouteContext::default()
    }
}

fn via(next_hops: &[&str]) -> LearnedRoute {
    let next_hops = next_hops.iter().map(|text| text.parse().unwrap()).collect();
    LearnedRoute { next_hops, internal: true, local_pref: 100 }
}

/// What a table comes to that was never another.
fn from_scratch(
    table: &BTreeMap<IpNetwork, LearnedRoute>,
    surroundings: &Surroundings,
    resolver: &Resolver,
) -> Fib {
    let mut fib = Fib::default();
    let routes = table.iter().map(|(prefix, route)| (*prefix, Some(route.clone()))).collect();
    fib.learn(LearnedChanges { routes, converged: true });
    fib.set_resolver(resolver.clone(), Instant::now());
    fib.set_surroundings(surroundings.clone());
    fib.decide(Instant::now());
    fib
}

fn one(resolver: &Resolver, prefix: &str, next_hops: &[&str], tunnel: bool) -> Result<String, Reason> {
    let route = via(next_hops);
    let surroundings = Surroundings {
        context: context(),
        local: BTreeSet::from([net("192.168.1.0/26")]),
        tunnel,
        ..Surroundings::default()
    };
    let table = BTreeMap::from([(net(prefix), route)]);
    let fib = from_scratch(&table, &surroundings, resolver);
    assert!(fib.routes.len() + fib.left_out.len() <= 1);
    match (fib.routes.into_values().next(), fib.left_out.into_values().next()) {
        (Some(RouteTarget::Gateways(gateways)), None) => {
            let onlink = |gateway: &Gateway| if gateway.onlink { " onlink" } else { "" };
            let texts: Vec<String> = gateways
                .iter()
                .map(|gateway| format!("{} {}{}", gateway.address, gateway.interface, onlink(gateway)))
                .collect();
            Ok(texts.join(", "))
        }
        (None, Some(reason)) => Err(reason),
        (None, None) => Ok("local".to_string()),
        other => panic!("{other:?}"),
    }
}

/// Prefix, next hops, whether there is a tunnel, and what comes of it.
type Case<'a> = (&'a str, &'a [&'a str], bool, Result<&'a str, Reason>);

#[test]
fn each_decision() {
    let plain = resolver(&[("0.0.0.0/0", 4, Some("10.0.0.254"), 2)]);
    let hop = |text: &str| text.parse::<IpAddr>().unwrap();
    let cases: &[Case<'_>] = &[
        // Plain pool: a neighbour, a neighbour elsewhere, over the default route.
        ("192.168.2.0/26", &["10.0.0.2"], false, Ok("10.0.0.2 eth0")),
        ("192.168.2.0/26", &["10.0.1.2"], false, Ok("10.0.1.2 eth1")),
        ("192.168.2.0/26", &["203.0.113.9"], false, Ok("10.0.0.254 eth0")),
        // Several next hops; those resolved to the same gateway are one.
        ("192.168.2.0/26", &["10.0.0.3", "10.0.0.2"], false, Ok("10.0.0.2 eth0, 10.0.0.3 eth0")),
        ("192.168.2.0/26", &["203.0.113.9", "203.0.113.8"], false, Ok("10.0.0.254 eth0")),
        // CrossSubnet: the next hop decides. A second subnet this node is in by chance is not the node's.
        ("172.20.2.0/26", &["10.0.0.2"], true, Ok("10.0.0.2 eth0")),
        ("172.20.2.0/26", &["10.0.1.2"], true, Ok("10.0.1.2 tunl0 onlink")),
        ("172.20.2.0/26", &["203.0.113.9"], true, Ok("203.0.113.9 tunl0 onlink")),
        (
            "172.20.2.0/26",
            &["203.0.113.9", "203.0.113.8"],
            true,
            Ok("203.0.113.8 tunl0 onlink, 203.0.113.9 tunl0 onlink"),
        ),
        // Always.
        ("172.21.2.0/26", &["10.0.0.2"], true, Ok("10.0.0.2 tunl0 onlink")),
        // A borrowed address, and one route wider than its pool.
        ("172.21.2.7/32", &["10.0.0.2"], true, Ok("10.0.0.2 tunl0 onlink")),
        ("172.16.0.0/12", &["10.0.0.2"], true, Ok("10.0.0.2 eth0")),
        // No tunnel: closed, never plain; a neighbour needs none.
        ("172.21.2.0/26", &["10.0.0.2"], false, Err(Reason::NoTunnel(net("172.21.0.0/16")))),
        ("172.20.2.0/26", &["203.0.113.9"], false, Err(Reason::NoTunnel(net("172.20.0.0/16")))),
        ("172.20.2.0/26", &["10.0.0.2", "203.0.113.9"], false, Ok("10.0.0.2 eth0")),
        ("172.22.2.0/26", &["10.0.0.2"], true, Err(Reason::Vxlan(net("172.22.0.0/16")))),
        // Outside pools.
        ("198.51.100.0/24", &["10.0.1.254"], false, Ok("10.0.1.254 eth1")),
        ("fd09::/64", &["fd00::9"], false, Ok("fd00::9 eth6")),
        ("fd02:0:0:1::/64", &["fd00::9"], true, Ok("fd00::9 eth6")),
        // Local wins, inside a local block others may have borrowed.
        ("192.168.1.0/26", &["10.0.0.2"], false, Ok("local")),
        ("10.0.0.0/24", &["10.0.0.2"], false, Ok("local")),
        ("10.0.0.1/32", &["10.0.0.2"], false, Ok("local")),
        ("172.20.0.1/32", &["10.0.0.2"], true, Ok("local")),
        ("192.168.1.5/32", &["10.0.0.2"], false, Ok("10.0.0.2 eth0")),
        // Nonsense.
        ("192.168.2.0/26", &["10.0.0.1"], false, Err(Reason::OwnNextHop(hop("10.0.0.1")))),
        ("192.168.2.0/26", &["fd00::9"], false, Err(Reason::OtherFamily(hop("fd00::9")))),
        ("fd09::/64", &["fe80::9"], false, Err(Reason::Unreachable(hop("fe80::9")))),
        ("fd09::/64", &["fd77::9"], false, Err(Reason::Unreachable(hop("fd77::9")))),
        ("127.0.0.0/8", &["10.0.0.2"], false, Err(Reason::Martian)),
        ("224.0.0.0/4", &["10.0.0.2"], false, Err(Reason::Martian)),
        ("169.254.1.1/32", &["10.0.0.2"], false, Err(Reason::Martian)),
        ("fe80::/10", &["fd00::9"], false, Err(Reason::Martian)),
        // Somebody's default route stays.
        ("0.0.0.0/0", &["10.0.1.254"], false, Err(Reason::Foreign(4))),
        ("::/0", &["fd00::9"], false, Ok("fd00::9 eth6")),
        // A tunnel's own packets must find another way than the tunnel.
        ("172.21.0.0/16", &["172.21.0.9"], true, Err(Reason::Loop(hop("172.21.0.9")))),
    ];
    for (prefix, hops, tunnel, expected) in cases {
        let expected = expected.clone().map(str::to_string);
        assert_eq!(one(&plain, prefix, hops, *tunnel), expected, "{prefix} via {hops:?}");
    }
}

#[test]
fn next_hops_are_resolved_over_foreign_routes_only() {
    let unresolved = |resolver: &Resolver| one(resolver, "192.168.2.0/26", &["203.0.113.9"], false).is_err();
    assert!(unresolved(&resolver(&[])));
    // Our own routes, overlays, workload interfaces, blackholes lead nowhere.
    assert!(unresolved(&resolver(&[("203.0.113.0/24", 81, Some("10.0.0.254"), 2)])));
    assert!(unresolved(&resolver(&[("203.0.113.0/24", 80, Some("10.0.0.254"), 2)])));
    assert!(unresolved(&resolver(&[
        ("203.0.113.0/24", 4, None, 5),
        ("0.0.0.0/0", 4, Some("10.0.0.254"), 2)
    ])));
    assert!(unresolved(&resolver(&[("203.0.113.0/24", 4, None, 6)])));
    assert!(unresolved(&resolver(&[
        ("203.0.113.0/24", 4, None, 0),
        ("0.0.0.0/0", 4, Some("10.0.0.254"), 2)
    ])));
    // The longest match, over all its hops.
    let two = resolver(&[
        ("0.0.0.0/0", 4, Some("10.0.0.254"), 2),
        ("203.0.113.0/24", 186, Some("10.0.1.254"), 3),
        ("203.0.113.0/24", 186, Some("10.0.0.253"), 2),
    ]);
    let expected = Ok("10.0.0.253 eth0, 10.0.1.254 eth1".to_string());
    assert_eq!(one(&two, "192.168.2.0/26", &["203.0.113.9"], false), expected);
}

#[test]
fn a_neighbour_is_not_sought_over_the_default_route() {
    // eth0 is down: its connected route is gone, the default route stays.
    let links = BTreeMap::from([(
        "eth1".to_string(),
        Link {
            name: "eth1".into(),
            index: 3,
            up: true,
            addresses: [net("10.0.1.1/24")].into(),
            ..Link::default()
        },
    )]);
    let route = |prefix: &str, gateway: Option<&str>| {
        let hops =
            vec![Hop { gateway: gateway.map(|text| text.parse().unwrap()), interface: 3, onlink: false }];
        let key = RouteKey { prefix: net(prefix), metric: 0 };
        (key, Route { protocol: 4, kind: RouteKind::Unicast, link_scope: false, hops, group: None })
    };
    let resolver =
        Resolver::new(&[route("10.0.1.0/24", None), route("0.0.0.0/0", Some("10.0.1.254"))], &links);
    let reason = Reason::NotOnLink("10.0.0.2".parse().unwrap());
    assert_eq!(one(&resolver, "192.168.2.0/26", &["10.0.0.2"], false), Err(reason));
    assert_eq!(one(&resolver, "192.168.2.0/26", &["203.0.113.2"], false), Ok("10.0.1.254 eth1".into()));
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        prop::sample::select(vec![
            "10.0.0.2",
            "10.0.0.1",
            "10.0.1.9",
            "203.0.113.4",
            "172.21.3.4",
            "192.168.1.9",
            "fd00::7"
        ])
        .prop_map(|text| text.parse().unwrap()),
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
    ]
}

fn any_prefix() -> impl Strategy<Value = IpNetwork> {
    let any = prop_oneof![
        (any::<u32>(), 0u8..=32)
            .prop_map(|(bits, length)| IpNetwork::new(IpAddr::V4(bits.into()), length).unwrap()),
        (
            prop::sample::select(vec![[172u8, 20], [172, 21], [172, 22], [192, 168]]),
            any::<[u8; 2]>(),
            16u8..=32
        )
            .prop_map(|(head, tail, length)| {
                IpNetwork::new(IpAddr::from([head[0], head[1], tail[0], tail[1]]), length).unwrap()
            }),
    ];
    any.prop_map(|prefix| IpNetwork::new(prefix.network(), prefix.prefix()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn for_any_table(
        table in prop::collection::btree_map(any_prefix(), prop::collection::btree_set(any_address(), 0..4), 0..12),
        tunnel in any::<bool>(),
    ) {
        let resolver = resolver(&[("0.0.0.0/0", 4, Some("10.0.0.254"), 2)]);
        let routes = table.into_iter().map(|(prefix, hops)| {
            (prefix, LearnedRoute { next_hops: hops.into_iter().collect(), internal: true, local_pref: 100 })
        });
        let local = BTreeSet::from([net("192.168.1.0/26"), net("192.168.1.9/32")]);
        let surroundings =
            Surroundings { context: context(), local: local.clone(), tunnel, ..Surroundings::default() };
        let fib = from_scratch(&routes.collect(), &surroundings, &resolver);
        let contexts = context();
        for (prefix, target) in &fib.routes {
            prop_assert!(!local.contains(prefix) && !fib.left_out.contains_key(prefix));
            prop_assert_eq!(prefix.ip(), prefix.network());
            let RouteTarget::Gateways(gateways) = target else { panic!("{target:?}") };
            prop_assert!(!gateways.is_empty() && gateways.is_sorted());
            let pool = contexts.pools.iter().find(|pool| contains(&pool.cidr, prefix));
            prop_assert!(pool.is_none_or(|pool| pool.vxlan == EncapMode::Never));
            for gateway in gateways {
                let ipip = pool.map_or(EncapMode::Never, |pool| pool.ipip);
                let in_tunnel = gateway.interface == IPIP_DEVICE;
                prop_assert_eq!(in_tunnel, gateway.onlink);
                prop_assert!(tunnel || !in_tunnel);
                match ipip {
                    EncapMode::Always => prop_assert!(in_tunnel),
                    EncapMode::Never => prop_assert!(!in_tunnel),
                    EncapMode::CrossSubnet => {
                        prop_assert_eq!(in_tunnel, !net("10.0.0.0/24").contains(gateway.address));
                    }
                }
            }
        }
    }
}

mod changes;
