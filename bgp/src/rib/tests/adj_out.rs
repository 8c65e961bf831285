//! What members of a group are sent.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::family::Family;
use crate::rib::adj_out::{AdjOut, Change, Member, Told};
use crate::rib::batch::{Batch, Form};
use crate::rib::loc::{Slot, Table};
use crate::rib::missed::Missed;
use crate::wire::nlri::Nlri;
use crate::wire::update::{Layout, RawUpdate};
use crate::wire::validate::judge;
use crate::wire::{Context, Reading, frame};

const PLAIN: Form = Form {
    layout: Layout { family: Family::Ipv4, add_path: false, max_message: frame::MAX_MESSAGE },
    four_octet: true,
};
const ADD_PATH: Form = Form { layout: Layout { add_path: true, ..PLAIN.layout }, four_octet: true };

fn context(form: Form) -> Context {
    let reading = Reading { add_path: form.layout.add_path, extended_next_hop: false };
    Context { internal: true, four_octet: true, ipv4: Some(reading), ipv6: None }
}

fn member(last: u8) -> Member {
    Member { peer: PeerKey(last.into()), address: ip(last) }
}

/// What a receiver has after these octets: next hop and MED by path.
type Received = BTreeMap<Nlri, (IpAddr, Option<u32>)>;

/// How many messages there were.
fn receive(table: &mut Received, octets: &[u8], form: Form) -> usize {
    let mut rest = octets;
    let mut messages = 0;
    while let Some((frame, tail)) = frame::split(rest).unwrap() {
        let update = judge(RawUpdate::decode(frame.body).unwrap(), context(form)).unwrap();
        assert!(update.faults.is_empty());
        table.retain(|nlri, _| !update.withdrawn.contains(nlri));
        for nlri in update.announced {
            let attributes = update.attributes.as_ref().unwrap();
            table.insert(nlri, (attributes.next_hop, attributes.med));
        }
        rest = tail;
        messages += 1;
    }
    messages
}

/// A group with the table its slots are of.
struct Lab {
    table: Table,
    out: AdjOut,
    form: Form,
}

impl Lab {
    fn new(form: Form) -> Lab {
        Lab { table: Table::default(), out: AdjOut::new(form.layout.add_path), form }
    }

    fn told(&mut self, next_hop: u8, med: u32, source: Option<u32>) -> Told {
        let attrs = attrs(&mut self.table.interner, next_hop, |a| a.med = Some(med));
        Told { attrs, source: source.map_or(PeerKey::OWN, PeerKey) }
    }

    /// The slot of a prefix, which the table keeps for a route of our own.
    fn slot(&mut self, prefix: Prefix) -> Slot {
        let own = attrs(&mut self.table.interner, 0, |_| ());
        self.table.originate(prefix, Some(own));
        self.table.find(prefix).unwrap()
    }

    fn set(&mut self, net: u8, routes: &[(u16, Told)]) -> Vec<Change> {
        let prefix = prefix(&format!("10.0.{net}.0/24"));
        let slot = self.slot(prefix);
        let mut changes = Vec::new();
        self.out.set(slot, prefix, routes, &mut changes);
        changes
    }

    fn send(&self, changes: &[Change], member: Member, table: &mut Received) -> usize {
        let pieces =
            Batch::new(changes, &self.table.interner, self.form).for_member(member, &self.table.interner);
        pieces.iter().map(|octets| receive(table, octets, self.form)).sum()
    }

    fn counts(&self, member: Member) -> usize {
        self.out.counts(&BTreeSet::from([member]), &self.table)[&member.peer]
    }
}

fn net(third: u8) -> Nlri {
    prefix(&format!("10.0.{third}.0/24")).into()
}

#[test]
fn equal_attributes_share_a_message_and_withdrawals_come_first() {
    let mut lab = Lab::new(PLAIN);
    let mut changes = Vec::new();
    for n in 0..100_u8 {
        let told = lab.told(1, u32::from(n % 2), None);
        changes.extend(lab.set(n, &[(0, told)]));
    }
    let mut table = Received::new();
    assert_eq!(lab.send(&changes, member(9), &mut table), 2);
    assert_eq!(table.len(), 100);
    let mut changes = lab.set(7, &[]);
    let other = lab.told(8, 0, None);
    changes.extend(lab.set(8, &[(0, other)]));
    assert_eq!(lab.send(&changes, member(9), &mut table), 2);
    assert!(!table.contains_key(&net(7)));
    assert_eq!(table[&net(8)].0, ip(8));
}

#[test]
fn nobody_is_told_of_its_own_routes() {
    let mut lab = Lab::new(PLAIN);
    let from_two = lab.told(9, 0, Some(2));
    let changes = lab.set(0, &[(0, from_two)]);
    for told_nothing in [2, 9] {
        assert_eq!(lab.send(&changes, member(told_nothing), &mut Received::new()), 0);
        assert_eq!(lab.counts(member(told_nothing)), 0);
    }
    assert_eq!(lab.counts(member(3)), 1);
    // Member 2 takes over from 4: who was told 4's route must be told that it is gone.
    let from_four = lab.told(9, 0, Some(4));
    assert_eq!(
        lab.set(0, &[(0, from_four)]).len(),
        1,
        "another source is a change although the attributes are the same"
    );
    let changes = lab.set(0, &[(0, from_two)]);
    let mut table = Received::from([(net(0), (ip(9), Some(0)))]);
    lab.send(&changes, member(2), &mut table);
    assert!(table.is_empty());
    assert_eq!(lab.send(&changes, member(3), &mut table), 0, "nothing new for the rest");
    assert_eq!(lab.send(&changes, member(4), &mut table), 1, "4 hears of it for the first time");
}

/// Routes of many sources are encoded once: each member is left out of its own part.
#[test]
fn members_share_octets_apart_from_their_own_routes() {
    let mut lab = Lab::new(PLAIN);
    let mut changes = Vec::new();
    for n in 0..40_u8 {
        let told = lab.told(100 + n % 4, 0, Some(u32::from(n % 4)));
        changes.extend(lab.set(n, &[(0, told)]));
    }
    let batch = Batch::new(&changes, &lab.table.interner, PLAIN);
    let whole = batch.for_member(member(9), &lab.table.interner);
    assert_eq!(whole.len(), 1);
    let all = whole[0].as_ptr_range();
    for n in 0..4 {
        let pieces = batch.for_member(member(n), &lab.table.interner);
        assert!(pieces.iter().all(|piece| all.contains(&piece.as_ptr())), "no copy");
        let mut table = Received::new();
        pieces.iter().for_each(|piece| assert!(receive(&mut table, piece, PLAIN) > 0));
        assert_eq!(table.len(), 30);
        assert!(table.keys().all(|nlri| *nlri != net(n)));
    }
}

#[test]
fn routes_that_do_not_fit_a_message_are_withdrawn() {
    let mut lab = Lab::new(PLAIN);
    let long = attrs(&mut lab.table.interner, 1, |a| a.communities = vec![7; 4080].into());
    let changes = lab.set(0, &[(0, Told { attrs: long, source: PeerKey::OWN })]);
    let mut table = Received::from([(net(0), (ip(1), None))]);
    lab.send(&changes, member(9), &mut table);
    assert!(table.is_empty());
    let extended = Form { layout: Layout { max_message: 65535, ..PLAIN.layout }, ..PLAIN };
    let batch = Batch::new(&changes, &lab.table.interner, extended);
    let octets = &batch.for_member(member(9), &lab.table.interner)[0];
    assert!(octets.len() > frame::MAX_MESSAGE, "an extended message holds it");
}

/// Prefix, and its routes: next hop, MED, source.
type Op = (u8, Vec<(u8, u32, Option<u32>)>);

proptest! {
    /// Whatever happens, and whether a member keeps up, joins late, changes its group or catches up: what it has in
    /// the end is the group's table without its own routes; with one path a prefix, and with several.
    #[test]
    fn members_have_what_the_group_has(
        ops in prop::collection::vec(
            (0..6_u8, prop::collection::vec((1..5_u8, 0..3_u32, prop::option::of(1..5_u32)), 0..3)), 1..60),
        cut in any::<prop::sample::Index>(),
        at_once in 1..8_usize,
        add_path in any::<bool>(),
    ) {
        let form = if add_path { ADD_PATH } else { PLAIN };
        let mut lab = Lab::new(form);
        let mut old_group = AdjOut::new(add_path);
        let mut faithful: Vec<Received> = vec![Received::new(); 5];
        let (mut sleepy, mut missed) = (Received::new(), Missed::new(add_path));
        let cut = cut.index(ops.len());
        let run = |lab: &mut Lab, (third, routes): &Op| -> Vec<Change> {
            let routes: Vec<(u16, Told)> = (2..)
                .zip(routes)
                .map(|(id, (hop, med, source))| (if add_path { id } else { 0 }, lab.told(*hop, *med, *source)))
                .collect();
            lab.set(*third, &routes)
        };
        for ops in ops[..cut].chunks(at_once) {
            // One decision for all: a prefix changes once.
            let last: BTreeMap<u8, &Op> = ops.iter().map(|op| (op.0, op)).collect();
            let changes: Vec<Change> = last.values().flat_map(|op| run(&mut lab, op)).collect();
            for (n, table) in faithful.iter_mut().enumerate() {
                lab.send(&changes, member(u8::try_from(n).unwrap()), table);
            }
        }
        for slot in lab.table.slots() {
            old_group.set(slot, lab.table.prefix(slot), &lab.out.get(slot), &mut Vec::new());
        }
        let all = lab.out.all(lab.table.slots(), &lab.table);
        lab.send(&all, member(3), &mut sleepy);
        for op in &ops[cut..] {
            let changes = run(&mut lab, op);
            changes.iter().for_each(|change| missed.add(change));
        }
        while !missed.is_empty() {
            let some = missed.take(at_once, &lab.table);
            let (withdrawn, announced) = lab.out.catch_up(member(3), &some, &lab.table);
            receive(&mut sleepy, &form.encode(withdrawn, announced, &lab.table.interner), form);
        }
        let difference = lab.out.difference(&old_group, lab.table.slots(), &lab.table);
        let all = lab.out.all(lab.table.slots(), &lab.table);
        for (n, table) in faithful.iter_mut().enumerate() {
            let own = member(u8::try_from(n).unwrap());
            lab.send(&difference, own, table);
            let mut fresh = Received::new();
            lab.send(&all, own, &mut fresh);
            prop_assert_eq!(&*table, &fresh);
            prop_assert_eq!(fresh.len(), lab.counts(own));
            prop_assert!(fresh.values().all(|(next_hop, _)| *next_hop != own.address));
            if n == 3 {
                prop_assert_eq!(&sleepy, &fresh);
            }
        }
    }
}
