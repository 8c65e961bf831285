//! Whom the selectors of rules can name: endpoints of workloads and hosts, and network sets, all seen the same way.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::resource::WorkloadEndpointPort;

use crate::host::Host;
use crate::ir::Family;
use crate::select::{EffectiveLabels, Labelled, effective_labels};
use crate::snapshot::{NetworkSet, Snapshot};

/// A peer: labels to find it by, where it is, and its named ports.
pub(crate) struct Peer<'a> {
    pub(crate) labels: &'a EffectiveLabels<'a>,
    addresses: &'a [IpAddr],
    nets: &'a [IpNetwork],
    pub(crate) ports: &'a [WorkloadEndpointPort],
}

impl Peer<'_> {
    /// Its addresses as networks of full length, and its networks.
    pub(crate) fn networks(&self, family: Family) -> impl Iterator<Item = IpNetwork> {
        let addresses = self.addresses.iter().map(|address| IpNetwork::from(*address));
        let all = addresses.chain(self.nets.iter().copied());
        all.filter(move |net| Family::of(net.network()) == family)
    }
}

/// A network set with the labels selectors see.
pub(crate) struct LabelledSet<'a> {
    set: &'a NetworkSet,
    labels: EffectiveLabels<'a>,
}

/// All network sets with their effective labels.
pub(crate) fn network_sets(snapshot: &Snapshot) -> Vec<LabelledSet<'_>> {
    let all = snapshot.network_sets.values();
    all.map(|set| LabelledSet { set, labels: effective_labels(snapshot, &set.labels, &set.profiles) })
        .collect()
}

/// Everything a selector can match.
pub(crate) fn peers<'a>(
    endpoints: &'a [Labelled<'a>],
    hosts: &'a [Host<'a>],
    sets: &'a [LabelledSet<'a>],
) -> Vec<Peer<'a>> {
    let hosts = hosts.iter().map(|host| &host.labelled);
    let endpoints = endpoints.iter().chain(hosts).map(|Labelled { endpoint, labels, .. }| Peer {
        labels,
        addresses: &endpoint.addresses,
        nets: &[],
        ports: &endpoint.ports,
    });
    let sets = sets.iter().map(|LabelledSet { set, labels }| Peer {
        labels,
        addresses: &[],
        nets: &set.nets,
        ports: &[],
    });
    endpoints.chain(sets).collect()
}
