//! BGPFilter (calico-datamodel 2.12).

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::Kind;
use crate::scalar::AsNumber;

/// Routes a BGPPeer that names the filter sends and accepts: in each list the first rule that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterSpec {
    /// IPv4 routes to the peer.
    #[serde(rename = "exportV4", skip_serializing_if = "Vec::is_empty")]
    pub export_v4: Vec<BgpFilterRule<Ipv4Network>>,
    /// IPv4 routes from the peer.
    #[serde(rename = "importV4", skip_serializing_if = "Vec::is_empty")]
    pub import_v4: Vec<BgpFilterRule<Ipv4Network>>,
    /// IPv6 routes to the peer.
    #[serde(rename = "exportV6", skip_serializing_if = "Vec::is_empty")]
    pub export_v6: Vec<BgpFilterRule<Ipv6Network>>,
    /// IPv6 routes from the peer.
    #[serde(rename = "importV6", skip_serializing_if = "Vec::is_empty")]
    pub import_v6: Vec<BgpFilterRule<Ipv6Network>>,
}

/// One rule; every given field must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "N: Deserialize<'de>"))]
pub struct BgpFilterRule<N> {
    /// Compared with the route's prefix as `matchOperator` says.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub cidr: Option<N>,
    /// Lengths the prefix may have, for `In`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLength>,
    /// Where the route was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<BgpFilterSource>,
    /// Interface the route points to; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// How `cidr` is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<CidrOperator>,
    /// Sessions the rule is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<BgpPeerType>,
    /// Communities of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// First AS numbers of the path.
    #[serde(rename = "asPathPrefix", default, skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<AsNumber>,
    /// Metric of the route in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// What is done to a route that is accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<BgpFilterOperation>,
    /// The verdict.
    pub action: BgpFilterAction,
}

fn none<N>() -> Option<N> {
    None
}

impl<N: Copy + Into<IpNetwork>> BgpFilterRule<N> {
    /// The network compared with, of either family.
    pub fn network(&self) -> Option<IpNetwork> {
        self.cidr.map(Into::into)
    }
}

/// Least and greatest prefix length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixLength {
    /// Least; absent means that of the CIDR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Greatest; absent means that of a single address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// Where a route was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BgpFilterSource {
    /// From a BGP peer.
    RemotePeers,
}

/// How the prefix of a route is compared with a CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CidrOperator {
    /// It is the CIDR.
    Equal,
    /// It is not the CIDR.
    NotEqual,
    /// It lies inside.
    In,
    /// It does not lie inside.
    NotIn,
}

/// Sessions between different autonomous systems, or within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BgpPeerType {
    /// External.
    #[serde(rename = "eBGP")]
    External,
    /// Internal.
    #[serde(rename = "iBGP")]
    Internal,
}

/// Communities a route must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommunityMatch {
    /// Exactly one so far: `aa:nn` or `aa:nn:mm`.
    pub values: Vec<String>,
}

/// What is done to a route: exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterOperation {
    /// Adds a community.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Puts AS numbers before the path.
    #[serde(rename = "prependASPath", skip_serializing_if = "Option::is_none")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the metric in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

/// A community to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AddCommunity {
    /// `aa:nn` or `aa:nn:mm`.
    pub value: String,
}

/// AS numbers to put before the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrependAsPath {
    /// In the order they will stand there.
    pub prefix: Vec<AsNumber>,
}

/// A metric to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetPriority {
    /// The metric.
    pub value: u32,
}

/// Verdict of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BgpFilterAction {
    /// The route passes.
    Accept,
    /// It does not.
    Reject,
}

impl Spec for BgpFilterSpec {
    const KIND: Kind = Kind::BgpFilter;
    type Status = serde_json::Value;
}

/// A BGPFilter.
pub type BgpFilter = super::Object<BgpFilterSpec>;
