//! Nexthop objects for routes with several next hops; pure. One object for each next hop, one group for each set of them,
//! shared by all routes that lead there.
//!
//! A route with one next hop names no object: the kernel drops an object, and every route over it, as soon as its
//! interface loses its carrier, while a route that says itself where it leads stays (docs/decisions/0008). Groups accept that, since
//! it is what takes a dead next hop out of use at once.
//!
//! When all routes of a group move to one other set together, the group is changed instead of the routes: one message. Not of
//! IPv6: there the kernel loses packets while a group changes under its routes (Linux 6.18), and none while routes are replaced.

use std::collections::{BTreeMap, BTreeSet};

use super::delta::{Delta, Pending};
use super::owner::{self, LEARNED_PROTOCOL};
use crate::kernel::{Hop, Nexthop, NexthopChange, NexthopObject};

/// Objects, and who uses them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The kernel has such objects.
    supported: bool,
    objects: Delta<u32, Nexthop>,
    /// Numbers in our range that others use.
    taken: BTreeSet<u32>,
    /// Ours as last read, by what they are: what a process before this one has left is used again.
    left: BTreeMap<Nexthop, u32>,
    groups: BTreeMap<Vec<Hop>, Used>,
    members: BTreeMap<Hop, Used>,
    hops: BTreeMap<u32, Vec<Hop>>,
    last: u32,
}

#[derive(Debug)]
struct Used {
    id: u32,
    users: usize,
}

/// A route's change of next hops: the group before, if any, and the set after, if it is to be a group.
pub(super) type Move<'a> = (Option<u32>, Option<&'a [Hop]>);

impl Groups {
    /// All objects of the kernel as just read; `None` when it knows none.
    pub(super) fn read(&mut self, found: Option<BTreeMap<u32, NexthopObject>>) {
        self.supported = found.is_some();
        let found = found.unwrap_or_default();
        self.taken = found.keys().copied().filter(|id| owner::NEXTHOP_IDS.contains(id)).collect();
        let ours = found.into_iter().filter(|(id, object)| owner::is_our_nexthop(*id, object));
        let ours: BTreeMap<u32, Nexthop> = ours.map(|(id, object)| (id, object.nexthop)).collect();
        self.taken.retain(|id| !ours.contains_key(id));
        self.left = ours.iter().map(|(id, nexthop)| (nexthop.clone(), *id)).collect();
        self.objects.set_actual(ours);
    }

    /// Whether routes may use groups.
    pub(super) fn supported(&self) -> bool {
        self.supported
    }

    /// The set a group stands for.
    pub(super) fn hops(&self, group: u32) -> Option<&[Hop]> {
        self.hops.get(&group).map(Vec::as_slice)
    }

    /// Whether a group is in the kernel as it should be.
    pub(super) fn in_place(&self, group: u32) -> bool {
        self.objects.in_place(&group)
    }

    /// Whether this object should be there.
    pub(super) fn is_wanted(&self, id: u32) -> bool {
        self.objects.desired().contains_key(&id)
    }

    /// Looks at changes that are about to be made together: a group all of whose routes move to one set that has no group
    /// yet becomes the group of that set. IPv4 only.
    pub(super) fn follow<'a>(&mut self, moves: impl Iterator<Item = Move<'a>>) {
        let mut leaving: BTreeMap<u32, (usize, Option<&[Hop]>)> = BTreeMap::new();
        for (group, to) in moves {
            let Some(group) = group else { continue };
            let (count, target) = leaving.entry(group).or_insert((0, to));
            *count += 1;
            if *target != to {
                *target = None;
            }
        }
        for (group, (count, target)) in leaving {
            let (Some(target), Some(before)) = (target, self.hops.get(&group)) else { continue };
            let ipv6 = target.iter().any(|hop| hop.gateway.is_some_and(|gateway| gateway.is_ipv6()));
            if ipv6
                || self.groups.contains_key(target)
                || self.groups.get(before).is_none_or(|used| used.users != count)
            {
                continue;
            }
            self.become_group_of(group, before.clone(), target);
        }
    }

    fn become_group_of(&mut self, group: u32, before: Vec<Hop>, target: &[Hop]) {
        let members = self.acquire_members(target);
        if let Some(used) = self.groups.remove(&before) {
            self.groups.insert(target.to_vec(), used);
        }
        self.hops.insert(group, target.to_vec());
        self.objects.set_desired_of(group, Some(Nexthop::Group(members)));
        self.release_members(&before);
    }

    /// One more route leads to this set: the number of its group.
    pub(super) fn acquire(&mut self, hops: &[Hop]) -> u32 {
        if let Some(used) = self.groups.get_mut(hops) {
            used.users += 1;
            return used.id;
        }
        let group = Nexthop::Group(self.acquire_members(hops));
        let id = self.number_for(&group);
        self.objects.set_desired_of(id, Some(group));
        self.groups.insert(hops.to_vec(), Used { id, users: 1 });
        self.hops.insert(id, hops.to_vec());
        id
    }

    /// One route less leads there.
    pub(super) fn release(&mut self, group: u32) {
        let Some(hops) = self.hops.get(&group) else { return };
        let Some(used) = self.groups.get_mut(hops) else { return };
        used.users -= 1;
        if used.users > 0 {
            return;
        }
        self.groups.remove(hops);
        self.objects.set_desired_of(group, None);
        if let Some(hops) = self.hops.remove(&group) {
            self.release_members(&hops);
        }
    }

    fn acquire_members(&mut self, hops: &[Hop]) -> Vec<u32> {
        let mut ids: Vec<u32> = hops.iter().map(|hop| self.acquire_member(*hop)).collect();
        ids.sort_unstable();
        ids
    }

    fn acquire_member(&mut self, hop: Hop) -> u32 {
        if let Some(used) = self.members.get_mut(&hop) {
            used.users += 1;
            return used.id;
        }
        let id = self.number_for(&Nexthop::Hop(hop));
        self.objects.set_desired_of(id, Some(Nexthop::Hop(hop)));
        self.members.insert(hop, Used { id, users: 1 });
        id
    }

    fn release_members(&mut self, hops: &[Hop]) {
        for hop in hops {
            let Some(used) = self.members.get_mut(hop) else { continue };
            used.users -= 1;
            if used.users == 0 {
                self.objects.set_desired_of(used.id, None);
                self.members.remove(hop);
            }
        }
    }

    /// The number of an object of ours that is just this and not in use, or one nobody has.
    fn number_for(&mut self, nexthop: &Nexthop) -> u32 {
        let desired = self.objects.desired();
        if let Some(id) = self.left.get(nexthop)
            && !desired.contains_key(id)
            && self.objects.actual().get(id) == Some(nexthop)
        {
            return *id;
        }
        let used = |id: &u32| {
            desired.contains_key(id) || self.objects.actual().contains_key(id) || self.taken.contains(id)
        };
        let (first, end) = (owner::NEXTHOP_IDS.start, owner::NEXTHOP_IDS.end);
        let from = if (first..end).contains(&self.last) { self.last + 1 } else { first };
        // A million numbers for some hundreds of objects: there is one.
        let id = (from..end).chain(first..from).find(|id| !used(id)).unwrap_or(first);
        self.last = id;
        id
    }

    /// What is to be set: next hops first, then the groups that need them.
    pub(super) fn to_set(&self) -> Vec<(u32, NexthopChange)> {
        let mut changes = Vec::new();
        for (id, pending) in self.objects.pending() {
            let (before, nexthop) = match pending {
                Pending::Add(nexthop) => (None, nexthop),
                Pending::Change { from, to } => (Some(from), to),
                Pending::Remove(_) => continue,
            };
            // Somebody made another kind of object of it, and the kernel refuses to turn one into the other.
            if before.is_some_and(|before| is_group(before) != is_group(nexthop)) {
                changes.push((is_group(nexthop), *id, NexthopChange::Remove(*id)));
            }
            let object = NexthopObject { protocol: LEARNED_PROTOCOL, nexthop: nexthop.clone() };
            changes.push((is_group(nexthop), *id, NexthopChange::Set(*id, object)));
        }
        changes.sort_by_key(|(group, ..)| *group);
        changes.into_iter().map(|(_, id, change)| (id, change)).collect()
    }

    /// Whether anything is to be removed, when the time has come.
    pub(super) fn has_leftovers(&self) -> bool {
        self.objects.pending().any(|(_, pending)| matches!(pending, Pending::Remove(_)))
    }

    /// What is to be removed: groups no route is over, then next hops no group is over.
    pub(super) fn to_remove(&self, in_use: &BTreeSet<u32>) -> Vec<(u32, NexthopChange)> {
        let leftover = |group: bool| {
            self.objects.pending().filter_map(move |(id, pending)| match pending {
                Pending::Remove(nexthop) if is_group(nexthop) == group => Some(*id),
                Pending::Remove(_) | Pending::Add(_) | Pending::Change { .. } => None,
            })
        };
        let groups: Vec<u32> = leftover(true).filter(|id| !in_use.contains(id)).collect();
        let gone: BTreeSet<u32> = groups.iter().copied().collect();
        let staying = self.objects.actual().iter().filter(|(id, _)| !gone.contains(id));
        let needed: BTreeSet<u32> = staying
            .flat_map(|(_, nexthop)| match nexthop {
                Nexthop::Group(members) => members.as_slice(),
                Nexthop::Hop(_) | Nexthop::Other => &[],
            })
            .copied()
            .collect();
        let members = leftover(false).filter(|id| !needed.contains(id) && !in_use.contains(id));
        groups.into_iter().chain(members).map(|id| (id, NexthopChange::Remove(id))).collect()
    }

    /// The kernel made it so.
    pub(super) fn done(&mut self, id: u32) {
        self.objects.done(&id);
    }
}

fn is_group(nexthop: &Nexthop) -> bool {
    matches!(nexthop, Nexthop::Group(_))
}

#[cfg(test)]
mod tests;
