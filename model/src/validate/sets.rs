//! NetworkSet, GlobalNetworkSet and IPReservation (calico-datamodel 2.8), IPAMConfiguration and BlockAffinity (2.13).

use super::Report;
use crate::ObjectMeta;
use crate::defaults::NAMESPACE_LABEL;
use crate::resource::{BlockAffinitySpec, IpamConfigurationSpec, listed_network};

const MAX_BLOCKS_PER_HOST: i64 = 1_000_000;
const MAX_COOLDOWN_SECONDS: i64 = 1200;

pub(super) fn network_set(metadata: &ObjectMeta, nets: &[String], report: &mut Report) {
    if let Some(value) = metadata.labels.get(NAMESPACE_LABEL) {
        let rule = "is set by Calico itself and may not be a label of a network set";
        report.bad(format!("metadata.labels[{NAMESPACE_LABEL}]"), value, rule);
    }
    networks("spec.nets", nets, report);
}

/// Addresses and networks; lengths may be missing and host bits set.
pub(super) fn networks(path: &str, texts: &[String], report: &mut Report) {
    for (i, text) in texts.iter().enumerate().filter(|(_, text)| listed_network(text).is_none()) {
        report.bad(format!("{path}[{i}]"), text, "must be an IP address or a network such as 10.0.0.0/16");
    }
}

pub(super) fn ipam_configuration(spec: &IpamConfigurationSpec, report: &mut Report) {
    for (path, value, greatest) in [
        ("spec.maxBlocksPerHost", spec.max_blocks_per_host, MAX_BLOCKS_PER_HOST),
        ("spec.ipCooldownSeconds", spec.ip_cooldown_seconds, MAX_COOLDOWN_SECONDS),
    ] {
        if let Some(value) = value.filter(|value| !(0..=greatest).contains(value)) {
            report.bad(path, value, format!("must be from 0 to {greatest}"));
        }
    }
    let persistence = spec.kube_virt_vm_address_persistence.as_deref();
    report.one_of("spec.kubeVirtVMAddressPersistence", persistence, &["Enabled", "Disabled"]);
}

pub(super) fn block_affinity(spec: &BlockAffinitySpec, report: &mut Report) {
    report.one_of("spec.state", Some(&spec.state), &["confirmed", "pending", "pendingDeletion"]);
    if spec.node.is_empty() {
        report.object("spec.node", "is required");
    }
    let kind = Some(spec.affinity_type.as_str()).filter(|text| !text.is_empty());
    report.one_of("spec.type", kind, &["host", "virtual"]);
    match spec.cidr.parse() {
        Ok(cidr) => report.masked("spec.cidr", &cidr),
        Err(_) => report.bad("spec.cidr", &spec.cidr, "must be a network such as 10.0.0.0/26"),
    }
    let deleted = Some(spec.deleted.as_str()).filter(|text| !text.is_empty());
    report.one_of("spec.deleted", deleted, &["true", "false"]);
}
