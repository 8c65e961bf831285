//! IPAM's configuration: the stored form and the rules it has to keep (calico-datamodel 1.5, 4.1).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most blocks a host may be allowed (calico-datamodel 2.13).
pub const MAX_BLOCKS_LIMIT: u32 = 1_000_000;

/// Longest cooling-off time of a released address, in seconds (calico-datamodel 2.13).
pub const COOLDOWN_LIMIT: u32 = 1200;

/// IPAM's configuration. Without the object [`IpamConfig::absent`] holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// Never take an address from another node's block.
    #[serde(skip_serializing_if = "crate::resource::is_false")]
    pub strict_affinity: bool,
    /// Claim blocks on demand; absent in an existing object means no.
    #[serde(skip_serializing_if = "crate::resource::is_false")]
    pub auto_allocate_blocks: bool,
    /// Limit of a host's blocks; 0 means 20.
    #[serde(rename = "maxBlocksPerHost", skip_serializing_if = "is_zero")]
    pub max_blocks_per_host: u32,
    /// Whether a KubeVirt machine keeps its address: `Enabled` (also when absent) or `Disabled`.
    #[serde(rename = "kubeVirtVMAddressPersistence", skip_serializing_if = "Option::is_none")]
    pub kube_virt_vm_address_persistence: Option<String>,
    /// How long a released address is given to nobody, in seconds; 0 for not at all.
    #[serde(rename = "ipCooldownSeconds", skip_serializing_if = "is_zero")]
    pub ip_cooldown_seconds: u32,
    /// Fields of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A rule the configuration breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigFault {
    /// Neither own blocks nor borrowed ones.
    #[error(
        "strictAffinity false and autoAllocateBlocks false: strict affinity and automatic allocation of blocks \
         cannot both be off; turn one on"
    )]
    NothingAllowed,
    /// A limit without strict affinity would be circumvented by borrowing.
    #[error(
        "maxBlocksPerHost is {0}, which needs strict affinity: turn strictAffinity on or set the limit to 0"
    )]
    LimitWithoutStrictAffinity(u32),
    /// The limit is out of range.
    #[error("maxBlocksPerHost is {0}: must be 0 to {MAX_BLOCKS_LIMIT}")]
    Limit(u32),
    /// The cooling-off time is out of range.
    #[error("ipCooldownSeconds is {0}: must be 0 to {COOLDOWN_LIMIT}")]
    Cooldown(u32),
    /// An unknown word.
    #[error("kubeVirtVMAddressPersistence is '{0}': must be Enabled or Disabled")]
    Persistence(String),
}

impl IpamConfig {
    /// The configuration when none is stored.
    pub fn absent() -> IpamConfig {
        IpamConfig { auto_allocate_blocks: true, ..IpamConfig::default() }
    }

    /// Every rule the configuration breaks (calico-datamodel 4.1, SetIPAMConfig). Readers do not ask: what is stored
    /// holds.
    pub fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if !self.strict_affinity && !self.auto_allocate_blocks {
            faults.push(ConfigFault::NothingAllowed);
        }
        if !self.strict_affinity && self.max_blocks_per_host > 0 {
            faults.push(ConfigFault::LimitWithoutStrictAffinity(self.max_blocks_per_host));
        }
        if self.max_blocks_per_host > MAX_BLOCKS_LIMIT {
            faults.push(ConfigFault::Limit(self.max_blocks_per_host));
        }
        if self.ip_cooldown_seconds > COOLDOWN_LIMIT {
            faults.push(ConfigFault::Cooldown(self.ip_cooldown_seconds));
        }
        if let Some(word) = &self.kube_virt_vm_address_persistence
            && !["Enabled", "Disabled"].contains(&word.as_str())
        {
            faults.push(ConfigFault::Persistence(word.clone()));
        }
        faults
    }
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_omits_what_is_off_and_keeps_what_it_does_not_know() {
        let absent = serde_json::to_string(&IpamConfig::absent()).unwrap();
        assert_eq!(absent, r#"{"auto_allocate_blocks":true}"#);
        let full = concat!(
            r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"#,
            r#""kubeVirtVMAddressPersistence":"Disabled","ipCooldownSeconds":30,"newer":1}"#
        );
        let read: IpamConfig = serde_json::from_str(full).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), full);
        let empty: IpamConfig = serde_json::from_str("{}").unwrap();
        assert!(!empty.auto_allocate_blocks, "missing in an existing object means no");
    }

    #[test]
    fn every_broken_rule_is_named() {
        assert!(IpamConfig::absent().faults().is_empty());
        let strict = IpamConfig { strict_affinity: true, max_blocks_per_host: 3, ..IpamConfig::default() };
        assert!(strict.faults().is_empty(), "strict affinity goes without automatic allocation");
        let wrong = IpamConfig {
            max_blocks_per_host: MAX_BLOCKS_LIMIT + 1,
            ip_cooldown_seconds: COOLDOWN_LIMIT + 1,
            kube_virt_vm_address_persistence: Some("Perhaps".into()),
            ..IpamConfig::default()
        };
        assert_eq!(
            wrong.faults(),
            [
                ConfigFault::NothingAllowed,
                ConfigFault::LimitWithoutStrictAffinity(1_000_001),
                ConfigFault::Limit(1_000_001),
                ConfigFault::Cooldown(1201),
                ConfigFault::Persistence("Perhaps".into()),
            ]
        );
    }
}
