//! The decision process (RFC 4271 9.1.2, RFC 4456 9, bgp-behaviour 6.3): which path is best, and why.
//!
//! Ranking only. Whether a route changed is never asked of the ranking but of `!=`.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr};

use super::attrs::Summary;

/// Where a path was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// From an internal peer.
    pub(crate) internal: bool,
    /// From a client of this reflector.
    pub(crate) client: bool,
    /// BGP identifier of the peer.
    pub(crate) router_id: Ipv4Addr,
    /// Address of the peer.
    pub(crate) address: IpAddr,
}

/// A path as it is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) summary: &'a Summary,
    pub(crate) source: Source,
    /// Tells paths of one peer apart (RFC 7911).
    pub(crate) path_id: u32,
}

/// The criterion that told two paths apart, in the order they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// LOCAL_PREF.
    LocalPref,
    /// Length of the AS path.
    AsPathLength,
    /// ORIGIN.
    Origin,
    /// MULTI_EXIT_DISC, between paths of one neighbour AS.
    Med,
    /// Learned from an external peer rather than from an internal one.
    ExternalOverInternal,
    /// BGP identifier. From here on paths are equal for multipath: the IGP metric is not known here and so always equal.
    RouterId,
    /// Length of CLUSTER_LIST.
    ClusterListLength,
    /// Address of the peer.
    PeerAddress,
    /// Path identifier of the peer.
    PathId,
    /// Nothing: it is the same path.
    Same,
}

impl Reason {
    /// Paths told apart by this only share the load.
    pub(crate) fn allows_multipath(self) -> bool {
        self >= Reason::RouterId
    }
}

/// Which path is better: `Less` when `a` is.
pub(crate) fn compare(a: Candidate<'_>, b: Candidate<'_>) -> (Ordering, Reason) {
    let (x, y) = (a.summary, b.summary);
    let same_neighbour = x.neighbour_as == y.neighbour_as;
    let router_id = |c: Candidate<'_>| c.summary.originator_id().unwrap_or(c.source.router_id);
    let steps = [
        (y.local_pref.cmp(&x.local_pref), Reason::LocalPref),
        (x.hops.cmp(&y.hops), Reason::AsPathLength),
        (x.origin.cmp(&y.origin), Reason::Origin),
        (if same_neighbour { x.med.cmp(&y.med) } else { Ordering::Equal }, Reason::Med),
        (a.source.internal.cmp(&b.source.internal), Reason::ExternalOverInternal),
        (router_id(a).cmp(&router_id(b)), Reason::RouterId),
        (x.clusters.cmp(&y.clusters), Reason::ClusterListLength),
        (a.source.address.cmp(&b.source.address), Reason::PeerAddress),
        (a.path_id.cmp(&b.path_id), Reason::PathId),
    ];
    steps.into_iter().find(|(ordering, _)| ordering.is_ne()).unwrap_or((Ordering::Equal, Reason::Same))
}

/// Whether a path shares the load with the best: equal to it but for what tells single paths apart, and not beaten by
/// the MED of another path of its own neighbour AS before (RFC 4271 9.1.2.2 c).
pub(crate) fn shares(best: Candidate<'_>, path: Candidate<'_>, all: &[Candidate<'_>]) -> bool {
    let beats = |other: &Candidate<'_>| {
        other.summary.neighbour_as == path.summary.neighbour_as
            && other.summary.med < path.summary.med
            && matches!(compare(*other, path), (Ordering::Less, Reason::Med))
    };
    compare(best, path).1.allows_multipath()
        // No MED is lower than 0, and among paths of its own neighbour AS the best has the lowest.
        && (path.summary.med == 0
            || path.summary.neighbour_as == best.summary.neighbour_as
            || !all.iter().any(beats))
}

/// The index of the best path.
///
/// MED is compared only within a neighbour AS, which makes the pairwise ranking intransitive. So each neighbour AS
/// first sends its best, and those are compared: the result does not depend on the order of arrival. Where all MEDs are
/// the same, which is usual, the ranking is a total order and one pass will do.
pub(crate) fn best(candidates: &[Candidate<'_>]) -> Option<usize> {
    let better = |a: usize, b: usize| if compare(candidates[b], candidates[a]).0.is_lt() { b } else { a };
    let first = candidates.first()?;
    if candidates.iter().all(|candidate| candidate.summary.med == first.summary.med) {
        return (0..candidates.len()).reduce(better);
    }
    let neighbour = |i: usize| candidates[i].summary.neighbour_as;
    let mut by_neighbour: Vec<usize> = (0..candidates.len()).collect();
    by_neighbour.sort_by_key(|i| neighbour(*i));
    let of_one_neighbour = by_neighbour.chunk_by(|a, b| neighbour(*a) == neighbour(*b));
    of_one_neighbour.filter_map(|indices| indices.iter().copied().reduce(better)).reduce(better)
}
