//! Named sets and verdict maps of others, and whether they have what a rule looks up; pure.

use std::collections::BTreeMap;
use std::slice::from_ref;

use nftables::expr::{Expression, Verdict};
use serde::Deserialize as _;
use serde_json::Value;

use super::packet::{self, Packet, Truth};

/// Sets and verdict maps of a table by name.
pub(crate) type Sets = BTreeMap<String, Set>;

/// A set, or a map to verdicts.
#[derive(Debug, Default)]
pub(crate) struct Set {
    /// A hole for each that could not be read.
    pub(crate) elements: Vec<Option<Element>>,
    /// Packets add elements, or time takes them away: another one may be there soon.
    pub(crate) changes: bool,
}

/// An element.
#[derive(Debug)]
pub(crate) struct Element {
    key: Expression<'static>,
    /// Of a map.
    pub(crate) verdict: Option<Verdict<'static>>,
    /// It does not expire, and holds for every packet.
    lasts: bool,
}

/// What of an element says nothing about when it holds. Others are a timeout, or a rate, a quota or a count that must not be
/// exceeded.
const WORDS: [&str; 4] = ["val", "comment", "counter", "last"];

impl Set {
    /// Adds what a listing says of a set; elements that could not be read are counted.
    pub(crate) fn read(&mut self, object: &Value) -> usize {
        let has_flag = |name: &str| {
            object.get("flags").is_some_and(|flags| match flags.as_array() {
                Some(flags) => flags.iter().any(|flag| flag == name),
                None => flags == name,
            })
        };
        self.changes |= has_flag("dynamic") || has_flag("timeout") || object.get("timeout").is_some();
        let elements = match object.get("elem") {
            None => &[],
            Some(Value::Array(elements)) => elements.as_slice(),
            Some(one) => from_ref(one),
        };
        self.elements.extend(elements.iter().map(Element::read));
        self.elements.iter().filter(|element| element.is_none()).count()
    }

    /// Whether it has a packet's field.
    pub(crate) fn has(&self, packet: &Packet, field: &Expression<'_>) -> Truth {
        let is = |element: &Option<Element>| {
            element.as_ref().map_or(Truth::Unknown, |element| element.is(packet, field))
        };
        let another = self.changes.then_some(Truth::Unknown);
        Truth::any(self.elements.iter().map(is).chain(another))
    }
}

impl Element {
    fn read(value: &Value) -> Option<Element> {
        let (key, verdict) = match value.as_array().map(Vec::as_slice) {
            Some([key, verdict]) => (key, Some(Verdict::deserialize(verdict).ok()?)),
            Some(_) => return None,
            None => (value, None),
        };
        let (key, lasts) = match key.get("elem").and_then(Value::as_object) {
            Some(words) => (words.get("val")?, words.keys().all(|word| WORDS.contains(&word.as_str()))),
            None => (key, true),
        };
        Some(Element { key: Expression::deserialize(key).ok()?, verdict, lasts })
    }

    /// Whether it stands for all that no other element has.
    pub(crate) fn is_rest(&self) -> bool {
        packet::is_rest(&self.key)
    }

    /// Whether a packet's field is this one.
    pub(crate) fn is(&self, packet: &Packet, field: &Expression<'_>) -> Truth {
        match packet.has(field, &self.key) {
            Truth::Yes if !self.lasts => Truth::Unknown,
            truth @ (Truth::Yes | Truth::No | Truth::Unknown) => truth,
        }
    }
}

/// The name in `@name`, which stands for a set.
pub(crate) fn name<'a>(value: &'a Expression<'_>) -> Option<&'a str> {
    if let Expression::String(text) = value { text.strip_prefix('@') } else { None }
}
