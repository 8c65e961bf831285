//! What rules and elements have counted, out of dumps.

use super::super::attributes::{attributes, entries, find, text};
use super::super::{kind, userdata};
use super::{each, ours, sets};
use crate::ir::{Action, Element, SetKind};
use crate::netlink::INTERVAL_END;

const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;

/// A rule with a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// Its number, which no other rule of the table has.
    pub handle: u64,
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
    let handle = number(rule, kind::RULE_HANDLE)?;
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
    Some(Counted { handle, chain, comment, action, packets, bytes })
}

/// Packets and bytes of the elements in a message of the dump of a set, where there were any. Of ranges of ports the first port
/// stands for them; the protocol of ports alone is 0.
pub fn counted_elements(kind: SetKind, body: &[u8]) -> Vec<(Element, u64, u64)> {
    let list = ours(body).and_then(|attributes| find(attributes, kind::ELEMENTS)).unwrap_or_default();
    let counted = |element: &[u8]| {
        let ends =
            find(element, kind::ELEMENT_FLAGS).and_then(super::number).unwrap_or(0) & INTERVAL_END != 0;
        let expression = find(element, kind::ELEMENT_EXPRESSION)?;
        find(expression, kind::EXPRESSION_NAME).and_then(text).filter(|name| *name == "counter" && !ends)?;
        let data = find(expression, kind::EXPRESSION_DATA)?;
        let (packets, bytes) = number(data, COUNTER_PACKETS).zip(number(data, COUNTER_BYTES))?;
        let key = find(find(element, kind::ELEMENT_KEY)?, kind::DATA_VALUE)?;
        Some((sets::element(kind, key)?, packets, bytes)).filter(|_| packets > 0)
    };
    each(list).filter_map(|(_, element)| counted(element)).collect()
}

fn number(data: &[u8], attribute: u16) -> Option<u64> {
    find(data, attribute)?.first_chunk().map(|raw| u64::from_be_bytes(*raw))
}
