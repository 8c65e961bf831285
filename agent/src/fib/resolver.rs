//! Which way the kernel's own routes lead to a next hop: a value made from a dump.
//!
//! Only foreign routes of the main table count: connected, static, default, other daemons'. Never our own, or a learned
//! route would carry its own next hop; never an overlay device, or a tunnel would run inside itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::dataplane::owner;
use crate::desired::Gateway;
use crate::kernel::{Link, Route, RouteKey, RouteKind};

/// Protocol of routes the kernel makes for its addresses.
const RTPROT_KERNEL: u8 = 2;
/// What an IPv6 route without a metric gets; IPv4 leaves it 0.
const DEFAULT_IPV6_METRIC: u32 = 1024;

/// Foreign routes by destination, and the addresses of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// The route of lowest metric for each destination.
    routes: BTreeMap<IpNetwork, Foreseen>,
    /// Destinations that a route of ours would collide with: same prefix, same metric.
    taken: BTreeMap<IpNetwork, u8>,
    own: BTreeSet<IpAddr>,
    /// Networks the addresses of this node say it is in, whatever the routes say.
    subnets: BTreeSet<IpNetwork>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Foreseen {
    metric: u32,
    /// Empty when the route leads nowhere or over an overlay.
    gateways: Vec<Path>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    gateway: Option<IpAddr>,
    interface: String,
    onlink: bool,
}

/// How a next hop is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Where packets for it are sent.
    pub gateways: Vec<Gateway>,
    /// It is a neighbour, with no gateway before it.
    pub on_link: bool,
    /// Prefix length of the route that leads there.
    pub length: u8,
}

/// Whose route holds a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The kernel's, for a network one of its interfaces is in.
    Connected,
    /// Somebody else's, by protocol.
    Other(u8),
}

impl Resolver {
    /// From all routes of the main table and all links.
    pub fn new(routes: &[(RouteKey, Route)], links: &BTreeMap<String, Link>) -> Resolver {
        let names: BTreeMap<u32, &str> =
            links.values().map(|link| (link.index, link.name.as_str())).collect();
        let underlay = links
            .values()
            .filter(|link| !owner::is_overlay(&link.name) && !owner::is_workload_interface(&link.name));
        let mut resolver = Resolver {
            own: addresses(links.values()).map(|address| address.ip()).collect(),
            subnets: addresses(underlay).filter_map(subnet).collect(),
            ..Resolver::default()
        };
        for (key, route) in routes {
            if !owner::is_our_route(route, |index| names.get(&index).copied()) {
                resolver.add(key, route, &names);
            }
        }
        resolver
    }

    fn add(&mut self, key: &RouteKey, route: &Route, names: &BTreeMap<u32, &str>) {
        let ours = if key.prefix.is_ipv4() { 0 } else { DEFAULT_IPV6_METRIC };
        let Ok(prefix) = IpNetwork::new(key.prefix.network(), key.prefix.prefix()) else { return };
        if is_link_local(prefix.network()) {
            return;
        }
        // IPv6 has a connected network at metric 256; a learned one beside it would only lie there.
        if key.metric == ours || route.protocol == RTPROT_KERNEL {
            self.taken.insert(prefix, route.protocol);
        }
        if self.routes.get(&prefix).is_some_and(|known| known.metric <= key.metric) {
            return;
        }
        let mut gateways = Vec::new();
        if route.kind == RouteKind::Unicast {
            for hop in &route.hops {
                let Some(name) = names.get(&hop.interface) else { continue };
                let other_family = hop.gateway.is_some_and(|gateway| gateway.is_ipv4() != prefix.is_ipv4());
                if other_family || owner::is_overlay(name) || owner::is_workload_interface(name) {
                    continue;
                }
                gateways.push(Path {
                    gateway: hop.gateway,
                    interface: (*name).to_string(),
                    onlink: hop.onlink,
                });
            }
        }
        self.routes.insert(prefix, Foreseen { metric: key.metric, gateways });
    }

    /// Whether this is an address of this node.
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// Whether the prefix is one address and this node's.
    pub fn is_own(&self, prefix: &IpNetwork) -> bool {
        let whole = if prefix.is_ipv4() { 32 } else { 128 };
        prefix.prefix() == whole && self.is_own_address(prefix.network())
    }

    /// Whether an interface's address says that this is a neighbour, and the route that leads there, of this length, does
    /// not: that interface is down or its connected route gone.
    pub fn is_lost_neighbour(&self, next_hop: IpAddr, length: u8) -> bool {
        self.subnets.iter().any(|subnet| subnet.prefix() > length && subnet.contains(next_hop))
    }

    /// Who holds this very prefix, so that we cannot.
    pub fn foreign(&self, prefix: &IpNetwork) -> Option<Foreign> {
        self.taken.get(prefix).map(|protocol| match *protocol {
            RTPROT_KERNEL => Foreign::Connected,
            other => Foreign::Other(other),
        })
    }

    /// The way to a next hop: longest match, then lowest metric. `None` when nothing leads there.
    pub fn resolve(&self, next_hop: IpAddr) -> Option<Resolution> {
        let whole: u8 = if next_hop.is_ipv4() { 32 } else { 128 };
        if is_link_local(next_hop) {
            // Means nothing without an interface, and a learned route names none.
            return None;
        }
        for length in (0..=whole).rev() {
            let network = IpNetwork::new(next_hop, length).ok()?.network();
            let Some(found) = self.routes.get(&IpNetwork::new(network, length).ok()?) else { continue };
            if found.gateways.is_empty() {
                return None;
            }
            let gateways = found.gateways.iter().map(|path| Gateway {
                address: path.gateway.unwrap_or(next_hop),
                interface: path.interface.clone(),
                onlink: path.onlink,
            });
            let on_link = found.gateways.iter().all(|path| path.gateway.is_none());
            return Some(Resolution { gateways: gateways.collect(), on_link, length });
        }
        None
    }
}

/// Of IPv6: it means nothing without an interface, and every interface has one, of workloads too.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn addresses<'a>(links: impl Iterator<Item = &'a Link>) -> impl Iterator<Item = &'a IpNetwork> {
    links.flat_map(|link| &link.addresses).filter(|address| !is_link_local(address.ip()))
}

/// The network an address lies in, when there can be others in it.
fn subnet(address: &IpNetwork) -> Option<IpNetwork> {
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let network = IpNetwork::new(address.network(), address.prefix()).ok()?;
    (address.prefix() < whole && !address.ip().is_loopback()).then_some(network)
}
