//! The selector language (calico-datamodel 3): text to tree, canonical printing, evaluation on labels.
//!
//! Owns the grammar and its meaning on one set of labels. Never decides what a selector is *about* (namespaces,
//! service accounts, host endpoints): callers combine selectors with [`Selector::and`] and [`Selector::prefixed`].

mod eval;
mod expr;
mod parse;
mod restrict;
#[cfg(test)]
mod tests;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha224};

use expr::Expr;
pub use restrict::LabelRestriction;

/// A parsed selector. Equal when the canonical texts are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    expr: Expr,
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector '{text}' at column {column}: {reason}")]
pub struct SelectorError {
    /// The text.
    pub text: String,
    /// 1-based column of the mistake, in characters.
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
        Selector { expr: Expr::All }
    }

    /// Matches what has the label, with any value.
    pub fn has(label: &str) -> Selector {
        Selector { expr: Expr::Has(label.to_owned()) }
    }

    /// Matches what has the label with this value.
    pub fn equal(label: &str, value: &str) -> Selector {
        Selector { expr: Expr::Equal(label.to_owned(), value.to_owned()) }
    }

    /// Matches what has the label with one of these values.
    pub fn one_of(label: &str, values: impl IntoIterator<Item = String>) -> Selector {
        Selector { expr: Expr::In(label.to_owned(), values.into_iter().collect::<BTreeSet<_>>()) }
    }

    /// Matches what both match.
    pub fn and(self, other: Selector) -> Selector {
        Selector { expr: Expr::And(vec![self.expr, other.expr]) }
    }

    /// Matches what at least one of two matches.
    pub fn either(one: Selector, other: Selector) -> Selector {
        Selector { expr: Expr::Or(vec![one.expr, other.expr]) }
    }

    /// Matches what this one does not.
    pub fn negated(self) -> Selector {
        Selector { expr: self.expr.negated() }
    }

    /// The same selector with every label name prefixed, as namespace labels (`pcns.`) and service-account labels
    /// (`pcsa.`) are kept on endpoints (calico-datamodel 1.8).
    pub fn prefixed(&self, prefix: &str) -> Selector {
        Selector { expr: self.expr.prefixed(prefix) }
    }

    /// Whether it is exactly `all()`.
    pub fn is_all(&self) -> bool {
        self.expr == Expr::All
    }

    /// Whether it is exactly `global()`, which as a namespace selector means "in no namespace".
    pub fn is_global(&self) -> bool {
        self.expr == Expr::Global
    }

    /// Whether `global()` occurs anywhere; most fields refuse it (calico-datamodel 2.5).
    pub fn mentions_global(&self) -> bool {
        self.expr.mentions_global()
    }

    /// What every match must satisfy, label by label: an index needs to look only at what does. `None` when nothing can
    /// match; an empty map when nothing is sure. Labels that keep to all of it may still not match.
    pub fn restrictions(&self) -> Option<BTreeMap<&str, LabelRestriction<'_>>> {
        restrict::restrictions(&self.expr, true)
    }

    /// Whether labels match.
    pub fn matches(&self, labels: &dyn Labels) -> bool {
        eval::matches(&self.expr, labels)
    }

    /// Felix's identifier of the set a selector defines: `s:` and the URL-safe base64 of SHA-224 over `s:` and the
    /// canonical text (calico-datamodel 3.3).
    pub fn unique_id(&self) -> String {
        format!("s:{}", URL_SAFE_NO_PAD.encode(Sha224::digest(format!("s:{self}"))))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads a selector; empty or blank text means `all()`. Nesting deeper than 128 levels is refused.
    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        match parse::parse(text) {
            Ok(expr) => Ok(Selector { expr }),
            Err(mistake) => Err(SelectorError {
                text: text.to_owned(),
                column: text[..mistake.offset].chars().count() + 1,
                reason: mistake.reason,
            }),
        }
    }
}

impl fmt::Display for Selector {
    /// The canonical text: it reads back as an equal selector.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}
