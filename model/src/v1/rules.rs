//! Rules, tags and selectors of v1 in v3.

use ipnetwork::IpNetwork;

use super::types;
use crate::rule::{Action, EntityRule, Rule};

pub(super) fn rules(rules: &[types::Rule]) -> Vec<Rule> {
    rules.iter().map(rule).collect()
}

fn rule(rule: &types::Rule) -> Rule {
    Rule {
        action: match rule.action {
            types::Action::Allow => Action::Allow,
            types::Action::Deny => Action::Deny,
            types::Action::Log => Action::Log,
            types::Action::Pass => Action::Pass,
        },
        ip_version: rule.ip_version,
        protocol: rule.protocol,
        icmp: rule.icmp,
        not_protocol: rule.not_protocol,
        not_icmp: rule.not_icmp,
        source: entity(&rule.source),
        destination: entity(&rule.destination),
        http: None,
        metadata: None,
    }
}

fn entity(entity: &types::EntityRule) -> EntityRule {
    EntityRule {
        nets: nets(&entity.nets, entity.net),
        selector: with_tag(&entity.selector, "&&", &entity.tag),
        ports: entity.ports.clone(),
        not_nets: nets(&entity.not_nets, entity.not_net),
        // Neither the one nor the other: not (selector or tag).
        not_selector: with_tag(&entity.not_selector, "||", &entity.not_tag),
        not_ports: entity.not_ports.clone(),
        ..EntityRule::default()
    }
}

/// v1 took networks with host bits; v3 wants them masked.
fn nets(nets: &[IpNetwork], net: Option<IpNetwork>) -> Vec<IpNetwork> {
    nets.iter().copied().chain(net).map(|n| IpNetwork::new(n.network(), n.prefix()).unwrap_or(n)).collect()
}

/// A tag is a label without value in v3.
fn with_tag(old_selector: &str, operator: &str, tag: &str) -> String {
    let selector = selector(old_selector);
    match (selector.trim().is_empty(), tag.is_empty()) {
        (_, true) => selector,
        (true, false) => format!("{tag} == ''"),
        (false, false) => format!("({selector}) {operator} {tag} == ''"),
    }
}

/// The label with a pod's namespace has a new name.
pub(super) fn selector(text: &str) -> String {
    text.replace("calico/k8s_ns", crate::defaults::NAMESPACE_LABEL)
}
