//! NetworkSet, GlobalNetworkSet and IPReservation (calico-datamodel 2.8): lists of addresses.
//!
//! The texts are kept as written: an address without a length, or a network with host bits, is allowed here.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::Kind;

/// Addresses with labels, which rules of the same namespace select.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSetSpec {
    /// Addresses and networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
}

/// Addresses with labels, which rules select.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GlobalNetworkSetSpec {
    /// Addresses and networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
}

/// Addresses that are never given out unless asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpReservationSpec {
    /// Addresses and networks.
    #[serde(rename = "reservedCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub reserved_cidrs: Vec<String>,
}

/// The network a text of one of these lists means, masked; an address alone is a network of full length.
pub fn listed_network(text: &str) -> Option<IpNetwork> {
    let network: IpNetwork = text.trim().parse().ok()?;
    IpNetwork::new(network.network(), network.prefix()).ok()
}

impl Spec for NetworkSetSpec {
    const KIND: Kind = Kind::NetworkSet;
    type Status = serde_json::Value;
}

impl Spec for GlobalNetworkSetSpec {
    const KIND: Kind = Kind::GlobalNetworkSet;
    type Status = serde_json::Value;
}

impl Spec for IpReservationSpec {
    const KIND: Kind = Kind::IpReservation;
    type Status = serde_json::Value;
}

/// A NetworkSet.
pub type NetworkSet = super::Object<NetworkSetSpec>;
/// A GlobalNetworkSet.
pub type GlobalNetworkSet = super::Object<GlobalNetworkSetSpec>;
/// An IPReservation.
pub type IpReservation = super::Object<IpReservationSpec>;
