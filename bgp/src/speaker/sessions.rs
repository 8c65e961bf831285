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
        let fits = |(_, key): &(&SocketAddr, &PeerKey)| {
            let entry = self.peers.get(*key);
            entry.is_some_and(|e| e.config.local_address.is_none_or(|address| address == local))
        };
        let of_address = |(id, _): &(&SocketAddr, &PeerKey)| id.ip() == remote.ip();
        let candidates: Vec<PeerKey> =
            self.keys.iter().filter(of_address).filter(fits).map(|(_, key)| *key).collect();
        let free = candidates.iter().find(|key| !self.conns.values().any(|state| state.peer == **key));
        let Some(key) = free.or(candidates.first()).copied() else {
            self.outputs.push_back(Output::Note(Note::Stranger { remote }));
            let rejected = Notification::new(code::CEASE, cease::REJECTED).encode();
            self.outputs.push_back(Output::Send { conn, data: rejected.into() });
            self.outputs.push_back(Output::Close { conn });
            return;
        };
        self.conns.insert(conn, Conn::new(key, self.now));
        self.with_peer(key, |fsm, now, out| fsm.accepted(conn, local, now, out));
    }

    /// Octets of a connection: whole messages are taken, the rest waits.
    pub(super) fn bytes(&mut self, conn: ConnId, data: &[u8]) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let key = state.peer;
        let longest = self.peers.get(&key).map_or(frame::MAX_MESSAGE, |entry| entry.fsm.longest(conn));
        let mut joined = std::mem::take(&mut state.partial);
        let mut rest: &[u8] = if joined.is_empty() {
            data
        } else {
            joined.extend(data);
            &joined
        };
        while self.conns.contains_key(&conn) {
            match frame::split_within(rest, longest) {
                Ok(Some((frame, tail))) => {
                    self.frame(key, conn, frame);
                    rest = tail;
                }
                Ok(None) => break,
                Err(error) => self.with_peer(key, |fsm, now, out| fsm.broken(conn, &error, now, out)),
            }
        }
        if let Some(state) = self.conns.get_mut(&conn) {
            state.partial = rest.to_vec();
        }
        self.rearm(key);
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
                self.routes.sweep_stale(family, key);
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
                self.routes.mark_unconfirmed(family, key);
                return;
            }
            Mark::End if entry.kept.end_refresh(family) => {
                entry.kept.release(family);
                self.routes.sweep_stale(family, key);
                return;
            }
            Mark::End => "end of a route refresh without its beginning; ignored",
        };
        let (name, peer) = (entry.config.name.clone(), entry.id);
        self.outputs.push_back(Output::Note(Note::Fault { name, peer, fault: fault.to_owned() }));
    }

    /// Ends the session of a peer that announced more prefixes of a family than it may.
    fn over_limit(&mut self, key: PeerKey) {
        let Some(entry) = self.peers.get(&key) else { return };
        let (Some(limit), Some(established)) = (entry.config.max_prefixes, &entry.session) else { return };
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let over = |family: &Family| self.routes.known(*family, key) > most;
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
                Action::Refresh(_) => self.tell_all(key),
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
                self.routes.set_source(family, key, source);
            }
            if entry.kept.release(family) {
                if session.restart.as_ref().is_some_and(|restart| restart.forwarding(family)) {
                    entry.kept.keep(family, self.now + STALE_LIMIT);
                } else {
                    self.routes.sweep_stale(family, key);
                }
            }
        }
        self.outputs.push_back(Output::Note(Note::Up { name: entry.config.name.clone(), peer: entry.id }));
        entry.session = Some(Established { session, group: None, behind: None, end_of_rib_due: false });
        self.joining.insert(key);
        self.update_own_addresses();
    }

    fn down(&mut self, key: PeerKey, loss: Loss) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let Some(established) = entry.session.take() else { return };
        let member = entry.member(key);
        self.joining.remove(&key);
        self.drained.remove(&key);
        if let Some(group) = established.group {
            self.routes.leave(group, member);
        }
        let restart = established.session.restart.as_ref().filter(|_| loss == Loss::Graceful);
        for family in FAMILIES {
            match restart.filter(|restart| restart.keeps(family)) {
                Some(restart) => {
                    // What a refresh had not brought again yet was good all the same.
                    if entry.kept.end_refresh(family) {
                        self.routes.mark_unconfirmed(family, key);
                    } else {
                        self.routes.mark_stale(family, key);
                    }
                    entry.kept.keep(family, self.now + restart.time);
                }
                None => {
                    self.routes.drop_peer(family, key);
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
            for family in entry.kept.expired(now) {
                self.routes.sweep_stale(family, key);
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

    /// Puts a peer where it belongs among the timers.
    pub(super) fn rearm(&mut self, key: PeerKey) {
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let deadline = entry.deadline(entry.conn().and_then(|conn| self.conns.get(&conn)));
        if entry.timer != deadline {
            if let Some(old) = entry.timer {
                self.timers.remove(&(old, key));
            }
            self.timers.extend(deadline.map(|at| (at, key)));
            entry.timer = deadline;
        }
    }
}
