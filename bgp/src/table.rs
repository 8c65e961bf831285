//! What goes in and out of the speaker's table: originated routes in, best learned routes out.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// A route this speaker originates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginatedRoute {
    /// Preference on internal sessions. Calico: 2147483647 − metric (bgp-behaviour 4.1).
    pub local_pref: u32,
}

/// The best route of a prefix changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// The prefix.
    pub prefix: IpNetwork,
    /// The new best route with its equals; `None` when there is none left.
    pub route: Option<LearnedRoute>,
}

/// A best route learned from peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearnedRoute {
    /// BGP next hops of the best path and of all paths equal to it up to IGP metric and path length; sorted, distinct.
    pub next_hops: Vec<IpAddr>,
    /// Learned from an internal peer.
    pub internal: bool,
    /// LOCAL_PREF, 100 when absent.
    pub local_pref: u32,
}
