//! Rules of policies and profiles (calico-datamodel 2.6).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::Report;
use crate::rule::{Action, EntityRule, Icmp, Rule};
use crate::scalar::{Port, Protocol};
use crate::strict::Problem;

const MAX_RULES: usize = 1024;
const MAX_NETS: usize = 256;
const MAX_PORTS: usize = 50;
const MAX_HTTP_PATHS: usize = 20;

/// The list a rule stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

/// Whether the rule belongs to a namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Namespace,
    Cluster,
}

pub(super) fn rules(path: &str, rules: &[Rule], direction: Direction, scope: Scope, report: &mut Report) {
    if rules.len() > MAX_RULES {
        report.bad(path, format!("{} rules", rules.len()), format!("at most {MAX_RULES} rules are allowed"));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = format!("{path}[{i}]");
        protocols(&path, rule, report);
        families(&path, rule, report);
        http(&path, rule, direction, report);
        entity(&format!("{path}.source"), &rule.source, rule, report);
        entity(&format!("{path}.destination"), &rule.destination, rule, report);
        services(&path, rule, direction, scope, report);
    }
}

fn protocols(path: &str, rule: &Rule, report: &mut Report) {
    if let Some(version) = rule.ip_version.filter(|v| !matches!(v, 4 | 6)) {
        report.bad(format!("{path}.ipVersion"), version, "must be 4 or 6");
    }
    for (field, protocol) in [("protocol", rule.protocol), ("notProtocol", rule.not_protocol)] {
        let family = match protocol {
            Some(Protocol::Icmp) => 4,
            Some(Protocol::IcmpV6) => 6,
            _ => continue,
        };
        if let (Some(protocol), Some(version)) = (protocol, rule.ip_version.filter(|v| *v != family)) {
            let rule = format!("protocol {protocol} contradicts ipVersion {version}");
            report.bad(format!("{path}.{field}"), protocol, rule);
        }
    }
    for (field, icmp) in [("icmp", rule.icmp), ("notICMP", rule.not_icmp)] {
        if let Some(icmp) = icmp {
            icmp_match(&format!("{path}.{field}"), icmp, rule, report);
        }
    }
}

fn icmp_match(path: &str, icmp: Icmp, rule: &Rule, report: &mut Report) {
    if !matches!(rule.protocol.map(Protocol::number), Some(1 | 58)) {
        report.object(path, "needs protocol ICMP or ICMPv6");
    }
    if icmp.icmp_type == Some(255) {
        report.bad(format!("{path}.type"), 255, "must be from 0 to 254");
    }
    if icmp.icmp_type.is_none()
        && let Some(code) = icmp.code
    {
        report.bad(format!("{path}.code"), code, "needs a type");
    }
}

/// Nets of both families cannot match one packet, nor can nets that contradict the IP version.
fn families(path: &str, rule: &Rule, report: &mut Report) {
    let mut wanted = match (rule.ip_version, rule.protocol) {
        (Some(4), _) | (None, Some(Protocol::Icmp)) => Some((true, "ipVersion 4".to_owned())),
        (Some(6), _) | (None, Some(Protocol::IcmpV6)) => Some((false, "ipVersion 6".to_owned())),
        _ => None,
    };
    for (field, nets) in [
        ("source.nets", &rule.source.nets),
        ("source.notNets", &rule.source.not_nets),
        ("destination.nets", &rule.destination.nets),
        ("destination.notNets", &rule.destination.not_nets),
    ] {
        for (i, net) in nets.iter().enumerate() {
            match &wanted {
                Some((is_ipv4, reason)) if *is_ipv4 != net.is_ipv4() => {
                    let rule = format!("is of another address family than {reason}");
                    report.bad(format!("{path}.{field}[{i}]"), net, rule);
                }
                Some(_) => {}
                None => wanted = Some((net.is_ipv4(), format!("{field}[{i}] of the same rule"))),
            }
        }
    }
}

fn entity(path: &str, entity: &EntityRule, rule: &Rule, report: &mut Report) {
    nets(&format!("{path}.nets"), &entity.nets, report);
    nets(&format!("{path}.notNets"), &entity.not_nets, report);
    for (i, net) in entity.not_nets.iter().enumerate().filter(|(_, net)| net.prefix() == 0) {
        report.bad(
            format!("{path}.notNets[{i}]"),
            net,
            "excludes every address, so the rule matches nothing",
        );
    }
    report.selector_without_global(&format!("{path}.selector"), &entity.selector);
    report.selector_without_global(&format!("{path}.notSelector"), &entity.not_selector);
    let namespaces = entity.namespace_selector.trim();
    if namespaces.contains("global(") && namespaces != "global()" {
        let path = format!("{path}.namespaceSelector");
        report.bad(path, namespaces, "global() can only be the whole namespaceSelector");
    } else {
        report.selector(&format!("{path}.namespaceSelector"), namespaces);
    }
    ports(&format!("{path}.ports"), &entity.ports, rule, report);
    ports(&format!("{path}.notPorts"), &entity.not_ports, rule, report);
    if let Some(accounts) = &entity.service_accounts {
        report.selector_without_global(&format!("{path}.serviceAccounts.selector"), &accounts.selector);
    }
}

fn nets(path: &str, nets: &[IpNetwork], report: &mut Report) {
    if nets.len() > MAX_NETS {
        report.bad(path, format!("{} nets", nets.len()), format!("at most {MAX_NETS} nets are allowed"));
    }
    for (i, net) in nets.iter().enumerate() {
        report.masked(&format!("{path}[{i}]"), net);
    }
}

/// Nets of the rules of a `spec` as users wrote it that are bare addresses. Once read they are networks of full length
/// like any other, so only the text can tell.
pub(crate) fn nets_without_length(spec: Option<&Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for direction in ["ingress", "egress"] {
        let rules = spec.and_then(|spec| spec.get(direction)).and_then(Value::as_array);
        for (i, rule) in rules.into_iter().flatten().enumerate() {
            for (side, field) in [
                ("source", "nets"),
                ("source", "notNets"),
                ("destination", "nets"),
                ("destination", "notNets"),
            ] {
                let nets = rule.get(side).and_then(|entity| entity.get(field)).and_then(Value::as_array);
                for (j, net) in nets.into_iter().flatten().enumerate() {
                    let Some(address) = net.as_str().and_then(|net| net.parse::<IpAddr>().ok()) else {
                        continue;
                    };
                    let rule = format!("must have a prefix length, such as {}", IpNetwork::from(address));
                    let path = format!("spec.{direction}[{i}].{side}.{field}[{j}]");
                    problems.push(Problem::bad_value(path, address, rule));
                }
            }
        }
    }
    problems
}

fn ports(path: &str, ports: &[Port], rule: &Rule, report: &mut Report) {
    if ports.len() > MAX_PORTS {
        report.bad(path, format!("{} ports", ports.len()), format!("at most {MAX_PORTS} ports are allowed"));
    }
    let has_ports = rule.protocol.is_some_and(Protocol::has_ports);
    for (i, port) in ports.iter().enumerate() {
        let fits = match port {
            Port::Range(..) => has_ports,
            Port::Named(_) => has_ports || rule.protocol.is_none(),
        };
        if !fits {
            report.bad(format!("{path}[{i}]"), port, "ports need protocol TCP, UDP or SCTP in the same rule");
        }
    }
}

fn services(path: &str, rule: &Rule, direction: Direction, scope: Scope, report: &mut Report) {
    for (side, entity, allowed_in) in
        [("source", &rule.source, Direction::Ingress), ("destination", &rule.destination, Direction::Egress)]
    {
        let Some(services) = &entity.services else { continue };
        let path = format!("{path}.{side}.services");
        if direction != allowed_in {
            report.object(&path, "services go into an egress rule's destination or an ingress rule's source");
        }
        if services.name.is_empty() {
            report.object(format!("{path}.name"), "is required");
        }
        if scope == Scope::Cluster && services.namespace.is_empty() {
            report.object(format!("{path}.namespace"), "is required outside a namespaced policy");
        }
        let rest = EntityRule { services: None, ..entity.clone() };
        if !rest.is_empty() {
            report.object(&path, "services cannot be combined with another field of the same side");
        }
    }
}

fn http(path: &str, rule: &Rule, direction: Direction, report: &mut Report) {
    let Some(http) = &rule.http else { return };
    let path = format!("{path}.http");
    if direction != Direction::Ingress || rule.action != Action::Allow {
        report.object(&path, "http goes into ingress rules with action Allow only");
    }
    if rule.protocol.is_some_and(|protocol| protocol.number() != 6) {
        report.object(&path, "http needs protocol TCP");
    }
    if http.paths.len() > MAX_HTTP_PATHS {
        report.object(format!("{path}.paths"), format!("at most {MAX_HTTP_PATHS} paths are allowed"));
    }
    for (i, one) in
        http.paths.iter().enumerate().filter(|(_, one)| one.exact.is_empty() == one.prefix.is_empty())
    {
        let given = if one.exact.is_empty() { "neither" } else { "both" };
        report.bad(format!("{path}.paths[{i}]"), given, "must have either exact or prefix");
    }
}
