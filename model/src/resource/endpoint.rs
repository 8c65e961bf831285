//! WorkloadEndpoint (calico-datamodel 2.3), HostEndpoint (2.4) and Profile (2.8).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::Kind;
use crate::rule::Rule;
use crate::scalar::Protocol;

/// One interface of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointSpec {
    /// `k8s`, `cni`, `libnetwork` or another.
    pub orchestrator: String,
    /// Workload id, where the orchestrator is none of the first two.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Node it runs on.
    pub node: String,
    /// Container id: a DEL with another one must not remove it.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// Pod name under Kubernetes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Interface inside the workload, such as `eth0`.
    pub endpoint: String,
    /// Kubernetes service account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Addresses, each a /32 or /128.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<IpNetwork>,
    /// Floating addresses.
    #[serde(rename = "ipNATs", skip_serializing_if = "Vec::is_empty")]
    pub ip_nats: Vec<IpNat>,
    /// Gateway inside the workload; unused.
    #[serde(rename = "ipv4Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv4_gateway: String,
    /// Gateway inside the workload; unused.
    #[serde(rename = "ipv6Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv6_gateway: String,
    /// Profiles in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Host side of the veth.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// MAC of the workload's side.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Named ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadEndpointPort>,
    /// Source prefixes accepted besides its own addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<String>,
    /// Rate and connection limits; rare, so they take no room where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_controls: Option<Box<QosControls>>,
}

/// Limits of a workload's traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QosControls {
    /// Bits a second to the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_bandwidth: i64,
    /// Bits a second from the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_bandwidth: i64,
    /// Bits in a burst to the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_burst: i64,
    /// Bits in a burst from the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_burst: i64,
    /// Bits a second within a burst to the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_peakrate: i64,
    /// Bits a second within a burst from the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_peakrate: i64,
    /// Octets a burst has at least to the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_minburst: i64,
    /// Octets a burst has at least from the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_minburst: i64,
    /// Packets a second to the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_packet_rate: i64,
    /// Packets a second from the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_packet_rate: i64,
    /// Packets in a burst to the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_packet_burst: i64,
    /// Packets in a burst from the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_packet_burst: i64,
    /// Connections at a time to the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_max_connections: i64,
    /// Connections at a time from the workload; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_max_connections: i64,
    /// Differentiated-services code point of its packets: 0 to 63, or the name of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dscp: Option<serde_json::Value>,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// A floating address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpNat {
    /// One of the workload's addresses.
    #[serde(rename = "internalIP")]
    pub internal_ip: IpAddr,
    /// Address it is also reached at.
    #[serde(rename = "externalIP")]
    pub external_ip: IpAddr,
}

/// A port by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEndpointPort {
    /// Name rules refer to.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// Port on the host, 0 for none.
    #[serde(default)]
    pub host_port: u16,
    /// Address on the host, empty for any.
    #[serde(rename = "hostIP", default)]
    pub host_ip: String,
}

impl Spec for WorkloadEndpointSpec {
    const KIND: Kind = Kind::WorkloadEndpoint;
    type Status = serde_json::Value;
}

/// A WorkloadEndpoint.
pub type WorkloadEndpoint = super::Object<WorkloadEndpointSpec>;

/// An interface of a node itself, or all of them, to apply policy to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    /// Node it belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The interface; `*` is every interface that belongs to no workload.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// Addresses of the interface; they also find it when `interfaceName` is empty.
    #[serde(rename = "expectedIPs", skip_serializing_if = "Vec::is_empty")]
    pub expected_ips: Vec<IpAddr>,
    /// Profiles in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Named ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

/// A port of a host endpoint by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPort {
    /// Name rules refer to.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

impl Spec for HostEndpointSpec {
    const KIND: Kind = Kind::HostEndpoint;
    type Status = serde_json::Value;
}

/// A HostEndpoint.
pub type HostEndpoint = super::Object<HostEndpointSpec>;

/// Rules and labels shared by endpoints; consulted when no policy selects them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSpec {
    /// Rules for traffic to the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Labels every endpoint with the profile has, unless it has its own value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels_to_apply: BTreeMap<String, String>,
}

impl Spec for ProfileSpec {
    const KIND: Kind = Kind::Profile;
    type Status = serde_json::Value;
}

/// A Profile.
pub type Profile = super::Object<ProfileSpec>;
