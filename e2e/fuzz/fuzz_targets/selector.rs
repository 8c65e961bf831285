//! Any text as a selector: read or refused with a place in the text. What is read prints to a text that reads as the same,
//! and means the same; labels that break what it asks of single labels never match.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tortie_model::selector::Selector;

fuzz_target!(|text: &str| {
    let selector = match text.parse::<Selector>() {
        Ok(selector) => selector,
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
            return;
        }
    };
    let printed = selector.to_string();
    let again: Selector = printed.parse().expect("canonical text parses");
    assert_eq!(again, selector, "{printed}");
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.unique_id(), selector.unique_id());
    let prefixed = selector.prefixed("pcns.");
    if let Ok(again) = prefixed.to_string().parse::<Selector>() {
        assert_eq!(again, prefixed);
    }
    let restrictions = selector.restrictions();
    for labels in label_sets(text) {
        let matches = selector.matches(&labels);
        assert_eq!(selector.clone().negated().matches(&labels), !matches, "{printed} on {labels:?}");
        let allowed = restrictions.as_ref().is_some_and(|restrictions| {
            restrictions.iter().all(|(label, r)| r.allows(labels.get(*label).map(String::as_str)))
        });
        assert!(allowed || !matches, "{printed} on {labels:?} in spite of {restrictions:?}");
    }
});

/// Labels that have something to do with the text: its words, with its strings as values.
fn label_sets(text: &str) -> Vec<BTreeMap<String, String>> {
    let is_label = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let words: Vec<&str> = text.split(|c| !is_label(c)).filter(|word| !word.is_empty()).take(16).collect();
    let strings: Vec<&str> = text.split(['"', '\'']).take(16).collect();
    let every = |step: usize| {
        let chosen = words.iter().enumerate().filter(|(i, _)| (i + step) % (step + 1) == 0);
        let value = |i: usize| strings.get((i * 2 + step) % strings.len().max(1)).copied().unwrap_or_default();
        chosen.map(|(i, word)| ((*word).to_owned(), value(i).to_owned())).collect()
    };
    std::iter::once(BTreeMap::new()).chain((0..6).map(every)).collect()
}
