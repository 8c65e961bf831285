//! What members of a group are sent.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::family::Family;
use crate::rib::adj_out::{AdjOut, Batch, Change, Concerned, Exported, Member};
use crate::wire::update::RawUpdate;
use crate::wire::validate::judge;
use crate::wire::{Context, frame};

fn context() -> Context {
    Context::plain(true, true, &[Family::Ipv4])
}

fn member(last: u8) -> Member {
    Member { peer: PeerKey(last.into()), address: ip(last) }
}

/// What a receiver has after these octets: next hop and MED by prefix.
type Received = BTreeMap<Prefix, (IpAddr, Option<u32>)>;

fn receive(table: &mut Received, octets: Option<&[u8]>) -> usize {
    let mut rest = octets.unwrap_or_default();
    let mut messages = 0;
    while let Some((frame, tail)) = frame::split(rest).unwrap() {
        let update = judge(RawUpdate::decode(frame.body).unwrap(), context()).unwrap();
        table.retain(|prefix, _| !update.withdrawn.contains(prefix));
        for prefix in update.announced {
            let attributes = update.attributes.as_ref().unwrap();
            table.insert(prefix, (attributes.next_hop, attributes.med));
        }
        rest = tail;
        messages += 1;
    }
    messages
}

fn exported(interner: &mut Interner, next_hop: u8, med: u32, source: Option<u32>) -> Exported {
    Exported { attrs: attrs(interner, next_hop, |a| a.med = Some(med)), source: source.map(PeerKey) }
}

#[test]
fn equal_attributes_share_a_message_and_withdrawals_come_first() {
    let mut interner = Interner::default();
    let mut out = AdjOut::default();
    let changes: Vec<Change> = (0..100_u8)
        .filter_map(|n| {
            let route = exported(&mut interner, 1, u32::from(n % 2), None);
            out.set(prefix(&format!("10.0.{n}.0/24")), Some(route))
        })
        .collect();
    let octets = Batch::new(&changes, None).encode(Family::Ipv4, true).unwrap();
    let mut table = Received::new();
    assert_eq!(receive(&mut table, Some(&octets)), 2);
    assert_eq!(table.len(), 100);
    let mut changes: Vec<Change> = out.set(prefix("10.0.7.0/24"), None).into_iter().collect();
    let other = exported(&mut interner, 9, 0, None);
    changes.extend(out.set(prefix("10.0.8.0/24"), Some(other)));
    let octets = Batch::new(&changes, None).encode(Family::Ipv4, true).unwrap();
    assert_eq!(receive(&mut table, Some(&octets)), 2);
    assert!(!table.contains_key(&prefix("10.0.7.0/24")));
    assert_eq!(table[&prefix("10.0.8.0/24")].0, ip(9));
}

#[test]
fn nobody_is_told_of_its_own_routes() {
    let mut interner = Interner::default();
    let mut out = AdjOut::default();
    let net = prefix("10.0.0.0/24");
    let from_two = exported(&mut interner, 9, 0, Some(2));
    let changes: Vec<Change> = out.set(net, Some(from_two.clone())).into_iter().collect();
    let concerned = Concerned::of(&changes);
    assert!(concerned.includes(member(2)) && concerned.includes(member(9)) && !concerned.includes(member(3)));
    for told_nothing in [2, 9] {
        assert!(Batch::new(&changes, Some(member(told_nothing))).encode(Family::Ipv4, true).is_none());
        assert_eq!(out.told(member(told_nothing)), 0);
    }
    assert_eq!(out.told(member(3)), 1);
    // Member 2 takes over from 4: who was told 4's route must be told that it is gone.
    let from_four = exported(&mut interner, 9, 0, Some(4));
    let before = out.set(net, Some(from_four));
    assert!(before.is_some(), "another source is a change although the attributes are the same");
    let changes: Vec<Change> = out.set(net, Some(from_two)).into_iter().collect();
    let mut table = Received::from([(net, (ip(9), Some(0)))]);
    receive(&mut table, Batch::new(&changes, Some(member(2))).encode(Family::Ipv4, true).as_deref());
    assert!(table.is_empty());
    assert!(
        Batch::new(&changes, Some(member(3))).encode(Family::Ipv4, true).is_none(),
        "nothing new for the rest"
    );
}

#[test]
fn routes_that_do_not_fit_a_message_are_withdrawn() {
    let mut interner = Interner::default();
    let mut out = AdjOut::default();
    let long = attrs(&mut interner, 1, |a| a.communities = vec![7; 4080].into());
    let changes: Vec<Change> =
        out.set(prefix("10.0.0.0/24"), Some(Exported { attrs: long, source: None })).into_iter().collect();
    let octets = Batch::new(&changes, None).encode(Family::Ipv4, true).unwrap();
    let mut table = Received::from([(prefix("10.0.0.0/24"), (ip(1), None))]);
    receive(&mut table, Some(&octets));
    assert!(table.is_empty());
}

/// Prefix, next hop and source of a route; nothing withdraws it.
type Op = (u8, Option<(u8, u32, Option<u32>)>);

proptest! {
    /// Whatever happens, and whether a member keeps up, joins late, changes its group or catches up: what it has in
    /// the end is the group's table without its own routes.
    #[test]
    fn members_have_what_the_group_has(
        ops in prop::collection::vec(
            (0..6_u8, prop::option::of((1..5_u8, 0..3_u32, prop::option::of(1..5_u32)))), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut interner = Interner::default();
        let (mut out, mut old_group) = (AdjOut::default(), AdjOut::default());
        let mut faithful: Vec<Received> = vec![Received::new(); 5];
        let (mut sleepy, mut missed) = (Received::new(), std::collections::BTreeSet::new());
        let cut = cut.index(ops.len());
        let run = |interner: &mut Interner, out: &mut AdjOut, ops: &[Op]| -> Vec<Change> {
            let mut changes = Vec::new();
            for (net, route) in ops {
                let route = route.map(|(hop, med, source)| exported(interner, hop, med, source));
                changes.extend(out.set(prefix(&format!("10.0.{net}.0/24")), route));
            }
            changes
        };
        for op in &ops[..cut] {
            let changes = run(&mut interner, &mut out, std::slice::from_ref(op));
            run(&mut interner, &mut old_group, std::slice::from_ref(op));
            let concerned = Concerned::of(&changes);
            for (n, table) in faithful.iter_mut().enumerate() {
                let own = member(u8::try_from(n).unwrap());
                let own = concerned.includes(own).then_some(own);
                receive(table, Batch::new(&changes, own).encode(Family::Ipv4, true).as_deref());
            }
        }
        receive(&mut sleepy, Batch::new(&out.all(), Some(member(3))).encode(Family::Ipv4, true).as_deref());
        for op in &ops[cut..] {
            let changes = run(&mut interner, &mut out, std::slice::from_ref(op));
            missed.extend(changes.iter().map(|change| change.prefix));
        }
        receive(&mut sleepy, out.catch_up(member(3), &missed).encode(Family::Ipv4, true).as_deref());
        let difference = out.difference(&old_group);
        for (n, table) in faithful.iter_mut().enumerate() {
            let own = member(u8::try_from(n).unwrap());
            receive(table, Batch::new(&difference, Some(own)).encode(Family::Ipv4, true).as_deref());
            let mut fresh = Received::new();
            receive(&mut fresh, Batch::new(&out.all(), Some(own)).encode(Family::Ipv4, true).as_deref());
            prop_assert_eq!(&*table, &fresh);
            prop_assert_eq!(fresh.len(), out.told(own));
            prop_assert!(fresh.values().all(|(next_hop, _)| *next_hop != own.address));
            if n == 3 {
                prop_assert_eq!(&sleepy, &fresh);
            }
        }
    }
}
