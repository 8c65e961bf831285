//! One measurement: figures by name, in the order they were taken.

use serde_json::{Map, Value};

/// The figures.
#[derive(Debug, Default)]
pub(crate) struct Report(Map<String, Value>);

impl Report {
    /// Adds a word.
    pub(crate) fn word(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Adds a figure, rounded to a tenth of a millisecond or its like.
    pub(crate) fn figure(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), ((value * 1e4).round() / 1e4).into());
    }

    /// Says that everything was measured, or what stopped it.
    pub(crate) fn end(&mut self, failure: Option<String>) {
        match failure {
            None => self.0.insert("complete".to_owned(), true.into()),
            Some(reason) => self.0.insert("failed".to_owned(), reason.into()),
        };
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.0.contains_key("complete")
    }

    pub(crate) fn json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}
