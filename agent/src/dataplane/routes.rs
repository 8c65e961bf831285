//! Routes to workloads, blackholes, other own routes and learned ones, as the kernel should hold them; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::owner::{self, LEARNED_PROTOCOL, LOCAL_PROTOCOL};
use crate::desired::{Desired, RouteTarget};
use crate::fib::Fib;
use crate::kernel::{Hop, Link, Route, RouteKey, RouteKind};

/// What an IPv6 route gets instead of metric 0.
const IPV6_METRIC: u32 = 1024;

/// Routes as the kernel should hold them.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Those that can be written now: their interfaces are there and up.
    pub(super) routes: BTreeMap<RouteKey, Route>,
    /// Addresses two interfaces claim: the address, who has it, who does not.
    pub(super) contested: Vec<(IpAddr, String, String)>,
}

/// The key under which we write a prefix.
pub(super) fn key(prefix: IpNetwork) -> RouteKey {
    let prefix = IpNetwork::new(prefix.network(), prefix.prefix()).unwrap_or(prefix);
    RouteKey { prefix, metric: if prefix.is_ipv4() { 0 } else { IPV6_METRIC } }
}

/// Prefixes this node routes itself: they win over learned ones.
pub(super) fn local_prefixes(desired: &Desired) -> BTreeSet<IpNetwork> {
    let workloads = desired.interfaces.values().flat_map(|workload| &workload.addresses);
    let routes = desired.routes.keys().map(|prefix| key(*prefix).prefix);
    workloads.map(|address| IpNetwork::from(*address)).chain(routes).collect()
}

/// Workloads first, then other local routes, then learned ones: on one prefix the first wins (felix-dataplane 1.6).
pub(super) fn wanted(desired: &Desired, fib: &Fib, links: &BTreeMap<String, Link>) -> Wanted {
    let mut wanted = Wanted::default();
    for (prefix, target) in &fib.routes {
        if let Some(route) = route(LEARNED_PROTOCOL, key(*prefix), target, links) {
            wanted.routes.insert(key(*prefix), route);
        }
    }
    for (prefix, target) in &desired.routes {
        if let Some(route) = route(LOCAL_PROTOCOL, key(*prefix), target, links) {
            wanted.routes.insert(key(*prefix), route);
        }
    }
    let mut holders: BTreeMap<IpAddr, (u32, &str)> = BTreeMap::new();
    for (name, workload) in &desired.interfaces {
        let Some(link) = links.get(name).filter(|link| link.up && owner::is_workload_interface(name)) else {
            continue;
        };
        for address in &workload.addresses {
            let candidate = (link.index, name.as_str());
            // The newest interface has the address: the other belongs to a workload on its way out.
            let holder = holders.entry(*address).or_insert(candidate);
            if *holder == candidate {
                continue;
            }
            let loser = std::cmp::min(*holder, candidate);
            *holder = std::cmp::max(*holder, candidate);
            wanted.contested.push((*address, holder.1.to_string(), loser.1.to_string()));
        }
    }
    for (address, (index, _)) in holders {
        let hop = Hop { gateway: None, interface: index, onlink: false };
        let route = Route {
            protocol: LOCAL_PROTOCOL,
            kind: RouteKind::Unicast,
            link_scope: address.is_ipv4(),
            hops: vec![hop],
        };
        wanted.routes.insert(key(address.into()), route);
    }
    wanted
}

/// `None` while one of its interfaces is missing or down.
fn route(protocol: u8, key: RouteKey, target: &RouteTarget, links: &BTreeMap<String, Link>) -> Option<Route> {
    let up = |name: &str| links.get(name).filter(|link| link.up).map(|link| link.index);
    let (kind, mut hops) = match target {
        RouteTarget::Blackhole => (RouteKind::Blackhole, Vec::new()),
        RouteTarget::Device(name) => {
            (RouteKind::Unicast, vec![Hop { gateway: None, interface: up(name)?, onlink: false }])
        }
        RouteTarget::Gateways(gateways) => {
            // Of several, those that are usable.
            let hops = gateways.iter().filter_map(|gateway| {
                let interface = up(&gateway.interface)?;
                Some(Hop { gateway: Some(gateway.address), interface, onlink: gateway.onlink })
            });
            (RouteKind::Unicast, hops.collect())
        }
    };
    if kind == RouteKind::Unicast && hops.is_empty() {
        return None;
    }
    hops.sort();
    let link_scope = key.prefix.is_ipv4() && matches!(target, RouteTarget::Device(_));
    Some(Route { protocol, kind, link_scope, hops })
}

/// Ours among all routes of the main table.
pub(super) fn ours(found: &[(RouteKey, Route)], links: &BTreeMap<String, Link>) -> BTreeMap<RouteKey, Route> {
    let names: BTreeMap<u32, &str> = links.values().map(|link| (link.index, link.name.as_str())).collect();
    let mut ours: BTreeMap<RouteKey, Route> = BTreeMap::new();
    for (key, route) in found {
        if owner::is_our_route(route, |index| names.get(&index).copied()) {
            // Two under one key are of somebody's `ip route append`. Taken together they are like nothing we want, and
            // are replaced.
            let known = ours.entry(*key).or_insert_with(|| Route { hops: Vec::new(), ..route.clone() });
            known.hops.extend(&route.hops);
            known.hops.sort();
        }
    }
    ours
}
