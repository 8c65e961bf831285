//! Which flows are stopped, and when they are looked at.

use tortie_policy::flows::Flow;
use tortie_policy::ir::{InterfaceName, Verdict};

use super::*;
use crate::dataplane::cycle::tests::{engine, learned, machine, workload};
use crate::kernel::fake::FakeKernel;
use crate::kernel::monitor::Dirty;

fn flow(name: u8, master: Option<u8>, refused: bool) -> TrackedFlow {
    let flow = Flow {
        source: [10, 0, 0, name].into(),
        destination: [10, 0, 1, 1].into(),
        original: None,
        protocol: 6,
        ports: Some((40000, 80)),
        icmp: None,
    };
    let master = master.map(|name| vec![name]);
    TrackedFlow { flow, refused, tuple: vec![name], master, family: 2, zone: None }
}

#[test]
fn what_differs_is_changed_and_what_a_flow_announced_goes_its_way() {
    let flows = [
        flow(1, None, false),
        flow(2, None, true),
        flow(3, None, false),
        flow(4, None, true),
        // Announced by the first two.
        flow(5, Some(1), false),
        flow(6, Some(2), true),
        // Announced by one that is over.
        flow(7, Some(99), false),
        // Nobody judges these.
        flow(8, None, false),
        flow(9, None, true),
    ];
    let allowed = |tracked: &TrackedFlow| match tracked.tuple[0] {
        1 | 4 | 5 | 6 | 7 => Some(tracked.tuple[0] != 1 && tracked.tuple[0] != 4),
        2 | 3 => Some(true),
        _ => None,
    };
    let changed: Vec<(u8, bool)> =
        changes(&flows, allowed).into_iter().map(|(tracked, refused)| (tracked.tuple[0], refused)).collect();
    assert_eq!(changed, [(1, true), (2, false), (5, true), (6, false), (9, false)]);
    // Announced by the stopped, whatever policy says of itself.
    assert!(changes(&[flow(1, None, true), flow(5, Some(1), true)], allowed).is_empty());
}

#[test]
fn flows_are_judged_by_rules_in_the_kernel_that_may_refuse_them() {
    let kernel = FakeKernel::new(machine(&[("cali1", true)]));
    let mut engine = engine(&kernel);
    let mut told = engine.rules_in_force();
    let mut desired = Desired {
        interfaces: [("cali1".to_owned(), workload(&["192.168.1.1", "fd01::1"], 1))].into(),
        ..Desired::default()
    };
    // Not before they are in the kernel.
    kernel.fail_at(0, nix::errno::Errno::EPERM);
    engine.run(&desired, &learned(&[], true), Dirty::ALL);
    assert!(!told.has_changed().unwrap());
    engine.run(&desired, &learned(&[], true), Dirty::ALL);
    {
        let now = told.borrow_and_update();
        let places = &now.as_ref().unwrap().places;
        assert_eq!(places.workloads.values().collect::<Vec<_>>(), ["cali1", "cali1"]);
        assert!(places.own.contains(&"10.0.0.1".parse().unwrap()), "{places:?}");
    }
    let mut next = |change: &mut dyn FnMut(&mut Ruleset)| {
        let mut ruleset = Ruleset::clone(&desired.ruleset);
        change(&mut ruleset);
        desired.ruleset = Arc::new(ruleset);
        engine.run(&desired, &learned(&[], true), Dirty::default());
        let changed = told.has_changed().unwrap();
        told.borrow_and_update();
        changed
    };
    assert!(!next(&mut |_| {}), "the same rules");
    let row = InterfaceName::new("cali2").unwrap();
    let mut workload_comes = |ruleset: &mut Ruleset| {
        ruleset.maps.get_mut("to-endpoint").unwrap().elements.insert(row.clone(), Verdict::Drop);
    };
    assert!(!next(&mut workload_comes), "a new workload");
    let mut rules_go = |ruleset: &mut Ruleset| {
        ruleset.chains.get_mut("to-workload").unwrap().rules.pop();
    };
    assert!(next(&mut rules_go), "other rules");
}
