//! A configured peer: dialling, back-off, collisions (RFC 4271 6.8), and at most two connections at a time.
//!
//! Every public method is one event; it cannot fail. What is wrong ends in a NOTIFICATION and in `last_error`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::action::Action;
use super::connection::{Connection, Expired, Stage};
use super::held::Held;
use super::jitter::Jitter;
use super::negotiate::Settings;
use crate::snapshot::SessionState;
use crate::speaker::ConnId;
use crate::wire::frame::{EXTENDED_MESSAGE, MAX_MESSAGE};
use crate::wire::notification::code;
use crate::wire::{Notification, frame};

/// Back-off after an error: doubles up to the second, forgotten after the third (bgp-behaviour 2.3).
pub(super) const BACKOFF: (Duration, Duration, Duration) =
    (Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(300));
/// First pause between attempts to connect; doubles up to `connect_retry`. Refused connections are cheap, and a peer
/// that restarts is back in a moment.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(250);
/// A session that lasted this long may be dialled again at once, and a connection dialled by the peer after it is a
/// restart of the peer rather than a collision.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// The dialling side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// Not to be dialled, for now or ever.
    Off,
    At(Instant),
    Dialling {
        conn: ConnId,
        give_up: Instant,
    },
}

/// The state machine of a peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) settings: Settings,
    /// High half of the ids of dialled connections.
    pub(super) incarnation: u32,
    pub(super) dials: u32,
    pub(super) dial: Dial,
    pub(super) connections: Vec<Connection>,
    /// Attempts since the last lasting session.
    pub(super) attempts: u32,
    pub(super) backoff: Duration,
    pub(super) failed_at: Option<Instant>,
    pub(super) last_error: Option<String>,
    pub(super) state: (SessionState, Instant),
    pub(super) restarting: bool,
    pub(super) jitter: Jitter,
    /// Kept down until its configuration changes.
    pub(super) held: Option<Held>,
}

impl Peer {
    pub(crate) fn new(settings: Settings, incarnation: u32, now: Instant) -> Peer {
        let dial = if settings.passive { Dial::Off } else { Dial::At(now) };
        let seed = u64::from(incarnation) << 32 | u64::from(u32::from(settings.router_id));
        let mut peer = Peer {
            settings,
            incarnation,
            jitter: Jitter::new(seed),
            held: None,
            dials: 0,
            dial,
            connections: Vec::new(),
            attempts: 0,
            backoff: BACKOFF.0,
            failed_at: None,
            last_error: None,
            state: (SessionState::Active, now),
            restarting: false,
        };
        peer.shut_down_if_told(now, &mut Vec::new());
        peer
    }

    /// Whether OPENs say that this process restarted.
    pub(crate) fn set_restarting(&mut self, restarting: bool) {
        self.restarting = restarting;
    }

    /// Octets of the longest message that may come on a connection.
    pub(crate) fn longest(&self, conn: ConnId) -> usize {
        self.connections.iter().find(|c| c.id == conn).map_or(MAX_MESSAGE, |c| c.longest)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// New settings for the next connection; a running session goes on unless it is to be shut down. A peer that was
    /// kept down gets another chance.
    pub(crate) fn set_settings(&mut self, settings: Settings, now: Instant, out: &mut Vec<Action>) {
        let was_passive = std::mem::replace(&mut self.settings, settings).passive;
        if self.shut_down_if_told(now, out) || self.release(now) {
            return;
        }
        match (was_passive, self.settings.passive) {
            (false, true) if matches!(self.dial, Dial::At(_)) => self.dial = Dial::Off,
            (true, false) => self.redial(now, Duration::ZERO),
            _ => {}
        }
    }

    /// State, since when, and the last error.
    pub(crate) fn status(&self) -> (SessionState, Instant, Option<&str>) {
        (self.state.0, self.state.1, self.last_error.as_deref())
    }

    /// Whether it is kept down until its configuration changes: by the operator, or for too many prefixes.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Something outside the state machine keeps the session from coming up.
    pub(crate) fn set_error(&mut self, error: String) {
        if self.state.0 != SessionState::Established && self.held.is_none() {
            self.last_error = Some(error);
        }
    }

    /// When [`Peer::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::Off => None,
            Dial::At(at) => Some(at),
            Dial::Dialling { give_up, .. } => Some(give_up),
        };
        self.connections.iter().filter_map(Connection::deadline).chain(dial).min()
    }

    /// There is a connection, whatever its state.
    pub(crate) fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Time passed.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.tick_dial(now, out);
        let expired: Vec<_> = self.connections.iter().filter_map(|c| Some((c.id, c.expired(now)?))).collect();
        for (conn, expired) in expired {
            match expired {
                Expired::Hold => self.fail(conn, Notification::new(code::HOLD_TIMER, 0), now, out),
                Expired::Keepalive => self.send(conn, frame::keepalive(), now, out),
            }
        }
        self.note_state(now);
    }

    fn tick_dial(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.dial {
            Dial::At(at) if at <= now => {
                if self.connections.is_empty() {
                    let conn = ConnId::Dialled(u64::from(self.incarnation) << 32 | u64::from(self.dials));
                    self.dials = self.dials.wrapping_add(1);
                    let give_up = now + self.settings.connect_retry.max(Duration::from_secs(1));
                    self.dial = Dial::Dialling { conn, give_up };
                    out.push(Action::Dial(conn));
                } else {
                    // They dialled first; see what becomes of it.
                    self.dial = Dial::At(now + FIRST_RETRY);
                }
            }
            Dial::Dialling { conn, give_up } if give_up <= now => {
                out.push(Action::Close(conn));
                self.dial_failed(conn, "no answer", now);
            }
            Dial::Off | Dial::At(_) | Dial::Dialling { .. } => {}
        }
    }

    /// The dial succeeded.
    pub(crate) fn connected(&mut self, conn: ConnId, local: IpAddr, now: Instant, out: &mut Vec<Action>) {
        if !matches!(self.dial, Dial::Dialling { conn: dialled, .. } if dialled == conn) {
            out.push(Action::Close(conn));
            return;
        }
        self.dial = Dial::Off;
        self.begin(conn, local, now, out);
    }

    /// The dial failed.
    pub(crate) fn dial_failed(&mut self, conn: ConnId, reason: &str, now: Instant) {
        if matches!(self.dial, Dial::Dialling { conn: dialled, .. } if dialled == conn) {
            self.last_error = Some(format!("connect: {reason}"));
            self.dial = Dial::Off;
            self.retry(now);
            self.note_state(now);
        }
    }

    /// The peer dialled. Of two such connections without a session the older one is dead: the peer forgot it.
    pub(crate) fn accepted(&mut self, conn: ConnId, local: IpAddr, now: Instant, out: &mut Vec<Action>) {
        if let Some(held) = &self.held {
            out.extend([Action::Send(conn, held.refusal().encode()), Action::Close(conn)]);
            return;
        }
        let older = self
            .connections
            .iter()
            .find(|c| c.stage < Stage::Established && c.id.is_accepted())
            .map(|c| c.id);
        if let Some(older) = older {
            self.remove(older);
            out.push(Action::Close(older));
        }
        self.begin(conn, local, now, out);
    }

    fn begin(&mut self, conn: ConnId, local: IpAddr, now: Instant, out: &mut Vec<Action>) {
        let longest = if self.settings.extended_messages { EXTENDED_MESSAGE } else { MAX_MESSAGE };
        // There is rarely more than one.
        self.connections.reserve_exact(1);
        self.connections.push(Connection::new(conn, local, longest, self.jitter.fork(), now));
        out.push(Action::Send(conn, self.settings.open(self.restarting).encode()));
        self.note_state(now);
    }

    /// The connection broke or the peer closed it.
    pub(crate) fn closed(&mut self, conn: ConnId, reason: &str, now: Instant, out: &mut Vec<Action>) {
        let Some(connection) = self.remove(conn) else { return };
        self.last_error = Some(reason.to_owned());
        self.lost(&connection, now, out);
        self.note_state(now);
    }

    /// An UPDATE was sent outside of the state machine.
    pub(crate) fn spoke(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = self.find(conn) {
            connection.spoke(now);
        }
    }

    pub(super) fn send(&mut self, conn: ConnId, message: Vec<u8>, now: Instant, out: &mut Vec<Action>) {
        if let Some(connection) = self.find(conn) {
            connection.spoke(now);
            out.push(Action::Send(conn, message));
        }
    }

    pub(super) fn find(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == conn)
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        let at = self.connections.iter().position(|connection| connection.id == conn)?;
        Some(self.connections.remove(at))
    }

    pub(super) fn note_state(&mut self, now: Instant) {
        let furthest = self.connections.iter().map(|connection| connection.stage).max();
        let backing_off = self.failed_at.is_some_and(|at| now < at + self.backoff);
        let state = match (furthest, self.dial) {
            (None, _) if self.held.is_some() => SessionState::Idle,
            (Some(Stage::Established), _) => SessionState::Established,
            (Some(Stage::OpenConfirm), _) => SessionState::OpenConfirm,
            (Some(Stage::OpenSent), _) => SessionState::OpenSent,
            (None, Dial::Dialling { .. }) => SessionState::Connect,
            (None, Dial::At(_)) if backing_off => SessionState::Idle,
            (None, Dial::At(_) | Dial::Off) => SessionState::Active,
        };
        if state != self.state.0 {
            self.state = (state, now);
        }
    }
}
