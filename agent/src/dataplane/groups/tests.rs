//! Groups on a kernel of maps.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::kernel::fake::{FakeKernel, State};
use crate::kernel::{Link, Nexthops as _};

fn hop(last: u8) -> Hop {
    Hop { gateway: Some(IpAddr::from([10, 0, 0, last])), interface: 2, onlink: false }
}

fn hops(lasts: &[u8]) -> Vec<Hop> {
    lasts.iter().map(|last| hop(*last)).collect()
}

fn kernel() -> FakeKernel {
    let link = Link { name: "eth0".into(), index: 2, up: true, ..Link::default() };
    FakeKernel::new(State { links: [("eth0".to_string(), link)].into(), ..State::default() })
}

/// Does what is to be done.
fn carry_out(groups: &mut Groups, kernel: &mut FakeKernel, changes: Vec<(u32, NexthopChange)>) {
    for (id, change) in changes {
        kernel.change_nexthops(&[change]).remove(0).unwrap();
        groups.done(id);
    }
}

fn settle(groups: &mut Groups, kernel: &mut FakeKernel) {
    let changes = groups.to_set();
    carry_out(groups, kernel, changes);
    let changes = groups.to_remove(&BTreeSet::new());
    carry_out(groups, kernel, changes);
}

fn read(kernel: &mut FakeKernel) -> Groups {
    let mut groups = Groups::default();
    groups.read(kernel.nexthops().unwrap());
    groups
}

#[test]
fn a_group_goes_along_when_all_its_routes_do_and_no_sooner() {
    let mut kernel = kernel();
    let mut groups = read(&mut kernel);
    let (two, three, other) = (hops(&[2, 3]), hops(&[2, 3, 4]), hops(&[5, 6]));
    let first = groups.acquire(&two);
    assert_eq!(groups.acquire(&two), first);
    settle(&mut groups, &mut kernel);
    kernel.take_writes();
    // One of its two routes: the other needs it as it is.
    groups.follow([(Some(first), Some(three.as_slice()))].into_iter());
    assert_eq!(groups.hops(first), Some(two.as_slice()));
    // Both, but apart; or one to a single next hop.
    groups.follow([(Some(first), Some(three.as_slice())), (Some(first), Some(other.as_slice()))].into_iter());
    groups.follow([(Some(first), Some(three.as_slice())), (Some(first), None)].into_iter());
    assert_eq!(groups.hops(first), Some(two.as_slice()));
    // Both to one set.
    groups.follow([(Some(first), Some(three.as_slice())), (Some(first), Some(three.as_slice()))].into_iter());
    for _ in 0..2 {
        assert_eq!(groups.acquire(&three), first);
        groups.release(first);
    }
    assert_eq!(groups.hops(first), Some(three.as_slice()));
    settle(&mut groups, &mut kernel);
    assert_eq!(kernel.take_writes().len(), 2, "the new next hop and the group");
    assert_eq!(kernel.state().hops_of(first), three);
    // To a set that has a group already: there is nothing to gain.
    let second = groups.acquire(&other);
    let to_other = (Some(first), Some(other.as_slice()));
    groups.follow([to_other, to_other].into_iter());
    assert_eq!(groups.hops(first), Some(three.as_slice()));
    assert_eq!(groups.hops(second), Some(other.as_slice()));
}

#[test]
fn an_ipv6_group_stays_as_it_is() {
    let mut kernel = kernel();
    let mut groups = read(&mut kernel);
    let hop = |last| Hop {
        gateway: Some(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
        interface: 2,
        onlink: false,
    };
    let (before, after) = (vec![hop(2), hop(3)], vec![hop(2), hop(4)]);
    let first = groups.acquire(&before);
    settle(&mut groups, &mut kernel);
    groups.follow([(Some(first), Some(after.as_slice()))].into_iter());
    assert_eq!(groups.hops(first), Some(before.as_slice()));
    assert_ne!(groups.acquire(&after), first);
}

#[test]
fn what_is_left_over_is_used_again_and_kept_while_a_route_is_over_it() {
    let mut kernel = kernel();
    let mut groups = read(&mut kernel);
    let (first, second) = (groups.acquire(&hops(&[2, 3])), groups.acquire(&hops(&[3, 4])));
    settle(&mut groups, &mut kernel);
    let mut groups = read(&mut kernel);
    assert_eq!(groups.acquire(&hops(&[2, 3])), first);
    assert!(groups.to_set().is_empty() && groups.has_leftovers());
    assert_eq!(groups.to_remove(&BTreeSet::from([first, second])), []);
    let gone: Vec<u32> = groups.to_remove(&BTreeSet::from([first])).iter().map(|(id, _)| *id).collect();
    assert_eq!(gone[0], second);
    assert_eq!(gone.len(), 2, "the group, and the next hop only it needed");
    settle(&mut groups, &mut kernel);
    assert_eq!(kernel.state().nexthops.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Routes by number move between sets in batches; some batches begin in a new process.
    #[test]
    fn any_history_leaves_what_its_end_needs(
        batches in prop::collection::vec(
            (prop::collection::btree_map(0u8..6, prop::option::weighted(0.8, prop::collection::btree_set(2u8..6, 2..4)), 0..6),
             prop::bool::weighted(0.2)),
            1..12,
        ),
    ) {
        let mut kernel = kernel();
        let mut groups = read(&mut kernel);
        let mut routes: BTreeMap<u8, (u32, Vec<Hop>)> = BTreeMap::new();
        for (batch, restarted) in batches {
            if restarted {
                groups = read(&mut kernel);
                for (id, hops) in routes.values() {
                    prop_assert_eq!(groups.acquire(hops), *id);
                }
            }
            let batch: Vec<(u8, Option<Vec<Hop>>)> = batch
                .into_iter()
                .map(|(route, set)| (route, set.map(|set| set.into_iter().map(hop).collect::<Vec<_>>())))
                .filter(|(route, set)| routes.get(route).map(|(_, hops)| hops) != set.as_ref())
                .collect();
            let before = |route: &u8| routes.get(route).map(|(id, _)| *id);
            groups.follow(batch.iter().map(|(route, set)| (before(route), set.as_deref())));
            for (route, set) in batch {
                let before = routes.remove(&route);
                if let Some(hops) = set {
                    routes.insert(route, (groups.acquire(&hops), hops));
                }
                if let Some((id, _)) = before {
                    groups.release(id);
                }
            }
            settle(&mut groups, &mut kernel);
            let state = kernel.state();
            for (id, hops) in routes.values() {
                prop_assert_eq!(&state.hops_of(*id), hops);
                prop_assert!(groups.in_place(*id));
            }
            let sets: BTreeSet<&Vec<Hop>> = routes.values().map(|(_, hops)| hops).collect();
            let members: BTreeSet<&Hop> = sets.iter().copied().flatten().collect();
            prop_assert_eq!(state.nexthops.len(), sets.len() + members.len());
        }
    }
}
