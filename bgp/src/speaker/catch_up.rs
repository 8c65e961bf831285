//! Peers that are told the whole table, in strides as far as they take it, and what they missed meanwhile or while they did
//! not drain their queues.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Speaker;
use super::peer::Walk;
use super::routes::Group;
use super::transmit::{HIGH_WATER, STRIDE};
use crate::family::Family;
use crate::rib::PeerKey;
use crate::rib::adj_out::Member;
use crate::rib::loc::Slot;
use crate::wire::refresh::{self, Subtype};

/// A peer with fewer gets what it missed.
pub(super) const LOW_WATER: usize = 1 << 18;

impl Speaker {
    /// The peer asks for everything of a family once more.
    pub(super) fn refresh_due(&mut self, key: PeerKey, family: Family) {
        let entry = self.peers.get_mut(&key).and_then(|entry| entry.session.as_mut());
        if let Some(channel) = entry.and_then(|established| established.channel(family)) {
            channel.refresh_due = channel.group.is_some();
            self.drained.insert(key);
        }
    }

    /// Begins to tell members of a group the whole table; `marked` for a refresh between marks (RFC 7313 4).
    pub(super) fn begin_walk(&mut self, group: u32, members: &[Member], marked: bool) {
        let Some(family) = self.routes.group(group).map(Group::family) else { return };
        for member in members {
            let entry = self.peers.get_mut(&member.peer).and_then(|entry| entry.session.as_mut());
            if let Some(channel) = entry.and_then(|established| established.channel(family)) {
                channel.walk = Some(Walk { next: 0, marked });
                channel.fall_behind();
            }
            if marked {
                self.send_routes(member.peer, family, refresh::encode(family, Subtype::Begin).into());
            }
        }
        self.go_on(group, members.to_vec(), 0);
    }

    /// Tells members that have come as far as `next` more of the table, as long as they drain it.
    fn go_on(&mut self, id: u32, mut members: Vec<Member>, mut next: Slot) {
        while let Some((group, table)) = self.routes.group_and_table(id).filter(|_| !members.is_empty()) {
            let (family, slots) = (group.family(), next..table.slots().end.min(next.saturating_add(STRIDE)));
            let end = (slots.end == table.slots().end).then_some(slots.end);
            let batch = group.batch(&group.out.all(slots.clone(), table), table);
            let pieces: Vec<(PeerKey, Vec<Bytes>)> =
                members.iter().map(|m| (m.peer, batch.for_member(*m, &table.interner))).collect();
            for (key, octets) in pieces {
                octets.into_iter().for_each(|octets| self.send_routes(key, family, octets));
            }
            next = slots.end;
            members.retain(|member| self.walked(member.peer, family, next, end.is_some()));
        }
    }

    /// A peer was told the table as far as `next`; true when it takes more at once.
    fn walked(&mut self, key: PeerKey, family: Family, next: Slot, done: bool) -> bool {
        let Some(entry) = self.peers.get_mut(&key) else { return false };
        let in_flight = entry.conn().and_then(|conn| self.conns.get(&conn)).map_or(0, |c| c.in_flight);
        let Some(channel) = entry.session.as_mut().and_then(|e| e.channel(family)) else { return false };
        let Some(walk) = &mut channel.walk else { return false };
        walk.next = next;
        if !done {
            return in_flight <= HIGH_WATER;
        }
        channel.mark_due = walk.marked;
        channel.walk = None;
        // What changed meanwhile comes next.
        self.drained.insert(key);
        false
    }

    /// Peers that drained get what they missed, and refreshes they asked for.
    pub(super) fn tell_drained(&mut self) {
        while !self.drained.is_empty() {
            let walks = self.catch_up();
            if walks.is_empty() {
                return;
            }
            for ((id, next), members) in walks {
                self.go_on(id, members.into_iter().collect(), next);
            }
        }
    }

    /// Peers that drained get what they missed. Returns those that are told the table, by how far they are.
    fn catch_up(&mut self) -> BTreeMap<(u32, Slot), BTreeSet<Member>> {
        let mut walks: BTreeMap<(u32, Slot), BTreeSet<Member>> = BTreeMap::new();
        while let Some(key) = self.drained.pop_first() {
            let Some(entry) = self.peers.get_mut(&key) else { continue };
            let in_flight = entry.conn().and_then(|conn| self.conns.get(&conn)).map_or(0, |c| c.in_flight);
            if in_flight > LOW_WATER {
                continue; // It comes again when it has drained.
            }
            let member = entry.member(key);
            let Some(established) = &mut entry.session else { continue };
            let marked = established.session.enhanced_refresh;
            let mut again: Vec<(u32, bool)> = Vec::new();
            let mut due: Vec<(Family, Bytes)> = Vec::new();
            for channel in &mut established.channels {
                if let (Some(walk), Some(id)) = (channel.walk, channel.group) {
                    walks.entry((id, walk.next)).or_default().insert(member);
                    continue;
                }
                if std::mem::take(&mut channel.refresh_due) {
                    // A mark before End-of-RIB would undo graceful restart (RFC 7313 4.2).
                    let marked = marked && !channel.end_of_rib_due;
                    again.extend(channel.group.map(|id| (id, marked)));
                }
                let Some(mut missed) = channel.behind.take() else { continue };
                let Some((group, table)) = channel.group.and_then(|id| self.routes.group_and_table(id))
                else {
                    continue;
                };
                let some = missed.take(STRIDE as usize, table);
                let (withdrawn, announced) = group.out.catch_up(member, &some, table);
                let octets = group.rules.form.encode(withdrawn, announced, &table.interner);
                due.push((channel.carried.family, octets));
                channel.behind = Some(missed).filter(|missed| !missed.is_empty());
                if channel.behind.is_none() && std::mem::take(&mut channel.mark_due) {
                    let mark = refresh::encode(channel.carried.family, Subtype::End);
                    due.push((channel.carried.family, mark.into()));
                }
            }
            let more = established.channels.iter().any(|c| c.walk.is_none() && c.behind.is_some());
            for (family, octets) in due.into_iter().filter(|(_, octets)| !octets.is_empty()) {
                self.send_routes(key, family, octets);
            }
            if more && again.is_empty() {
                self.go_on_catching_up(key);
            }
            again.into_iter().for_each(|(id, marked)| self.begin_walk(id, &[member], marked));
        }
        walks
    }

    /// A peer that still missed something gets it at once if it drains, else when it has drained.
    fn go_on_catching_up(&mut self, key: PeerKey) {
        let conn = self.peers.get(&key).and_then(|entry| entry.conn()).and_then(|conn| self.conns.get(&conn));
        if conn.is_some_and(|conn| conn.in_flight <= LOW_WATER) {
            self.drained.insert(key);
        }
    }
}
