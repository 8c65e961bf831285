//! BGPFilter (calico-datamodel 2.12).

use ipnetwork::IpNetwork;

use super::Report;
use super::bgp::{COMMUNITY_RULE, is_community, route_priority};
use crate::resource::{BgpFilterAction, BgpFilterOperation, BgpFilterRule, BgpFilterSpec};

const MAX_OPERATIONS: usize = 10;
const MAX_PREPENDED: usize = 10;

pub(super) fn filter(spec: &BgpFilterSpec, report: &mut Report) {
    for (list, rules) in [("exportV4", &spec.export_v4), ("importV4", &spec.import_v4)] {
        for (i, one) in rules.iter().enumerate() {
            rule(&format!("spec.{list}[{i}]"), one, 32, report);
        }
    }
    for (list, rules) in [("exportV6", &spec.export_v6), ("importV6", &spec.import_v6)] {
        for (i, one) in rules.iter().enumerate() {
            rule(&format!("spec.{list}[{i}]"), one, 128, report);
        }
    }
}

fn rule<N: Copy + Into<IpNetwork>>(path: &str, rule: &BgpFilterRule<N>, longest: u32, report: &mut Report) {
    if let Some(cidr) = rule.network() {
        report.masked(&format!("{path}.cidr"), &cidr);
    }
    if rule.cidr.is_some() != rule.match_operator.is_some() {
        report.object(
            format!("{path}.matchOperator"),
            "cidr and matchOperator go together: give both or neither",
        );
    }
    if let Some(length) = rule.prefix_length {
        if rule.cidr.is_none() {
            report.object(format!("{path}.prefixLength"), "needs a cidr");
        }
        for (end, value) in [("min", length.min), ("max", length.max)] {
            if let Some(value) = value.filter(|value| *value > longest) {
                let path = format!("{path}.prefixLength.{end}");
                report.bad(path, value, format!("must be from 0 to {longest}"));
            }
        }
    }
    if !rule.interface.is_empty() && !is_interface_pattern(&rule.interface) {
        let rule_text = "must be the name of an interface, at most 15 characters, '*' for any";
        report.bad(format!("{path}.interface"), &rule.interface, rule_text);
    }
    if let Some(communities) = &rule.communities {
        if communities.values.len() != 1 {
            let count = format!("{} values", communities.values.len());
            report.bad(format!("{path}.communities.values"), count, "must be exactly one");
        }
        for (i, value) in communities.values.iter().enumerate().filter(|(_, v)| !is_community(v)) {
            report.bad(format!("{path}.communities.values[{i}]"), value, COMMUNITY_RULE);
        }
    }
    route_priority(&format!("{path}.priority"), rule.priority, report);
    operations(path, &rule.operations, rule.action, report);
}

fn operations(path: &str, operations: &[BgpFilterOperation], action: BgpFilterAction, report: &mut Report) {
    if operations.is_empty() {
        return;
    }
    let list = format!("{path}.operations");
    if action != BgpFilterAction::Accept {
        report.object(&list, "go with action Accept only");
    }
    if operations.len() > MAX_OPERATIONS {
        let rule = format!("at most {MAX_OPERATIONS} are allowed");
        report.bad(&list, format!("{} operations", operations.len()), rule);
    }
    for (i, operation) in operations.iter().enumerate() {
        let path = format!("{list}[{i}]");
        let set = [
            operation.add_community.is_some(),
            operation.prepend_as_path.is_some(),
            operation.set_priority.is_some(),
        ];
        if set.iter().filter(|set| **set).count() != 1 {
            report.object(&path, "must have exactly one of addCommunity, prependASPath and setPriority");
        }
        if let Some(add) = operation.add_community.as_ref().filter(|add| !is_community(&add.value)) {
            report.bad(format!("{path}.addCommunity.value"), &add.value, COMMUNITY_RULE);
        }
        if let Some(prepend) = &operation.prepend_as_path
            && !(1..=MAX_PREPENDED).contains(&prepend.prefix.len())
        {
            let count = format!("{} AS numbers", prepend.prefix.len());
            let rule = format!("must be 1 to {MAX_PREPENDED}");
            report.bad(format!("{path}.prependASPath.prefix"), count, rule);
        }
        let priority = operation.set_priority.as_ref().map(|set| set.value);
        route_priority(&format!("{path}.setPriority.value"), priority, report);
    }
}

/// The name of an interface in which `*` stands for any characters.
fn is_interface_pattern(text: &str) -> bool {
    text.len() <= 15 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-*:@".contains(&b))
}
