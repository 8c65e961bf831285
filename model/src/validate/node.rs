//! Node (calico-datamodel 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Report;
use super::endpoint::is_mac;
use crate::resource::{NodeBgp, NodeSpec};

pub(super) fn node(spec: &NodeSpec, report: &mut Report) {
    if let Some(bgp) = &spec.bgp {
        bgp_settings(bgp, report);
    }
    if let Some(wireguard) = &spec.wireguard {
        let (v4, v6) = (&wireguard.interface_ipv4_address, &wireguard.interface_ipv6_address);
        if !v4.is_empty() && v4.parse::<Ipv4Addr>().is_err() {
            report.bad("spec.wireguard.interfaceIPv4Address", v4, "must be an IPv4 address");
        }
        if !v6.is_empty() && v6.parse::<Ipv6Addr>().is_err() {
            report.bad("spec.wireguard.interfaceIPv6Address", v6, "must be an IPv6 address");
        }
    }
    for (path, mac) in [
        ("spec.vxlanTunnelMACAddr", &spec.vxlan_tunnel_mac_addr),
        ("spec.vxlanTunnelMACAddrV6", &spec.vxlan_tunnel_mac_addr_v6),
    ] {
        if let Some(mac) = mac.as_deref().filter(|mac| !is_mac(mac)) {
            report.bad(path, mac, "must be a MAC address such as 66:1e:00:00:00:01");
        }
    }
    for (i, reference) in spec.orch_refs.iter().enumerate() {
        if reference.orchestrator.is_empty() {
            report.object(format!("spec.orchRefs[{i}].orchestrator"), "is required");
        }
    }
    for (i, address) in spec.addresses.iter().enumerate() {
        let path = format!("spec.addresses[{i}]");
        if !is_address_or_network(&address.address) {
            report.bad(format!("{path}.address"), &address.address, "must be an IP address");
        }
        let kind = Some(address.address_type.as_str()).filter(|t| !t.is_empty());
        report.one_of(&format!("{path}.type"), kind, &["CalicoNodeIP", "InternalIP", "ExternalIP"]);
    }
    for (i, interface) in spec.interfaces.iter().enumerate() {
        for (j, address) in interface.addresses.iter().enumerate().filter(|(_, a)| !is_address_or_network(a))
        {
            let path = format!("spec.interfaces[{i}].addresses[{j}]");
            report.bad(path, address, "must be an IP address");
        }
    }
}

fn bgp_settings(bgp: &NodeBgp, report: &mut Report) {
    if *bgp == NodeBgp::default() {
        report.object("spec.bgp", "must not be an empty object; leave it out instead");
    }
    if let Some(address) = bgp.ipv4_address.filter(|a| !a.is_ipv4()) {
        report.bad("spec.bgp.ipv4Address", address, "must be an IPv4 address");
    }
    if let Some(address) = bgp.ipv6_address.filter(|a| !a.is_ipv6()) {
        report.bad("spec.bgp.ipv6Address", address, "must be an IPv6 address");
    }
}

fn is_address_or_network(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<ipnetwork::IpNetwork>().is_ok()
}
