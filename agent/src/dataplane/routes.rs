//! Routes to workloads, blackholes, other local routes and learned ones, as the kernel should hold them; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::owner::{self, LOCAL_PROTOCOL};
use crate::desired::{Desired, Gateway, RouteTarget};
use crate::kernel::{Hop, Link, Route, RouteKey, RouteKind};

/// What an IPv6 route gets instead of metric 0.
const IPV6_METRIC: u32 = 1024;

/// A route as it should be.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) route: Route,
    /// Its next hops are to be a group, where the kernel has groups.
    pub(super) multipath: bool,
}

/// Local routes as the kernel should hold them.
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
    let peers = desired.reachable_by.keys();
    let routes = desired.routes.keys().map(|prefix| key(*prefix).prefix);
    workloads.chain(peers).map(|address| IpNetwork::from(*address)).chain(routes).collect()
}

/// Workloads first, then other local routes, then those to peers: on one prefix the first wins (felix-dataplane 1.6).
pub(super) fn local(
    desired: &Desired,
    peers: Vec<(IpNetwork, RouteTarget)>,
    links: &BTreeMap<String, Link>,
) -> Wanted {
    let mut wanted = Wanted::default();
    let others = desired.routes.iter().map(|(prefix, target)| (*prefix, target));
    for (prefix, target) in peers.iter().map(|(prefix, target)| (*prefix, target)).chain(others) {
        if let Some(wish) = route(LOCAL_PROTOCOL, key(prefix), target, links) {
            wanted.routes.insert(key(prefix), wish.route);
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
            group: None,
        };
        wanted.routes.insert(key(address.into()), route);
    }
    wanted
}

/// `None` while none of its interfaces is there and up. Of several next hops, those whose interface has a carrier; when none
/// has, all: the route is to stay where it leads until a carrier comes back.
pub(super) fn route(
    protocol: u8,
    key: RouteKey,
    target: &RouteTarget,
    links: &BTreeMap<String, Link>,
) -> Option<Wish> {
    let up = |name: &str| links.get(name).filter(|link| link.up);
    let mut alive = false;
    let (kind, mut hops) =
        match target {
            RouteTarget::Blackhole => (RouteKind::Blackhole, Vec::new()),
            RouteTarget::Device(name) => {
                (RouteKind::Unicast, vec![Hop { gateway: None, interface: up(name)?.index, onlink: false }])
            }
            RouteTarget::Gateways(gateways) => {
                let links = gateways.iter().filter_map(|gateway| Some((gateway, up(&gateway.interface)?)));
                let usable: Vec<(&Gateway, &Link)> = links.collect();
                alive = usable.iter().any(|(_, link)| !link.no_carrier);
                let hops =
                    usable.iter().filter(|(_, link)| !(alive && link.no_carrier)).map(|(gateway, link)| {
                        Hop { gateway: Some(gateway.address), interface: link.index, onlink: gateway.onlink }
                    });
                (RouteKind::Unicast, hops.collect())
            }
        };
    if kind == RouteKind::Unicast && hops.is_empty() {
        return None;
    }
    hops.sort();
    let link_scope = key.prefix.is_ipv4() && matches!(target, RouteTarget::Device(_));
    let multipath = alive && hops.len() > 1;
    Some(Wish { route: Route { protocol, kind, link_scope, hops, group: None }, multipath })
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
            if route.group.is_none() {
                known.hops.extend(&route.hops);
                known.hops.sort();
            }
        }
    }
    ours
}
