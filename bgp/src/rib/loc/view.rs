//! The paths of a prefix as operators see them: how each stands, and what told it from the best. Reads only.

use super::super::decision::{Candidate, Reason, compare, shares};
use super::{Path, Slot, Table};
use crate::rib::attrs::{AttrId, Set};

/// How a path stands among those of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Import refused it.
    Rejected,
    /// The peer that announced it is not known to have had a session.
    NoSource,
    /// Its next hop is this speaker.
    OwnNextHop,
    /// The best.
    Best,
    /// Shares the load with the best.
    Multipath(Reason),
    /// Another one is better.
    Beaten(Reason),
}

impl Table {
    /// The paths of a prefix.
    pub(crate) fn paths(&self, slot: Slot) -> &[Path] {
        self.paths.get(&self.entries[slot as usize].paths)
    }

    /// The route of our own.
    pub(crate) fn originated(&self, slot: Slot) -> Option<AttrId> {
        self.entries[slot as usize].originated
    }

    /// How each of [`Table::paths`] stands, in their order, with words about those that are not the best.
    pub(crate) fn ranks(&self, slot: Slot) -> Vec<(Rank, String)> {
        let best = self.select(&self.entries[slot as usize]);
        let paths = self.paths(slot);
        let candidates: Vec<Option<Candidate<'_>>> =
            paths.iter().map(|path| self.usable(path).map(|(candidate, _)| candidate)).collect();
        let rank = |(at, path): (usize, &Path)| match (candidates[at], best.and_then(|best| candidates[best]))
        {
            (Some(_), _) if best == Some(at) => (Rank::Best, String::new()),
            (Some(own), Some(best)) => against(own, best, &candidates),
            _ => (self.unusable(path), String::new()),
        };
        paths.iter().enumerate().map(rank).collect()
    }

    fn unusable(&self, path: &Path) -> Rank {
        match path.accepted.map(|attrs| self.interner.get(attrs)) {
            None => Rank::Rejected,
            Some(set) if self.is_own(set) => Rank::OwnNextHop,
            Some(_) => Rank::NoSource,
        }
    }

    fn is_own(&self, set: &Set) -> bool {
        self.own_addresses.contains(&set.next_hop())
    }
}

/// A path that is not the best. It may be better than the best and yet have been beaten before by one of its own
/// neighbour AS, whose MED counts among them only.
fn against(own: Candidate<'_>, best: Candidate<'_>, all: &[Option<Candidate<'_>>]) -> (Rank, String) {
    let (order, reason) = compare(best, own);
    let usable: Vec<Candidate<'_>> = all.iter().flatten().copied().collect();
    if shares(best, own, &usable) {
        return (Rank::Multipath(reason), words(own, best, reason));
    }
    let of_neighbour = |other: &&Candidate<'_>| {
        other.summary.neighbour_as == own.summary.neighbour_as && compare(**other, own).0.is_lt()
    };
    let winner = if order.is_le() && !reason.allows_multipath() {
        best
    } else {
        all.iter().flatten().find(of_neighbour).copied().unwrap_or(best)
    };
    let reason = compare(winner, own).1;
    (Rank::Beaten(reason), words(own, winner, reason))
}

/// What told a path from the one that is better.
fn words(own: Candidate<'_>, better: Candidate<'_>, reason: Reason) -> String {
    let (x, y) = (own.summary, better.summary);
    let router_id = |c: Candidate<'_>| c.summary.originator_id().unwrap_or(c.source.router_id);
    match reason {
        Reason::LocalPref => {
            format!("lower LOCAL_PREF: {}, the better one has {}", x.local_pref, y.local_pref)
        }
        Reason::AsPathLength => format!("longer AS path: {}, the better one has {}", x.hops, y.hops),
        Reason::Origin => format!("worse ORIGIN: {}, the better one has {}", x.origin, y.origin),
        Reason::Med => {
            format!("higher MED: {}, the better one of AS {} has {}", x.med, x.neighbour_as, y.med)
        }
        Reason::ExternalOverInternal => {
            "from an internal peer, the better one is from an external one".to_owned()
        }
        Reason::RouterId => {
            format!("higher BGP identifier: {}, the better one has {}", router_id(own), router_id(better))
        }
        Reason::ClusterListLength => {
            format!("longer CLUSTER_LIST: {}, the better one has {}", x.clusters, y.clusters)
        }
        Reason::PeerAddress => {
            format!(
                "higher peer address: {}, the better one is from {}",
                own.source.address, better.source.address
            )
        }
        Reason::PathId => {
            format!("higher path identifier: {}, the better one has {}", own.path_id, better.path_id)
        }
        Reason::Same => "the same in every way".to_owned(),
    }
}
