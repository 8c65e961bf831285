//! Changes as one batch: all of it or nothing, in one `send`. Each message knows what it is about, so that a refusal names
//! the object.

use std::collections::BTreeSet;

use super::attributes::{NLM_F_ACK, Writer, subsystem};
use super::elements::Lists;
use super::{INET, SUBSYSTEM, kind, message, objects};
use crate::change::Change;
use crate::ir::TABLE;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Name of a table that never exists.
const QUESTION: &str = "tortie-question";

/// What is known of the table before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// It exists.
    pub exists: bool,
    /// What it shall be made with when it is made anew: [`super::table_flags`].
    pub flags: u32,
}

/// A transaction ready to be sent.
#[derive(Debug)]
pub struct Transaction {
    writer: Writer,
    first: u32,
    /// For each message behind the one that begins the batch: place of its change and, for rules, of the rule.
    about: Vec<(usize, Option<usize>)>,
    last_message: usize,
}

impl Transaction {
    /// Encodes changes. Messages are numbered from `sequence` on.
    pub fn new(changes: &[Change], table: Table, sequence: u32) -> Transaction {
        let mut made = Transaction {
            writer: Writer { bytes: Vec::with_capacity(1 << 12) },
            first: sequence,
            about: Vec::new(),
            last_message: 0,
        };
        made.writer.message((BATCH_BEGIN, 0, sequence), (0, SUBSYSTEM), |_| {});
        let mut fresh = BTreeSet::new();
        for (place, change) in changes.iter().enumerate() {
            if let Change::CreateChain(name, ..) = change {
                fresh.insert(name.as_str());
            }
            made.change(place, change, table, &mut fresh);
        }
        // The acknowledgement of the last message is that of the batch.
        made.writer.add_flags(made.last_message, NLM_F_ACK);
        let end = made.last().wrapping_add(1);
        made.writer.message((BATCH_END, 0, end), (0, SUBSYSTEM), |_| {});
        made
    }

    /// A transaction that claims the table, which outlived its owner.
    pub fn claim(flags: u32, sequence: u32) -> Transaction {
        Transaction::new(&[Change::Reset], Table { exists: false, flags }, sequence)
    }

    /// Asks whether tables can have these flags. It is not ended, so the kernel checks it and does nothing.
    pub fn question(flags: u32, sequence: u32) -> Transaction {
        let mut made = Transaction {
            writer: Writer::default(),
            first: sequence,
            about: vec![(0, None)],
            last_message: 0,
        };
        made.writer.message((BATCH_BEGIN, 0, sequence), (0, SUBSYSTEM), |_| {});
        let (kind, flags_of_message) = (subsystem(message::NEW_TABLE), NLM_F_CREATE | NLM_F_ACK);
        let last = made.last();
        made.writer
            .message((kind, flags_of_message, last), (INET, 0), |w| objects::table(w, QUESTION, flags));
        made
    }

    /// What to send, at once.
    pub fn bytes(&self) -> &[u8] {
        &self.writer.bytes
    }

    /// Number of the message that begins it: refusals of the whole carry it.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Number of the message whose acknowledgement is that of the whole.
    pub fn last(&self) -> u32 {
        self.first.wrapping_add(self.about.len() as u32)
    }

    /// Number of the message that ends it.
    pub fn end(&self) -> u32 {
        self.last().wrapping_add(1)
    }

    /// What the message of this number is about, `changes` being those it was made of.
    pub fn subject(&self, sequence: u32, changes: &[Change]) -> String {
        let place = sequence.wrapping_sub(self.first).wrapping_sub(1) as usize;
        let Some((change, rule)) = self.about.get(place) else { return "the whole transaction".to_owned() };
        match (changes.get(*change), rule) {
            (Some(Change::SetRules(name, rules)), Some(rule)) => {
                let comment = rules.get(*rule).map(|rule| rule.comment.to_string()).unwrap_or_default();
                format!("chain {name}: rule {rule} ({comment})")
            }
            (Some(change), _) => change.to_string(),
            (None, _) => "the table".to_owned(),
        }
    }

    fn message(
        &mut self,
        about: (usize, Option<usize>),
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Writer),
    ) {
        self.about.push(about);
        self.last_message = self.writer.bytes.len();
        let sequence = self.last();
        self.writer.message((subsystem(kind), flags, sequence), (INET, 0), body);
    }

    fn change(&mut self, place: usize, change: &Change, table: Table, fresh: &mut BTreeSet<&str>) {
        let about = (place, None);
        match change {
            Change::Reset => {
                if table.exists {
                    self.message(about, message::DEL_TABLE, 0, |w| w.text(kind::TABLE, TABLE));
                }
                let flags = table.flags;
                self.message(about, message::NEW_TABLE, NLM_F_CREATE, |w| objects::table(w, TABLE, flags));
            }
            Change::CreateChain(name, base, comment) => {
                self.named(about, message::NEW_CHAIN, NLM_F_CREATE, (kind::CHAIN_NAME, name), |w| {
                    objects::chain(w, base.as_ref(), comment);
                });
            }
            Change::SetRules(name, rules) => {
                // A chain made in this batch has none.
                if !fresh.remove(name.as_str()) {
                    self.named(about, message::DEL_RULE, 0, (kind::RULE_CHAIN, name), |_| {});
                }
                for (number, rule) in rules.iter().enumerate() {
                    let (about, flags) = ((place, Some(number)), NLM_F_CREATE | NLM_F_APPEND);
                    self.named(about, message::NEW_RULE, flags, (kind::RULE_CHAIN, name), |w| {
                        objects::rule(w, rule);
                    });
                }
            }
            Change::RemoveChain(name) => {
                self.named(about, message::DEL_CHAIN, 0, (kind::CHAIN_NAME, name), |_| {});
            }
            Change::CreateMap(name, comment) => {
                let id = self.about.len() as u32 + 1;
                self.named(about, message::NEW_SET, NLM_F_CREATE, (kind::SET_NAME, name), |w| {
                    objects::map(w, id, comment);
                });
            }
            Change::CreateSet(name, head) => {
                let id = self.about.len() as u32 + 1;
                self.named(about, message::NEW_SET, NLM_F_CREATE, (kind::SET_NAME, name), |w| {
                    objects::set(w, id, head);
                });
            }
            Change::RemoveMap(name) | Change::RemoveSet(name) => {
                self.named(about, message::DEL_SET, 0, (kind::SET_NAME, name), |_| {});
            }
            Change::AddRows(name, rows) => {
                lists(name).rows(rows, false, |list| self.more(about, list));
            }
            Change::RemoveRows(name, rows) => {
                lists(name).rows(rows, true, |list| self.message(about, message::DEL_ELEMENTS, 0, list));
            }
            Change::AddElements(name, set_kind, elements) => {
                lists(name).members(*set_kind, elements, |list| self.more(about, list));
            }
            Change::RemoveElements(name, set_kind, elements) => {
                let less = |list: &dyn Fn(&mut Writer)| self.message(about, message::DEL_ELEMENTS, 0, list);
                lists(name).members(*set_kind, elements, less);
            }
        }
    }

    fn more(&mut self, about: (usize, Option<usize>), list: &dyn Fn(&mut Writer)) {
        self.message(about, message::NEW_ELEMENTS, NLM_F_CREATE, list);
    }

    fn named(
        &mut self,
        about: (usize, Option<usize>),
        kind: u16,
        flags: u16,
        (attribute, name): (u16, &str),
        body: impl FnOnce(&mut Writer),
    ) {
        self.message(about, kind, flags, |w| {
            w.text(kind::TABLE, TABLE);
            w.text(attribute, name);
            body(w);
        });
    }
}

fn lists(set: &str) -> Lists<'_> {
    Lists { table: TABLE, set }
}
