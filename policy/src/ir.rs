//! The rule-set of one node as typed values: the content of the one table `inet tortie`.
//!
//! Structured so that two of them can be compared part by part and so that each part maps to one nf_tables object. It
//! says nothing about how the kernel is told. There are no anonymous sets: the kernel finds sets by a linear search,
//! and thousands of nameless ones take seconds to load (kernel-programming 0, 4).

mod limit;
mod names;
mod origin;
mod parts;

pub use limit::{Limit, Period};
pub use names::{Comment, InterfaceName};
pub use origin::{Element, Origin, Origins, Peers, Service};
pub use parts::{Reference, SetHead, SetKey, SetKind};

use std::net::IpAddr;

use imbl::{OrdMap, OrdSet};
use ipnetwork::IpNetwork;

/// Name of our table, in family `inet`.
pub const TABLE: &str = "tortie";

/// Prefix of the names of workload interfaces; all of them are ours, known or not.
pub const WORKLOAD_PREFIX: &str = "cali";

/// The one bit of a packet's mark that is ours: policy of a host endpoint allowed the packet earlier on its way.
pub const MARK: u32 = 0x0001_0000;

/// The one bit of a flow's mark, which connection tracking keeps, that is ours: policy no longer allows the flow. It is not
/// [`MARK`], which others may save in the flow along with the packet's other bits.
pub const FLOW_MARK: u32 = 0x0002_0000;

/// The compiled rules of one node. References between parts are by name. A copy shares everything with the original, and two
/// are compared at the cost of what they do not share.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruleset {
    /// Named sets.
    pub sets: OrdMap<String, Set>,
    /// Maps from an interface name to a verdict.
    pub maps: OrdMap<String, VerdictMap>,
    /// Chains.
    pub chains: OrdMap<String, Chain>,
    /// Where the elements of merged sets come from.
    pub origins: Origins,
}

impl Default for Ruleset {
    /// Closed, not empty: the rules of a node that knows no workload, where every `cali*` interface drops.
    fn default() -> Ruleset {
        crate::compile(&crate::Snapshot::default()).ruleset
    }
}

impl Ruleset {
    /// No chain, no set, no map: what a table just made holds. Nothing is refused then; see [`Ruleset::default`].
    pub fn empty() -> Ruleset {
        Ruleset {
            sets: OrdMap::new(),
            maps: OrdMap::new(),
            chains: OrdMap::new(),
            origins: Origins::default(),
        }
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Length of an address.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// Protocol number of the family's ICMP.
    pub fn icmp(self) -> u8 {
        match self {
            Family::V4 => 1,
            Family::V6 => 58,
        }
    }
}

/// Direction of policy, seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the workload.
    Ingress,
    /// From the workload.
    Egress,
}

/// A named set.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// What it holds, for people.
    pub comment: Comment,
    /// Its type and members.
    pub elements: Elements,
    /// Whether packets and bytes are counted for each member.
    pub counter: bool,
    /// How many members it has room for, when that is said beforehand. The kernel makes such a hash as large as it needs to be at
    /// once; any other grows behind the members that come, which takes most of the time when they are many.
    pub size: Option<u32>,
}

impl Set {
    /// One that counts nothing and has room for any number of members.
    pub fn new(comment: Comment, elements: Elements) -> Set {
        Set { comment, elements, counter: false, size: None }
    }
}

/// Type and members of a set.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// A hash of single addresses, all of one family.
    Addresses(Family, OrdSet<IpAddr>),
    /// An interval set of prefixes of one family, masked, none inside another.
    Prefixes(Family, OrdSet<IpNetwork>),
    /// Inclusive ranges of ports that neither overlap nor touch; an interval set unless each is a single port.
    Ports(OrdSet<(u16, u16)>),
    /// A hash of address, protocol number, port.
    Services(Family, OrdSet<(IpAddr, u8, u16)>),
    /// A hash of protocol number, port.
    ProtocolPorts(OrdSet<(u8, u16)>),
}

/// A map from the name of an interface to a verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerdictMap {
    /// What it is for.
    pub comment: Comment,
    /// A verdict for each interface.
    pub elements: OrdMap<InterfaceName, Verdict>,
}

/// A chain. A base chain accepts what reaches its end; any other returns to its caller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// What it is for.
    pub comment: Comment,
    /// Where the kernel calls it, when it is a base chain.
    pub base: Option<Base>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// Where the kernel calls a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// `filter` or `nat`.
    pub kind: ChainKind,
    /// The hook.
    pub hook: Hook,
    /// Lower runs earlier.
    pub priority: i32,
}

/// Type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Accepts and drops.
    Filter,
    /// Sees the first packet of a connection only.
    Nat,
}

/// A hook of the kernel's packet path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// All received packets, before routing.
    Prerouting,
    /// Received for this node.
    Input,
    /// Received for somebody else.
    Forward,
    /// Sent by this node, before it is known for good where it leaves.
    Output,
    /// All packets that leave, after routing.
    Postrouting,
}

/// A rule: when every match holds, do the action.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// All must hold, in this order.
    pub matches: Vec<Match>,
    /// Whether packets and bytes are counted.
    pub counter: bool,
    /// What to do.
    pub action: Action,
    /// Where it comes from: tier, policy, index.
    pub comment: Comment,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ends or redirects the evaluation.
    Verdict(Verdict),
    /// Drops the packet and tells its sender with an ICMP error (port unreachable), which ends an attempt to connect at
    /// once. The kernel takes it in no chain that is reached from [`Hook::Postrouting`].
    Reject,
    /// Writes the packet to the kernel's log, or to a group of nflog, with a prefix of at most 127 bytes and goes on.
    Log {
        /// Begins the line.
        prefix: String,
        /// The group; `None` for the log.
        group: Option<u16>,
        /// What comes more often is not written.
        limit: Option<Limit>,
    },
    /// Sets or clears [`MARK`] of the packet, leaves its other marks alone, and goes on.
    Mark(bool),
    /// Keeps the packet from connection tracking, and so from translation, and goes on.
    NoTrack,
    /// The verdict found for the interface's name in a map; goes on when there is none.
    Lookup(Interface, String),
    /// Source becomes the address of the interface the packet leaves by, with a port chosen at random: two flows picked
    /// in order at once would get the same port, and one packet would be lost.
    Masquerade,
}

/// A verdict. Accepting ends this base chain only: other tables at the same hook still see the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ends this base chain; the packet goes on.
    Accept,
    /// The packet is gone.
    Drop,
    /// Continue after the rule that jumped; from a base chain the same as accept.
    Return,
    /// Run a chain, then continue here.
    Jump(String),
    /// Run a chain and return to where this one would have.
    Goto(String),
}

/// Whether a match wants the field to be so, or not to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Equal or member.
    Is,
    /// Not equal or no member.
    IsNot,
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Which interface of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interface {
    /// It was received on.
    Input,
    /// It will leave by.
    Output,
}

/// A condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// The packet is of this family.
    Family(Family),
    /// The interface's name begins with [`WORKLOAD_PREFIX`].
    WorkloadInterface(Interface),
    /// Connection tracking knows the flow, or relates the packet to one it knows.
    Established,
    /// Connection tracking knows the flow, and it has [`FLOW_MARK`].
    Refused,
    /// Connection tracking can make no sense of the packet.
    Invalid,
    /// Protocol number of the payload, extension headers skipped.
    Protocol(Op, u8),
    /// Address of one end; never holds for the other family.
    Address(Side, Family, Op, AddressSet),
    /// Port of one end. Rules hold a [`Match::Protocol`] with TCP, UDP or SCTP before it.
    Port(Side, Op, PortSet),
    /// Address, protocol and port of one end in a set of [`Elements::Services`]; never holds for the other family, nor
    /// for a packet without ports.
    Service(Side, Family, Op, String),
    /// Address of one end, masked to this length, with the protocol and the destination's port, in a set of
    /// [`Elements::Services`]; never holds for the other family, nor for a packet without ports.
    Row(Side, Family, u8, String),
    /// Protocol and port of one end in a set of [`Elements::ProtocolPorts`]; never holds for a packet without ports.
    ProtocolPort(Side, Op, String),
    /// The packet is ICMP of this family and a byte of its header is within the inclusive range, or outside.
    Icmp(Family, IcmpField, Op, u8, u8),
    /// The route back to the source does not leave by the interface the packet came in on.
    NoReverseRoute,
    /// The destination is an address of this node.
    LocalDestination,
    /// The source is an address of this node.
    LocalSource,
    /// The packet has [`MARK`], or has it not.
    Mark(Op),
    /// The destination was translated.
    Translated,
}

/// Addresses to compare with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressSet {
    /// One prefix.
    Prefix(IpNetwork),
    /// A named set of [`Elements::Addresses`] or [`Elements::Prefixes`].
    Named(String),
    /// A named set of [`Elements::Addresses`] that holds networks of this prefix length: the address is masked before it
    /// is looked up. Unlike an interval set, such a set costs the same to change at any size (kernel-programming 1).
    Masked(u8, String),
}

/// Ports to compare with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortSet {
    /// An inclusive range.
    Range(u16, u16),
    /// A named set of [`Elements::Ports`].
    Named(String),
}

/// A byte of an ICMP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IcmpField {
    /// Type.
    Type,
    /// Code.
    Code,
}
