//! Which BGPPeers give this node a peering, and with whom: selectors resolved, options untouched
//! (bgp-behaviour 2.2).

use std::net::{IpAddr, SocketAddr};

use tortie_model::resource::{BgpPeerSpec, Node};
use tortie_model::selector::Selector;

use super::cluster::{Cluster, DEFAULT_PORT};
use super::workloads::Workload;
use crate::calc::Problems;

/// Where a peering comes from; part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Mesh,
    Global,
    Node,
    LocalWorkload,
}

/// One end this node is to peer with.
#[derive(Clone, Debug)]
pub(super) struct Remote<'a> {
    pub(super) scope: Scope,
    pub(super) end: SocketAddr,
    pub(super) remote_as: u32,
    /// The workload at the other end.
    pub(super) workload: Option<&'a Workload>,
    /// The node at the other end, when the peering selects nodes rather than an address.
    pub(super) node: Option<&'a Node>,
    pub(super) passive: bool,
    /// Name and options; absent for the mesh.
    pub(super) options: Option<(&'a str, &'a BgpPeerSpec)>,
    /// The other direction of a peering of which this node is the remote end.
    pub(super) reverse: bool,
}

/// Nodes a BGPPeer is for.
enum Selected {
    All,
    Node(String),
    Matching(Selector),
}

/// The remote end of a BGPPeer.
enum End {
    Matching(Selector),
    Address {
        ip: IpAddr,
        port: Option<u16>,
        remote_as: u32,
    },
    /// Workloads of the node itself.
    Local {
        selector: Selector,
        remote_as: u32,
    },
}

/// A BGPPeer whose references are readable.
struct Peering<'a> {
    name: &'a str,
    spec: &'a BgpPeerSpec,
    selected: Selected,
    end: End,
}

/// All ends given by BGPPeers. Whoever comes first has an address and port: global peerings, those for this node, then
/// with its workloads, then reverse ones.
pub(super) fn explicit<'a>(
    cluster: &Cluster<'a>,
    workloads: &'a [Workload],
    problems: &mut Problems,
) -> Vec<Remote<'a>> {
    let mut peerings = Vec::new();
    for (name, spec) in &cluster.cache.bgp_peers {
        match Peering::read(name, spec) {
            Ok(peering) => peerings.push(peering),
            Err(reason) => {
                problems.add(format!("BGPPeer {name}"), reason);
            }
        }
    }
    let for_all = |p: &&Peering<'_>| matches!(p.selected, Selected::All);
    let for_us = |p: &&Peering<'_>| p.selects(cluster.own_name, cluster.own);
    let global = peerings.iter().filter(for_all).flat_map(|p| p.remotes(cluster, Scope::Global));
    let node = peerings.iter().filter(|p| !for_all(p) && for_us(p));
    let node = node.flat_map(|p| p.remotes(cluster, Scope::Node));
    let local = peerings.iter().filter(for_us).flat_map(|p| p.workloads(cluster, workloads));
    let reverse = peerings.iter().flat_map(|p| p.reverse_remotes(cluster));
    global.chain(node).chain(local).chain(reverse).collect()
}

impl<'a> Peering<'a> {
    fn read(name: &'a str, spec: &'a BgpPeerSpec) -> Result<Peering<'a>, String> {
        let selector = |field: &str, text: &str| {
            text.parse::<Selector>().map_err(|error| format!("{field}: {error}; no session"))
        };
        let selected = match (spec.node.as_str(), spec.node_selector.as_str()) {
            ("", "") => Selected::All,
            (node, "") => Selected::Node(node.to_owned()),
            ("", text) => Selected::Matching(selector("nodeSelector", text)?),
            _ => return Err("node and nodeSelector exclude each other; no session".into()),
        };
        let remote_as = || {
            let number = spec.as_number.map(|number| number.0).filter(|number| *number != 0);
            number.ok_or("asNumber is missing; no session")
        };
        let end = match (spec.peer_ip.as_str(), spec.peer_selector.as_str()) {
            ("", "") if !spec.local_workload_selector.is_empty() => End::Local {
                selector: selector("localWorkloadSelector", &spec.local_workload_selector)?,
                remote_as: remote_as()?,
            },
            _ if !spec.local_workload_selector.is_empty() => {
                return Err("localWorkloadSelector excludes peerIP and peerSelector; no session".into());
            }
            ("", "") => return Err("neither peerIP nor peerSelector; no session".into()),
            ("", text) if spec.as_number.is_none() => End::Matching(selector("peerSelector", text)?),
            ("", _) => return Err("peerSelector and asNumber exclude each other; no session".into()),
            (text, "") => {
                let (ip, port) = parse_end(text).ok_or_else(|| {
                    format!("peerIP '{text}' is no address, v4:port or [v6]:port; no session")
                })?;
                End::Address { ip, port, remote_as: remote_as()? }
            }
            _ => return Err("peerIP and peerSelector exclude each other; no session".into()),
        };
        Ok(Peering { name, spec, selected, end })
    }

    fn selects(&self, name: &str, node: &Node) -> bool {
        match &self.selected {
            Selected::All => true,
            Selected::Node(wanted) => wanted == name,
            Selected::Matching(selector) => selector.matches(&node.metadata.labels),
        }
    }

    /// The ends this node has to peer with when it is among the selected ones.
    fn remotes(&self, cluster: &Cluster<'a>, scope: Scope) -> Vec<Remote<'a>> {
        match &self.end {
            End::Local { .. } => Vec::new(),
            End::Matching(selector) => {
                let nodes = cluster.others().filter(|(_, node)| selector.matches(&node.metadata.labels));
                nodes
                    .flat_map(|(name, node)| self.to_node(cluster, scope, name, node, false, [false, true]))
                    .collect()
            }
            End::Address { ip, port, remote_as } => {
                let known = cluster.node_at(*ip);
                // Only with the node's AS too is it that node's BGP, and its port known.
                let listening = known.filter(|(_, node)| cluster.as_of(node) == *remote_as);
                let port = port.or(listening.map(|(name, _)| cluster.port_of(name))).unwrap_or(DEFAULT_PORT);
                let own = cluster.own_address_towards(*ip);
                let passive =
                    scope == Scope::Global && known.is_some() && own.is_some_and(|own| is_passive(own, *ip));
                vec![Remote {
                    scope,
                    end: SocketAddr::new(*ip, port),
                    remote_as: *remote_as,
                    workload: None,
                    node: None,
                    passive,
                    options: Some((self.name, self.spec)),
                    reverse: false,
                }]
            }
        }
    }

    /// The ends this node has to peer with because it is itself a remote end, unless reversal is switched off.
    fn reverse_remotes(&self, cluster: &Cluster<'a>) -> Vec<Remote<'a>> {
        if self.spec.reverse_peering.as_deref() == Some("Manual") {
            return Vec::new();
        }
        let families: &[bool] =
            match &self.end {
                End::Matching(selector) if selector.matches(&cluster.own.metadata.labels) => &[false, true],
                End::Address { ip, port, remote_as }
                    if cluster.own_address_towards(*ip) == Some(*ip)
                        && cluster.as_of(cluster.own) == *remote_as
                        && port.is_none_or(|port| port == cluster.port_of(cluster.own_name)) =>
                {
                    if ip.is_ipv6() { &[true] } else { &[false] }
                }
                End::Matching(_) | End::Address { .. } | End::Local { .. } => return Vec::new(),
            };
        let selected = cluster.others().filter(|(name, node)| self.selects(name, node));
        let ends = selected.flat_map(|(name, node)| {
            self.to_node(cluster, Scope::Node, name, node, true, families.iter().copied())
        });
        ends.collect()
    }

    /// The workloads of this node it has to peer with when it is among the selected ones. It is they who dial.
    fn workloads(&self, cluster: &Cluster<'a>, workloads: &'a [Workload]) -> Vec<Remote<'a>> {
        let End::Local { selector, remote_as } = &self.end else { return Vec::new() };
        let selected = workloads.iter().filter(|workload| selector.matches(&workload.labels));
        let ends = selected.flat_map(|workload| {
            let reachable =
                workload.addresses.iter().filter(|ip| cluster.own_address_towards(**ip).is_some());
            reachable.map(move |ip| (workload, *ip))
        });
        let remote = |(workload, ip)| Remote {
            scope: Scope::LocalWorkload,
            end: SocketAddr::new(ip, DEFAULT_PORT),
            remote_as: *remote_as,
            workload: Some(workload),
            node: None,
            passive: true,
            options: Some((self.name, self.spec)),
            reverse: false,
        };
        ends.map(remote).collect()
    }

    fn to_node(
        &self,
        cluster: &Cluster<'a>,
        scope: Scope,
        name: &str,
        node: &'a Node,
        reverse: bool,
        families: impl IntoIterator<Item = bool>,
    ) -> Vec<Remote<'a>> {
        let addresses = families.into_iter().filter_map(|ipv6| cluster.address(node, ipv6));
        let remote = |address| Remote {
            scope,
            end: SocketAddr::new(address, cluster.port_of(name)),
            remote_as: cluster.as_of(node),
            workload: None,
            node: Some(node),
            passive: false,
            options: Some((self.name, self.spec)),
            reverse,
        };
        addresses.map(remote).collect()
    }
}

/// The full mesh: a session with each other node that is no reflector, unless this node is one (bgp-behaviour 2.1).
pub(super) fn mesh<'a>(cluster: &Cluster<'a>) -> Vec<Remote<'a>> {
    let enabled = cluster.default_config().and_then(|c| c.node_to_node_mesh_enabled).unwrap_or(true);
    if !enabled || cluster.reflector_id(cluster.own).is_some() {
        return Vec::new();
    }
    let members = cluster.others().filter(|(_, node)| cluster.reflector_id(node).is_none());
    let ends = members.flat_map(|(name, node)| {
        let addresses = [false, true].into_iter().filter_map(move |ipv6| {
            Some((cluster.address(cluster.own, ipv6)?, cluster.address(node, ipv6)?))
        });
        addresses.map(move |(own, address)| Remote {
            scope: Scope::Mesh,
            end: SocketAddr::new(address, cluster.port_of(name)),
            remote_as: cluster.as_of(node),
            workload: None,
            node: Some(node),
            passive: is_passive(own, address),
            options: None,
            reverse: false,
        })
    });
    ends.collect()
}

/// Exactly one side dials: the one whose address is not smaller *as text*. Both sides must agree in a mixed cluster, so
/// the order is upstream's (bgp-behaviour 2.1).
fn is_passive(own: IpAddr, peer: IpAddr) -> bool {
    peer.to_string() > own.to_string()
}

/// `address`, `v4:port` or `[v6]:port`.
fn parse_end(text: &str) -> Option<(IpAddr, Option<u16>)> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some((ip, None)),
        Err(_) => {
            text.parse::<SocketAddr>().ok().map(|end| (end.ip(), Some(end.port()).filter(|port| *port != 0)))
        }
    }
}
