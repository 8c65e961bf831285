//! What a rule has counted, out of a dump.

use super::super::attributes::{attributes, entries, find, text};
use super::super::{kind, userdata};
use super::{ours, sets};
use crate::ir::Action;

const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;

/// A rule with a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// Its chain.
    pub chain: &'a str,
    /// Its comment.
    pub comment: &'a str,
    /// What it does, as far as it ends the way of a packet or logs it; the prefix of a log is left out.
    pub action: Option<Action>,
    /// Packets since the rule was written.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The rule in a message of the dump of rules; `None` when it is none of ours or counts nothing.
pub fn counted(body: &[u8]) -> Option<Counted<'_>> {
    let rule = ours(body)?;
    let chain = find(rule, kind::RULE_CHAIN).and_then(text)?;
    let data = find(rule, kind::RULE_USERDATA).unwrap_or_default();
    let comment = entries(data).find(|(kind, _)| *kind == userdata::COMMENT);
    let comment = comment.and_then(|(_, value)| text(value)).unwrap_or_default();
    let (mut counts, mut action) = (None, None);
    for (_, expression) in attributes(find(rule, kind::RULE_EXPRESSIONS)?) {
        let data = find(expression, kind::EXPRESSION_DATA).unwrap_or_default();
        match find(expression, kind::EXPRESSION_NAME).and_then(text) {
            Some("counter") => counts = number(data, COUNTER_PACKETS).zip(number(data, COUNTER_BYTES)),
            Some("immediate") => action = find(data, 2).and_then(sets::verdict).map(Action::Verdict),
            Some("reject") => action = Some(Action::Reject),
            Some("log") => action = Some(Action::Log { prefix: String::new(), group: None, limit: None }),
            Some(_) | None => {}
        }
    }
    let (packets, bytes) = counts?;
    Some(Counted { chain, comment, action, packets, bytes })
}

fn number(data: &[u8], attribute: u16) -> Option<u64> {
    find(data, attribute)?.first_chunk().map(|raw| u64::from_be_bytes(*raw))
}
