//! The staged kinds (calico-datamodel 2.7): policies that are tried out. They never decide about a packet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{GlobalNetworkPolicySpec, NetworkPolicySpec, PolicyType, Spec, is_false};
use crate::Kind;
use crate::rule::Rule;

/// What happens to the enforced policy of the same name once the staged one is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StagedAction {
    /// It becomes the staged one.
    #[default]
    Set,
    /// It is deleted.
    Delete,
    /// Its rules are being learned.
    Learn,
    /// Nothing; the staged one is not looked at.
    Ignore,
}

/// A NetworkPolicy tried out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedNetworkPolicySpec {
    /// What is staged; absent means Set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
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
    /// Directions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Further restricts by service-account labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_selector: String,
    /// Hints; kept as read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
}

impl StagedNetworkPolicySpec {
    /// The policy it would be.
    pub fn policy(&self) -> NetworkPolicySpec {
        let all = self.clone();
        NetworkPolicySpec {
            tier: all.tier,
            order: all.order,
            ingress: all.ingress,
            egress: all.egress,
            selector: all.selector,
            types: all.types,
            service_account_selector: all.service_account_selector,
            performance_hints: all.performance_hints,
        }
    }
}

/// A GlobalNetworkPolicy tried out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedGlobalNetworkPolicySpec {
    /// What is staged; absent means Set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
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
    /// Directions.
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

impl StagedGlobalNetworkPolicySpec {
    /// The policy it would be.
    pub fn policy(&self) -> GlobalNetworkPolicySpec {
        let all = self.clone();
        GlobalNetworkPolicySpec {
            tier: all.tier,
            order: all.order,
            ingress: all.ingress,
            egress: all.egress,
            selector: all.selector,
            types: all.types,
            do_not_track: all.do_not_track,
            pre_dnat: all.pre_dnat,
            apply_on_forward: all.apply_on_forward,
            service_account_selector: all.service_account_selector,
            namespace_selector: all.namespace_selector,
            performance_hints: all.performance_hints,
        }
    }
}

/// A Kubernetes NetworkPolicy tried out, in the shape of `networking.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicySpec {
    /// What is staged; absent means Set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
    /// Pods of the namespace it applies to; empty means all.
    pub pod_selector: LabelSelector,
    /// Rules for traffic to the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<KubernetesIngressRule>,
    /// Rules for traffic from the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<KubernetesEgressRule>,
    /// Directions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy_types: Vec<PolicyType>,
}

/// A selector of Kubernetes: everything given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels with their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Expressions about labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelExpression>,
}

/// One expression about a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values, for the first two.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Rule for traffic to pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesIngressRule {
    /// Ports; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<KubernetesPort>,
    /// Peers; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<KubernetesPeer>,
}

/// Rule for traffic from pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesEgressRule {
    /// Ports; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<KubernetesPort>,
    /// Peers; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<KubernetesPeer>,
}

/// A port, or a range of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesPort {
    /// `TCP` (absent means so), `UDP` or `SCTP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Number or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<serde_json::Value>,
    /// Last port of a range that begins at `port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
}

/// Peers of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesPeer {
    /// Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses; excludes the other two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// A range of addresses with holes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpBlock {
    /// The range.
    pub cidr: String,
    /// The holes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Spec for StagedNetworkPolicySpec {
    const KIND: Kind = Kind::StagedNetworkPolicy;
    type Status = serde_json::Value;
}

impl Spec for StagedGlobalNetworkPolicySpec {
    const KIND: Kind = Kind::StagedGlobalNetworkPolicy;
    type Status = serde_json::Value;
}

impl Spec for StagedKubernetesNetworkPolicySpec {
    const KIND: Kind = Kind::StagedKubernetesNetworkPolicy;
    type Status = serde_json::Value;
}

/// A StagedNetworkPolicy.
pub type StagedNetworkPolicy = super::Object<StagedNetworkPolicySpec>;
/// A StagedGlobalNetworkPolicy.
pub type StagedGlobalNetworkPolicy = super::Object<StagedGlobalNetworkPolicySpec>;
/// A StagedKubernetesNetworkPolicy.
pub type StagedKubernetesNetworkPolicy = super::Object<StagedKubernetesNetworkPolicySpec>;
