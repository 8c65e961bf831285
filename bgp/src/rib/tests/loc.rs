//! The table: what changes, and what is said about it.

use std::collections::BTreeSet;

use super::*;
use crate::rib::loc::Table;
use crate::table::LearnedRoute;
use crate::wire::nlri::Nlri;

const NET: &str = "172.16.0.0/26";

/// A table with sources 1 to 4.
fn table() -> Table {
    let mut table = Table::default();
    for last in 1..=4 {
        table.set_source(PeerKey(last.into()), source(last));
    }
    table
}

fn net() -> Nlri {
    prefix(NET).into()
}

fn announce(table: &mut Table, peer: u8, change: impl FnOnce(&mut PathAttributes<'static>)) {
    let attrs = attrs(&mut table.interner, peer, change);
    table.announce(PeerKey(peer.into()), net(), attrs, Some(attrs));
}

/// Decides everything; the changes of learned routes.
fn settle(table: &mut Table) -> Vec<Option<LearnedRoute>> {
    let dirty = table.take_dirty(usize::MAX);
    let mut changes = Vec::new();
    for slot in dirty {
        changes.extend(table.settle(slot).learned);
        table.release(slot);
    }
    changes
}

fn route(next_hops: &[u8]) -> Option<LearnedRoute> {
    Some(LearnedRoute {
        next_hops: next_hops.iter().map(|n| ip(*n)).collect(),
        internal: true,
        local_pref: 100,
    })
}

#[test]
fn a_new_next_hop_of_the_same_rank_is_a_change() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    assert_eq!(settle(&mut table), [route(&[1])]);
    announce(&mut table, 1, |a| a.next_hop = ip(77));
    assert_eq!(settle(&mut table), [route(&[77])]);
    announce(&mut table, 1, |a| a.next_hop = ip(77));
    assert_eq!(settle(&mut table), [], "the same again is none");
}

#[test]
fn equal_paths_share_the_load_and_others_do_not() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    announce(&mut table, 2, |_| ());
    announce(&mut table, 3, |a| a.local_pref = Some(99));
    announce(&mut table, 4, |a| a.next_hop = ip(1));
    assert_eq!(settle(&mut table), [route(&[1, 2])], "distinct next hops, sorted");
    table.withdraw(PeerKey(1), net());
    table.withdraw(PeerKey(4), net());
    assert_eq!(settle(&mut table), [route(&[2])]);
    table.withdraw(PeerKey(2), net());
    let last = LearnedRoute { local_pref: 99, ..route(&[3]).unwrap() };
    assert_eq!(settle(&mut table), [Some(last)]);
    table.drop_peer(PeerKey(3));
    assert_eq!(settle(&mut table), [None]);
    table.withdraw(PeerKey(3), net());
    assert_eq!(settle(&mut table), []);
}

#[test]
fn several_changes_before_a_decision_are_one() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    table.withdraw(PeerKey(1), net());
    announce(&mut table, 2, |_| ());
    assert_eq!(settle(&mut table), [route(&[2])]);
}

#[test]
fn own_addresses_lead_nowhere() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    announce(&mut table, 2, |_| ());
    settle(&mut table);
    table.set_own_addresses(&BTreeSet::from([ip(1)]));
    assert_eq!(settle(&mut table), [route(&[2])]);
}

#[test]
fn our_own_route_is_announced_and_the_learned_one_still_said() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    let own = attrs(&mut table.interner, 0, |_| ());
    table.originate(prefix(NET), Some(own));
    let dirty = table.take_dirty(usize::MAX);
    assert_eq!(dirty.len(), 1);
    let settled = table.settle(dirty[0]);
    assert_eq!(settled.best.map(|best| best.peer), Some(PeerKey::OWN));
    assert_eq!(settled.learned, Some(route(&[1])));
    table.originate(prefix(NET), None);
    let dirty = table.take_dirty(usize::MAX);
    let settled = table.settle(dirty[0]);
    assert_eq!(settled.best.map(|best| best.peer), Some(PeerKey(1)));
    assert_eq!(settled.learned, None, "nothing new");
}

#[test]
fn stale_routes_stay_until_swept_and_go_with_a_second_restart() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    settle(&mut table);
    table.mark_stale(PeerKey(1));
    assert_eq!(settle(&mut table), []);
    announce(&mut table, 1, |_| ());
    table.sweep_stale(PeerKey(1));
    assert_eq!(settle(&mut table), [], "announced again");
    table.mark_stale(PeerKey(1));
    table.sweep_stale(PeerKey(1));
    assert_eq!(settle(&mut table), [None]);
    announce(&mut table, 1, |_| ());
    settle(&mut table);
    table.mark_stale(PeerKey(1));
    table.mark_stale(PeerKey(1));
    assert_eq!(settle(&mut table), [None]);
}

#[test]
fn a_review_applies_new_rules_to_what_was_received() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    settle(&mut table);
    table.review(PeerKey(1), |_, _, _| None);
    assert_eq!(settle(&mut table), [None]);
    assert_eq!(table.received(PeerKey(1)), (1, 0));
    table.review(PeerKey(1), |_, _, received| Some(received));
    assert_eq!(settle(&mut table), [route(&[1])]);
    table.review(PeerKey(1), |_, _, received| Some(received));
    assert_eq!(settle(&mut table), []);
}

/// Add-path: a peer's paths of one prefix are known by their identifiers, and ours are unique and stay.
#[test]
fn paths_of_one_peer_are_told_apart() {
    let mut table = table();
    let path = |id| Nlri { path_id: id, ..net() };
    let [low, high] = [1, 2].map(|hop| attrs(&mut table.interner, hop, |_| ()));
    for (id, attrs) in [(7, low), (8, high)] {
        table.announce(PeerKey(1), path(id), attrs, Some(attrs));
    }
    assert_eq!(settle(&mut table), [route(&[1, 2])]);
    let slot = table.find(prefix(NET)).unwrap();
    let ids =
        |table: &Table| table.all(slot).iter().map(|path| (path.attrs, path.local_id)).collect::<Vec<_>>();
    assert_eq!(ids(&table), [(low, 2), (high, 3)]);
    table.withdraw(PeerKey(1), path(7));
    assert_eq!(ids(&table), [(high, 3)], "the other keeps its identifier");
    table.announce(PeerKey(2), path(7), low, Some(low));
    assert_eq!(ids(&table), [(high, 3), (low, 2)]);
    assert_eq!(table.received(PeerKey(1)), (1, 1));
    table.mark_unconfirmed(PeerKey(1));
    table.announce(PeerKey(2), path(7), low, Some(low));
    table.sweep_stale(PeerKey(1));
    assert_eq!(ids(&table), [(low, 2)], "not repeated in a refresh");
}

/// A prefix of which nothing is left makes room for another.
#[test]
fn slots_are_used_again() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    settle(&mut table);
    let slot = table.find(prefix(NET)).unwrap();
    table.drop_peer(PeerKey(1));
    settle(&mut table);
    assert_eq!(table.find(prefix(NET)), None);
    assert_eq!(table.prefix(slot), prefix(NET), "who missed its end can still be told");
    table.recycle();
    let own = attrs(&mut table.interner, 0, |_| ());
    table.originate(prefix("10.0.0.0/8"), Some(own));
    settle(&mut table);
    assert_eq!(table.find(prefix("10.0.0.0/8")), Some(slot));
    assert_eq!(table.slots(), 0..1);
}

/// Who missed its end and its return is told once, of what it is now.
#[test]
fn a_prefix_that_comes_back_before_all_are_told_has_its_slot_again() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    settle(&mut table);
    let slot = table.find(prefix(NET)).unwrap();
    for _ in 0..3 {
        table.drop_peer(PeerKey(1));
        settle(&mut table);
        assert!(table.find(prefix(NET)).is_none() && table.has_released());
        table.set_source(PeerKey(1), source(1));
        announce(&mut table, 1, |_| ());
        settle(&mut table);
        assert_eq!(table.find(prefix(NET)), Some(slot));
    }
    table.recycle();
    assert!(!table.has_released());
    let own = attrs(&mut table.interner, 0, |_| ());
    table.originate(prefix("10.0.0.0/8"), Some(own));
    assert_eq!(table.slots(), 0..2, "the slot in use was not given away");
}

/// RFC 4271 9.1.2.2 c: what a MED eliminated within its AS does not share the load with the best of another.
#[test]
fn paths_beaten_by_med_share_no_load() {
    let mut table = table();
    announce(&mut table, 2, |a| (a.as_path, a.med) = (path(&[7]).into(), Some(0)));
    announce(&mut table, 3, |a| (a.as_path, a.med) = (path(&[7]).into(), Some(10)));
    announce(&mut table, 1, |a| (a.as_path, a.med) = (path(&[9]).into(), Some(5)));
    assert_eq!(settle(&mut table), [route(&[1, 2])]);
    table.withdraw(PeerKey(2), net());
    assert_eq!(settle(&mut table), [route(&[1, 3])], "nobody of its AS is better now");
}

/// A limit is for what a peer announces, not for what is kept of a session before.
#[test]
fn stale_paths_are_not_confirmed_ones() {
    let mut table = table();
    announce(&mut table, 1, |_| ());
    let own = attrs(&mut table.interner, 1, |_| ());
    let other = Nlri { path_id: 9, ..net() };
    table.announce(PeerKey(1), other, own, None);
    assert_eq!((table.received(PeerKey(1)), table.confirmed(PeerKey(1))), ((2, 1), 2));
    table.mark_stale(PeerKey(1));
    assert_eq!((table.received(PeerKey(1)), table.confirmed(PeerKey(1))), ((2, 1), 0));
    announce(&mut table, 1, |_| ());
    assert_eq!(table.confirmed(PeerKey(1)), 1);
    table.sweep_stale(PeerKey(1));
    assert_eq!((table.received(PeerKey(1)), table.confirmed(PeerKey(1))), ((1, 1), 1));
    table.withdraw(PeerKey(1), net());
    assert_eq!((table.received(PeerKey(1)), table.confirmed(PeerKey(1))), ((0, 0), 0));
}
