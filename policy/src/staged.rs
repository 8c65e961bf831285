//! Staged policies: counted as if they were enforced, and never enforced (calico-datamodel 2.7).
//!
//! Each becomes a chain for each direction that all groups of endpoints share. The first rule that matches counts and
//! returns, so a packet passes it in the time it takes to search it, and nothing else depends on it.

use tortie_model::kubernetes_policy;
use tortie_model::resource::StagedAction;

use crate::Problems;
use crate::group::{field, short};
use crate::ir::{Action, Chain, Comment, Direction, Match, Rule, Verdict};
use crate::lower::{self, Effect};
use crate::select::{self, Body, Parts, Policy};
use crate::sets::Sets;
use crate::snapshot::{PolicyBody, PolicyId, StagedBody};

/// A staged policy as the policy it would be; `None` when it stages a deletion, is to be ignored, or has a mistake, which is
/// reported.
pub(crate) fn policy(id: &PolicyId, body: &StagedBody, problems: &mut Problems) -> Option<Policy> {
    let (action, policy) = match body {
        StagedBody::Network(spec) => (spec.staged_action, Ok(PolicyBody::Network(Box::new(spec.policy())))),
        StagedBody::Global(spec) => (spec.staged_action, Ok(PolicyBody::Global(Box::new(spec.policy())))),
        StagedBody::Kubernetes(spec) => {
            let policy = kubernetes_policy::network_policy(spec);
            (spec.staged_action, policy.map(|policy| PolicyBody::Network(Box::new(policy))))
        }
        StagedBody::Invalid(reason) => (None, Err(reason.clone())),
    };
    let policy = match action.unwrap_or_default() {
        StagedAction::Delete | StagedAction::Ignore => return None,
        StagedAction::Set | StagedAction::Learn => policy.and_then(|body| would_be(id, &body)),
    };
    policy.map_err(|reason| report(id, &reason, problems)).ok()
}

fn would_be(id: &PolicyId, body: &PolicyBody) -> Result<Policy, String> {
    let Parts { id, tier, order, types, reach, selector, rules } = match body {
        PolicyBody::Network(spec) => select::network(id, spec),
        PolicyBody::Global(spec) => select::global(id, spec),
        PolicyBody::Invalid(reason) => return Err(reason.clone()),
    };
    let scope = selector.map_err(|fault| fault.to_string())?;
    let body = Body::Rules(rules.map_err(|fault| fault.to_string())?);
    Ok(Policy { id: id.clone(), tier: tier.to_owned(), order, scope, types, reach, body })
}

fn report(id: &PolicyId, reason: &str, problems: &mut Problems) {
    let subject = match (id.namespace.as_str(), id.name.strip_prefix(kubernetes_policy::PREFIX)) {
        ("", _) => format!("StagedGlobalNetworkPolicy {}", id.name),
        (namespace, Some(name)) => format!("StagedKubernetesNetworkPolicy {namespace}/{name}"),
        (namespace, None) => format!("StagedNetworkPolicy {namespace}/{}", id.name),
    };
    problems.add(subject, format_args!("is not counted: {reason}"));
}

/// How the names of its chains begin.
pub(crate) fn prefix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "staged-in-",
        Direction::Egress => "staged-out-",
    }
}

/// The rule that has a packet counted.
pub(crate) fn jump(chain: String) -> Rule {
    let action = Action::Verdict(Verdict::Jump(chain));
    Rule { matches: vec![], counter: false, action, comment: Comment::default() }
}

/// A chain that counts what a policy would do, and returns.
pub(crate) fn chain(policy: &Policy, direction: Direction, sets: &mut Sets) -> Chain {
    let name = format!("staged policy {}", short(policy));
    let count = |matches: Vec<Match>, would: &str| Rule {
        matches,
        counter: true,
        action: Action::Verdict(Verdict::Return),
        comment: Comment::with_tail(&name, would),
    };
    let mut rules = Vec::new();
    if let Body::Rules(checked) = &policy.body {
        for (i, rule) in checked.of(direction).iter().enumerate() {
            let verb = match rule.effect() {
                Some(Effect::Allow) => "allow",
                Some(Effect::Deny) => "deny",
                Some(Effect::Pass) => "pass",
                // Nobody wants the log of what is not enforced.
                Some(Effect::Log) | None => continue,
            };
            let would = format!(" would {verb} {}[{i}]", field(direction));
            rules.extend(lower::matches(rule, sets).into_iter().map(|matches| count(matches, &would)));
        }
    }
    if rules.iter().all(|rule| !rule.matches.is_empty()) {
        rules.push(count(vec![], " matches nothing"));
    }
    Chain { comment: Comment::with_tail(&name, ": counts only"), base: None, rules }
}
