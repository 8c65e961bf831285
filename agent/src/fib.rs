//! From routes learned by BGP to routes of the kernel; pure.
//!
//! First decision wins for a prefix (bgp-behaviour 7):
//!
//! 1. a local route of the same prefix: a workload, a blackhole of an own block, a connected network → the local one stays;
//! 2. inside a service range → not programmed, as it should be;
//! 3. announced by a workload of this node → to that workload, whatever the pool;
//! 4. in a pool with VXLAN → not programmed, reported;
//! 5. in a pool with IPIP `Always`, or with `CrossSubnet` and the next hop outside the node's own subnets → over `tunl0`,
//!    gateway = the BGP next hop, onlink; never plain instead when there is no `tunl0`;
//! 6. everything else → plain, the next hop resolved over the kernel's own routes.
//!
//! Several next hops become one multipath route. What cannot be resolved is left out and named.
//!
//! The cost of a change is that of the prefixes it concerns; all are decided again only when the node's own routes, its
//! tunnel, its pools or its addresses change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tortie_bgp::table::LearnedRoute;

use crate::desired::{LearnedChanges, RouteContext, RouteTarget};

mod decision;
mod reason;
mod resolver;
mod ways;

use decision::Decisions;
pub use reason::Reason;
pub use resolver::{Foreign, Resolution, Resolver};
use ways::Ways;

/// How long the way to a neighbour is kept after the kernel has lost it. Longer than a link that flaps or an address that is
/// being renewed, shorter than a BGP session lives without an answer.
pub const HOLD: Duration = Duration::from_secs(30);

/// What decisions are made by, besides the kernel's own routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Own addresses, pools and ranges.
    pub context: RouteContext,
    /// Prefixes this node routes itself.
    pub local: BTreeSet<IpNetwork>,
    /// Ranges of services: what lies inside is never programmed.
    pub never_program: BTreeSet<IpNetwork>,
    /// Workloads of this node that announce routes, by address, and their interfaces.
    pub workload_peers: BTreeMap<IpAddr, String>,
    /// Peers and the gateways they are behind.
    pub reachable_by: BTreeMap<IpAddr, IpAddr>,
    /// `tunl0` is up and carries what is sent to it.
    pub tunnel: bool,
}

/// Learned routes, and what they come to.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    learned: BTreeMap<IpNetwork, LearnedRoute>,
    converged: bool,
    surroundings: Surroundings,
    ways: Ways,
    routes: BTreeMap<IpNetwork, RouteTarget>,
    left_out: BTreeMap<IpNetwork, Reason>,
    by_reason: BTreeMap<Reason, BTreeSet<IpNetwork>>,
    undecided: BTreeSet<IpNetwork>,
    all_undecided: bool,
}

impl Fib {
    /// Takes in what was learned.
    pub fn learn(&mut self, changes: LearnedChanges) {
        self.converged |= changes.converged;
        for (prefix, route) in changes.routes {
            let Ok(prefix) = IpNetwork::new(prefix.network(), prefix.prefix()) else { continue };
            let changed = match route {
                Some(route) if self.learned.get(&prefix) == Some(&route) => false,
                Some(route) => self.learned.insert(prefix, route).is_none_or(|_| true),
                None => self.learned.remove(&prefix).is_some(),
            };
            if changed {
                self.undecided.insert(prefix);
            }
        }
    }

    /// The kernel's own routes, read at `now`. The ways they no longer show to neighbours are held for [`HOLD`].
    pub fn set_resolver(&mut self, resolver: Resolver, now: Instant) {
        self.all_undecided |= self.ways.set_resolver(resolver, now);
    }

    /// What decisions are made by.
    pub fn set_surroundings(&mut self, surroundings: Surroundings) {
        let before = std::mem::replace(&mut self.surroundings, surroundings);
        let now = &self.surroundings;
        self.all_undecided |= before.context != now.context
            || before.tunnel != now.tunnel
            || before.never_program != now.never_program
            || before.workload_peers != now.workload_peers;
        if before.reachable_by != now.reachable_by {
            self.ways.set_reachable_by(now.reachable_by.clone());
            self.all_undecided = true;
        }
        self.undecided.extend(before.local.symmetric_difference(&now.local));
    }

    /// Decides what is undecided at `now`; answers with the prefixes for which something else came out than before.
    pub fn decide(&mut self, now: Instant) -> BTreeSet<IpNetwork> {
        self.all_undecided |= self.ways.release(now);
        let mut undecided = std::mem::take(&mut self.undecided);
        if std::mem::take(&mut self.all_undecided) {
            self.ways.forget();
            undecided.extend(self.learned.keys());
        }
        let mut changed = BTreeSet::new();
        let mut decisions = Decisions { surroundings: &self.surroundings, ways: &mut self.ways };
        let mut outcomes = Vec::with_capacity(undecided.len());
        for prefix in undecided {
            let route = self.learned.get(&prefix);
            outcomes.push((prefix, route.and_then(|route| decisions.decide(prefix, route))));
        }
        for (prefix, outcome) in outcomes {
            if self.record(prefix, outcome) {
                changed.insert(prefix);
            }
        }
        changed
    }

    /// Whether that is anything new.
    fn record(&mut self, prefix: IpNetwork, outcome: Option<Result<RouteTarget, Reason>>) -> bool {
        let (target, reason) = match outcome {
            None => (None, None),
            Some(Ok(target)) => (Some(target), None),
            Some(Err(reason)) => (None, Some(reason)),
        };
        if self.routes.get(&prefix) == target.as_ref() && self.left_out.get(&prefix) == reason.as_ref() {
            return false;
        }
        match target {
            Some(target) => self.routes.insert(prefix, target),
            None => self.routes.remove(&prefix),
        };
        if let Some(before) = self.left_out.remove(&prefix)
            && let Some(prefixes) = self.by_reason.get_mut(&before)
        {
            prefixes.remove(&prefix);
            if prefixes.is_empty() {
                self.by_reason.remove(&before);
            }
        }
        if let Some(reason) = reason {
            self.by_reason.entry(reason.clone()).or_default().insert(prefix);
            self.left_out.insert(prefix, reason);
        }
        true
    }

    /// When a way that is held ends: something is to be decided then without any other news.
    pub fn deadline(&self) -> Option<Instant> {
        self.ways.deadline()
    }

    /// Everything that was learned.
    pub fn learned(&self) -> &BTreeMap<IpNetwork, LearnedRoute> {
        &self.learned
    }

    /// Neighbours the kernel has lost the way to, and whose routes stay as they were.
    pub fn held(&self) -> impl Iterator<Item = IpAddr> {
        self.ways.held()
    }

    /// To be programmed, protocol 81.
    pub fn routes(&self) -> &BTreeMap<IpNetwork, RouteTarget> {
        &self.routes
    }

    /// Why a learned route is not programmed. Those that give way to a route of this node itself have no reason.
    pub fn reason(&self, prefix: &IpNetwork) -> Option<&Reason> {
        self.left_out.get(prefix)
    }

    /// What is not to be programmed, by cause.
    pub fn left_out(&self) -> &BTreeMap<Reason, BTreeSet<IpNetwork>> {
        &self.by_reason
    }

    /// Whether all of the table is known: see [`LearnedChanges::converged`].
    pub fn converged(&self) -> bool {
        self.converged
    }

    /// The kernel's own routes as they were read last.
    pub fn resolver(&self) -> &Resolver {
        self.ways.resolver()
    }

    /// Host routes to peers behind gateways; those whose gateway is no neighbour come with the gateway alone.
    pub fn peer_routes(&mut self) -> Vec<(IpNetwork, Result<RouteTarget, IpAddr>)> {
        let gateways = self.surroundings.reachable_by.iter();
        let route = |(peer, gateway): (&IpAddr, &IpAddr)| {
            let way = self.ways.to(*gateway).filter(|way| way.on_link && peer.is_ipv4() == gateway.is_ipv4());
            (IpNetwork::from(*peer), way.map(|way| RouteTarget::Gateways(way.gateways)).ok_or(*gateway))
        };
        gateways.map(route).collect()
    }
}

#[cfg(test)]
mod tests;
