//! The speaker as operators see it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Speaker;
use crate::family::Family;
use crate::rib::PeerKey;
use crate::snapshot::{Footprint, PeerSnapshot, Snapshot};

impl Speaker {
    /// Peers and routes as they are. Copies the table; see [`Speaker::sessions`] and [`Speaker::routes`].
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot { routes: self.routes.learned(), originated: self.routes.originated(), ..self.sessions(now) }
    }

    /// Peers as they are, without routes.
    #[must_use]
    pub fn sessions(&self, now: Instant) -> Snapshot {
        let mut announced: BTreeMap<PeerKey, usize> = BTreeMap::new();
        for group in self.routes.groups() {
            for (key, count) in group.out.counts(&group.members, self.routes.table(group.family())) {
                *announced.entry(key).or_default() += count;
            }
        }
        let mut peers = BTreeMap::new();
        for (key, entry) in &self.peers {
            let (state, since, last_error) = entry.fsm.status();
            let snapshot = PeerSnapshot {
                name: entry.config.name.clone(),
                state,
                since: now.saturating_duration_since(since),
                held: entry.fsm.is_held(),
                last_error: last_error.map(str::to_owned),
                received: self.routes.received(*key).1,
                announced: announced.get(key).copied().unwrap_or(0),
            };
            peers.insert(entry.id, snapshot);
        }
        Snapshot {
            peers,
            routes: BTreeMap::new(),
            originated: Vec::new(),
            listen_errors: BTreeMap::new(),
            converged: self.startup.is_over(),
        }
    }

    /// How much it holds.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        let tables = [Family::Ipv4, Family::Ipv6].map(|family| self.routes.table(family));
        Footprint {
            prefixes: tables.iter().map(|table| table.len()).sum(),
            paths: self.peers.keys().map(|key| self.routes.received(*key).0).sum(),
            attribute_sets: tables.iter().map(|table| table.interner.len()).sum(),
            groups: self.routes.groups().count(),
            connections: self.conns.len(),
        }
    }
}
