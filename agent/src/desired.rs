//! The plain values calc hands out: what the kernel of this node should hold, and what the speaker should do.
//!
//! Levels, not edges: each value is the whole of what is wanted. Intermediate values may be skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_bgp::SpeakerConfig;
use tortie_bgp::table::{LearnedRoute, OriginatedRoute};

/// What the kernel should hold. Only what is named in `dataplane/owner.rs` is ever touched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Host interfaces of local workloads, by name.
    pub interfaces: BTreeMap<String, WorkloadInterface>,
    /// Routes other than those of workloads: blackholes of own blocks and of announced service ranges. Protocol 80.
    pub routes: BTreeMap<IpNetwork, RouteTarget>,
    /// Gateways to BGP peers that no other route leads to: a host route each.
    pub reachable_by: BTreeMap<IpAddr, IpAddr>,
    /// Learned routes equal to one of these ranges or inside it stay out of the kernel: services are there.
    pub never_program: BTreeSet<IpNetwork>,
    /// Addresses of this node on the interfaces of workloads that speak BGP with it.
    pub peering_addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Workloads of this node that speak BGP with it, by address, and their interfaces: next hops that need no route.
    pub workload_peers: BTreeMap<IpAddr, String>,
    /// Rules.
    pub ruleset: Arc<tortie_policy::Ruleset>,
    /// The IPIP device, when some pool uses it.
    pub ipip: Option<IpipDevice>,
    /// How learned routes become kernel routes.
    pub route_context: RouteContext,
}

/// The host side of a workload's veth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadInterface {
    /// Addresses behind it: a /32 or /128 route of scope link each.
    pub addresses: BTreeSet<IpAddr>,
    /// MAC of the workload's side, for a permanent neighbour per IPv4 address.
    pub mac: Option<[u8; 6]>,
}

/// `tunl0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpipDevice {
    /// Its address; absent until IPAM gave one.
    pub address: Option<Ipv4Addr>,
    /// Its MTU.
    pub mtu: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTarget {
    /// Nowhere.
    Blackhole,
    /// Straight to an interface, scope link.
    Device(String),
    /// To one gateway or, equal-cost, to several.
    Gateways(Vec<Gateway>),
}

/// A gateway on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// Its address.
    pub address: IpAddr,
    /// The interface.
    pub interface: String,
    /// Reach it through the interface although no route says so (tunnels).
    pub onlink: bool,
}

/// What decides how a learned route becomes a kernel route (bgp-behaviour 7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteContext {
    /// Node addresses with their subnets.
    pub node_addresses: Vec<IpNetwork>,
    /// Pools and their encapsulation.
    pub pools: Vec<PoolEncap>,
    /// Addresses of other nodes that lie in some pool, as they should not: no tunnel may swallow them.
    pub nodes_in_pools: BTreeSet<IpAddr>,
}

/// Encapsulation of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolEncap {
    /// The pool.
    pub cidr: IpNetwork,
    /// IPIP.
    pub ipip: tortie_model::resource::EncapMode,
    /// VXLAN.
    pub vxlan: tortie_model::resource::EncapMode,
}

/// What the speaker should do.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpDesired {
    /// Itself and its peers; `None` while this node has no address.
    pub config: Option<Arc<SpeakerConfig>>,
    /// Routes to originate once the kernel carries them.
    pub originated: BTreeMap<IpNetwork, OriginatedRoute>,
}

/// What the kernel holds by now, as far as we put it there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// At least one complete, clean apply has happened.
    pub ready: bool,
    /// Rules of ours are in the kernel: what they do not know, they drop.
    pub guarded: bool,
    /// Workload interfaces that are wired completely: sysctls, routes, neighbours and policy.
    pub interfaces: BTreeMap<String, Wired>,
    /// Prefixes in the kernel with protocol 80.
    pub routes: BTreeSet<IpNetwork>,
    /// What failed, by object, in words.
    pub failures: BTreeMap<String, String>,
}

/// A workload interface that is wired, and as what: one of the same name may come after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wired {
    /// Its index.
    pub index: u32,
    /// The addresses that lead to it, from the same calculation as the policy in place.
    pub addresses: BTreeSet<IpAddr>,
}

/// What changed in the speaker's best learned routes since the last look; the newest for each prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LearnedChanges {
    /// By prefix; `None` when there is no route any more.
    pub routes: BTreeMap<IpNetwork, Option<LearnedRoute>>,
    /// Every peer that was expected back after a restart has sent its table, or time is up. Until then learned routes
    /// found in the kernel stay, whatever was learned. Once true, it stays so.
    pub converged: bool,
}

impl LearnedChanges {
    /// Nothing new.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && !self.converged
    }

    /// Adds what came later.
    pub fn merge(&mut self, later: LearnedChanges) {
        self.routes.extend(later.routes);
        self.converged |= later.converged;
    }
}
