//! The cycle on a kernel made of maps: whatever is there and whatever fails, it comes to the same end, and touches
//! nothing else.

use std::net::Ipv4Addr;

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use tortie_bgp::table::LearnedRoute;
use tortie_model::resource::EncapMode;

use super::*;
use crate::dataplane::owner::LOCAL_PROTOCOL;
use crate::desired::{IpipDevice, PoolEncap, RouteContext, RouteTarget, WorkloadInterface};
use crate::kernel::fake::{FakeKernel, State};
use crate::kernel::{Hop, RouteKey, RouteKind};
use nix::errno::Errno;

mod properties;
mod routing;

pub(super) fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

pub(super) fn key(text: &str) -> RouteKey {
    routes::key(net(text))
}

/// `eth0` (2) in 10.0.0.0/24 with a default route, `eth1` (3) in 10.0.1.0/24, and workload interfaces with indexes from 10.
pub(in crate::dataplane) fn machine(workloads: &[(&str, bool)]) -> State {
    let mut state = State { ipip: true, ..State::default() };
    let mut link = |name: &str, index, up, addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| net(text)).collect();
        let link = Link { name: name.into(), index, up, mtu: 1500, addresses, ..Link::default() };
        state.links.insert(name.into(), link);
    };
    link("lo", 1, true, &["127.0.0.1/8"]);
    link("eth0", 2, true, &["10.0.0.1/24"]);
    link("eth1", 3, true, &["10.0.1.1/24"]);
    for (place, (name, up)) in workloads.iter().enumerate() {
        link(name, 10 + place as u32, *up, &[]);
    }
    let mut foreign = |prefix: &str, protocol, gateway: Option<&str>, interface| {
        let gateway = gateway.map(|text| text.parse().unwrap());
        let hops = vec![Hop { gateway, interface, onlink: false }];
        let route =
            Route { protocol, kind: RouteKind::Unicast, link_scope: gateway.is_none(), hops, group: None };
        state.routes.insert(key(prefix), route);
    };
    foreign("10.0.0.0/24", 2, None, 2);
    foreign("10.0.1.0/24", 2, None, 3);
    foreign("0.0.0.0/0", 4, Some("10.0.0.254"), 2);
    for (path, value) in [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv4/conf/default/rp_filter", "2"),
    ] {
        state.sysctls.insert(path.into(), value.into());
    }
    for (name, _) in workloads {
        add_settings(&mut state, name);
    }
    state
}

/// The settings of a new interface.
pub(super) fn add_settings(state: &mut State, name: &str) {
    for (path, _) in sysctls::of_interface(name, "", true) {
        state.sysctls.insert(path, "9".into());
    }
}

pub(in crate::dataplane) fn engine(kernel: &FakeKernel) -> Engine<FakeKernel> {
    Engine::new(kernel.clone())
}

pub(in crate::dataplane) fn workload(addresses: &[&str], mac: u8) -> WorkloadInterface {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    WorkloadInterface { addresses, mac: Some([2, 0, 0, 0, 0, mac]) }
}

pub(super) fn context() -> RouteContext {
    let pool = |cidr, ipip, vxlan| PoolEncap { cidr: net(cidr), ipip, vxlan };
    RouteContext {
        node_addresses: vec![net("10.0.0.1/24")],
        pools: vec![
            pool("192.168.0.0/16", EncapMode::Never, EncapMode::Never),
            pool("172.20.0.0/16", EncapMode::CrossSubnet, EncapMode::Never),
            pool("172.21.0.0/16", EncapMode::Never, EncapMode::Always),
        ],
        ..RouteContext::default()
    }
}

/// A whole table of learned routes, and whether it is known to be whole.
pub(in crate::dataplane) type Learned = (BTreeMap<IpNetwork, LearnedRoute>, bool);

pub(in crate::dataplane) fn learned(list: &[(&str, &[&str])], converged: bool) -> Learned {
    let routes = list.iter().map(|(prefix, hops)| {
        let next_hops = hops.iter().map(|text| text.parse().unwrap()).collect();
        (net(prefix), LearnedRoute { next_hops, internal: true, local_pref: 100 })
    });
    (routes.collect(), converged)
}

impl Engine<FakeKernel> {
    /// A cycle with what makes its table this one.
    pub(in crate::dataplane) fn run(
        &mut self,
        desired: &Desired,
        learned: &Learned,
        dirty: Dirty,
    ) -> Outcome {
        self.run_at(desired, learned, dirty, Instant::now())
    }

    pub(super) fn run_at(
        &mut self,
        desired: &Desired,
        (routes, converged): &Learned,
        dirty: Dirty,
        now: Instant,
    ) -> Outcome {
        let gone = self.fib.learned().keys().filter(|prefix| !routes.contains_key(prefix));
        let mut changes = LearnedChanges { converged: *converged, ..LearnedChanges::default() };
        changes.routes.extend(gone.map(|prefix| (*prefix, None)));
        changes.routes.extend(routes.iter().map(|(prefix, route)| (*prefix, Some(route.clone()))));
        self.cycle(desired, changes, dirty, now)
    }
}

fn one_workload() -> Desired {
    Desired {
        interfaces: BTreeMap::from([("cali1".to_string(), workload(&["192.168.1.1", "fd01::1"], 1))]),
        routes: BTreeMap::from([(net("192.168.1.0/26"), RouteTarget::Blackhole)]),
        route_context: context(),
        ..Desired::default()
    }
}

#[test]
fn rules_come_first_and_removals_last() {
    let mut state = machine(&[("cali1", true)]);
    let stale = Route {
        protocol: LOCAL_PROTOCOL,
        kind: RouteKind::Unicast,
        link_scope: true,
        hops: vec![Hop { gateway: None, interface: 10, onlink: false }],
        group: None,
    };
    state.routes.insert(key("192.168.1.7/32"), stale);
    let kernel = FakeKernel::new(state);
    let outcome = engine(&kernel).run(&one_workload(), &learned(&[], true), Dirty::ALL);
    assert!(!outcome.retry, "{outcome:?}");
    let writes = kernel.take_writes();
    let place = |text: &str| {
        writes.iter().position(|write| write.contains(text)).unwrap_or_else(|| panic!("{text}: {writes:#?}"))
    };
    let order = [
        place("change ruleset"),
        place("proxy_arp"),
        place("Set(NeighbourKey"),
        place("Add(RouteKey"),
        place("Remove(RouteKey"),
        place("forget {192.168.1.7}"),
    ];
    assert!(order.is_sorted(), "{writes:#?}");
    assert_eq!(order[0], 0);
    assert_eq!(order[5], writes.len() - 1);
    assert_eq!(kernel.state().sysctls["net/ipv4/conf/cali1/rp_filter"], "2");
}

fn wired(outcome: &Outcome) -> Vec<&str> {
    outcome.applied.interfaces.keys().map(String::as_str).collect()
}

#[test]
fn without_rules_nothing_is_opened_and_nothing_is_ready() {
    let kernel = FakeKernel::new(machine(&[("cali1", true)]));
    let mut engine = engine(&kernel);
    kernel.fail_at(0, Errno::EPERM);
    let outcome =
        engine.run(&one_workload(), &learned(&[("192.168.2.0/26", &["10.0.0.2"])], true), Dirty::ALL);
    assert!(outcome.retry && !outcome.applied.ready && !outcome.applied.guarded);
    assert_eq!(wired(&outcome), Vec::<&str>::new());
    assert!(outcome.applied.failures.contains_key("ruleset"));
    let state = kernel.state();
    assert!(!state.routes.contains_key(&key("192.168.1.1/32")));
    assert!(
        state.routes.contains_key(&key("192.168.1.0/26"))
            && state.routes.contains_key(&key("192.168.2.0/26"))
    );
    assert_eq!(state.sysctls["net/ipv4/ip_forward"], "0");
    assert!(state.neighbours.is_empty());
    let outcome = engine.run(&one_workload(), &learned(&[], true), Dirty::default());
    assert!(!outcome.retry && outcome.applied.ready && outcome.applied.guarded);
    assert_eq!(wired(&outcome), ["cali1"]);
}

#[test]
fn an_interface_is_wired_when_it_appears_and_again_when_it_is_made_anew() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let (desired, learned) = (one_workload(), learned(&[], true));
    let outcome = engine.run(&desired, &learned, Dirty::ALL);
    assert!(!outcome.retry && outcome.applied.ready && outcome.applied.failures.is_empty(), "{outcome:?}");
    assert_eq!(wired(&outcome), Vec::<&str>::new());
    let hint = Dirty { links: true, ..Dirty::default() };
    for (index, up, wired) in [(20, false, false), (20, true, true), (21, true, true), (21, false, false)] {
        kernel.drift(|state| {
            let link = Link { name: "cali1".into(), index, up, mtu: 1500, ..Link::default() };
            if state.links.insert("cali1".into(), link).is_none_or(|old| old.index != index) {
                add_settings(state, "cali1");
            }
            // What the kernel does by itself when a link goes.
            state.routes.retain(|_, route| route.hops.iter().all(|hop| hop.interface < 10));
            state.neighbours.clear();
        });
        let outcome = engine.run(&desired, &learned, hint);
        assert!(!outcome.retry, "{outcome:?}");
        let reported = outcome.applied.interfaces.get("cali1").map(|wired| wired.index);
        assert_eq!(reported, wired.then_some(index), "{index} {up}");
        if wired {
            let state = kernel.state();
            assert_eq!(state.sysctls["net/ipv4/conf/cali1/proxy_arp"], "1");
            assert_eq!(state.routes[&key("192.168.1.1/32")].hops[0].interface, index);
            let neighbours: Vec<u32> = state.neighbours.keys().map(|key| key.interface).collect();
            assert_eq!(neighbours, [index]);
        }
    }
}

#[test]
fn an_address_changes_hands_with_its_connections_forgotten_in_between() {
    let kernel = FakeKernel::new(machine(&[("cali1", true), ("cali2", true)]));
    let mut engine = engine(&kernel);
    let learned = learned(&[], true);
    engine.run(&one_workload(), &learned, Dirty::ALL);
    kernel.take_writes();
    let mut moved = one_workload();
    moved.interfaces = BTreeMap::from([("cali2".to_string(), workload(&["192.168.1.1"], 2))]);
    engine.run(&moved, &learned, Dirty::default());
    let writes = kernel.take_writes();
    let place = |text: &str| {
        writes.iter().position(|write| write.contains(text)).unwrap_or_else(|| panic!("{text}: {writes:#?}"))
    };
    let order = [place("Remove(RouteKey"), place("forget {192.168.1.1}"), place("Add(RouteKey")];
    assert!(order.is_sorted(), "{writes:#?}");
    assert_eq!(kernel.state().routes[&key("192.168.1.1/32")].hops[0].interface, 11);
}

#[test]
fn two_claims_to_one_address_go_to_the_newer_interface_and_are_named() {
    let kernel = FakeKernel::new(machine(&[("cali2", true), ("cali1", true)]));
    let mut desired = one_workload();
    desired.interfaces.insert("cali2".into(), workload(&["192.168.1.1"], 2));
    let outcome = engine(&kernel).run(&desired, &learned(&[], true), Dirty::ALL);
    assert!(!outcome.retry);
    assert_eq!(wired(&outcome), ["cali1"]);
    assert!(outcome.applied.failures["cali2"].contains("192.168.1.1 is also that of cali1"), "{outcome:?}");
    assert_eq!(kernel.state().routes[&key("192.168.1.1/32")].hops[0].interface, 11);
}

#[test]
fn a_name_that_is_not_ours_is_never_used() {
    let kernel = FakeKernel::new(machine(&[("cali1", true)]));
    let mut desired = one_workload();
    desired.interfaces.insert("eth0".into(), workload(&["192.168.1.2"], 2));
    desired.interfaces.insert("cali/../x".into(), workload(&["192.168.1.3"], 3));
    let outcome = engine(&kernel).run(&desired, &learned(&[], true), Dirty::ALL);
    assert!(!outcome.retry);
    assert!(
        outcome.applied.failures.contains_key("eth0") && outcome.applied.failures.contains_key("cali/../x")
    );
    assert!(kernel.take_writes().iter().all(|write| !write.contains("eth0") && !write.contains("..")));
    assert!(!kernel.state().routes.contains_key(&key("192.168.1.2/32")));
}

#[test]
fn the_tunnel_is_made_as_wanted_and_only_then_carries_routes() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let ipip = IpipDevice { address: Some(Ipv4Addr::new(172, 20, 0, 1)), mtu: 1440 };
    let mut desired = Desired { ipip: Some(ipip), ..one_workload() };
    let routes = learned(&[("172.20.2.0/26", &["10.0.1.2"]), ("172.20.3.0/26", &["10.0.0.3"])], true);
    let outcome = engine.run(&desired, &routes, Dirty::ALL);
    assert!(!outcome.retry && outcome.applied.failures.is_empty(), "{outcome:?}");
    let state = kernel.state();
    let tunnel = &state.links["tunl0"];
    assert!(
        tunnel.up && tunnel.mtu == 1440 && tunnel.addresses == BTreeSet::from([net("172.20.0.1/32")]),
        "{tunnel:?}"
    );
    let over = Hop { gateway: Some("10.0.1.2".parse().unwrap()), interface: tunnel.index, onlink: true };
    assert_eq!(state.routes[&key("172.20.2.0/26")].hops, [over]);
    let plain = Hop { gateway: Some("10.0.0.3".parse().unwrap()), interface: 2, onlink: false };
    assert_eq!(state.routes[&key("172.20.3.0/26")].hops, [plain]);
    desired.ipip = None;
    engine.run(&desired, &routes, Dirty::default());
    let state = kernel.state();
    assert!(state.links["tunl0"].addresses.is_empty());
    assert!(
        !state.routes.contains_key(&key("172.20.2.0/26")) && state.routes.contains_key(&key("172.20.3.0/26"))
    );
}

#[test]
fn without_ipip_routes_over_the_tunnel_are_left_out_and_named() {
    let kernel = FakeKernel::new(State { ipip: false, ..machine(&[]) });
    let mut engine = engine(&kernel);
    let desired = Desired { ipip: Some(IpipDevice { address: None, mtu: 1440 }), ..one_workload() };
    let outcome = engine.run(&desired, &learned(&[("172.20.2.0/26", &["10.0.1.2"])], true), Dirty::ALL);
    assert!(!outcome.retry && outcome.applied.ready, "{outcome:?}");
    let text = "kernel has no IPIP (ipip module): routes over tunl0 of pool 172.20.0.0/16 are not programmed";
    assert_eq!(outcome.applied.failures["tunl0"], text);
    assert!(!kernel.state().routes.contains_key(&key("172.20.2.0/26")));
    let calls = kernel.calls();
    let outcome = engine.run(&desired, &learned(&[], true), Dirty::default());
    assert_eq!(outcome.applied.failures["tunl0"], "kernel has no IPIP (ipip module)");
    assert_eq!(kernel.calls() - calls, 0, "asked the kernel again");
}

#[test]
fn touched_rules_are_put_right_and_others_tables_are_not_minded() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let (desired, learned) = (one_workload(), learned(&[], true));
    let hint = Dirty { ruleset: true, ..Dirty::default() };
    let mut loads = |dirty| {
        engine.run(&desired, &learned, dirty);
        assert_eq!(kernel.state().table.as_ref(), Some(&*desired.ruleset));
        kernel.take_writes().iter().filter(|write| *write == "change ruleset").count()
    };
    assert_eq!(loads(Dirty::ALL), 1);
    assert_eq!(loads(hint), 0);
    kernel.drift(|state| state.generation += 1);
    assert_eq!(loads(hint), 0);
    kernel.drift(|state| (state.table, state.generation) = (None, state.generation + 1));
    assert_eq!(loads(hint), 1);
    kernel.drift(|state| {
        state.generation += 1;
        let chains = &mut state.table.as_mut().unwrap().chains;
        chains.get_mut("forward").unwrap().rules.clear();
    });
    assert_eq!(loads(hint), 1);
    assert_eq!(loads(hint), 0);
}

#[test]
fn after_a_refusal_the_kernel_is_read_and_at_last_the_table_made_anew() {
    let kernel = FakeKernel::new(machine(&[]));
    let mut engine = engine(&kernel);
    let (first, learned) = (one_workload(), learned(&[], true));
    engine.run(&first, &learned, Dirty::ALL);
    // Somebody else's chain, without a word, has the name of one that is to come.
    let intruder = |state: &mut State| {
        let table = state.table.as_mut().unwrap();
        let chain = table.chains["from-workload"].clone();
        table.chains.insert("new".into(), chain);
    };
    kernel.drift(intruder);
    let mut ruleset = (*first.ruleset).clone();
    ruleset.chains.insert("new".into(), Default::default());
    let wanted = Desired { ruleset: Arc::new(ruleset), ..one_workload() };
    let outcome = engine.run(&wanted, &learned, Dirty::default());
    assert!(outcome.retry && !outcome.applied.guarded && outcome.applied.failures.contains_key("ruleset"));
    let outcome = engine.run(&wanted, &learned, Dirty::default());
    assert!(!outcome.retry && outcome.applied.guarded, "{outcome:?}");
    assert_eq!(kernel.state().table.as_ref(), Some(&*wanted.ruleset));
    // Twice refused, whatever for: the third begins with nothing.
    let last = one_workload();
    for calls in [0, 1] {
        kernel.fail_at(calls, Errno::EINVAL);
        assert!(engine.run(&last, &learned, Dirty::default()).retry);
    }
    kernel.take_writes();
    kernel.drift(|state| state.refuse_all_but_reset = true);
    let outcome = engine.run(&last, &learned, Dirty::default());
    assert!(!outcome.retry, "{outcome:?}");
    assert_eq!(kernel.state().table.as_ref(), Some(&*last.ruleset));
}
