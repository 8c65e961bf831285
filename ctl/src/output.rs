//! How resources are shown (calico-datamodel 6.4).
//!
//! | module | what it owns |
//! |---|---|
//! | `table` | layout: calicoctl's plain tables and its boxes |
//! | `columns` | which columns a kind has, and what stands in them |
//! | `structured` | YAML and JSON |

use std::str::FromStr;

use tortie_model::{AnyResource, Kind};

mod columns;
pub(crate) mod structured;
pub(crate) mod table;

/// A form of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Table with the usual columns.
    Table,
    /// Table with all columns.
    Wide,
    /// Table with these columns.
    Columns(Vec<String>),
    Yaml,
    Json,
    /// `kind/name`, one a line.
    Name,
}

/// A text that is no format.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("unrecognized output format '{0}': use ps, wide, yaml, json, name or custom-columns=NAME,…")]
    Unknown(String),
    #[error("output format '{0}' is not supported; use yaml or json and a tool such as jq")]
    Template(String),
    #[error("unknown output column '{column}' for {kind}: columns are {known}")]
    Column { column: String, kind: Kind, known: String },
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Format, FormatError> {
        match (text, text.split_once('=')) {
            ("ps", _) => Ok(Format::Table),
            ("wide", _) => Ok(Format::Wide),
            ("yaml", _) => Ok(Format::Yaml),
            ("json", _) => Ok(Format::Json),
            ("name", _) => Ok(Format::Name),
            (_, Some(("custom-columns", columns))) if !columns.is_empty() => {
                Ok(Format::Columns(columns.split(',').map(|c| c.trim().to_ascii_uppercase()).collect()))
            }
            (_, Some(("go-template" | "go-template-file", _))) => Err(FormatError::Template(text.to_owned())),
            _ => Err(FormatError::Unknown(text.to_owned())),
        }
    }
}

/// What a table says that is not in the resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// AS number of nodes without their own.
    pub(crate) default_as: u32,
    /// Whether lists of namespaced kinds begin with the namespace.
    pub(crate) with_namespace: bool,
}

/// One resource asked for by name, or all of a kind.
#[derive(Debug)]
pub(crate) enum Shown {
    One(Box<AnyResource>),
    List { kind: Kind, revision: i64, items: Vec<AnyResource> },
}

impl Shown {
    /// What is shown.
    pub(crate) fn resources(&self) -> &[AnyResource] {
        match self {
            Shown::One(resource) => std::slice::from_ref(resource),
            Shown::List { items, .. } => items,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Shown::One(resource) => resource.kind(),
            Shown::List { kind, .. } => *kind,
        }
    }
}

/// The text of all that was asked for.
///
/// # Errors
/// A column the kind does not have.
pub(crate) fn render(shown: &[Shown], format: &Format, facts: &Facts) -> Result<String, FormatError> {
    match format {
        Format::Yaml | Format::Json => Ok(structured::to_text(&structured::document(shown), format)),
        Format::Name => Ok(shown.iter().flat_map(Shown::resources).map(name_line).collect()),
        Format::Table | Format::Wide | Format::Columns(_) => {
            let tables: Result<Vec<String>, FormatError> =
                shown.iter().map(|shown| columns::table(shown, format, facts)).collect();
            Ok(tables?.concat())
        }
    }
}

/// `ippool/pool-a`.
fn name_line(resource: &AnyResource) -> String {
    format!("{}/{}\n", resource.kind().name().to_ascii_lowercase(), resource.metadata().name)
}

#[cfg(test)]
mod tests;
