//! BGPConfiguration (calico-datamodel 2.10) and BGPPeer (2.11).

use std::net::{IpAddr, SocketAddr};

use super::Report;
use crate::resource::{BgpConfiguration, BgpConfigurationSpec, BgpPeerSpec};

const LOG_LEVELS: [&str; 6] = ["trace", "debug", "info", "warning", "error", "fatal"];

pub(super) fn configuration(config: &BgpConfiguration, report: &mut Report) {
    let (name, spec) = (config.metadata.name.as_str(), &config.spec);
    if name != "default" {
        cluster_wide_only(spec, report);
        if !name.is_empty() && !name.starts_with("node.") {
            report.bad("metadata.name", name, "must be 'default' or 'node.<node name>'");
        }
    }
    log_level("spec.logSeverityScreen", spec.log_severity_screen.as_deref().unwrap_or_default(), report);
    if spec.listen_port == Some(0) {
        report.bad("spec.listenPort", 0, "must be from 1 to 65535");
    }
    service_ranges(spec, report);
    let aggregation = spec.service_load_balancer_aggregation.as_deref();
    report.one_of("spec.serviceLoadBalancerAggregation", aggregation, &["Enabled", "Disabled"]);
    report.one_of("spec.bindMode", spec.bind_mode.as_deref(), &["None", "NodeIP"]);
    report.duration("spec.nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time.as_deref());
    let programs = ["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"];
    report.one_of("spec.programClusterRoutes", spec.program_cluster_routes.as_deref(), &programs);
    route_priority("spec.ipv4NormalRoutePriority", spec.ipv4_normal_route_priority, report);
    route_priority("spec.ipv6NormalRoutePriority", spec.ipv6_normal_route_priority, report);
    for (i, interface) in spec.ignored_interfaces.iter().enumerate() {
        if interface.is_empty() || interface.contains(['/', ' ', '"']) {
            let path = format!("spec.ignoredInterfaces[{i}]");
            report.bad(path, interface, "must be the name of an interface, '*' for any characters");
        }
    }
    mesh(spec, report);
    communities(spec, report);
    workload_peering(spec, report);
}

/// A level in any case, or nothing.
pub(super) fn log_level(path: &str, level: &str, report: &mut Report) {
    if !level.is_empty() && !LOG_LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
        report.bad(path, level, "must be one of Trace, Debug, Info, Warning, Error, Fatal");
    }
}

/// Greatest metric of a route upstream accepts.
const GREATEST_ROUTE_PRIORITY: u32 = 2_147_483_646;

pub(super) fn route_priority(path: &str, priority: Option<u32>, report: &mut Report) {
    if let Some(priority) = priority.filter(|p| !(1..=GREATEST_ROUTE_PRIORITY).contains(p)) {
        report.bad(path, priority, format!("must be from 1 to {GREATEST_ROUTE_PRIORITY}"));
    }
}

/// What a community looks like.
pub(super) const COMMUNITY_RULE: &str = "must be aa:nn with 16 bits each, or aa:nn:mm with 32 bits each";

fn cluster_wide_only(spec: &BgpConfigurationSpec, report: &mut Report) {
    let rule = "may only be set in the BGPConfiguration named default";
    for (path, is_set) in [
        ("spec.nodeToNodeMeshEnabled", spec.node_to_node_mesh_enabled.is_some()),
        ("spec.asNumber", spec.as_number.is_some()),
        ("spec.serviceExternalIPs", !spec.service_external_ips.is_empty()),
        ("spec.serviceClusterIPs", !spec.service_cluster_ips.is_empty()),
        ("spec.serviceLoadBalancerIPs", !spec.service_load_balancer_ips.is_empty()),
        ("spec.nodeMeshPassword", spec.node_mesh_password.is_some()),
        ("spec.nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time.is_some()),
    ] {
        if is_set {
            report.object(path, rule);
        }
    }
}

fn service_ranges(spec: &BgpConfigurationSpec, report: &mut Report) {
    for (field, ranges) in [
        ("serviceLoadBalancerIPs", &spec.service_load_balancer_ips),
        ("serviceExternalIPs", &spec.service_external_ips),
        ("serviceClusterIPs", &spec.service_cluster_ips),
    ] {
        for (i, range) in ranges.iter().enumerate() {
            report.masked(&format!("spec.{field}[{i}].cidr"), &range.cidr);
        }
    }
}

fn mesh(spec: &BgpConfigurationSpec, report: &mut Report) {
    if spec.node_to_node_mesh_enabled != Some(false) {
        return;
    }
    let rule = "has no meaning when nodeToNodeMeshEnabled is false";
    if spec.node_mesh_password.is_some() {
        report.object("spec.nodeMeshPassword", rule);
    }
    if spec.node_mesh_max_restart_time.is_some() {
        report.object("spec.nodeMeshMaxRestartTime", rule);
    }
}

fn communities(spec: &BgpConfigurationSpec, report: &mut Report) {
    for (i, community) in spec.communities.iter().enumerate() {
        if community.name.is_empty() {
            report.object(format!("spec.communities[{i}].name"), "is required");
        }
        if !is_community(&community.value) {
            report.bad(format!("spec.communities[{i}].value"), &community.value, COMMUNITY_RULE);
        }
    }
    if !spec.communities.is_empty() && spec.prefix_advertisements.is_empty() {
        report.object("spec.communities", "needs prefixAdvertisements");
    }
    for (i, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        report.masked(&format!("spec.prefixAdvertisements[{i}].cidr"), &advertisement.cidr);
        for (j, community) in advertisement.communities.iter().enumerate() {
            if !is_community(community) && !spec.communities.iter().any(|c| c.name == *community) {
                let path = format!("spec.prefixAdvertisements[{i}].communities[{j}]");
                report.bad(path, community, "is neither a community nor the name of one in spec.communities");
            }
        }
    }
}

/// `aa:nn` or `aa:nn:mm` (RFC 1997, RFC 8092).
pub(super) fn is_community(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.len() {
        2 => parts.iter().all(|part| part.parse::<u16>().is_ok()),
        3 => parts.iter().all(|part| part.parse::<u32>().is_ok()),
        _ => false,
    }
}

fn workload_peering(spec: &BgpConfigurationSpec, report: &mut Report) {
    for (path, address, ipv4) in [
        ("spec.localWorkloadPeeringIPV4", &spec.local_workload_peering_ipv4, true),
        ("spec.localWorkloadPeeringIPV6", &spec.local_workload_peering_ipv6, false),
    ] {
        let text = address.as_deref().unwrap_or_default();
        if !text.is_empty() && text.parse::<IpAddr>().map(|a| a.is_ipv4()) != Ok(ipv4) {
            let family = if ipv4 { "an IPv4" } else { "an IPv6" };
            report.bad(path, text, format!("must be {family} address"));
        }
    }
}

pub(super) fn peer(spec: &BgpPeerSpec, report: &mut Report) {
    let peer_ip = peer_address(&spec.peer_ip);
    if !spec.peer_ip.is_empty() && peer_ip.is_none() {
        report.bad("spec.peerIP", &spec.peer_ip, "must be an IP address, v4:port or [v6]:port");
    }
    report.selector_without_global("spec.nodeSelector", &spec.node_selector);
    report.selector_without_global("spec.peerSelector", &spec.peer_selector);
    report.selector_without_global("spec.localWorkloadSelector", &spec.local_workload_selector);
    peer_combinations(spec, report);
    report.one_of("spec.sourceAddress", spec.source_address.as_deref(), &["UseNodeIP", "None"]);
    report.one_of("spec.reversePeering", spec.reverse_peering.as_deref(), &["Auto", "Manual"]);
    report.duration("spec.maxRestartTime", spec.max_restart_time.as_deref());
    report.duration("spec.keepaliveTime", spec.keepalive_time.as_deref());
    if let Some(gateway) = spec.reachable_by {
        match peer_ip {
            None => report.bad("spec.reachableBy", gateway, "needs peerIP"),
            Some(peer) if peer.is_ipv4() != gateway.is_ipv4() => {
                report.bad("spec.reachableBy", gateway, "must be of the same family as peerIP");
            }
            Some(_) => {}
        }
    }
}

fn peer_combinations(spec: &BgpPeerSpec, report: &mut Report) {
    if !spec.node.is_empty() && !spec.node_selector.is_empty() {
        report.bad("spec.nodeSelector", &spec.node_selector, "node and nodeSelector exclude each other");
    }
    if !spec.peer_ip.is_empty() && !spec.peer_selector.is_empty() {
        report.bad("spec.peerSelector", &spec.peer_selector, "peerIP and peerSelector exclude each other");
    }
    if !spec.peer_selector.is_empty()
        && let Some(number) = spec.as_number
    {
        report.bad("spec.asNumber", number, "comes from the peer's Node when peerSelector is used");
    }
    if !spec.local_workload_selector.is_empty() {
        if !spec.peer_ip.is_empty() || !spec.peer_selector.is_empty() {
            let rule = "excludes peerIP and peerSelector";
            report.bad("spec.localWorkloadSelector", &spec.local_workload_selector, rule);
        }
        if spec.as_number.is_none() {
            report.object("spec.asNumber", "is required with localWorkloadSelector");
        }
    }
    if spec.keep_original_next_hop && spec.next_hop_mode.is_some() {
        let rule = "keepOriginalNextHop and nextHopMode exclude each other";
        report.bad("spec.keepOriginalNextHop", true, rule);
    }
}

/// The address in `ip`, `v4:port` or `[v6]:port`.
fn peer_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}
