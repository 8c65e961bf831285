//! Policies under the names users know them by, of which two that are stored can claim the same one.

use std::collections::{BTreeMap, BTreeSet};

use tortie_model::Kind;
use tortie_policy::snapshot::PolicyId;

use crate::calc::cache::Cache;

/// A policy as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::calc) struct Stored {
    pub(in crate::calc) kind: Kind,
    /// Empty for a global one.
    pub(in crate::calc) namespace: String,
    pub(in crate::calc) name: String,
}

/// Who claims which name.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_stored: BTreeMap<Stored, PolicyId>,
    claims: BTreeMap<PolicyId, BTreeSet<Stored>>,
    /// Names that several claim.
    disputed: BTreeSet<PolicyId>,
    /// Names that were told while some were disputed: others than were claimed, perhaps.
    told: Option<BTreeSet<PolicyId>>,
}

/// How a stored policy is read: one with its shown name, and all by the names they go by.
type Read<B> = (fn(&Cache, &Stored) -> Option<(String, B)>, fn(&Cache) -> BTreeMap<PolicyId, B>);

impl Names {
    /// Tells what became of policies that were touched. As long as some name is disputed all are told each time one is
    /// touched: that is rare, and who goes by which name depends on all of them.
    pub(super) fn tell<B>(
        &mut self,
        touched: BTreeSet<Stored>,
        cache: &Cache,
        (one, all): Read<B>,
        mut set: impl FnMut(&PolicyId, Option<&B>),
    ) {
        if touched.is_empty() {
            return;
        }
        let mut bodies: BTreeMap<PolicyId, B> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for stored in touched {
            gone.extend(self.unclaim(&stored));
            if let Some((name, body)) = one(cache, &stored) {
                let id = PolicyId { name, namespace: stored.namespace.clone() };
                self.claim(stored, id.clone());
                bodies.insert(id, body);
            }
        }
        if self.disputed.is_empty() && self.told.is_none() {
            gone.iter().filter(|id| !bodies.contains_key(*id)).for_each(|id| set(id, None));
            bodies.iter().for_each(|(id, body)| set(id, Some(body)));
            return;
        }
        let bodies = all(cache);
        let before = self.told.take().unwrap_or_else(|| self.claims.keys().cloned().chain(gone).collect());
        before.iter().filter(|id| !bodies.contains_key(*id)).for_each(|id| set(id, None));
        bodies.iter().for_each(|(id, body)| set(id, Some(body)));
        self.told = (!self.disputed.is_empty()).then(|| bodies.into_keys().collect());
    }

    fn claim(&mut self, stored: Stored, id: PolicyId) {
        let claims = self.claims.entry(id.clone()).or_default();
        claims.insert(stored.clone());
        if claims.len() > 1 {
            self.disputed.insert(id.clone());
        }
        self.by_stored.insert(stored, id);
    }

    /// The name it claimed.
    fn unclaim(&mut self, stored: &Stored) -> Option<PolicyId> {
        let id = self.by_stored.remove(stored)?;
        if let Some(claims) = self.claims.get_mut(&id) {
            claims.remove(stored);
            if claims.len() < 2 {
                self.disputed.remove(&id);
            }
            if claims.is_empty() {
                self.claims.remove(&id);
            }
        }
        Some(id)
    }
}
