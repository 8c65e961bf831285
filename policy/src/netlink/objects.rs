//! Bodies of the messages that make and remove objects.

use super::attributes::{Writer, push_entry};
use super::expr::{self, address_length};
use super::{ACCEPT, INTERFACE_NAME_LENGTH, data_type, kind, set_flags, userdata};
use crate::ir::{Base, ChainKind, Comment, Family, Hook, Rule, SetHead, SetKey};

/// Order of the bytes in keys, for whoever lists them.
const HOST_ORDER: u32 = 1;
const NETWORK_ORDER: u32 = 2;
const NO_ORDER: u32 = 0;

pub(super) fn table(w: &mut Writer, name: &str, flags: u32) {
    w.text(kind::TABLE, name);
    w.number(kind::TABLE_FLAGS, flags);
}

pub(super) fn chain(w: &mut Writer, base: Option<&Base>, comment: &Comment) {
    if let Some(base) = base {
        w.text(kind::CHAIN_TYPE, chain_type(base.kind));
        w.number(kind::CHAIN_POLICY, ACCEPT);
        w.nest(kind::CHAIN_HOOK, |w| {
            w.number(kind::HOOK_NUMBER, hook_number(base.hook));
            w.number(kind::HOOK_PRIORITY, base.priority as u32);
        });
    }
    let comment = comment_entry(userdata::COMMENT, comment);
    if !comment.is_empty() {
        w.bytes(kind::CHAIN_USERDATA, &comment);
    }
}

/// Type of a base chain.
pub(super) fn chain_type(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}

/// `NF_INET_*`.
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// Expressions and comment of a rule.
pub(super) fn rule(w: &mut Writer, rule: &Rule) {
    w.nest(kind::RULE_EXPRESSIONS, |w| expr::rule(w, rule));
    let comment = comment_entry(userdata::COMMENT, &rule.comment);
    if !comment.is_empty() {
        w.bytes(kind::RULE_USERDATA, &comment);
    }
}

/// A map from an interface's name to a verdict.
pub(super) fn map(w: &mut Writer, id: u32, comment: &Comment) {
    w.number(kind::SET_FLAGS, set_flags::MAP);
    w.number(kind::SET_KEY_TYPE, data_type::INTERFACE_NAME);
    w.number(kind::SET_KEY_LENGTH, INTERFACE_NAME_LENGTH as u32);
    w.number(kind::SET_DATA_TYPE, data_type::VERDICT);
    w.number(kind::SET_DATA_LENGTH, 0);
    w.number(kind::SET_ID, id);
    let mut data = order(userdata::SET_KEY_ORDER, HOST_ORDER);
    // nft 1.0.6 aborts when a verdict is said to have any order.
    data.extend(order(userdata::SET_DATA_ORDER, NO_ORDER));
    data.extend(comment_entry(userdata::SET_COMMENT, comment));
    w.bytes(kind::SET_USERDATA, &data);
}

/// A set.
pub(super) fn set(w: &mut Writer, id: u32, SetHead { kind: set, comment, counter, size }: &SetHead) {
    let (key_type, length) = key(set.key);
    w.number(kind::SET_FLAGS, if set.interval { set_flags::INTERVAL } else { 0 });
    w.number(kind::SET_KEY_TYPE, key_type);
    w.number(kind::SET_KEY_LENGTH, length as u32);
    if let Some(size) = size {
        w.nest(kind::SET_DESCRIPTION, |w| w.number(kind::DESCRIPTION_SIZE, *size));
    }
    w.number(kind::SET_ID, id);
    let single = matches!(set.key, SetKey::Address(_) | SetKey::Port);
    let mut data = order(userdata::SET_KEY_ORDER, if single { NETWORK_ORDER } else { NO_ORDER });
    data.extend(comment_entry(userdata::SET_COMMENT, comment));
    w.bytes(kind::SET_USERDATA, &data);
    if *counter {
        w.nest(kind::SET_EXPRESSION, |w| expr::body(w, "counter", |_| {}));
    }
}

/// Type and length of a key. The type of several fields is theirs, six bits each.
pub(super) fn key(key: SetKey) -> (u32, usize) {
    let address = |family| match family {
        Family::V4 => data_type::IPV4,
        Family::V6 => data_type::IPV6,
    };
    const PROTOCOL_PORT: u32 = data_type::PROTOCOL << 6 | data_type::PORT;
    match key {
        SetKey::Address(family) => (address(family), address_length(family)),
        SetKey::Port => (data_type::PORT, 2),
        SetKey::Service(family) => (address(family) << 12 | PROTOCOL_PORT, address_length(family) + 8),
        SetKey::ProtocolPort => (PROTOCOL_PORT, 8),
    }
}

fn order(entry: u8, order: u32) -> Vec<u8> {
    let mut data = Vec::new();
    push_entry(&mut data, entry, &order.to_ne_bytes());
    data
}

/// Nothing when there is nothing to say.
fn comment_entry(entry: u8, comment: &Comment) -> Vec<u8> {
    let mut data = Vec::new();
    if !comment.is_empty() {
        let text = comment.to_string() + "\0";
        push_entry(&mut data, entry, text.as_bytes());
    }
    data
}
