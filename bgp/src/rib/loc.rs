//! The table of one family: every path received, routes of our own, and what was selected from them.
//!
//! Received and accepted attributes are both kept, so changed filters and reflector settings are judged anew without
//! asking the peer. Changed prefixes are marked; [`Table::settle`] decides each of them once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::PeerKey;
use super::attrs::{Attrs, Interner};
use super::decision::{Candidate, Source, best, compare};
use crate::family::Prefix;
use crate::table::LearnedRoute;

/// One path of a prefix.
struct Path {
    peer: PeerKey,
    received: Attrs,
    /// After import; `None` when it was rejected.
    accepted: Option<Attrs>,
    /// Kept over a restart of the peer (RFC 4724 4.2).
    stale: bool,
}

#[derive(Default)]
struct Entry {
    paths: Vec<Path>,
    originated: Option<Attrs>,
    /// What was said last about the learned routes.
    learned: Option<LearnedRoute>,
    dirty: bool,
}

/// The route to announce for a prefix.
#[derive(Clone, Copy)]
pub(crate) enum Best<'a> {
    /// Our own.
    Originated(&'a Attrs),
    /// Learned from a peer.
    Learned(&'a Attrs, PeerKey, Source),
}

/// What [`Table::settle`] found for a prefix.
pub(crate) struct Settled<'a> {
    /// The route to announce.
    pub(crate) best: Option<Best<'a>>,
    /// The learned route, if it is another than before.
    pub(crate) learned: Option<Option<LearnedRoute>>,
}

/// Paths and selection of one family.
#[derive(Default)]
pub(crate) struct Table {
    entries: BTreeMap<Prefix, Entry>,
    sources: BTreeMap<PeerKey, Source>,
    dirty: Vec<Prefix>,
    own_addresses: BTreeSet<IpAddr>,
    pub(crate) interner: Interner,
}

impl Table {
    /// Says who a peer is; its paths are compared accordingly.
    pub(crate) fn set_source(&mut self, peer: PeerKey, source: Source) {
        if self.sources.insert(peer, source).is_some_and(|old| old != source) {
            self.change_paths(|path| if path.peer == peer { Change::Touched } else { Change::Nothing });
        }
    }

    /// Addresses of this speaker: a path with such a next hop leads nowhere (RFC 4271 5.1.3).
    pub(crate) fn set_own_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        if self.own_addresses != addresses {
            self.own_addresses = addresses;
            self.touch_all();
        }
    }

    /// A peer announced a prefix; `accepted` is `None` when import rejects it.
    pub(crate) fn announce(
        &mut self,
        peer: PeerKey,
        prefix: Prefix,
        received: &Attrs,
        accepted: Option<&Attrs>,
    ) {
        let entry = self.entries.entry(prefix).or_default();
        let path = Path { peer, received: received.clone(), accepted: accepted.cloned(), stale: false };
        match entry.paths.iter_mut().find(|path| path.peer == peer) {
            Some(old) => {
                let same = old.accepted == path.accepted;
                *old = path;
                if same {
                    return;
                }
            }
            None => entry.paths.push(path),
        }
        mark(&mut self.dirty, prefix, entry);
    }

    /// A peer withdrew a prefix.
    pub(crate) fn withdraw(&mut self, peer: PeerKey, prefix: Prefix) {
        let Some(entry) = self.entries.get_mut(&prefix) else { return };
        if let Some(at) = entry.paths.iter().position(|path| path.peer == peer) {
            entry.paths.remove(at);
            mark(&mut self.dirty, prefix, entry);
        }
    }

    /// Originates a prefix, or stops to.
    pub(crate) fn originate(&mut self, prefix: Prefix, attrs: Option<Attrs>) {
        let entry = self.entries.entry(prefix).or_default();
        if entry.originated != attrs {
            entry.originated = attrs;
            mark(&mut self.dirty, prefix, entry);
        }
    }

    /// The session to a peer is gone but it may come back: its paths stay as stale ones. Those that are stale already
    /// are forgotten (RFC 4724 4.2, consecutive restarts).
    pub(crate) fn mark_stale(&mut self, peer: PeerKey) {
        self.change_paths(|path| match (path.peer == peer, path.stale) {
            (false, _) => Change::Nothing,
            (true, true) => Change::Remove,
            (true, false) => {
                path.stale = true;
                Change::Nothing
            }
        });
    }

    /// The peer is about to announce everything once more: its paths stay until they are swept.
    pub(crate) fn mark_unconfirmed(&mut self, peer: PeerKey) {
        self.change_paths(|path| {
            path.stale |= path.peer == peer;
            Change::Nothing
        });
    }

    /// Prefixes a peer announced, accepted or not.
    pub(crate) fn known(&self, peer: PeerKey) -> usize {
        self.entries.values().filter(|entry| entry.paths.iter().any(|path| path.peer == peer)).count()
    }

    /// Forgets what a peer announced before its restart and not again since.
    pub(crate) fn sweep_stale(&mut self, peer: PeerKey) {
        self.change_paths(|p| if p.peer == peer && p.stale { Change::Remove } else { Change::Nothing });
    }

    /// Forgets everything a peer announced.
    pub(crate) fn drop_peer(&mut self, peer: PeerKey) {
        self.change_paths(|p| if p.peer == peer { Change::Remove } else { Change::Nothing });
        self.sources.remove(&peer);
    }

    /// Judges what a peer announced once more.
    pub(crate) fn review(
        &mut self,
        peer: PeerKey,
        mut import: impl FnMut(&mut Interner, Prefix, &Attrs) -> Option<Attrs>,
    ) {
        for (prefix, entry) in &mut self.entries {
            for path in entry.paths.iter_mut().filter(|path| path.peer == peer) {
                let accepted = import(&mut self.interner, *prefix, &path.received);
                if accepted != path.accepted {
                    path.accepted = accepted;
                    if !std::mem::replace(&mut entry.dirty, true) {
                        self.dirty.push(*prefix);
                    }
                }
            }
        }
    }

    /// Marks all prefixes.
    pub(crate) fn touch_all(&mut self) {
        for (prefix, entry) in &mut self.entries {
            mark(&mut self.dirty, *prefix, entry);
        }
    }

    fn change_paths(&mut self, mut change: impl FnMut(&mut Path) -> Change) {
        for (prefix, entry) in &mut self.entries {
            let mut touched = false;
            entry.paths.retain_mut(|path| {
                let change = change(path);
                touched |= !matches!(change, Change::Nothing);
                !matches!(change, Change::Remove)
            });
            if touched {
                mark(&mut self.dirty, *prefix, entry);
            }
        }
    }

    /// The prefixes marked since the last call.
    pub(crate) fn take_dirty(&mut self) -> Vec<Prefix> {
        std::mem::take(&mut self.dirty)
    }

    /// Decides a marked prefix, and forgets it when nothing is left of it.
    pub(crate) fn settle<T>(
        &mut self,
        prefix: Prefix,
        then: impl FnOnce(&mut Interner, Settled<'_>) -> T,
    ) -> Option<T> {
        let entry = self.entries.get_mut(&prefix)?;
        entry.dirty = false;
        let (paths, selection) = select(entry, &self.sources, &self.own_addresses);
        let learned = selection.map(|index| learned_route(&paths, index));
        let best = match (&entry.originated, selection) {
            (Some(attrs), _) => Some(Best::Originated(attrs)),
            (None, Some(index)) => {
                let (peer, candidate) = paths[index];
                Some(Best::Learned(candidate.attrs, peer, candidate.source))
            }
            (None, None) => None,
        };
        let changed = (learned != entry.learned).then(|| learned.clone());
        let result = then(&mut self.interner, Settled { best, learned: changed });
        entry.learned = learned;
        if entry.paths.is_empty() && entry.originated.is_none() {
            self.entries.remove(&prefix);
        }
        Some(result)
    }

    /// Calls `f` with the route to announce of each prefix that has one.
    pub(crate) fn for_each_best(&mut self, mut f: impl FnMut(&mut Interner, Prefix, Best<'_>)) {
        for (prefix, entry) in &self.entries {
            let (paths, selection) = select(entry, &self.sources, &self.own_addresses);
            if let Some(attrs) = &entry.originated {
                f(&mut self.interner, *prefix, Best::Originated(attrs));
            } else if let Some(index) = selection {
                let (peer, candidate) = paths[index];
                f(&mut self.interner, *prefix, Best::Learned(candidate.attrs, peer, candidate.source));
            }
        }
    }

    /// Accepted prefixes of each peer.
    pub(crate) fn received(&self) -> BTreeMap<PeerKey, usize> {
        let mut counts = BTreeMap::new();
        for path in
            self.entries.values().flat_map(|entry| &entry.paths).filter(|path| path.accepted.is_some())
        {
            *counts.entry(path.peer).or_default() += 1;
        }
        counts
    }

    /// The learned routes as they were last said.
    pub(crate) fn learned(&self) -> impl Iterator<Item = (Prefix, &LearnedRoute)> {
        self.entries.iter().filter_map(|(prefix, entry)| Some((*prefix, entry.learned.as_ref()?)))
    }
}

enum Change {
    Nothing,
    Touched,
    Remove,
}

fn mark(dirty: &mut Vec<Prefix>, prefix: Prefix, entry: &mut Entry) {
    if !std::mem::replace(&mut entry.dirty, true) {
        dirty.push(prefix);
    }
}

type Usable<'a> = Vec<(PeerKey, Candidate<'a>)>;

/// The usable paths of a prefix, and which of them is best.
fn select<'a>(
    entry: &'a Entry,
    sources: &BTreeMap<PeerKey, Source>,
    own: &BTreeSet<IpAddr>,
) -> (Usable<'a>, Option<usize>) {
    let usable: Usable<'a> = entry
        .paths
        .iter()
        .filter_map(|path| {
            let attrs = path.accepted.as_ref().filter(|attrs| !own.contains(&attrs.next_hop()))?;
            Some((path.peer, Candidate { attrs, source: *sources.get(&path.peer)? }))
        })
        .collect();
    let index = match usable.len() {
        0 => None,
        1 => Some(0),
        _ => best(&usable.iter().map(|(_, candidate)| *candidate).collect::<Vec<_>>()),
    };
    (usable, index)
}

/// The best path with its equals (bgp-behaviour 6.3).
fn learned_route(paths: &Usable<'_>, best: usize) -> LearnedRoute {
    let (_, best) = paths[best];
    let next_hops: BTreeSet<IpAddr> = paths
        .iter()
        .filter(|(_, candidate)| compare(best, *candidate).1.allows_multipath())
        .map(|(_, candidate)| candidate.attrs.next_hop())
        .collect();
    LearnedRoute {
        next_hops: next_hops.into_iter().collect(),
        internal: best.source.internal,
        local_pref: best.attrs.summary().local_pref,
    }
}
