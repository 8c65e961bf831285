//! From routes learned by BGP to routes of the kernel; pure.
//!
//! First decision wins for a prefix (bgp-behaviour 7):
//!
//! 1. a local route of the same prefix: a workload, a blackhole of an own block, a connected network → the local one stays;
//! 2. in a pool with VXLAN → not programmed, reported;
//! 3. in a pool with IPIP `Always`, or with `CrossSubnet` and the next hop outside the node's own subnets → over `tunl0`,
//!    gateway = the BGP next hop, onlink; never plain instead when there is no `tunl0`;
//! 4. everything else → plain, the next hop resolved over the kernel's own routes.
//!
//! Several next hops become one multipath route. What cannot be resolved is left out and named.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_bgp::table::LearnedRoute;
use tortie_model::resource::EncapMode;

use crate::dataplane::owner::IPIP_DEVICE;
use crate::desired::{Gateway, Learned, PoolEncap, RouteContext, RouteTarget};

mod resolver;

pub use resolver::{Foreign, Resolution, Resolver};

/// What learned routes come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fib {
    /// To be programmed, protocol 81.
    pub routes: BTreeMap<IpNetwork, RouteTarget>,
    /// Not to be programmed, and why. Those that give way to a route of this node itself are not listed.
    pub left_out: BTreeMap<IpNetwork, Reason>,
}

/// Why a learned route is not programmed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// Somebody else's route for the same prefix is in the kernel.
    #[error("a route for the same prefix is in the kernel and not ours (protocol {0}); it stays")]
    Foreign(u8),
    /// Loopback, multicast or link-local.
    #[error("not a prefix to be routed: loopback, multicast or link-local")]
    Martian,
    /// The next hop is this node.
    #[error("the next hop {0} is this node itself")]
    OwnNextHop(IpAddr),
    /// The next hop is of the other address family.
    #[error("the next hop {0} is of the other address family")]
    OtherFamily(IpAddr),
    /// Nothing leads to the next hop.
    #[error("no route of this node leads to the next hop {0}")]
    Unreachable(IpAddr),
    /// The next hop should be a neighbour and is none: its interface is down, or the node's prefix length is wrong.
    #[error(
        "the next hop {0} is in this node's subnet but on none of its interfaces: is the interface up, and the prefix \
         length of the node's address right?"
    )]
    NotOnLink(IpAddr),
    /// The tunnel's own packets would be sent into the tunnel.
    #[error("the next hop {0} is inside the prefix, its tunnel packets would loop")]
    Loop(IpAddr),
    /// The pool uses VXLAN.
    #[error("VXLAN of pool {0} is not supported")]
    Vxlan(IpNetwork),
    /// The pool uses IPIP, and there is no device for it.
    #[error("the IPIP device of pool {0} is not there")]
    NoTunnel(IpNetwork),
}

impl Reason {
    /// The route must not be in the kernel in any form, not even as a leftover of an earlier run.
    pub fn forbids(&self) -> bool {
        matches!(self, Reason::NoTunnel(_) | Reason::Vxlan(_) | Reason::Loop(_) | Reason::Martian)
    }
}

/// What the kernel should hold for `learned`. `local` are prefixes this node routes itself, `tunnel` says that `tunl0` is
/// up and carries what is sent to it.
pub fn fib(
    learned: &Learned,
    context: &RouteContext,
    resolver: &Resolver,
    local: &BTreeSet<IpNetwork>,
    tunnel: bool,
) -> Fib {
    let mut decisions = Decisions { context, resolver, tunnel, resolved: BTreeMap::new() };
    let mut fib = Fib::default();
    for (prefix, route) in &learned.routes {
        let Ok(prefix) = IpNetwork::new(prefix.network(), prefix.prefix()) else { continue };
        if local.contains(&prefix) || resolver.is_own(&prefix) {
            continue;
        }
        match resolver.foreign(&prefix) {
            Some(Foreign::Connected) => continue,
            Some(Foreign::Other(protocol)) => {
                fib.left_out.insert(prefix, Reason::Foreign(protocol));
                continue;
            }
            None => {}
        }
        match decisions.target(prefix, route) {
            Ok(target) => fib.routes.insert(prefix, target).map_or((), drop),
            Err(reason) => fib.left_out.insert(prefix, reason).map_or((), drop),
        }
    }
    fib
}

struct Decisions<'a> {
    context: &'a RouteContext,
    resolver: &'a Resolver,
    tunnel: bool,
    /// Next hops are few, prefixes many.
    resolved: BTreeMap<IpAddr, Option<Resolution>>,
}

impl Decisions<'_> {
    fn target(&mut self, prefix: IpNetwork, route: &LearnedRoute) -> Result<RouteTarget, Reason> {
        if is_martian(&prefix) {
            return Err(Reason::Martian);
        }
        let pool = self.context.pools.iter().find(|pool| contains(&pool.cidr, &prefix));
        if let Some(pool) = pool.filter(|pool| pool.vxlan != EncapMode::Never) {
            return Err(Reason::Vxlan(pool.cidr));
        }
        let (mut gateways, mut reason) = (BTreeSet::new(), None);
        for next_hop in &route.next_hops {
            match self.next_hop(prefix, pool, *next_hop) {
                Ok(found) => gateways.extend(found),
                Err(cause) => reason = reason.or(Some(cause)),
            }
        }
        match reason {
            Some(reason) if gateways.is_empty() => Err(reason),
            None if gateways.is_empty() => Err(Reason::Unreachable(prefix.network())),
            _ => Ok(RouteTarget::Gateways(gateways.into_iter().collect())),
        }
    }

    fn next_hop(
        &mut self,
        prefix: IpNetwork,
        pool: Option<&PoolEncap>,
        next_hop: IpAddr,
    ) -> Result<Vec<Gateway>, Reason> {
        if next_hop.is_ipv4() != prefix.is_ipv4() {
            return Err(Reason::OtherFamily(next_hop));
        }
        if self.resolver.is_own_address(next_hop) {
            return Err(Reason::OwnNextHop(next_hop));
        }
        let neighbour = self.context.node_addresses.iter().any(|own| own.contains(next_hop));
        let over_tunnel = pool.filter(|pool| {
            prefix.is_ipv4()
                && match pool.ipip {
                    EncapMode::Always => true,
                    EncapMode::CrossSubnet => !neighbour,
                    EncapMode::Never => false,
                }
        });
        if let Some(pool) = over_tunnel.filter(|_| !self.tunnel) {
            return Err(Reason::NoTunnel(pool.cidr));
        }
        let resolver = self.resolver;
        let resolution = self.resolved.entry(next_hop).or_insert_with(|| resolver.resolve(next_hop));
        let Some(resolution) = resolution else { return Err(Reason::Unreachable(next_hop)) };
        if over_tunnel.is_some() {
            // The outer packet takes the longest match, and that must not be the route being made.
            if prefix.contains(next_hop) && prefix.prefix() > resolution.length {
                return Err(Reason::Loop(next_hop));
            }
            return Ok(vec![Gateway { address: next_hop, interface: IPIP_DEVICE.into(), onlink: true }]);
        }
        // A next hop of the own subnet is never sought elsewhere: with its interface down the default route would take the
        // traffic the wrong way.
        if neighbour && !resolution.on_link {
            return Err(Reason::NotOnLink(next_hop));
        }
        Ok(resolution.gateways.clone())
    }
}

/// Whether `inner` is `outer` or lies in it.
fn contains(outer: &IpNetwork, inner: &IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

fn is_martian(prefix: &IpNetwork) -> bool {
    match prefix {
        IpNetwork::V4(net) => {
            let ip = net.network();
            ip.is_loopback() || ip.is_multicast() || (ip.is_link_local() && net.prefix() >= 16)
        }
        IpNetwork::V6(net) => {
            let ip = net.network();
            ip.is_loopback() || ip.is_multicast() || (ip.is_unicast_link_local() && net.prefix() >= 10)
        }
    }
}

#[cfg(test)]
mod tests;
