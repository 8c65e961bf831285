//! The table of one family: every path received, routes of our own, and what was selected from them.
//!
//! Received and accepted attributes are both kept, so changed filters and reflector settings are judged anew without
//! asking the peer. Changed prefixes are marked; [`Table::settle`] decides each of them once. A prefix is known by its
//! [`Slot`], a small number that groups use to remember what they told.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::PeerKey;
use super::attrs::{AttrId, Interner, Marks};
use super::decision::Source;
use super::paths::{OWN_ID, Path, Paths, Store};
use crate::family::Prefix;
use crate::table::LearnedRoute;
use crate::wire::nlri::Nlri;

mod learned;
mod of_peer;
mod selection;
mod view;

use learned::{LearnedId, LearnedRoutes};
use of_peer::Change;
pub(crate) use view::Rank;

/// A prefix of a table; used again after [`Table::release`] and [`Table::recycle`].
pub(crate) type Slot = u32;

#[derive(Debug)]
struct Entry {
    prefix: Prefix,
    dirty: bool,
    /// Waits for [`Table::recycle`], unless it comes back before.
    released: bool,
    originated: Option<AttrId>,
    /// What was said last about the learned routes.
    learned: Option<LearnedId>,
    paths: Paths,
}

/// A route that may be announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    pub(crate) attrs: AttrId,
    /// Where it comes from; [`PeerKey::OWN`] for routes of our own.
    pub(crate) peer: PeerKey,
    /// `None` for routes of our own.
    pub(crate) source: Option<Source>,
    /// Its identifier where several paths are announced.
    pub(crate) local_id: u16,
}

/// What [`Table::settle`] found for a prefix.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) prefix: Prefix,
    /// The route to announce.
    pub(crate) best: Option<Best>,
    /// The learned route, if it is another than before.
    pub(crate) learned: Option<Option<LearnedRoute>>,
}

/// What a table knows of a peer.
#[derive(Clone, Copy, Debug, Default)]
struct PeerPaths {
    source: Option<Source>,
    received: usize,
    accepted: usize,
    /// Of those received.
    stale: usize,
}

/// Paths and selection of one family.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    /// Forgotten, but their prefixes may still be asked for.
    released: Vec<Slot>,
    index: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    paths: Store,
    peers: HashMap<PeerKey, PeerPaths, DefaultHashBuilder>,
    dirty: Vec<Slot>,
    own_addresses: BTreeSet<IpAddr>,
    learned: LearnedRoutes,
    /// Nobody wants to know the learned routes.
    silent: bool,
    pub(crate) interner: Interner,
}

impl Table {
    /// Nobody wants to know the learned routes.
    pub(crate) fn silence(&mut self) {
        self.silent = true;
    }

    /// Says who a peer is; its paths are compared accordingly.
    pub(crate) fn set_source(&mut self, peer: PeerKey, source: Source) {
        let known = self.peers.entry(peer).or_default();
        if known.source.replace(source) != Some(source) && known.received > 0 {
            self.change_paths(peer, |_| Change::Touched);
        }
    }

    /// Addresses of this speaker: a path with such a next hop leads nowhere (RFC 4271 5.1.3).
    pub(crate) fn set_own_addresses(&mut self, addresses: &BTreeSet<IpAddr>) {
        if self.own_addresses != *addresses {
            self.own_addresses.clone_from(addresses);
            self.touch_all();
        }
    }

    /// A peer announced a path; `accepted` is `None` when import rejects it.
    pub(crate) fn announce(&mut self, peer: PeerKey, nlri: Nlri, received: AttrId, accepted: Option<AttrId>) {
        let slot = self.slot(nlri.prefix);
        let entry = &mut self.entries[slot as usize];
        let counts = self.peers.entry(peer).or_default();
        let paths = self.paths.get_mut(&mut entry.paths);
        if let Some(path) = paths.iter_mut().find(|path| path.is(peer, nlri.path_id)) {
            let same = path.accepted == accepted;
            counts.accepted =
                counts.accepted - usize::from(path.accepted.is_some()) + usize::from(accepted.is_some());
            counts.stale -= usize::from(path.stale);
            (path.received, path.accepted, path.stale) = (received, accepted, false);
            if same {
                return;
            }
        } else {
            let path = Path { peer, remote_id: nlri.path_id, received, accepted, local_id: 0, stale: false };
            if !self.paths.add(&mut entry.paths, path) {
                return;
            }
            counts.received += 1;
            counts.accepted += usize::from(accepted.is_some());
        }
        mark(&mut self.dirty, slot, entry);
    }

    /// A peer withdrew a path.
    pub(crate) fn withdraw(&mut self, peer: PeerKey, nlri: Nlri) {
        let Some(slot) = self.find(nlri.prefix) else { return };
        let entry = &mut self.entries[slot as usize];
        let Some(counts) = self.peers.get_mut(&peer) else { return };
        let removed = self.paths.remove(&mut entry.paths, |path| {
            let gone = path.is(peer, nlri.path_id);
            counts.forget(path, gone);
            gone
        });
        if removed {
            mark(&mut self.dirty, slot, entry);
        }
    }

    /// Originates a prefix, or stops to.
    pub(crate) fn originate(&mut self, prefix: Prefix, attrs: Option<AttrId>) {
        let slot = self.slot(prefix);
        let entry = &mut self.entries[slot as usize];
        entry.originated = attrs;
        mark(&mut self.dirty, slot, entry);
    }

    /// Marks all prefixes.
    pub(crate) fn touch_all(&mut self) {
        for (slot, entry) in (0..).zip(&mut self.entries) {
            if !entry.is_vacant() {
                mark(&mut self.dirty, slot, entry);
            }
        }
    }

    /// The slot of a prefix that has a route.
    pub(crate) fn find(&self, prefix: Prefix) -> Option<Slot> {
        let hash = self.hasher.hash_one(prefix);
        let slot = self.index.find(hash, |slot| self.entries[*slot as usize].prefix == prefix).copied();
        slot.filter(|slot| !self.entries[*slot as usize].is_vacant())
    }

    /// The slot of a prefix, made if need be; to be marked then, or it would never be released.
    fn slot(&mut self, prefix: Prefix) -> Slot {
        let hash = self.hasher.hash_one(prefix);
        let Table { entries, free, index, hasher, .. } = self;
        if let Some(slot) = index.find(hash, |slot| entries[*slot as usize].prefix == prefix) {
            return *slot;
        }
        let entry = Entry {
            prefix,
            dirty: false,
            released: false,
            originated: None,
            learned: None,
            paths: Paths::None,
        };
        let slot = match free.pop() {
            Some(slot) => {
                entries[slot as usize] = entry;
                slot
            }
            None => {
                entries.push(entry);
                Slot::try_from(entries.len() - 1).expect("fewer than 2^32 prefixes fit into memory")
            }
        };
        index.insert_unique(hash, slot, |slot| hasher.hash_one(entries[*slot as usize].prefix));
        slot
    }

    /// The prefixes marked since the last call, at most so many.
    pub(crate) fn take_dirty(&mut self, most: usize) -> Vec<Slot> {
        if self.dirty.len() <= most {
            std::mem::take(&mut self.dirty)
        } else {
            self.dirty.drain(..most).collect()
        }
    }

    /// Some prefix is marked.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Decides a marked prefix.
    pub(crate) fn settle(&mut self, slot: Slot) -> Settled {
        self.entries[slot as usize].dirty = false;
        let entry = &self.entries[slot as usize];
        let selected = self.select(entry);
        let best = self.announced(entry, selected);
        let prefix = entry.prefix;
        if self.silent {
            return Settled { prefix, best, learned: None };
        }
        let learned = selected.map(|index| self.learned_route(entry, index));
        let entry = &mut self.entries[slot as usize];
        let changed = self.learned.get(entry.learned) != learned.as_ref();
        if changed {
            entry.learned = self.learned.replace(entry.learned, learned.clone());
        }
        Settled { prefix, best, learned: changed.then_some(learned) }
    }

    /// Forgets a prefix of which nothing is left, after everyone was told so.
    pub(crate) fn release(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot as usize];
        if entry.is_vacant() && !entry.dirty && !std::mem::replace(&mut entry.released, true) {
            self.released.push(slot);
        }
    }

    /// Lets slots of prefixes that are gone be used for others. Not while a member has yet to be told so: until then a
    /// prefix that comes back has its own slot again.
    pub(crate) fn recycle(&mut self) {
        for slot in std::mem::take(&mut self.released) {
            let entry = &mut self.entries[slot as usize];
            entry.released = false;
            if !entry.is_vacant() || entry.dirty {
                continue;
            }
            let hash = self.hasher.hash_one(entry.prefix);
            if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
                found.remove();
                self.free.push(slot);
            }
        }
    }

    /// Some slot waits for [`Table::recycle`].
    pub(crate) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// The prefix of a slot.
    pub(crate) fn prefix(&self, slot: Slot) -> Prefix {
        self.entries[slot as usize].prefix
    }

    /// The route to announce of a prefix.
    pub(crate) fn best(&self, slot: Slot) -> Option<Best> {
        let entry = &self.entries[slot as usize];
        self.announced(entry, self.select(entry))
    }

    /// All routes of a prefix that may be announced where several are: our own and every usable path.
    pub(crate) fn all(&self, slot: Slot) -> Vec<Best> {
        let entry = &self.entries[slot as usize];
        let own = entry.originated.map(own_route);
        let paths = self.paths.get(&entry.paths).iter();
        own.into_iter().chain(paths.filter_map(|path| self.usable(path)?.1)).collect()
    }

    /// Prefixes known.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Slots in use, and those that were.
    pub(crate) fn slots(&self) -> Range<Slot> {
        0..Slot::try_from(self.entries.len()).unwrap_or(Slot::MAX)
    }

    /// Paths a peer announced in its present session, as far as is known.
    pub(crate) fn confirmed(&self, peer: PeerKey) -> usize {
        self.peers.get(&peer).map_or(0, |counts| counts.received - counts.stale)
    }

    /// Paths received from a peer, and how many of them import accepted.
    pub(crate) fn received(&self, peer: PeerKey) -> (usize, usize) {
        self.peers.get(&peer).map_or((0, 0), |counts| (counts.received, counts.accepted))
    }

    /// The learned routes as they were last said; as they are where nobody is told.
    pub(crate) fn learned(&self) -> impl Iterator<Item = (Prefix, LearnedRoute)> {
        self.entries.iter().filter_map(|entry| {
            let route = match self.silent {
                true => self.select(entry).map(|selected| self.learned_route(entry, selected)),
                false => self.learned.get(entry.learned).cloned(),
            };
            Some((entry.prefix, route?))
        })
    }

    /// Marks the attributes the table holds.
    pub(crate) fn mark(&self, marks: &mut Marks) {
        for entry in &self.entries {
            entry.originated.into_iter().for_each(|attrs| marks.mark(attrs));
            for path in self.paths.get(&entry.paths) {
                marks.mark(path.received);
                path.accepted.into_iter().for_each(|attrs| marks.mark(attrs));
            }
        }
    }
}

impl Entry {
    fn is_vacant(&self) -> bool {
        matches!(self.paths, Paths::None) && self.originated.is_none()
    }
}

impl Path {
    fn is(&self, peer: PeerKey, remote_id: u32) -> bool {
        self.peer == peer && self.remote_id == remote_id
    }
}

impl PeerPaths {
    fn forget(&mut self, path: &Path, gone: bool) {
        if gone {
            self.received -= 1;
            self.stale -= usize::from(path.stale);
            self.accepted -= usize::from(path.accepted.is_some());
        }
    }
}

fn own_route(attrs: AttrId) -> Best {
    Best { attrs, peer: PeerKey::OWN, source: None, local_id: OWN_ID }
}

fn mark(dirty: &mut Vec<Slot>, slot: Slot, entry: &mut Entry) {
    if !std::mem::replace(&mut entry.dirty, true) {
        dirty.push(slot);
    }
}
