//! Stages as chains, one group of chains for all endpoints and directions with the same stages.
//!
//! The kernel's walk over a table at each commit grows with the ways through it, so "allowed" must not lead on to other
//! groups. From a workload it returns to the base chain, which goes on with the destination's group; to a workload it
//! accepts. "Passed" goes to a chain with the stages that follow; no packet mark is used, since marks belong to others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use slab::Slab;
use tortie_model::resource::TierAction;

use crate::host;
use crate::ir::{Action, Chain, Comment, Direction, Match, Rule, Verdict};
use crate::log::LogOrigin;
use crate::lower::{self, Effect};
use crate::order::Stage;
use crate::phase::Phase;
use crate::select::{Body, Policy, Rules, subject};
use crate::sets::{DefinitionId, Names, Sets};
use crate::snapshot::{Options, PolicyId};
use crate::staged;
use crate::{Problem, Problems};

/// How often a group may lead on to another chain. The kernel refuses paths of more than 16 chains.
const MAX_PASSES: usize = 10;

/// Number of a group; numbers are used again.
pub(crate) type GroupId = usize;

/// What the chains of a group are made from.
#[derive(Clone, Debug)]
enum Content {
    /// The way of a packet at a place.
    Stages(Phase, Vec<Stage>),
    /// A staged policy, counted.
    Staged(Arc<Policy>),
}

impl Content {
    /// Tells contents apart by the names in them, so that it stays the same when rules or other policies change.
    fn key(&self, direction: Direction) -> String {
        match self {
            Content::Stages(phase, stages) => {
                let keys: Vec<String> = stages.iter().map(Stage::key).collect();
                match phase {
                    Phase::Workload => format!("{direction:?} {keys:?}"),
                    Phase::Untracked | Phase::PreDnat | Phase::Forward | Phase::Host => {
                        format!("{phase:?} {direction:?} {keys:?}")
                    }
                }
            }
            Content::Staged(policy) => format!("staged {direction:?} {:?}", policy.id),
        }
    }

    fn prefix(&self, direction: Direction) -> &'static str {
        match self {
            Content::Stages(phase, _) => phase.prefix(direction),
            Content::Staged(_) => staged::prefix(direction),
        }
    }

    fn is_same(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Stages(_, a), Content::Stages(_, b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b))
            }
            (Content::Staged(a), Content::Staged(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Group {
    key: String,
    name: String,
    direction: Direction,
    content: Content,
    users: usize,
    written: Written,
}

/// What writing a group yields.
#[derive(Debug, Default)]
struct Written {
    /// Its chains by name.
    chains: BTreeMap<String, Chain>,
    /// Definitions its rules use.
    uses: BTreeSet<DefinitionId>,
    /// Groups it leads to.
    holds: Vec<GroupId>,
    problems: BTreeSet<Problem>,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    all: Slab<Group>,
    by_key: HashMap<String, GroupId>,
    names: Names,
    /// Those that may have no users any more.
    idle: BTreeSet<GroupId>,
    /// Chains other than before.
    touched: BTreeMap<String, Option<Chain>>,
}

impl Groups {
    /// The group for these stages, with one more user; `None` when it would let everything on in a phase that is open
    /// anyway.
    pub(crate) fn ask(
        &mut self,
        direction: Direction,
        phase: Phase,
        stages: Vec<Stage>,
        sets: &mut Sets,
        options: &Options,
    ) -> Option<GroupId> {
        if stages.is_empty() && !phase.is_closed() {
            return None;
        }
        Some(self.need(direction, Content::Stages(phase, stages), sets, options))
    }

    fn need(
        &mut self,
        direction: Direction,
        content: Content,
        sets: &mut Sets,
        options: &Options,
    ) -> GroupId {
        let key = content.key(direction);
        if let Some(id) = self.by_key.get(&key).copied() {
            let Some(group) = self.all.get_mut(id) else { return id };
            group.users += 1;
            if !group.content.is_same(&content) {
                group.content = content;
                self.write(id, sets, options);
            }
            return id;
        }
        let name = self.names.unique(content.prefix(direction), &key);
        let written = Written::default();
        let group = Group { key: key.clone(), name, direction, content, users: 1, written };
        let id = self.all.insert(group);
        self.by_key.insert(key, id);
        self.write(id, sets, options);
        id
    }

    /// Name of its first chain.
    pub(crate) fn name(&self, id: GroupId) -> Option<&str> {
        self.all.get(id).map(|group| group.name.as_str())
    }

    /// One user of a group more.
    pub(crate) fn hold(&mut self, id: GroupId) {
        if let Some(group) = self.all.get_mut(id) {
            group.users += 1;
        }
    }

    /// One user of a group less.
    pub(crate) fn release(&mut self, id: GroupId) {
        if let Some(group) = self.all.get_mut(id) {
            group.users = group.users.saturating_sub(1);
            self.idle.insert(id);
        }
    }

    /// Writes a group anew.
    pub(crate) fn write(&mut self, id: GroupId, sets: &mut Sets, options: &Options) {
        let Some(group) = self.all.get(id) else { return };
        let (name, direction, content) = (group.name.clone(), group.direction, group.content.clone());
        let mut problems = Problems::default();
        // What others asked for and did not say so is theirs.
        sets.take_used();
        let mut written = match &content {
            Content::Staged(policy) => {
                let chain = staged::chain(policy, direction, sets);
                Written { chains: BTreeMap::from([(name, chain)]), ..Written::default() }
            }
            Content::Stages(phase, stages) => {
                let (jumps, holds) = self.staged(stages, direction, sets, options);
                sets.take_used();
                let mut writer = Writer {
                    direction,
                    phase: *phase,
                    sets,
                    options,
                    jumps,
                    chains: BTreeMap::new(),
                    problems: &mut problems,
                };
                writer.group(&name, stages);
                Written { chains: writer.chains, holds, ..Written::default() }
            }
        };
        written.uses = sets.take_used();
        written.problems = problems.0;
        self.commit(id, written, sets);
    }

    /// Chains that count what staged policies would do; all groups share them.
    fn staged(
        &mut self,
        stages: &[Stage],
        direction: Direction,
        sets: &mut Sets,
        options: &Options,
    ) -> (BTreeMap<PolicyId, String>, Vec<GroupId>) {
        let (mut jumps, mut holds) = (BTreeMap::new(), Vec::new());
        let staged = stages.iter().flat_map(|stage| match stage {
            Stage::Staged(policies) => policies.as_slice(),
            Stage::Unreadable(_) | Stage::Tier { .. } | Stage::Profile(..) => &[],
        });
        for policy in staged {
            let id = self.need(direction, Content::Staged(Arc::clone(policy)), sets, options);
            holds.push(id);
            jumps.extend(self.name(id).map(|name| (policy.id.clone(), name.to_owned())));
        }
        (jumps, holds)
    }

    fn commit(&mut self, id: GroupId, written: Written, sets: &mut Sets) {
        let Some(group) = self.all.get_mut(id) else { return };
        let old = std::mem::replace(&mut group.written, written);
        let new = &group.written;
        sets.set_uses(id, &old.uses, &new.uses);
        for (name, chain) in &new.chains {
            if old.chains.get(name) != Some(chain) {
                self.touched.insert(name.clone(), Some(chain.clone()));
            }
        }
        for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            self.touched.insert(name.clone(), None);
        }
        old.holds.into_iter().for_each(|held| self.release(held));
    }

    /// Writes all groups anew.
    pub(crate) fn write_all(&mut self, sets: &mut Sets, options: &Options) {
        let all: Vec<GroupId> = self.all.iter().map(|(id, _)| id).collect();
        all.into_iter().for_each(|id| self.write(id, sets, options));
    }

    /// Drops groups nobody uses, and tells which chains are other than before, or gone.
    pub(crate) fn settle(&mut self, sets: &mut Sets) -> BTreeMap<String, Option<Chain>> {
        while let Some(id) = self.idle.pop_first() {
            if self.all.get(id).is_none_or(|group| group.users > 0) {
                continue;
            }
            self.commit(id, Written::default(), sets);
            let group = self.all.remove(id);
            self.by_key.remove(&group.key);
            self.names.release(&group.name);
        }
        std::mem::take(&mut self.touched)
    }

    /// What is wrong with what, in the groups there are.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.all.iter().flat_map(|(_, group)| &group.written.problems)
    }
}

/// Writes the chains of one group.
struct Writer<'w> {
    direction: Direction,
    phase: Phase,
    sets: &'w mut Sets,
    options: &'w Options,
    /// Chains that count staged policies.
    jumps: BTreeMap<PolicyId, String>,
    chains: BTreeMap<String, Chain>,
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

impl Writer<'_> {
    fn group(&mut self, name: &str, stages: &[Stage]) {
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
            self.chains.insert(std::mem::replace(&mut at, next), std::mem::take(&mut draft).chain);
            (first, passes) = (i + 1, passes + 1);
        }
        if self.phase.is_closed() {
            draft.push(vec![], Action::Verdict(Verdict::Drop), Comment::new("nothing matched"));
        }
        draft.chain.comment = describe(&stages[first..]);
        self.chains.insert(at, draft.chain);
    }

    fn stage(&mut self, draft: &mut Draft, stage: &Stage, pass: Pass<'_>) {
        let drop = || Action::Verdict(Verdict::Drop);
        match stage {
            Stage::Staged(policies) => {
                let jumps = policies.iter().filter_map(|policy| self.jumps.get(&policy.id));
                draft.chain.rules.extend(jumps.map(|chain| staged::jump(chain.clone())));
            }
            Stage::Unreadable(policies) => {
                let names: Vec<_> = policies.iter().map(|policy| subject(&policy.id)).collect();
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
            Stage::Profile(name, rules) => {
                // Passing out of a profile is the same as matching nothing in it.
                if let Some(rules) = rules {
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

    fn policy(&mut self, draft: &mut Draft, tier: &str, policy: &Policy, pass: Pass<'_>) {
        let place = format!("tier {tier} policy {}", short(policy));
        let PolicyId { name, namespace } = &policy.id;
        let kind = if namespace.is_empty() { "gnp" } else { "np" };
        let log = LogOrigin { tier, kind, namespace, name };
        let origin = Origin { subject: subject(&policy.id), place, log };
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
                Effect::Log => {
                    Action::Log { prefix: self.options.log.prefix(origin.log), group: self.options.log.group }
                }
            };
            let comment = Comment::with_tail(&origin.place, &format!(" {field}[{i}]"));
            for matches in lower::matches(rule, self.sets) {
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
