//! What the reader has not taken yet: the newest value of each key, in the order the keys first changed. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A change not yet delivered; undecoded, so that overwritten values cost no decoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Revision of the change.
    pub(super) revision: i64,
    /// The stored value; `None` when the key is gone.
    pub(super) value: Option<Vec<u8>>,
}

/// A queue that holds each key once, so it never outgrows the store.
#[derive(Debug, Default)]
pub(super) struct Pending {
    order: VecDeque<Arc<str>>,
    changes: BTreeMap<Arc<str>, Change>,
    /// Changes at the head of the queue that belong to the first listing.
    first: usize,
    /// Octets of the values.
    bytes: usize,
}

impl Change {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Vec::len)
    }
}

impl Pending {
    /// Adds a change. A key that waits already keeps its place and takes the new value, so that a key that changes
    /// all the time is not put off for ever.
    pub(super) fn push(&mut self, key: &Arc<str>, change: Change) {
        self.bytes += change.bytes();
        match self.changes.get_mut(key) {
            Some(waiting) => self.bytes -= std::mem::replace(waiting, change).bytes(),
            None => {
                self.order.push_back(key.clone());
                self.changes.insert(key.clone(), change);
            }
        }
    }

    /// Says that everything queued now is the first listing.
    pub(super) fn mark_first(&mut self) {
        self.first = self.order.len();
    }

    /// Whether the first listing has been taken.
    pub(super) fn first_is_out(&self) -> bool {
        self.first == 0
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Octets of the values that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes up to `limit` changes; never some of the first listing together with later ones.
    pub(super) fn take(&mut self, limit: usize) -> Vec<(Arc<str>, Change)> {
        let limit = if self.first > 0 { limit.min(self.first) } else { limit };
        let count = limit.min(self.order.len());
        self.first = self.first.saturating_sub(count);
        let keys = self.order.drain(..count);
        let taken: Vec<(Arc<str>, Change)> =
            keys.filter_map(|key| self.changes.remove(&key).map(|change| (key, change))).collect();
        self.bytes -= taken.iter().map(|(_, change)| change.bytes()).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64) -> Change {
        Change { revision, value: Some(vec![0; 10]) }
    }

    fn taken(pending: &mut Pending, limit: usize) -> Vec<(String, i64)> {
        pending.take(limit).into_iter().map(|(key, change)| (key.to_string(), change.revision)).collect()
    }

    #[test]
    fn a_key_waits_once_with_its_newest_value() {
        let mut pending = Pending::default();
        for (key, revision) in [("a", 1), ("b", 2), ("a", 3)] {
            pending.push(&key.into(), change(revision));
        }
        assert_eq!((pending.len(), pending.bytes()), (2, 20));
        assert_eq!(taken(&mut pending, 10), [("a".to_owned(), 3), ("b".to_owned(), 2)]);
        assert_eq!((pending.len(), pending.bytes()), (0, 0));
    }

    #[test]
    fn the_first_listing_comes_out_before_what_changed_meanwhile() {
        let mut pending = Pending::default();
        for key in ["a", "b", "c"] {
            pending.push(&key.into(), change(1));
        }
        pending.mark_first();
        pending.push(&"d".into(), change(2));
        pending.push(&"b".into(), change(3));
        assert_eq!(taken(&mut pending, 2), [("a".to_owned(), 1), ("b".to_owned(), 3)]);
        assert!(!pending.first_is_out());
        assert_eq!(taken(&mut pending, 2), [("c".to_owned(), 1)]);
        assert!(pending.first_is_out());
        assert_eq!(taken(&mut pending, 2), [("d".to_owned(), 2)]);
    }
}
