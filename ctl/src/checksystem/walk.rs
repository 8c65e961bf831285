//! A packet's way through a base chain of somebody else's table; pure.
//!
//! Rules whose conditions nobody can judge are taken for possible: one that might accept makes the outcome doubtful, one
//! that might drop is left alone (lists of blocked addresses are no conflict).

use std::collections::BTreeSet;

use nftables::expr::{Expression, NamedExpression, SetItem, Verdict};
use nftables::stmt::{Statement, VerdictMap};

use super::listing::{Rule, Table};
use super::packet::{Packet, Truth};
use super::sets::{self, Element};

/// The kernel allows no more jumps inside one another.
const DEPTH: usize = 16;

/// What keeps a packet from passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Who drops it: a rule of this chain; absent when the base chain's policy does.
    pub(crate) chain: Option<String>,
    /// Rules on the way that may let it pass, as far as anybody can tell.
    pub(crate) doubts: usize,
}

/// Where a packet stops in a base chain; nothing when it passes.
pub(crate) fn stop(table: &Table, base: &str, packet: &Packet) -> Option<Stop> {
    let mut walk = Walk { table, packet, doubts: 0 };
    let end = walk.chain(base, 0);
    let drops = table.chains.get(base).and_then(|chain| chain.base).is_some_and(|base| base.drops);
    match end {
        End::Accept => None,
        End::Drop(chain) => Some(Stop { chain: Some(chain), doubts: walk.doubts }),
        End::Return => drops.then_some(Stop { chain: None, doubts: walk.doubts }),
    }
}

/// How a chain ends.
#[derive(Debug)]
enum End {
    Accept,
    /// In this chain.
    Drop(String),
    /// The caller goes on.
    Return,
}

/// A verdict of a rule or of a map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step<'a> {
    Accept,
    Drop,
    Return,
    Jump(&'a str),
    Goto(&'a str),
}

struct Walk<'a> {
    table: &'a Table,
    packet: &'a Packet,
    doubts: usize,
}

impl<'a> Walk<'a> {
    fn chain(&mut self, name: &str, depth: usize) -> End {
        let chains = &self.table.chains;
        let rules =
            chains.get(name).filter(|_| depth <= DEPTH).map_or(&[][..], |chain| chain.rules.as_slice());
        for rule in rules {
            if let Some(end) = self.rule(rule, name, depth) {
                return end;
            }
        }
        End::Return
    }

    /// How the chain ends with this rule; nothing when the next one is asked.
    fn rule(&mut self, rule: &'a Rule, chain: &str, depth: usize) -> Option<End> {
        let mut certain = true;
        let mut unread = false;
        for statement in rule {
            let Some(statement) = statement else {
                (certain, unread) = (false, true);
                continue;
            };
            if let Statement::Match(condition) = statement {
                match self.packet.meets(condition, &self.table.sets) {
                    Truth::Yes => {}
                    Truth::No => return None,
                    Truth::Unknown => certain = false,
                }
            } else if let Statement::VerdictMap(map) = statement {
                return self.looked_up(map, certain, chain, depth);
            } else if let Some(step) = step(statement) {
                return self.take(&step, certain, chain, depth);
            } else {
                certain &= !is_condition(statement);
            }
        }
        // What could not be read may have been the verdict.
        self.doubts += usize::from(unread);
        None
    }

    fn take(&mut self, step: &Step<'a>, certain: bool, chain: &str, depth: usize) -> Option<End> {
        let end = match step {
            Step::Accept => End::Accept,
            Step::Drop => End::Drop(chain.to_owned()),
            Step::Return => End::Return,
            Step::Jump(target) | Step::Goto(target) => self.chain(target, depth + 1),
        };
        if !certain {
            let leaves = matches!(step, Step::Return) && depth > 0;
            self.doubts += usize::from(leaves || matches!(end, End::Accept));
            return None;
        }
        // After a jump the next rule is asked; after a goto the caller's.
        let goes_on = matches!(step, Step::Jump(_)) && matches!(end, End::Return);
        (!goes_on).then_some(end)
    }

    fn looked_up(
        &mut self,
        map: &'a VerdictMap<'static>,
        certain: bool,
        chain: &str,
        depth: usize,
    ) -> Option<End> {
        if self.packet.lacks(&map.key) {
            return None;
        }
        let mut tried = BTreeSet::new();
        for entry in self.entries(map) {
            let Some((found, verdict)) = entry else {
                self.doubts += 1;
                continue;
            };
            if found == Truth::No {
                continue;
            }
            let certain = certain && found == Truth::Yes;
            // Many keys may lead to one chain, and many of its own to the next.
            let step = verdict_step(verdict).filter(|step| certain || tried.insert(*step));
            let end = step.and_then(|step| self.take(&step, certain, chain, depth));
            if found == Truth::Yes {
                return end;
            }
        }
        None
    }

    /// Whether each key of a map is the packet's, and where it leads; a hole for what nobody can tell.
    fn entries(&self, map: &'a VerdictMap<'static>) -> Vec<Option<(Truth, &'a Verdict<'static>)>> {
        if let Expression::Named(NamedExpression::Set(items)) = &map.data {
            let entry = |(key, verdict)| (self.packet.has(&map.key, key), verdict);
            return items.iter().map(|item| pair(item).map(entry)).collect();
        }
        let Some(named) = sets::name(&map.data).and_then(|name| self.table.sets.get(name)) else {
            return vec![None];
        };
        let entry = |element: &'a Option<Element>| {
            let element = element.as_ref()?;
            Some((element.is(self.packet, &map.key), element.verdict.as_ref()?))
        };
        // What may come goes before what is left.
        let (rest, listed): (Vec<_>, Vec<_>) =
            named.elements.iter().partition(|element| element.as_ref().is_some_and(Element::is_rest));
        let another = named.changes.then_some(None);
        listed.into_iter().map(entry).chain(another).chain(rest.into_iter().map(entry)).collect()
    }
}

/// Key and verdict. The crate takes a pair for a list of two.
fn pair<'a>(item: &'a SetItem<'static>) -> Option<(&'a Expression<'static>, &'a Verdict<'static>)> {
    match item {
        SetItem::Element(Expression::List(pair)) => match pair.as_slice() {
            [key, Expression::Verdict(verdict)] => Some((key, verdict)),
            _ => None,
        },
        SetItem::Mapping(key, Expression::Verdict(verdict)) => Some((key, verdict)),
        SetItem::Element(_) | SetItem::Mapping(..) | SetItem::MappingStatement(..) => None,
    }
}

fn verdict_step<'a>(verdict: &'a Verdict<'static>) -> Option<Step<'a>> {
    match verdict {
        Verdict::Accept => Some(Step::Accept),
        Verdict::Drop => Some(Step::Drop),
        Verdict::Return => Some(Step::Return),
        Verdict::Jump(jump) => Some(Step::Jump(&jump.target)),
        Verdict::Goto(jump) => Some(Step::Goto(&jump.target)),
        Verdict::Continue => None,
    }
}

fn step<'a>(statement: &'a Statement<'static>) -> Option<Step<'a>> {
    if matches!(statement, Statement::Accept(_)) {
        Some(Step::Accept)
    } else if matches!(statement, Statement::Drop(_) | Statement::Reject(_)) || is_legacy_reject(statement) {
        Some(Step::Drop)
    } else if matches!(statement, Statement::Return(_)) {
        Some(Step::Return)
    } else if let Statement::Jump(jump) = statement {
        Some(Step::Jump(&jump.target))
    } else if let Statement::Goto(jump) = statement {
        Some(Step::Goto(&jump.target))
    } else {
        None
    }
}

/// A target of iptables that nft has no words for.
fn is_legacy_reject(statement: &Statement<'_>) -> bool {
    legacy(statement) == Some(("target", "REJECT"))
}

/// Kind and name of a part of iptables.
pub(crate) fn legacy<'a>(statement: &'a Statement<'_>) -> Option<(&'a str, &'a str)> {
    let Statement::XT(Some(part)) = statement else { return None };
    let text = |name: &str| part.get(name).and_then(serde_json::Value::as_str);
    Some((text("type")?, text("name")?))
}

/// Whether the rest of the rule may be left out: a match of iptables, a rate, a program that decides.
fn is_condition(statement: &Statement<'_>) -> bool {
    if let Some((kind, name)) = legacy(statement) {
        return kind == "match" && name != "comment";
    }
    matches!(
        statement,
        Statement::XT(_)
            | Statement::Limit(_)
            | Statement::Quota(_)
            | Statement::Queue(_)
            | Statement::Meter(_)
            | Statement::CTCount(_)
    )
}
