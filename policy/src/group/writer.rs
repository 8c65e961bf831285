//! The chains of one group, from its stages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tortie_model::resource::TierAction;

use crate::Problems;
use crate::host;
use crate::ir::{Action, Chain, Comment, Direction, Match, Rule, Verdict};
use crate::log::LogOrigin;
use crate::lower::{self, Effect};
use crate::merge::Merge;
use crate::order::Stage;
use crate::phase::Phase;
use crate::select::{Body, Policy, Rules, subject};
use crate::sets::Sets;
use crate::snapshot::{Options, PolicyId};
use crate::staged;

/// How often a group may lead on to another chain. The kernel refuses paths of more than 16 chains.
const MAX_PASSES: usize = 10;

/// Writes the chains of one group.
pub(super) struct Writer<'w> {
    pub(super) direction: Direction,
    pub(super) phase: Phase,
    pub(super) sets: &'w mut Sets,
    pub(super) options: &'w Options,
    /// Chains that count staged policies.
    pub(super) jumps: BTreeMap<PolicyId, String>,
    pub(super) chains: BTreeMap<String, Chain>,
    pub(super) problems: &'w mut Problems,
    /// See [`crate::merge::share`].
    pub(super) share: usize,
    /// How many rows merged sets would have, were it not for the share.
    pub(super) widths: BTreeSet<usize>,
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
            self.closed = matches.is_empty() && matches!(action, Action::Verdict(_) | Action::Reject);
            self.chain.rules.push(Rule { matches, counter: true, action, comment });
        }
    }

    fn leads_to(&self, name: &str) -> bool {
        let goto = Action::Verdict(Verdict::Goto(name.to_owned()));
        self.chain.rules.iter().any(|rule| rule.action == goto)
    }
}

impl Writer<'_> {
    /// Writes the chains for these stages; the first is called `name`.
    pub(super) fn group(&mut self, name: &str, stages: &[Stage]) {
        let mut draft = Draft::default();
        // What is only counted must not change what becomes of a packet.
        if self.phase.is_closed() || stages.iter().any(|stage| !matches!(stage, Stage::Staged(_))) {
            draft.chain.rules = host::preamble(self.options, self.phase, self.direction);
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
            let chain = std::mem::take(&mut draft).chain;
            self.insert(std::mem::replace(&mut at, next), chain);
            (first, passes) = (i + 1, passes + 1);
        }
        if self.phase.is_closed() {
            draft.push(vec![], self.deny(), Comment::new("nothing matched"));
        }
        draft.chain.comment = describe(&stages[first..]);
        self.insert(at, draft.chain);
    }

    fn insert(&mut self, name: String, mut chain: Chain) {
        let rows = self.options.merged_rows;
        if rows > 0 {
            let (sets, widths) = (&mut *self.sets, &mut self.widths);
            let most = rows.div_ceil(2);
            let mut merge = Merge { direction: self.direction, sets, share: self.share, most, widths };
            chain.rules = merge.rules(chain.rules);
        }
        self.chains.insert(name, chain);
    }

    fn stage(&mut self, draft: &mut Draft, stage: &Stage, pass: Pass<'_>) {
        match stage {
            Stage::Staged(policies) => {
                let jumps = policies.iter().filter_map(|policy| self.jumps.get(&policy.id));
                draft.chain.rules.extend(jumps.map(|chain| staged::jump(chain.clone())));
            }
            Stage::Unreadable(policies) => {
                let names: Vec<_> = policies.iter().map(|policy| subject(&policy.id)).collect();
                draft.push(vec![], self.deny(), Comment::with_tail(&names.join(", "), " cannot be read"));
            }
            Stage::Tier { name, default_action, policies } => {
                for policy in policies {
                    self.policy(draft, name, policy, pass);
                }
                if *default_action == TierAction::Deny {
                    draft.push(vec![], self.deny(), Comment::with_tail(&format!("tier {name}"), " end"));
                }
            }
            Stage::Profile(name, rules) => {
                // Passing out of a profile is the same as matching nothing in it.
                if let Some(rules) = rules {
                    let origin = Origin {
                        subject: format!("Profile {name}"),
                        place: format!("profile {name}"),
                        log: LogOrigin { tier: "profile", kind: "pro", namespace: "", name, rule: "" },
                    };
                    self.rules(draft, &origin, rules, pass);
                }
            }
        }
    }

    fn policy(&mut self, draft: &mut Draft, tier: &str, policy: &Policy, pass: Pass<'_>) {
        let place = format!("tier {tier} policy {}", short(policy));
        let PolicyId { name, namespace } = &policy.id;
        let kind = if namespace.is_empty() { "gnp" } else { "np" };
        let log = LogOrigin { tier, kind, namespace, name, rule: "" };
        let origin = Origin { subject: subject(&policy.id), place, log };
        match &policy.body {
            Body::Rules(rules) => self.rules(draft, &origin, rules, pass),
            Body::Deny | Body::DenyFirst => {
                let comment = Comment::with_tail(&origin.place, " has a mistake and denies");
                draft.push(vec![], self.deny(), comment);
            }
        }
    }

    fn rules(&mut self, draft: &mut Draft, origin: &Origin<'_>, rules: &Rules, pass: Pass<'_>) {
        let (field, allow) = (field(self.direction), self.phase.allow(self.direction));
        for (i, rule) in rules.of(self.direction).iter().enumerate() {
            let Some(effect) = rule.effect() else { continue };
            let place = format!("{field}[{i}]");
            let action = match effect {
                Effect::Allow => Action::Verdict(allow.clone()),
                Effect::Deny => self.deny(),
                Effect::Pass => self.pass_action(pass, origin),
                Effect::Log => self.options.log.action(LogOrigin { rule: &place, ..origin.log }),
            };
            let comment = Comment::with_tail(&origin.place, &format!(" {place}"));
            for matches in lower::matches(rule, self.sets) {
                draft.push(matches, action.clone(), comment.clone());
            }
        }
    }

    fn deny(&self) -> Action {
        self.phase.deny(self.direction, self.options.deny)
    }

    fn pass_action(&mut self, pass: Pass<'_>, origin: &Origin<'_>) -> Action {
        match pass {
            Pass::To(next) => Action::Verdict(Verdict::Goto(next.to_owned())),
            Pass::End if self.phase.is_closed() => self.deny(),
            Pass::End => Action::Verdict(Verdict::Return),
            Pass::TooDeep => {
                let reason = format!("its Pass comes after {MAX_PASSES} tiers with Pass rules, so it denies");
                self.problems.add(&origin.subject, reason);
                self.deny()
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

pub(crate) fn short(policy: &Policy) -> String {
    match policy.id.namespace.as_str() {
        "" => policy.id.name.clone(),
        namespace => format!("{namespace}/{}", policy.id.name),
    }
}

fn describe(stages: &[Stage]) -> Comment {
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
            Stage::Profile(name, _) => write!(text, "{separator}profile {name}"),
        };
    }
    Comment::new(if text.is_empty() { "no policy, no profile" } else { &text })
}
