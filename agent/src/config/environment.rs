//! Environment variables as values, and reading them so that every problem is kept.

use std::collections::BTreeMap;
use std::fmt::Display;

/// A set of environment variables.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process; values that are no UTF-8 count as unset.
    pub fn of_process() -> Environment {
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect()
    }

    /// A variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// A Felix parameter: `FELIX_` and its name, in any case (calico-datamodel 8.1).
    fn felix(&self, name: &str) -> Option<(&str, &str)> {
        let wanted = |key: &str| {
            key.get(..6).is_some_and(|p| p.eq_ignore_ascii_case("FELIX_"))
                && key[6..].eq_ignore_ascii_case(name)
        };
        let found = self.0.keys().find(|key| wanted(key))?;
        self.get(found).map(|value| (found.as_str(), value))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Environment {
        Environment(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// Reads settings and collects what is wrong with them. A setting with a problem gets its default, which nobody sees:
/// the caller refuses the whole when there are problems.
pub(super) struct Reader<'a> {
    pub(super) environment: &'a Environment,
    /// One line each: the variable, its value, the rule.
    pub(super) problems: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(environment: &'a Environment) -> Reader<'a> {
        Reader { environment, problems: Vec::new() }
    }

    /// A variable through a parser whose error is the rule that was broken.
    pub(super) fn value<T, E: Display>(
        &mut self,
        name: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        match self.environment.get(name) {
            Some(text) => self.parsed(name, text, default, parse),
            None => default,
        }
    }

    /// `true` or `false` in any case.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        self.value(name, default, parse_bool)
    }

    /// A Felix parameter; `none` is its default.
    pub(super) fn felix<T, E: Display>(
        &mut self,
        name: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        match self.environment.felix(name) {
            Some((_, text)) if text.eq_ignore_ascii_case("none") => default,
            Some((name, text)) => self.parsed(name, text, default, parse),
            None => default,
        }
    }

    pub(super) fn parsed<T, E: Display>(
        &mut self,
        name: &str,
        text: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        parse(text).unwrap_or_else(|rule| {
            self.problems.push(format!("{name}: '{text}' {rule}"));
            default
        })
    }
}

/// Booleans as Felix reads them.
pub(super) fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" => Ok(true),
        "false" | "0" | "no" | "n" | "f" => Ok(false),
        _ => Err("must be true or false"),
    }
}
