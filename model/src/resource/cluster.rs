//! ClusterInformation (calico-datamodel 2.13).

use serde::{Deserialize, Serialize};

use super::Spec;
use crate::Kind;

/// Facts about the cluster, written by its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformationSpec {
    /// 32 hexadecimal digits made when the cluster was.
    #[serde(rename = "clusterGUID", skip_serializing_if = "String::is_empty")]
    pub cluster_guid: String,
    /// Comma list, such as `k8s,bgp`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_type: String,
    /// Version of the data, `v3.x.y`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub calico_version: String,
    /// False: stop programming and wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,
    /// Product variant; kept as read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Spec for ClusterInformationSpec {
    const KIND: Kind = Kind::ClusterInformation;
    type Status = serde_json::Value;
}

/// The ClusterInformation.
pub type ClusterInformation = super::Object<ClusterInformationSpec>;
