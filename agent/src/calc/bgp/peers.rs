//! From selected ends to peer configurations: options, de-duplication, what cannot be honoured
//! (bgp-behaviour 2.3, 2.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tortie_bgp::config::NextHopMode;
use tortie_bgp::filter::Filter;
use tortie_bgp::{PeerConfig, PeerId};
use tortie_model::resource::{BgpPeerSpec, NextHopMode as StoredMode};

use super::cluster::{Cluster, DEFAULT_PORT};
use super::export;
use super::selection::{self, Remote, Scope};
use crate::calc::{Problems, duration};

/// A secret lives in Kubernetes, which this agent cannot read. Upstream would go without the password; a session that was
/// meant to be authenticated stays down instead.
const NO_SECRET: &str = "the password's secret cannot be read; the session stays down";

/// All peers of this node. An end belongs to whoever claims it first, and stays claimed when that session cannot be
/// had: nothing less strict takes its place.
pub(super) fn calculate(
    cluster: &Cluster<'_>,
    own_blocks: &BTreeSet<IpNetwork>,
    problems: &mut Problems,
) -> BTreeMap<PeerId, PeerConfig> {
    let mut claimed = BTreeMap::new();
    let mut peers = BTreeMap::new();
    let exports = [false, true].map(|ipv6| export::filter(cluster, own_blocks, ipv6, problems));
    for remote in selection::explicit(cluster, problems).into_iter().chain(selection::mesh(cluster)) {
        let address = remote.end.ip();
        let own = cluster.own_addresses().any(|own| own == address);
        let Some(source) = cluster.own_address_towards(address) else {
            unreachable(cluster, &remote, problems);
            continue;
        };
        let name = remote.options.map(|(name, _)| name);
        if own {
            continue;
        }
        if let Some(first) = claimed.get(&remote.end).copied() {
            superseded(&remote, first, problems);
            continue;
        }
        claimed.insert(remote.end, name);
        let export = &exports[usize::from(address.is_ipv6())];
        match configure(cluster, &remote, source, export) {
            Ok(peer) => {
                peers.insert(remote.end, peer);
            }
            Err(reason) => {
                problems.add(subject(&remote), reason);
            }
        }
    }
    peers
}

/// An end given by address that another BGPPeer has already. Ends found by selectors overlap as a matter of course.
fn superseded(remote: &Remote<'_>, first: Option<&str>, problems: &mut Problems) {
    if let (Some((name, spec)), Some(first)) = (remote.options, first)
        && name != first
        && !spec.peer_ip.is_empty()
        && !remote.reverse
    {
        problems.add(
            format!("BGPPeer {name}"),
            format!(
                "peerIP {}: this node peers with {} by BGPPeer {first} already; no second session",
                spec.peer_ip, remote.end
            ),
        );
    }
}

/// An end of a family without own address. Peers for many nodes need not fit each; one for this node alone does.
fn unreachable(cluster: &Cluster<'_>, remote: &Remote<'_>, problems: &mut Problems) {
    if let Some((name, spec)) = remote.options
        && spec.node == cluster.own_name
        && !spec.peer_ip.is_empty()
    {
        let (family, variable) = if remote.end.is_ipv6() { ("IPv6", "IP6") } else { ("IPv4", "IP") };
        problems.add(
            format!("BGPPeer {name}"),
            format!(
                "peerIP {}: this node has no {family} address ({variable} gives it one); no session",
                spec.peer_ip
            ),
        );
    }
}

fn subject(remote: &Remote<'_>) -> String {
    match remote.options {
        Some((name, _)) => format!("BGPPeer {name}"),
        None => "BGPConfiguration default".to_owned(),
    }
}

fn configure(
    cluster: &Cluster<'_>,
    remote: &Remote<'_>,
    source: IpAddr,
    export: &Filter,
) -> Result<PeerConfig, String> {
    let mut peer = PeerConfig::new(name(remote), remote.remote_as);
    peer.local_address = Some(source);
    peer.passive = remote.passive;
    peer.export = export.clone();
    match remote.options {
        None => mesh_options(cluster, &mut peer)?,
        Some((_, spec)) => explicit_options(cluster, remote, spec, &mut peer)?,
    }
    let local_as = peer.local_as.unwrap_or_else(|| cluster.as_of(cluster.own));
    peer.reflector_client = local_as == peer.remote_as && is_client(cluster, remote);
    Ok(peer)
}

/// A reflector's internal peer is a client unless it is a node with the same cluster id (bgp-behaviour 2.5).
fn is_client(cluster: &Cluster<'_>, remote: &Remote<'_>) -> bool {
    let own = cluster.reflector_id(cluster.own);
    own.is_some() && remote.node.and_then(|node| cluster.reflector_id(node)) != own
}

fn mesh_options(cluster: &Cluster<'_>, peer: &mut PeerConfig) -> Result<(), String> {
    let Some(config) = cluster.default_config() else { return Ok(()) };
    if config.node_mesh_password.is_some() {
        return Err(format!("nodeMeshPassword: {NO_SECRET}"));
    }
    if let Some(time) = seconds("nodeMeshMaxRestartTime", config.node_mesh_max_restart_time.as_deref())? {
        peer.restart_time = time;
    }
    Ok(())
}

fn explicit_options(
    cluster: &Cluster<'_>,
    remote: &Remote<'_>,
    spec: &BgpPeerSpec,
    peer: &mut PeerConfig,
) -> Result<(), String> {
    if spec.password.is_some() {
        return Err(format!("password: {NO_SECRET}"));
    }
    if !spec.filters.is_empty() {
        return Err(format!("filters {:?} are not supported; the session stays down", spec.filters));
    }
    if spec.reachable_by.is_some() {
        return Err("reachableBy is not supported; the session stays down".into());
    }
    if let Some(time) = seconds("maxRestartTime", spec.max_restart_time.as_deref())? {
        peer.restart_time = time;
    }
    peer.keepalive_time = seconds("keepaliveTime", spec.keepalive_time.as_deref())?.filter(|t| !t.is_zero());
    peer.ttl_security = spec.ttl_security.filter(|hops| *hops > 0);
    match spec.source_address.as_deref() {
        None | Some("" | "UseNodeIP") => {}
        Some("None") => peer.local_address = None,
        Some(other) => {
            return Err(format!("sourceAddress '{other}' is neither UseNodeIP nor None; no session"));
        }
    }
    // Both only mean something for an end given by address, and describe this side of it alone.
    if !spec.peer_ip.is_empty() && !remote.reverse {
        peer.local_as = spec.local_as_number.map(|number| number.0);
        peer.allow_own_as = spec.num_allowed_local_as_numbers.unwrap_or(0);
    }
    let internal = peer.local_as.unwrap_or_else(|| cluster.as_of(cluster.own)) == peer.remote_as;
    peer.next_hop = match spec.next_hop_mode {
        Some(StoredMode::Auto) => NextHopMode::Auto,
        Some(StoredMode::SelfAddress) => NextHopMode::OwnAddress,
        Some(StoredMode::Keep) => NextHopMode::Keep,
        None if spec.keep_original_next_hop && !internal => NextHopMode::Keep,
        None => NextHopMode::Auto,
    };
    Ok(())
}

/// A duration option in whole seconds.
fn seconds(field: &str, text: Option<&str>) -> Result<Option<Duration>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    match duration::parse_seconds(text) {
        Some(time) => Ok(Some(time)),
        None => Err(format!("{field} '{text}' is no duration such as 90s or 2m; no session")),
    }
}

/// `Mesh_10_0_0_1`, `Global_10_0_0_1_port_1790`: the names BIRD's status shows under Calico.
fn name(remote: &Remote<'_>) -> String {
    let scope = match remote.scope {
        Scope::Mesh => "Mesh",
        Scope::Global => "Global",
        Scope::Node => "Node",
    };
    let address = remote.end.ip().to_string().replace(['.', ':'], "_");
    match remote.end.port() {
        port if port != DEFAULT_PORT && remote.scope != Scope::Mesh => {
            format!("{scope}_{address}_port_{port}")
        }
        _ => format!("{scope}_{address}"),
    }
}
