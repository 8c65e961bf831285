//! WorkloadEndpoint (calico-datamodel 2.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::Report;
use crate::resource::{WorkloadEndpoint, WorkloadEndpointSpec};
use crate::scalar::Port;

/// Longest name of a Linux interface.
const MAX_INTERFACE_NAME: usize = 15;

pub(super) fn endpoint(endpoint: &WorkloadEndpoint, report: &mut Report) {
    let spec = &endpoint.spec;
    addresses(spec, report);
    if spec.interface_name.len() > MAX_INTERFACE_NAME || spec.interface_name.contains(['/', ' ']) {
        let rule = format!("must be the name of an interface, at most {MAX_INTERFACE_NAME} characters");
        report.bad("spec.interfaceName", &spec.interface_name, rule);
    }
    if !spec.mac.is_empty() && !is_mac(&spec.mac) {
        report.bad("spec.mac", &spec.mac, "must be a MAC address such as ca:fe:1d:52:bb:e9");
    }
    ports(spec, report);
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

fn ports(spec: &WorkloadEndpointSpec, report: &mut Report) {
    for (i, port) in spec.ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        if !port.name.is_empty() && !matches!(port.name.parse(), Ok(Port::Named(_))) {
            report.bad(format!("{path}.name"), &port.name, "must be letters, digits, '_', '.' and '-'");
        }
        if !port.protocol.has_ports() {
            report.bad(format!("{path}.protocol"), port.protocol, "must be TCP, UDP or SCTP");
        }
        if port.port == 0 {
            report.bad(format!("{path}.port"), port.port, "must be from 1 to 65535");
        }
    }
}

/// Six bytes in hexadecimal, joined by colons.
pub(super) fn is_mac(text: &str) -> bool {
    text.len() == 17
        && text.split(':').count() == 6
        && text.split(':').all(|b| b.len() == 2 && b.bytes().all(|b| b.is_ascii_hexdigit()))
}
