//! Stages as chains, one group of chains for all endpoints and directions with the same stages.
//!
//! The kernel's walk over a table at each commit grows with the ways through it, so "allowed" must not lead on to other
//! groups. From a workload it returns to the base chain, which goes on with the destination's group; to a workload it
//! accepts. "Passed" goes to a chain with the stages that follow; no packet mark is used, since marks belong to others.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tortie_model::resource::TierAction;

use crate::Problems;
use crate::ir::{Action, Chain, Comment, Direction, Match, Rule, Ruleset, Verdict};
use crate::lower::{self, Effect};
use crate::order::{Stage, Tiers};
use crate::select::{Body, Labelled, Policy, Rules, subject};
use crate::sets::{Names, Sets};

/// Prefix of log lines (felix-dataplane 3.2).
const LOG_PREFIX: &str = "calico-packet: ";

/// How often a group may lead on to another chain. The kernel refuses paths of more than 16 chains.
const MAX_PASSES: usize = 10;

/// The chains made so far.
pub(crate) struct Groups<'a> {
    tiers: &'a Tiers<'a>,
    profiles: &'a BTreeMap<&'a str, Rules>,
    sets: Sets<'a>,
    names: Names,
    known: BTreeMap<String, String>,
    chains: BTreeMap<String, Chain>,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(
        tiers: &'a Tiers<'a>,
        profiles: &'a BTreeMap<&'a str, Rules>,
        sets: Sets<'a>,
    ) -> Groups<'a> {
        let (names, known, chains) = Default::default();
        Groups { tiers, profiles, sets, names, known, chains }
    }

    /// Name of the chain that decides about traffic of an endpoint in a direction.
    pub(crate) fn chain_for(
        &mut self,
        endpoint: &Labelled<'a>,
        direction: Direction,
        problems: &mut Problems,
    ) -> String {
        let stages = self.tiers.stages(endpoint, direction);
        let keys: Vec<String> = stages.iter().map(Stage::key).collect();
        let key = format!("{direction:?} {keys:?}");
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let prefix = match direction {
            Direction::Ingress => "in-",
            Direction::Egress => "out-",
        };
        let name = self.names.unique(prefix, &key);
        let mut writer = Writer { direction, sets: &mut self.sets, chains: &mut self.chains, problems };
        writer.group(&name, &stages, self.profiles);
        self.known.insert(key, name.clone());
        name
    }

    /// Adds the chains and the sets they use to a rule-set.
    pub(crate) fn finish(self, ruleset: &mut Ruleset) {
        ruleset.chains.extend(self.chains);
        ruleset.sets.extend(self.sets.into_sets());
    }
}

/// Writes the chains of one group.
struct Writer<'w, 'a> {
    direction: Direction,
    sets: &'w mut Sets<'a>,
    chains: &'w mut BTreeMap<String, Chain>,
    problems: &'w mut Problems,
}

/// What passing out of a stage means.
#[derive(Clone, Copy)]
enum Pass<'a> {
    /// The chain with the stages that follow.
    To(&'a str),
    /// Nothing follows, and nothing has matched.
    End,
    /// More follows than the kernel would go along with.
    TooDeep,
}

/// Where rules come from.
struct Origin {
    /// Kind and name.
    subject: String,
    /// The beginning of their comments.
    place: String,
}

/// A chain being written. Nothing is added after a rule that decides about every packet.
#[derive(Default)]
struct Draft {
    chain: Chain,
    closed: bool,
}

impl Draft {
    fn push(&mut self, matches: Vec<Match>, action: Action, comment: Comment) {
        if !self.closed {
            self.closed = matches.is_empty() && matches!(action, Action::Verdict(_));
            self.chain.rules.push(Rule { matches, counter: true, action, comment });
        }
    }

    fn leads_to(&self, name: &str) -> bool {
        let goto = Action::Verdict(Verdict::Goto(name.to_owned()));
        self.chain.rules.iter().any(|rule| rule.action == goto)
    }
}

impl Writer<'_, '_> {
    fn group(&mut self, name: &str, stages: &[Stage<'_>], profiles: &BTreeMap<&str, Rules>) {
        let mut draft = Draft::default();
        let mut at = name.to_owned();
        let (mut first, mut passes) = (0, 0);
        for (i, stage) in stages.iter().enumerate() {
            let next = format!("{name}.{}", i + 1);
            let pass = match (i + 1 < stages.len(), passes < MAX_PASSES) {
                (false, _) => Pass::End,
                (true, true) => Pass::To(&next),
                (true, false) => Pass::TooDeep,
            };
            self.stage(&mut draft, stage, profiles, pass);
            if !draft.leads_to(&next) {
                continue;
            }
            let on = Action::Verdict(Verdict::Goto(next.clone()));
            draft.push(vec![], on, Comment::new("on to what follows"));
            draft.chain.comment = describe(&stages[first..=i]);
            self.chains.insert(std::mem::replace(&mut at, next), std::mem::take(&mut draft).chain);
            (first, passes) = (i + 1, passes + 1);
        }
        draft.push(vec![], Action::Verdict(Verdict::Drop), Comment::new("nothing matched"));
        draft.chain.comment = describe(&stages[first..]);
        self.chains.insert(at, draft.chain);
    }

    fn stage(
        &mut self,
        draft: &mut Draft,
        stage: &Stage<'_>,
        profiles: &BTreeMap<&str, Rules>,
        pass: Pass<'_>,
    ) {
        let drop = || Action::Verdict(Verdict::Drop);
        match stage {
            Stage::Unreadable(ids) => {
                let names: Vec<_> = ids.iter().map(|id| subject(id)).collect();
                draft.push(vec![], drop(), Comment::with_tail(&names.join(", "), " cannot be read"));
            }
            Stage::Tier { name, default_action, policies } => {
                for policy in policies {
                    self.policy(draft, name, policy, pass);
                }
                if *default_action == TierAction::Deny {
                    draft.push(vec![], drop(), Comment::with_tail(&format!("tier {name}"), " end"));
                }
            }
            Stage::Profile(name) => {
                // Passing out of a profile is the same as matching nothing in it.
                if let Some(rules) = profiles.get(name) {
                    let origin =
                        Origin { subject: format!("Profile {name}"), place: format!("profile {name}") };
                    self.rules(draft, &origin, rules, pass);
                }
            }
        }
    }

    fn policy(&mut self, draft: &mut Draft, tier: &str, policy: &Policy<'_>, pass: Pass<'_>) {
        let place = format!("tier {tier} policy {}", short(policy));
        let origin = Origin { subject: subject(policy.id), place };
        match &policy.body {
            Body::Rules(rules) => self.rules(draft, &origin, rules, pass),
            Body::Deny | Body::DenyFirst => {
                let comment = Comment::with_tail(&origin.place, " has a mistake and denies");
                draft.push(vec![], Action::Verdict(Verdict::Drop), comment);
            }
        }
    }

    fn rules(&mut self, draft: &mut Draft, origin: &Origin, rules: &Rules, pass: Pass<'_>) {
        let (field, allow) = match self.direction {
            Direction::Ingress => ("ingress", Verdict::Accept),
            Direction::Egress => ("egress", Verdict::Return),
        };
        for (i, rule) in rules.of(self.direction).iter().enumerate() {
            let Some(effect) = rule.effect() else { continue };
            let action = match effect {
                Effect::Allow => Action::Verdict(allow.clone()),
                Effect::Deny => Action::Verdict(Verdict::Drop),
                Effect::Pass => Action::Verdict(self.pass_verdict(pass, origin)),
                Effect::Log => Action::Log(LOG_PREFIX),
            };
            let comment = Comment::with_tail(&origin.place, &format!(" {field}[{i}]"));
            for matches in lower::matches(rule, self.sets) {
                draft.push(matches, action.clone(), comment.clone());
            }
        }
    }

    fn pass_verdict(&mut self, pass: Pass<'_>, origin: &Origin) -> Verdict {
        match pass {
            Pass::To(next) => Verdict::Goto(next.to_owned()),
            Pass::End => Verdict::Drop,
            Pass::TooDeep => {
                let reason = format!("its Pass comes after {MAX_PASSES} tiers with Pass rules, so it denies");
                self.problems.add(&origin.subject, reason);
                Verdict::Drop
            }
        }
    }
}

fn short(policy: &Policy<'_>) -> String {
    match policy.id.namespace.as_str() {
        "" => policy.id.name.clone(),
        namespace => format!("{namespace}/{}", policy.id.name),
    }
}

fn describe(stages: &[Stage<'_>]) -> Comment {
    let mut text = String::new();
    for stage in stages {
        let separator = if text.is_empty() { "" } else { "; " };
        // Writing to a string cannot fail.
        let _ = match stage {
            Stage::Unreadable(_) => write!(text, "{separator}policies that cannot be read"),
            Stage::Tier { name, policies, .. } => {
                let policies: Vec<_> = policies.iter().map(|p| short(p)).collect();
                write!(text, "{separator}tier {name}: {}", policies.join(", "))
            }
            Stage::Profile(name) => write!(text, "{separator}profile {name}"),
        };
    }
    Comment::new(if text.is_empty() { "no policy, no profile" } else { &text })
}
