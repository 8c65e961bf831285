//! The speaker as operators see it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Speaker;
use crate::snapshot::{PeerSnapshot, Snapshot};

impl Speaker {
    /// Peers and routes as they are.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let received = self.routes.received();
        let mut peers = BTreeMap::new();
        for (key, entry) in &self.peers {
            let (state, since, last_error) = entry.fsm.status();
            let group = entry.session.as_ref().and_then(|established| self.routes.group(established.group?));
            let snapshot = PeerSnapshot {
                name: entry.config.name.clone(),
                state,
                since: now.saturating_duration_since(since),
                last_error: last_error.map(str::to_owned),
                received: received.get(key).copied().unwrap_or(0),
                announced: group.map_or(0, |group| group.out.told(entry.member(*key))),
            };
            peers.insert(entry.id, snapshot);
        }
        Snapshot {
            peers,
            routes: self.routes.learned(),
            originated: self.routes.originated(),
            listen_errors: BTreeMap::new(),
            converged: self.startup.is_done(),
        }
    }
}
