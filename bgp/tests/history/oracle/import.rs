//! What becomes of a received route before it may be chosen.

use tortie_bgp::config::Role;
use tortie_bgp::family::Prefix;
use tortie_bgp::filter::{Source, Verdict};

use super::{Session, filter};
use crate::route::Route;

/// `None` when it does not count.
pub(super) fn import(from: Session<'_>, prefix: Prefix, mut route: Route) -> Option<Route> {
    keep_known(&mut route);
    if has_looped(from, &route) || !has_policy(from) {
        return None;
    }
    if let Some(role) = from.peer.role.filter(|_| !from.internal()) {
        mark(role, from.peer.remote_as, &mut route)?;
    }
    let verdict = filter::run(&from.peer.import, from, Source::Learned, prefix, &mut route);
    (verdict != Some(Verdict::Reject)).then_some(route)
}

/// RFC 4271 5: an unknown attribute goes on with the partial bit if it is transitive, and is dropped otherwise.
fn keep_known(route: &mut Route) {
    const TRANSITIVE: u8 = 0x40;
    const PARTIAL: u8 = 0x20;
    route.others.retain(|(flags, ..)| flags & TRANSITIVE != 0);
    route.others.iter_mut().for_each(|(flags, ..)| *flags |= PARTIAL);
}

/// The path leads back here (RFC 4271 9.1.2), more often than allowed; or we reflected it (RFC 4456 8).
fn has_looped(from: Session<'_>, route: &Route) -> bool {
    let numbers = route.path.iter().flat_map(|(_, numbers)| numbers);
    let own = numbers.filter(|number| **number == from.local_as()).count();
    own > from.peer.allow_own_as as usize
        || route.originator == Some(from.speaker.router_id)
        || from.speaker.cluster_id.is_some_and(|own| route.clusters.contains(&own))
}

/// RFC 8212, for peers that ask for it.
fn has_policy(from: Session<'_>) -> bool {
    from.internal() || !from.peer.require_policy || !from.peer.import.rules().is_empty()
}

/// RFC 9234 5, the three ingress rules.
fn mark(own: Role, remote_as: u32, route: &mut Route) -> Option<()> {
    let from_below = matches!(own, Role::Provider | Role::RouteServer);
    match route.only_to_customer {
        Some(_) if from_below => None,
        Some(otc) if own == Role::Peer && otc != remote_as => None,
        None if !from_below => {
            route.only_to_customer = Some(remote_as);
            Some(())
        }
        _ => Some(()),
    }
}
