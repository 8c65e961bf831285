//! Strict reading of documents users wrote: YAML or JSON text in, resources out, every mistake reported at once.
//!
//! The store is read tolerantly ([`crate::codec`]): what a newer Calico wrote must survive. A user's document is
//! the opposite case: an unknown field is most likely a typing mistake, so it is an error and names the field that
//! was probably meant. Nothing here does IO; [`Document`] knows its file's name only to say it.
//!
//! | module | what it owns |
//! |---|---|
//! | `document` | text to documents: several in a file, lists, arrays; syntax errors with line and column |
//! | `de` | a serde deserializer that notes unknown fields and says path and value of a wrong one |
//! | `words` | names of types and parsers' messages in plain words |
//! | `read` | one document to one resource: kind, old v1 form, defaults, validation |

use std::fmt;

mod de;
mod document;
mod read;
mod words;

pub(crate) use de::{from_value, shown};
pub use document::{Document, MAX_INPUT_BYTES, Origin, SyntaxError, documents};
pub use read::{known_kind, read, unvalidated_v3_document, v3_document};

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A field nobody reads: misspelt, or in the wrong place.
    UnknownField {
        /// Its full path, such as `spec.ingress[0].source.netz`.
        path: String,
        /// The known field of the same object with the most similar name.
        nearest: Option<String>,
    },
    /// A field whose value breaks a rule.
    BadValue {
        /// Its full path.
        path: String,
        /// The value, shortened when long.
        value: String,
        /// What it should have been.
        rule: String,
    },
    /// A required field is missing, or fields contradict each other; there is no one value to show.
    BadObject {
        /// Path of the field or object.
        path: String,
        /// The rule it breaks.
        rule: String,
    },
    /// No such kind of resource.
    UnknownKind {
        /// The kind given.
        kind: String,
        /// The `apiVersion` given.
        api_version: String,
        /// What to do instead.
        hint: String,
    },
}

impl Problem {
    /// A value that breaks a rule.
    pub fn bad_value(path: impl Into<String>, value: impl fmt::Display, rule: impl Into<String>) -> Problem {
        Problem::BadValue { path: path.into(), value: shortened(&value.to_string()), rule: rule.into() }
    }

    /// An object or missing field that breaks a rule.
    pub fn bad_object(path: impl Into<String>, rule: impl Into<String>) -> Problem {
        Problem::BadObject { path: path.into(), rule: rule.into() }
    }

    /// Where it is; empty for the document as a whole.
    pub fn path(&self) -> &str {
        match self {
            Problem::UnknownField { path, .. }
            | Problem::BadValue { path, .. }
            | Problem::BadObject { path, .. } => path,
            Problem::UnknownKind { .. } => "kind",
        }
    }

    /// The same problem at the path `rename` makes of its own.
    pub(crate) fn renamed(mut self, rename: impl Fn(&str) -> String) -> Problem {
        match &mut self {
            Problem::UnknownField { path, .. }
            | Problem::BadValue { path, .. }
            | Problem::BadObject { path, .. } => *path = rename(path),
            Problem::UnknownKind { .. } => {}
        }
        self
    }
}

impl fmt::Display for Problem {
    /// In the words of calicoctl (calico-datamodel 6.3), with the nearest name added.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::UnknownField { path, nearest } => {
                write!(f, "field in document is not recognized or is in the wrong location: {path}")?;
                match nearest {
                    Some(nearest) => write!(f, " (did you mean '{nearest}'?)"),
                    None => Ok(()),
                }
            }
            Problem::BadValue { path, value, rule } => {
                write!(f, "error with field {path} = '{value}' ({rule})")
            }
            Problem::BadObject { path, rule } => write!(f, "error with field {path} ({rule})"),
            Problem::UnknownKind { kind, api_version, hint } => {
                write!(f, "unknown resource type ({kind}) and/or version ({api_version}){hint}")
            }
        }
    }
}

/// Values longer than this are cut in messages.
const SHOWN_VALUE_CHARS: usize = 120;

fn shortened(value: &str) -> String {
    if value.chars().count() <= SHOWN_VALUE_CHARS {
        return value.to_owned();
    }
    value.chars().take(SHOWN_VALUE_CHARS).chain("…".chars()).collect()
}

/// The candidate a mistyped name most likely means; `None` when none is near.
///
/// Case, dashes and underscores do not count: `nat-outgoing` is `natOutgoing`.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
    };
    // A name of this length is no typing mistake, and the distance takes quadratic time.
    if name.len() > 100 {
        return None;
    }
    let wanted = plain(name);
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&wanted, &plain(c)), c))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests;
