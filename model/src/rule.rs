//! A policy rule (calico-datamodel 2.6).

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::scalar::{Port, Protocol};

/// What a rule does with a packet that matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Accept for this endpoint and direction; also what an empty action means.
    #[default]
    Allow,
    /// Drop.
    Deny,
    /// Log and continue with the next rule.
    Log,
    /// Leave the tier and continue with the next one.
    Pass,
}

/// One rule: every given field must match, lists match by any of their members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// The verdict.
    pub action: Action,
    /// 4 or 6; absent matches both families.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<u8>,
    /// Protocol of the packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// ICMP type and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// Protocol the packet must not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<Protocol>,
    /// ICMP type and code the packet must not have.
    #[serde(rename = "notICMP", skip_serializing_if = "Option::is_none")]
    pub not_icmp: Option<Icmp>,
    /// The packet's source.
    #[serde(skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// The packet's destination.
    #[serde(skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// Application-layer match. Not enforceable in the kernel; kept as read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMatch>,
    /// Annotations of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
}

/// Metadata of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleMetadata {
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Match on an HTTP request: any of the methods and any of the paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpMatch {
    /// Methods, such as `GET`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<HttpPath>,
}

/// A path of a request: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpPath {
    /// The whole path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exact: String,
    /// How it begins.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// ICMP match; `code` needs `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Icmp {
    /// Type, 0 to 254.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// Code, 0 to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
}

/// Match on one side of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntityRule {
    /// Address in any of these; strictly masked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<IpNetwork>,
    /// Selects endpoints and network sets by label.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Selects namespaces by label.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    /// A Kubernetes service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
    /// Port is any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Address in none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_nets: Vec<IpNetwork>,
    /// Endpoints that must not be the peer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub not_selector: String,
    /// Port is none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ports: Vec<Port>,
    /// Service accounts of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountMatch>,
}

impl EntityRule {
    /// Whether it matches every packet.
    pub fn is_empty(&self) -> bool {
        *self == EntityRule::default()
    }
}

/// A service by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceMatch {
    /// Name of the service.
    pub name: String,
    /// Its namespace; absent means the policy's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// Service accounts by name or label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccountMatch {
    /// Names; any of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Selector over service-account labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
}
