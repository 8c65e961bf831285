//! The time of one operation, and what it means for addresses that cool down. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tortie_model::ipam::{Block, COOLDOWN_LIMIT};

/// A moment, and the cooling-off time in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: SystemTime,
    /// `ipCooldownSeconds`.
    cooldown: u32,
}

impl Clock {
    pub(super) fn new(now: SystemTime, cooldown: u32) -> Clock {
        Clock { now, cooldown }
    }

    pub(super) fn nanoseconds(&self) -> u64 {
        self.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
    }

    /// RFC 3339, in seconds.
    pub(super) fn text(&self) -> Option<String> {
        let time = Timestamp::try_from(self.now).ok()?;
        Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }

    /// The mark of an address released now; `None` when addresses do not cool down.
    pub(super) fn release_mark(&self) -> Option<String> {
        (self.cooldown > 0).then(|| self.text()).flatten()
    }

    /// Frees what has cooled down by now.
    pub(super) fn refresh(&self, block: &mut Block) {
        block.end_cooldown(|released| self.is_over(released));
    }

    /// Whether a time of release is long enough ago. One that nobody can read, or that lies so far ahead that the
    /// clocks cannot be right, holds no address for ever.
    fn is_over(&self, released: &str) -> bool {
        self.seconds_since(released)
            .is_none_or(|age| age >= i64::from(self.cooldown) || age < -i64::from(COOLDOWN_LIMIT))
    }

    /// Seconds since a time in RFC 3339; negative when it lies ahead.
    pub(super) fn seconds_since(&self, text: &str) -> Option<i64> {
        let then: Timestamp = text.parse().ok()?;
        let now = Timestamp::try_from(self.now).ok()?;
        Some(now.as_second() - then.as_second())
    }
}
