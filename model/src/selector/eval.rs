//! What a selector means on labels (calico-datamodel 3.2): byte-wise, case-sensitive; a missing label satisfies only
//! the negative operators.

use super::Labels;
use super::expr::Expr;

/// Whether labels satisfy the tree. Recursion is bounded by the parser's depth limit.
pub(super) fn matches(expr: &Expr, labels: &dyn Labels) -> bool {
    let value_is = |label: &str, test: &dyn Fn(&str) -> bool| labels.get(label).is_some_and(test);
    match expr {
        // The meaning of `global()` is applied where a namespace selector is converted.
        Expr::All | Expr::Global => true,
        Expr::Has(label) => labels.get(label).is_some(),
        Expr::Equal(label, wanted) => value_is(label, &|v| v == wanted),
        Expr::NotEqual(label, unwanted) => !value_is(label, &|v| v == unwanted),
        Expr::In(label, wanted) => value_is(label, &|v| wanted.contains(v)),
        Expr::NotIn(label, unwanted) => !value_is(label, &|v| unwanted.contains(v)),
        Expr::Contains(label, part) => value_is(label, &|v| v.contains(part.as_str())),
        Expr::StartsWith(label, prefix) => value_is(label, &|v| v.starts_with(prefix.as_str())),
        Expr::EndsWith(label, suffix) => value_is(label, &|v| v.ends_with(suffix.as_str())),
        Expr::Not(inner) => !matches(inner, labels),
        Expr::And(nodes) => nodes.iter().all(|n| matches(n, labels)),
        Expr::Or(nodes) => nodes.iter().any(|n| matches(n, labels)),
    }
}
