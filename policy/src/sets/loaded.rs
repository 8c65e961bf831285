//! Which sets are in the rule-set: those that a rule names.

use std::collections::BTreeSet;

use imbl::OrdMap;

use super::{DefinitionId, Sets, UserId};
use crate::ir::Ruleset;

impl Sets {
    /// The rules of somebody name these sets instead of those. A set that no rule names is not loaded.
    pub(crate) fn set_named(&mut self, user: UserId, old: &BTreeSet<String>, new: &BTreeSet<String>) {
        for name in new.difference(old) {
            let namers = self.namers.entry(name.clone()).or_default();
            if namers.is_empty() {
                self.touched.insert(name.clone());
            }
            namers.insert(user);
        }
        for name in old.difference(new) {
            let Some(namers) = self.namers.get_mut(name) else { continue };
            namers.remove(&user);
            if namers.is_empty() {
                self.namers.remove(name);
                self.touched.insert(name.clone());
            }
        }
    }

    /// The definition that a set is of; sets for networks of one length end in the length.
    fn definition_of(&self, set: &str) -> Option<DefinitionId> {
        self.by_name.get(set.split_once('.').map_or(set, |(name, _)| name)).copied()
    }

    /// Drops what nobody uses, and puts what is other than before into a rule-set.
    pub(crate) fn settle(&mut self, ruleset: &mut Ruleset) {
        for id in std::mem::take(&mut self.idle) {
            if self.asked.get(id).is_some_and(|asked| asked.users.is_empty()) {
                self.forget(id);
            }
        }
        for name in std::mem::take(&mut self.touched) {
            let asked = self.definition_of(&name).and_then(|id| self.asked.get(id));
            let named = self.namers.contains_key(&name);
            let set = self.sets.get(&name);
            let origins = asked.and_then(|asked| asked.definition.origins()).filter(|_| named);
            let peers = set.filter(|_| !named && self.merged_from.contains_key(&name));
            put(&mut ruleset.origins.merged, &name, origins.cloned());
            put(&mut ruleset.origins.peers, &name, peers.map(|set| set.elements.clone()));
            put(&mut ruleset.sets, &name, set.filter(|_| named).cloned());
        }
    }
}

fn put<T: Clone>(all: &mut OrdMap<String, T>, name: &str, part: Option<T>) {
    match part {
        Some(part) => all.insert(name.to_owned(), part),
        None => all.remove(name),
    };
}
