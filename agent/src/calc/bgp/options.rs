//! What a BGPPeer, or the mesh, says about a session (bgp-behaviour 2.3, 2.5).

use std::time::Duration;

use tortie_bgp::PeerConfig;
use tortie_bgp::config::NextHopMode;
use tortie_model::resource::{BgpPeerSpec, NextHopMode as StoredMode, SecretSource};

use super::cluster::{Cluster, DEFAULT_PORT};
use super::selection::{Remote, Scope};
use crate::calc::{Secrets, duration};

/// Options of a session of the mesh.
pub(super) fn mesh(cluster: &Cluster<'_>, secrets: &Secrets, peer: &mut PeerConfig) -> Result<(), String> {
    let Some(config) = cluster.default_config() else { return Ok(()) };
    peer.password = password("nodeMeshPassword", config.node_mesh_password.as_ref(), secrets)?;
    if let Some(time) = seconds("nodeMeshMaxRestartTime", config.node_mesh_max_restart_time.as_deref())? {
        peer.restart_time = time;
    }
    Ok(())
}

/// Options of a BGPPeer.
pub(super) fn explicit(
    cluster: &Cluster<'_>,
    secrets: &Secrets,
    remote: &Remote<'_>,
    spec: &BgpPeerSpec,
    peer: &mut PeerConfig,
) -> Result<(), String> {
    peer.password = password("password", spec.password.as_ref(), secrets)?;
    if let Some(gateway) = spec.reachable_by
        && gateway.is_ipv6() != remote.end.is_ipv6()
    {
        return Err(format!(
            "reachableBy {gateway} is of another family than {}; no session",
            remote.end.ip()
        ));
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
    // Both only mean something for an end given by address, and describe this side of it alone; the first counts for
    // workloads too.
    let by_address = !spec.peer_ip.is_empty() && !remote.reverse;
    if by_address || remote.workload.is_some() {
        peer.local_as = spec.local_as_number.map(|number| number.0).filter(|number| *number != 0);
    }
    if by_address {
        peer.allow_own_as = spec.num_allowed_local_as_numbers.unwrap_or(0);
    }
    if remote.workload.is_some() {
        peer.local_address = None;
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

/// Upstream goes without a password it cannot read; a session that was meant to be authenticated stays down instead.
fn password(field: &str, source: Option<&SecretSource>, secrets: &Secrets) -> Result<Option<String>, String> {
    let read = |source| secrets.password(source);
    source.map(read).transpose().map_err(|reason| format!("{field}: {reason}; the session stays down"))
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
pub(super) fn name(remote: &Remote<'_>) -> String {
    let scope = match remote.scope {
        Scope::Mesh => "Mesh",
        Scope::Global => "Global",
        Scope::Node => "Node",
        Scope::LocalWorkload => "Local_Workload",
    };
    let address = remote.end.ip().to_string().replace(['.', ':'], "_");
    match remote.end.port() {
        port if port != DEFAULT_PORT && remote.scope != Scope::Mesh => {
            format!("{scope}_{address}_port_{port}")
        }
        _ => format!("{scope}_{address}"),
    }
}
