//! The staged kinds (calico-datamodel 2.7).

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::meta::label;
use super::policy;
use super::{Report, networks_overlap};
use crate::resource::{
    GlobalNetworkPolicySpec, IpBlock, KubernetesPeer, KubernetesPort, LabelSelector, NetworkPolicySpec,
    StagedAction, StagedGlobalNetworkPolicySpec, StagedKubernetesNetworkPolicySpec, StagedNetworkPolicySpec,
};
use crate::scalar::Port;
use crate::strict::shown;

const DELETE_RULE: &str = "with stagedAction Delete every field but tier must be left out";

pub(super) fn namespaced(spec: &StagedNetworkPolicySpec, report: &mut Report) {
    let staged = spec.policy();
    let tier_only = NetworkPolicySpec { tier: staged.tier.clone(), ..NetworkPolicySpec::default() };
    if spec.staged_action == Some(StagedAction::Delete) && staged != tier_only {
        report.object("spec", DELETE_RULE);
    }
    policy::namespaced(&staged, report);
}

pub(super) fn global(spec: &StagedGlobalNetworkPolicySpec, report: &mut Report) {
    let staged = spec.policy();
    let tier_only =
        GlobalNetworkPolicySpec { tier: staged.tier.clone(), ..GlobalNetworkPolicySpec::default() };
    if spec.staged_action == Some(StagedAction::Delete) && staged != tier_only {
        report.object("spec", DELETE_RULE);
    }
    policy::global(&staged, report);
}

pub(super) fn kubernetes(spec: &StagedKubernetesNetworkPolicySpec, report: &mut Report) {
    let action = spec.staged_action;
    let action_only = StagedKubernetesNetworkPolicySpec {
        staged_action: action,
        ..StagedKubernetesNetworkPolicySpec::default()
    };
    if action == Some(StagedAction::Delete) && *spec != action_only {
        report.object("spec", "with stagedAction Delete every other field must be left out");
    }
    label_selector("spec.podSelector", &spec.pod_selector, report);
    for (i, rule) in spec.ingress.iter().enumerate() {
        ports(&format!("spec.ingress[{i}].ports"), &rule.ports, report);
        peers(&format!("spec.ingress[{i}].from"), &rule.from, report);
    }
    for (i, rule) in spec.egress.iter().enumerate() {
        ports(&format!("spec.egress[{i}].ports"), &rule.ports, report);
        peers(&format!("spec.egress[{i}].to"), &rule.to, report);
    }
    policy::types("spec.policyTypes", &spec.policy_types, report);
}

fn label_selector(path: &str, selector: &LabelSelector, report: &mut Report) {
    for (key, value) in &selector.match_labels {
        label(&format!("{path}.matchLabels"), key, value, report);
    }
    for (i, expression) in selector.match_expressions.iter().enumerate() {
        let path = format!("{path}.matchExpressions[{i}]");
        label(&format!("{path}.key"), &expression.key, "", report);
        let with_values = match expression.operator.as_str() {
            "In" | "NotIn" => true,
            "Exists" | "DoesNotExist" => false,
            other => {
                let words = ["In", "NotIn", "Exists", "DoesNotExist"];
                report.one_of(&format!("{path}.operator"), Some(other), &words);
                continue;
            }
        };
        if with_values == expression.values.is_empty() {
            let verb = if with_values { "needs" } else { "takes no" };
            let rule = format!("operator {} {verb} values", expression.operator);
            report.object(format!("{path}.values"), rule);
        }
    }
}

fn ports(path: &str, ports: &[KubernetesPort], report: &mut Report) {
    for (i, port) in ports.iter().enumerate() {
        let path = format!("{path}[{i}]");
        report.one_of(&format!("{path}.protocol"), port.protocol.as_deref(), &["TCP", "UDP", "SCTP"]);
        let number = port.port.as_ref().and_then(Value::as_u64);
        if let Some(value) = &port.port {
            let named = value.as_str().is_some_and(|text| matches!(text.parse(), Ok(Port::Named(_))));
            if !named && !number.is_some_and(|number| (1..=65535).contains(&number)) {
                let rule = "must be a number from 1 to 65535, or the name of a port";
                report.bad(format!("{path}.port"), shown(value), rule);
            }
        }
        if let Some(end) = port.end_port
            && number.is_none_or(|number| number > u64::from(end))
        {
            report.bad(format!("{path}.endPort"), end, "needs a port by number that is not greater");
        }
    }
}

fn peers(path: &str, peers: &[KubernetesPeer], report: &mut Report) {
    for (i, peer) in peers.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        if selects == peer.ip_block.is_some() {
            report.object(
                &path,
                "must have either ipBlock, or podSelector and namespaceSelector or one of them",
            );
        }
        for (field, selector) in
            [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)]
        {
            if let Some(selector) = selector {
                label_selector(&format!("{path}.{field}"), selector, report);
            }
        }
        if let Some(block) = &peer.ip_block {
            ip_block(&format!("{path}.ipBlock"), block, report);
        }
    }
}

fn ip_block(path: &str, block: &IpBlock, report: &mut Report) {
    let network = |text: &str| text.contains('/').then(|| text.parse::<IpNetwork>().ok()).flatten();
    let Some(cidr) = network(&block.cidr) else {
        report.bad(format!("{path}.cidr"), &block.cidr, "must be a network such as 10.0.0.0/16");
        return;
    };
    for (i, text) in block.except.iter().enumerate() {
        let inside =
            network(text).is_some_and(|hole| networks_overlap(&cidr, &hole) && hole.prefix() > cidr.prefix());
        if !inside {
            let rule = format!("must be a network inside {}, and smaller", block.cidr);
            report.bad(format!("{path}.except[{i}]"), text, rule);
        }
    }
}
