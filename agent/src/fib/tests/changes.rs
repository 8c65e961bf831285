//! What changes bring: held ways, and that a change comes to what all of it from scratch comes to.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// `eth0` 10.0.0.1/24 and `eth1` 10.0.1.1/24 with a default route over `eth1`; the connected networks only of those named.
fn with(connected: &[&str], default: bool) -> Resolver {
    let link = |name: &str, index, address: &str| {
        let addresses = [net(address)].into();
        (name.to_string(), Link { name: name.into(), index, up: true, addresses, ..Link::default() })
    };
    let links = BTreeMap::from([link("eth0", 2, "10.0.0.1/24"), link("eth1", 3, "10.0.1.1/24")]);
    let route = |prefix: &str, protocol, gateway: Option<&str>, interface| {
        let hops = vec![Hop { gateway: gateway.map(|text| text.parse().unwrap()), interface, onlink: false }];
        let key = RouteKey { prefix: net(prefix), metric: 0 };
        (key, Route { protocol, kind: RouteKind::Unicast, link_scope: false, hops, group: None })
    };
    let mut routes = Vec::new();
    for name in connected {
        match *name {
            "eth0" => routes.push(route("10.0.0.0/24", 2, None, 2)),
            _ => routes.push(route("10.0.1.0/24", 2, None, 3)),
        }
    }
    if default {
        routes.push(route("0.0.0.0/0", 4, Some("10.0.1.254"), 3));
    }
    Resolver::new(&routes, &links)
}

fn surroundings() -> Surroundings {
    Surroundings { context: context(), ..Surroundings::default() }
}

fn learn(fib: &mut Fib, list: &[(&str, &[&str])]) {
    let change = |(prefix, hops): &(&str, &[&str])| (net(prefix), (!hops.is_empty()).then(|| via(hops)));
    fib.learn(LearnedChanges { routes: list.iter().map(change).collect(), converged: true });
}

/// What is programmed for a prefix, or why nothing.
fn outcome(fib: &Fib, prefix: &str) -> Result<String, Option<Reason>> {
    match fib.routes().get(&net(prefix)) {
        Some(RouteTarget::Gateways(gateways)) => Ok(gateways
            .iter()
            .map(|gateway| format!("{} {}", gateway.address, gateway.interface))
            .collect::<Vec<_>>()
            .join(", ")),
        Some(other) => panic!("{other:?}"),
        None => Err(fib.reason(&net(prefix)).cloned()),
    }
}

#[test]
fn the_way_to_a_neighbour_is_held_while_its_network_is_gone_and_then_given_up() {
    for (hop, interface) in [("10.0.0.2", "eth0"), ("10.0.1.9", "eth1")] {
        let mut fib = Fib::default();
        let now = Instant::now();
        fib.set_surroundings(surroundings());
        fib.set_resolver(with(&["eth0", "eth1"], true), now);
        learn(&mut fib, &[("192.168.2.0/26", &[hop])]);
        assert_eq!(fib.decide(now), [net("192.168.2.0/26")].into());
        let way = Ok(format!("{hop} {interface}"));
        assert_eq!(outcome(&fib, "192.168.2.0/26"), way);
        // The network of the neighbour vanishes twice in a row, the default route stays.
        let other = if interface == "eth0" { "eth1" } else { "eth0" };
        fib.set_resolver(with(&[other], true), now + SECOND);
        assert!(fib.decide(now + SECOND).is_empty(), "{hop}: nothing changes");
        fib.set_resolver(with(&[], true), now + 2 * SECOND);
        assert!(fib.decide(now + 2 * SECOND).is_empty());
        assert_eq!(outcome(&fib, "192.168.2.0/26"), way);
        assert_eq!(fib.held().collect::<Vec<_>>(), [hop.parse::<IpAddr>().unwrap()]);
        // Held from the first loss on.
        assert_eq!(fib.deadline(), Some(now + SECOND + HOLD));
        assert!(fib.decide(now + HOLD).is_empty());
        assert_eq!(fib.decide(now + SECOND + HOLD).len(), 1);
        let reason = Reason::NotOnLink(hop.parse().unwrap());
        assert_eq!(outcome(&fib, "192.168.2.0/26"), Err(Some(reason)), "never over the default route");
        assert_eq!(fib.deadline(), None);
        // Another reading without the network holds nothing again; back it is as before.
        fib.set_resolver(with(&[other], true), now + 2 * HOLD);
        assert!(fib.decide(now + 2 * HOLD).is_empty());
        assert_eq!(fib.deadline(), None);
        fib.set_resolver(with(&["eth0", "eth1"], true), now + 3 * HOLD);
        fib.decide(now + 3 * HOLD);
        assert_eq!(outcome(&fib, "192.168.2.0/26"), way);
    }
}

#[test]
fn a_way_that_is_back_in_time_is_held_no_longer() {
    let mut fib = Fib::default();
    let now = Instant::now();
    fib.set_surroundings(surroundings());
    fib.set_resolver(with(&["eth0", "eth1"], true), now);
    learn(&mut fib, &[("192.168.2.0/26", &["10.0.0.2"]), ("192.168.3.0/26", &["203.0.113.7"])]);
    fib.decide(now);
    // Read twice before anything is decided.
    fib.set_resolver(with(&["eth0"], false), now);
    fib.set_resolver(with(&["eth1"], true), now);
    fib.decide(now);
    assert_eq!(fib.deadline(), Some(now + HOLD));
    // What was behind a gateway is not held: it has no place of its own.
    assert_eq!(outcome(&fib, "192.168.3.0/26"), Ok("10.0.1.254 eth1".into()));
    fib.set_resolver(with(&["eth0", "eth1"], true), now + SECOND);
    assert_eq!(fib.deadline(), None);
    assert!(fib.decide(now + HOLD).is_empty());
    assert_eq!(outcome(&fib, "192.168.2.0/26"), Ok("10.0.0.2 eth0".into()));
}

#[test]
fn next_hops_are_resolved_again_when_the_kernels_routes_change() {
    let mut fib = Fib::default();
    let now = Instant::now();
    fib.set_surroundings(surroundings());
    fib.set_resolver(with(&["eth0", "eth1"], false), now);
    learn(&mut fib, &[("192.168.2.0/26", &["203.0.113.7"])]);
    fib.decide(now);
    let unreachable = Reason::Unreachable("203.0.113.7".parse().unwrap());
    assert_eq!(outcome(&fib, "192.168.2.0/26"), Err(Some(unreachable)));
    fib.set_resolver(with(&["eth0", "eth1"], true), now);
    assert_eq!(fib.decide(now).len(), 1);
    assert_eq!(outcome(&fib, "192.168.2.0/26"), Ok("10.0.1.254 eth1".into()));
}

#[test]
fn a_changed_tunnel_decision_changes_the_route_although_the_gateway_stays() {
    let mut fib = Fib::default();
    let now = Instant::now();
    fib.set_resolver(with(&["eth0", "eth1"], true), now);
    fib.set_surroundings(Surroundings { tunnel: true, ..surroundings() });
    learn(&mut fib, &[("192.168.2.0/26", &["10.0.0.2"])]);
    fib.decide(now);
    let programmed = |fib: &Fib| outcome(fib, "192.168.2.0/26").unwrap();
    assert_eq!(programmed(&fib), "10.0.0.2 eth0");
    for (ipip, expected) in [(EncapMode::Always, "10.0.0.2 tunl0"), (EncapMode::CrossSubnet, "10.0.0.2 eth0")]
    {
        let mut context = context();
        context.pools[0].ipip = ipip;
        fib.set_surroundings(Surroundings { tunnel: true, context, ..Surroundings::default() });
        fib.decide(now);
        assert_eq!(programmed(&fib), expected);
    }
}

#[test]
fn no_tunnel_swallows_a_node_and_no_service_is_routed() {
    let mut fib = Fib::default();
    let now = Instant::now();
    let mut context = context();
    // The nodes' own network lies in a pool.
    let cidr = net("10.0.0.0/16");
    context.pools = vec![PoolEncap { cidr, ipip: EncapMode::Always, vxlan: EncapMode::Never }];
    let node: IpAddr = "10.0.0.70".parse().unwrap();
    context.nodes_in_pools = [node, "10.0.0.2".parse().unwrap()].into();
    let never_program = [net("10.96.0.0/12")].into();
    fib.set_surroundings(Surroundings { context, never_program, tunnel: true, ..Surroundings::default() });
    fib.set_resolver(with(&["eth0", "eth1"], true), now);
    let refused: &[(&str, &str, Reason)] = &[
        // The block of a node that holds another node; one node's address from anywhere; its own.
        ("10.0.0.64/26", "10.0.0.2", Reason::HoldsNode(node)),
        ("10.0.0.70/32", "10.0.0.2", Reason::HoldsNode(node)),
        ("10.0.0.70/32", "10.0.0.70", Reason::Loop(node)),
        ("10.0.0.64/26", "10.0.0.70", Reason::Loop(node)),
        ("10.96.0.10/32", "10.0.0.2", Reason::Service(net("10.96.0.0/12"))),
        ("10.96.0.0/12", "10.0.0.2", Reason::Service(net("10.96.0.0/12"))),
    ];
    for (prefix, hop, reason) in refused {
        learn(&mut fib, &[(prefix, &[hop])]);
        fib.decide(now);
        assert_eq!(outcome(&fib, prefix), Err(Some(reason.clone())), "{prefix} via {hop}");
    }
    // This node's own address is never learned; other blocks of the pool go into the tunnel.
    learn(&mut fib, &[("10.0.0.1/32", &["10.0.0.2"]), ("10.0.0.128/26", &["10.0.0.2"])]);
    fib.decide(now);
    assert_eq!(outcome(&fib, "10.0.0.1/32"), Err(None));
    assert_eq!(outcome(&fib, "10.0.0.128/26"), Ok("10.0.0.2 tunl0".into()));
}

#[test]
fn a_peer_behind_a_gateway_is_reached_over_it() {
    let mut fib = Fib::default();
    let now = Instant::now();
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let reachable_by = BTreeMap::from([
        (address("203.0.113.7"), address("10.0.0.9")),
        (address("203.0.113.8"), address("192.0.2.1")),
    ]);
    fib.set_surroundings(Surroundings { reachable_by, ..surroundings() });
    fib.set_resolver(with(&["eth0", "eth1"], true), now);
    learn(&mut fib, &[("198.51.100.0/24", &["203.0.113.7"]), ("198.51.101.0/24", &["203.0.113.8"])]);
    fib.decide(now);
    assert_eq!(outcome(&fib, "198.51.100.0/24"), Ok("10.0.0.9 eth0".into()));
    let gateway = Gateway { address: address("10.0.0.9"), interface: "eth0".into(), onlink: false };
    let expected = vec![
        (net("203.0.113.7/32"), Ok(RouteTarget::Gateways(vec![gateway]))),
        (net("203.0.113.8/32"), Err(address("192.0.2.1"))),
    ];
    assert_eq!(fib.peer_routes(), expected);
    let unreachable = Reason::Unreachable(address("203.0.113.8"));
    assert_eq!(outcome(&fib, "198.51.101.0/24"), Err(Some(unreachable)));
}

#[test]
fn what_a_workload_announces_leads_to_it_whatever_the_pool() {
    let mut fib = Fib::default();
    let now = Instant::now();
    let workload_peers = BTreeMap::from([("192.168.1.5".parse().unwrap(), "cali1".to_string())]);
    fib.set_surroundings(Surroundings { workload_peers, tunnel: true, ..surroundings() });
    fib.set_resolver(with(&["eth0", "eth1"], true), now);
    let prefixes = ["198.51.100.0/24", "172.21.2.0/26", "172.22.2.0/26"];
    learn(&mut fib, &prefixes.map(|prefix| (prefix, ["192.168.1.5"].as_slice())));
    fib.decide(now);
    for prefix in prefixes {
        assert_eq!(outcome(&fib, prefix), Ok("192.168.1.5 cali1".into()), "{prefix}");
    }
    // No longer a peer: an address like any other.
    fib.set_surroundings(Surroundings { tunnel: true, ..surroundings() });
    fib.decide(now);
    assert_eq!(outcome(&fib, "172.21.2.0/26"), Ok("192.168.1.5 tunl0".into()));
}

/// A step of a history.
#[derive(Clone, Debug)]
enum Step {
    Learn(IpNetwork, Option<Vec<IpAddr>>),
    Kernel(bool, bool, bool),
    Surroundings(Surroundings),
}

fn step() -> impl Strategy<Value = Step> {
    let prefixes = prop::sample::select(vec![
        "192.168.2.0/26",
        "172.20.2.0/26",
        "172.21.2.0/26",
        "10.96.0.0/16",
        "198.51.100.0/24",
        "10.0.0.64/26",
    ]);
    let hop = prop::sample::select(vec!["10.0.0.2", "10.0.0.3", "10.0.1.9", "203.0.113.7", "10.0.0.70"]);
    let hops = prop::collection::btree_set(hop.prop_map(|hop| hop.parse().unwrap()), 1..3);
    let change = (prefixes.clone(), prop::option::weighted(0.8, hops))
        .prop_map(|(prefix, hops)| Step::Learn(net(prefix), hops.map(|hops| hops.into_iter().collect())));
    let kernel = any::<(bool, bool, bool)>().prop_map(|(a, b, c)| Step::Kernel(a, b, c));
    let local = prop::collection::btree_set(prefixes.prop_map(net), 0..3);
    let surroundings =
        (local, any::<[bool; 5]>()).prop_map(|(local, [tunnel, services, nodes, peers, workloads])| {
            let mut given = Surroundings { local, tunnel, ..surroundings() };
            given.never_program.extend(services.then(|| net("10.96.0.0/12")));
            given.context.nodes_in_pools.extend(nodes.then(|| "172.20.2.9".parse::<IpAddr>().unwrap()));
            let peer: (IpAddr, IpAddr) = ("203.0.113.7".parse().unwrap(), "10.0.0.9".parse().unwrap());
            given.reachable_by.extend(peers.then_some(peer));
            given
                .workload_peers
                .extend(workloads.then(|| ("10.0.0.3".parse::<IpAddr>().unwrap(), "cali1".to_string())));
            Step::Surroundings(given)
        });
    prop_oneof![4 => change, 1 => kernel, 1 => surroundings]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_comes_to_what_its_end_comes_to(steps in prop::collection::vec(step(), 1..30)) {
        let mut fib = Fib::default();
        let mut now = Instant::now();
        let (mut table, mut resolver, mut given) =
            (BTreeMap::new(), with(&["eth0", "eth1"], true), Surroundings::default());
        let mut mirror: BTreeMap<IpNetwork, RouteTarget> = BTreeMap::new();
        fib.set_resolver(resolver.clone(), now);
        for step in steps {
            now += SECOND;
            match step {
                Step::Learn(prefix, hops) => {
                    let route = hops.map(|next_hops| LearnedRoute { next_hops, internal: true, local_pref: 100 });
                    fib.learn(LearnedChanges { routes: [(prefix, route.clone())].into(), converged: true });
                    table.remove(&prefix);
                    table.extend(route.map(|route| (prefix, route)));
                }
                Step::Kernel(eth0, eth1, default) => {
                    let connected: Vec<&str> =
                        [("eth0", eth0), ("eth1", eth1)].iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
                    resolver = with(&connected, default);
                    fib.set_resolver(resolver.clone(), now);
                }
                Step::Surroundings(surroundings) => {
                    fib.set_surroundings(surroundings.clone());
                    given = surroundings;
                }
            }
            // Whoever follows the changes has all of it.
            for prefix in fib.decide(now) {
                mirror.remove(&prefix);
                mirror.extend(fib.routes().get(&prefix).map(|target| (prefix, target.clone())));
            }
            prop_assert_eq!(&mirror, fib.routes());
        }
        // Once nothing is held any more.
        fib.decide(now + HOLD);
        let fresh = from_scratch(&table, &given, &resolver);
        prop_assert_eq!(fib.routes(), fresh.routes());
        prop_assert_eq!(fib.left_out(), fresh.left_out());
        prop_assert_eq!(fib.deadline(), None);
    }
}
