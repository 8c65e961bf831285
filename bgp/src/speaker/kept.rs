//! Routes of a peer that are kept without it, or not yet confirmed by it, per family (RFC 4724 4.2). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::family::Family;

/// What of a peer's routes is stale, and until when; and what it has told in this session.
#[derive(Debug, Default)]
pub(super) struct Kept {
    until: BTreeMap<Family, Instant>,
    told: BTreeSet<Family>,
    /// The peer sends all routes once more (RFC 7313).
    refreshing: BTreeSet<Family>,
}

impl Kept {
    /// Routes of the family are stale until confirmed, at most until then.
    pub(super) fn keep(&mut self, family: Family, until: Instant) {
        self.until.insert(family, until);
    }

    /// Whether routes of the family were stale; they are not any more.
    pub(super) fn release(&mut self, family: Family) -> bool {
        self.refreshing.remove(&family);
        self.until.remove(&family).is_some()
    }

    /// The same at End-of-RIB, which does not end a refresh.
    pub(super) fn release_told(&mut self, family: Family) -> bool {
        !self.refreshing.contains(&family) && self.release(family)
    }

    /// A session begins: nothing is told yet.
    pub(super) fn begin(&mut self) {
        self.told.clear();
        self.refreshing.clear();
    }

    /// End-of-RIB of the family came in this session.
    pub(super) fn is_told(&self, family: Family) -> bool {
        self.told.contains(&family)
    }

    /// A refresh of the family begins; what it does not bring again until then goes.
    pub(super) fn refresh(&mut self, family: Family, until: Instant) {
        self.refreshing.insert(family);
        self.keep(family, until);
    }

    /// Whether a refresh of the family was under way; it is not any more.
    pub(super) fn end_refresh(&mut self, family: Family) -> bool {
        self.refreshing.remove(&family)
    }

    /// End-of-RIB of a family; true when all of `families` are told.
    pub(super) fn told(&mut self, family: Family, mut families: impl Iterator<Item = Family>) -> bool {
        self.told.insert(family);
        families.all(|family| self.told.contains(&family))
    }

    /// Families whose time is over; they are stale no more.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Family> {
        let over: Vec<Family> =
            self.until.iter().filter(|(_, until)| **until <= now).map(|(family, _)| *family).collect();
        for family in &over {
            self.release(*family);
        }
        over
    }

    /// When [`Kept::expired`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }
}
