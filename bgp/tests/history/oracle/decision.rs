//! RFC 4271 9.1.2 with RFC 4456 9: routes are struck off, criterion by criterion, until one is left.

use std::net::Ipv4Addr;

use super::{DEFAULT_LOCAL_PREF, Learned};
use crate::route::{Route, SEQUENCE, SET};

/// The best route, and all that were left before only identifiers tell them apart.
pub(super) fn decide(local_as: u32, routes: &[Learned<'_>]) -> (Option<usize>, Vec<usize>) {
    let mut left: Vec<usize> = (0..routes.len()).collect();
    // Phase 1, then 9.1.2.2 a, b.
    keep_least(&mut left, |at| u32::MAX - routes[at].route.local_pref.unwrap_or(DEFAULT_LOCAL_PREF));
    keep_least(&mut left, |at| length(&routes[at].route));
    keep_least(&mut left, |at| routes[at].route.origin);
    // c: "if neighborAS(m) equals neighborAS(n) and MED(n) < MED(m), remove m", all at once.
    let med = |at: usize| routes[at].route.med.unwrap_or(0);
    let neighbour = |at: usize| neighbour(local_as, &routes[at]);
    let among = left.clone();
    left.retain(|m| !among.iter().any(|n| neighbour(*n) == neighbour(*m) && med(*n) < med(*m)));
    // d; e, the cost of the way to the next hop, is the same for all.
    keep_least(&mut left, |at| routes[at].from.internal());
    let equal = left.clone();
    // f; then RFC 4456 9; then g; then what tells paths of one peer apart.
    keep_least(&mut left, |at| identifier(&routes[at]));
    keep_least(&mut left, |at| routes[at].route.clusters.len());
    keep_least(&mut left, |at| routes[at].from.address);
    keep_least(&mut left, |at| routes[at].path_id);
    (left.first().copied(), equal)
}

fn keep_least<T: Ord>(left: &mut Vec<usize>, value: impl Fn(usize) -> T) {
    let least = left.iter().map(|at| value(*at)).min();
    left.retain(|at| Some(value(*at)) == least);
}

/// "an AS_SET counts as 1, no matter how many ASes are in the set".
fn length(route: &Route) -> usize {
    route.path.iter().map(|(kind, numbers)| if *kind == SET { 1 } else { numbers.len() }).sum()
}

/// The AS the route came into ours from; ours where it began here.
fn neighbour(local_as: u32, learned: &Learned<'_>) -> u32 {
    match learned.route.path.first() {
        Some((SEQUENCE, numbers)) => numbers[0],
        _ if learned.from.internal() => local_as,
        _ => learned.from.peer.remote_as,
    }
}

/// ORIGINATOR_ID stands for the identifier of the peer (RFC 4456 9).
fn identifier(learned: &Learned<'_>) -> Ipv4Addr {
    learned.route.originator.unwrap_or(learned.from.router_id)
}
