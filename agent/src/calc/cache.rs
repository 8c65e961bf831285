//! What the datastore holds, as far as this node's calculation needs it: the newest valid value of every key, and the
//! keys whose value cannot be read. Never judges a value; that is for the stages that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_datastore::ipam::{Allocation, allocations_of};
use tortie_datastore::syncer::{Update, Value};
use tortie_model::ipam::AffinityState;
use tortie_model::resource::{
    AnyResource, BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, CalicoNodeStatusSpec,
    ClusterInformationSpec, FelixConfigurationSpec, GlobalNetworkPolicy, HostEndpoint, IpPoolSpec,
    NetworkPolicy, Node, ProfileSpec, StagedGlobalNetworkPolicy, StagedKubernetesNetworkPolicySpec,
    StagedNetworkPolicy, TierSpec, WorkloadEndpoint,
};
use tortie_model::{Key, Kind, ObjectMeta};
use tortie_policy::snapshot::{Endpoint, EndpointId};

use super::endpoints::for_policy;
use super::network_sets::{self, StoredSet};
use super::texts::Texts;

/// Newest values by name.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) pools: BTreeMap<String, IpPoolSpec>,
    pub(super) endpoints: BTreeMap<Arc<EndpointId>, StoredEndpoint>,
    /// Those of this node.
    pub(super) local: BTreeSet<Arc<EndpointId>>,
    /// By namespace and stored name.
    pub(super) network_policies: BTreeMap<(String, String), NetworkPolicy>,
    /// By stored name.
    pub(super) global_policies: BTreeMap<String, GlobalNetworkPolicy>,
    /// By namespace and name; as policy sees them.
    pub(super) network_sets: BTreeMap<Arc<EndpointId>, StoredSet>,
    /// By namespace and stored name.
    pub(super) staged_network_policies: BTreeMap<(String, String), StagedNetworkPolicy>,
    /// By stored name.
    pub(super) staged_global_policies: BTreeMap<String, StagedGlobalNetworkPolicy>,
    /// By namespace and name.
    pub(super) staged_kubernetes_policies: BTreeMap<(String, String), StagedKubernetesNetworkPolicySpec>,
    /// Of all nodes: rules name them as peers.
    pub(super) host_endpoints: BTreeMap<String, HostEndpoint>,
    /// Addresses of this node's interfaces; no resource, but of what policy needs.
    pub(super) host_interfaces: BTreeMap<String, BTreeSet<IpAddr>>,
    pub(super) tiers: BTreeMap<String, TierSpec>,
    pub(super) profiles: BTreeMap<String, ProfileSpec>,
    pub(super) bgp_configurations: BTreeMap<String, BgpConfigurationSpec>,
    pub(super) bgp_peers: BTreeMap<String, BgpPeerSpec>,
    pub(super) bgp_filters: BTreeMap<String, BgpFilterSpec>,
    /// Reports asked of this node.
    pub(super) reports: BTreeMap<String, CalicoNodeStatusSpec>,
    pub(super) felix_configurations: BTreeMap<String, FelixConfigurationSpec>,
    pub(super) cluster_information: BTreeMap<String, ClusterInformationSpec>,
    /// Claims of this node to blocks.
    pub(super) affinities: BTreeMap<IpNetwork, AffinityState>,
    /// What this node's workloads and tunnels hold, by block, which may be another node's.
    pub(super) allocations: BTreeMap<IpNetwork, Vec<Allocation>>,
    /// Keys whose value cannot be read, and why.
    pub(super) invalid: BTreeMap<Key, String>,
    /// Grows with every change to what BGP sessions and filters are made of.
    pub(super) bgp_revision: u64,
    /// Own writes that entered before the watch reported them, with their revision.
    own: BTreeMap<Key, i64>,
    /// Highest revision the watch has reported of any key.
    seen: i64,
    /// What many endpoints have in common.
    texts: Texts,
}

/// A workload endpoint as far as this node needs it: of the many elsewhere, what policy knows of them.
#[derive(Debug, PartialEq)]
pub(super) enum StoredEndpoint {
    /// Of this node.
    Local(Box<WorkloadEndpoint>),
    /// Of another node.
    Remote(Arc<Endpoint>),
}

impl Cache {
    /// Takes a change the watch reported. Returns whether anything this node calculates with is different now.
    ///
    /// A change older than an own write of the same key is the past, seen late: it must not roll the write back.
    pub(super) fn apply(&mut self, node: &str, update: Update) -> bool {
        self.seen = self.seen.max(update.revision);
        if let Some(&own) = self.own.get(&update.key) {
            if update.revision < own {
                return false;
            }
            self.own.remove(&update.key);
        }
        self.store(node, update)
    }

    /// Takes a change this process has just written. The watch reports changes in order of revision, so one that it
    /// has passed already is known, and perhaps overtaken.
    pub(super) fn apply_own(&mut self, node: &str, update: Update) -> bool {
        let superseded = self.own.get(&update.key).is_some_and(|&own| own >= update.revision);
        if update.revision <= self.seen || superseded {
            return false;
        }
        self.own.insert(update.key.clone(), update.revision);
        self.store(node, update)
    }

    /// The listing that follows has every own write that was answered, or a store went back in time and has lost it.
    pub(super) fn relisting(&mut self) {
        self.own.clear();
    }

    fn store(&mut self, node: &str, update: Update) -> bool {
        let Update { key, value, .. } = update;
        let (value, reason) = match value {
            Some(Value::Invalid(error)) => (None, Some(crate::logging::chain(&error))),
            other => (other, None),
        };
        let marked = match reason {
            Some(reason) if matters(node, &key) => {
                self.invalid.insert(key.clone(), reason.clone()).as_ref() != Some(&reason)
            }
            Some(_) | None => self.invalid.remove(&key).is_some(),
        };
        let stored = match (&key, value) {
            (Key::Resource { .. }, Some(Value::Resource(resource))) => {
                self.store_resource(node, &key, *resource)
            }
            (Key::Resource { .. }, _) => self.remove_resource(&key),
            (Key::BlockAffinity { host, block }, value) if host == node => match value {
                Some(Value::Affinity(affinity)) => put(&mut self.affinities, *block, affinity.state),
                _ => self.affinities.remove(block).is_some(),
            },
            (Key::Block(block), value) => {
                let found = match value {
                    Some(Value::Block(block)) => allocations_of(node, &block),
                    _ => Vec::new(),
                };
                if found.is_empty() {
                    self.allocations.remove(block);
                } else {
                    self.allocations.insert(*block, found);
                }
                // Nothing this node should be depends on it.
                false
            }
            (Key::BlockAffinity { .. } | Key::Handle(_) | Key::IpamHost(_) | Key::IpamConfig, _) => false,
        };
        if (marked || stored) && concerns_bgp(&key) {
            self.bgp_revision += 1;
        }
        marked || stored
    }

    fn store_resource(&mut self, node: &str, key: &Key, mut resource: AnyResource) -> bool {
        let Key::Resource { namespace, name, .. } = key else { return false };
        let namespace = namespace.clone().unwrap_or_default();
        let name = name.clone();
        // Neither decides anything here, both cost memory, and without them an echo equals what it repeats.
        resource.original_mut().0 = None;
        resource.metadata_mut().resource_version = None;
        match resource {
            AnyResource::Node(o) => put(&mut self.nodes, name, o),
            AnyResource::IpPool(o) => put(&mut self.pools, name, o.spec),
            AnyResource::WorkloadEndpoint(o) => self.store_endpoint(node, EndpointId { namespace, name }, o),
            AnyResource::NetworkPolicy(o) => put(&mut self.network_policies, (namespace, name), o),
            AnyResource::GlobalNetworkPolicy(o) => put(&mut self.global_policies, name, o),
            AnyResource::NetworkSet(o) => self.store_network_set(namespace, name, &o.metadata, &o.spec.nets),
            AnyResource::GlobalNetworkSet(o) => {
                self.store_network_set(String::new(), name, &o.metadata, &o.spec.nets)
            }
            AnyResource::StagedNetworkPolicy(o) => {
                put(&mut self.staged_network_policies, (namespace, name), o)
            }
            AnyResource::StagedGlobalNetworkPolicy(o) => put(&mut self.staged_global_policies, name, o),
            AnyResource::StagedKubernetesNetworkPolicy(o) => {
                put(&mut self.staged_kubernetes_policies, (namespace, name), o.spec)
            }
            AnyResource::HostEndpoint(o) => put(&mut self.host_endpoints, name, o),
            AnyResource::Tier(o) => put(&mut self.tiers, name, o.spec),
            AnyResource::Profile(o) => put(&mut self.profiles, name, o.spec),
            AnyResource::BgpConfiguration(o) => put(&mut self.bgp_configurations, name, o.spec),
            AnyResource::BgpPeer(o) => put(&mut self.bgp_peers, name, o.spec),
            AnyResource::BgpFilter(o) => put(&mut self.bgp_filters, name, o.spec),
            AnyResource::CalicoNodeStatus(o) if o.spec.node == node => put(&mut self.reports, name, o.spec),
            AnyResource::CalicoNodeStatus(_) => self.reports.remove(&name).is_some(),
            AnyResource::FelixConfiguration(o) => put(&mut self.felix_configurations, name, o.spec),
            AnyResource::ClusterInformation(o) => put(&mut self.cluster_information, name, o.spec),
            AnyResource::BlockAffinity(_)
            | AnyResource::IpReservation(_)
            | AnyResource::IpamConfiguration(_)
            | AnyResource::KubeControllersConfiguration(_) => false,
        }
    }

    fn store_endpoint(&mut self, node: &str, id: EndpointId, endpoint: WorkloadEndpoint) -> bool {
        let id = Arc::new(id);
        self.local.remove(&id);
        let stored = if endpoint.spec.node == node {
            self.local.insert(Arc::clone(&id));
            StoredEndpoint::Local(Box::new(endpoint))
        } else {
            StoredEndpoint::Remote(Arc::new(for_policy(&id, &endpoint, &mut self.texts)))
        };
        put(&mut self.endpoints, id, stored)
    }

    fn store_network_set(
        &mut self,
        namespace: String,
        name: String,
        metadata: &ObjectMeta,
        nets: &[String],
    ) -> bool {
        let id = Arc::new(EndpointId { namespace, name });
        let set = network_sets::stored(&id, metadata, nets, &mut self.texts);
        put(&mut self.network_sets, id, set)
    }

    fn remove_resource(&mut self, key: &Key) -> bool {
        let Key::Resource { kind, namespace, name } = key else { return false };
        let namespace = namespace.clone().unwrap_or_default();
        match kind {
            Kind::Node => self.nodes.remove(name).is_some(),
            Kind::IpPool => self.pools.remove(name).is_some(),
            Kind::WorkloadEndpoint => {
                let id = EndpointId { namespace, name: name.clone() };
                self.local.remove(&id);
                self.endpoints.remove(&id).is_some()
            }
            Kind::NetworkPolicy => self.network_policies.remove(&(namespace, name.clone())).is_some(),
            Kind::GlobalNetworkPolicy => self.global_policies.remove(name).is_some(),
            Kind::NetworkSet | Kind::GlobalNetworkSet => {
                self.network_sets.remove(&EndpointId { namespace, name: name.clone() }).is_some()
            }
            Kind::StagedNetworkPolicy => {
                self.staged_network_policies.remove(&(namespace, name.clone())).is_some()
            }
            Kind::StagedGlobalNetworkPolicy => self.staged_global_policies.remove(name).is_some(),
            Kind::StagedKubernetesNetworkPolicy => {
                self.staged_kubernetes_policies.remove(&(namespace, name.clone())).is_some()
            }
            Kind::HostEndpoint => self.host_endpoints.remove(name).is_some(),
            Kind::Tier => self.tiers.remove(name).is_some(),
            Kind::Profile => self.profiles.remove(name).is_some(),
            Kind::BgpConfiguration => self.bgp_configurations.remove(name).is_some(),
            Kind::BgpPeer => self.bgp_peers.remove(name).is_some(),
            Kind::BgpFilter => self.bgp_filters.remove(name).is_some(),
            Kind::CalicoNodeStatus => self.reports.remove(name).is_some(),
            Kind::FelixConfiguration => self.felix_configurations.remove(name).is_some(),
            Kind::ClusterInformation => self.cluster_information.remove(name).is_some(),
            Kind::BlockAffinity
            | Kind::IpReservation
            | Kind::IpamConfiguration
            | Kind::KubeControllersConfiguration => false,
        }
    }
}

/// Whether a value that cannot be read is of interest to this node.
fn matters(node: &str, key: &Key) -> bool {
    match key {
        Key::Resource { kind, .. } => decides(*kind),
        Key::BlockAffinity { host, .. } => host == node,
        Key::Block(_) | Key::Handle(_) | Key::IpamHost(_) | Key::IpamConfig => false,
    }
}

/// Whether resources of the kind decide anything here; what else is stored is none of this node's problems.
fn decides(kind: Kind) -> bool {
    match kind {
        Kind::BgpConfiguration
        | Kind::BgpFilter
        | Kind::BgpPeer
        | Kind::ClusterInformation
        | Kind::FelixConfiguration
        | Kind::GlobalNetworkPolicy
        | Kind::GlobalNetworkSet
        | Kind::HostEndpoint
        | Kind::IpPool
        | Kind::NetworkPolicy
        | Kind::NetworkSet
        | Kind::Node
        | Kind::Profile
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy
        | Kind::StagedNetworkPolicy
        | Kind::Tier
        | Kind::WorkloadEndpoint => true,
        Kind::BlockAffinity
        | Kind::CalicoNodeStatus
        | Kind::IpReservation
        | Kind::IpamConfiguration
        | Kind::KubeControllersConfiguration => false,
    }
}

/// Whether BGP sessions or filters are made of what is under a key. Own blocks and workloads are told them otherwise.
fn concerns_bgp(key: &Key) -> bool {
    match key {
        Key::Resource { kind, .. } => matches!(
            kind,
            Kind::BgpConfiguration | Kind::BgpFilter | Kind::BgpPeer | Kind::IpPool | Kind::Node
        ),
        Key::Block(_) | Key::BlockAffinity { .. } | Key::Handle(_) | Key::IpamHost(_) | Key::IpamConfig => {
            false
        }
    }
}

/// Stores a value and says whether it is a new one.
fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    let different = map.get(&key) != Some(&value);
    map.insert(key, value);
    different
}
