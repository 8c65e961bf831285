//! Route filters: ordered rules, the first that decides wins. Called *filter*, since *policy* means network policy.
//!
//! Rules are found by prefix, so a filter with a thousand prefixes costs a route no more than the few rules that could
//! match it. Every decision can name the rule that made it.

use std::fmt;
use std::sync::Arc;

use crate::family::Prefix;
use crate::wire::PathAttributes;

mod index;
mod rule;

use index::Index;
pub use rule::{Change, Community, LocalPref, PeerType, PrefixMatch, Rule, Source, Verdict};

/// What is said where no rule decides.
const UNDECIDED: &str = "no rule decides";

/// Ordered rules. Immutable and shared: a clone costs nothing, and equal filters that are clones compare at once.
#[derive(Clone, Default)]
pub struct Filter(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rules: Vec<Rule>,
    index: Index,
}

/// What a rule can ask about a route besides its prefix and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// Where the route comes from.
    pub source: Source,
    /// Kind of the session it is filtered for.
    pub peer_type: PeerType,
    /// Interface the route leads to; routes of a speaker have none until somebody resolves them.
    pub interface: Option<&'a str>,
}

/// What a filter makes of a route, and which rule decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision<'a> {
    /// Accept or reject; `None` when the filter runs out.
    pub verdict: Option<Verdict>,
    /// Index of the rule that decided.
    pub rule: Option<usize>,
    /// The rule's reason in an operator's words.
    pub reason: &'a str,
}

/// Prefixes of one class meet the prefix criteria of the same rules: with equal attributes and context a filter decides
/// them alike. Valid for the filter it was asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixClass {
    list: u32,
    /// The prefix length where a rule of the list asks for it, else 0.
    length: u8,
}

impl Filter {
    /// A filter of these rules, in this order. [`Verdict::Continue`] applies a rule's changes and goes on.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Filter {
        let index = Index::new(&rules);
        Filter(Arc::new(Inner { rules, index }))
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.0.rules
    }

    /// Whether it has no rules: it decides and changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.rules.is_empty()
    }

    /// Whether both are one allocation; equal filters need not be.
    #[must_use]
    pub fn is_same(&self, other: &Filter) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The class of a prefix. Different classes may still be decided alike.
    #[must_use]
    pub fn prefix_class(&self, prefix: Prefix) -> PrefixClass {
        let list = self.0.index.find(prefix);
        let length = if self.0.index.asks_length(list) { prefix.length() } else { 0 };
        PrefixClass { list, length }
    }

    /// Runs the rules over a route and makes their changes.
    pub fn decide(
        &self,
        prefix: Prefix,
        context: &Context<'_>,
        attributes: &mut PathAttributes<'_>,
    ) -> Decision<'_> {
        let Inner { rules, index } = &*self.0;
        for number in index.rules(index.find(prefix)) {
            let rule = &rules[number];
            if !rule.matches(prefix, context, attributes) {
                continue;
            }
            if rule.verdict != Verdict::Reject {
                rule.set.iter().for_each(|change| change.apply(attributes));
            }
            if rule.verdict != Verdict::Continue {
                return Decision { verdict: Some(rule.verdict), rule: Some(number), reason: &rule.reason };
            }
        }
        Decision { verdict: None, rule: None, reason: UNDECIDED }
    }

    /// The reason of a rule, or what is said where none decides.
    #[must_use]
    pub fn reason(&self, rule: Option<usize>) -> &str {
        rule.and_then(|rule| self.0.rules.get(rule)).map_or(UNDECIDED, |rule| &rule.reason)
    }

    /// As [`Filter::decide`], for a route without interface and a caller who does not ask why.
    pub fn judge(
        &self,
        prefix: Prefix,
        source: Source,
        peer_type: PeerType,
        attributes: &mut PathAttributes<'_>,
    ) -> Option<Verdict> {
        self.decide(prefix, &Context { source, peer_type, interface: None }, attributes).verdict
    }
}

impl From<Vec<Rule>> for Filter {
    fn from(rules: Vec<Rule>) -> Filter {
        Filter::new(rules)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.is_same(other) || self.0.rules == other.0.rules
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.rules).finish()
    }
}

#[cfg(test)]
mod tests;
