//! Which things a selector matches, kept up while labels, profiles and selectors change: the cost of a change is that of
//! what it touches.
//!
//! Things with the same own labels and the same profiles are one **class**: a selector is judged once for all of them. A
//! selector that is asked for is a **query**.

mod classes;
mod labels;
mod numbers;
mod queries;

use std::collections::BTreeSet;
use std::sync::Arc;

use tortie_model::selector::Selector;

use crate::snapshot::LabelSet;
use classes::Classes;
pub(crate) use classes::{ClassId, ClassKey};
#[cfg(test)]
pub(crate) use labels::Effective;
pub(crate) use numbers::Numbers;
use queries::Queries;
pub(crate) use queries::QueryId;

/// A query began to match a class, or no longer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flip {
    pub(crate) query: QueryId,
    pub(crate) class: ClassId,
    pub(crate) matches: bool,
}

/// Classes, queries, and which match.
#[derive(Debug, Default)]
pub(crate) struct Index {
    classes: Classes,
    queries: Queries,
}

impl Index {
    /// The class of a thing, with one more user.
    pub(crate) fn join(&mut self, key: ClassKey) -> ClassId {
        let (id, is_new) = self.classes.join(key);
        if is_new {
            let found = self.queries.matching(&self.classes.labels(id));
            for query in &found {
                self.queries.matched(*query, id);
            }
            self.classes.set_matches(id, found);
        }
        id
    }

    /// One user of a class less; true when it was the last.
    pub(crate) fn leave(&mut self, id: ClassId) -> bool {
        let Some(matches) = self.classes.leave(id) else { return false };
        for query in matches {
            self.queries.unmatched(query, id);
        }
        true
    }

    /// What a class is.
    pub(crate) fn key(&self, id: ClassId) -> Option<&ClassKey> {
        self.classes.key(id)
    }

    /// The labels selectors see.
    #[cfg(test)]
    pub(crate) fn labels(&self, id: ClassId) -> Effective<'_> {
        self.classes.labels(id)
    }

    /// The queries a class matches, in order.
    pub(crate) fn queries_of(&self, id: ClassId) -> &[QueryId] {
        self.classes.matches(id)
    }

    /// The classes a query matches.
    pub(crate) fn classes_of(&self, id: QueryId) -> impl Iterator<Item = ClassId> + '_ {
        self.queries.classes(id).into_iter().flatten().copied()
    }

    /// The labels a profile gives to those that have it are others; `None` when there is no such profile.
    pub(crate) fn set_profile(&mut self, name: &Arc<str>, labels: Option<LabelSet>) -> Vec<Flip> {
        let mut flips = Vec::new();
        for id in self.classes.set_profile(name, labels) {
            let new = self.queries.matching(&self.classes.labels(id));
            let old: BTreeSet<QueryId> = self.classes.matches(id).iter().copied().collect();
            for query in new.iter().filter(|query| !old.contains(query)) {
                self.queries.matched(*query, id);
                flips.push(Flip { query: *query, class: id, matches: true });
            }
            for query in old.iter().filter(|query| new.binary_search(query).is_err()) {
                self.queries.unmatched(*query, id);
                flips.push(Flip { query: *query, class: id, matches: false });
            }
            self.classes.set_matches(id, new);
        }
        flips
    }

    /// The classes that have a profile.
    pub(crate) fn with_profile(&self, name: &str) -> impl Iterator<Item = ClassId> + '_ {
        self.classes.with_profile(name)
    }

    /// Whether a class has a profile that does not exist.
    pub(crate) fn misses_profile(&self, id: ClassId) -> bool {
        self.key(id).is_some_and(|key| key.profiles.iter().any(|name| self.is_missing(name)))
    }

    /// Whether some class has this profile and it does not exist.
    pub(crate) fn is_missing(&self, profile: &str) -> bool {
        self.classes.is_missing(profile)
    }

    /// Profiles that some class has and that do not exist, with those classes.
    pub(crate) fn missing_profiles(&self) -> impl Iterator<Item = (&Arc<str>, &BTreeSet<ClassId>)> {
        self.classes.missing_profiles()
    }

    /// The query for a selector, with one more user.
    pub(crate) fn ask(&mut self, selector: &Selector) -> QueryId {
        let classes = &self.classes;
        let (id, is_new) = self.queries.ask(selector, |label, value| classes.count(label, value));
        if is_new {
            for class in self.classes.candidates(selector) {
                if selector.matches(&self.classes.labels(class)) {
                    self.queries.matched(id, class);
                    self.classes.add_match(class, id);
                }
            }
        }
        id
    }

    /// One user of a query less; true when it was the last.
    pub(crate) fn forget(&mut self, id: QueryId) -> bool {
        let Some(classes) = self.queries.forget(id) else { return false };
        for class in classes {
            self.classes.remove_match(class, id);
        }
        true
    }
}

#[cfg(test)]
mod tests;
