//! Properties of the cycle for any state of the kernel and any desired state: it converges, a second cycle writes nothing,
//! foreign objects are untouched, a failure at any call is made good by trying again.

use super::*;
use crate::dataplane::owner::LEARNED_PROTOCOL;
use crate::kernel::{Nexthop, NexthopObject};

const NAMES: [&str; 4] = ["cali1", "cali2", "cali3", "cali4"];

/// Interfaces of workloads that are there, some of them down.
fn present() -> impl Strategy<Value = Vec<(&'static str, bool)>> {
    let links = prop::collection::vec(prop::option::weighted(0.8, prop::bool::weighted(0.8)), NAMES.len());
    links.prop_map(|links| NAMES.into_iter().zip(links).filter_map(|(name, up)| Some((name, up?))).collect())
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1u8..8).prop_map(|last| IpAddr::from([192, 168, 1, last])),
        (1u16..5).prop_map(|last| IpAddr::from([0xfd01, 0, 0, 0, 0, 0, 0, last])),
    ]
}

fn interfaces() -> impl Strategy<Value = BTreeMap<String, WorkloadInterface>> {
    let mac = prop::option::weighted(0.8, (0u8..3).prop_map(|last| [2, 0, 0, 0, 0, last]));
    let workload = (prop::collection::btree_set(address(), 0..3), mac)
        .prop_map(|(addresses, mac)| WorkloadInterface { addresses, mac });
    prop::collection::btree_map(prop::sample::select(&NAMES).prop_map(str::to_string), workload, 0..4)
}

fn desired() -> impl Strategy<Value = Desired> {
    let target = prop_oneof![
        Just(RouteTarget::Blackhole),
        prop::sample::select(&NAMES).prop_map(|name| RouteTarget::Device(name.into())),
    ];
    let prefixes =
        prop::sample::select(vec!["192.168.1.0/26", "192.168.1.64/26", "192.168.1.3/32", "fd01::/122"]);
    let routes = prop::collection::btree_map(prefixes.prop_map(net), target, 0..3);
    let ipip = prop::option::of((1u8..3, 0u32..2).prop_map(|(last, mtu)| IpipDevice {
        address: (last > 1).then_some(Ipv4Addr::new(172, 20, 0, last)),
        mtu: 1440 + mtu,
    }));
    (interfaces(), routes, ipip).prop_map(|(interfaces, routes, ipip)| Desired {
        interfaces,
        routes,
        ipip,
        route_context: context(),
        ..Desired::default()
    })
}

fn learned_routes() -> impl Strategy<Value = Learned> {
    let prefix = prop::sample::select(vec![
        "192.168.2.0/26",
        "192.168.1.0/26",
        "192.168.1.1/32",
        "172.20.5.0/26",
        "172.21.0.0/26",
        "0.0.0.0/0",
        "10.0.0.0/24",
    ]);
    let hop = prop::sample::select(vec!["10.0.0.2", "10.0.0.3", "10.0.1.4", "203.0.113.1", "10.0.0.1"]);
    let hops = prop::collection::btree_set(hop, 1..3);
    (prop::collection::vec((prefix, hops), 0..5), Just(true)).prop_map(|(list, converged)| {
        let list: Vec<(&str, Vec<&str>)> =
            list.into_iter().map(|(prefix, hops)| (prefix, hops.into_iter().collect())).collect();
        let list: Vec<(&str, &[&str])> =
            list.iter().map(|(prefix, hops)| (*prefix, hops.as_slice())).collect();
        learned(&list, converged)
    })
}

/// Things left behind by an earlier run or put there by somebody.
#[derive(Clone, Debug)]
enum Clutter {
    Route(&'static str, u8, u32),
    Neighbour(u32, u8),
    Setting(&'static str),
    Tunnel,
    /// A next hop of ours under this number, by the last octet of its gateway, and a route over it.
    Object(u32, u8),
    /// A group of ours of two next hops, and a route over it.
    Group(u32, u8),
    /// Somebody else's in our range.
    ForeignObject(u32),
}

fn clutter() -> impl Strategy<Value = Vec<Clutter>> {
    let prefix = prop::sample::select(vec![
        "192.168.1.1/32",
        "192.168.1.64/26",
        "192.168.2.0/26",
        "172.20.5.0/26",
        "198.51.100.0/24",
        "fd01::1/128",
    ]);
    let one = prop_oneof![
        (prefix, prop::sample::select(vec![3u8, 4, 12, 80, 81]), prop::sample::select(vec![2u32, 3, 10, 11]))
            .prop_map(|(prefix, protocol, interface)| Clutter::Route(prefix, protocol, interface)),
        (prop::sample::select(vec![2u32, 10, 11]), 1u8..8)
            .prop_map(|(interface, last)| Clutter::Neighbour(interface, last)),
        prop::sample::select(&NAMES).prop_map(Clutter::Setting),
        Just(Clutter::Tunnel),
        (0u32..6, 1u8..5).prop_map(|(number, last)| Clutter::Object(number, last)),
        (0u32..6, 1u8..5).prop_map(|(number, last)| Clutter::Group(number, last)),
        (0u32..6).prop_map(Clutter::ForeignObject),
    ];
    prop::collection::vec(one, 0..6)
}

/// Only onto interfaces that are there and up: the kernel would hold nothing else.
fn strew(state: &mut State, clutter: &[Clutter]) {
    for item in clutter {
        match item {
            Clutter::Route(prefix, protocol, interface) => {
                if state.links.values().any(|link| link.index == *interface && link.up) {
                    let hops = vec![Hop { gateway: None, interface: *interface, onlink: false }];
                    let kind = RouteKind::Unicast;
                    let route = Route { protocol: *protocol, kind, link_scope: false, hops, group: None };
                    state.routes.insert(key(prefix), route);
                }
            }
            Clutter::Neighbour(interface, last) => {
                if state.links.values().any(|link| link.index == *interface && link.up) {
                    let address = Ipv4Addr::new(192, 168, 1, *last);
                    state.neighbours.insert(NeighbourKey { interface: *interface, address }, [4; 6]);
                }
            }
            Clutter::Setting(name) => {
                if let Some(value) = state.sysctls.get_mut(&format!("net/ipv4/conf/{name}/proxy_arp")) {
                    *value = "0".into();
                }
            }
            Clutter::Object(number, last) => {
                add_object(state, *number, LEARNED_PROTOCOL, hop(*last));
                route_over(state, *number);
            }
            Clutter::Group(number, last) => {
                let (one, other) = (10 + 2 * number, 11 + 2 * number);
                add_object(state, one, LEARNED_PROTOCOL, hop(*last));
                add_object(state, other, LEARNED_PROTOCOL, hop(last + 1));
                let first = owner::NEXTHOP_IDS.start;
                add_object(
                    state,
                    *number,
                    LEARNED_PROTOCOL,
                    Nexthop::Group(vec![first + one, first + other]),
                );
                route_over(state, *number);
            }
            Clutter::ForeignObject(number) => add_object(state, *number, 196, hop(9)),
            Clutter::Tunnel => {
                let addresses = BTreeSet::from([net("172.20.0.77/32")]);
                let link = Link { name: "tunl0".into(), index: 90, mtu: 1400, addresses, ..Link::default() };
                state.links.entry("tunl0".into()).or_insert(link);
            }
        }
    }
}

fn hop(last: u8) -> Nexthop {
    let gateway = Some(IpAddr::from([10, 0, 0, last]));
    Nexthop::Hop(Hop { gateway, interface: 2, onlink: false })
}

fn add_object(state: &mut State, number: u32, protocol: u8, nexthop: Nexthop) {
    state.nexthops.entry(owner::NEXTHOP_IDS.start + number).or_insert(NexthopObject { protocol, nexthop });
}

fn route_over(state: &mut State, number: u32) {
    let group = Some(owner::NEXTHOP_IDS.start + number);
    let kind = RouteKind::Unicast;
    let route = Route { protocol: LEARNED_PROTOCOL, kind, link_scope: false, hops: Vec::new(), group };
    state.routes.entry(key("192.168.2.0/26")).or_insert(route);
}

/// What is not ours.
fn foreign(state: &State) -> State {
    let names: BTreeMap<u32, String> =
        state.links.values().map(|link| (link.index, link.name.clone())).collect();
    let name = |index: u32| names.get(&index).map(String::as_str);
    let mut foreign = state.clone();
    foreign.routes.retain(|_, route| !owner::is_our_route(route, name));
    foreign.nexthops.retain(|id, object| !owner::is_our_nexthop(*id, object));
    foreign.neighbours.retain(|key, _| !name(key.interface).is_some_and(owner::is_workload_interface));
    foreign.links.remove("tunl0");
    foreign.sysctls.retain(|path, _| path.contains("default"));
    foreign.table = None;
    foreign.generation = 0;
    foreign
}

/// Objects of ours numbered in order of what they are, and routes with where they lead.
fn renumbered(state: &State) -> State {
    let mut renumbered = state.clone();
    let ours = state.nexthops.iter().filter(|(id, object)| owner::is_our_nexthop(**id, object));
    let mut ours: Vec<(bool, Vec<Hop>, u32)> = ours
        .map(|(id, object)| (matches!(object.nexthop, Nexthop::Group(_)), state.hops_of(*id), *id))
        .collect();
    ours.sort();
    let numbers: BTreeMap<u32, u32> = ours
        .iter()
        .enumerate()
        .map(|(place, (_, _, id))| (*id, owner::NEXTHOP_IDS.start + 1000 + place as u32))
        .collect();
    let number = |id: u32| numbers.get(&id).copied().unwrap_or(id);
    renumbered.nexthops = state
        .nexthops
        .clone()
        .into_iter()
        .map(|(id, mut object)| {
            if let Nexthop::Group(members) = &mut object.nexthop {
                members.iter_mut().for_each(|member| *member = number(*member));
                members.sort();
            }
            (number(id), object)
        })
        .collect();
    renumbered.routes = state
        .told_routes()
        .into_iter()
        .map(|(key, route)| (key, Route { group: route.group.map(number), ..route }))
        .collect();
    renumbered
}

/// The kernel without what is a matter of history.
fn settled(state: State) -> State {
    let mut state = renumbered(&state);
    state.generation = 0;
    // The device cannot be deleted; idle, its MTU and state are of no concern.
    state.links.retain(|name, link| name != "tunl0" || !link.addresses.is_empty());
    state
}

/// Cycles until nothing is left to do.
fn run(engine: &mut Engine<FakeKernel>, desired: &Desired, learned: &Learned, mut dirty: Dirty) -> Applied {
    for _ in 0..4 {
        let outcome = engine.run(desired, learned, dirty);
        if !outcome.retry {
            return outcome.applied;
        }
        dirty = Dirty::default();
    }
    panic!("does not come to an end: {:?}", engine.run(desired, learned, Dirty::ALL));
}

/// The kernel after a fresh process has done its work on it.
fn fresh(state: &State, desired: &Desired, learned: &Learned) -> (FakeKernel, Applied) {
    let kernel = FakeKernel::new(state.clone());
    let applied = run(&mut engine(&kernel), desired, learned, Dirty::ALL);
    (kernel, applied)
}

/// Not in the way of local routes: then there is a conflict that stays, and each cycle tries again.
fn in_the_way(state: &State, desired: &Desired) -> bool {
    let local = routes::local_prefixes(desired);
    foreign(state).routes.keys().any(|key| local.contains(&key.prefix))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn converges_and_a_second_cycle_writes_nothing(
        present in present(), clutter in clutter(), desired in desired(), learned in learned_routes(),
        no_objects in prop::bool::weighted(0.2), no_carrier in prop::bool::weighted(0.2),
    ) {
        let mut state = machine(&present);
        state.set_carrier("eth0", !no_carrier);
        strew(&mut state, &clutter);
        prop_assume!(!in_the_way(&state, &desired));
        if no_objects {
            state.nexthops.clear();
            state.routes.retain(|_, route| route.group.is_none());
            state.no_objects = true;
        }
        let (kernel, applied) = fresh(&state, &desired, &learned);
        prop_assert_eq!(foreign(&kernel.state()), foreign(&state));
        check(&kernel.state(), &desired, &applied)?;
        kernel.take_writes();
        // The same process reading everything again, and a new one: nothing is left to write.
        let mut second = engine(&kernel);
        let again = run(&mut second, &desired, &learned, Dirty::ALL);
        prop_assert_eq!(kernel.take_writes(), Vec::<String>::new());
        prop_assert_eq!(&again, &applied);
        run(&mut second, &desired, &learned, Dirty::ALL);
        prop_assert_eq!(kernel.take_writes(), Vec::<String>::new());
    }

    #[test]
    fn a_failure_at_any_call_is_made_good(
        present in present(), clutter in clutter(), desired in desired(), learned in learned_routes(),
        errno in prop::sample::select(vec![Errno::EPERM, Errno::ENODEV, Errno::EEXIST, Errno::ENOBUFS]),
    ) {
        let mut state = machine(&present);
        strew(&mut state, &clutter);
        prop_assume!(!in_the_way(&state, &desired));
        let (reference, applied) = fresh(&state, &desired, &learned);
        for n in 0..reference.calls() {
            let kernel = FakeKernel::new(state.clone());
            kernel.fail_at(n, errno);
            let after = run(&mut engine(&kernel), &desired, &learned, Dirty::ALL);
            prop_assert_eq!(settled(kernel.state()), settled(reference.state()), "call {} failed", n);
            prop_assert_eq!(&after, &applied);
        }
    }

    #[test]
    fn any_way_to_a_desired_state_leads_to_the_same_kernel(
        present in present(), steps in prop::collection::vec((desired(), learned_routes()), 1..5),
    ) {
        let state = machine(&present);
        let kernel = FakeKernel::new(state.clone());
        let mut engine = engine(&kernel);
        let mut dirty = Dirty::ALL;
        for (desired, learned) in &steps {
            // After the first cycle nothing is read: each step costs its difference.
            let applied = run(&mut engine, desired, learned, dirty);
            dirty = Dirty::default();
            let (reference, expected) = fresh(&state, desired, learned);
            let (is, should) = (ours(&kernel.state()), ours(&reference.state()));
            prop_assert_eq!(is, should);
            prop_assert_eq!(applied, expected);
        }
    }

    #[test]
    fn what_others_spoil_is_repaired(
        present in present(), clutter in clutter(), desired in desired(), learned in learned_routes(), keep in 0usize..5,
    ) {
        let state = machine(&present);
        let (kernel, _) = fresh(&state, &desired, &learned);
        let mut engine = engine(&kernel);
        run(&mut engine, &desired, &learned, Dirty::ALL);
        let good = kernel.state();
        kernel.drift(|state| {
            let names: BTreeMap<u32, String> = state.links.values().map(|link| (link.index, link.name.clone())).collect();
            let lost: Vec<RouteKey> = state
                .routes
                .iter()
                .filter(|(_, route)| owner::is_our_route(route, |index| names.get(&index).map(String::as_str)))
                .map(|(key, _)| *key)
                .skip(keep)
                .collect();
            state.routes.retain(|key, _| !lost.contains(key));
            state.neighbours.clear();
            let objects: Vec<u32> = state.nexthops.keys().copied().skip(keep).collect();
            objects.into_iter().for_each(|id| state.remove_nexthop(id));
            let clutter: Vec<Clutter> = clutter
                .iter()
                .filter(|item| match item {
                    Clutter::Route(_, protocol, interface) => *interface >= 10 || *protocol >= 80,
                    Clutter::Setting(name) => desired.interfaces.contains_key(*name),
                    Clutter::Neighbour(..) => true,
                    Clutter::Tunnel | Clutter::ForeignObject(_) => false,
                    Clutter::Object(..) | Clutter::Group(..) => true,
                })
                .cloned()
                .collect();
            strew(state, &clutter);
            state.table = None;
            state.generation += 1;
        });
        let foreign_neighbours = foreign(&kernel.state()).neighbours;
        run(&mut engine, &desired, &learned, Dirty::ALL);
        let mut repaired = settled(kernel.state());
        repaired.neighbours.retain(|key, _| !foreign_neighbours.contains_key(key));
        prop_assert_eq!(repaired, settled(good));
    }
}

/// Routes, neighbours and the tunnel's address of ours; without indexes of a tunnel, which depend on history.
fn ours(state: &State) -> impl PartialEq + std::fmt::Debug + use<> {
    let tunnel = state.links.get("tunl0");
    let renumbered = renumbered(state);
    let routes: Vec<(RouteKey, Route)> = renumbered.routes.into_iter().collect();
    let addresses = tunnel.map(|link| link.addresses.clone()).unwrap_or_default();
    (routes, renumbered.nexthops, state.neighbours.clone(), addresses, state.table.clone())
}

/// What `Applied` says is so, and what is desired and can be is there.
fn check(state: &State, desired: &Desired, applied: &Applied) -> Result<(), TestCaseError> {
    prop_assert!(applied.ready);
    let local: BTreeSet<IpNetwork> = state
        .routes
        .iter()
        .filter(|(_, route)| route.protocol == LOCAL_PROTOCOL)
        .map(|(key, _)| key.prefix)
        .collect();
    prop_assert_eq!(&applied.routes, &local);
    for (name, workload) in &desired.interfaces {
        let link = state.links.get(name).filter(|link| link.up);
        let held = |address: &IpAddr| {
            let route = state.routes.get(&routes::key((*address).into()));
            route.is_some_and(|route| Some(route.hops[0].interface) == link.map(|link| link.index))
        };
        let wired = link.is_some() && workload.addresses.iter().all(held);
        prop_assert_eq!(applied.interfaces.contains_key(name), wired, "{}", name);
        if wired {
            prop_assert_eq!(&state.sysctls[&format!("net/ipv4/conf/{name}/proxy_arp")], "1");
            prop_assert_eq!(&state.sysctls[&format!("net/ipv4/conf/{name}/rp_filter")], "2");
        }
    }
    // One way to each address that some interface could take.
    for (name, workload) in &desired.interfaces {
        for address in workload.addresses.iter().filter(|_| state.links.get(name).is_some_and(|link| link.up))
        {
            prop_assert!(local.contains(&(*address).into()), "{}", address);
        }
    }
    prop_assert_eq!(&state.sysctls["net/ipv4/ip_forward"], "1");
    Ok(())
}
