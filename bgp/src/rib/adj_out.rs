//! What a group of peers is told: peers with the same export rules share one table.
//!
//! A member is never told about a route that came from itself or whose next hop is itself; the table holds such routes
//! all the same, and whom they leave out is read off the route ([`Member::is_left_out`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Range;

use hashbrown::DefaultHashBuilder;

use super::PeerKey;
use super::attrs::{AttrId, Interner, Marks};
use super::loc::{Slot, Table};
use crate::family::Prefix;
use crate::wire::nlri::Nlri;

/// A route as it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) attrs: AttrId,
    /// The peer it came from, which is not told; [`PeerKey::OWN`] for our own.
    pub(crate) source: PeerKey,
}

/// A route of a group before and after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The slot of the prefix.
    pub(crate) slot: Slot,
    pub(crate) nlri: Nlri,
    pub(crate) old: Option<Told>,
    pub(crate) new: Option<Told>,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) peer: PeerKey,
    pub(crate) address: IpAddr,
}

impl Member {
    /// Whether a route of this source and next hop is not for this member.
    pub(crate) fn is_left_out(&self, source: PeerKey, next_hop: IpAddr) -> bool {
        source == self.peer || next_hop == self.address
    }

    /// Whether this member sees the route.
    pub(crate) fn sees(&self, told: Told, interner: &Interner) -> bool {
        !self.is_left_out(told.source, interner.get(told.attrs).next_hop())
    }
}

/// The routes a group was told.
#[derive(Debug)]
pub(crate) enum AdjOut {
    /// The best one of each prefix, by slot.
    Best(Vec<Option<Told>>),
    /// All of each prefix, with their identifiers (RFC 7911).
    All(AllTold),
}

/// Routes by prefix. Most prefixes have one, which then needs no allocation of its own.
#[derive(Debug, Default)]
pub(crate) struct AllTold {
    /// The first of each prefix, by slot.
    first: Vec<Option<(u16, Told)>>,
    /// The others of prefixes that have several.
    others: HashMap<Slot, Vec<(u16, Told)>, DefaultHashBuilder>,
}

impl AllTold {
    fn get(&self, slot: Slot) -> Vec<(u16, Told)> {
        let Some(first) = self.first.get(slot as usize).copied().flatten() else { return Vec::new() };
        let others = if self.others.is_empty() { None } else { self.others.get(&slot) };
        std::iter::once(first).chain(others.into_iter().flatten().copied()).collect()
    }

    fn set(&mut self, slot: Slot, routes: &[(u16, Told)]) {
        let at = slot as usize;
        if at >= self.first.len() {
            self.first.resize(at + 1, None);
        }
        self.first[at] = routes.first().copied();
        match routes {
            [] | [_] => drop(self.others.remove(&slot)),
            [_, others @ ..] => drop(self.others.insert(slot, others.to_vec())),
        }
    }
}

impl AdjOut {
    pub(crate) fn new(add_path: bool) -> AdjOut {
        if add_path { AdjOut::All(AllTold::default()) } else { AdjOut::Best(Vec::new()) }
    }

    /// Replaces the routes of a prefix, which are in order of their identifiers; of the first kind only the first counts.
    /// Changes are appended.
    pub(crate) fn set(&mut self, slot: Slot, prefix: Prefix, new: &[(u16, Told)], changes: &mut Vec<Change>) {
        match self {
            AdjOut::Best(told) => {
                let (at, new) = (slot as usize, new.first().map(|(_, told)| *told));
                if at >= told.len() {
                    if new.is_none() {
                        return;
                    }
                    told.resize(at + 1, None);
                }
                let old = std::mem::replace(&mut told[at], new);
                if old != new {
                    changes.push(Change { slot, nlri: prefix.into(), old, new });
                }
            }
            AdjOut::All(told) => {
                let old = told.get(slot);
                if old != new {
                    changes.extend(differences(slot, prefix, &old, new));
                    told.set(slot, new);
                }
            }
        }
    }

    /// The routes of a prefix.
    pub(crate) fn get(&self, slot: Slot) -> Vec<(u16, Told)> {
        match self {
            AdjOut::Best(told) => {
                told.get(slot as usize).copied().flatten().map(|told| (0, told)).into_iter().collect()
            }
            AdjOut::All(told) => told.get(slot),
        }
    }

    /// Every route of these slots, in their order.
    fn each(&self, slots: Range<Slot>, mut f: impl FnMut(Slot, u16, Told)) {
        match self {
            AdjOut::Best(told) => {
                let end = told.len().min(slots.end as usize);
                for slot in slots.start as usize..end {
                    if let (Some(told), Ok(slot)) = (told[slot], Slot::try_from(slot)) {
                        f(slot, 0, told);
                    }
                }
            }
            AdjOut::All(all) => {
                for slot in slots {
                    all.get(slot).into_iter().for_each(|(id, told)| f(slot, id, told));
                }
            }
        }
    }

    /// Everything of these slots, as changes from nothing.
    pub(crate) fn all(&self, slots: Range<Slot>, table: &Table) -> Vec<Change> {
        let mut changes = Vec::new();
        self.each(slots, |slot, id, told| {
            let nlri = Nlri { prefix: table.prefix(slot), path_id: id.into() };
            changes.push(Change { slot, nlri, old: None, new: Some(told) });
        });
        changes
    }

    /// What a member needs of these slots that was told `other` so far.
    pub(crate) fn difference(&self, other: &AdjOut, slots: Range<Slot>, table: &Table) -> Vec<Change> {
        slots
            .flat_map(|slot| differences(slot, table.prefix(slot), &other.get(slot), &self.get(slot)))
            .collect()
    }

    /// What a member has to know of paths it missed changes of; what it was told of them is not known any more.
    pub(crate) fn catch_up(
        &self,
        member: Member,
        missed: &[(Option<Slot>, Nlri)],
        table: &Table,
    ) -> (Vec<Nlri>, Vec<(AttrId, Nlri)>) {
        let (mut withdrawn, mut announced) = (Vec::new(), Vec::new());
        // Paths of one prefix follow each other.
        let (mut last, mut routes) = (None, Vec::new());
        for (slot, nlri) in missed {
            if last != Some(*slot) {
                (last, routes) = (Some(*slot), slot.map(|slot| self.get(slot)).unwrap_or_default());
            }
            let at = routes.binary_search_by_key(&nlri.path_id, |(id, _)| u32::from(*id));
            let told = at.ok().map(|at| routes[at]);
            match told.filter(|(_, told)| member.sees(*told, &table.interner)) {
                Some((_, told)) => announced.push((told.attrs, *nlri)),
                None => withdrawn.push(*nlri),
            }
        }
        (withdrawn, announced)
    }

    /// How many routes each of `members` was told.
    pub(crate) fn counts(&self, members: &BTreeSet<Member>, table: &Table) -> BTreeMap<PeerKey, usize> {
        let mut all: usize = 0;
        let mut by_origin: HashMap<(PeerKey, IpAddr), usize, DefaultHashBuilder> = HashMap::default();
        self.each(table.slots(), |_, _, told| {
            all += 1;
            let next_hop = table.interner.get(told.attrs).next_hop();
            *by_origin.entry((told.source, next_hop)).or_default() += 1;
        });
        let (mut of_peer, mut of_address, mut of_both) =
            (BTreeMap::<PeerKey, usize>::new(), BTreeMap::<IpAddr, usize>::new(), BTreeMap::new());
        let mut origins: Vec<_> = by_origin.into_iter().collect();
        origins.sort_unstable();
        for ((peer, address), count) in origins {
            *of_peer.entry(peer).or_default() += count;
            *of_address.entry(address).or_default() += count;
            of_both.insert((peer, address), count);
        }
        let left_out = |member: &Member| {
            let peer = of_peer.get(&member.peer).copied().unwrap_or(0);
            let address = of_address.get(&member.address).copied().unwrap_or(0);
            peer + address - of_both.get(&(member.peer, member.address)).copied().unwrap_or(0)
        };
        members.iter().map(|member| (member.peer, all - left_out(member))).collect()
    }

    /// Marks the attributes told.
    pub(crate) fn mark(&self, marks: &mut Marks) {
        match self {
            AdjOut::Best(told) => told.iter().flatten().for_each(|told| marks.mark(told.attrs)),
            AdjOut::All(all) => {
                // The order of marks is of no account.
                let others = all.others.values().flatten();
                all.first.iter().flatten().chain(others).for_each(|(_, told)| marks.mark(told.attrs));
            }
        }
    }
}

/// Changes between two lists of routes of a prefix, both in order of their identifiers.
fn differences(slot: Slot, prefix: Prefix, old: &[(u16, Told)], new: &[(u16, Told)]) -> Vec<Change> {
    let (mut old, mut new) = (old.iter().copied().peekable(), new.iter().copied().peekable());
    let mut changes = Vec::new();
    while let Some(id) = old.peek().into_iter().chain(new.peek()).map(|(id, _)| *id).min() {
        let before = old.next_if(|(other, _)| *other == id).map(|(_, told)| told);
        let after = new.next_if(|(other, _)| *other == id).map(|(_, told)| told);
        if before != after {
            changes.push(Change { slot, nlri: Nlri { prefix, path_id: id.into() }, old: before, new: after });
        }
    }
    changes
}
