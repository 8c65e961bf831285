//! What a selector asks of single labels: the part of its meaning an index by label can use to look only at candidates.
//!
//! Sound, not complete: labels that break a restriction never match; labels that keep all of them may still not match.

use std::collections::{BTreeMap, BTreeSet};

use super::expr::Expr;

/// What must hold of one label for a selector to match (Felix, `libcalico-go/lib/selector/parser/label_restriction.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelRestriction<'a> {
    /// The label is there, with any value.
    MustBePresent,
    /// The label is there with one of these values, of which there is at least one.
    MustHaveOneOfValues(BTreeSet<&'a str>),
    /// The label is not there.
    MustBeAbsent,
}

impl LabelRestriction<'_> {
    /// Whether a label with this value, or without any, keeps to it.
    pub fn allows(&self, value: Option<&str>) -> bool {
        match self {
            LabelRestriction::MustBePresent => value.is_some(),
            LabelRestriction::MustHaveOneOfValues(values) => value.is_some_and(|v| values.contains(v)),
            LabelRestriction::MustBeAbsent => value.is_none(),
        }
    }
}

/// Restrictions by label; `None` when nothing can match at all.
pub(super) type Restrictions<'a> = Option<BTreeMap<&'a str, LabelRestriction<'a>>>;

/// The restrictions of a tree, or of its opposite when `wanted` is false.
pub(super) fn restrictions(expr: &Expr, wanted: bool) -> Restrictions<'_> {
    match (expr, wanted) {
        (Expr::All | Expr::Global, wanted) => wanted.then(BTreeMap::new),
        (Expr::Has(l), true) => one(l, LabelRestriction::MustBePresent),
        (Expr::Has(l), false) => one(l, LabelRestriction::MustBeAbsent),
        (Expr::Equal(l, v), true) | (Expr::NotEqual(l, v), false) => {
            one(l, LabelRestriction::MustHaveOneOfValues(BTreeSet::from([v.as_str()])))
        }
        (Expr::In(l, values), true) | (Expr::NotIn(l, values), false) => {
            let values: BTreeSet<&str> = values.iter().map(String::as_str).collect();
            if values.is_empty() { None } else { one(l, LabelRestriction::MustHaveOneOfValues(values)) }
        }
        (Expr::Contains(l, _) | Expr::StartsWith(l, _) | Expr::EndsWith(l, _), true) => {
            one(l, LabelRestriction::MustBePresent)
        }
        // What is left of these is a missing label or any value but some: nothing an index can use.
        (Expr::Equal(..) | Expr::In(..) | Expr::NotEqual(..) | Expr::NotIn(..), _)
        | (Expr::Contains(..) | Expr::StartsWith(..) | Expr::EndsWith(..), false) => Some(BTreeMap::new()),
        (Expr::Not(inner), wanted) => restrictions(inner, !wanted),
        // The opposite of a conjunction is a disjunction of the opposites, and the reverse.
        (Expr::And(nodes), true) | (Expr::Or(nodes), false) => all_of(nodes, wanted),
        (Expr::Or(nodes), true) | (Expr::And(nodes), false) => any_of(nodes, wanted),
    }
}

fn one<'a>(label: &'a str, restriction: LabelRestriction<'a>) -> Restrictions<'a> {
    Some(BTreeMap::from([(label, restriction)]))
}

fn all_of(nodes: &[Expr], wanted: bool) -> Restrictions<'_> {
    let mut found: BTreeMap<&str, LabelRestriction<'_>> = BTreeMap::new();
    for node in nodes {
        for (label, restriction) in restrictions(node, wanted)? {
            let narrowed = match found.remove(label) {
                Some(known) => both(known, restriction)?,
                None => restriction,
            };
            found.insert(label, narrowed);
        }
    }
    Some(found)
}

/// Members that can match nothing do not count; only labels every other member restricts stay restricted.
fn any_of(nodes: &[Expr], wanted: bool) -> Restrictions<'_> {
    let mut members = nodes.iter().filter_map(|node| restrictions(node, wanted));
    let mut found = members.next()?;
    for mut member in members {
        found = found
            .into_iter()
            .filter_map(|(label, known)| Some((label, either(known, member.remove(label)?)?)))
            .collect();
    }
    Some(found)
}

/// What keeps to both; `None` when nothing does.
fn both<'a>(a: LabelRestriction<'a>, b: LabelRestriction<'a>) -> Option<LabelRestriction<'a>> {
    use LabelRestriction::{MustBeAbsent, MustBePresent, MustHaveOneOfValues};
    match (a, b) {
        (MustBeAbsent, MustBeAbsent) => Some(MustBeAbsent),
        (MustBeAbsent, _) | (_, MustBeAbsent) => None,
        (MustBePresent, other) | (other, MustBePresent) => Some(other),
        (MustHaveOneOfValues(a), MustHaveOneOfValues(b)) => {
            let values: BTreeSet<&str> = a.intersection(&b).copied().collect();
            (!values.is_empty()).then_some(MustHaveOneOfValues(values))
        }
    }
}

/// What keeps to one of them; `None` when that is no restriction.
fn either<'a>(a: LabelRestriction<'a>, b: LabelRestriction<'a>) -> Option<LabelRestriction<'a>> {
    use LabelRestriction::{MustBeAbsent, MustBePresent, MustHaveOneOfValues};
    match (a, b) {
        (MustBeAbsent, MustBeAbsent) => Some(MustBeAbsent),
        (MustBeAbsent, _) | (_, MustBeAbsent) => None,
        (MustHaveOneOfValues(mut a), MustHaveOneOfValues(b)) => {
            a.extend(b);
            Some(MustHaveOneOfValues(a))
        }
        (MustBePresent, _) | (_, MustBePresent) => Some(MustBePresent),
    }
}
