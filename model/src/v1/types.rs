//! The v1 documents (calico-datamodel 5.1), in their own field names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::resource::{EndpointPort, IpNat, OrchRef, WorkloadEndpointPort};
use crate::rule::Icmp;
use crate::scalar::{AsNumber, Port, Protocol};

/// A document of one kind.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Document<M, S> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(super) metadata: Option<M>,
    pub(super) spec: S,
}

impl<M, S: Default> Default for Document<M, S> {
    fn default() -> Self {
        Document { _api_version: String::new(), _kind: String::new(), metadata: None, spec: S::default() }
    }
}

#[derive(Deserialize)]
pub(super) struct PoolMetadata {
    pub(super) cidr: IpNetwork,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct PoolSpec {
    pub(super) ipip: Ipip,
    pub(super) nat_outgoing: bool,
    pub(super) disabled: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Ipip {
    pub(super) enabled: bool,
    pub(super) mode: IpipMode,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum IpipMode {
    #[default]
    #[serde(alias = "")]
    Always,
    CrossSubnet,
}

#[derive(Deserialize)]
pub(super) struct PeerMetadata {
    pub(super) scope: PeerScope,
    #[serde(default)]
    pub(super) node: String,
    #[serde(rename = "peerIP")]
    pub(super) peer_ip: IpAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PeerScope {
    Global,
    Node,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PeerSpec {
    pub(super) as_number: Option<AsNumber>,
}

#[derive(Deserialize)]
pub(super) struct NamedMetadata {
    pub(super) name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeSpec {
    pub(super) bgp: Option<NodeBgp>,
    pub(super) orch_refs: Vec<OrchRef>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeBgp {
    pub(super) as_number: Option<AsNumber>,
    #[serde(rename = "ipv4Address")]
    pub(super) ipv4_address: Option<IpNetwork>,
    #[serde(rename = "ipv6Address")]
    pub(super) ipv6_address: Option<IpNetwork>,
}

#[derive(Deserialize)]
pub(super) struct PolicyMetadata {
    pub(super) name: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PolicySpec {
    pub(super) order: Option<f64>,
    pub(super) ingress: Vec<Rule>,
    pub(super) egress: Vec<Rule>,
    pub(super) selector: String,
    pub(super) do_not_track: bool,
    #[serde(rename = "preDNAT")]
    pub(super) pre_dnat: bool,
    pub(super) types: Vec<PolicyType>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PolicyType {
    Ingress,
    Egress,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct TierSpec {
    pub(super) order: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct ProfileMetadata {
    pub(super) name: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ProfileSpec {
    pub(super) ingress: Vec<Rule>,
    pub(super) egress: Vec<Rule>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    #[default]
    #[serde(alias = "")]
    Allow,
    Deny,
    Log,
    #[serde(alias = "next-tier")]
    Pass,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    pub(super) action: Action,
    pub(super) ip_version: Option<u8>,
    pub(super) protocol: Option<Protocol>,
    pub(super) icmp: Option<Icmp>,
    pub(super) not_protocol: Option<Protocol>,
    #[serde(rename = "notICMP")]
    pub(super) not_icmp: Option<Icmp>,
    pub(super) source: EntityRule,
    pub(super) destination: EntityRule,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EntityRule {
    pub(super) tag: String,
    pub(super) net: Option<IpNetwork>,
    pub(super) nets: Vec<IpNetwork>,
    pub(super) selector: String,
    pub(super) ports: Vec<Port>,
    pub(super) not_tag: String,
    pub(super) not_net: Option<IpNetwork>,
    pub(super) not_nets: Vec<IpNetwork>,
    pub(super) not_selector: String,
    pub(super) not_ports: Vec<Port>,
}

#[derive(Deserialize)]
pub(super) struct HostEndpointMetadata {
    pub(super) name: String,
    pub(super) node: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HostEndpointSpec {
    pub(super) interface_name: String,
    #[serde(rename = "expectedIPs")]
    pub(super) expected_ips: Vec<IpAddr>,
    pub(super) profiles: Vec<String>,
    pub(super) ports: Vec<EndpointPort>,
}

#[derive(Deserialize)]
pub(super) struct WorkloadMetadata {
    pub(super) name: String,
    pub(super) workload: String,
    pub(super) orchestrator: String,
    pub(super) node: String,
    #[serde(rename = "activeInstanceID", default)]
    pub(super) active_instance_id: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WorkloadSpec {
    pub(super) ip_networks: Vec<IpNetwork>,
    #[serde(rename = "ipNATs")]
    pub(super) ip_nats: Vec<IpNat>,
    #[serde(rename = "ipv4Gateway")]
    pub(super) ipv4_gateway: String,
    #[serde(rename = "ipv6Gateway")]
    pub(super) ipv6_gateway: String,
    pub(super) profiles: Vec<String>,
    pub(super) interface_name: String,
    pub(super) mac: String,
    pub(super) ports: Vec<WorkloadEndpointPort>,
    #[serde(rename = "allow_spoofed_source_prefixes")]
    pub(super) allow_spoofed_source_prefixes: Vec<String>,
}
