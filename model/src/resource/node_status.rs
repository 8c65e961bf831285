//! CalicoNodeStatus (calico-datamodel 2.13): a request for a report on one node, and the report.

use serde::{Deserialize, Serialize};

use super::Spec;
use crate::Kind;

/// What is to be reported, of which node, how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    /// The node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Parts of the report.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<NodeStatusClass>,
    /// Seconds between reports; 0 for a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_period_seconds: Option<u32>,
}

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeStatusClass {
    /// The BGP daemons.
    Agent,
    /// The sessions.
    #[serde(rename = "BGP")]
    Bgp,
    /// The routes.
    Routes,
}

impl std::fmt::Display for NodeStatusClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            NodeStatusClass::Agent => "Agent",
            NodeStatusClass::Bgp => "BGP",
            NodeStatusClass::Routes => "Routes",
        })
    }
}

/// The report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatus {
    /// When it was made, RFC 3339.
    pub last_updated: Option<String>,
    /// The BGP daemons.
    pub agent: NodeAgentStatus,
    /// The sessions.
    pub bgp: NodeBgpStatus,
    /// The routes.
    pub routes: NodeRouteStatus,
}

/// The BGP daemon of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAgentStatus {
    /// Of IPv4.
    #[serde(rename = "birdV4")]
    pub bird_v4: BgpDaemonStatus,
    /// Of IPv6.
    #[serde(rename = "birdV6")]
    pub bird_v6: BgpDaemonStatus,
}

/// A BGP daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpDaemonStatus {
    /// `Ready` or `NotReady`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its router id.
    #[serde(rename = "routerID", skip_serializing_if = "String::is_empty")]
    pub router_id: String,
    /// When it started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_boot_time: String,
    /// When it last read its configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_reconfiguration_time: String,
}

/// Sessions of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeBgpStatus {
    /// IPv4 sessions that are up.
    pub number_established_v4: u32,
    /// IPv4 sessions that are not.
    pub number_not_established_v4: u32,
    /// IPv6 sessions that are up.
    pub number_established_v6: u32,
    /// IPv6 sessions that are not.
    pub number_not_established_v6: u32,
    /// IPv4 sessions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers_v4: Vec<NodePeerStatus>,
    /// IPv6 sessions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers_v6: Vec<NodePeerStatus>,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodePeerStatus {
    /// Address of the other end.
    #[serde(rename = "peerIP", skip_serializing_if = "String::is_empty")]
    pub peer_ip: String,
    /// `NodeMesh`, `NodePeer` or `GlobalPeer`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub peer_type: String,
    /// State of its FSM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Since when.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
}

/// Routes of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRouteStatus {
    /// IPv4 routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes_v4: Vec<NodeRoute>,
    /// IPv6 routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes_v6: Vec<NodeRoute>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRoute {
    /// `FIB` (in the kernel) or `RIB`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub route_type: String,
    /// Its prefix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// Its next hop.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Its interface.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Where it comes from.
    pub learned_from: NodeRouteSource,
}

/// Where a route comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRouteSource {
    /// `Kernel`, `Static`, `Direct`, `NodeMesh` or `BGPPeer`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_type: String,
    /// The peer, for the last two.
    #[serde(rename = "peerIP", skip_serializing_if = "String::is_empty")]
    pub peer_ip: String,
}

impl Spec for CalicoNodeStatusSpec {
    const KIND: Kind = Kind::CalicoNodeStatus;
    const WRITES_STATUS: bool = true;
    type Status = CalicoNodeStatusStatus;
}

/// A CalicoNodeStatus.
pub type CalicoNodeStatus = super::Object<CalicoNodeStatusSpec>;
