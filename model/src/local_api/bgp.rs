//! The routes of the agent's BGP speaker, and why each is what it is.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// A page of routes. Pages come in no order of prefixes; one may be empty and not the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpRoutes {
    /// The routes.
    pub routes: Vec<BgpRoute>,
    /// `from` of the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A BGP peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerName {
    /// Its name, such as `Mesh_10_0_0_2`.
    pub name: String,
    /// Its address, with its port when that is not 179.
    pub address: String,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpRoute {
    /// Its prefix.
    pub prefix: IpNetwork,
    /// Who announced it; absent when this node originates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<BgpPeerName>,
    /// Its identifier where several paths of a prefix are announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_id: Option<u32>,
    /// Its attributes.
    #[serde(flatten)]
    pub attributes: BgpAttributes,
    /// Kept although its peer is gone, or not confirmed yet by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// What became of it.
    pub standing: BgpStanding,
    /// Why, unless that goes without saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BgpStanding {
    /// This node originates it.
    Originated,
    /// The best of the learned ones.
    Best,
    /// Shares the load with the best.
    Multipath,
    /// Another one is better.
    NotBest,
    /// Accepted, but leads nowhere.
    Unusable,
    /// Import refused it.
    Rejected,
    /// Announced to the peer.
    Announced,
    /// To be announced as soon as the peer takes more.
    Pending,
    /// Not announced.
    Withheld,
}

/// Attributes of a route, in the words operators use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpAttributes {
    /// Absent for a route of the node's own, whose next hop is the node's end of each session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// `IGP`, `EGP` or `incomplete`.
    pub origin: String,
    /// Such as `64512 65000 {1,2}`.
    #[serde(default)]
    pub as_path: String,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub atomic_aggregate: bool,
    /// AGGREGATOR: AS number and identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<String>,
    /// Standard and large ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
    /// As hexadecimal digits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_communities: Vec<String>,
    /// ORIGINATOR_ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_list: Vec<Ipv4Addr>,
    /// ONLY_TO_CUSTOMER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_to_customer: Option<u32>,
}

/// Everything about one prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpExplanation {
    /// Name of the node.
    pub node: String,
    /// What was asked for.
    pub asked: IpNetwork,
    /// The longest prefix in the table that holds it; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<IpNetwork>,
    /// Attributes, when this node originates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub originated: Option<BgpAttributes>,
    /// Every path learned.
    #[serde(default)]
    pub paths: Vec<BgpPath>,
    /// What became of it in the kernel; absent where nothing was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<BgpKernel>,
    /// What each peer is told.
    #[serde(default)]
    pub peers: Vec<BgpTold>,
    /// Peers left out, because there would be too many.
    #[serde(default)]
    pub omitted: usize,
}

/// A learned path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPath {
    /// As received.
    pub received: BgpRoute,
    /// The import rule that decided, or why it is refused.
    pub import: String,
    /// Attributes after import, where that changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<BgpAttributes>,
}

/// What became of a learned route in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpKernel {
    /// A route of ours for it is in the kernel.
    pub programmed: bool,
    /// Where it leads: `10.0.0.2 dev eth0`, one a next hop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// Why it is not there, or not yet as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a peer is told of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpTold {
    /// The peer.
    pub peer: BgpPeerName,
    /// One for each route that comes into question.
    #[serde(default)]
    pub routes: Vec<BgpAnnouncement>,
    /// Why it is told nothing, when that does not depend on a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing: Option<String>,
}

/// What becomes of a route on its way to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpAnnouncement {
    /// Who announced it to this node; absent when the node originates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<BgpPeerName>,
    /// Its identifier, where the peer takes several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_id: Option<u32>,
    /// Announced, pending or withheld.
    pub standing: BgpStanding,
    /// The export rule that accepted it, or why it is withheld.
    pub reason: String,
    /// What the peer gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BgpAttributes>,
}
