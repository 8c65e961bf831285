//! Telling peers: deciding what changed, sharing encodings, sending, End-of-RIB.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::catch_up::LOW_WATER;
use super::peer::Established;
use super::{ConnId, Output, Speaker};
use crate::family::Family;
use crate::rib::PeerKey;
use crate::rib::adj_out::{Change, Member};
use crate::rib::loc::Slot;
use crate::wire::update::end_of_rib;

/// A peer with more than this many octets waiting gets no more; its changes are merged until it drained.
pub(super) const HIGH_WATER: usize = 1 << 20;
/// Prefixes of the table decided or told at a time.
pub(super) const STRIDE: Slot = 1 << 14;

impl Speaker {
    /// Decides and tells what is due. Large changes in strides: the rest follows when these outputs are taken, so that
    /// the loss of a peer with a large table costs little memory.
    pub(super) fn settle(&mut self) {
        while self.routes.is_unsettled() {
            self.tell_changes();
            if !self.outputs.is_empty() {
                return;
            }
        }
        self.tell_joined();
        self.tell_drained();
        let Speaker { startup, peers, now, .. } = self;
        if startup.completes(*now, || peers.values().all(|entry| entry.is_settled())) {
            self.peers.values_mut().for_each(|entry| entry.fsm.set_restarting(false));
            self.routes.begin_relay();
            while self.routes.is_unsettled() {
                self.tell_changes();
            }
        }
        let Speaker { startup, peers, now, .. } = self;
        if startup.ends(*now, || peers.values().all(|entry| entry.has_told())) {
            self.outputs.push_back(Output::Converged);
        }
        self.end_ribs();
        self.routes.forget_empty_groups();
        self.routes.sweep();
        let established = || self.peers.values().filter_map(|entry| entry.session.as_ref());
        self.routes.recycle(|| established().any(Established::is_behind));
    }

    fn tell_changes(&mut self) {
        let (changes, told) = self.routes.settle(STRIDE as usize);
        if !changes.is_empty() {
            self.outputs.push_back(Output::Changes(changes));
        }
        for (id, changes) in told {
            let members: Vec<Member> = self
                .routes
                .group(id)
                .map(|group| group.members.iter().copied().collect())
                .unwrap_or_default();
            self.deliver(id, &changes, &members);
        }
    }

    /// Sessions that came up get everything; those of a group share it.
    fn tell_joined(&mut self) {
        if self.joining.is_empty() {
            return;
        }
        let mut by_group: BTreeMap<u32, Vec<Member>> = BTreeMap::new();
        for key in std::mem::take(&mut self.joining) {
            let (Some(entry), Some(config)) = (self.peers.get_mut(&key), &self.config) else { continue };
            let member = entry.member(key);
            let rules: Vec<_> = entry
                .session
                .iter()
                .flat_map(|e| e.session.families.iter().map(|carried| (*carried, &e.session)))
                .map(|(carried, session)| (carried.family, entry.export_rules(config, session, carried)))
                .collect();
            for (family, rules) in rules {
                let id = self.routes.group_for(&rules);
                self.routes.join(id, member);
                if let Some(channel) = entry.session.as_mut().and_then(|e| e.channel(family)) {
                    channel.group = Some(id);
                    channel.end_of_rib_due = true;
                }
                by_group.entry(id).or_default().push(member);
            }
            self.ending.insert(key);
        }
        for (id, members) in by_group {
            self.begin_walk(id, &members, false);
        }
    }

    /// Moves sessions to the groups of their present rules and tells them the difference.
    pub(super) fn regroup(&mut self) {
        let mut moves: BTreeMap<(u32, u32), Vec<Member>> = BTreeMap::new();
        let Some(config) = &self.config else { return };
        for (key, entry) in &mut self.peers {
            let member = entry.member(*key);
            let rules: Vec<_> = entry
                .session
                .iter()
                .flat_map(|e| e.channels.iter().map(|channel| (channel.carried, channel.group, &e.session)))
                .filter_map(|(carried, group, session)| {
                    Some((carried.family, group?, entry.export_rules(config, session, carried)))
                })
                .collect();
            for (family, old, rules) in rules {
                if self.routes.group(old).is_some_and(|group| group.rules == rules) {
                    continue;
                }
                let new = self.routes.group_for(&rules);
                self.routes.leave(old, member);
                self.routes.join(new, member);
                if let Some(channel) = entry.session.as_mut().and_then(|e| e.channel(family)) {
                    channel.group = Some(new);
                }
                moves.entry((old, new)).or_default().push(member);
            }
        }
        for ((old, new), members) in moves {
            let mut next = 0;
            while let (Some(old), Some((group, table))) =
                (self.routes.group(old), self.routes.group_and_table(new))
                && next < table.slots().end
            {
                let slots = next..table.slots().end.min(next.saturating_add(STRIDE));
                next = slots.end;
                let difference = group.out.difference(&old.out, slots, table);
                self.deliver(new, &difference, &members);
            }
        }
    }

    /// Sends changes to members of a group, encoded once.
    fn deliver(&mut self, group: u32, changes: &[Change], members: &[Member]) {
        if changes.is_empty() {
            return;
        }
        let Some((group, table)) = self.routes.group_and_table(group) else { return };
        let family = group.family();
        let batch = group.batch(changes, table);
        let mut pieces: Vec<(PeerKey, Bytes)> = Vec::with_capacity(members.len());
        for member in members {
            let entry = self.peers.get_mut(&member.peer).and_then(|entry| entry.session.as_mut());
            let Some(channel) = entry.and_then(|established| established.channel(family)) else { continue };
            if let Some(missed) = &mut channel.behind {
                changes.iter().for_each(|change| missed.add(change));
                continue;
            }
            let octets = batch.for_member(*member, &table.interner);
            pieces.extend(octets.into_iter().map(|octets| (member.peer, octets)));
        }
        for (key, octets) in pieces {
            self.send_routes(key, family, octets);
        }
    }

    pub(super) fn send_routes(&mut self, key: PeerKey, family: Family, octets: Bytes) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let Some(conn) = entry.conn() else { return };
        entry.fsm.spoke(conn, self.now);
        self.send(conn, octets);
        let waiting = self.conns.get(&conn).map_or(0, |conn| conn.in_flight);
        if waiting > HIGH_WATER
            && let Some(entry) = self.peers.get_mut(&key)
            && let Some(channel) = entry.session.as_mut().and_then(|e| e.channel(family))
        {
            channel.fall_behind();
        }
        self.rearm(key);
    }

    /// Hands octets out and counts them.
    pub(super) fn send(&mut self, conn: ConnId, data: Bytes) {
        if let Some(state) = self.conns.get_mut(&conn) {
            if state.in_flight == 0 {
                state.progress = self.now;
            }
            state.in_flight += data.len();
            self.outputs.push_back(Output::Send { conn, data });
        }
    }

    /// The kernel took octets.
    pub(super) fn sent(&mut self, conn: ConnId, octets: usize) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.in_flight = state.in_flight.saturating_sub(octets);
        state.progress = self.now;
        if state.in_flight <= LOW_WATER {
            let key = state.peer;
            if self.peers.get(&key).is_some_and(|e| e.session.as_ref().is_some_and(|s| s.is_behind())) {
                self.drained.insert(key);
            }
        }
    }

    /// End-of-RIB to those who got everything.
    fn end_ribs(&mut self) {
        if self.ending.is_empty() || !self.startup.may_end() {
            return;
        }
        let mut due: Vec<(PeerKey, Family)> = Vec::new();
        let peers = &mut self.peers;
        self.ending.retain(|key| {
            let Some(established) = peers.get_mut(key).and_then(|entry| entry.session.as_mut()) else {
                return false;
            };
            for channel in &mut established.channels {
                if channel.end_of_rib_due && channel.behind.is_none() && channel.group.is_some() {
                    channel.end_of_rib_due = false;
                    due.push((*key, channel.carried.family));
                }
            }
            established.channels.iter().any(|channel| channel.end_of_rib_due)
        });
        for (key, family) in due {
            self.send_routes(key, family, end_of_rib(family).into());
        }
    }
}
