//! Leases: who has which, and when it ends. Pure: time comes as the duration since the server started.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::error::Refusal;

/// The shortest lease, as etcd's with its default election timeout: shorter ones are made this long.
const SHORTEST: i64 = 2;
/// The longest lease etcd grants (`lease/lessor.go` MaxLeaseTTL).
const LONGEST: i64 = 9_000_000_000;

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: BTreeMap<i64, Lease>,
    ends: BTreeSet<(Duration, i64)>,
}

/// A lease.
#[derive(Debug)]
pub(super) struct Lease {
    /// Seconds granted.
    pub(super) ttl: i64,
    /// When it ends.
    end: Duration,
    /// The keys that die with it.
    pub(super) keys: BTreeSet<Bytes>,
}

impl Lease {
    /// Whole seconds left.
    pub(super) fn remaining(&self, now: Duration) -> i64 {
        i64::try_from(self.end.saturating_sub(now).as_secs()).unwrap_or(i64::MAX)
    }
}

impl Leases {
    /// A new lease. Returns the seconds granted.
    pub(super) fn grant(&mut self, id: i64, ttl: i64, now: Duration) -> Result<i64, Refusal> {
        if ttl > LONGEST {
            return Err(Refusal::LeaseTooLong);
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl = ttl.max(SHORTEST);
        let end = now + seconds(ttl);
        self.leases.insert(id, Lease { ttl, end, keys: BTreeSet::new() });
        self.ends.insert((end, id));
        Ok(ttl)
    }

    pub(super) fn get(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// What they take in memory, roughly; keys are the keyspace's.
    pub(super) fn bytes(&self) -> u64 {
        const EACH: u64 = 256;
        EACH * u64::try_from(self.leases.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.ends.iter().map(|(_, id)| *id)
    }

    /// Starts a lease's time anew. Returns its seconds.
    pub(super) fn keep_alive(&mut self, id: i64, now: Duration) -> Option<i64> {
        let lease = self.leases.get_mut(&id)?;
        self.ends.remove(&(lease.end, id));
        lease.end = now + seconds(lease.ttl);
        self.ends.insert((lease.end, id));
        Some(lease.ttl)
    }

    /// Moves a key from one lease to another; 0 stands for none.
    pub(super) fn move_key(&mut self, key: &Bytes, from: i64, to: i64) {
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }

    /// Ends a lease. Returns the keys that die with it, in order.
    pub(super) fn revoke(&mut self, id: i64) -> Option<BTreeSet<Bytes>> {
        let lease = self.leases.remove(&id)?;
        self.ends.remove(&(lease.end, id));
        Some(lease.keys)
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// A lease whose time is over.
    pub(super) fn over(&self, now: Duration) -> Option<i64> {
        self.ends.first().filter(|(end, _)| *end <= now).map(|(_, id)| *id)
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_unless_it_is_kept_alive() {
        let at = Duration::from_secs;
        let mut leases = Leases::default();
        assert_eq!(leases.grant(7, 1, at(0)), Ok(SHORTEST));
        assert_eq!(leases.grant(7, 5, at(0)), Err(Refusal::LeaseExists));
        assert_eq!(leases.grant(8, LONGEST + 1, at(0)), Err(Refusal::LeaseTooLong));
        assert_eq!(leases.over(at(1)), None);
        assert_eq!(leases.keep_alive(7, at(1)), Some(2));
        assert_eq!(leases.over(at(2)), None);
        assert_eq!((leases.next_end(), leases.over(at(3))), (Some(at(3)), Some(7)));
        let key = Bytes::from_static(b"k");
        leases.move_key(&key, 0, 7);
        assert_eq!(leases.revoke(7).map(|keys| keys.len()), Some(1));
        assert_eq!((leases.revoke(7), leases.keep_alive(7, at(3)), leases.next_end()), (None, None, None));
    }
}
