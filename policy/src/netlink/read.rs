//! What the kernel dumps of our table, as a rule-set. Rules are not taken apart: they are compared with what we would send,
//! and where they differ a rule stands that is like no other, so that the chain is written again.
//!
//! Counters and handles do not count. An attribute this module does not know, of an expression it does, is taken for
//! one of a newer kernel; any other surprise makes the object one to be made anew.

mod counted;
mod rules;
mod sets;

pub use counted::{Counted, counted, counted_elements};

use std::collections::BTreeMap;

use super::attributes::{attributes, entries, find, number, request, subsystem, text};
use super::{ACCEPT, INET, kind, message, objects, table_flags, userdata};
use crate::change;
use crate::ir::{Action, Base, Chain, ChainKind, Comment, Hook, Rule, Ruleset, TABLE, Verdict};

/// A request: type and body. All but those for the generation and the table are dumps.
#[derive(Debug)]
pub struct Query {
    /// Message type.
    pub kind: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Query {
    fn new(kind: u16, name: Option<(u16, &str)>) -> Query {
        let body = request(|w| {
            w.text(kind::TABLE, TABLE);
            if let Some((attribute, name)) = name {
                w.text(attribute, name);
            }
        });
        Query { kind: subsystem(kind), body }
    }

    /// The generation: moves with every change to any table of the namespace.
    pub fn generation() -> Query {
        Query { kind: subsystem(message::GET_GENERATION), body: vec![0; 4] }
    }

    /// The table itself.
    pub fn table() -> Query {
        Query::new(message::GET_TABLE, None)
    }

    /// Chains, of all tables.
    pub fn chains() -> Query {
        Query::new(message::GET_CHAIN, None)
    }

    /// Rules of all chains.
    pub fn rules() -> Query {
        Query::new(message::GET_RULE, None)
    }

    /// Sets and maps.
    pub fn sets() -> Query {
        Query::new(message::GET_SET, None)
    }

    /// Elements of one set or map.
    pub fn elements(name: &str) -> Query {
        Query::new(message::GET_ELEMENTS, Some((kind::ELEMENTS_SET, name)))
    }
}

/// The generation in an answer.
pub fn generation(body: &[u8]) -> Option<u32> {
    number(find(attributes_of(body), 1)?)
}

/// What an answer says of the table: its flags, and the port of the socket it belongs to.
pub fn table(body: &[u8]) -> Option<(u32, Option<u32>)> {
    let attributes = ours(body)?;
    Some((
        number(find(attributes, kind::TABLE_FLAGS)?)?,
        find(attributes, kind::TABLE_OWNER).and_then(number),
    ))
}

/// Whether a message, such as a notification, is about our table.
pub fn is_ours(body: &[u8]) -> bool {
    ours(body).is_some()
}

/// Attributes behind netfilter's header.
fn attributes_of(body: &[u8]) -> &[u8] {
    body.get(4..).unwrap_or_default()
}

fn ours(body: &[u8]) -> Option<&[u8]> {
    let attributes = attributes_of(body);
    let table = find(attributes, kind::TABLE).and_then(text)?;
    (body.first() == Some(&INET) && table == TABLE).then_some(attributes)
}

/// What dumps say the table holds.
#[derive(Debug, Default)]
pub struct Held {
    chains: BTreeMap<String, HeldChain>,
    sets: BTreeMap<String, sets::HeldSet>,
}

#[derive(Debug)]
struct HeldChain {
    /// Like none of ours.
    strange: bool,
    base: Option<Base>,
    comment: Comment,
    rules: Vec<Vec<u8>>,
}

/// What an object says that is not as we would have made it.
fn strange() -> Comment {
    Comment::new("changed by somebody else")
}

impl Held {
    /// A message of the dump of chains.
    pub fn chain(&mut self, body: &[u8]) {
        let Some(attributes) = ours(body) else { return };
        let Some(name) = find(attributes, kind::CHAIN_NAME).and_then(text) else { return };
        let base = find(attributes, kind::CHAIN_HOOK).map(|hook| base(attributes, hook));
        // The one flag of a base chain says that it is one.
        let flags = find(attributes, kind::CHAIN_FLAGS).and_then(number).unwrap_or(0) & !1;
        let strange = flags != 0 || base == Some(None);
        let comment = find(attributes, kind::CHAIN_USERDATA).map(|data| comment(data, userdata::COMMENT));
        let chain = HeldChain {
            strange,
            base: base.flatten(),
            comment: comment.unwrap_or_default(),
            rules: Vec::new(),
        };
        self.chains.insert(name.to_owned(), chain);
    }

    /// A message of the dump of rules.
    pub fn rule(&mut self, body: &[u8]) {
        let Some(attributes) = ours(body) else { return };
        let chain = find(attributes, kind::RULE_CHAIN).and_then(text);
        if let Some(chain) = chain.and_then(|name| self.chains.get_mut(name)) {
            chain.rules.push(rules::canonical(attributes));
        }
    }

    /// A message of the dump of sets.
    pub fn set(&mut self, body: &[u8]) {
        if let Some((name, set)) = ours(body).and_then(sets::HeldSet::read) {
            self.sets.insert(name, set);
        }
    }

    /// A message of the dump of a set's elements.
    pub fn elements(&mut self, body: &[u8]) {
        let Some(attributes) = ours(body) else { return };
        let name = find(attributes, kind::ELEMENTS_SET).and_then(text);
        if let Some(set) = name.and_then(|name| self.sets.get_mut(name)) {
            set.add(find(attributes, kind::ELEMENTS).unwrap_or_default());
        }
    }

    /// Sets and maps whose elements are to be asked for.
    pub fn set_names(&self) -> Vec<String> {
        self.sets.keys().cloned().collect()
    }

    /// The rule-set: what is equal to `expected` is equal, the rest different. `None` when it is so different that changing
    /// it object by object cannot be relied upon.
    pub fn ruleset(self, expected: &Ruleset) -> Option<Ruleset> {
        let mut found = Ruleset::empty();
        let mut unknown = false;
        for (name, held) in self.chains {
            let wanted = expected.chains.get(&name);
            let rules = match wanted {
                Some(wanted) if rules::equal(&held.rules, &wanted.rules) => wanted.rules.clone(),
                _ if held.rules.is_empty() => Vec::new(),
                _ => {
                    unknown = true;
                    vec![no_rule_of_ours()]
                }
            };
            let comment = if held.strange { strange() } else { held.comment };
            found.chains.insert(name, Chain { comment, base: held.base, rules });
        }
        for (name, held) in self.sets {
            held.put(name, &mut found);
        }
        // What rules not understood may name cannot be taken away before they are.
        (!unknown || !change::makes_anew(&found, expected)).then_some(found)
    }
}

fn no_rule_of_ours() -> Rule {
    Rule { matches: Vec::new(), counter: false, action: Action::Verdict(Verdict::Drop), comment: strange() }
}

/// `None` for a base chain like none of ours.
fn base(attributes: &[u8], hook: &[u8]) -> Option<Base> {
    let hook_number = number(find(hook, kind::HOOK_NUMBER)?)?;
    let priority = number(find(hook, kind::HOOK_PRIORITY)?)? as i32;
    let chain_type = text(find(attributes, kind::CHAIN_TYPE)?)?;
    let accepts = number(find(attributes, kind::CHAIN_POLICY)?)? == ACCEPT;
    let hook = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]
        .into_iter()
        .find(|hook| objects::hook_number(*hook) == hook_number)?;
    let kind = [ChainKind::Filter, ChainKind::Nat]
        .into_iter()
        .find(|kind| objects::chain_type(*kind) == chain_type)?;
    accepts.then_some(Base { kind, hook, priority })
}

/// The comment among user data.
fn comment(data: &[u8], entry: u8) -> Comment {
    let found = entries(data).find(|(kind, _)| *kind == entry);
    Comment::new(found.and_then(|(_, value)| text(value)).unwrap_or_default())
}

/// Whether a table with these flags is one that packets pass.
pub fn is_awake(flags: u32) -> bool {
    flags & table_flags::DORMANT == 0
}

/// Every attribute of every kind, for those who look at each.
fn each(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(bytes)
}
