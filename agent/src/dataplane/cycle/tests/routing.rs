//! Learned routes and what belongs to them on the way into the kernel: groups, carriers, peers behind gateways, addresses
//! for peers among the workloads.

use super::*;
use crate::kernel::{Nexthop, NexthopObject};

const BOTH: &[&str] = &["10.0.0.2", "10.0.0.3"];

fn plain() -> Desired {
    Desired { route_context: context(), ..Desired::default() }
}

/// Gateways of a route, and whether it is over a group.
fn way(kernel: &FakeKernel, prefix: &str) -> (bool, Vec<String>) {
    let told = kernel.state().told_routes();
    let Some((_, route)) = told.into_iter().find(|(found, _)| *found == key(prefix)) else {
        return (false, Vec::new());
    };
    let gateways = route.hops.iter().map(|hop| hop.gateway.map_or("-".into(), |gateway| gateway.to_string()));
    (route.group.is_some(), gateways.collect())
}

fn grouped(gateways: &[&str]) -> (bool, Vec<String>) {
    (true, gateways.iter().map(ToString::to_string).collect())
}

fn inline(gateways: &[&str]) -> (bool, Vec<String>) {
    (false, gateways.iter().map(ToString::to_string).collect())
}

fn order(writes: &[String]) -> Vec<&str> {
    let kinds = writes.iter().filter_map(|write| {
        let kind = write.split(['(', ' ']).next().unwrap();
        ["Set", "Add", "Replace", "Remove"].contains(&kind).then(|| match write.contains("RouteKey") {
            true => {
                if kind == "Remove" {
                    "route gone"
                } else {
                    "route"
                }
            }
            false => {
                if kind == "Remove" {
                    "object gone"
                } else {
                    "object"
                }
            }
        })
    });
    let mut kinds: Vec<&str> = kinds.collect();
    kinds.dedup();
    kinds
}

#[test]
fn objects_come_before_the_routes_over_them_and_go_after() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let outcome = engine.run(&plain(), &learned(&[("192.168.2.0/26", BOTH)], true), Dirty::ALL);
    assert!(!outcome.retry, "{outcome:?}");
    assert_eq!(order(&kernel.take_writes()), ["object", "route"]);
    assert_eq!(way(&kernel, "192.168.2.0/26"), grouped(BOTH));
    // From two to one to three and away.
    let steps: [(&[&str], &[&str]); 3] = [
        (&["10.0.0.2"], &["route", "object gone"]),
        (&["10.0.0.2", "10.0.0.3", "10.0.0.4"], &["object", "route"]),
        (&[], &["route gone", "object gone"]),
    ];
    for (hops, expected) in steps {
        let list = [("192.168.2.0/26", hops)];
        let table = learned(if hops.is_empty() { &[] } else { &list }, true);
        let outcome = engine.run(&plain(), &table, Dirty::default());
        assert!(!outcome.retry, "{outcome:?}");
        assert_eq!(order(&kernel.take_writes()), expected, "{hops:?}");
        assert_eq!(
            way(&kernel, "192.168.2.0/26"),
            (hops.len() > 1, hops.iter().map(ToString::to_string).collect())
        );
    }
    assert!(kernel.state().nexthops.is_empty());
}

#[test]
fn a_kernel_without_objects_gets_multipath_routes() {
    let kernel = FakeKernel::new(State { no_objects: true, ..machine(&[]) });
    let mut engine = engine(&kernel);
    let outcome = engine.run(&plain(), &learned(&[("192.168.2.0/26", BOTH)], true), Dirty::ALL);
    assert!(!outcome.retry && outcome.applied.failures.is_empty(), "{outcome:?}");
    assert_eq!(way(&kernel, "192.168.2.0/26"), inline(BOTH));
    // The same node after an upgrade of its kernel.
    kernel.drift(|state| state.no_objects = false);
    engine.run(&plain(), &learned(&[("192.168.2.0/26", BOTH)], true), Dirty::ALL);
    assert_eq!(way(&kernel, "192.168.2.0/26"), grouped(BOTH));
}

#[test]
fn a_route_waits_for_its_group() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    engine.run(&plain(), &learned(&[], true), Dirty::ALL);
    // The second next hop is refused, and so is the group.
    kernel.fail_at(1, Errno::ENOBUFS);
    let table = learned(&[("192.168.2.0/26", BOTH)], true);
    let outcome = engine.run(&plain(), &table, Dirty::default());
    assert!(outcome.retry);
    assert_eq!(way(&kernel, "192.168.2.0/26"), inline(&[]));
    assert!(
        outcome.applied.failures.keys().all(|object| object.starts_with("nexthop object")),
        "{outcome:?}"
    );
    let outcome = engine.run(&plain(), &table, Dirty::default());
    assert!(!outcome.retry, "{outcome:?}");
    assert_eq!(way(&kernel, "192.168.2.0/26"), grouped(BOTH));
}

#[test]
fn without_a_carrier_a_route_leads_on_over_what_has_one_or_stays() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let table = learned(&[("192.168.2.0/26", BOTH), ("192.168.3.0/26", &["10.0.0.2", "10.0.1.4"])], true);
    engine.run(&plain(), &table, Dirty::ALL);
    let hint = Dirty { links: true, ..Dirty::default() };
    for (carrier, first, second) in [
        (false, inline(BOTH), inline(&["10.0.1.4"])),
        (true, grouped(BOTH), grouped(&["10.0.0.2", "10.0.1.4"])),
    ] {
        kernel.drift(|state| state.set_carrier("eth0", carrier));
        let outcome = engine.run(&plain(), &table, hint);
        assert!(!outcome.retry && outcome.applied.failures.is_empty(), "{outcome:?}");
        assert_eq!(way(&kernel, "192.168.2.0/26"), first);
        assert_eq!(way(&kernel, "192.168.3.0/26"), second);
    }
}

#[test]
fn a_changed_encapsulation_rewrites_the_route_at_once() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let ipip = IpipDevice { address: Some(Ipv4Addr::new(172, 20, 0, 1)), mtu: 1440 };
    let mut desired = Desired { ipip: Some(ipip), ..plain() };
    let table = learned(&[("192.168.2.0/26", &["10.0.0.2"])], true);
    engine.run(&desired, &table, Dirty::ALL);
    let tunnel = kernel.state().links["tunl0"].index;
    for (mode, interface) in [(EncapMode::Always, tunnel), (EncapMode::CrossSubnet, 2), (EncapMode::Never, 2)]
    {
        desired.route_context.pools[0].ipip = mode;
        kernel.take_writes();
        engine.run(&desired, &table, Dirty::default());
        let route = kernel.state().routes[&key("192.168.2.0/26")].clone();
        assert_eq!(route.hops[0].interface, interface, "{mode:?}");
        assert_eq!(route.hops[0].onlink, interface == tunnel);
        // In one step, without a moment without.
        assert!(kernel.take_writes().iter().all(|write| write.starts_with("Replace")));
    }
}

#[test]
fn a_held_way_asks_for_a_cycle_and_is_named() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let table = learned(&[("192.168.2.0/26", &["10.0.0.2"])], true);
    let now = Instant::now();
    assert_eq!(engine.run_at(&plain(), &table, Dirty::ALL, now).wake, None);
    kernel.drift(|state| drop(state.routes.remove(&key("10.0.0.0/24"))));
    let outcome = engine.run_at(&plain(), &table, Dirty::ALL, now);
    assert_eq!(outcome.wake, Some(now + crate::fib::HOLD));
    assert!(outcome.applied.failures["next hop 10.0.0.2"].contains("stay as they were"), "{outcome:?}");
    assert_eq!(way(&kernel, "192.168.2.0/26"), inline(&["10.0.0.2"]));
    let outcome = engine.run_at(&plain(), &table, Dirty::default(), now + crate::fib::HOLD);
    assert_eq!(way(&kernel, "192.168.2.0/26"), inline(&[]));
    assert!(
        outcome.applied.failures["next hop 10.0.0.2"].contains("on none of its interfaces"),
        "{outcome:?}"
    );
}

#[test]
fn a_peer_behind_a_gateway_gets_a_route_and_leads_its_own_there() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut desired = plain();
    desired.reachable_by =
        [(address("203.0.113.7"), address("10.0.0.9")), (address("203.0.113.8"), address("198.51.100.1"))]
            .into();
    let table = learned(&[("198.51.100.0/24", &["203.0.113.7"])], true);
    let outcome = engine.run(&desired, &table, Dirty::ALL);
    assert!(!outcome.retry, "{outcome:?}");
    let state = kernel.state();
    let route = &state.routes[&key("203.0.113.7/32")];
    assert_eq!((route.protocol, way(&kernel, "203.0.113.7/32")), (LOCAL_PROTOCOL, inline(&["10.0.0.9"])));
    assert_eq!(way(&kernel, "198.51.100.0/24"), inline(&["10.0.0.9"]));
    assert!(!state.routes.contains_key(&key("203.0.113.8/32")));
    assert!(outcome.applied.failures["peer 203.0.113.8"].contains("198.51.100.1 is no neighbour"));
    engine.run(&plain(), &table, Dirty::default());
    assert!(!kernel.state().routes.contains_key(&key("203.0.113.7/32")));
    assert_eq!(way(&kernel, "198.51.100.0/24"), inline(&["10.0.0.254"]));
}

#[test]
fn workloads_that_are_peers_find_an_address_to_dial_and_others_none() {
    let mut state = machine(&[("cali1", true), ("cali2", true), ("cali3", false)]);
    state.links.get_mut("cali2").unwrap().addresses.extend([net("169.254.7.7/32"), net("fe80::1/64")]);
    let kernel = FakeKernel::new(state);
    let mut engine = engine(&kernel);
    let both: BTreeSet<IpAddr> = ["169.254.9.9".parse().unwrap(), "fd09::9".parse().unwrap()].into();
    let mut desired = plain();
    for name in ["cali1", "cali3", "cali9", "eth0"] {
        desired.peering_addresses.insert(name.into(), both.clone());
    }
    let outcome = engine.run(&desired, &learned(&[], true), Dirty::ALL);
    assert!(!outcome.retry && outcome.applied.failures.is_empty(), "{outcome:?}");
    let addresses = |name: &str| kernel.state().links[name].addresses.clone();
    assert_eq!(addresses("cali1"), [net("169.254.9.9/32"), net("fd09::9/128")].into());
    assert_eq!(addresses("cali2"), [net("fe80::1/64")].into());
    assert_eq!(addresses("cali3"), BTreeSet::new());
    assert_eq!(addresses("eth0"), [net("10.0.0.1/24")].into());
    kernel.take_writes();
    engine.run(&desired, &learned(&[], true), Dirty { ruleset: false, ..Dirty::ALL });
    assert_eq!(kernel.take_writes(), Vec::<String>::new());
    engine.run(&plain(), &learned(&[], true), Dirty::default());
    assert_eq!(addresses("cali1"), BTreeSet::new());
}

#[test]
fn service_ranges_are_never_programmed_and_nobody_is_told() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let mut desired = plain();
    let table = learned(&[("10.96.0.0/16", &["10.0.0.2"])], false);
    engine.run(&desired, &table, Dirty::ALL);
    assert_eq!(way(&kernel, "10.96.0.0/16"), inline(&["10.0.0.2"]));
    desired.never_program.insert(net("10.96.0.0/12"));
    let outcome = engine.run(&desired, &table, Dirty::default());
    assert_eq!(way(&kernel, "10.96.0.0/16"), inline(&[]), "not even before convergence");
    assert!(outcome.applied.failures.is_empty(), "{outcome:?}");
}

#[test]
fn strangers_objects_are_left_alone_whatever_their_number() {
    let mut state = machine(&[]);
    let hop = Nexthop::Hop(Hop { gateway: Some("10.0.0.7".parse().unwrap()), interface: 2, onlink: false });
    let first = owner::NEXTHOP_IDS.start;
    for (id, protocol) in [(first, 4), (first + 1, 196), (7, 81), (owner::NEXTHOP_IDS.end, 81)] {
        state.nexthops.insert(id, NexthopObject { protocol, nexthop: hop.clone() });
    }
    let kernel = FakeKernel::new(state.clone());
    let mut engine = engine(&kernel);
    engine.run(&plain(), &learned(&[("192.168.2.0/26", BOTH)], true), Dirty::ALL);
    assert_eq!(way(&kernel, "192.168.2.0/26"), grouped(BOTH));
    engine.run(&plain(), &learned(&[], true), Dirty::ALL);
    assert_eq!(kernel.state().nexthops, state.nexthops);
}

#[test]
fn an_object_of_another_kind_under_a_groups_number_is_put_right_with_its_routes() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let table = learned(&[("192.168.2.0/26", BOTH)], true);
    engine.run(&plain(), &table, Dirty::ALL);
    kernel.take_writes();
    let good = kernel.state();
    for keep in [true, false] {
        kernel.drift(|state| {
            let group = state.routes[&key("192.168.2.0/26")].clone();
            let ids: Vec<u32> = state.nexthops.keys().copied().collect();
            for id in ids.into_iter().filter(|id| !keep || Some(*id) == group.group) {
                state.remove_nexthop(id);
            }
            let hop = Hop { gateway: Some("10.0.0.7".parse().unwrap()), interface: 2, onlink: false };
            let object = NexthopObject { protocol: 81, nexthop: Nexthop::Hop(hop) };
            state.nexthops.insert(group.group.unwrap(), object);
            state.routes.insert(key("192.168.2.0/26"), group);
        });
        let mut dirty = Dirty::ALL;
        while engine.run(&plain(), &table, std::mem::take(&mut dirty)).retry {}
        assert_eq!(kernel.state().routes, good.routes, "{keep} {:#?}", kernel.take_writes());
        assert_eq!(kernel.state().nexthops, good.nexthops);
    }
}

#[test]
fn what_a_workload_announces_leads_to_it_once_there_is_policy() {
    let kernel = FakeKernel::new(machine(&[("cali1", true)]));
    let mut engine = engine(&kernel);
    let mut desired = one_workload();
    desired.workload_peers = [("192.168.1.1".parse().unwrap(), "cali1".to_string())].into();
    let table = learned(&[("198.51.100.0/24", &["192.168.1.1"]), ("198.51.101.0/24", &["10.0.0.2"])], true);
    kernel.fail_at(0, Errno::EPERM);
    engine.run(&desired, &table, Dirty::ALL);
    assert_eq!(way(&kernel, "198.51.100.0/24"), inline(&[]), "not without rules");
    assert_eq!(way(&kernel, "198.51.101.0/24"), inline(&["10.0.0.2"]));
    engine.run(&desired, &table, Dirty::default());
    let hop = Hop { gateway: Some("192.168.1.1".parse().unwrap()), interface: 10, onlink: true };
    assert_eq!(kernel.state().routes[&key("198.51.100.0/24")].hops, [hop]);
    // The interface is made anew.
    kernel.drift(|state| {
        state.links.get_mut("cali1").unwrap().index = 30;
        state.routes.retain(|_, route| route.hops.iter().all(|hop| hop.interface != 10));
    });
    engine.run(&desired, &table, Dirty { links: true, ..Dirty::default() });
    assert_eq!(kernel.state().routes[&key("198.51.100.0/24")].hops[0].interface, 30);
}
