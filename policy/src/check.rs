//! A rule as stored becomes a rule that cannot be wrong, or the reason why it is: selectors are parsed and confined,
//! families worked out, contradictions refused. Knows nothing of endpoints or sets.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use tortie_model::rule::{Action, EntityRule, Icmp, Rule, ServiceAccountMatch};
use tortie_model::scalar::Port;
use tortie_model::selector::{Selector, SelectorError};

use crate::ir::Family;

/// Label that holds the namespace of an endpoint.
pub(crate) const NAMESPACE: &str = "projectcalico.org/namespace";
/// Label that holds the service account of an endpoint.
pub(crate) const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// Prefix under which an endpoint has the labels of its namespace.
pub(crate) const NAMESPACE_LABELS: &str = "pcns.";
/// Prefix under which an endpoint has the labels of its service account.
pub(crate) const SERVICE_ACCOUNT_LABELS: &str = "pcsa.";

/// Why a rule or policy cannot be enforced as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A selector does not parse.
    #[error("{field}: {error}")]
    Selector { field: String, error: SelectorError },
    /// `global()` where it means nothing.
    #[error("{0}: global() is allowed only as the whole namespaceSelector of a rule")]
    Global(String),
    /// A field contradicts another or is out of range.
    #[error("{field}: {rule}")]
    Field { field: String, rule: &'static str },
}

impl Fault {
    /// The same fault, seen from the object that holds the field.
    pub(crate) fn within(self, outer: impl std::fmt::Display) -> Fault {
        let path = |field: String| format!("{outer}.{field}");
        match self {
            Fault::Selector { field, error } => Fault::Selector { field: path(field), error },
            Fault::Global(field) => Fault::Global(path(field)),
            Fault::Field { field, rule } => Fault::Field { field: path(field), rule },
        }
    }
}

/// A rule ready to be compiled.
#[derive(Clone, Debug)]
pub(crate) struct CheckedRule {
    pub(crate) action: Action,
    /// Families it can match in; none for one that never matches.
    pub(crate) families: BTreeSet<Family>,
    pub(crate) protocol: Option<u8>,
    pub(crate) not_protocol: Option<u8>,
    pub(crate) icmp: Option<IcmpMatch>,
    pub(crate) not_icmp: Option<IcmpMatch>,
    pub(crate) source: CheckedEntity,
    pub(crate) destination: CheckedEntity,
    /// Part of the rule that the kernel cannot check, when there is one.
    pub(crate) unenforceable: Option<&'static str>,
}

/// Type and perhaps code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpMatch {
    pub(crate) icmp_type: u8,
    pub(crate) code: Option<u8>,
}

/// One side of a rule. Empty lists match everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckedEntity {
    pub(crate) nets: Vec<IpNetwork>,
    pub(crate) not_nets: Vec<IpNetwork>,
    /// Endpoints of which it must be one.
    pub(crate) peers: Option<Selector>,
    /// Endpoints of which it must be none; merged into `peers` when there are both.
    pub(crate) not_peers: Option<Selector>,
    pub(crate) ports: CheckedPorts,
    pub(crate) not_ports: CheckedPorts,
}

/// A list of ports: numbers and names.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckedPorts {
    pub(crate) ranges: Vec<(u16, u16)>,
    pub(crate) names: BTreeSet<String>,
}

impl CheckedPorts {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.names.is_empty()
    }

    fn new(ports: &[Port]) -> CheckedPorts {
        let mut checked = CheckedPorts::default();
        for port in ports {
            match port {
                Port::Range(low, high) => checked.ranges.push((*low, *high)),
                Port::Named(name) => {
                    checked.names.insert(name.clone());
                }
            }
        }
        checked
    }
}

/// Checks a rule of a policy in `namespace`, or of a global policy or profile.
pub(crate) fn rule(rule: &Rule, namespace: Option<&str>) -> Result<CheckedRule, Fault> {
    let field = |name: &str, rule: &'static str| Fault::Field { field: name.to_owned(), rule };
    let protocol = rule.protocol.map(|p| p.number());
    let mut families = match rule.ip_version {
        None => BTreeSet::from(Family::ALL),
        Some(4) => BTreeSet::from([Family::V4]),
        Some(6) => BTreeSet::from([Family::V6]),
        Some(_) => return Err(field("ipVersion", "must be 4 or 6")),
    };
    families.retain(|f| Family::ALL.iter().all(|other| protocol != Some(other.icmp()) || f == other));
    let entities = [("source", &rule.source), ("destination", &rule.destination)];
    for (side, entity) in entities {
        for (name, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
            let numeric = ports.iter().any(|p| matches!(p, Port::Range(..)));
            if ports.iter().any(|p| matches!(p, Port::Range(low, high) if low > high)) {
                return Err(field(name, "has a range that ends before it begins").within(side));
            }
            let fits = rule.protocol.map_or(!numeric, |p| p.has_ports());
            if !ports.is_empty() && !fits {
                return Err(field(name, "needs protocol TCP, UDP or SCTP").within(side));
            }
        }
    }
    let icmp_match = |name: &str, icmp: Option<Icmp>| match icmp {
        None | Some(Icmp { icmp_type: None, code: None }) => Ok(None),
        Some(Icmp { icmp_type: None, code: Some(_) }) => Err(field(name, "code needs a type")),
        Some(Icmp { icmp_type: Some(255), .. }) => Err(field(name, "type must be from 0 to 254")),
        Some(_) if !matches!(protocol, Some(1 | 58)) => Err(field(name, "needs protocol ICMP or ICMPv6")),
        Some(Icmp { icmp_type: Some(icmp_type), code }) => Ok(Some(IcmpMatch { icmp_type, code })),
    };
    let services = rule.source.services.is_some() || rule.destination.services.is_some();
    Ok(CheckedRule {
        action: rule.action,
        families,
        protocol,
        not_protocol: rule.not_protocol.map(|p| p.number()),
        icmp: icmp_match("icmp", rule.icmp)?,
        not_icmp: icmp_match("notICMP", rule.not_icmp)?,
        source: entity(&rule.source, namespace).map_err(|fault| fault.within("source"))?,
        destination: entity(&rule.destination, namespace).map_err(|fault| fault.within("destination"))?,
        unenforceable: match (rule.http.is_some(), services) {
            (true, _) => Some("http"),
            (false, true) => Some("services"),
            (false, false) => None,
        },
    })
}

/// Selectors as a syncer converts them (calico-datamodel 1.8): a namespace selector reads the labels of the namespace; in
/// a namespaced policy a peer named only by its own labels or service account is sought in the policy's namespace.
fn entity(entity: &EntityRule, namespace: Option<&str>) -> Result<CheckedEntity, Fault> {
    let mut peers: Vec<Selector> = Vec::new();
    let labelled =
        !entity.selector.is_empty() || !entity.not_selector.is_empty() || entity.service_accounts.is_some();
    if !entity.namespace_selector.is_empty() {
        peers.push(namespaces(&entity.namespace_selector, "namespaceSelector")?);
    } else if let Some(namespace) = namespace.filter(|_| labelled) {
        peers.push(Selector::equal(NAMESPACE, namespace));
    }
    if let Some(accounts) = &entity.service_accounts {
        peers.extend(service_accounts(accounts).map_err(|fault| fault.within("serviceAccounts"))?);
    }
    if !entity.selector.is_empty() {
        peers.push(selector(&entity.selector, "selector")?);
    }
    let negative = match entity.not_selector.as_str() {
        "" => None,
        text => Some(selector(text, "notSelector")?),
    };
    let (peers, not_peers) = match (peers.into_iter().reduce(Selector::and), negative) {
        (Some(peers), Some(not)) => (Some(peers.and(not.negated())), None),
        (peers, not) => (peers, not),
    };
    Ok(CheckedEntity {
        nets: masked(&entity.nets),
        not_nets: masked(&entity.not_nets),
        peers,
        not_peers,
        ports: CheckedPorts::new(&entity.ports),
        not_ports: CheckedPorts::new(&entity.not_ports),
    })
}

/// A selector where `global()` means nothing.
pub(crate) fn selector(text: &str, field: &str) -> Result<Selector, Fault> {
    let parsed = parse(text, field)?;
    if parsed.mentions_global() { Err(Fault::Global(field.to_owned())) } else { Ok(parsed) }
}

/// A selector over the labels kept under a prefix, of things that have `label` at all.
pub(crate) fn prefixed(text: &str, prefix: &str, label: &str, field: &str) -> Result<Selector, Fault> {
    let parsed = selector(text, field)?;
    Ok(if parsed.is_all() { Selector::has(label) } else { parsed.prefixed(prefix) })
}

fn namespaces(text: &str, field: &str) -> Result<Selector, Fault> {
    if parse(text, field)?.is_global() {
        return Ok(Selector::has(NAMESPACE).negated());
    }
    prefixed(text, NAMESPACE_LABELS, NAMESPACE, field)
}

fn service_accounts(accounts: &ServiceAccountMatch) -> Result<Vec<Selector>, Fault> {
    let mut found = Vec::new();
    if !accounts.names.is_empty() {
        found.push(Selector::one_of(SERVICE_ACCOUNT, accounts.names.iter().cloned()));
    }
    if !accounts.selector.is_empty() {
        found.push(prefixed(&accounts.selector, SERVICE_ACCOUNT_LABELS, SERVICE_ACCOUNT, "selector")?);
    }
    Ok(found)
}

fn parse(text: &str, field: &str) -> Result<Selector, Fault> {
    text.parse().map_err(|error| Fault::Selector { field: field.to_owned(), error })
}

/// Prefixes with the host bits cleared.
fn masked(nets: &[IpNetwork]) -> Vec<IpNetwork> {
    nets.iter().map(|net| IpNetwork::new(net.network(), net.prefix()).unwrap_or(*net)).collect()
}
