//! Stages as chains, one group of chains for all endpoints and directions with the same stages.
//!
//! The kernel's walk over a table at each commit grows with the ways through it, so "allowed" must not lead on to other
//! groups. From a workload it returns to the base chain, which goes on with the destination's group; to a workload it
//! accepts. "Passed" goes to a chain with the stages that follow; no packet mark is used, since marks belong to others.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tortie_model::resource::TierAction;

use crate::Problems;
use crate::host;
use crate::ir::{Action, Chain, Comment, Direction, Match, Rule, Ruleset, Verdict};
use crate::log::LogOrigin;
use crate::lower::{self, Effect};
use crate::order::{Stage, Tiers};
use crate::phase::Phase;
use crate::select::{Body, Labelled, Policy, Rules, subject};
use crate::sets::{Names, Sets};
use crate::snapshot::{Options, PolicyId};
use crate::staged;

/// How often a group may lead on to another chain. The kernel refuses paths of more than 16 chains.
const MAX_PASSES: usize = 10;

/// The chains made so far.
pub(crate) struct Groups<'a> {
    tiers: &'a Tiers<'a>,
    profiles: &'a BTreeMap<&'a str, Rules>,
    sets: Sets<'a>,
    options: &'a Options,
    names: Names,
    known: BTreeMap<String, String>,
    chains: BTreeMap<String, Chain>,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(
        tiers: &'a Tiers<'a>,
        profiles: &'a BTreeMap<&'a str, Rules>,
        sets: Sets<'a>,
        options: &'a Options,
    ) -> Groups<'a> {
        let (names, known, chains) = Default::default();
        Groups { tiers, profiles, sets, options, names, known, chains }
    }

    /// Name of the chain that decides about traffic of an endpoint in a direction; `None` when that would let everything on
    /// in a phase that is open anyway.
    pub(crate) fn chain_for(
        &mut self,
        endpoint: &Labelled<'a>,
        direction: Direction,
        phase: Phase,
        problems: &mut Problems,
    ) -> Option<String> {
        let stages = self.tiers.stages(endpoint, direction, phase);
        if stages.is_empty() && !phase.is_closed() {
            return None;
        }
        let keys: Vec<String> = stages.iter().map(Stage::key).collect();
        let key = match phase {
            Phase::Workload => format!("{direction:?} {keys:?}"),
            Phase::Untracked | Phase::PreDnat | Phase::Forward | Phase::Host => {
                format!("{phase:?} {direction:?} {keys:?}")
            }
        };
        if let Some(name) = self.known.get(&key) {
            return Some(name.clone());
        }
        let name = self.names.unique(phase.prefix(direction), &key);
        let mut writer = Writer { direction, phase, groups: self, problems };
        writer.group(&name, &stages);
        self.known.insert(key, name.clone());
        Some(name)
    }

    fn log(&self, origin: LogOrigin<'_>) -> Action {
        Action::Log { prefix: self.options.log.prefix(origin), group: self.options.log.group }
    }

    /// Whether any policy is about an endpoint in a direction at this place.
    pub(crate) fn concerns(&self, endpoint: &Labelled<'a>, direction: Direction, phase: Phase) -> bool {
        !self.tiers.stages(endpoint, direction, phase).is_empty()
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
    phase: Phase,
    groups: &'w mut Groups<'a>,
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
struct Origin<'a> {
    /// Kind and name.
    subject: String,
    /// The beginning of their comments.
    place: String,
    /// What lines of the log can tell.
    log: LogOrigin<'a>,
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
    fn group(&mut self, name: &str, stages: &[Stage<'_>]) {
        let mut draft = Draft::default();
        // What is only counted must not change what becomes of a packet.
        if self.phase.is_closed() || stages.iter().any(|stage| !matches!(stage, Stage::Staged(_))) {
            draft.chain.rules = host::preamble(self.groups.options, self.phase, self.direction);
        }
        let mut at = name.to_owned();
        let (mut first, mut passes) = (0, 0);
        for (i, stage) in stages.iter().enumerate() {
            let next = format!("{name}.{}", i + 1);
            let pass = match (i + 1 < stages.len(), passes < MAX_PASSES) {
                (false, _) => Pass::End,
                (true, true) => Pass::To(&next),
                (true, false) => Pass::TooDeep,
            };
            self.stage(&mut draft, stage, pass);
            if !draft.leads_to(&next) {
                continue;
            }
            let on = Action::Verdict(Verdict::Goto(next.clone()));
            draft.push(vec![], on, Comment::new("on to what follows"));
            draft.chain.comment = describe(&stages[first..=i]);
            self.groups.chains.insert(std::mem::replace(&mut at, next), std::mem::take(&mut draft).chain);
            (first, passes) = (i + 1, passes + 1);
        }
        if self.phase.is_closed() {
            draft.push(vec![], Action::Verdict(Verdict::Drop), Comment::new("nothing matched"));
        }
        draft.chain.comment = describe(&stages[first..]);
        self.groups.chains.insert(at, draft.chain);
    }

    fn stage(&mut self, draft: &mut Draft, stage: &Stage<'_>, pass: Pass<'_>) {
        let drop = || Action::Verdict(Verdict::Drop);
        match stage {
            Stage::Staged(policies) => {
                for policy in policies {
                    let chain = self.staged(policy);
                    draft.chain.rules.push(staged::jump(chain));
                }
            }
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
                let profiles = self.groups.profiles;
                if let Some(rules) = profiles.get(name) {
                    let origin = Origin {
                        subject: format!("Profile {name}"),
                        place: format!("profile {name}"),
                        log: LogOrigin { tier: "profile", kind: "pro", namespace: "", name },
                    };
                    self.rules(draft, &origin, rules, pass);
                }
            }
        }
    }

    /// Name of the chain that counts what a staged policy would do; all groups share it.
    fn staged(&mut self, policy: &Policy<'_>) -> String {
        let key = format!("staged {:?} {:?}", self.direction, policy.id);
        if let Some(name) = self.groups.known.get(&key) {
            return name.clone();
        }
        let name = self.groups.names.unique(staged::prefix(self.direction), &key);
        let chain = staged::chain(policy, self.direction, &mut self.groups.sets);
        self.groups.chains.insert(name.clone(), chain);
        self.groups.known.insert(key, name.clone());
        name
    }

    fn policy(&mut self, draft: &mut Draft, tier: &str, policy: &Policy<'_>, pass: Pass<'_>) {
        let place = format!("tier {tier} policy {}", short(policy));
        let PolicyId { name, namespace } = policy.id;
        let kind = if namespace.is_empty() { "gnp" } else { "np" };
        let log = LogOrigin { tier, kind, namespace, name };
        let origin = Origin { subject: subject(policy.id), place, log };
        match &policy.body {
            Body::Rules(rules) => self.rules(draft, &origin, rules, pass),
            Body::Deny | Body::DenyFirst => {
                let comment = Comment::with_tail(&origin.place, " has a mistake and denies");
                draft.push(vec![], Action::Verdict(Verdict::Drop), comment);
            }
        }
    }

    fn rules(&mut self, draft: &mut Draft, origin: &Origin<'_>, rules: &Rules, pass: Pass<'_>) {
        let (field, allow) = (field(self.direction), self.phase.allow(self.direction));
        for (i, rule) in rules.of(self.direction).iter().enumerate() {
            let Some(effect) = rule.effect() else { continue };
            let action = match effect {
                Effect::Allow => Action::Verdict(allow.clone()),
                Effect::Deny => Action::Verdict(Verdict::Drop),
                Effect::Pass => Action::Verdict(self.pass_verdict(pass, origin)),
                Effect::Log => self.groups.log(origin.log),
            };
            let comment = Comment::with_tail(&origin.place, &format!(" {field}[{i}]"));
            for matches in lower::matches(rule, &mut self.groups.sets) {
                draft.push(matches, action.clone(), comment.clone());
            }
        }
    }

    fn pass_verdict(&mut self, pass: Pass<'_>, origin: &Origin<'_>) -> Verdict {
        match pass {
            Pass::To(next) => Verdict::Goto(next.to_owned()),
            Pass::End if self.phase.is_closed() => Verdict::Drop,
            Pass::End => Verdict::Return,
            Pass::TooDeep => {
                let reason = format!("its Pass comes after {MAX_PASSES} tiers with Pass rules, so it denies");
                self.problems.add(&origin.subject, reason);
                Verdict::Drop
            }
        }
    }
}

/// The field of a policy that holds the rules of a direction.
pub(crate) fn field(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

pub(crate) fn short(policy: &Policy<'_>) -> String {
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
            Stage::Staged(policies) => {
                let policies: Vec<_> = policies.iter().map(|p| short(p)).collect();
                write!(text, "{separator}staged: {}", policies.join(", "))
            }
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
