//! The ways to next hops: found over the kernel's own routes, remembered, and held when the kernel loses one.
//!
//! A neighbour whose connected network vanishes, because the interface flaps or its address is being renewed, would
//! otherwise be sought over the default route: the wrong way. For a while its last way is kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::{HOLD, Resolution, Resolver};

/// Ways to next hops.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways {
    resolver: Resolver,
    reachable_by: BTreeMap<IpAddr, IpAddr>,
    /// Next hops are few, prefixes many.
    found: BTreeMap<IpAddr, Option<Resolution>>,
    held: BTreeMap<IpAddr, (Resolution, Instant)>,
}

impl Ways {
    /// Whether anything is other than before.
    pub(super) fn set_resolver(&mut self, resolver: Resolver, now: Instant) -> bool {
        if resolver == self.resolver {
            return false;
        }
        self.resolver = resolver;
        let known = std::mem::take(&mut self.found);
        for (next_hop, way) in known {
            match self.look_up(next_hop).filter(|found| found.on_link) {
                // Kept until it is decided anew: the kernel may be read again before.
                Some(found) => drop(self.found.insert(next_hop, Some(found))),
                None => {
                    if let Some(way) = way.filter(|way| way.on_link) {
                        self.held.entry(next_hop).or_insert((way, now + HOLD));
                    }
                }
            }
        }
        let held = std::mem::take(&mut self.held);
        let lost = |next_hop: &IpAddr| !self.look_up(*next_hop).is_some_and(|way| way.on_link);
        self.held = held.into_iter().filter(|(next_hop, _)| lost(next_hop)).collect();
        true
    }

    pub(super) fn set_reachable_by(&mut self, reachable_by: BTreeMap<IpAddr, IpAddr>) {
        self.reachable_by = reachable_by;
        self.held.clear();
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Ends what was held long enough; whether there was any.
    pub(super) fn release(&mut self, now: Instant) -> bool {
        let before = self.held.len();
        self.held.retain(|_, (_, until)| now < *until);
        self.held.len() < before
    }

    /// When the next way that is held ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.values().map(|(_, until)| *until).min()
    }

    /// Next hops whose way is held.
    pub(super) fn held(&self) -> impl Iterator<Item = IpAddr> {
        self.held.keys().copied()
    }

    /// Forgets what was looked up; all of it is about to be asked for again, or of no use any more.
    pub(super) fn forget(&mut self) {
        self.found.clear();
    }

    /// The way to a next hop; `None` when there is none.
    pub(super) fn to(&mut self, next_hop: IpAddr) -> Option<Resolution> {
        if let Some((way, _)) = self.held.get(&next_hop) {
            // Remembered, so that a way lost again counts as held already.
            self.found.insert(next_hop, Some(way.clone()));
            return Some(way.clone());
        }
        if let Some(way) = self.found.get(&next_hop) {
            return way.clone();
        }
        let way = self.look_up(next_hop);
        self.found.insert(next_hop, way.clone());
        way
    }

    fn look_up(&self, next_hop: IpAddr) -> Option<Resolution> {
        match self.reachable_by.get(&next_hop) {
            Some(gateway) => {
                let way = self.resolver.resolve(*gateway).filter(|way| way.on_link)?;
                Some(Resolution { length: if next_hop.is_ipv4() { 32 } else { 128 }, ..way })
            }
            None => self.resolver.resolve(next_hop),
        }
    }
}
