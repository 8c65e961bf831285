//! What leads from one rule-set to another, object by object: a transaction costs what has changed, not what there is.
//!
//! [`diff`] orders changes so that the kernel takes them in one batch: nothing is named before it is there or removed
//! while it is named, and members leave before others come. Of its own parts the kernel can change only the rules of a chain
//! and the members of a set or map; whatever else differs makes the object anew, and with it the rules and rows that
//! name it.

mod apply;

pub use apply::Impossible;

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{
    Base, Chain, Comment, Elements, InterfaceName, Reference, Rule, Ruleset, Set, SetKind, Verdict,
};

/// Rows of a map.
pub type Rows = BTreeMap<InterfaceName, Verdict>;

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
    /// A set without members; the last says whether packets are counted for each.
    CreateSet(String, SetKind, Comment, bool),
    /// A set gets more members.
    AddElements(String, SetKind, Elements),
    /// A set loses members it has.
    RemoveElements(String, SetKind, Elements),
    /// A set that nothing names goes.
    RemoveSet(String),
}

/// What makes `new` of `old`, in an order the kernel accepts as one transaction.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Vec<Change> {
    let plan = Plan { old, new, anew: anew(old, new) };
    let mut changes = Vec::new();
    plan.clear(&mut changes);
    plan.remove(&mut changes, |reference| plan.anew.contains(&reference));
    plan.create_chains(&mut changes);
    plan.create_sets(&mut changes);
    plan.fill(&mut changes);
    plan.set_rules(&mut changes);
    plan.clear_removed(&mut changes);
    plan.remove(&mut changes, |reference| !plan.is_new(reference));
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
    let chain = |(name, chain): (&'a String, &Chain)| {
        let other = new.chains.get(name)?;
        (chain.base != other.base || chain.comment != other.comment).then_some(Reference::Chain(name))
    };
    let set = |(name, set): (&'a String, &Set)| {
        let other = new.sets.get(name)?;
        let same = set.elements.kind() == other.elements.kind()
            && set.comment == other.comment
            && set.counter == other.counter;
        (!same).then_some(Reference::Set(name))
    };
    let maps = old.maps.iter().filter_map(|(name, map)| {
        let other = new.maps.get(name)?;
        (map.comment != other.comment).then_some(Reference::Map(name))
    });
    old.chains.iter().filter_map(chain).chain(old.sets.iter().filter_map(set)).chain(maps).collect()
}

struct Plan<'a> {
    old: &'a Ruleset,
    new: &'a Ruleset,
    anew: BTreeSet<Reference<'a>>,
}

impl Plan<'_> {
    /// Whether any of these rules names what is made anew.
    fn names_anew(&self, rules: &[Rule]) -> bool {
        !self.anew.is_empty()
            && rules.iter().flat_map(Rule::references).any(|reference| self.anew.contains(&reference))
    }

    fn leads_anew(&self, verdict: &Verdict) -> bool {
        verdict.target().is_some_and(|chain| self.anew.contains(&Reference::Chain(chain)))
    }

    fn is_new(&self, reference: Reference<'_>) -> bool {
        match reference {
            Reference::Chain(name) => self.new.chains.contains_key(name),
            Reference::Map(name) => self.new.maps.contains_key(name),
            Reference::Set(name) => self.new.sets.contains_key(name),
        }
    }

    /// A chain whose rules go before what they name can be made anew, or before it is made anew itself.
    fn cleared_early(&self, name: &str, chain: &Chain) -> bool {
        self.anew.contains(&Reference::Chain(name)) || self.names_anew(&chain.rules)
    }

    fn clear(&self, changes: &mut Vec<Change>) {
        for (name, chain) in &self.old.chains {
            if !chain.rules.is_empty() && self.cleared_early(name, chain) {
                changes.push(Change::SetRules(name.clone(), Vec::new()));
            }
        }
        for (name, map) in &self.old.maps {
            let stays = |interface: &InterfaceName, verdict: &Verdict| {
                !self.anew.contains(&Reference::Map(name))
                    && !self.leads_anew(verdict)
                    && self.new.maps.get(name).and_then(|new| new.elements.get(interface)) == Some(verdict)
            };
            let gone: Rows = copied(map.elements.iter().filter(|(interface, row)| !stays(interface, row)));
            if !gone.is_empty() {
                changes.push(Change::RemoveRows(name.clone(), gone));
            }
        }
    }

    /// Maps, then the chains their rows led to, then sets.
    fn remove(&self, changes: &mut Vec<Change>, goes: impl Fn(Reference<'_>) -> bool) {
        let maps = self.old.maps.keys().filter(|name| goes(Reference::Map(name)));
        changes.extend(maps.cloned().map(Change::RemoveMap));
        let chains = self.old.chains.keys().filter(|name| goes(Reference::Chain(name)));
        changes.extend(chains.cloned().map(Change::RemoveChain));
        let sets = self.old.sets.keys().filter(|name| goes(Reference::Set(name)));
        changes.extend(sets.cloned().map(Change::RemoveSet));
    }

    /// Base chains first, so that a reader sees where packets enter.
    fn create_chains(&self, changes: &mut Vec<Change>) {
        for base in [true, false] {
            for (name, chain) in self.new.chains.iter().filter(|(_, chain)| chain.base.is_some() == base) {
                if !self.old.chains.contains_key(name) || self.anew.contains(&Reference::Chain(name)) {
                    changes.push(Change::CreateChain(name.clone(), chain.base, chain.comment.clone()));
                }
            }
        }
    }

    /// Maps first: the kernel looks both up in the order of their creation, and maps change most.
    fn create_sets(&self, changes: &mut Vec<Change>) {
        for (name, map) in &self.new.maps {
            if !self.old.maps.contains_key(name) || self.anew.contains(&Reference::Map(name)) {
                changes.push(Change::CreateMap(name.clone(), map.comment.clone()));
            }
        }
        for (name, set) in &self.new.sets {
            if self.kept_set(name).is_none() {
                let kind = set.elements.kind();
                changes.push(Change::CreateSet(name.clone(), kind, set.comment.clone(), set.counter));
            }
        }
    }

    fn fill(&self, changes: &mut Vec<Change>) {
        for (name, map) in &self.new.maps {
            let kept = self.old.maps.get(name).filter(|_| !self.anew.contains(&Reference::Map(name)));
            let is_there = |interface: &InterfaceName, verdict: &Verdict| {
                !self.leads_anew(verdict) && kept.and_then(|old| old.elements.get(interface)) == Some(verdict)
            };
            let rows = copied(map.elements.iter().filter(|(interface, row)| !is_there(interface, row)));
            if !rows.is_empty() {
                changes.push(Change::AddRows(name.clone(), rows));
            }
        }
        for (name, set) in &self.new.sets {
            let kind = set.elements.kind();
            let none = kind.none();
            let old = self.kept_set(name).map_or(&none, |old| &old.elements);
            let (gone, more) = (old.without(&set.elements), set.elements.without(old));
            if !gone.is_empty() {
                changes.push(Change::RemoveElements(name.clone(), kind, gone));
            }
            if !more.is_empty() {
                changes.push(Change::AddElements(name.clone(), kind, more));
            }
        }
    }

    fn kept_set(&self, name: &str) -> Option<&Set> {
        self.old.sets.get(name).filter(|_| !self.anew.contains(&Reference::Set(name)))
    }

    fn set_rules(&self, changes: &mut Vec<Change>) {
        for (name, chain) in &self.new.chains {
            let there = self.old.chains.get(name).filter(|old| !self.cleared_early(name, old));
            if there.map_or(&[][..], |old| &old.rules) != chain.rules {
                changes.push(Change::SetRules(name.clone(), chain.rules.clone()));
            }
        }
    }

    fn clear_removed(&self, changes: &mut Vec<Change>) {
        for (name, chain) in &self.old.chains {
            let cleared = chain.rules.is_empty() || self.cleared_early(name, chain);
            if !self.new.chains.contains_key(name) && !cleared {
                changes.push(Change::SetRules(name.clone(), Vec::new()));
            }
        }
    }
}

fn copied<'a>(rows: impl Iterator<Item = (&'a InterfaceName, &'a Verdict)>) -> Rows {
    rows.map(|(interface, verdict)| (interface.clone(), verdict.clone())).collect()
}

impl Elements {
    /// The members that the other does not have; all of them when it is of another type.
    fn without(&self, other: &Elements) -> Elements {
        fn left<T: Ord + Clone>(ours: &BTreeSet<T>, theirs: &BTreeSet<T>) -> BTreeSet<T> {
            ours.difference(theirs).cloned().collect()
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
