//! What is wrong with resources, in words for operators.

use std::collections::{BTreeMap, BTreeSet};

use tortie_model::Key;

/// Reasons by subject; a subject is a resource as operators name it: `BGPPeer tor`, `NetworkPolicy shop/web`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(BTreeMap<String, BTreeSet<String>>);

impl Problems {
    /// Adds a reason; each is kept once.
    pub(super) fn add(&mut self, subject: impl Into<String>, reason: impl Into<String>) {
        self.0.entry(subject.into()).or_default().insert(reason.into());
    }

    /// Adds all reasons of others.
    pub(super) fn extend(&mut self, others: &Problems) {
        for (subject, reasons) in &others.0 {
            self.0.entry(subject.clone()).or_default().extend(reasons.iter().cloned());
        }
    }

    /// A line for each reason: subject, colon, reason.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .flat_map(|(subject, reasons)| reasons.iter().map(move |reason| format!("{subject}: {reason}")))
    }

    /// The reasons of a subject, for tests.
    #[cfg(test)]
    pub(super) fn of(&self, subject: &str) -> Option<String> {
        Some(self.0.get(subject)?.iter().cloned().collect::<Vec<_>>().join("; "))
    }
}

/// A key as operators name what is under it.
pub(super) fn subject(key: &Key) -> String {
    match key {
        Key::Resource { kind, namespace: Some(namespace), name } => format!("{kind} {namespace}/{name}"),
        Key::Resource { kind, namespace: None, name } => format!("{kind} {name}"),
        Key::Block(_) | Key::BlockAffinity { .. } | Key::Handle(_) | Key::IpamHost(_) | Key::IpamConfig => {
            key.to_string()
        }
    }
}
