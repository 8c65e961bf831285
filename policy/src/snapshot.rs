//! The compiler's input: everything that decides about packets on one node, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_model::resource::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, ProfileSpec, StagedGlobalNetworkPolicySpec,
    StagedKubernetesNetworkPolicySpec, StagedNetworkPolicySpec, TierSpec, WorkloadEndpointPort,
};

pub use crate::log::LogFormat;

/// Everything that decides about packets on one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Tiers by name.
    pub tiers: BTreeMap<String, TierSpec>,
    /// Policies, namespaced and global.
    pub policies: BTreeMap<PolicyId, PolicyBody>,
    /// Staged policies, which are counted only. One in the shape of Kubernetes is called `knp.default.<name>`.
    pub staged: BTreeMap<PolicyId, StagedBody>,
    /// Profiles by name; `None` for one that cannot be read.
    pub profiles: BTreeMap<String, Option<ProfileSpec>>,
    /// All workload endpoints of the cluster, local ones with their interface.
    pub endpoints: BTreeMap<Arc<EndpointId>, Arc<Endpoint>>,
    /// Network sets by namespace, which is empty for a global one, and name.
    pub network_sets: BTreeMap<Arc<EndpointId>, Arc<NetworkSet>>,
    /// All host endpoints of the cluster; none has a namespace.
    pub host_endpoints: BTreeMap<Arc<EndpointId>, Arc<HostEndpoint>>,
    /// Addresses of this node's own interfaces, as far as known.
    pub host_interfaces: BTreeMap<String, BTreeSet<IpAddr>>,
    /// All pools, disabled ones too.
    pub pools: Vec<Pool>,
    /// What happens to traffic from workloads to this node once egress policy allowed it.
    pub endpoint_to_host: EndpointToHost,
    /// Addresses of all other nodes: only they may send encapsulated packets.
    pub tunnel_peers: BTreeSet<IpAddr>,
    /// Parameters of the node.
    pub options: Options,
}

/// What decides about packets besides policies and those they are about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// Addresses of this node's own interfaces, as far as known.
    pub host_interfaces: BTreeMap<String, BTreeSet<IpAddr>>,
    /// All pools, disabled ones too.
    pub pools: Vec<Pool>,
    /// What happens to traffic from workloads to this node once egress policy allowed it.
    pub endpoint_to_host: EndpointToHost,
    /// Addresses of all other nodes: only they may send encapsulated packets.
    pub tunnel_peers: BTreeSet<IpAddr>,
    /// Parameters of the node.
    pub options: Options,
}

/// Parameters of a node that decide about packets (calico-datamodel 8).
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What no policy of a host endpoint keeps out.
    pub failsafe_inbound: Vec<Failsafe>,
    /// What no policy of a host endpoint keeps in.
    pub failsafe_outbound: Vec<Failsafe>,
    /// Workloads may send IPIP.
    pub ipip_from_workloads: bool,
    /// Workloads may send VXLAN.
    pub vxlan_from_workloads: bool,
    /// Packets connection tracking can make no sense of are judged by policy instead of dropped.
    pub accept_invalid: bool,
    /// Nodes reach each other over VXLAN.
    pub vxlan: bool,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// What `Log` rules write.
    pub log: LogFormat,
    /// About how many rows the merged sets of several policies may have on this node; those of one policy may have half as many
    /// each. With 0 rules are not merged.
    pub merged_rows: usize,
    /// What becomes of packets policy denies.
    pub deny: DenyAction,
    /// Flows that have [`crate::ir::FLOW_MARK`] are stopped.
    pub stop_refused: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            failsafe_inbound: failsafes(&[22, 179, 2379, 2380, 5473, 6443, 6666, 6667], &[68]),
            failsafe_outbound: failsafes(&[179, 2379, 2380, 5473, 6443, 6666, 6667], &[53, 67]),
            ipip_from_workloads: false,
            vxlan_from_workloads: false,
            accept_invalid: false,
            vxlan: false,
            vxlan_port: 4789,
            log: LogFormat::default(),
            // About 130 MB of the kernel's memory for each million.
            merged_rows: 1 << 22,
            deny: DenyAction::default(),
            stop_refused: false,
        }
    }
}

fn failsafes(tcp: &[u16], udp: &[u16]) -> Vec<Failsafe> {
    let all = tcp.iter().map(|port| (6, *port)).chain(udp.iter().map(|port| (17, *port)));
    all.map(|(protocol, port)| Failsafe { protocol, port, net: None }).collect()
}

/// A port of this node, or of others, that stays reachable whatever policy says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failsafe {
    /// Number of a protocol with ports.
    pub protocol: u8,
    /// The port.
    pub port: u16,
    /// Only for peers in here.
    pub net: Option<IpNetwork>,
}

/// A host endpoint: like an endpoint it has labels, profiles, named ports and addresses, the expected ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostEndpoint {
    /// What it has in common with an endpoint; its interface is told by `place`.
    pub endpoint: Endpoint,
    /// Which interfaces it is about.
    pub place: HostPlace,
}

impl HostEndpoint {
    /// Whether it is of this node.
    pub fn is_local(&self) -> bool {
        self.place != HostPlace::Elsewhere
    }
}

/// Which interfaces a host endpoint is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostPlace {
    /// None here: it is of another node.
    #[default]
    Elsewhere,
    /// This one.
    Interface(String),
    /// Those with one of its addresses.
    Addresses,
    /// All of this node that no other host endpoint and no workload has.
    All,
}

/// A staged policy as stored.
#[derive(Clone, Debug, PartialEq)]
pub enum StagedBody {
    /// A StagedNetworkPolicy.
    Network(Box<StagedNetworkPolicySpec>),
    /// A StagedGlobalNetworkPolicy.
    Global(Box<StagedGlobalNetworkPolicySpec>),
    /// A StagedKubernetesNetworkPolicy.
    Kubernetes(Box<StagedKubernetesNetworkPolicySpec>),
    /// Cannot be read.
    Invalid(String),
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

/// `NftablesFilterDenyAction`: what becomes of packets policy denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DenyAction {
    /// They are gone.
    #[default]
    Drop,
    /// Their senders are told.
    Reject,
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
