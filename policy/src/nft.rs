//! The rule-set as text for people, golden files, and `nft -f -` in tests; the kernel gets messages ([`crate::netlink`]),
//! which must list like this. Written for nft 1.0.6; every construct used lists back
//! without trouble there.

mod expr;
mod sets;

use std::fmt::{self, Write};

use crate::ir::{Base, Chain, ChainKind, Hook, Rule, Ruleset, TABLE};

/// A transaction that replaces our table and touches no other: at no moment is there no table, or half of one.
pub fn render(ruleset: &Ruleset) -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n{}", render_table(ruleset))
}

/// The table alone.
pub fn render_table(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = table(&mut text, ruleset);
    text
}

/// Maps come first, since the kernel looks sets up in the order of their creation and these change most; then base
/// chains, so that a reader sees where packets enter.
fn table(out: &mut String, ruleset: &Ruleset) -> fmt::Result {
    writeln!(out, "table inet {TABLE} {{")?;
    for (name, map) in &ruleset.maps {
        sets::map(out, name, map)?;
    }
    for (name, set) in &ruleset.sets {
        sets::set(out, name, set)?;
    }
    for wanted in [true, false] {
        for (name, chain) in ruleset.chains.iter().filter(|(_, chain)| chain.base.is_some() == wanted) {
            self::chain(out, name, chain)?;
        }
    }
    writeln!(out, "}}")
}

fn chain(out: &mut String, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(out, "\tchain {name} {{")?;
    if !chain.comment.is_empty() {
        writeln!(out, "\t\tcomment \"{}\"", chain.comment)?;
    }
    if let Some(Base { kind, hook, priority }) = chain.base {
        let kind = match kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let hook = match hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        writeln!(out, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;")?;
    }
    for rule in &chain.rules {
        self::rule(out, rule)?;
    }
    writeln!(out, "\t}}")
}

fn rule(out: &mut String, rule: &Rule) -> fmt::Result {
    let mut words = expr::matches(&rule.matches);
    if rule.counter {
        words.push("counter".to_owned());
    }
    words.push(expr::action(&rule.action));
    if !rule.comment.is_empty() {
        words.push(format!("comment \"{}\"", rule.comment));
    }
    writeln!(out, "\t\t{}", words.join(" "))
}
