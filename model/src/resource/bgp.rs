//! BGPConfiguration (calico-datamodel 2.10) and BGPPeer (2.11).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{SecretSource, Spec};
use crate::Kind;
use crate::scalar::AsNumber;

/// BGP settings of the cluster (`default`) or of one node (`node.<name>`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpConfigurationSpec {
    /// Log level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Sessions between all nodes; absent means yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// AS number of nodes without their own; absent means 64512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Load-balancer ranges to announce.
    #[serde(rename = "serviceLoadBalancerIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_load_balancer_ips: Vec<ServiceBlock>,
    /// External ranges to announce.
    #[serde(rename = "serviceExternalIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_external_ips: Vec<ServiceBlock>,
    /// Cluster ranges to announce.
    #[serde(rename = "serviceClusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_cluster_ips: Vec<ServiceBlock>,
    /// `Enabled` (default) or `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<String>,
    /// Names of communities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// Communities added to prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// TCP port; absent means 179.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// TCP-MD5 key of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<SecretSource>,
    /// Graceful-restart time of the mesh; absent means 120 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<String>,
    /// `None` (default): listen on all addresses; `NodeIP`: on the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<String>,
    /// Interfaces whose connected prefixes are ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<String>,
    /// Host-side address for workloads that speak BGP.
    #[serde(rename = "localWorkloadPeeringIPV4", skip_serializing_if = "Option::is_none")]
    pub local_workload_peering_ipv4: Option<String>,
    /// Host-side IPv6 address for workloads that speak BGP.
    #[serde(rename = "localWorkloadPeeringIPV6", skip_serializing_if = "Option::is_none")]
    pub local_workload_peering_ipv6: Option<String>,
    /// Who programs cluster routes upstream; kept as read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<String>,
    /// Metric of IPv4 routes in the kernel.
    #[serde(rename = "ipv4NormalRoutePriority", skip_serializing_if = "Option::is_none")]
    pub ipv4_normal_route_priority: Option<u32>,
    /// Metric of IPv6 routes in the kernel.
    #[serde(rename = "ipv6NormalRoutePriority", skip_serializing_if = "Option::is_none")]
    pub ipv6_normal_route_priority: Option<u32>,
}

/// A range of service addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBlock {
    /// The range.
    pub cidr: IpNetwork,
}

/// A community by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Community {
    /// Name.
    pub name: String,
    /// `aa:nn` or `aa:nn:mm`.
    pub value: String,
}

/// Communities for the routes inside a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixAdvertisement {
    /// The prefix.
    pub cidr: IpNetwork,
    /// Names or values.
    #[serde(default)]
    pub communities: Vec<String>,
}

impl Spec for BgpConfigurationSpec {
    const KIND: Kind = Kind::BgpConfiguration;
    type Status = serde_json::Value;
}

/// A BGPConfiguration.
pub type BgpConfiguration = super::Object<BgpConfigurationSpec>;

/// Next-hop rule of a peering (bgp-behaviour 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NextHopMode {
    /// Own address to external peers, unchanged to internal ones.
    #[default]
    Auto,
    /// Always the own address.
    #[serde(rename = "Self")]
    SelfAddress,
    /// Never changed for learned routes.
    Keep,
}

/// A BGP peering of one node, of selected nodes, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// The node that peers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The nodes that peer; neither this nor `node` means all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_selector: String,
    /// The other end: address, `v4:port` or `[v6]:port`.
    #[serde(rename = "peerIP", skip_serializing_if = "String::is_empty")]
    pub peer_ip: String,
    /// AS number of the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Own AS number for this session.
    #[serde(rename = "localASNumber", skip_serializing_if = "Option::is_none")]
    pub local_as_number: Option<AsNumber>,
    /// The other ends: nodes with these labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_selector: String,
    /// Deprecated form of `nextHopMode: Keep`, external peers only.
    #[serde(skip_serializing_if = "super::is_false")]
    pub keep_original_next_hop: bool,
    /// Next-hop rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// TCP-MD5 key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// `UseNodeIP` (default) or `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<String>,
    /// Graceful-restart time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<String>,
    /// Keepalive interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,
    /// How often the own AS number may stand in a path.
    #[serde(rename = "numAllowedLocalASNumbers", skip_serializing_if = "Option::is_none")]
    pub num_allowed_local_as_numbers: Option<u32>,
    /// GTSM: the peer is at most this many hops away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// Gateway through which the peer is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable_by: Option<IpAddr>,
    /// BGPFilters in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// Local workloads to peer with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_workload_selector: String,
    /// `Auto` (default) or `Manual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<String>,
}

impl Spec for BgpPeerSpec {
    const KIND: Kind = Kind::BgpPeer;
    type Status = serde_json::Value;
}

/// A BGPPeer.
pub type BgpPeer = super::Object<BgpPeerSpec>;
