//! NetworkPolicy, GlobalNetworkPolicy (calico-datamodel 2.5), Profile (2.8) and Tier (2.9).

use super::Report;
use super::meta::{is_dns_label, label};
use super::rule::{Direction, Scope, rules};
use crate::resource::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, PolicyType, ProfileSpec, Tier, TierAction,
};

const ASSUME_NEEDED: &str = "AssumeNeededOnEveryNode";

pub(super) fn namespaced(spec: &NetworkPolicySpec, report: &mut Report) {
    tier_name(spec.tier.as_deref(), report);
    report.selector_without_global("spec.selector", &spec.selector);
    report.selector_without_global("spec.serviceAccountSelector", &spec.service_account_selector);
    types("spec.types", &spec.types, report);
    hints(&spec.performance_hints, report);
    rules("spec.ingress", &spec.ingress, Direction::Ingress, Scope::Namespace, report);
    rules("spec.egress", &spec.egress, Direction::Egress, Scope::Namespace, report);
}

pub(super) fn global(spec: &GlobalNetworkPolicySpec, report: &mut Report) {
    tier_name(spec.tier.as_deref(), report);
    report.selector_without_global("spec.selector", &spec.selector);
    report.selector_without_global("spec.serviceAccountSelector", &spec.service_account_selector);
    report.selector_without_global("spec.namespaceSelector", &spec.namespace_selector);
    types("spec.types", &spec.types, report);
    hints(&spec.performance_hints, report);
    host_endpoint_modes(spec, report);
    rules("spec.ingress", &spec.ingress, Direction::Ingress, Scope::Cluster, report);
    rules("spec.egress", &spec.egress, Direction::Egress, Scope::Cluster, report);
}

fn host_endpoint_modes(spec: &GlobalNetworkPolicySpec, report: &mut Report) {
    if spec.pre_dnat && spec.do_not_track {
        report.bad("spec.preDNAT", true, "preDNAT and doNotTrack cannot both be true");
    }
    if spec.pre_dnat && (!spec.egress.is_empty() || spec.types.contains(&PolicyType::Egress)) {
        report.bad("spec.preDNAT", true, "a preDNAT policy has neither egress rules nor type Egress");
    }
    if (spec.pre_dnat || spec.do_not_track) && !spec.apply_on_forward {
        report.bad("spec.applyOnForward", false, "must be true with preDNAT or doNotTrack");
    }
}

fn tier_name(tier: Option<&str>, report: &mut Report) {
    if let Some(tier) = tier.filter(|tier| !tier.is_empty() && !is_dns_label(tier)) {
        report.bad("spec.tier", tier, "must be the name of a tier: lower case letters, digits and '-'");
    }
}

pub(super) fn types(path: &str, types: &[PolicyType], report: &mut Report) {
    for (i, kind) in types.iter().enumerate() {
        if types[..i].contains(kind) {
            report.bad(format!("{path}[{i}]"), format!("{kind:?}"), "stands there twice");
        }
    }
}

fn hints(hints: &[String], report: &mut Report) {
    for (i, hint) in hints.iter().enumerate() {
        report.one_of(&format!("spec.performanceHints[{i}]"), Some(hint), &[ASSUME_NEEDED]);
    }
}

pub(super) fn profile(spec: &ProfileSpec, report: &mut Report) {
    for (key, value) in &spec.labels_to_apply {
        label("spec.labelsToApply", key, value, report);
    }
    rules("spec.ingress", &spec.ingress, Direction::Ingress, Scope::Cluster, report);
    rules("spec.egress", &spec.egress, Direction::Egress, Scope::Cluster, report);
}

/// Tiers that every cluster has, with their fixed order and action.
const BUILT_IN_TIERS: [(&str, f64, TierAction); 5] = [
    ("default", 1_000_000.0, TierAction::Deny),
    ("kube-admin", 1_000.0, TierAction::Pass),
    ("kube-baseline", 10_000_000.0, TierAction::Pass),
    ("adminnetworkpolicy", 1_000.0, TierAction::Pass),
    ("baselineadminnetworkpolicy", 10_000_000.0, TierAction::Pass),
];

pub(super) fn tier(tier: &Tier, report: &mut Report) {
    let fixed = BUILT_IN_TIERS.iter().find(|(name, ..)| *name == tier.metadata.name);
    let Some((name, order, action)) = fixed else { return };
    if tier.spec.order != Some(*order) {
        let shown = tier.spec.order.map_or("<nil>".to_owned(), |order| order.to_string());
        report.bad("spec.order", shown, format!("the order of tier {name} is fixed at {order}"));
    }
    if tier.spec.default_action.unwrap_or_default() != *action {
        let shown = format!("{:?}", tier.spec.default_action.unwrap_or_default());
        report.bad("spec.defaultAction", shown, format!("the action of tier {name} is fixed at {action:?}"));
    }
}
