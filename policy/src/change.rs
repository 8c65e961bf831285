//! What leads from one rule-set to another, object by object: a transaction costs what has changed, not what there is.
//!
//! [`diff`] orders changes so that the kernel takes them in one batch: nothing is named before it is there or removed
//! while it is named, and members leave before others come. Of its own parts the kernel can change only the rules of a chain
//! and the members of a set or map; whatever else differs makes the object anew, and with it the rules and rows that
//! name it.

mod apply;

pub use apply::Impossible;

use std::collections::{BTreeMap, BTreeSet};

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

use crate::ir::{
    Base, Chain, Comment, Elements, InterfaceName, Reference, Rule, Ruleset, Set, SetHead, SetKind, Verdict,
    VerdictMap,
};

/// Rows of a map.
pub type Rows = OrdMap<InterfaceName, Verdict>;

/// A change to one object of the table.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The table is made anew, empty; what was in it is gone.
    Reset,
    /// A chain without rules.
    CreateChain(String, Option<Base>, Comment),
    /// A chain has these rules and no others.
    SetRules(String, Vec<Rule>),
    /// A chain that has no rules and that nothing names goes.
    RemoveChain(String),
    /// A map without rows.
    CreateMap(String, Comment),
    /// A map gets more rows.
    AddRows(String, Rows),
    /// A map loses rows it has.
    RemoveRows(String, Rows),
    /// A map that nothing names goes.
    RemoveMap(String),
    /// A set without members.
    CreateSet(String, SetHead),
    /// A set gets more members.
    AddElements(String, SetKind, Elements),
    /// A set loses members it has.
    RemoveElements(String, SetKind, Elements),
    /// A set that nothing names goes.
    RemoveSet(String),
}

/// What makes `new` of `old`, in an order the kernel accepts as one transaction. What the two share is not looked at.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Vec<Change> {
    let plan = Plan::new(old, new);
    let mut changes = Vec::new();
    plan.clear(&mut changes);
    plan.remove(&mut changes, |reference| plan.anew.contains(&reference));
    plan.create_chains(&mut changes);
    plan.create_sets(&mut changes);
    plan.fill(&mut changes);
    plan.set_rules(&mut changes);
    plan.clear_removed(&mut changes);
    plan.remove(&mut changes, |reference| plan.is_gone(reference));
    changes
}

/// What makes a table with these rules, whatever it held.
pub fn from_nothing(new: &Ruleset) -> Vec<Change> {
    let mut changes = vec![Change::Reset];
    changes.extend(diff(&Ruleset::empty(), new));
    changes
}

/// Whether a diff removes and creates objects of the same name.
pub(crate) fn makes_anew(old: &Ruleset, new: &Ruleset) -> bool {
    !anew(old, new).is_empty()
}

/// Objects on both sides that cannot be changed in place.
fn anew<'a>(old: &'a Ruleset, new: &'a Ruleset) -> BTreeSet<Reference<'a>> {
    let chains = differing(&old.chains, &new.chains).into_iter().filter_map(|(name, pair)| {
        let (Some(old), Some(new)) = pair else { return None };
        (old.base != new.base || old.comment != new.comment).then_some(Reference::Chain(name))
    });
    let sets = differing(&old.sets, &new.sets).into_iter().filter_map(|(name, pair)| {
        let (Some(old), Some(new)) = pair else { return None };
        (old.head() != new.head()).then_some(Reference::Set(name))
    });
    let maps = differing(&old.maps, &new.maps).into_iter().filter_map(|(name, pair)| {
        let (Some(old), Some(new)) = pair else { return None };
        (old.comment != new.comment).then_some(Reference::Map(name))
    });
    chains.chain(sets).chain(maps).collect()
}

/// Parts by name: as they are and as they are to be.
type Pairs<'a, T> = BTreeMap<&'a str, (Option<&'a T>, Option<&'a T>)>;

/// Parts that are not the same on both sides.
fn differing<'a, T: PartialEq>(old: &'a OrdMap<String, T>, new: &'a OrdMap<String, T>) -> Pairs<'a, T> {
    let pair = |item: DiffItem<'a, 'a, String, T>| match item {
        DiffItem::Add(name, part) => (name.as_str(), (None, Some(part))),
        DiffItem::Update { old: (name, old), new: (_, new) } => (name.as_str(), (Some(old), Some(new))),
        DiffItem::Remove(name, part) => (name.as_str(), (Some(part), None)),
    };
    old.diff(new).map(pair).collect()
}

/// All parts there are on either side.
fn either<'a, T>(old: &'a OrdMap<String, T>, new: &'a OrdMap<String, T>) -> Pairs<'a, T> {
    let names = old.keys().chain(new.keys());
    names.map(|name| (name.as_str(), (old.get(name), new.get(name)))).collect()
}

struct Plan<'a> {
    anew: BTreeSet<Reference<'a>>,
    /// Those that may have to be changed.
    chains: Pairs<'a, Chain>,
    maps: Pairs<'a, VerdictMap>,
    sets: Pairs<'a, Set>,
}

impl<'a> Plan<'a> {
    fn new(old: &'a Ruleset, new: &'a Ruleset) -> Plan<'a> {
        let anew = anew(old, new);
        // What names something that is made anew has to be written again even if it stays the same.
        let (chains, maps) = match anew.is_empty() {
            true => (differing(&old.chains, &new.chains), differing(&old.maps, &new.maps)),
            false => (either(&old.chains, &new.chains), either(&old.maps, &new.maps)),
        };
        Plan { anew, chains, maps, sets: differing(&old.sets, &new.sets) }
    }

    /// Whether any of these rules names what is made anew.
    fn names_anew(&self, rules: &[Rule]) -> bool {
        !self.anew.is_empty()
            && rules.iter().flat_map(Rule::references).any(|reference| self.anew.contains(&reference))
    }

    fn leads_anew(&self, verdict: &Verdict) -> bool {
        verdict.target().is_some_and(|chain| self.anew.contains(&Reference::Chain(chain)))
    }

    fn is_gone(&self, reference: Reference<'_>) -> bool {
        match reference {
            Reference::Chain(name) => self.chains.get(name).is_some_and(|(_, new)| new.is_none()),
            Reference::Map(name) => self.maps.get(name).is_some_and(|(_, new)| new.is_none()),
            Reference::Set(name) => self.sets.get(name).is_some_and(|(_, new)| new.is_none()),
        }
    }

    /// A chain whose rules go before what they name can be made anew, or before it is made anew itself.
    fn cleared_early(&self, name: &str, chain: &Chain) -> bool {
        self.anew.contains(&Reference::Chain(name)) || self.names_anew(&chain.rules)
    }

    fn clear(&self, changes: &mut Vec<Change>) {
        for (name, chain) in old(&self.chains) {
            if !chain.rules.is_empty() && self.cleared_early(name, chain) {
                changes.push(Change::SetRules(name.to_owned(), Vec::new()));
            }
        }
        for (name, (old, new)) in &self.maps {
            let Some(old) = old else { continue };
            let new = new.filter(|_| !self.anew.contains(&Reference::Map(name)));
            let gone: Rows = match new {
                Some(new) => self.rows_without(old, new),
                None => old.elements.clone(),
            };
            if !gone.is_empty() {
                changes.push(Change::RemoveRows((*name).to_owned(), gone));
            }
        }
    }

    /// The rows of one map that the other does not have, or that lead to what is made anew.
    fn rows_without(&self, ours: &VerdictMap, theirs: &VerdictMap) -> Rows {
        let differing = theirs.elements.diff(&ours.elements).filter_map(|item| match item {
            DiffItem::Add(interface, verdict) | DiffItem::Update { new: (interface, verdict), .. } => {
                Some((interface, verdict))
            }
            DiffItem::Remove(..) => None,
        });
        let mut rows = copied(differing);
        if !self.anew.is_empty() {
            rows.extend(copied(ours.elements.iter().filter(|(_, verdict)| self.leads_anew(verdict))));
        }
        rows
    }

    /// Maps, then the chains their rows led to, then sets.
    fn remove(&self, changes: &mut Vec<Change>, goes: impl Fn(Reference<'_>) -> bool) {
        let maps = old(&self.maps).map(|(name, _)| name).filter(|name| goes(Reference::Map(name)));
        changes.extend(maps.map(|name| Change::RemoveMap(name.to_owned())));
        let chains = old(&self.chains).map(|(name, _)| name).filter(|name| goes(Reference::Chain(name)));
        changes.extend(chains.map(|name| Change::RemoveChain(name.to_owned())));
        let sets = old(&self.sets).map(|(name, _)| name).filter(|name| goes(Reference::Set(name)));
        changes.extend(sets.map(|name| Change::RemoveSet(name.to_owned())));
    }

    /// Base chains first, so that a reader sees where packets enter.
    fn create_chains(&self, changes: &mut Vec<Change>) {
        for base in [true, false] {
            for (name, (old, new)) in &self.chains {
                let Some(chain) = new.filter(|chain| chain.base.is_some() == base) else { continue };
                if old.is_none() || self.anew.contains(&Reference::Chain(name)) {
                    let comment = chain.comment.clone();
                    changes.push(Change::CreateChain((*name).to_owned(), chain.base, comment));
                }
            }
        }
    }

    /// Maps first: the kernel looks both up in the order of their creation, and maps change most.
    fn create_sets(&self, changes: &mut Vec<Change>) {
        for (name, (old, new)) in &self.maps {
            let Some(map) = new else { continue };
            if old.is_none() || self.anew.contains(&Reference::Map(name)) {
                changes.push(Change::CreateMap((*name).to_owned(), map.comment.clone()));
            }
        }
        for (name, (old, new)) in &self.sets {
            let Some(set) = new else { continue };
            if old.is_none() || self.anew.contains(&Reference::Set(name)) {
                changes.push(Change::CreateSet((*name).to_owned(), set.head()));
            }
        }
    }

    fn fill(&self, changes: &mut Vec<Change>) {
        for (name, (old, new)) in &self.maps {
            let Some(new) = new else { continue };
            let rows = match old.filter(|_| !self.anew.contains(&Reference::Map(name))) {
                Some(old) => self.rows_without(new, old),
                None => new.elements.clone(),
            };
            if !rows.is_empty() {
                changes.push(Change::AddRows((*name).to_owned(), rows));
            }
        }
        for (name, (old, new)) in &self.sets {
            let Some(new) = new else { continue };
            let kind = new.elements.kind();
            let none = kind.none();
            let kept = old.filter(|_| !self.anew.contains(&Reference::Set(name)));
            let old = kept.map_or(&none, |old| &old.elements);
            let (gone, more) = (old.without(&new.elements), new.elements.without(old));
            if !gone.is_empty() {
                changes.push(Change::RemoveElements((*name).to_owned(), kind, gone));
            }
            if !more.is_empty() {
                changes.push(Change::AddElements((*name).to_owned(), kind, more));
            }
        }
    }

    fn set_rules(&self, changes: &mut Vec<Change>) {
        for (name, (old, new)) in &self.chains {
            let Some(new) = new else { continue };
            let there = old.filter(|old| !self.cleared_early(name, old));
            if there.map_or(&[][..], |old| &old.rules) != new.rules {
                changes.push(Change::SetRules((*name).to_owned(), new.rules.clone()));
            }
        }
    }

    fn clear_removed(&self, changes: &mut Vec<Change>) {
        for (name, (old, new)) in &self.chains {
            let Some(chain) = old.filter(|_| new.is_none()) else { continue };
            if !chain.rules.is_empty() && !self.cleared_early(name, chain) {
                changes.push(Change::SetRules((*name).to_owned(), Vec::new()));
            }
        }
    }
}

/// Parts as they are.
fn old<'p, 'a, T>(pairs: &'p Pairs<'a, T>) -> impl Iterator<Item = (&'a str, &'a T)> + use<'p, 'a, T> {
    pairs.iter().filter_map(|(name, (old, _))| Some((*name, (*old)?)))
}

fn copied<'a>(rows: impl Iterator<Item = (&'a InterfaceName, &'a Verdict)>) -> Rows {
    rows.map(|(interface, verdict)| (interface.clone(), verdict.clone())).collect()
}

impl Elements {
    /// The members that the other does not have; all of them when it is of another type.
    fn without(&self, other: &Elements) -> Elements {
        fn left<T: Ord + Clone>(ours: &OrdSet<T>, theirs: &OrdSet<T>) -> OrdSet<T> {
            // Most of what is loaded for the first time: a copy shares everything.
            if theirs.is_empty() {
                return ours.clone();
            }
            let differing = theirs.diff(ours).filter_map(|item| match item {
                imbl::ordset::DiffItem::Add(member) => Some(member.clone()),
                imbl::ordset::DiffItem::Remove(_) => None,
            });
            differing.collect()
        }
        match (self, other) {
            (Elements::Addresses(family, ours), Elements::Addresses(_, theirs)) => {
                Elements::Addresses(*family, left(ours, theirs))
            }
            (Elements::Prefixes(family, ours), Elements::Prefixes(_, theirs)) => {
                Elements::Prefixes(*family, left(ours, theirs))
            }
            (Elements::Ports(ours), Elements::Ports(theirs)) => Elements::Ports(left(ours, theirs)),
            (Elements::Services(family, ours), Elements::Services(_, theirs)) => {
                Elements::Services(*family, left(ours, theirs))
            }
            (Elements::ProtocolPorts(ours), Elements::ProtocolPorts(theirs)) => {
                Elements::ProtocolPorts(left(ours, theirs))
            }
            (ours, _) => ours.clone(),
        }
    }
}
