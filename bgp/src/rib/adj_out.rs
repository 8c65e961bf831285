//! What a group of peers is told: peers with the same export rules share one table and one encoding.
//!
//! A member is never told about a route that came from itself or whose next hop is itself; such a member gets an
//! encoding of its own when a change concerns it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::PeerKey;
use super::attrs::Attrs;
use crate::family::{Family, Prefix};
use crate::wire::update::{Encoded, announce, withdraw};

/// A route as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exported {
    pub(crate) attrs: Attrs,
    /// The peer it came from; it is not told.
    pub(crate) source: Option<PeerKey>,
}

/// A route of a group before and after.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) prefix: Prefix,
    pub(crate) old: Option<Exported>,
    pub(crate) new: Option<Exported>,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) peer: PeerKey,
    pub(crate) address: IpAddr,
}

impl Member {
    /// The route as this member sees it.
    fn sees<'a>(&self, route: &'a Option<Exported>) -> Option<&'a Attrs> {
        route.as_ref().filter(|route| !self.is_excluded(route)).map(|route| &route.attrs)
    }

    fn is_excluded(&self, route: &Exported) -> bool {
        route.source == Some(self.peer) || route.attrs.next_hop() == self.address
    }
}

/// The routes a group was told.
#[derive(Default)]
pub(crate) struct AdjOut {
    routes: BTreeMap<Prefix, Exported>,
}

impl AdjOut {
    /// Replaces a route; the change, if it is one.
    pub(crate) fn set(&mut self, prefix: Prefix, new: Option<Exported>) -> Option<Change> {
        let old = match &new {
            Some(route) => self.routes.insert(prefix, route.clone()),
            None => self.routes.remove(&prefix),
        };
        (old != new).then_some(Change { prefix, old, new })
    }

    /// Everything, as changes from nothing.
    pub(crate) fn all(&self) -> Vec<Change> {
        let change = |(prefix, route): (&Prefix, &Exported)| Change {
            prefix: *prefix,
            old: None,
            new: Some(route.clone()),
        };
        self.routes.iter().map(change).collect()
    }

    /// What a member needs that was told `other` so far.
    pub(crate) fn difference(&self, other: &AdjOut) -> Vec<Change> {
        let prefixes: BTreeSet<Prefix> = self.routes.keys().chain(other.routes.keys()).copied().collect();
        prefixes
            .into_iter()
            .map(|prefix| Change {
                prefix,
                old: other.routes.get(&prefix).cloned(),
                new: self.routes.get(&prefix).cloned(),
            })
            .filter(|change| change.old != change.new)
            .collect()
    }

    /// What a member needs that missed changes of `prefixes`; what it was told of them is not known any more.
    pub(crate) fn catch_up(&self, member: Member, prefixes: &BTreeSet<Prefix>) -> Batch {
        let mut batch = Batch::default();
        for prefix in prefixes {
            match self.routes.get(prefix).filter(|route| !member.is_excluded(route)) {
                Some(route) => batch.announce(*prefix, &route.attrs),
                None => batch.withdrawn.push(*prefix),
            }
        }
        batch
    }

    /// How many routes `member` was told.
    pub(crate) fn told(&self, member: Member) -> usize {
        self.routes.values().filter(|route| !member.is_excluded(route)).count()
    }
}

/// Who and what a set of changes excludes: a member outside of it shares the common encoding.
pub(crate) struct Concerned {
    peers: BTreeSet<PeerKey>,
    addresses: BTreeSet<IpAddr>,
}

impl Concerned {
    pub(crate) fn of(changes: &[Change]) -> Concerned {
        let routes = || changes.iter().flat_map(|change| change.old.iter().chain(&change.new));
        Concerned {
            peers: routes().filter_map(|route| route.source).collect(),
            addresses: routes().map(|route| route.attrs.next_hop()).collect(),
        }
    }

    pub(crate) fn includes(&self, member: Member) -> bool {
        self.peers.contains(&member.peer) || self.addresses.contains(&member.address)
    }
}

/// Prefixes to be sent in one go.
#[derive(Default)]
pub(crate) struct Batch {
    withdrawn: Vec<Prefix>,
    /// By attributes, in the order they first appeared: equal attributes share messages.
    announced: Vec<(Attrs, Vec<Prefix>)>,
    index: HashMap<usize, usize>,
}

impl Batch {
    /// The changes for everybody they exclude nothing from (`None`), or for one member.
    pub(crate) fn new(changes: &[Change], member: Option<Member>) -> Batch {
        let mut batch = Batch::default();
        for change in changes {
            let (old, new) = match member {
                Some(member) => (member.sees(&change.old), member.sees(&change.new)),
                None => (change.old.as_ref().map(|r| &r.attrs), change.new.as_ref().map(|r| &r.attrs)),
            };
            match (old, new) {
                (old, Some(new)) if old != Some(new) => batch.announce(change.prefix, new),
                (Some(_), None) => batch.withdrawn.push(change.prefix),
                _ => {}
            }
        }
        batch
    }

    fn announce(&mut self, prefix: Prefix, attrs: &Attrs) {
        let at = *self.index.entry(attrs.id()).or_insert(self.announced.len());
        match self.announced.get_mut(at) {
            Some((_, prefixes)) => prefixes.push(prefix),
            None => self.announced.push((attrs.clone(), vec![prefix])),
        }
    }

    /// The UPDATEs: withdrawals first. Routes whose attributes leave no room for a prefix are withdrawn instead.
    pub(crate) fn encode(mut self, family: Family, four_octet: bool) -> Option<Arc<[u8]>> {
        let mut announcements = Vec::new();
        for (attrs, prefixes) in &self.announced {
            let sent = if four_octet {
                announce(&mut announcements, attrs.encoded(), prefixes)
            } else {
                let (head, tail) = attrs.view().encode_narrow();
                let narrow = Encoded { head: &head, tail: &tail, next_hop: attrs.next_hop() };
                announce(&mut announcements, narrow, prefixes)
            };
            if !sent {
                self.withdrawn.extend(prefixes);
            }
        }
        let mut out = Vec::with_capacity(announcements.len());
        withdraw(&mut out, family, &self.withdrawn);
        out.extend(announcements);
        (!out.is_empty()).then(|| out.into())
    }
}
