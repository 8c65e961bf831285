//! Selectors somebody asked for, and where to look for those that may match given labels.

use std::collections::{BTreeSet, HashMap};

use slab::Slab;
use tortie_model::selector::{LabelRestriction, Selector};

use super::classes::ClassId;
use super::labels::Effective;

/// Number of a query; numbers are used again.
pub(crate) type QueryId = usize;

#[derive(Debug)]
struct Query {
    selector: Selector,
    users: usize,
    place: Place,
    classes: BTreeSet<ClassId>,
}

/// Where a query is listed.
#[derive(Clone, Debug)]
enum Place {
    /// Under a label with any value.
    Label(String),
    /// Under some values of a label.
    Values(String, Vec<String>),
    /// It may match anything.
    Anywhere,
    /// It matches nothing.
    Nowhere,
}

/// Queries listed under one label.
#[derive(Debug, Default)]
struct Listed {
    present: BTreeSet<QueryId>,
    by_value: HashMap<String, BTreeSet<QueryId>>,
}

/// All queries.
#[derive(Debug, Default)]
pub(super) struct Queries {
    all: Slab<Query>,
    by_selector: HashMap<Selector, QueryId>,
    by_label: HashMap<String, Listed>,
    anywhere: BTreeSet<QueryId>,
}

impl Queries {
    /// The query for a selector and whether it is new. It is listed where fewest classes would meet it; `count` says how
    /// many have a label, with a value or with any.
    pub(super) fn ask(
        &mut self,
        selector: &Selector,
        count: impl Fn(&str, Option<&str>) -> usize,
    ) -> (QueryId, bool) {
        if let Some(id) = self.by_selector.get(selector) {
            if let Some(query) = self.all.get_mut(*id) {
                query.users += 1;
            }
            return (*id, false);
        }
        let place = place(selector, count);
        let id = self.all.insert(Query {
            selector: selector.clone(),
            users: 1,
            place: place.clone(),
            classes: BTreeSet::new(),
        });
        self.by_selector.insert(selector.clone(), id);
        match place {
            Place::Label(label) => {
                self.by_label.entry(label).or_default().present.insert(id);
            }
            Place::Values(label, values) => {
                let listed = self.by_label.entry(label).or_default();
                for value in values {
                    listed.by_value.entry(value).or_default().insert(id);
                }
            }
            Place::Anywhere => {
                self.anywhere.insert(id);
            }
            Place::Nowhere => {}
        }
        (id, true)
    }

    /// The classes the query matched, when nobody asks it any more.
    pub(super) fn forget(&mut self, id: QueryId) -> Option<BTreeSet<ClassId>> {
        let query = self.all.get_mut(id)?;
        query.users -= 1;
        if query.users > 0 {
            return None;
        }
        let query = self.all.remove(id);
        self.by_selector.remove(&query.selector);
        self.unlist(id, query.place);
        Some(query.classes)
    }

    fn unlist(&mut self, id: QueryId, place: Place) {
        let (label, values) = match place {
            Place::Label(label) => (label, Vec::new()),
            Place::Values(label, values) => (label, values),
            Place::Anywhere => {
                self.anywhere.remove(&id);
                return;
            }
            Place::Nowhere => return,
        };
        let Some(listed) = self.by_label.get_mut(&label) else { return };
        listed.present.remove(&id);
        for value in values {
            if let Some(queries) = listed.by_value.get_mut(&value) {
                queries.remove(&id);
                if queries.is_empty() {
                    listed.by_value.remove(&value);
                }
            }
        }
        if listed.present.is_empty() && listed.by_value.is_empty() {
            self.by_label.remove(&label);
        }
    }

    /// The queries that match labels, in order.
    pub(super) fn matching(&self, labels: &Effective<'_>) -> Vec<QueryId> {
        let mut found: Vec<QueryId> = Vec::new();
        let mut judge = |queries: &BTreeSet<QueryId>| {
            let matches =
                |id: &&QueryId| self.all.get(**id).is_some_and(|query| query.selector.matches(labels));
            found.extend(queries.iter().filter(matches));
        };
        for (name, value) in labels.pairs() {
            if let Some(listed) = self.by_label.get(name) {
                judge(&listed.present);
                listed.by_value.get(value).into_iter().for_each(&mut judge);
            }
        }
        judge(&self.anywhere);
        found.sort_unstable();
        found
    }

    pub(super) fn classes(&self, id: QueryId) -> Option<&BTreeSet<ClassId>> {
        self.all.get(id).map(|query| &query.classes)
    }

    pub(super) fn matched(&mut self, id: QueryId, class: ClassId) {
        if let Some(query) = self.all.get_mut(id) {
            query.classes.insert(class);
        }
    }

    pub(super) fn unmatched(&mut self, id: QueryId, class: ClassId) {
        if let Some(query) = self.all.get_mut(id) {
            query.classes.remove(&class);
        }
    }
}

fn place(selector: &Selector, count: impl Fn(&str, Option<&str>) -> usize) -> Place {
    let Some(restrictions) = selector.restrictions() else { return Place::Nowhere };
    let places = restrictions.into_iter().filter_map(|(label, restriction)| match restriction {
        LabelRestriction::MustBeAbsent => None,
        LabelRestriction::MustBePresent => Some(((count(label, None), true), Place::Label(label.to_owned()))),
        LabelRestriction::MustHaveOneOfValues(values) => {
            let met = values.iter().map(|value| count(label, Some(value))).sum();
            let values = values.into_iter().map(str::to_owned).collect();
            Some(((met, false), Place::Values(label.to_owned(), values)))
        }
    });
    places.min_by_key(|(cost, _)| *cost).map_or(Place::Anywhere, |(_, place)| place)
}
