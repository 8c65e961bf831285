//! Node (calico-datamodel 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::Kind;
use crate::scalar::AsNumber;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// BGP settings; never an empty object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgp>,
    /// Address of `vxlan.calico`.
    #[serde(rename = "ipv4VXLANTunnelAddr", skip_serializing_if = "Option::is_none")]
    pub ipv4_vxlan_tunnel_addr: Option<Ipv4Addr>,
    /// MAC of `vxlan.calico`, when not derived from the name.
    #[serde(rename = "vxlanTunnelMACAddr", skip_serializing_if = "Option::is_none")]
    pub vxlan_tunnel_mac_addr: Option<String>,
    /// Address of `vxlan-v6.calico`.
    #[serde(rename = "ipv6VXLANTunnelAddr", skip_serializing_if = "Option::is_none")]
    pub ipv6_vxlan_tunnel_addr: Option<Ipv6Addr>,
    /// MAC of `vxlan-v6.calico`.
    #[serde(rename = "vxlanTunnelMACAddrV6", skip_serializing_if = "Option::is_none")]
    pub vxlan_tunnel_mac_addr_v6: Option<String>,
    /// Names of this node in orchestrators.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    /// WireGuard addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<NodeWireguard>,
    /// Addresses known to an orchestrator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Interfaces of the node and their addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<NodeInterface>,
}

/// BGP settings of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeBgp {
    /// Own AS number; absent means the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Node address with the length of its subnet.
    #[serde(rename = "ipv4Address", skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<IpNetwork>,
    /// IPv6 node address with the length of its subnet.
    #[serde(rename = "ipv6Address", skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<IpNetwork>,
    /// Address of `tunl0`.
    #[serde(rename = "ipv4IPIPTunnelAddr", skip_serializing_if = "Option::is_none")]
    pub ipv4_ipip_tunnel_addr: Option<Ipv4Addr>,
    /// Makes the node a route reflector of this cluster.
    #[serde(rename = "routeReflectorClusterID", skip_serializing_if = "Option::is_none")]
    pub route_reflector_cluster_id: Option<Ipv4Addr>,
}

/// Addresses of a node's WireGuard devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeWireguard {
    /// Address of the IPv4 device.
    #[serde(rename = "interfaceIPv4Address", skip_serializing_if = "String::is_empty")]
    pub interface_ipv4_address: String,
    /// Address of the IPv6 device.
    #[serde(rename = "interfaceIPv6Address", skip_serializing_if = "String::is_empty")]
    pub interface_ipv6_address: String,
}

/// The node's name in an orchestrator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrchRef {
    /// Name there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// The orchestrator, such as `k8s`.
    pub orchestrator: String,
}

/// An address of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// The address.
    pub address: String,
    /// `CalicoNodeIP`, `InternalIP` or `ExternalIP`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub address_type: String,
}

/// An interface of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInterface {
    /// Name.
    pub name: String,
    /// Addresses on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// What a node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Public key of the IPv4 WireGuard device.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wireguard_public_key: String,
    /// Public key of the IPv6 WireGuard device.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wireguard_public_key_v6: String,
    /// Pod ranges Kubernetes gave the node.
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
}

impl NodeSpec {
    /// The node's address and subnet of one family.
    pub fn bgp_address(&self, ipv6: bool) -> Option<IpNetwork> {
        let bgp = self.bgp.as_ref()?;
        if ipv6 { bgp.ipv6_address } else { bgp.ipv4_address }
    }

    /// All addresses other nodes know it by.
    pub fn bgp_ips(&self) -> impl Iterator<Item = IpAddr> {
        [self.bgp_address(false), self.bgp_address(true)].into_iter().flatten().map(|n| n.ip())
    }
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
    const WRITES_STATUS: bool = true;
    type Status = NodeStatus;
}

/// A Node.
pub type Node = super::Object<NodeSpec>;
