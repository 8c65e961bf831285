//! Who is meant: effective labels of endpoints, which policies reach which endpoint, and what of them can be enforced.

use std::collections::BTreeMap;
use std::sync::Arc;

use tortie_model::resource::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, PolicyType, ProfileSpec, default_types,
};
use tortie_model::rule::Rule;
use tortie_model::selector::{LabelRestriction, Labels, Selector};

use crate::Problems;
use crate::check::{
    self, CheckedRule, Fault, NAMESPACE, NAMESPACE_LABELS, SERVICE_ACCOUNT, SERVICE_ACCOUNT_LABELS,
};
use crate::ir::Direction;
use crate::phase::{Phase, Reach};
use crate::snapshot::{Endpoint, EndpointId, LabelSet, PolicyBody, PolicyId, Snapshot};

/// An endpoint with the labels selectors see.
pub(crate) struct Labelled<'a> {
    pub(crate) id: &'a EndpointId,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) labels: EffectiveLabels<'a>,
}

/// Own labels, then those of the profiles in order; the first value of a name stays.
pub(crate) struct EffectiveLabels<'a> {
    own: &'a LabelSet,
    /// Those that give labels at all.
    profiles: Vec<&'a BTreeMap<String, String>>,
}

impl<'a> EffectiveLabels<'a> {
    /// Names and values.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = self.own.iter().filter(|(name, _)| !is_reserved(name));
        let given = self.profiles.iter().enumerate().flat_map(move |(place, labels)| {
            labels.iter().filter(move |(name, _)| self.find(name, place).is_none())
        });
        own.chain(given.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The value of a name, looked for in the endpoint's own labels and in so many profiles.
    fn find(&self, name: &str, profiles: usize) -> Option<&'a str> {
        let own = if is_reserved(name) { None } else { self.own.get(name) };
        let given = || self.profiles.iter().take(profiles).find_map(|labels| labels.get(name));
        own.or_else(|| given().map(String::as_str))
    }
}

impl Labels for EffectiveLabels<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.find(name, self.profiles.len())
    }
}

fn is_reserved(name: &str) -> bool {
    name.starts_with(NAMESPACE_LABELS) || name.starts_with(SERVICE_ACCOUNT_LABELS)
}

/// All endpoints with their effective labels. Labels under the prefixes of namespaces and service accounts come from
/// profiles only: an endpoint must not be able to claim them (calico-datamodel 1.8).
pub(crate) fn endpoints(snapshot: &Snapshot) -> Vec<Labelled<'_>> {
    let all = snapshot.endpoints.iter();
    all.map(|(id, endpoint)| {
        let labels = effective_labels(snapshot, &endpoint.labels, &endpoint.profiles);
        Labelled { id, endpoint, labels }
    })
    .collect()
}

/// Labels of something with these of its own and these profiles.
pub(crate) fn effective_labels<'a>(
    snapshot: &'a Snapshot,
    own: &'a LabelSet,
    profiles: &[Arc<str>],
) -> EffectiveLabels<'a> {
    let profiles = profiles.iter().filter_map(|name| snapshot.profiles.get(&**name)?.as_ref());
    let given = profiles.map(|profile| &profile.labels_to_apply).filter(|labels| !labels.is_empty());
    EffectiveLabels { own, profiles: given.collect() }
}

/// Which endpoints a policy is about.
pub(crate) enum Scope<'a> {
    /// Those whose labels match.
    Selector(Selector),
    /// All of a namespace, or all there are: of a policy whose own selection cannot be read.
    Everything { namespace: Option<&'a str> },
}

impl Scope<'_> {
    fn selects(&self, endpoint: &Labelled<'_>) -> bool {
        match self {
            Scope::Selector(selector) => selector.matches(&endpoint.labels),
            Scope::Everything { namespace: None } => true,
            Scope::Everything { namespace: Some(namespace) } => {
                endpoint.id.namespace == *namespace || endpoint.labels.get(NAMESPACE) == Some(namespace)
            }
        }
    }
}

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
pub(crate) enum Body {
    /// Its rules.
    Rules(Rules),
    /// Denies: something in it cannot be read.
    Deny,
    /// Denies before everything else: not even its place among the others can be read.
    DenyFirst,
}

/// A policy.
pub(crate) struct Policy<'a> {
    pub(crate) id: &'a PolicyId,
    pub(crate) tier: &'a str,
    pub(crate) order: Option<f64>,
    pub(crate) scope: Scope<'a>,
    pub(crate) types: Vec<PolicyType>,
    pub(crate) reach: Reach,
    pub(crate) body: Body,
}

impl Policy<'_> {
    /// Labels with their values, one of which every endpoint it applies to has; `None` when there is nothing to index it
    /// by. The namespace is the narrowest of what all policies of a namespace ask for.
    pub(crate) fn required(&self) -> Option<Vec<(&str, &str)>> {
        let Scope::Selector(selector) = &self.scope else { return None };
        // What can match nothing applies to no endpoint.
        let Some(restrictions) = selector.restrictions() else { return Some(Vec::new()) };
        let sets = restrictions.into_iter().filter_map(|(label, restriction)| match restriction {
            LabelRestriction::MustHaveOneOfValues(values) => Some((label, values)),
            LabelRestriction::MustBePresent | LabelRestriction::MustBeAbsent => None,
        });
        let (label, values) = sets.min_by_key(|(label, values)| (*label != NAMESPACE, values.len()))?;
        Some(values.into_iter().map(|value| (label, value)).collect())
    }

    /// Whether it decides about traffic of an endpoint in a direction at this place.
    pub(crate) fn applies(&self, endpoint: &Labelled<'_>, direction: Direction, phase: Phase) -> bool {
        let wanted = match direction {
            Direction::Ingress => PolicyType::Ingress,
            Direction::Egress => PolicyType::Egress,
        };
        self.reach.covers(phase) && self.types.contains(&wanted) && self.scope.selects(endpoint)
    }
}

/// Kind and name of a policy, for people.
pub(crate) fn subject(id: &PolicyId) -> String {
    match id.namespace.as_str() {
        "" => format!("GlobalNetworkPolicy {}", id.name),
        namespace => format!("NetworkPolicy {namespace}/{}", id.name),
    }
}

/// All policies, in the order of their ids.
pub(crate) fn policies<'a>(snapshot: &'a Snapshot, problems: &mut Problems) -> Vec<Policy<'a>> {
    let mut found = Vec::new();
    for (id, body) in &snapshot.policies {
        found.push(match body {
            PolicyBody::Network(spec) => assemble(network(id, spec), problems),
            PolicyBody::Global(spec) => assemble(global(id, spec), problems),
            PolicyBody::Invalid(reason) => {
                problems.add(subject(id), format_args!("cannot be read, so it denies everything: {reason}"));
                Policy {
                    id,
                    tier: "",
                    order: None,
                    scope: whole(id),
                    types: vec![PolicyType::Ingress, PolicyType::Egress],
                    reach: Reach::Tracked { forward: true },
                    body: Body::DenyFirst,
                }
            }
        });
    }
    found
}

/// Everything a policy could be about, going by its name alone.
fn whole(id: &PolicyId) -> Scope<'_> {
    Scope::Everything { namespace: Some(id.namespace.as_str()).filter(|n| !n.is_empty()) }
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
fn assemble<'a>(parts: Parts<'a>, problems: &mut Problems) -> Policy<'a> {
    let Parts { id, tier, order, types, reach, selector, rules } = parts;
    let (scope, mut body) = match selector {
        Ok(selector) => (Scope::Selector(selector), None),
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
    Policy { id, tier, order, scope, types, reach, body }
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

/// Profiles by name; one that is missing here matches nothing.
pub(crate) fn profiles<'a>(snapshot: &'a Snapshot, problems: &mut Problems) -> BTreeMap<&'a str, Rules> {
    let mut found = BTreeMap::new();
    for (name, profile) in &snapshot.profiles {
        let subject = format!("Profile {name}");
        match profile.as_ref().map(|ProfileSpec { ingress, egress, .. }| Rules::new(ingress, egress, None)) {
            None => problems.add(&subject, "cannot be read, so it matches nothing"),
            Some(Err(fault)) => problems.add(&subject, format_args!("matches nothing: {fault}")),
            Some(Ok(rules)) => {
                report_unenforceable(&subject, &rules, problems);
                found.insert(name.as_str(), rules);
            }
        }
    }
    report_missing(snapshot, problems);
    found
}

/// Profiles that endpoints have and nobody wrote: a line for each, not for each endpoint of the cluster.
fn report_missing(snapshot: &Snapshot, problems: &mut Problems) {
    let mut missing: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    let workloads = snapshot.endpoints.iter().map(|(id, endpoint)| (id, &**endpoint));
    let hosts = snapshot.host_endpoints.iter().map(|(id, host)| (id, &host.endpoint));
    for (id, endpoint) in workloads.chain(hosts) {
        for profile in endpoint.profiles.iter().filter(|p| !snapshot.profiles.contains_key(&***p)) {
            let first = || match id.namespace.as_str() {
                "" => (format!("HostEndpoint {}", id.name), 0),
                namespace => (format!("WorkloadEndpoint {namespace}/{}", id.name), 0),
            };
            missing.entry(profile).or_insert_with(first).1 += 1;
        }
    }
    for (profile, (first, count)) in missing {
        let others = match count - 1 {
            0 => " has".to_owned(),
            1 => " and one more have".to_owned(),
            more => format!(" and {more} more have"),
        };
        problems.add(
            format_args!("Profile {profile}"),
            format_args!("does not exist, so it matches nothing; {first}{others} it"),
        );
    }
}
