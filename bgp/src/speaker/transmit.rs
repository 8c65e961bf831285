//! Telling peers: deciding what changed, sharing encodings, peers that do not drain, End-of-RIB.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ConnId, Output, Speaker};
use crate::family::Family;
use crate::rib::PeerKey;
use crate::rib::adj_out::{Batch, Change, Concerned, Member};
use crate::wire::update::end_of_rib;

/// A peer with more than this many octets waiting gets no more; its changes are merged until it drained.
const HIGH_WATER: usize = 1 << 20;
/// A peer with fewer gets what it missed.
const LOW_WATER: usize = 1 << 18;

impl Speaker {
    /// Decides and tells everything that is due.
    pub(super) fn settle(&mut self) {
        self.tell_changes();
        self.tell_joined();
        self.tell_drained();
        let Speaker { startup, peers, now, .. } = self;
        if startup.completes(*now, || peers.values().all(|entry| entry.is_settled())) {
            self.peers.values_mut().for_each(|entry| entry.fsm.set_restarting(false));
            self.routes.begin_relay();
            self.tell_changes();
            self.outputs.push_back(Output::Converged);
        }
        self.end_ribs();
        self.routes.forget_empty_groups();
    }

    fn tell_changes(&mut self) {
        let (changes, told) = self.routes.settle();
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
        let mut by_group: BTreeMap<u32, Vec<Member>> = BTreeMap::new();
        for key in std::mem::take(&mut self.joining) {
            let (Some(entry), Some(config)) = (self.peers.get_mut(&key), &self.config) else { continue };
            let member = entry.member(key);
            let Some(rules) = entry.session.as_ref().map(|e| entry.export_rules(config, &e.session)) else {
                continue;
            };
            let id = self.routes.group_for(&rules);
            self.routes.join(id, member);
            if let Some(established) = &mut entry.session {
                established.group = Some(id);
                established.end_of_rib_due = true;
            }
            by_group.entry(id).or_default().push(member);
        }
        for (id, members) in by_group {
            let all = self.routes.group(id).map(|group| group.out.all()).unwrap_or_default();
            self.deliver(id, &all, &members);
        }
    }

    /// A route refresh: everything once more.
    pub(super) fn tell_all(&mut self, key: PeerKey) {
        let Some(entry) = self.peers.get(&key) else { return };
        let member = entry.member(key);
        let Some(id) = entry.session.as_ref().and_then(|established| established.group) else { return };
        let all = self.routes.group(id).map(|group| group.out.all()).unwrap_or_default();
        self.deliver(id, &all, &[member]);
    }

    /// Moves a session to the group of its present rules and tells it the difference.
    pub(super) fn regroup(&mut self) {
        let mut moves: BTreeMap<(u32, u32), Vec<Member>> = BTreeMap::new();
        let Some(config) = &self.config else { return };
        for (key, entry) in &mut self.peers {
            let Some(rules) = entry.session.as_ref().map(|e| entry.export_rules(config, &e.session)) else {
                continue;
            };
            let Some(old) = entry.session.as_ref().and_then(|e| e.group) else { continue };
            if self.routes.group(old).is_some_and(|group| group.rules == rules) {
                continue;
            }
            let new = self.routes.group_for(&rules);
            let member = entry.member(*key);
            self.routes.leave(old, member);
            self.routes.join(new, member);
            if let Some(established) = &mut entry.session {
                established.group = Some(new);
            }
            moves.entry((old, new)).or_default().push(member);
        }
        for ((old, new), members) in moves {
            let difference = match (self.routes.group(old), self.routes.group(new)) {
                (Some(old), Some(new)) => new.out.difference(&old.out),
                _ => continue,
            };
            self.deliver(new, &difference, &members);
        }
    }

    /// Sends changes to members of a group. Members that none of the changes excludes share the encoding.
    fn deliver(&mut self, group: u32, changes: &[Change], members: &[Member]) {
        let Some((family, four_octet)) =
            self.routes.group(group).map(|g| (g.rules.family, g.rules.four_octet))
        else {
            return;
        };
        let concerned = Concerned::of(changes);
        let mut common: Option<Option<Arc<[u8]>>> = None;
        for member in members {
            let Some(established) = self.peers.get_mut(&member.peer).and_then(|entry| entry.session.as_mut())
            else {
                continue;
            };
            if let Some(missed) = &mut established.behind {
                missed.extend(changes.iter().map(|change| change.prefix));
                continue;
            }
            let data = if concerned.includes(*member) {
                Batch::new(changes, Some(*member)).encode(family, four_octet)
            } else {
                common.get_or_insert_with(|| Batch::new(changes, None).encode(family, four_octet)).clone()
            };
            if let Some(data) = data {
                self.send_routes(member.peer, data);
            }
        }
    }

    fn send_routes(&mut self, key: PeerKey, data: Arc<[u8]>) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let Some(conn) = entry.conn() else { return };
        entry.fsm.spoke(conn, self.now);
        self.send(conn, data);
        let waiting = self.conns.get(&conn).map_or(0, |conn| conn.in_flight);
        if let Some(established) = self.peers.get_mut(&key).and_then(|entry| entry.session.as_mut())
            && waiting > HIGH_WATER
        {
            established.behind = Some(BTreeSet::new());
        }
        self.rearm(key);
    }

    /// Hands octets out and counts them.
    pub(super) fn send(&mut self, conn: ConnId, data: Arc<[u8]>) {
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
            if self.peers.get(&key).is_some_and(|e| e.session.as_ref().is_some_and(|s| s.behind.is_some())) {
                self.drained.insert(key);
            }
        }
    }

    fn tell_drained(&mut self) {
        for key in std::mem::take(&mut self.drained) {
            let Some(entry) = self.peers.get_mut(&key) else { continue };
            let member = entry.member(key);
            let Some(established) = &mut entry.session else { continue };
            let (Some(missed), Some(id)) = (established.behind.take(), established.group) else { continue };
            let Some(group) = self.routes.group(id) else { continue };
            let batch = group.out.catch_up(member, &missed);
            if let Some(data) = batch.encode(group.rules.family, group.rules.four_octet) {
                self.send_routes(key, data);
            }
        }
    }

    /// End-of-RIB to those who got everything.
    fn end_ribs(&mut self) {
        if !self.startup.may_end() {
            return;
        }
        let mut due: Vec<(PeerKey, Family)> = Vec::new();
        for (key, entry) in &mut self.peers {
            if let Some(established) = &mut entry.session
                && established.end_of_rib_due
                && established.behind.is_none()
            {
                established.end_of_rib_due = false;
                due.push((*key, entry.fsm.settings().family));
            }
        }
        for (key, family) in due {
            self.send_routes(key, end_of_rib(family).into());
        }
    }
}
