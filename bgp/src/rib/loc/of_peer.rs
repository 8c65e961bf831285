//! All paths of a peer at once: stale, swept, dropped, judged anew. Walks the table, unless the peer has none in it.

use std::collections::BTreeSet;

use super::{Path, Table, mark};
use crate::family::Prefix;
use crate::rib::PeerKey;
use crate::rib::attrs::{AttrId, Interner};

/// What becomes of a path.
pub(super) enum Change {
    Nothing,
    Touched,
    Remove,
}

impl Table {
    /// The session to a peer is gone but it may come back: its paths stay as stale ones. Those that are stale already
    /// are forgotten (RFC 4724 4.2, consecutive restarts).
    pub(crate) fn mark_stale(&mut self, peer: PeerKey) {
        self.change_paths(peer, |path| {
            if std::mem::replace(&mut path.stale, true) { Change::Remove } else { Change::Nothing }
        });
    }

    /// A peer tells all its paths once more: those it does not repeat are swept afterwards (RFC 7313 4).
    pub(crate) fn mark_unconfirmed(&mut self, peer: PeerKey) {
        self.change_paths(peer, |path| {
            path.stale = true;
            Change::Nothing
        });
    }

    /// Forgets what a peer announced before its restart or refresh and not again since.
    pub(crate) fn sweep_stale(&mut self, peer: PeerKey) {
        self.change_paths(peer, |path| if path.stale { Change::Remove } else { Change::Nothing });
    }

    /// Forgets everything a peer announced.
    pub(crate) fn drop_peer(&mut self, peer: PeerKey) {
        self.change_paths(peer, |_| Change::Remove);
        self.peers.remove(&peer);
    }

    /// Judges what a peer announced once more.
    pub(crate) fn review(
        &mut self,
        peer: PeerKey,
        mut import: impl FnMut(&mut Interner, Prefix, AttrId) -> Option<AttrId>,
    ) {
        let Some(counts) = self.peers.get_mut(&peer).filter(|counts| counts.received > 0) else { return };
        for (slot, entry) in (0..).zip(&mut self.entries) {
            let mut changed = false;
            for path in self.paths.get_mut(&mut entry.paths).iter_mut().filter(|path| path.peer == peer) {
                let accepted = import(&mut self.interner, entry.prefix, path.received);
                if accepted != path.accepted {
                    counts.accepted -= usize::from(path.accepted.is_some());
                    counts.accepted += usize::from(accepted.is_some());
                    path.accepted = accepted;
                    changed = true;
                }
            }
            if changed {
                mark(&mut self.dirty, slot, entry);
            }
        }
    }

    pub(super) fn change_paths(&mut self, peer: PeerKey, mut change: impl FnMut(&mut Path) -> Change) {
        let Some(counts) = self.peers.get_mut(&peer).filter(|counts| counts.received > 0) else { return };
        for (slot, entry) in (0..).zip(&mut self.entries) {
            let paths = self.paths.get_mut(&mut entry.paths);
            let Some(first) = paths.iter().position(|path| path.peer == peer) else { continue };
            let (mut touched, mut remove) = (false, BTreeSet::new());
            for path in paths[first..].iter_mut().filter(|path| path.peer == peer) {
                let was_stale = path.stale;
                let change = change(path);
                counts.stale += usize::from(path.stale);
                counts.stale -= usize::from(was_stale);
                match change {
                    Change::Nothing => {}
                    Change::Touched => touched = true,
                    Change::Remove => {
                        touched = true;
                        counts.forget(path, true);
                        remove.insert(path.local_id);
                    }
                }
            }
            if !remove.is_empty() {
                self.paths
                    .remove(&mut entry.paths, |path| path.peer == peer && remove.contains(&path.local_id));
            }
            if touched {
                mark(&mut self.dirty, slot, entry);
            }
        }
    }
}
