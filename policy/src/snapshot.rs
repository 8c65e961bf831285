//! The compiler's input: everything that decides about packets on one node, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_model::resource::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, ProfileSpec, TierSpec, WorkloadEndpointPort,
};

/// Everything that decides about packets on one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Tiers by name.
    pub tiers: BTreeMap<String, TierSpec>,
    /// Policies, namespaced and global.
    pub policies: BTreeMap<PolicyId, PolicyBody>,
    /// Profiles by name; `None` for one that cannot be read.
    pub profiles: BTreeMap<String, Option<ProfileSpec>>,
    /// All workload endpoints of the cluster, local ones with their interface.
    pub endpoints: BTreeMap<Arc<EndpointId>, Arc<Endpoint>>,
    /// Network sets by namespace, which is empty for a global one, and name.
    pub network_sets: BTreeMap<Arc<EndpointId>, Arc<NetworkSet>>,
    /// All pools, disabled ones too.
    pub pools: Vec<Pool>,
    /// What happens to traffic from workloads to this node once egress policy allowed it.
    pub endpoint_to_host: EndpointToHost,
    /// Addresses of all other nodes: only they may send encapsulated packets.
    pub tunnel_peers: BTreeSet<IpAddr>,
}

/// Name of a policy. Orders as ties between equal orders are broken: by name, then namespace, then kind
/// (felix-dataplane 3.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    /// Its name.
    pub name: String,
    /// Its namespace; empty for a global policy.
    pub namespace: String,
}

/// A policy as stored.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyBody {
    /// A NetworkPolicy.
    Network(Box<NetworkPolicySpec>),
    /// A GlobalNetworkPolicy.
    Global(Box<GlobalNetworkPolicySpec>),
    /// Cannot be read. Denies everything to and from every endpoint it could apply to, and says why.
    Invalid(String),
}

/// Name of a workload endpoint, or of something else that rules can name as a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId {
    /// Namespace; empty for what is in none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A workload endpoint. A cluster has many, nearly all of them elsewhere: one costs little, and texts are shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// Own labels, those of `projectcalico.org/...` included; labels of profiles are added by the compiler.
    pub labels: LabelSet,
    /// Profiles in order.
    pub profiles: Vec<Arc<str>>,
    /// Addresses.
    pub addresses: Box<[IpAddr]>,
    /// Named ports.
    pub ports: Vec<WorkloadEndpointPort>,
    /// Host interface, when the endpoint is on this node.
    pub interface: Option<String>,
}

/// Addresses with labels, which rules name as peers like endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkSet {
    /// Own labels, for one of a namespace that of the namespace included.
    pub labels: LabelSet,
    /// Profiles that give further labels: that of the namespace.
    pub profiles: Vec<Arc<str>>,
    /// Masked networks and single addresses; they may overlap and repeat.
    pub nets: Box<[IpNetwork]>,
}

/// Names with values, in the order of the names, each name once. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSet(Arc<[(Arc<str>, Arc<str>)]>);

impl LabelSet {
    /// Whether somebody else has the same labels in the same place.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.0.get(place).map(|(_, value)| &**value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values as they are kept.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// Of several values of a name the last one stays.
impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for LabelSet {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> LabelSet {
        let sorted: BTreeMap<Arc<str>, Arc<str>> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        LabelSet(sorted.into_iter().collect())
    }
}

/// A pool, for NAT.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool {
    /// Its range.
    pub cidr: IpNetwork,
    /// Masquerade what leaves all pools from here.
    pub nat_outgoing: bool,
}

/// `DefaultEndpointToHostAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointToHost {
    /// Drop.
    #[default]
    Drop,
    /// Accept.
    Accept,
    /// Leave it to the host's own rules.
    Return,
}
