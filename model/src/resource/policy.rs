//! NetworkPolicy, GlobalNetworkPolicy (calico-datamodel 2.5) and Tier (2.9).

use serde::{Deserialize, Serialize};

use super::{Spec, is_false};
use crate::Kind;
use crate::rule::Rule;

/// A direction of traffic, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyType {
    /// To the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// Policy of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// Tier; absent means `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Lower comes first; absent comes last.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "crate::scalar::serialize_order")]
    pub order: Option<f64>,
    /// Rules for traffic to the endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Endpoints of the namespace it applies to; empty means all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Directions; absent means by the rules given ([`default_types`]).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Further restricts by service-account labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_selector: String,
    /// Hints; kept as read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
}

/// Policy of the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkPolicySpec {
    /// Tier; absent means `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Lower comes first; absent comes last.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "crate::scalar::serialize_order")]
    pub order: Option<f64>,
    /// Rules for traffic to the endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Endpoints it applies to; empty means all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Directions; absent means by the rules given ([`default_types`]).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Before connection tracking; host endpoints only.
    #[serde(skip_serializing_if = "is_false")]
    pub do_not_track: bool,
    /// Before DNAT; host endpoints only.
    #[serde(rename = "preDNAT", skip_serializing_if = "is_false")]
    pub pre_dnat: bool,
    /// To forwarded traffic of host endpoints too.
    #[serde(skip_serializing_if = "is_false")]
    pub apply_on_forward: bool,
    /// Further restricts by service-account labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_selector: String,
    /// Further restricts by namespace labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    /// Hints; kept as read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
}

/// The directions of a policy that does not name them: egress only when there are egress rules, ingress unless
/// there are only egress rules.
pub fn default_types(ingress: &[Rule], egress: &[Rule]) -> Vec<PolicyType> {
    match (ingress.is_empty(), egress.is_empty()) {
        (_, true) => vec![PolicyType::Ingress],
        (true, false) => vec![PolicyType::Egress],
        (false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
    }
}

impl Spec for NetworkPolicySpec {
    const KIND: Kind = Kind::NetworkPolicy;
    type Status = serde_json::Value;
}

impl Spec for GlobalNetworkPolicySpec {
    const KIND: Kind = Kind::GlobalNetworkPolicy;
    type Status = serde_json::Value;
}

/// A NetworkPolicy.
pub type NetworkPolicy = super::Object<NetworkPolicySpec>;
/// A GlobalNetworkPolicy.
pub type GlobalNetworkPolicy = super::Object<GlobalNetworkPolicySpec>;

/// What happens at the end of a tier when a policy of it applied and no rule matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TierAction {
    /// Drop.
    #[default]
    Deny,
    /// Next tier.
    Pass,
}

/// An ordered group of policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TierSpec {
    /// Lower comes first; absent comes last.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "crate::scalar::serialize_order")]
    pub order: Option<f64>,
    /// Verdict at the end; absent means Deny.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<TierAction>,
}

impl Spec for TierSpec {
    const KIND: Kind = Kind::Tier;
    const WRITES_STATUS: bool = true;
    type Status = serde_json::Value;
}

/// A Tier.
pub type Tier = super::Object<TierSpec>;
