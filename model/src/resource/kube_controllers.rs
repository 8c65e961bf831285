//! KubeControllersConfiguration (calico-datamodel 2.13): settings of Calico's controllers beside Kubernetes. Nothing of
//! ours reads them; they are kept for those who do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Spec;
use crate::Kind;

/// Settings of the controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationSpec {
    /// Log level.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_severity_screen: String,
    /// `Enabled` or `Disabled`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub health_checks: String,
    /// How often etcd is compacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_v3_compaction_period: Option<String>,
    /// Port of the metrics; absent means 9094, 0 none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i64>,
    /// Which controllers run, and how.
    pub controllers: Controllers,
    /// Port of the profiler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<i64>,
}

/// One field a controller; absent means that it does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Controllers {
    /// Cleans up after nodes, makes host endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeController>,
    /// Kubernetes policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PeriodicController>,
    /// Labels of workload endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<PeriodicController>,
    /// Profiles of service accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<PeriodicController>,
    /// Profiles of namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<PeriodicController>,
    /// Addresses of services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerController>,
    /// Moves of stored data between versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationController>,
}

/// A controller with a period and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeriodicController {
    /// How often everything is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
}

/// Settings of the node controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeController {
    /// How often everything is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
    /// `Enabled` or `Disabled`: labels of Kubernetes nodes on Calico's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sync_labels: String,
    /// Host endpoints for nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_endpoint: Option<AutoHostEndpoint>,
    /// How long an address may be without owner; absent means 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak_grace_period: Option<String>,
}

/// Host endpoints made by the node controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoHostEndpoint {
    /// `Enabled` or `Disabled`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auto_create: String,
    /// `Enabled` or `Disabled`: one for all interfaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub create_default_host_endpoint: String,
    /// Further ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<HostEndpointTemplate>,
}

/// What a host endpoint is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointTemplate {
    /// Part of the name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub generate_name: String,
    /// Addresses of the node that become expected ones.
    #[serde(rename = "interfaceCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub interface_cidrs: Vec<String>,
    /// Interfaces, a regular expression.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_pattern: String,
    /// Labels of the endpoint.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the endpoint.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Nodes that get it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_selector: String,
}

/// Settings of the load-balancer controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadBalancerController {
    /// `AllServices` or `RequestedServicesOnly`.
    #[serde(rename = "assignIPs", skip_serializing_if = "String::is_empty")]
    pub assign_ips: String,
}

/// Settings of the migration controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationController {
    /// `Enabled` or `Disabled`: renames policies of old versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name_migrator: Option<String>,
}

/// What the controllers run with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatus {
    /// The settings in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_config: Option<KubeControllersConfigurationSpec>,
    /// Variables of the environment that override settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment_vars: BTreeMap<String, String>,
}

impl Spec for KubeControllersConfigurationSpec {
    const KIND: Kind = Kind::KubeControllersConfiguration;
    const WRITES_STATUS: bool = true;
    type Status = KubeControllersConfigurationStatus;
}

/// The KubeControllersConfiguration.
pub type KubeControllersConfiguration = super::Object<KubeControllersConfigurationSpec>;
