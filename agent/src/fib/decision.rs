//! What becomes of one learned route.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_bgp::table::LearnedRoute;
use tortie_model::resource::EncapMode;

use super::{Foreign, Reason, Resolution, Surroundings, Ways};
use crate::dataplane::owner::IPIP_DEVICE;
use crate::desired::{Gateway, PoolEncap, RouteTarget};

/// Decides by given surroundings.
pub(super) struct Decisions<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) ways: &'a mut Ways,
}

impl Decisions<'_> {
    /// `None` when it gives way to a route of this node.
    pub(super) fn decide(
        &mut self,
        prefix: IpNetwork,
        route: &LearnedRoute,
    ) -> Option<Result<RouteTarget, Reason>> {
        let resolver = self.ways.resolver();
        if self.surroundings.local.contains(&prefix) || resolver.is_own(&prefix) {
            return None;
        }
        match resolver.foreign(&prefix) {
            Some(Foreign::Connected) => None,
            Some(Foreign::Other(protocol)) => Some(Err(Reason::Foreign(protocol))),
            None => Some(self.target(prefix, route)),
        }
    }

    fn target(&mut self, prefix: IpNetwork, route: &LearnedRoute) -> Result<RouteTarget, Reason> {
        if is_martian(&prefix) {
            return Err(Reason::Martian);
        }
        let context = &self.surroundings.context;
        if let Some(range) = self.surroundings.never_program.iter().find(|range| contains(range, &prefix)) {
            return Err(Reason::Service(*range));
        }
        let pool = context.pools.iter().find(|pool| contains(&pool.cidr, &prefix));
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
        if self.ways.resolver().is_own_address(next_hop) {
            return Err(Reason::OwnNextHop(next_hop));
        }
        if let Some(interface) = self.surroundings.workload_peers.get(&next_hop) {
            // Its own route may come later, or be looked for before the interface is up.
            return Ok(vec![Gateway { address: next_hop, interface: interface.clone(), onlink: true }]);
        }
        if let Some(pool) = pool.filter(|pool| pool.vxlan != EncapMode::Never) {
            return Err(Reason::Vxlan(pool.cidr));
        }
        let neighbour = self.surroundings.context.node_addresses.iter().any(|own| own.contains(next_hop));
        let over_tunnel = pool.filter(|pool| {
            prefix.is_ipv4()
                && match pool.ipip {
                    EncapMode::Always => true,
                    EncapMode::CrossSubnet => !neighbour,
                    EncapMode::Never => false,
                }
        });
        if let Some(pool) = over_tunnel.filter(|_| !self.surroundings.tunnel) {
            return Err(Reason::NoTunnel(pool.cidr));
        }
        let Some(way) = self.ways.to(next_hop) else { return Err(Reason::Unreachable(next_hop)) };
        if over_tunnel.is_some() {
            self.check_tunnel(prefix, next_hop, &way)?;
            return Ok(vec![Gateway { address: next_hop, interface: IPIP_DEVICE.into(), onlink: true }]);
        }
        // A next hop of the own subnet is never sought elsewhere: with its interface down the default route would take the
        // traffic the wrong way.
        if !way.on_link && (neighbour || self.ways.resolver().is_lost_neighbour(next_hop, way.length)) {
            return Err(Reason::NotOnLink(next_hop));
        }
        Ok(way.gateways)
    }

    /// Outer packets, and whatever else is sent to a node itself, take the longest match: that must not be the route
    /// being made.
    fn check_tunnel(&mut self, prefix: IpNetwork, next_hop: IpAddr, way: &Resolution) -> Result<(), Reason> {
        if prefix.contains(next_hop) && prefix.prefix() > way.length {
            return Err(Reason::Loop(next_hop));
        }
        let nodes = &self.surroundings.context.nodes_in_pools;
        let inside = nodes.range(prefix.network()..).take_while(|node| prefix.contains(**node));
        for node in inside {
            if self.ways.to(*node).is_none_or(|way| prefix.prefix() > way.length) {
                return Err(Reason::HoldsNode(*node));
            }
        }
        Ok(())
    }
}

/// Whether `inner` is `outer` or lies in it.
pub(super) fn contains(outer: &IpNetwork, inner: &IpNetwork) -> bool {
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
