//! One TCP connection from its OPEN on: OpenSent, OpenConfirm, Established, with the hold and keepalive timers.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::jitter::Jitter;
use super::negotiate::Session;
use crate::speaker::ConnId;

/// Hold time before the peer's OPEN is there (RFC 4271 8.2.2, bgp-behaviour 2.3).
const OPEN_HOLD: Duration = Duration::from_secs(240);

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    OpenSent,
    OpenConfirm,
    Established,
}

/// A connection on which our OPEN went out.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    pub(crate) local: IpAddr,
    pub(crate) stage: Stage,
    /// When it became established; before that, when it began.
    pub(crate) since: Instant,
    /// Octets of the longest message the peer may send: what our OPEN said (RFC 8654).
    pub(crate) longest: usize,
    /// From OpenConfirm on.
    pub(crate) session: Option<Session>,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
    jitter: Jitter,
}

/// A timer that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    Hold,
    Keepalive,
}

impl Connection {
    pub(crate) fn new(id: ConnId, local: IpAddr, longest: usize, jitter: Jitter, now: Instant) -> Connection {
        let (stage, hold) = (Stage::OpenSent, Some(now + OPEN_HOLD));
        Connection { id, local, stage, since: now, longest, session: None, hold, keepalive: None, jitter }
    }

    /// The OPEN was accepted and our KEEPALIVE goes out.
    pub(crate) fn confirm(&mut self, session: Session, now: Instant) {
        self.stage = Stage::OpenConfirm;
        // Without a hold time the wait for the KEEPALIVE would have no end: that for the OPEN goes on.
        let patience = self.hold;
        self.session = Some(session);
        self.heard(now);
        self.hold = self.hold.or(patience);
        self.spoke(now);
    }

    /// Their KEEPALIVE came.
    pub(crate) fn establish(&mut self, now: Instant) {
        self.stage = Stage::Established;
        self.since = now;
        self.heard(now);
    }

    /// KEEPALIVE or UPDATE received.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.hold = self.timer(now, |session| session.hold_time);
    }

    /// KEEPALIVE or UPDATE sent.
    pub(crate) fn spoke(&mut self, now: Instant) {
        self.keepalive = self.timer(now, |session| session.keepalive_time);
        if let Some(at) = &mut self.keepalive {
            *at = now + self.jitter.of(at.duration_since(now));
        }
    }

    /// Both ends keep routes over a NOTIFICATION that is no hard reset (RFC 8538).
    pub(crate) fn keeps_routes(&self) -> bool {
        let restart = self.session.as_ref().and_then(|session| session.restart.as_ref());
        restart.is_some_and(|restart| restart.notification)
    }

    /// The first timer that ran out.
    pub(crate) fn expired(&self, now: Instant) -> Option<Expired> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.hold) { Some(Expired::Hold) } else { due(self.keepalive).then_some(Expired::Keepalive) }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.hold.into_iter().chain(self.keepalive).min()
    }

    fn timer(&self, now: Instant, time: impl Fn(&Session) -> Duration) -> Option<Instant> {
        self.session.as_ref().map(time).filter(|time| !time.is_zero()).map(|time| now + time)
    }
}
