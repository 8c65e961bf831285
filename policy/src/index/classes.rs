//! Classes, and where to find them by label, by profile, by what they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;
use tortie_model::selector::{LabelRestriction, Selector};

use super::labels::Effective;
use super::numbers::Numbers;
use super::queries::QueryId;
use crate::snapshot::LabelSet;

/// Number of a class; numbers are used again.
pub(crate) type ClassId = usize;

/// What the things of a class have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClassKey {
    /// Own labels.
    pub(crate) labels: LabelSet,
    /// Profiles in order.
    pub(crate) profiles: Arc<[Arc<str>]>,
}

#[derive(Debug)]
struct Class {
    key: ClassKey,
    users: usize,
    /// The queries that match, in order.
    matches: Vec<QueryId>,
}

/// All classes.
#[derive(Debug, Default)]
pub(super) struct Classes {
    all: Slab<Class>,
    by_key: HashMap<ClassKey, ClassId>,
    by_label: HashMap<Arc<str>, BTreeMap<Arc<str>, Numbers>>,
    by_profile: HashMap<Arc<str>, BTreeSet<ClassId>>,
    /// What profiles give.
    profiles: HashMap<Arc<str>, LabelSet>,
    /// Profiles some class has and that do not exist.
    missing: BTreeSet<Arc<str>>,
}

impl Classes {
    /// The class and whether it is new.
    pub(super) fn join(&mut self, key: ClassKey) -> (ClassId, bool) {
        if let Some(id) = self.by_key.get(&key) {
            if let Some(class) = self.all.get_mut(*id) {
                class.users += 1;
            }
            return (*id, false);
        }
        let id = self.all.insert(Class { key: key.clone(), users: 1, matches: Vec::new() });
        for profile in &*key.profiles {
            self.by_profile.entry(Arc::clone(profile)).or_default().insert(id);
            if !self.profiles.contains_key(profile) {
                self.missing.insert(Arc::clone(profile));
            }
        }
        self.by_key.insert(key, id);
        self.list(id);
        (id, true)
    }

    /// What the class matched, when nobody uses it any more.
    pub(super) fn leave(&mut self, id: ClassId) -> Option<Vec<QueryId>> {
        let class = self.all.get_mut(id)?;
        class.users -= 1;
        if class.users > 0 {
            return None;
        }
        self.unlist(id);
        let class = self.all.remove(id);
        self.by_key.remove(&class.key);
        for profile in &*class.key.profiles {
            if let Some(users) = self.by_profile.get_mut(profile) {
                users.remove(&id);
                if users.is_empty() {
                    self.by_profile.remove(profile);
                    self.missing.remove(profile);
                }
            }
        }
        Some(class.matches)
    }

    pub(super) fn key(&self, id: ClassId) -> Option<&ClassKey> {
        self.all.get(id).map(|class| &class.key)
    }

    pub(super) fn labels(&self, id: ClassId) -> Effective<'_> {
        labels(&self.all, &self.profiles, id)
    }

    pub(super) fn matches(&self, id: ClassId) -> &[QueryId] {
        self.all.get(id).map_or(&[], |class| &class.matches)
    }

    pub(super) fn set_matches(&mut self, id: ClassId, matches: Vec<QueryId>) {
        if let Some(class) = self.all.get_mut(id) {
            class.matches = matches;
        }
    }

    pub(super) fn add_match(&mut self, id: ClassId, query: QueryId) {
        if let Some(class) = self.all.get_mut(id)
            && let Err(place) = class.matches.binary_search(&query)
        {
            class.matches.insert(place, query);
        }
    }

    pub(super) fn remove_match(&mut self, id: ClassId, query: QueryId) {
        if let Some(class) = self.all.get_mut(id)
            && let Ok(place) = class.matches.binary_search(&query)
        {
            class.matches.remove(place);
        }
    }

    /// What a profile gives is new: the classes that have it.
    pub(super) fn set_profile(&mut self, name: &Arc<str>, labels: Option<LabelSet>) -> Vec<ClassId> {
        if self.profiles.get(name) == labels.as_ref() {
            return Vec::new();
        }
        let users: Vec<ClassId> = self.by_profile.get(name).into_iter().flatten().copied().collect();
        users.iter().for_each(|id| self.unlist(*id));
        match labels {
            Some(labels) => {
                self.missing.remove(name);
                self.profiles.insert(Arc::clone(name), labels);
            }
            None => {
                self.profiles.remove(name);
                if !users.is_empty() {
                    self.missing.insert(Arc::clone(name));
                }
            }
        }
        users.iter().for_each(|id| self.list(*id));
        users
    }

    pub(super) fn with_profile(&self, name: &str) -> impl Iterator<Item = ClassId> + '_ {
        self.by_profile.get(name).into_iter().flatten().copied()
    }

    pub(super) fn is_missing(&self, profile: &str) -> bool {
        self.missing.contains(profile)
    }

    pub(super) fn missing_profiles(&self) -> impl Iterator<Item = (&Arc<str>, &BTreeSet<ClassId>)> {
        self.missing.iter().filter_map(|name| Some((name, self.by_profile.get(name)?)))
    }

    /// How many classes have a label, with this value or with any.
    pub(super) fn count(&self, label: &str, value: Option<&str>) -> usize {
        let Some(values) = self.by_label.get(label) else { return 0 };
        match value {
            Some(value) => values.get(value).map_or(0, Numbers::len),
            None => values.values().map(Numbers::len).sum(),
        }
    }

    /// Classes among which are all that a selector matches, sought by the label that fewest have as it asks.
    pub(super) fn candidates(&self, selector: &Selector) -> Vec<ClassId> {
        let Some(restrictions) = selector.restrictions() else { return Vec::new() };
        let sought = restrictions.iter().filter_map(|(label, restriction)| self.having(label, restriction));
        match sought.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>()) {
            Some(lists) => lists.into_iter().flat_map(Numbers::iter).collect(),
            None => self.all.iter().map(|(id, _)| id).collect(),
        }
    }

    /// Those that have the label as it must be; `None` when it must be absent.
    fn having(&self, label: &str, restriction: &LabelRestriction<'_>) -> Option<Vec<&Numbers>> {
        let values = self.by_label.get(label);
        match restriction {
            LabelRestriction::MustBeAbsent => None,
            LabelRestriction::MustBePresent => {
                Some(values.into_iter().flat_map(|values| values.values()).collect())
            }
            LabelRestriction::MustHaveOneOfValues(wanted) => {
                let Some(values) = values else { return Some(Vec::new()) };
                Some(wanted.iter().filter_map(|value| values.get(*value)).collect())
            }
        }
    }

    fn list(&mut self, id: ClassId) {
        for (name, value) in labels(&self.all, &self.profiles, id).shared() {
            let values = match self.by_label.get_mut(&**name) {
                Some(values) => values,
                None => self.by_label.entry(Arc::clone(name)).or_default(),
            };
            match values.get_mut(&**value) {
                Some(classes) => classes.insert(id),
                None => values.entry(Arc::clone(value)).or_default().insert(id),
            };
        }
    }

    fn unlist(&mut self, id: ClassId) {
        for (name, value) in labels(&self.all, &self.profiles, id).shared() {
            let Some(values) = self.by_label.get_mut(&**name) else { continue };
            if let Some(classes) = values.get_mut(&**value) {
                classes.remove(id);
                if classes.is_empty() {
                    values.remove(&**value);
                }
            }
            if values.is_empty() {
                self.by_label.remove(&**name);
            }
        }
    }
}

/// Apart from the rest, so that the lists can change meanwhile.
fn labels<'a>(all: &'a Slab<Class>, profiles: &'a HashMap<Arc<str>, LabelSet>, id: ClassId) -> Effective<'a> {
    let Some(class) = all.get(id) else { return Effective::none() };
    let given = class.key.profiles.iter().filter_map(|name| profiles.get(name));
    Effective::new(&class.key.labels, given.filter(|labels| !labels.is_empty()).collect())
}
