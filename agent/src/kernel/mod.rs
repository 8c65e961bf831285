//! The kernel as the data plane sees it: one small trait per kind of object, in types of our own, and what implements
//! them: [`Linux`] and, for tests, a kernel made of maps that fails and drifts on demand.
//!
//! Nothing here decides: what is ours, what is wanted and in which order it is written is the data plane's affair
//! (`dataplane/`). Only the files below this one talk netlink.
//!
//! All calls block for as long as the kernel takes, microseconds as a rule: it works inside `send`. Callers in async
//! code run them on a blocking thread.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use tortie_policy::Ruleset;
use tortie_policy::change::Change;

mod conntrack;
mod counters;
mod error;
mod flows;
mod linux;
pub mod monitor;
mod netlink;
mod rules;
mod socket;
mod sysctl;

#[cfg(test)]
pub(crate) mod fake;

pub use counters::read_counters;
pub use error::{KernelError, chain};
pub use flows::{FlowTable, TrackedFlow};
pub use linux::{Linux, interfaces, mtu_of};
pub use rules::Ownership;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index; changes when an interface of the same name is created anew.
    pub index: u32,
    /// Administratively up. Routes can be added to it only then.
    pub up: bool,
    /// Up, but with nobody at the other end. Routes stay, nexthop objects do not.
    pub no_carrier: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Ethernet address, when it has one.
    pub mac: Option<[u8; 6]>,
    /// What kind of virtual device it is in the kernel's words, such as `veth` or `ipip`; empty for hardware.
    pub kind: String,
    /// Addresses with their prefix lengths, host bits kept.
    pub addresses: BTreeSet<IpNetwork>,
}

/// A change to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// Create an IPIP device that takes packets from any sender. That it exists already is success.
    CreateIpip {
        /// Its name.
        name: String,
    },
    /// Set the MTU.
    Mtu {
        /// Interface index.
        index: u32,
        /// In bytes.
        mtu: u32,
    },
    /// Set it administratively up.
    Up {
        /// Interface index.
        index: u32,
    },
    /// Give it an address. That it has it already is success.
    AddAddress {
        /// Interface index.
        index: u32,
        /// With prefix length.
        address: IpNetwork,
    },
    /// Take an address away. That it is gone already is success.
    RemoveAddress {
        /// Interface index.
        index: u32,
        /// With prefix length.
        address: IpNetwork,
    },
}

/// Interfaces and their addresses.
pub trait Links {
    /// All of them by name.
    fn links(&mut self) -> Result<BTreeMap<String, Link>, KernelError>;
    /// Changes one.
    fn change_link(&mut self, change: &LinkChange) -> Result<(), KernelError>;
}

/// What tells two routes of the main table apart. Routes with a TOS are not seen by us at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// Destination, host bits zero.
    pub prefix: IpNetwork,
    /// Priority, lower wins. IPv6 has no 0: the kernel makes it 1024.
    pub metric: u32,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who put it there (`/etc/iproute2/rt_protos`).
    pub protocol: u8,
    /// What it does.
    pub kind: RouteKind,
    /// IPv4: scope link (or host), that is, without a gateway. Always false for IPv6, which has no scopes.
    pub link_scope: bool,
    /// Where to, sorted; empty unless unicast. Ignored when written together with a group.
    pub hops: Vec<Hop>,
    /// The nexthop object that says where to.
    pub group: Option<u32>,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Forwards it.
    Unicast,
    /// Drops it in silence.
    Blackhole,
    /// Anything else: unreachable, prohibit, throw, …; never ours.
    Other,
}

/// One next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The gateway; none when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the interface.
    pub interface: u32,
    /// The gateway is taken to be on the link although no route says so.
    pub onlink: bool,
}

/// A change to the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// Fails when there is any route of the same prefix and metric, whoever owns it.
    Add(RouteKey, Route),
    /// Takes the place of a route of the same prefix and metric at once, with no moment without either.
    Replace(RouteKey, Route),
    /// Removes this route, of this protocol. That it is gone already is success.
    Remove(RouteKey, Route),
}

/// The main routing tables of both families.
pub trait Routes {
    /// All unicast and blackhole routes, whoever owns them, and the rest as [`RouteKind::Other`].
    fn routes(&mut self) -> Result<Vec<(RouteKey, Route)>, KernelError>;
    /// Makes changes in order; each stands alone, and the answers are in the same order.
    fn change_routes(&mut self, changes: &[RouteChange]) -> Vec<Result<(), KernelError>>;
}

/// What a nexthop object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nexthop {
    /// One next hop.
    Hop(Hop),
    /// Several objects, used alike; their numbers, ascending.
    Group(Vec<u32>),
    /// Anything else; never ours.
    Other,
}

/// A nexthop object of the kernel: routes name it by number instead of saying themselves where they lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NexthopObject {
    /// Who put it there, as of routes.
    pub protocol: u8,
    /// What it is.
    pub nexthop: Nexthop,
}

/// A change to the nexthop objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NexthopChange {
    /// Adds it, or takes the place of what has this number: at once for every route that uses it.
    Set(u32, NexthopObject),
    /// Removes it, and with it every route that uses it. That it is gone already is success.
    Remove(u32),
}

/// Nexthop objects, of Linux 5.3 and later.
pub trait Nexthops {
    /// All of them by number, whoever owns them; `None` when the kernel has none at all.
    fn nexthops(&mut self) -> Result<Option<BTreeMap<u32, NexthopObject>>, KernelError>;
    /// Makes changes in order; each stands alone, and the answers are in the same order.
    fn change_nexthops(&mut self, changes: &[NexthopChange]) -> Vec<Result<(), KernelError>>;
}

/// What tells neighbours apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourKey {
    /// Index of the interface.
    pub interface: u32,
    /// The neighbour's address.
    pub address: Ipv4Addr,
}

/// A change to the permanent IPv4 neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeighbourChange {
    /// Adds it or takes the place of what is known about the address.
    Set(NeighbourKey, [u8; 6]),
    /// Removes it. That it is gone already is success.
    Remove(NeighbourKey),
}

/// Permanent IPv4 neighbours (static ARP entries).
pub trait Neighbours {
    /// All permanent ones.
    fn neighbours(&mut self) -> Result<BTreeMap<NeighbourKey, [u8; 6]>, KernelError>;
    /// Makes changes in order; each stands alone, and the answers are in the same order.
    fn change_neighbours(&mut self, changes: &[NeighbourChange]) -> Vec<Result<(), KernelError>>;
}

/// Kernel settings below `/proc/sys`.
pub trait Sysctls {
    /// The value of `name` (a path such as `net/ipv4/ip_forward`) without surrounding blanks; `None` when the kernel has
    /// no such setting.
    fn read_sysctl(&mut self, name: &str) -> Result<Option<String>, KernelError>;
    /// Sets it.
    fn write_sysctl(&mut self, name: &str, value: &str) -> Result<(), KernelError>;
}

/// The rules in table `inet tortie`.
pub trait Rulesets {
    /// What the table holds, counters apart: what is equal to `expected` is equal, the rest different. `None` when there is
    /// no such table, or one that has to be made anew ([`Change::Reset`]).
    fn ruleset(&mut self, expected: &Ruleset) -> Result<Option<Ruleset>, KernelError>;
    /// Makes changes as one transaction: all of them or none. Packets meet the rules from before or those from after.
    fn change_ruleset(&mut self, changes: &[Change]) -> Result<(), KernelError>;
    /// Whether it is certain that nobody has touched the table since it was last read or changed here; cheap.
    fn ruleset_untouched(&mut self) -> Result<bool, KernelError>;
}

/// The connection-tracking table.
pub trait Conntrack {
    /// Forgets all connections from or to these addresses.
    fn forget_connections(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), KernelError>;
}

/// All of it.
pub trait Kernel:
    Links + Routes + Nexthops + Neighbours + Sysctls + Rulesets + Conntrack + Send + 'static
{
}

impl<T: Links + Routes + Nexthops + Neighbours + Sysctls + Rulesets + Conntrack + Send + 'static> Kernel
    for T
{
}
