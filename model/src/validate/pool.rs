//! IPPool (calico-datamodel 2.1).

use ipnetwork::IpNetwork;

use super::Report;
use crate::resource::{AllowedUse, EncapMode, IpPoolSpec};

pub(super) fn pool(spec: &IpPoolSpec, report: &mut Report) {
    cidr(spec, report);
    block_size(spec, report);
    encapsulation(spec, report);
    uses(spec, report);
    if let Some(selector) = &spec.node_selector {
        report.selector_without_global("spec.nodeSelector", selector);
    }
    if let Some(selector) = &spec.namespace_selector {
        report.selector_without_global("spec.namespaceSelector", selector);
    }
    report.one_of("spec.assignmentMode", spec.assignment_mode.as_deref(), &["Automatic", "Manual"]);
}

fn cidr(spec: &IpPoolSpec, report: &mut Report) {
    report.masked("spec.cidr", &spec.cidr);
    let link_local = if spec.cidr.is_ipv4() { "169.254.0.0/16" } else { "fe80::/10" };
    if link_local.parse().is_ok_and(|range| networks_overlap(&spec.cidr, &range)) {
        report.bad("spec.cidr", spec.cidr, format!("overlaps the link-local range {link_local}"));
    }
}

fn block_size(spec: &IpPoolSpec, report: &mut Report) {
    let (range, family) = if spec.cidr.is_ipv4() { (20..=32, "IPv4") } else { (116..=128, "IPv6") };
    let size = spec.block_prefix();
    if !range.contains(&size) {
        let rule =
            format!("block size of an {family} pool must be from {} to {}", range.start(), range.end());
        report.bad("spec.blockSize", size, rule);
    } else if spec.cidr.prefix() > size && !spec.disabled {
        let rule = format!("a pool is at least as large as its blocks, which are /{size}");
        report.bad("spec.cidr", spec.cidr, rule);
    }
}

fn encapsulation(spec: &IpPoolSpec, report: &mut Report) {
    if spec.ipip() != EncapMode::Never && spec.vxlan() != EncapMode::Never {
        report.bad("spec.ipipMode", spec.ipip(), "ipipMode and vxlanMode cannot both be enabled");
    }
    if spec.cidr.is_ipv6() && spec.ipip() != EncapMode::Never {
        report.bad("spec.ipipMode", spec.ipip(), "IPIP is not supported on an IPv6 pool");
    }
}

fn uses(spec: &IpPoolSpec, report: &mut Report) {
    let uses = spec.allowed_uses.as_deref().unwrap_or_default();
    let shown = || serde_json::to_string(uses).unwrap_or_default();
    if uses.len() > 10 {
        report.bad("spec.allowedUses", shown(), "at most 10 uses may be listed");
    }
    if spec.allows(AllowedUse::Tunnel) && spec.namespace_selector.as_deref().is_some_and(|s| !s.is_empty()) {
        report.bad("spec.allowedUses", shown(), "use Tunnel and namespaceSelector exclude each other");
    }
    if !spec.allows(AllowedUse::LoadBalancer) {
        return;
    }
    if spec.allows(AllowedUse::Workload) || spec.allows(AllowedUse::Tunnel) {
        report.bad("spec.allowedUses", shown(), "LoadBalancer cannot be combined with other uses");
    }
    if spec.ipip() != EncapMode::Never || spec.vxlan() != EncapMode::Never {
        report.bad("spec.allowedUses", shown(), "a LoadBalancer pool has no encapsulation");
    }
    if spec.disable_bgp_export {
        report.bad("spec.disableBGPExport", true, "must be false on a LoadBalancer pool");
    }
    if spec.node_selector.as_deref().is_some_and(|selector| selector != "all()") {
        let selector = spec.node_selector.as_deref().unwrap_or_default();
        report.bad("spec.nodeSelector", selector, "must be all() on a LoadBalancer pool");
    }
}

/// Whether two networks share an address; networks of different families never do.
pub fn networks_overlap(a: &IpNetwork, b: &IpNetwork) -> bool {
    match (a, b) {
        (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(*b),
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(*b),
        _ => false,
    }
}
