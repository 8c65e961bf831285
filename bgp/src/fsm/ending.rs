//! How connections end, and when the peer is dialled again.

use std::time::{Duration, Instant};

use super::action::{Action, Loss};
use super::connection::{Connection, Stage};
use super::peer::{BACKOFF, Dial, FIRST_RETRY, Peer, SETTLED};
use crate::speaker::ConnId;
use crate::wire::notification::{cease, code};
use crate::wire::{Notification, WireError};

impl Peer {
    /// Ends the session without forgetting routes, and begins a new one. Connections that are not that far began with an
    /// OPEN of the old settings and begin again, too.
    pub(crate) fn reconnect(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(established) = self.connections.iter().find(|c| c.stage == Stage::Established) else {
            if !self.connections.is_empty() {
                let begun = std::mem::take(&mut self.connections);
                out.extend(begun.iter().map(|connection| Action::Close(connection.id)));
                self.redial(now, Duration::ZERO);
                self.note_state(now);
            }
            return;
        };
        let restart = established.session.as_ref().and_then(|session| session.restart.as_ref());
        let can_restart = restart.is_some_and(|restart| !restart.families.is_empty());
        let conn = established.id;
        if can_restart {
            self.remove(conn);
            self.last_error = Some("made anew after a change of configuration".to_owned());
            out.extend([Action::Close(conn), Action::Down(Loss::Graceful)]);
        } else {
            self.stop(cease::CONFIGURATION, now, out);
        }
        self.redial(now, Duration::ZERO);
        self.note_state(now);
    }

    /// Ends everything with a Cease of this subcode.
    pub(crate) fn stop(&mut self, subcode: u8, now: Instant, out: &mut Vec<Action>) {
        let cease = Notification::new(code::CEASE, subcode);
        self.last_error = Some(format!("sent NOTIFICATION {cease}"));
        self.stop_with(&cease, now, out);
    }

    /// The peer's queue did not drain in time (RFC 9687).
    pub(crate) fn send_hold_expired(&mut self, conn: ConnId, now: Instant, out: &mut Vec<Action>) {
        self.fail(conn, Notification::new(code::SEND_HOLD_TIMER, 0), now, out);
        self.note_state(now);
    }

    /// The stream of a connection cannot be read on.
    pub(crate) fn broken(&mut self, conn: ConnId, error: &WireError, now: Instant, out: &mut Vec<Action>) {
        self.fail_with(conn, error, now, out);
        self.note_state(now);
    }

    /// A connection ended without a NOTIFICATION.
    pub(super) fn lost(&mut self, connection: &Connection, now: Instant, out: &mut Vec<Action>) {
        if connection.stage == Stage::Established {
            out.push(Action::Down(Loss::Graceful));
            if now.duration_since(connection.since) >= SETTLED {
                self.attempts = 0;
                return self.redial(now, Duration::ZERO);
            }
        }
        self.retry(now);
    }

    pub(super) fn notified(&mut self, conn: ConnId, body: &[u8], now: Instant, out: &mut Vec<Action>) {
        let Some(connection) = self.remove(conn) else { return };
        out.push(Action::Close(conn));
        let notification = Notification::decode(body).unwrap_or_else(|| Notification::new(0, 0));
        if (notification.code, notification.subcode) == (code::CEASE, cease::COLLISION) {
            return self.collided(&connection, now, out);
        }
        self.last_error = Some(format!("received NOTIFICATION {notification}"));
        self.ended(&connection, &notification, now, out);
    }

    pub(super) fn fail_with(&mut self, conn: ConnId, error: &WireError, now: Instant, out: &mut Vec<Action>) {
        self.fail(conn, error.notification(), now, out);
        self.last_error = Some(format!("sent NOTIFICATION {}: {error}", error.notification()));
    }

    pub(super) fn fail(
        &mut self,
        conn: ConnId,
        notification: Notification,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(connection) = self.remove(conn) else { return };
        out.extend([Action::Send(conn, notification.encode()), Action::Close(conn)]);
        self.last_error = Some(format!("sent NOTIFICATION {notification}"));
        self.ended(&connection, &notification, now, out);
    }

    /// A connection ended with a NOTIFICATION, sent or received. Routes survive it if both ends said so, unless it is a
    /// hard reset (RFC 8538 4).
    fn ended(
        &mut self,
        connection: &Connection,
        notification: &Notification,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if connection.stage == Stage::Established {
            let kept = connection.keeps_routes() && !notification.is_hard();
            out.push(Action::Down(if kept { Loss::Graceful } else { Loss::Final }));
        }
        let forgotten = self.failed_at.is_none_or(|at| now.duration_since(at) >= BACKOFF.2);
        self.backoff = if forgotten { BACKOFF.0 } else { (self.backoff * 2).min(BACKOFF.1) };
        self.failed_at = Some(now);
        self.redial(now, self.backoff);
    }

    /// Dials again, later with each attempt in vain.
    pub(super) fn retry(&mut self, now: Instant) {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        let pause = self.jitter.of(FIRST_RETRY.saturating_mul(factor).min(self.settings.connect_retry));
        self.attempts = self.attempts.saturating_add(1);
        self.redial(now, pause);
    }

    pub(super) fn redial(&mut self, now: Instant, pause: Duration) {
        let busy = matches!(self.dial, Dial::Dialling { .. }) || !self.connections.is_empty();
        if !self.settings.passive && self.held.is_none() && !busy {
            self.dial = Dial::At(now + pause);
        }
    }
}
