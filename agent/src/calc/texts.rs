//! Texts that occur many times, such as names and values of labels, kept once.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Texts in use. Those nobody else has any more are dropped when there are twice as many as after the last time.
#[derive(Debug, Default)]
pub(super) struct Texts {
    known: BTreeSet<Arc<str>>,
    /// How many there may be before unused ones are sought.
    limit: usize,
}

/// Below this nothing is sought.
const FEW: usize = 1000;

impl Texts {
    /// The one copy of a text.
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= self.limit.max(FEW) {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.limit = self.known.len() * 2;
        }
        let text: Arc<str> = text.into();
        self.known.insert(text.clone());
        text
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
        assert!(texts.known.len() <= FEW, "{}", texts.known.len());
        assert!(Arc::ptr_eq(&kept, &texts.get("kept")));
        let all: Vec<Arc<str>> = (0..10 * FEW).map(|n| texts.get(&n.to_string())).collect();
        assert_eq!(texts.known.len(), all.len() + 1);
    }
}
