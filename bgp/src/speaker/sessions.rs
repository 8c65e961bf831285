//! Connections and sessions: octets to frames, the actions of the state machines, routes of peers that come and go.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::peer::{Conn, Established};
use super::{ConnId, Note, Output, Speaker};
use crate::family::Family;
use crate::fsm::{Action, Loss, Mark, Peer, Session};
use crate::rib::PeerKey;
use crate::wire::notification::{cease, code};
use crate::wire::{Frame, Notification, Update, frame};

/// How long routes of a peer that is back stay without its End-of-RIB. It may be waiting for peers of its own, in
/// other implementations for 240 s (bgp-behaviour 8).
const STALE_LIMIT: Duration = Duration::from_secs(300);

/// A session shorter than this came to nothing.
const MOMENT: Duration = Duration::from_secs(1);

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

impl Speaker {
    /// Runs an event of the state machine a connection belongs to.
    pub(super) fn with_conn(
        &mut self,
        conn: ConnId,
        event: impl FnOnce(&mut Peer, Instant, &mut Vec<Action>),
    ) {
        if let Some(key) = self.conns.get(&conn).map(|state| state.peer) {
            self.with_peer(key, event);
        }
    }

    pub(super) fn with_peer(
        &mut self,
        key: PeerKey,
        event: impl FnOnce(&mut Peer, Instant, &mut Vec<Action>),
    ) {
        let mut actions = Vec::new();
        if let Some(entry) = self.peers.get_mut(&key) {
            event(&mut entry.fsm, self.now, &mut actions);
        }
        self.act(key, actions);
        self.rearm(key);
    }

    /// Someone connected. Peers are told apart by address; of several with one address, that which has no connection.
    pub(super) fn accepted(&mut self, conn: ConnId, local: IpAddr, remote: SocketAddr) {
        let port = |port| SocketAddr::new(remote.ip(), port);
        let fits = |key: &&PeerKey| {
            let entry = self.peers.get(*key);
            entry.is_some_and(|e| e.config.local_address.is_none_or(|address| address == local))
        };
        let mut candidates = self.keys.range(port(0)..=port(u16::MAX)).map(|(_, key)| key).filter(fits);
        let is_free = |key: &&PeerKey| self.peers.get(*key).is_some_and(|entry| !entry.fsm.is_connected());
        let first = candidates.next();
        let free = first.into_iter().chain(candidates).find(is_free);
        let Some(key) = free.or(first).copied() else {
            self.outputs.push_back(Output::Note(Note::Stranger { remote }));
            if self.strangers.admit(self.now) {
                let rejected = Notification::new(code::CEASE, cease::REJECTED).encode();
                self.outputs.push_back(Output::Send { conn, data: rejected.into() });
            }
            self.outputs.push_back(Output::Close { conn });
            return;
        };
        if let Some(entry) = self.peers.get_mut(&key)
            && !entry.admission.admit(self.now)
        {
            entry.fsm.set_error("connections refused: the peer makes more than one a second".to_owned());
            self.outputs.push_back(Output::Close { conn });
            return;
        }
        self.conns.insert(conn, Conn::new(key, self.now));
        self.with_peer(key, |fsm, now, out| fsm.accepted(conn, local, now, out));
    }

    /// Octets of a connection: whole messages are taken, the rest waits.
    pub(super) fn bytes(&mut self, conn: ConnId, mut data: &[u8]) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let key = state.peer;
        let mut partial = std::mem::take(&mut state.partial);
        // What follows a faulty message is of no interest, and nothing is missing of that message.
        while !partial.is_empty() && !data.is_empty() && self.conns.contains_key(&conn) {
            let (head, tail) = data.split_at(frame::missing(&partial).min(data.len()));
            partial.extend_from_slice(head);
            data = tail;
            if self.take_frame(key, conn, &partial).is_some() {
                partial.clear();
            } else if head.is_empty() {
                break; // Nothing was missing, so it is no message and nobody wants the rest.
            }
        }
        if partial.is_empty() {
            while let Some(rest) = self.take_frame(key, conn, data) {
                data = rest;
            }
            partial.extend_from_slice(data);
        }
        if let Some(state) = self.conns.get_mut(&conn) {
            state.partial = partial;
        }
        self.rearm(key);
    }

    /// Takes the first message and returns what follows it; `None` when it is incomplete or nobody wants it any more.
    fn take_frame<'a>(&mut self, key: PeerKey, conn: ConnId, data: &'a [u8]) -> Option<&'a [u8]> {
        if data.is_empty() || !self.conns.contains_key(&conn) {
            return None;
        }
        let longest = self.peers.get(&key).map_or(frame::MAX_MESSAGE, |entry| entry.fsm.longest(conn));
        match frame::split_within(data, longest) {
            Ok(Some((frame, rest))) => {
                self.frame(key, conn, frame);
                Some(rest)
            }
            Ok(None) => None,
            Err(error) => {
                self.with_peer(key, |fsm, now, out| fsm.broken(conn, &error, now, out));
                None
            }
        }
    }

    fn frame(&mut self, key: PeerKey, conn: ConnId, frame: Frame<'_>) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let mut actions = Vec::new();
        let update = entry.fsm.frame(conn, frame, self.now, &mut actions);
        self.act(key, actions);
        if let Some(update) = update {
            self.update(key, &update);
        }
    }

    fn update(&mut self, key: PeerKey, update: &Update<'_>) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        self.routes.update(key, update, &entry.import);
        if let Some(family) = update.end_of_rib {
            let carried = entry.session.iter().flat_map(|established| &established.session.families);
            entry.told_all |= entry.kept.told(family, carried.map(|carried| carried.family));
            if entry.kept.release_told(family) {
                entry.lost_at = None;
                self.routes.table_mut(family).sweep_stale(key);
            }
        }
        for fault in &update.faults {
            let (name, peer) = (entry.config.name.clone(), entry.id);
            self.outputs.push_back(Output::Note(Note::Fault { name, peer, fault: fault.to_string() }));
        }
        if !update.announced.is_empty() {
            self.over_limit(key);
        }
    }

    /// Beginning or end of a refresh. A beginning before End-of-RIB is ignored, since it would undo graceful restart,
    /// and so is an end without a beginning (RFC 7313 4.2).
    fn marked(&mut self, key: PeerKey, family: Family, mark: Mark) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let Some(established) = &entry.session else { return };
        let fault = match mark {
            Mark::Begin if established.session.restart.is_some() && !entry.kept.is_told(family) => {
                "beginning of a route refresh before End-of-RIB; ignored"
            }
            Mark::Begin => {
                entry.kept.refresh(family, self.now + STALE_LIMIT);
                self.routes.table_mut(family).mark_unconfirmed(key);
                return;
            }
            Mark::End if entry.kept.end_refresh(family) => {
                entry.kept.release(family);
                self.routes.table_mut(family).sweep_stale(key);
                return;
            }
            Mark::End => "end of a route refresh without its beginning; ignored",
        };
        let (name, peer) = (entry.config.name.clone(), entry.id);
        self.outputs.push_back(Output::Note(Note::Fault { name, peer, fault: fault.to_owned() }));
    }

    /// Ends the session of a peer that announced more prefixes of a family than it may.
    pub(super) fn over_limit(&mut self, key: PeerKey) {
        let Some(entry) = self.peers.get(&key) else { return };
        let (Some(limit), Some(established)) = (entry.config.max_prefixes, &entry.session) else { return };
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let over = |family: &Family| self.routes.table(*family).confirmed(key) > most;
        let families: Vec<Family> =
            established.session.families.iter().map(|carried| carried.family).collect();
        if let Some(family) = families.into_iter().find(over) {
            self.with_peer(key, |fsm, now, out| fsm.over_limit(family, limit, now, out));
        }
    }

    /// Does what a state machine wants.
    pub(super) fn act(&mut self, key: PeerKey, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial(conn) => {
                    let Some(entry) = self.peers.get(&key) else { continue };
                    self.outputs.push_back(Output::Dial {
                        conn,
                        peer: entry.id,
                        from: entry.config.local_address,
                    });
                    self.conns.insert(conn, Conn::new(key, self.now));
                }
                Action::Send(conn, data) => self.send(conn, data.into()),
                Action::Close(conn) => {
                    self.conns.remove(&conn);
                    self.outputs.push_back(Output::Close { conn });
                }
                Action::Up(session) => self.up(key, *session),
                Action::Down(loss) => self.down(key, loss),
                Action::Refresh(family) => self.refresh_due(key, family),
                Action::Mark(family, mark) => self.marked(key, family, mark),
            }
        }
    }

    fn up(&mut self, key: PeerKey, session: Session) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let source = entry.source(&session);
        entry.kept.begin();
        for family in FAMILIES {
            if session.family(family).is_some() {
                self.routes.table_mut(family).set_source(key, source);
            }
            if entry.kept.release(family) {
                if session.restart.as_ref().is_some_and(|restart| restart.forwarding(family)) {
                    entry.kept.keep(family, self.now + STALE_LIMIT);
                } else {
                    self.routes.table_mut(family).sweep_stale(key);
                }
            }
        }
        self.outputs.push_back(Output::Note(Note::Up { name: entry.config.name.clone(), peer: entry.id }));
        self.routes.add_own_address(session.local);
        entry.session = Some(Established::new(session, self.now));
        self.joining.insert(key);
    }

    fn down(&mut self, key: PeerKey, loss: Loss) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let Some(established) = entry.session.take() else { return };
        let member = entry.member(key);
        self.joining.remove(&key);
        self.drained.remove(&key);
        for group in established.channels.iter().filter_map(|channel| channel.group) {
            self.routes.leave(group, member);
        }
        let restart = established.session.restart.as_ref().filter(|_| loss == Loss::Graceful);
        // A session of a moment is no restart of its own: two connections of a peer that is back met, and each end closed
        // another one. What was stale before stays, as long as it would have without that moment.
        let lost_at = *entry.lost_at.get_or_insert(self.now);
        let waited = self.now.saturating_duration_since(lost_at);
        let same_restart = established.since + MOMENT > self.now;
        for family in FAMILIES {
            match restart.filter(|restart| restart.keeps(family)) {
                Some(restart) => {
                    // What a refresh had not brought again yet was good all the same.
                    let table = self.routes.table_mut(family);
                    if entry.kept.end_refresh(family) || same_restart && waited < restart.time {
                        table.mark_unconfirmed(key);
                    } else {
                        entry.lost_at = Some(self.now);
                        table.mark_stale(key);
                    }
                    entry.kept.keep(family, self.now + restart.time);
                }
                None => {
                    self.routes.table_mut(family).drop_peer(key);
                    entry.kept.release(family);
                }
            }
        }
        let reason = entry.fsm.status().2.unwrap_or("session ended").to_owned();
        let (name, peer) = (entry.config.name.clone(), entry.id);
        self.outputs.push_back(Output::Note(Note::Down { name, peer, reason }));
    }

    /// Time passed: looks at every peer whose time has come.
    pub(super) fn tick(&mut self) {
        let now = self.now;
        let due: Vec<PeerKey> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            let Some(entry) = self.peers.get_mut(&key) else { continue };
            if let Some(at) = entry.timer.take() {
                self.timers.remove(&(at, key));
            }
            for family in entry.kept.expired(now) {
                self.routes.table_mut(family).sweep_stale(key);
            }
            let stuck = entry.session.as_ref().and_then(|established| {
                let conn = established.session.conn;
                let hold = self.conns.get(&conn)?.send_hold(established.session.hold_time)?;
                (hold <= now).then_some(conn)
            });
            self.with_peer(key, |fsm, now, out| {
                if let Some(conn) = stuck {
                    fsm.send_hold_expired(conn, now, out);
                }
                fsm.tick(now, out);
            });
        }
    }

    /// Puts a peer where it belongs among the timers. A timer that has become too early stays: its peer is looked at
    /// then and moved, which is cheaper than to move it with each message.
    pub(super) fn rearm(&mut self, key: PeerKey) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let Some(deadline) = entry.deadline(entry.conn().and_then(|conn| self.conns.get(&conn))) else {
            return;
        };
        if entry.timer.is_none_or(|timer| timer > deadline) {
            if let Some(old) = entry.timer.replace(deadline) {
                self.timers.remove(&(old, key));
            }
            self.timers.insert((deadline, key));
        }
    }
}
