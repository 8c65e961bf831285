//! IPAMConfiguration and BlockAffinity (calico-datamodel 2.13). On etcd IPAM itself reads neither: it has keys of its
//! own (1.5, 1.7, [`crate::ipam`]).

use serde::{Deserialize, Serialize};

use super::Spec;
use crate::Kind;

/// Settings of IPAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpamConfigurationSpec {
    /// Nodes take addresses from their own blocks only; absent means no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_affinity: Option<bool>,
    /// Most blocks of a node; 0 or absent for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blocks_per_host: Option<i64>,
    /// Nodes claim blocks by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_allocate_blocks: Option<bool>,
    /// `Enabled` or `Disabled`: virtual machines keep their addresses when they move.
    #[serde(rename = "kubeVirtVMAddressPersistence", skip_serializing_if = "Option::is_none")]
    pub kube_virt_vm_address_persistence: Option<String>,
    /// Seconds a released address is not given out again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_cooldown_seconds: Option<i64>,
}

/// A claim to a block as the v3 API shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockAffinitySpec {
    /// `confirmed`, `pending` or `pendingDeletion`.
    pub state: String,
    /// Who claims it.
    pub node: String,
    /// `host` (absent means so) or `virtual`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub affinity_type: String,
    /// The block.
    pub cidr: String,
    /// `true` or `false`, as text.
    pub deleted: String,
}

impl Spec for IpamConfigurationSpec {
    const KIND: Kind = Kind::IpamConfiguration;
    type Status = serde_json::Value;
}

impl Spec for BlockAffinitySpec {
    const KIND: Kind = Kind::BlockAffinity;
    type Status = serde_json::Value;
}

/// The IPAMConfiguration.
pub type IpamConfiguration = super::Object<IpamConfigurationSpec>;
/// A BlockAffinity.
pub type BlockAffinity = super::Object<BlockAffinitySpec>;
