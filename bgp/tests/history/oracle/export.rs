//! What becomes of a chosen route on its way to a peer.

use std::net::{IpAddr, Ipv4Addr};

use tortie_bgp::config::{NextHopMode, Role};
use tortie_bgp::family::Prefix;
use tortie_bgp::filter::{Source, Verdict};

use super::filter::{self, prepend};
use super::{DEFAULT_LOCAL_PREF, Session};
use crate::route::Route;

const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;
const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;

/// The route as the peer must see it, `None` when it must not. `from` is `None` for routes of our own.
pub(super) fn export(
    to: Session<'_>,
    address: Ipv4Addr,
    prefix: Prefix,
    mut route: Route,
    from: Option<Session<'_>>,
) -> Option<Route> {
    let back = from.is_some_and(|from| from.address == to.address);
    if back || !communities_allow(to, &route) || !may_cross(to, from) || !has_policy(to) {
        return None;
    }
    if let Some(role) = to.peer.role.filter(|_| !to.internal()) {
        mark(role, to.local_as(), &mut route)?;
    }
    preferences(to, &mut route, from);
    let source = if from.is_some() { Source::Learned } else { Source::Originated };
    if filter::run(&to.peer.export, to, source, prefix, &mut route) != Some(Verdict::Accept) {
        return None;
    }
    if takes_own_address(to, from) {
        route.next_hop = address;
    }
    if to.internal() {
        reflect(to, &mut route, from)
    } else {
        leave(to, &mut route)
    }
    // RFC 4271 5.1.3: never with the peer's own address as its next hop.
    (IpAddr::V4(route.next_hop) != to.address).then_some(route)
}

/// RFC 1997, of the communities the route has here; those the filter adds are for the peer.
fn communities_allow(to: Session<'_>, route: &Route) -> bool {
    let has = |community| route.communities.contains(&community);
    !has(NO_ADVERTISE) && (to.internal() || !(has(NO_EXPORT) || has(NO_EXPORT_SUBCONFED)))
}

/// Between internal peers only a reflector passes routes on, to or from its clients (RFC 4271 9.2, RFC 4456 6).
fn may_cross(to: Session<'_>, from: Option<Session<'_>>) -> bool {
    match from.filter(|from| from.internal() && to.internal()) {
        Some(from) => {
            to.speaker.cluster_id.is_some() && (from.peer.reflector_client || to.peer.reflector_client)
        }
        None => true,
    }
}

/// RFC 8212, for peers that ask for it.
fn has_policy(to: Session<'_>) -> bool {
    to.internal() || !to.peer.require_policy || !to.peer.export.rules().is_empty()
}

/// RFC 9234 5, the two egress rules.
fn mark(own: Role, local_as: u32, route: &mut Route) -> Option<()> {
    let down = matches!(own, Role::Provider | Role::RouteServer);
    match route.only_to_customer {
        Some(_) => down.then_some(()),
        None => {
            if down || own == Role::Peer {
                route.only_to_customer = Some(local_as);
            }
            Some(())
        }
    }
}

/// What the filter may still change: LOCAL_PREF is for internal peers (RFC 4271 5.1.5), MED does not go on to other ASes
/// (5.1.4) but tells them which of our routers is nearer: a relayed route has 1 (docs/bgp.md, "MED 1 on relayed routes").
fn preferences(to: Session<'_>, route: &mut Route, from: Option<Session<'_>>) {
    if to.internal() {
        route.local_pref = Some(route.local_pref.unwrap_or(DEFAULT_LOCAL_PREF));
    } else {
        route.med = from.filter(|from| from.internal()).map(|_| 1);
    }
}

/// RFC 4271 5.1.3 and the setting of the peer.
fn takes_own_address(to: Session<'_>, from: Option<Session<'_>>) -> bool {
    match to.peer.next_hop {
        _ if from.is_none() => true,
        NextHopMode::Auto => !to.internal(),
        NextHopMode::OwnAddress => true,
        NextHopMode::Keep => false,
    }
}

/// RFC 4456 8: the first reflector says who brought the route, each puts its cluster in front.
fn reflect(to: Session<'_>, route: &mut Route, from: Option<Session<'_>>) {
    if let (Some(from), Some(cluster)) = (from.filter(|from| from.internal()), to.speaker.cluster_id) {
        route.originator = Some(route.originator.unwrap_or(from.router_id));
        route.clusters.insert(0, cluster);
    }
}

/// Out of the AS: our number in front (RFC 4271 5.1.2), nothing that is for inside (5.1.5, RFC 4456 8, RFC 4360 6).
fn leave(to: Session<'_>, route: &mut Route) {
    prepend(route, to.local_as());
    (route.local_pref, route.originator) = (None, None);
    route.clusters.clear();
    route.extended.retain(|community| community[0] & 0x40 == 0);
}
