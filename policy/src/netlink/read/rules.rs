//! Rules compared: expressions in one form, whoever wrote them.

use super::super::attributes::{Writer, attributes, find, text};
use super::super::{kind, objects};
use crate::ir::Rule;

/// Whether these are the rules, in this order.
pub(super) fn equal(held: &[Vec<u8>], wanted: &[Rule]) -> bool {
    held.len() == wanted.len()
        && held.iter().zip(wanted).all(|(held, wanted)| {
            let mut sent = Writer::default();
            objects::rule(&mut sent, wanted);
            *held == canonical(&sent.bytes)
        })
}

/// Expressions and user data of a rule: for each expression its name and, sorted, those of its attributes that say what it
/// does.
pub(super) fn canonical(rule: &[u8]) -> Vec<u8> {
    let mut made = Vec::new();
    for (_, item) in attributes(find(rule, kind::RULE_EXPRESSIONS).unwrap_or_default()) {
        let name = find(item, kind::EXPRESSION_NAME).and_then(text).unwrap_or("?");
        push(&mut made, 0, name.as_bytes());
        let data = find(item, kind::EXPRESSION_DATA).unwrap_or_default();
        let mut parts: Vec<(u16, &[u8])> = attributes(data).filter(|(part, _)| known(name, *part)).collect();
        parts.retain(|(part, value)| !(optional(name, *part) && value.iter().all(|byte| *byte == 0)));
        parts.sort_unstable();
        for (part, value) in parts {
            match (name, part) {
                ("cmp" | "range", 3) | ("range", 4) | ("bitwise", 4 | 5) | ("immediate", 2) => {
                    push(&mut made, part, &self::value(value));
                }
                _ => push(&mut made, part, value),
            }
        }
    }
    push(&mut made, u16::MAX, find(rule, kind::RULE_USERDATA).unwrap_or_default());
    made
}

/// What matters of an expression we use; of others, everything.
fn known(name: &str, part: u16) -> bool {
    match name {
        "meta" => (1..=2).contains(&part),
        "cmp" | "fib" | "masq" => (1..=3).contains(&part),
        "ct" => (1..=3).contains(&part),
        "payload" | "range" => (1..=4).contains(&part),
        "bitwise" => (1..=6).contains(&part),
        "lookup" => matches!(part, 1 | 2 | 3 | 5),
        "immediate" | "reject" => (1..=2).contains(&part),
        "log" => (1..=2).contains(&part),
        "limit" => (1..=5).contains(&part),
        "counter" => false,
        _ => true,
    }
}

/// Attributes that say nothing when they are zero: how a mask is applied, whether a lookup is inverted. A lookup's third is
/// the register of what is found: the verdict's has the number 0, so it must not go.
fn optional(name: &str, part: u16) -> bool {
    matches!((name, part), ("bitwise", 6) | ("lookup", 5))
}

/// A value or verdict, without the flags of its attributes.
fn value(bytes: &[u8]) -> Vec<u8> {
    let mut made = Vec::new();
    for (part, value) in attributes(bytes) {
        if part == kind::DATA_VERDICT {
            let mut parts: Vec<(u16, &[u8])> = attributes(value)
                .filter(|(part, _)| matches!(*part, kind::VERDICT_CODE | kind::VERDICT_CHAIN))
                .collect();
            parts.sort_unstable();
            parts.into_iter().for_each(|(part, value)| push(&mut made, part, value));
        } else {
            push(&mut made, part, value);
        }
    }
    made
}

fn push(made: &mut Vec<u8>, part: u16, value: &[u8]) {
    made.extend_from_slice(&part.to_ne_bytes());
    made.extend_from_slice(&(value.len() as u32).to_ne_bytes());
    made.extend_from_slice(value);
}
