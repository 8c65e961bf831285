//! A policy in the shape of Kubernetes as the NetworkPolicy that means the same: `knp.default.<name>`, of order 1000 in tier
//! `default` (felix-dataplane 4). Peers are pods, never other endpoints or network sets.

use std::fmt::Write as _;

use crate::resource::{
    IpBlock, KubernetesPeer, KubernetesPort, LabelSelector, NetworkPolicySpec, PolicyType,
    StagedKubernetesNetworkPolicySpec,
};
use crate::rule::{Action, EntityRule, Rule};
use crate::scalar::{Port, Protocol};
use ipnetwork::IpNetwork;
use serde_json::Value;

/// How the names of such policies begin.
pub const PREFIX: &str = "knp.default.";

/// What makes an endpoint a pod.
const PODS: &str = "projectcalico.org/orchestrator == 'k8s'";
/// Place of all such policies in their tier.
const ORDER: f64 = 1000.0;

/// The policy, or why there is none.
pub fn network_policy(spec: &StagedKubernetesNetworkPolicySpec) -> Result<NetworkPolicySpec, String> {
    let mut ingress = Vec::new();
    for (i, rule) in spec.ingress.iter().enumerate() {
        let at = |reason| format!("ingress[{i}].{reason}");
        ingress.extend(rules(&rule.ports, &rule.from, PolicyType::Ingress).map_err(at)?);
    }
    let mut egress = Vec::new();
    for (i, rule) in spec.egress.iter().enumerate() {
        let at = |reason| format!("egress[{i}].{reason}");
        egress.extend(rules(&rule.ports, &rule.to, PolicyType::Egress).map_err(at)?);
    }
    let types = match (spec.policy_types.is_empty(), egress.is_empty()) {
        (false, _) => spec.policy_types.clone(),
        (true, true) => vec![PolicyType::Ingress],
        (true, false) => vec![PolicyType::Ingress, PolicyType::Egress],
    };
    let own = selector(&spec.pod_selector).map_err(|reason| format!("podSelector.{reason}"))?;
    Ok(NetworkPolicySpec {
        order: Some(ORDER),
        selector: pods(&own),
        types,
        ingress,
        egress,
        ..NetworkPolicySpec::default()
    })
}

/// One rule for each peer and list of ports of one protocol; without peers all, without ports all.
fn rules(ports: &[KubernetesPort], peers: &[KubernetesPeer], way: PolicyType) -> Result<Vec<Rule>, String> {
    let mut entities = Vec::new();
    for (i, peer) in peers.iter().enumerate() {
        entities.push(entity(peer).map_err(|reason| format!("peers[{i}].{reason}"))?);
    }
    if peers.is_empty() {
        entities.push(EntityRule::default());
    }
    let mut by_protocol: Vec<(Option<Protocol>, Vec<Port>)> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let (protocol, port) = self::port(port).map_err(|reason| format!("ports[{i}].{reason}"))?;
        match (
            by_protocol.iter_mut().find(|(known, ports)| *known == Some(protocol) && !ports.is_empty()),
            port,
        ) {
            (Some((_, ports)), Some(port)) => ports.push(port),
            (_, port) => by_protocol.push((Some(protocol), port.into_iter().collect())),
        }
    }
    if ports.is_empty() {
        by_protocol.push((None, Vec::new()));
    }
    let mut found = Vec::new();
    for peer in entities {
        for (protocol, ports) in &by_protocol {
            let mut rule = Rule { action: Action::Allow, protocol: *protocol, ..Rule::default() };
            match way {
                PolicyType::Ingress => rule.source = peer.clone(),
                PolicyType::Egress => rule.destination = peer.clone(),
            }
            rule.destination.ports.clone_from(ports);
            found.push(rule);
        }
    }
    Ok(found)
}

fn port(port: &KubernetesPort) -> Result<(Protocol, Option<Port>), String> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(other) => return Err(format!("protocol '{other}' is none of TCP, UDP and SCTP")),
    };
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    let found = match (&port.port, port.end_port) {
        (None, None) => None,
        (Some(Value::String(name)), None) => Some(name.parse::<Port>().map_err(|error| error.to_string())?),
        (Some(value), end) => {
            let low = number(value).ok_or_else(|| format!("port {value} is no number from 1 to 65535"))?;
            let high = end.unwrap_or(low);
            if high < low {
                return Err(format!("endPort {high} is below port {low}"));
            }
            Some(Port::Range(low, high))
        }
        (None, Some(_)) => return Err("endPort needs a port by number".to_owned()),
    };
    Ok((protocol, found))
}

/// A pod selector alone means the policy's own namespace, which is what a selector alone means in a NetworkPolicy.
fn entity(peer: &KubernetesPeer) -> Result<EntityRule, String> {
    if let Some(block) = &peer.ip_block {
        if peer.pod_selector.is_some() || peer.namespace_selector.is_some() {
            return Err("ipBlock excludes podSelector and namespaceSelector".to_owned());
        }
        return ip_block(block);
    }
    if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
        return Err("names no peer".to_owned());
    }
    let text = |wanted: &Option<LabelSelector>, field: &str| match wanted {
        Some(wanted) => selector(wanted).map_err(|reason| format!("{field}.{reason}")),
        None => Ok(String::new()),
    };
    let namespaces = text(&peer.namespace_selector, "namespaceSelector")?;
    Ok(EntityRule {
        selector: pods(&text(&peer.pod_selector, "podSelector")?),
        namespace_selector: match (&peer.namespace_selector, namespaces.is_empty()) {
            (Some(_), true) => "all()".to_owned(),
            (Some(_), false) | (None, _) => namespaces,
        },
        ..EntityRule::default()
    })
}

fn ip_block(block: &IpBlock) -> Result<EntityRule, String> {
    let parse = |text: &String| {
        text.parse::<IpNetwork>().map_err(|_| format!("ipBlock: '{text}' is no network such as 10.0.0.0/8"))
    };
    Ok(EntityRule {
        nets: vec![parse(&block.cidr)?],
        not_nets: block.except.iter().map(parse).collect::<Result<_, _>>()?,
        ..EntityRule::default()
    })
}

fn pods(selector: &str) -> String {
    if selector.is_empty() { PODS.to_owned() } else { format!("{PODS} && {selector}") }
}

/// The selector as text; empty for one that selects everything.
fn selector(selector: &LabelSelector) -> Result<String, String> {
    let mut text = String::new();
    let mut add = |term: std::fmt::Arguments<'_>| {
        let separator = if text.is_empty() { "" } else { " && " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{term}");
    };
    for (key, value) in &selector.match_labels {
        add(format_args!("{key} == {}", quoted(value)?));
    }
    for expression in &selector.match_expressions {
        let values: Vec<_> = expression.values.iter().map(|v| quoted(v)).collect::<Result<_, _>>()?;
        let (key, values) = (&expression.key, values.join(", "));
        match expression.operator.as_str() {
            "In" => add(format_args!("{key} in {{{values}}}")),
            "NotIn" => add(format_args!("{key} not in {{{values}}}")),
            "Exists" => add(format_args!("has({key})")),
            "DoesNotExist" => add(format_args!("!has({key})")),
            other => return Err(format!("matchExpressions: operator '{other}' is not known")),
        }
    }
    Ok(text)
}

/// A value of a label as a literal; what no label can hold must not end the literal.
fn quoted(value: &str) -> Result<String, String> {
    if value.contains(['\'', '"']) {
        return Err(format!("value {value:?} is none of a label"));
    }
    Ok(format!("'{value}'"))
}
