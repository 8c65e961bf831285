//! A change made to a rule-set in memory, refused where the kernel would refuse it: for tests, and for a kernel made of
//! maps.

use std::fmt;

use imbl::OrdSet;

use super::Change;
use crate::ir::{Chain, Elements, Reference, Rule, Ruleset, VerdictMap};

/// A change that the kernel would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {reason}")]
pub struct Impossible {
    /// The object.
    pub subject: String,
    /// Why not.
    pub reason: &'static str,
}

impl fmt::Display for Change {
    /// What it is about: kind and name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Reset => write!(f, "table"),
            Change::CreateChain(name, ..) | Change::RemoveChain(name) => write!(f, "chain {name}"),
            Change::SetRules(name, _) => write!(f, "chain {name}: rules"),
            Change::CreateMap(name, _) | Change::RemoveMap(name) => write!(f, "map {name}"),
            Change::AddRows(name, _) | Change::RemoveRows(name, _) => write!(f, "map {name}: elements"),
            Change::CreateSet(name, ..) | Change::RemoveSet(name) => write!(f, "set {name}"),
            Change::AddElements(name, ..) | Change::RemoveElements(name, ..) => {
                write!(f, "set {name}: elements")
            }
        }
    }
}

const MISSING: &str = "no such object";
const EXISTS: &str = "exists";
const BUSY: &str = "in use";
const FULL: &str = "has no room for so many members";

impl Ruleset {
    /// Makes a change.
    ///
    /// # Errors
    /// When the kernel would refuse it; then nothing is changed.
    pub fn apply(&mut self, change: &Change) -> Result<(), Impossible> {
        self.try_apply(change).map_err(|reason| Impossible { subject: change.to_string(), reason })
    }

    fn try_apply(&mut self, change: &Change) -> Result<(), &'static str> {
        match change {
            Change::Reset => *self = Ruleset::empty(),
            Change::CreateChain(name, base, comment) => {
                let chain = Chain { comment: comment.clone(), base: *base, rules: Vec::new() };
                unless(self.chains.contains_key(name), EXISTS)?;
                self.chains.insert(name.clone(), chain);
            }
            Change::SetRules(name, rules) => {
                let known = rules.iter().flat_map(Rule::references).all(|reference| self.has(reference));
                unless(!known, MISSING)?;
                self.chains.get_mut(name).ok_or(MISSING)?.rules.clone_from(rules);
            }
            Change::RemoveChain(name) => {
                let empty = self.chains.get(name).ok_or(MISSING)?.rules.is_empty();
                unless(!empty || self.uses(Reference::Chain(name)), BUSY)?;
                self.chains.remove(name);
            }
            Change::CreateMap(name, comment) => {
                unless(self.maps.contains_key(name), EXISTS)?;
                let map = VerdictMap { comment: comment.clone(), ..VerdictMap::default() };
                self.maps.insert(name.clone(), map);
            }
            Change::AddRows(..) | Change::RemoveRows(..) => self.apply_rows(change)?,
            Change::RemoveMap(name) => {
                unless(self.uses(Reference::Map(name)), BUSY)?;
                self.maps.remove(name).ok_or(MISSING)?;
            }
            Change::CreateSet(name, head) => {
                unless(self.sets.contains_key(name), EXISTS)?;
                self.sets.insert(name.clone(), head.empty());
            }
            Change::AddElements(name, _, elements) => {
                let set = self.sets.get_mut(name).ok_or(MISSING)?;
                let members = set.elements.len() + elements.len();
                unless(set.size.is_some_and(|size| members > size as usize), FULL)?;
                set.elements.change(elements, true)?;
            }
            Change::RemoveElements(name, _, elements) => {
                self.sets.get_mut(name).ok_or(MISSING)?.elements.change(elements, false)?;
            }
            Change::RemoveSet(name) => {
                unless(self.uses(Reference::Set(name)), BUSY)?;
                self.sets.remove(name).ok_or(MISSING)?;
            }
        }
        Ok(())
    }

    fn apply_rows(&mut self, change: &Change) -> Result<(), &'static str> {
        let (Change::AddRows(name, rows) | Change::RemoveRows(name, rows)) = change else { return Ok(()) };
        let more = matches!(change, Change::AddRows(..));
        let known = rows.values().all(|v| v.target().is_none_or(|chain| self.has(Reference::Chain(chain))));
        unless(more && !known, MISSING)?;
        let elements = &mut self.maps.get_mut(name).ok_or(MISSING)?.elements;
        if more {
            unless(rows.keys().any(|interface| elements.contains_key(interface)), EXISTS)?;
            elements.extend(rows.clone());
        } else {
            unless(!rows.iter().all(|(interface, row)| elements.get(interface) == Some(row)), MISSING)?;
            rows.keys().for_each(|interface| {
                elements.remove(interface);
            });
        }
        Ok(())
    }

    fn has(&self, reference: Reference<'_>) -> bool {
        match reference {
            Reference::Chain(name) => self.chains.get(name).is_some_and(|chain| chain.base.is_none()),
            Reference::Map(name) => self.maps.contains_key(name),
            Reference::Set(name) => self.sets.contains_key(name),
        }
    }

    fn uses(&self, reference: Reference<'_>) -> bool {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        let mut rows = self.maps.values().flat_map(|map| map.elements.values());
        rules.flat_map(Rule::references).any(|used| used == reference)
            || rows.any(|row| row.target().map(Reference::Chain) == Some(reference))
    }
}

fn unless(wrong: bool, reason: &'static str) -> Result<(), &'static str> {
    if wrong { Err(reason) } else { Ok(()) }
}

impl Elements {
    /// Adds members that are not there, or removes ones that are.
    fn change(&mut self, other: &Elements, add: bool) -> Result<(), &'static str> {
        fn change<T: Ord + Clone>(
            ours: &mut OrdSet<T>,
            other: &OrdSet<T>,
            add: bool,
        ) -> Result<(), &'static str> {
            if add {
                unless(other.iter().any(|member| ours.contains(member)), EXISTS)?;
                ours.extend(other.iter().cloned());
            } else {
                unless(!other.iter().all(|member| ours.contains(member)), MISSING)?;
                other.iter().for_each(|member| {
                    ours.remove(member);
                });
            }
            Ok(())
        }
        match (self, other) {
            (Elements::Addresses(family, ours), Elements::Addresses(of, other)) if family == of => {
                change(ours, other, add)
            }
            (Elements::Prefixes(family, ours), Elements::Prefixes(of, other)) if family == of => {
                change(ours, other, add)
            }
            (Elements::Ports(ours), Elements::Ports(other)) => change(ours, other, add),
            (Elements::Services(family, ours), Elements::Services(of, other)) if family == of => {
                change(ours, other, add)
            }
            (Elements::ProtocolPorts(ours), Elements::ProtocolPorts(other)) => change(ours, other, add),
            _ => Err("members of another type"),
        }
    }
}
