//! IPPool (calico-datamodel 2.1).

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Spec, is_false};
use crate::Kind;

/// When traffic between nodes is encapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EncapMode {
    /// Never.
    #[default]
    #[serde(alias = "")]
    Never,
    /// Always.
    Always,
    /// Only between nodes in different subnets.
    CrossSubnet,
}

impl std::fmt::Display for EncapMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            EncapMode::Never => "Never",
            EncapMode::Always => "Always",
            EncapMode::CrossSubnet => "CrossSubnet",
        })
    }
}

/// What addresses of a pool may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AllowedUse {
    /// Workloads.
    Workload,
    /// Tunnel devices of nodes.
    Tunnel,
    /// Services of type LoadBalancer.
    LoadBalancer,
}

/// A range of addresses for workloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpPoolSpec {
    /// The range, strictly masked.
    pub cidr: IpNetwork,
    /// Encapsulation in VXLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<EncapMode>,
    /// Encapsulation in IPIP; IPv4 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<EncapMode>,
    /// Masquerade what leaves the pools.
    #[serde(skip_serializing_if = "is_false")]
    pub nat_outgoing: bool,
    /// Give out no new addresses.
    #[serde(skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Keep the pool's routes out of BGP.
    #[serde(rename = "disableBGPExport", skip_serializing_if = "is_false")]
    pub disable_bgp_export: bool,
    /// Prefix length of blocks: 20–32 (default 26), IPv6 116–128 (default 122).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// Nodes that take blocks from the pool; absent means `all()`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Namespaces that take addresses from the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// Uses; absent or empty means Workload and Tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_uses: Option<Vec<AllowedUse>>,
    /// `Automatic` (default) or `Manual`: only when asked for by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<String>,
}

impl Default for IpPoolSpec {
    fn default() -> Self {
        IpPoolSpec {
            cidr: IpNetwork::V4(ipnetwork::Ipv4Network::from(std::net::Ipv4Addr::UNSPECIFIED)),
            vxlan_mode: None,
            ipip_mode: None,
            nat_outgoing: false,
            disabled: false,
            disable_bgp_export: false,
            block_size: None,
            node_selector: None,
            namespace_selector: None,
            allowed_uses: None,
            assignment_mode: None,
        }
    }
}

impl IpPoolSpec {
    /// Prefix length of the pool's blocks, with the default of its family.
    pub fn block_prefix(&self) -> u8 {
        self.block_size.unwrap_or(if self.cidr.is_ipv4() { 26 } else { 122 })
    }

    /// IPIP mode, `Never` when absent.
    pub fn ipip(&self) -> EncapMode {
        self.ipip_mode.unwrap_or_default()
    }

    /// VXLAN mode, `Never` when absent.
    pub fn vxlan(&self) -> EncapMode {
        self.vxlan_mode.unwrap_or_default()
    }

    /// Whether its addresses may be used so.
    pub fn allows(&self, wanted: AllowedUse) -> bool {
        match self.allowed_uses.as_deref() {
            None | Some([]) => matches!(wanted, AllowedUse::Workload | AllowedUse::Tunnel),
            Some(uses) => uses.contains(&wanted),
        }
    }
}

impl Spec for IpPoolSpec {
    const KIND: Kind = Kind::IpPool;
    type Status = serde_json::Value;
}

/// An IPPool.
pub type IpPool = super::Object<IpPoolSpec>;
