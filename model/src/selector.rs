//! The selector language (calico-datamodel 3): text to tree, canonical printing, evaluation on labels.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    text: String,
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector '{text}' at column {column}: {reason}")]
pub struct SelectorError {
    /// The text.
    pub text: String,
    /// 1-based column of the mistake.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

/// A source of label values; implemented by maps and by label sets with inheritance.
pub trait Labels {
    /// The value of a label, `None` when it is absent.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }
}

impl Selector {
    /// The selector that matches everything.
    pub fn all() -> Selector {
        Selector { text: "all()".into() }
    }

    /// Whether labels match.
    pub fn matches(&self, _labels: &dyn Labels) -> bool {
        false
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        Ok(Selector { text: text.to_owned() })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
