//! What occurs many times, kept once: texts such as names and values of labels, and the labels that all replicas of an
//! application have.

use std::collections::BTreeSet;
use std::sync::Arc;

use tortie_policy::snapshot::LabelSet;

/// Texts and labels in use.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: Pool<Arc<str>>,
    labels: Pool<LabelSet>,
}

/// Values in use. Those nobody else has any more are dropped when there are twice as many as after the last time.
#[derive(Debug)]
struct Pool<T> {
    known: BTreeSet<T>,
    /// How many there may be before unused ones are sought.
    limit: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { known: BTreeSet::new(), limit: FEW }
    }
}

impl<T: Ord> Pool<T> {
    fn add(&mut self, value: T, in_use: impl Fn(&T) -> bool) {
        if self.known.len() >= self.limit {
            self.known.retain(in_use);
            self.limit = FEW.max(self.known.len() * 2);
        }
        self.known.insert(value);
    }
}

/// Below this nothing is sought.
const FEW: usize = 1000;

impl Texts {
    /// The one copy of a text.
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.known.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.add(text.clone(), |known| Arc::strong_count(known) > 1);
        text
    }

    /// The one copy of labels.
    pub(super) fn labels<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> LabelSet {
        let labels: LabelSet =
            labels.into_iter().map(|(name, value)| (self.get(name), self.get(value))).collect();
        if let Some(known) = self.labels.known.get(&labels) {
            return known.clone();
        }
        self.labels.add(labels.clone(), LabelSet::is_shared);
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_not_longer_than_somebody_has_it() {
        let mut texts = Texts::default();
        let kept = texts.get("kept");
        assert!(Arc::ptr_eq(&kept, &texts.get("kept")));
        for n in 0..10 * FEW {
            texts.get(&n.to_string());
        }
        assert!(texts.texts.known.len() <= FEW, "{}", texts.texts.known.len());
        assert!(Arc::ptr_eq(&kept, &texts.get("kept")));
        let all: Vec<Arc<str>> = (0..10 * FEW).map(|n| texts.get(&n.to_string())).collect();
        assert_eq!(texts.texts.known.len(), all.len() + 1);

        let [first, second] = [texts.labels([("app", "a")]), texts.labels([("app", "a")])];
        assert!(first == second && first.is_shared());
        assert_eq!(texts.labels.known.len(), 1);
    }
}
