//! The first minute of a speaker: when its peers have told everything, and what has to wait for that. Pure.
//!
//! A restarted speaker announces its own routes at once, since they depend on nobody. Learned routes wait, so that
//! peers do not see second choices come and go, and so does End-of-RIB, which makes them drop what we did not
//! announce again (RFC 4724 4.1). A peer that restarted too is not waited for with these; but that it has not told a route again
//! yet does not mean that the route is gone, so the owner hears that the start is over only when that peer has told all.

use std::time::{Duration, Instant};

/// Longest wait. Less than what peers commonly give us to come back (120 s), so our End-of-RIB is in time.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Startup {
    restarted: bool,
    deadline: Option<Instant>,
    originated: bool,
    done: bool,
    over: bool,
}

impl Startup {
    pub(super) fn new(restarted: bool) -> Startup {
        Startup { restarted, deadline: None, originated: false, done: false, over: false }
    }

    /// The first configuration arrived; the clock runs. `restart_time` is the shortest that peers were told.
    pub(super) fn configured(&mut self, restart_time: Option<Duration>, now: Instant) {
        if self.deadline.is_none() && !self.done {
            let wait = restart_time.map_or(LONGEST, |time| (time / 2).clamp(SHORTEST, LONGEST));
            self.deadline = Some(now + wait);
        }
    }

    pub(super) fn originated(&mut self) {
        self.originated = true;
    }

    /// OPENs say R.
    pub(super) fn is_restarting(&self) -> bool {
        self.restarted && !self.done
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.over)
    }

    /// End-of-RIB may be sent. Never before it is known what we originate, however long that takes: a peer that waits
    /// for us keeps our old routes, and they are better than none.
    pub(super) fn may_end(&self) -> bool {
        self.originated && (self.done || !self.restarted)
    }

    /// True once, when nobody is waited for any more.
    pub(super) fn completes(&mut self, now: Instant, settled: impl FnOnce() -> bool) -> bool {
        let Some(deadline) = self.deadline().filter(|_| !self.done) else { return false };
        self.done = deadline <= now || (self.originated && settled());
        self.done
    }

    /// True once, after that, when everybody has told all: routes of an earlier run that nobody told are gone.
    pub(super) fn ends(&mut self, now: Instant, told: impl FnOnce() -> bool) -> bool {
        let Some(deadline) = self.deadline().filter(|_| self.done) else { return false };
        self.over = deadline <= now || told();
        self.over
    }
}
