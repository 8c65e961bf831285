//! Whom a policy or profile is about and what of it can be enforced: from the resource as stored to one that cannot be
//! wrong.

use std::sync::Arc;

use tortie_model::resource::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, PolicyType, ProfileSpec, default_types,
};
use tortie_model::rule::Rule;
use tortie_model::selector::Selector;

use crate::Problems;
use crate::check::{
    self, CheckedRule, Fault, NAMESPACE, NAMESPACE_LABELS, SERVICE_ACCOUNT, SERVICE_ACCOUNT_LABELS,
};
use crate::ir::Direction;
use crate::phase::{Phase, Reach};
use crate::snapshot::{PolicyBody, PolicyId};

/// Label under which an endpoint of this node has the namespace of its name: no text of a selector can say it.
pub(crate) const OWN_NAMESPACE: &str = "namespace of the name";

/// Rules of both directions.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) ingress: Vec<CheckedRule>,
    pub(crate) egress: Vec<CheckedRule>,
}

impl Rules {
    /// Rules of one direction.
    pub(crate) fn of(&self, direction: Direction) -> &[CheckedRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    fn new(ingress: &[Rule], egress: &[Rule], namespace: Option<&str>) -> Result<Rules, Fault> {
        let all = |rules: &[Rule], name: &str| {
            rules
                .iter()
                .enumerate()
                .map(|(i, rule)| {
                    check::rule(rule, namespace).map_err(|fault| fault.within(format_args!("{name}[{i}]")))
                })
                .collect::<Result<Vec<_>, Fault>>()
        };
        Ok(Rules { ingress: all(ingress, "ingress")?, egress: all(egress, "egress")? })
    }
}

/// What a policy does to those it selects.
#[derive(Debug)]
pub(crate) enum Body {
    /// Its rules.
    Rules(Rules),
    /// Denies: something in it cannot be read.
    Deny,
    /// Denies before everything else: not even its place among the others can be read.
    DenyFirst,
}

/// A policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: PolicyId,
    pub(crate) tier: String,
    pub(crate) order: Option<f64>,
    /// The endpoints it is about.
    pub(crate) scope: Selector,
    pub(crate) types: Vec<PolicyType>,
    pub(crate) reach: Reach,
    pub(crate) body: Body,
}

impl Policy {
    /// Whether it decides about traffic in a direction at this place, of endpoints it is about.
    pub(crate) fn applies(&self, direction: Direction, phase: Phase) -> bool {
        self.reach.covers(phase) && self.is_about(direction)
    }

    /// Whether it decides about traffic in a direction at all.
    pub(crate) fn is_about(&self, direction: Direction) -> bool {
        self.types.contains(&match direction {
            Direction::Ingress => PolicyType::Ingress,
            Direction::Egress => PolicyType::Egress,
        })
    }

    /// Whether one of its rules can lead on to the next tier.
    pub(crate) fn passes(&self, direction: Direction) -> bool {
        match &self.body {
            Body::Rules(rules) => rules.of(direction).iter().any(CheckedRule::passes),
            Body::Deny | Body::DenyFirst => false,
        }
    }
}

/// Kind and name of a policy, for people.
pub(crate) fn subject(id: &PolicyId) -> String {
    match id.namespace.as_str() {
        "" => format!("GlobalNetworkPolicy {}", id.name),
        namespace => format!("NetworkPolicy {namespace}/{}", id.name),
    }
}

/// A policy as stored becomes one that can be enforced.
pub(crate) fn policy(id: &PolicyId, body: &PolicyBody, problems: &mut Problems) -> Policy {
    match body {
        PolicyBody::Network(spec) => assemble(network(id, spec), problems),
        PolicyBody::Global(spec) => assemble(global(id, spec), problems),
        PolicyBody::Invalid(reason) => {
            problems.add(subject(id), format_args!("cannot be read, so it denies everything: {reason}"));
            Policy {
                id: id.clone(),
                tier: String::new(),
                order: None,
                scope: whole(id),
                types: vec![PolicyType::Ingress, PolicyType::Egress],
                reach: Reach::Tracked { forward: true },
                body: Body::DenyFirst,
            }
        }
    }
}

/// Everything a policy could be about, going by its name alone: all of its namespace, by name or by label.
fn whole(id: &PolicyId) -> Selector {
    match id.namespace.as_str() {
        "" => Selector::all(),
        namespace => {
            Selector::either(Selector::equal(OWN_NAMESPACE, namespace), Selector::equal(NAMESPACE, namespace))
        }
    }
}

/// What a policy is made of, before anything is done about mistakes in it.
pub(crate) struct Parts<'a> {
    pub(crate) id: &'a PolicyId,
    pub(crate) tier: &'a str,
    pub(crate) order: Option<f64>,
    pub(crate) types: Vec<PolicyType>,
    pub(crate) reach: Reach,
    pub(crate) selector: Result<Selector, Fault>,
    pub(crate) rules: Result<Rules, Fault>,
}

pub(crate) fn network<'a>(id: &'a PolicyId, spec: &'a NetworkPolicySpec) -> Parts<'a> {
    let own = Selector::equal(NAMESPACE, &id.namespace);
    let accounts = service_accounts(&spec.service_account_selector);
    let selector = check::selector(&spec.selector, "selector").and_then(|selector| {
        let selector = if selector.is_all() { own } else { selector.and(own) };
        Ok(accounts?.into_iter().fold(selector, Selector::and))
    });
    Parts {
        id,
        tier: tier_name(&spec.tier),
        order: spec.order,
        types: types(&spec.types, &spec.ingress, &spec.egress),
        reach: Reach::Tracked { forward: false },
        selector,
        rules: Rules::new(&spec.ingress, &spec.egress, Some(&id.namespace)),
    }
}

pub(crate) fn global<'a>(id: &'a PolicyId, spec: &'a GlobalNetworkPolicySpec) -> Parts<'a> {
    let accounts = service_accounts(&spec.service_account_selector);
    let namespaces = match spec.namespace_selector.as_str() {
        "" => Ok(None),
        text => check::prefixed(text, NAMESPACE_LABELS, NAMESPACE, "namespaceSelector").map(Some),
    };
    let selector = check::selector(&spec.selector, "selector")
        .and_then(|selector| Ok(namespaces?.into_iter().chain(accounts?).fold(selector, Selector::and)));
    Parts {
        id,
        tier: tier_name(&spec.tier),
        order: spec.order,
        types: types(&spec.types, &spec.ingress, &spec.egress),
        reach: match (spec.do_not_track, spec.pre_dnat) {
            (true, _) => Reach::Untracked,
            (false, true) => Reach::PreDnat,
            (false, false) => Reach::Tracked { forward: spec.apply_on_forward },
        },
        selector,
        rules: Rules::new(&spec.ingress, &spec.egress, None),
    }
}

fn service_accounts(text: &str) -> Result<Option<Selector>, Fault> {
    match text {
        "" => Ok(None),
        text => {
            check::prefixed(text, SERVICE_ACCOUNT_LABELS, SERVICE_ACCOUNT, "serviceAccountSelector").map(Some)
        }
    }
}

fn types(types: &[PolicyType], ingress: &[Rule], egress: &[Rule]) -> Vec<PolicyType> {
    if types.is_empty() { default_types(ingress, egress) } else { types.to_vec() }
}

fn tier_name(tier: &Option<String>) -> &str {
    tier.as_deref().filter(|t| !t.is_empty()).unwrap_or("default")
}

/// Fails closed: what cannot be selected selects all it could, and a policy with a mistake in any rule denies.
fn assemble(parts: Parts<'_>, problems: &mut Problems) -> Policy {
    let Parts { id, tier, order, types, reach, selector, rules } = parts;
    let (scope, mut body) = match selector {
        Ok(selector) => (selector, None),
        Err(fault) => {
            problems.add(subject(id), format_args!("denies everything it could apply to: {fault}"));
            (whole(id), Some(Body::Deny))
        }
    };
    match &rules {
        Ok(rules) => report_unenforceable(&subject(id), rules, problems),
        Err(fault) => {
            problems.add(subject(id), format_args!("denies everything it applies to: {fault}"));
            body = Some(Body::Deny);
        }
    }
    let body = body.unwrap_or_else(|| Body::Rules(rules.unwrap_or_default()));
    Policy { id: id.clone(), tier: tier.to_owned(), order, scope, types, reach, body }
}

fn report_unenforceable(subject: &str, rules: &Rules, problems: &mut Problems) {
    for (name, rules) in [("ingress", &rules.ingress), ("egress", &rules.egress)] {
        for (i, part) in rules.iter().enumerate().filter_map(|(i, r)| Some((i, r.unenforceable?))) {
            problems.add(
                subject,
                format_args!(
                    "{name}[{i}]: {part} cannot be enforced; the rule allows nothing, and denies as if {part} were absent"
                ),
            );
        }
    }
}

/// Rules of a profile; `None` when it matches nothing.
pub(crate) fn profile(
    name: &str,
    profile: Option<&ProfileSpec>,
    problems: &mut Problems,
) -> Option<Arc<Rules>> {
    let subject = format!("Profile {name}");
    let Some(ProfileSpec { ingress, egress, .. }) = profile else {
        problems.add(&subject, "cannot be read, so it matches nothing");
        return None;
    };
    match Rules::new(ingress, egress, None) {
        Err(fault) => {
            problems.add(&subject, format_args!("matches nothing: {fault}"));
            None
        }
        Ok(rules) => {
            report_unenforceable(&subject, &rules, problems);
            Some(Arc::new(rules))
        }
    }
}
