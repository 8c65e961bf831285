//! Stages as chains, one group of chains for all endpoints and directions with the same stages.
//!
//! The kernel's walk over a table at each commit grows with the ways through it, so "allowed" must not lead on to other
//! groups. From a workload it returns to the base chain, which goes on with the destination's group; to a workload it
//! accepts. "Passed" goes to a chain with the stages that follow; no packet mark is used, since marks belong to others.

mod writer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;

use crate::ir::{Chain, Direction, Reference, Rule};
use crate::merge;
use crate::order::Stage;
use crate::phase::Phase;
use crate::select::Policy;
use crate::sets::{DefinitionId, Names, Sets};
use crate::snapshot::{Options, PolicyId};
use crate::staged;
use crate::{Problem, Problems};
use writer::Writer;
pub(crate) use writer::{field, short};

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
    /// Sets its rules name.
    names: BTreeSet<String>,
    /// How many rows merged sets of it would have, were it not for its share.
    widths: BTreeSet<usize>,
    /// Groups it leads to.
    holds: Vec<GroupId>,
    problems: BTreeSet<Problem>,
}

/// All groups.
#[derive(Debug)]
pub(crate) struct Groups {
    all: Slab<Group>,
    by_key: HashMap<String, GroupId>,
    names: Names,
    /// Those that may have no users any more.
    idle: BTreeSet<GroupId>,
    /// Chains other than before.
    touched: BTreeMap<String, Option<Chain>>,
    /// What each may have; see [`merge::share`].
    share: usize,
}

impl Default for Groups {
    fn default() -> Groups {
        Groups {
            all: Slab::new(),
            by_key: HashMap::new(),
            names: Names::default(),
            idle: BTreeSet::new(),
            touched: BTreeMap::new(),
            // Until it is known how many there are.
            share: usize::MAX,
        }
    }
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

    /// Writes a group anew. One without users is about to go: what it is made of may be out of date.
    pub(crate) fn write(&mut self, id: GroupId, sets: &mut Sets, options: &Options) {
        let Some(group) = self.all.get(id).filter(|group| group.users > 0) else { return };
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
                    share: self.share,
                    widths: BTreeSet::new(),
                };
                writer.group(&name, stages);
                Written { chains: writer.chains, widths: writer.widths, holds, ..Written::default() }
            }
        };
        written.uses = sets.take_used();
        written.names = names(&written.chains);
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
        sets.set_named(id, &old.names, &new.names);
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
    pub(crate) fn settle(&mut self, sets: &mut Sets, options: &Options) -> BTreeMap<String, Option<Chain>> {
        self.drop_idle(sets);
        let share = merge::share(options.merged_rows, self.all.len());
        if share != self.share {
            let (less, more) = (share.min(self.share), share.max(self.share));
            self.share = share;
            // What fits into both shares or into none stays as it is.
            let differs = |(_, group): &(GroupId, &Group)| {
                group.written.widths.range(less.saturating_add(1)..=more).next().is_some()
            };
            let differing: Vec<GroupId> = self.all.iter().filter(differs).map(|(id, _)| id).collect();
            differing.into_iter().for_each(|id| self.write(id, sets, options));
            self.drop_idle(sets);
        }
        std::mem::take(&mut self.touched)
    }

    fn drop_idle(&mut self, sets: &mut Sets) {
        while let Some(id) = self.idle.pop_first() {
            if self.all.get(id).is_none_or(|group| group.users > 0) {
                continue;
            }
            self.commit(id, Written::default(), sets);
            let group = self.all.remove(id);
            self.by_key.remove(&group.key);
            self.names.release(&group.name);
        }
    }

    /// What is wrong with what, in the groups there are.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.all.iter().flat_map(|(_, group)| &group.written.problems)
    }
}

/// The sets that rules name.
fn names(chains: &BTreeMap<String, Chain>) -> BTreeSet<String> {
    let references = chains.values().flat_map(|chain| &chain.rules).flat_map(Rule::references);
    let sets = references.filter_map(|reference| match reference {
        Reference::Set(name) => Some(name.to_owned()),
        Reference::Chain(_) | Reference::Map(_) => None,
    });
    sets.collect()
}
