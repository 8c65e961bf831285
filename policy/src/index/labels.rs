//! The labels selectors see: a thing's own, then those its profiles give; the first value of a name stays. Labels under
//! the prefixes of namespaces and service accounts come from profiles only: nobody must be able to claim them
//! (calico-datamodel 1.8).

use std::sync::Arc;

use tortie_model::selector::Labels;

use crate::check::{NAMESPACE_LABELS, SERVICE_ACCOUNT_LABELS};
use crate::snapshot::LabelSet;

/// A view of labels as selectors see them.
#[derive(Clone, Debug)]
pub(crate) struct Effective<'a> {
    own: Option<&'a LabelSet>,
    /// Of the profiles that give any, in order.
    given: Vec<&'a LabelSet>,
}

impl<'a> Effective<'a> {
    pub(super) fn new(own: &'a LabelSet, given: Vec<&'a LabelSet>) -> Effective<'a> {
        Effective { own: Some(own), given }
    }

    /// No labels.
    pub(super) fn none() -> Effective<'a> {
        Effective { own: None, given: Vec::new() }
    }

    /// Names and values, each name once.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.shared().map(|(name, value)| (&**name, &**value))
    }

    /// The same as they are kept.
    pub(super) fn shared(&self) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)> {
        let own = self.own.into_iter().flat_map(LabelSet::shared).filter(|(name, _)| !is_reserved(name));
        let given = self.given.iter().enumerate().flat_map(move |(place, labels)| {
            labels.shared().filter(move |(name, _)| self.find(name, place).is_none())
        });
        own.chain(given)
    }

    /// The value of a name, looked for in the own labels and in so many profiles.
    fn find(&self, name: &str, profiles: usize) -> Option<&'a str> {
        let own = if is_reserved(name) { None } else { self.own.and_then(|labels| labels.get(name)) };
        own.or_else(|| self.given.iter().take(profiles).find_map(|labels| labels.get(name)))
    }
}

impl Labels for Effective<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.find(name, self.given.len())
    }
}

fn is_reserved(name: &str) -> bool {
    name.starts_with(NAMESPACE_LABELS) || name.starts_with(SERVICE_ACCOUNT_LABELS)
}
