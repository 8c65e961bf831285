//! The tree of a selector and its canonical text (calico-datamodel 3.3). Never evaluates.

use std::collections::BTreeSet;
use std::fmt;

/// A node. Trees built by the parser hold no directly nested [`Expr::Not`] and no group with less than two members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Expr {
    All,
    Global,
    Has(String),
    Equal(String, String),
    NotEqual(String, String),
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Contains(String, String),
    StartsWith(String, String),
    EndsWith(String, String),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
}

impl Expr {
    /// The opposite; a double negation vanishes.
    pub(super) fn negated(self) -> Expr {
        if let Expr::Not(inner) = self { *inner } else { Expr::Not(Box::new(self)) }
    }

    /// The same tree with every label name prefixed.
    pub(super) fn prefixed(&self, prefix: &str) -> Expr {
        let name = |label: &String| format!("{prefix}{label}");
        let group = |nodes: &[Expr]| nodes.iter().map(|n| n.prefixed(prefix)).collect();
        match self {
            Expr::All => Expr::All,
            Expr::Global => Expr::Global,
            Expr::Has(l) => Expr::Has(name(l)),
            Expr::Equal(l, v) => Expr::Equal(name(l), v.clone()),
            Expr::NotEqual(l, v) => Expr::NotEqual(name(l), v.clone()),
            Expr::In(l, v) => Expr::In(name(l), v.clone()),
            Expr::NotIn(l, v) => Expr::NotIn(name(l), v.clone()),
            Expr::Contains(l, v) => Expr::Contains(name(l), v.clone()),
            Expr::StartsWith(l, v) => Expr::StartsWith(name(l), v.clone()),
            Expr::EndsWith(l, v) => Expr::EndsWith(name(l), v.clone()),
            Expr::Not(inner) => Expr::Not(Box::new(inner.prefixed(prefix))),
            Expr::And(nodes) => Expr::And(group(nodes)),
            Expr::Or(nodes) => Expr::Or(group(nodes)),
        }
    }

    /// Whether `global()` occurs in the tree.
    pub(super) fn mentions_global(&self) -> bool {
        match self {
            Expr::Global => true,
            Expr::Not(inner) => inner.mentions_global(),
            Expr::And(nodes) | Expr::Or(nodes) => nodes.iter().any(Expr::mentions_global),
            Expr::All
            | Expr::Has(_)
            | Expr::Equal(..)
            | Expr::NotEqual(..)
            | Expr::In(..)
            | Expr::NotIn(..)
            | Expr::Contains(..)
            | Expr::StartsWith(..)
            | Expr::EndsWith(..) => false,
        }
    }

    /// How deep groups nest: the depth of parentheses in the canonical text.
    pub(super) fn group_depth(&self) -> usize {
        match self {
            Expr::Not(inner) => inner.group_depth(),
            Expr::And(nodes) | Expr::Or(nodes) => {
                1 + nodes.iter().map(Expr::group_depth).max().unwrap_or_default()
            }
            Expr::All
            | Expr::Global
            | Expr::Has(_)
            | Expr::Equal(..)
            | Expr::NotEqual(..)
            | Expr::In(..)
            | Expr::NotIn(..)
            | Expr::Contains(..)
            | Expr::StartsWith(..)
            | Expr::EndsWith(..) => 0,
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::All => f.write_str("all()"),
            Expr::Global => f.write_str("global()"),
            Expr::Has(label) => write!(f, "has({label})"),
            Expr::Equal(l, v) => write!(f, "{l} == {}", Quoted(v)),
            Expr::NotEqual(l, v) => write!(f, "{l} != {}", Quoted(v)),
            Expr::In(l, values) => write_set(f, l, "in", values),
            Expr::NotIn(l, values) => write_set(f, l, "not in", values),
            Expr::Contains(l, v) => write!(f, "{l} contains {}", Quoted(v)),
            Expr::StartsWith(l, v) => write!(f, "{l} starts with {}", Quoted(v)),
            Expr::EndsWith(l, v) => write!(f, "{l} ends with {}", Quoted(v)),
            Expr::Not(inner) => write!(f, "!{inner}"),
            Expr::And(nodes) => write_group(f, " && ", nodes),
            Expr::Or(nodes) => write_group(f, " || ", nodes),
        }
    }
}

fn write_set(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    operator: &str,
    values: &BTreeSet<String>,
) -> fmt::Result {
    write!(f, "{label} {operator} {{")?;
    for (i, value) in values.iter().enumerate() {
        write!(f, "{}{}", if i > 0 { ", " } else { "" }, Quoted(value))?;
    }
    f.write_str("}")
}

fn write_group(f: &mut fmt::Formatter<'_>, operator: &str, nodes: &[Expr]) -> fmt::Result {
    f.write_str("(")?;
    for (i, node) in nodes.iter().enumerate() {
        write!(f, "{}{node}", if i > 0 { operator } else { "" })?;
    }
    f.write_str(")")
}

/// A string literal: the language knows no escapes, so one with a double quote inside takes single ones.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}
