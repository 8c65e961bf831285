//! The decision process (RFC 4271 9.1.2, RFC 4456 9, bgp-behaviour 6.3): which path is best, and why.
//!
//! Ranking only. Whether a route changed is never asked of the ranking but of `!=`.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr};

use super::attrs::Attrs;

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
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) attrs: &'a Attrs,
    pub(crate) source: Source,
}

/// The criterion that told two paths apart, in the order they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    LocalPref,
    AsPathLength,
    Origin,
    Med,
    ExternalOverInternal,
    /// From here on paths are equal for multipath: the IGP metric is not known here and so always equal.
    RouterId,
    ClusterListLength,
    PeerAddress,
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
    let (x, y) = (a.attrs.summary(), b.attrs.summary());
    let same_neighbour = x.neighbour_as == y.neighbour_as;
    let router_id = |c: Candidate<'_>| c.attrs.summary().originator_id.unwrap_or(c.source.router_id);
    let steps = [
        (y.local_pref.cmp(&x.local_pref), Reason::LocalPref),
        (x.hops.cmp(&y.hops), Reason::AsPathLength),
        (x.origin.cmp(&y.origin), Reason::Origin),
        (if same_neighbour { x.med.cmp(&y.med) } else { Ordering::Equal }, Reason::Med),
        (a.source.internal.cmp(&b.source.internal), Reason::ExternalOverInternal),
        (router_id(a).cmp(&router_id(b)), Reason::RouterId),
        (x.clusters.cmp(&y.clusters), Reason::ClusterListLength),
        (a.source.address.cmp(&b.source.address), Reason::PeerAddress),
    ];
    steps.into_iter().find(|(ordering, _)| ordering.is_ne()).unwrap_or((Ordering::Equal, Reason::Same))
}

/// The index of the best path.
///
/// MED is compared only within a neighbour AS, which makes the pairwise ranking intransitive. So each neighbour AS
/// first sends its best, and those are compared: the result does not depend on the order of arrival.
pub(crate) fn best(candidates: &[Candidate<'_>]) -> Option<usize> {
    let better = |a: usize, b: usize| if compare(candidates[b], candidates[a]).0.is_lt() { b } else { a };
    let neighbour = |i: usize| candidates[i].attrs.summary().neighbour_as;
    let indices = 0..candidates.len();
    indices
        .clone()
        .filter(|i| !(0..*i).any(|j| neighbour(j) == neighbour(*i)))
        .filter_map(|first| indices.clone().filter(|i| neighbour(*i) == neighbour(first)).reduce(better))
        .reduce(better)
}
