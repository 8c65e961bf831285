//! Peers that are kept down until their configuration changes: by the operator (RFC 9003), or for too many prefixes.

use std::time::{Duration, Instant};

use super::action::Action;
use super::connection::Stage;
use super::peer::{Dial, Peer};
use crate::family::Family;
use crate::wire::Notification;
use crate::wire::notification::{cease, code};

/// Why a peer is kept down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// By the operator, with these words.
    Shutdown(String),
    /// It announced too many prefixes.
    Limit,
}

impl Held {
    /// The answer to a connection of the peer.
    pub(super) fn refusal(&self) -> Notification {
        match self {
            Held::Shutdown(words) => Notification::with_words(cease::SHUTDOWN, words),
            Held::Limit => Notification::new(code::CEASE, cease::REJECTED),
        }
    }
}

impl Peer {
    /// Goes or stays down when the settings say so.
    pub(super) fn shut_down_if_told(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        let Some(words) = self.settings.shutdown.clone() else { return false };
        let held = Held::Shutdown(words.clone());
        self.stop_with(&held.refusal(), now, out);
        self.held = Some(held);
        let brackets = if words.is_empty() { String::new() } else { format!(" ({words})") };
        self.last_error = Some(format!("administratively down{brackets}"));
        self.note_state(now);
        true
    }

    /// Ends what kept the peer down; it is dialled at once.
    pub(super) fn release(&mut self, now: Instant) -> bool {
        if self.held.take().is_none() {
            return false;
        }
        (self.last_error, self.failed_at) = (None, None);
        self.redial(now, Duration::ZERO);
        self.note_state(now);
        true
    }

    /// The peer announced more than `limit` prefixes of a family: the session ends and the peer stays down until its
    /// configuration changes. Without a session nothing happens.
    pub(crate) fn over_limit(&mut self, family: Family, limit: u32, now: Instant, out: &mut Vec<Action>) {
        if !self.connections.iter().any(|connection| connection.stage == Stage::Established) {
            return;
        }
        let notification = Notification::too_many(family, limit);
        self.stop_with(&notification, now, out);
        self.held = Some(Held::Limit);
        self.last_error = Some(format!(
            "prefix limit of {limit} exceeded ({family}), sent NOTIFICATION {notification}; \
             down until its configuration changes"
        ));
        self.note_state(now);
    }

    /// Ends everything with a NOTIFICATION, as a hard reset where a milder one would keep routes (RFC 8538 5).
    pub(super) fn stop_with(&mut self, notification: &Notification, now: Instant, out: &mut Vec<Action>) {
        for connection in std::mem::take(&mut self.connections) {
            let message = if connection.keeps_routes() { notification.hard() } else { notification.clone() };
            out.extend([Action::Send(connection.id, message.encode()), Action::Close(connection.id)]);
            if connection.stage == Stage::Established {
                out.push(Action::Down(super::Loss::Final));
            }
        }
        if let Dial::Dialling { conn, .. } = self.dial {
            out.push(Action::Close(conn));
        }
        self.dial = Dial::Off;
        self.note_state(now);
    }
}
