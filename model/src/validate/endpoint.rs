//! WorkloadEndpoint (calico-datamodel 2.3) and HostEndpoint (2.4).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::Report;
use crate::resource::{HostEndpointSpec, QosControls, WorkloadEndpoint, WorkloadEndpointSpec};
use crate::scalar::{Port, Protocol};
use crate::strict::shown;

/// Longest name of a Linux interface.
const MAX_INTERFACE_NAME: usize = 15;

pub(super) fn endpoint(endpoint: &WorkloadEndpoint, report: &mut Report) {
    let spec = &endpoint.spec;
    addresses(spec, report);
    interface_name(&spec.interface_name, report);
    if !spec.mac.is_empty() && !is_mac(&spec.mac) {
        report.bad("spec.mac", &spec.mac, "must be a MAC address such as ca:fe:1d:52:bb:e9");
    }
    for (i, port) in spec.ports.iter().enumerate() {
        named_port(&format!("spec.ports[{i}]"), &port.name, port.protocol, port.port, report);
    }
    if let Some(qos) = &spec.qos_controls {
        qos_controls(qos, report);
    }
    for (i, source) in spec.allow_spoofed_source_prefixes.iter().enumerate() {
        if source.parse::<IpNetwork>().is_err() {
            report.bad(format!("spec.allowSpoofedSourcePrefixes[{i}]"), source, "must be a network");
        }
    }
}

fn addresses(spec: &WorkloadEndpointSpec, report: &mut Report) {
    for (i, network) in spec.ip_networks.iter().enumerate() {
        let whole = if network.is_ipv4() { 32 } else { 128 };
        if network.prefix() != whole {
            report.bad(format!("spec.ipNetworks[{i}]"), network, format!("must be one address, a /{whole}"));
        }
    }
    for (i, nat) in spec.ip_nats.iter().enumerate() {
        if !spec.ip_networks.iter().any(|network| network.ip() == nat.internal_ip) {
            let path = format!("spec.ipNATs[{i}].internalIP");
            report.bad(path, nat.internal_ip, "must be one of the addresses in ipNetworks");
        }
        if nat.internal_ip.is_ipv4() != nat.external_ip.is_ipv4() {
            let path = format!("spec.ipNATs[{i}].externalIP");
            report.bad(path, nat.external_ip, "must be of the same family as internalIP");
        }
    }
    if !spec.ipv4_gateway.is_empty() && spec.ipv4_gateway.parse::<Ipv4Addr>().is_err() {
        report.bad("spec.ipv4Gateway", &spec.ipv4_gateway, "must be an IPv4 address");
    }
    if !spec.ipv6_gateway.is_empty() && spec.ipv6_gateway.parse::<Ipv6Addr>().is_err() {
        report.bad("spec.ipv6Gateway", &spec.ipv6_gateway, "must be an IPv6 address");
    }
}

fn interface_name(name: &str, report: &mut Report) {
    if name.len() > MAX_INTERFACE_NAME || name.contains(['/', ' ']) {
        let rule = format!("must be the name of an interface, at most {MAX_INTERFACE_NAME} characters");
        report.bad("spec.interfaceName", name, rule);
    }
}

fn named_port(path: &str, name: &str, protocol: Protocol, port: u16, report: &mut Report) {
    if !name.is_empty() && !matches!(name.parse(), Ok(Port::Named(_))) {
        report.bad(format!("{path}.name"), name, "must be letters, digits, '_', '.' and '-'");
    }
    if !protocol.has_ports() {
        report.bad(format!("{path}.protocol"), protocol, "must be TCP, UDP or SCTP");
    }
    if port == 0 {
        report.bad(format!("{path}.port"), port, "must be from 1 to 65535");
    }
}

fn qos_controls(qos: &QosControls, report: &mut Report) {
    let limits = [
        ("ingressBandwidth", qos.ingress_bandwidth),
        ("egressBandwidth", qos.egress_bandwidth),
        ("ingressBurst", qos.ingress_burst),
        ("egressBurst", qos.egress_burst),
        ("ingressPeakrate", qos.ingress_peakrate),
        ("egressPeakrate", qos.egress_peakrate),
        ("ingressMinburst", qos.ingress_minburst),
        ("egressMinburst", qos.egress_minburst),
        ("ingressPacketRate", qos.ingress_packet_rate),
        ("egressPacketRate", qos.egress_packet_rate),
        ("ingressPacketBurst", qos.ingress_packet_burst),
        ("egressPacketBurst", qos.egress_packet_burst),
        ("ingressMaxConnections", qos.ingress_max_connections),
        ("egressMaxConnections", qos.egress_max_connections),
    ];
    for (name, limit) in limits.into_iter().filter(|(_, limit)| *limit < 0) {
        report.bad(format!("spec.qosControls.{name}"), limit, "must not be negative");
    }
    if let Some(dscp) = &qos.dscp {
        let fits = dscp.as_u64().is_some_and(|n| n <= 63)
            || dscp.as_str().is_some_and(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric()));
        if !fits {
            report.bad(
                "spec.qosControls.dscp",
                shown(dscp),
                "must be from 0 to 63, or the name of a code point",
            );
        }
    }
}

pub(super) fn host_endpoint(spec: &HostEndpointSpec, report: &mut Report) {
    if spec.node.is_empty() {
        report.object("spec.node", "is required");
    }
    if spec.interface_name.is_empty() && spec.expected_ips.is_empty() {
        report.object("spec.interfaceName", "at least one of interfaceName and expectedIPs is required");
    }
    interface_name(&spec.interface_name, report);
    for (i, port) in spec.ports.iter().enumerate() {
        named_port(&format!("spec.ports[{i}]"), &port.name, port.protocol, port.port, report);
    }
}

/// Six bytes in hexadecimal, joined by colons.
pub(super) fn is_mac(text: &str) -> bool {
    text.len() == 17
        && text.split(':').count() == 6
        && text.split(':').all(|b| b.len() == 2 && b.bytes().all(|b| b.is_ascii_hexdigit()))
}
