//! Why a learned route is not programmed.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Why a learned route is not programmed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// Somebody else's route for the same prefix is in the kernel.
    #[error("a route for the same prefix is in the kernel and not ours (protocol {0}); it stays")]
    Foreign(u8),
    /// Loopback, multicast or link-local.
    #[error("not a prefix to be routed: loopback, multicast or link-local")]
    Martian,
    /// Inside a range of services, which every node answers for itself.
    #[error("in the service range {0}, which is not routed between nodes")]
    Service(IpNetwork),
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
    /// What is sent to a node itself would be sent into the tunnel.
    #[error(
        "the node address {0} is inside the prefix, and would be reached through the tunnel: the pool must not hold it"
    )]
    HoldsNode(IpAddr),
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
        matches!(
            self,
            Reason::NoTunnel(_)
                | Reason::Vxlan(_)
                | Reason::Loop(_)
                | Reason::HoldsNode(_)
                | Reason::Martian
                | Reason::Service(_)
        )
    }

    /// This is how it should be: nobody needs to be told.
    pub fn is_normal(&self) -> bool {
        matches!(self, Reason::Service(_))
    }
}
