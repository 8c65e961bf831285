//! Messages between the agent and its clients on the same machine: the CNI plugin and tortiectl.
//!
//! HTTP/1.1 with JSON bodies over the unix socket [`DEFAULT_SOCKET`], mode 0600. A failure is a status ≥ 400 with an
//! [`ErrorBody`].
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/workload/attach` | [`AttachRequest`] | [`AttachResponse`] |
//! | `POST /v1/workload/detach` | [`DetachRequest`] | `{}` |
//! | `POST /v1/workload/check` | [`AttachRequest`] | `{}` |
//! | `GET /v1/node/status` | | [`NodeStatus`] |
//! | `GET /v1/node/ruleset` | | text: the wanted table of rules, as `nft -f` takes it |
//! | `GET /v1/bgp/routes?view=table\|best\|received\|sent&peer=&from=` | | [`BgpRoutes`]; `from` is `next` of the page before |
//! | `GET /v1/bgp/explain?prefix=&peer=` | | [`BgpExplanation`] |
//! | `GET /live`, `GET /ready` | | text; 503 when not |

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

mod bgp;

pub use bgp::{
    BgpAnnouncement, BgpAttributes, BgpExplanation, BgpKernel, BgpPath, BgpPeerName, BgpRoute, BgpRoutes,
    BgpStanding, BgpTold,
};

/// Where the agent listens unless told otherwise (`TORTIE_SOCKET`).
pub const DEFAULT_SOCKET: &str = "/var/run/tortie/tortie.sock";

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The whole chain of causes, outermost first.
    pub error: String,
}

/// Give a workload an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachRequest {
    /// Name of the network, such as the CNI network's; part of the IPAM handle.
    pub network: String,
    /// Container id.
    pub container_id: String,
    /// Path of the workload's network namespace.
    pub netns: String,
    /// Interface inside, such as `eth0`.
    pub interface: String,
    /// Kubernetes pod, when the orchestrator is Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// Labels of the endpoint, outside Kubernetes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Addresses wanted, at most one a family; none means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Pools to take addresses from, by CIDR or name; none means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
    /// Whether an IPv4 address is wanted; absent means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign_ipv4: Option<bool>,
    /// Whether an IPv6 address is wanted; absent means only when one, or an IPv6 pool by its CIDR, is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign_ipv6: Option<bool>,
    /// MTU; 0 lets the agent choose.
    #[serde(default)]
    pub mtu: u32,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What the workload got. The same request again gives the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachResponse {
    /// Host side of the veth.
    pub host_interface: String,
    /// MAC of the host side.
    pub host_mac: String,
    /// MAC of the workload's side.
    pub mac: String,
    /// MTU of both.
    pub mtu: u32,
    /// Addresses, each a /32 or /128.
    pub addresses: Vec<IpNetwork>,
}

/// Take it away again; succeeds when there is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DetachRequest {
    /// Name of the network.
    pub network: String,
    /// Container id.
    pub container_id: String,
    /// Interface inside.
    pub interface: String,
    /// Kubernetes pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
}

/// The node's BGP sessions and state, for `tortiectl node status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Node name.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// In sync with the datastore and applied at least once.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// IPv4 and IPv6 sessions.
    pub peers: Vec<PeerStatus>,
}

/// One BGP session, in the columns of `calicoctl node status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Address of the peer, with its port when it is not 179.
    pub address: String,
    /// Where the session comes from.
    pub peer_type: PeerType,
    /// BIRD's words: `up`, `start`, `down`.
    pub state: String,
    /// When the state began: `HH:MM:SS` within a day, else the date.
    pub since: String,
    /// FSM state and, when not up, the last error.
    pub info: String,
    /// Prefixes accepted from the peer.
    #[serde(default)]
    pub received: usize,
    /// Prefixes announced to it.
    #[serde(default)]
    pub announced: usize,
}

/// Where a session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerType {
    /// The full mesh.
    Mesh,
    /// A BGPPeer for one node or selected ones.
    Node,
    /// A BGPPeer for all nodes.
    Global,
    /// A workload of the node.
    LocalWorkload,
}

impl std::fmt::Display for PeerType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            PeerType::Mesh => "node-to-node mesh",
            PeerType::Node => "node specific",
            PeerType::Global => "global",
            PeerType::LocalWorkload => "local workload",
        })
    }
}
