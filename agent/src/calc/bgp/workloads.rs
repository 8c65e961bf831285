//! Local workloads that speak BGP with their node (bgp-behaviour 2.4).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_policy::snapshot::{Endpoint, EndpointId};

use crate::calc::cache::Cache;

/// A workload of this node, as far as a `localWorkloadSelector` sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    /// Its interface on the host.
    pub(super) interface: String,
    /// Its labels and those of its profiles.
    pub(super) labels: BTreeMap<String, String>,
    /// Its first address of each family.
    pub(super) addresses: Vec<IpAddr>,
}

/// All workloads of this node that have an interface; none as long as nobody wants to peer with any.
pub(super) fn all(cache: &Cache, endpoints: &BTreeMap<Arc<EndpointId>, Arc<Endpoint>>) -> Vec<Workload> {
    if cache.bgp_peers.values().all(|peer| peer.local_workload_selector.is_empty()) {
        return Vec::new();
    }
    let here = endpoints.values().filter_map(|endpoint| {
        let first = |ipv6: bool| endpoint.addresses.iter().find(|address| address.is_ipv6() == ipv6);
        Some(Workload {
            interface: endpoint.interface.clone()?,
            labels: labels(cache, endpoint),
            addresses: [false, true].into_iter().filter_map(first).copied().collect(),
        })
    });
    here.collect()
}

/// An endpoint's own labels win over those of its profiles, and of these the first.
fn labels(cache: &Cache, endpoint: &Endpoint) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for profile in endpoint.profiles.iter().rev().filter_map(|name| cache.profiles.get(&**name)) {
        labels.extend(profile.labels_to_apply.clone());
    }
    labels.extend(endpoint.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    labels
}
