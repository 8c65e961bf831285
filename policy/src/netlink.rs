//! The rule-set as nf_tables netlink messages: what [`crate::change`] says becomes one transaction, what the kernel dumps
//! becomes a rule-set again. Bytes in, bytes out; sockets are the caller's affair.
//!
//! | module | what it owns |
//! |---|---|
//! | `attributes` | netlink headers and attributes |
//! | `expr`, `refusal` | conditions and actions of a rule |
//! | `elements` | members of sets and rows of maps |
//! | `objects` | tables, chains, sets, maps, rules |
//! | [`transaction`] | a batch, and which message is about what |
//! | [`read`] | dumps, compared with what we would send |
//!
//! Expressions are the ones nft 1.0.6 makes of [`crate::nft`]'s text, so that it lists them as it lists its own. What is not
//! obvious from the kernel's headers (`linux/netfilter/nf_tables.h`) was read from `nft --debug=mnl`.

mod attributes;
mod elements;
mod expr;
mod objects;
pub mod read;
mod refusal;
pub mod transaction;

/// Subsystem nf_tables, in the upper byte of a message type.
const SUBSYSTEM: u16 = 10;
/// Family `inet`.
const INET: u8 = 1;

/// Message types, `NFT_MSG_*`.
mod message {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const GET_TABLE: u16 = 1;
    pub(super) const DEL_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const GET_CHAIN: u16 = 4;
    pub(super) const DEL_CHAIN: u16 = 5;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const GET_RULE: u16 = 7;
    pub(super) const DEL_RULE: u16 = 8;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const GET_SET: u16 = 10;
    pub(super) const DEL_SET: u16 = 11;
    pub(super) const NEW_ELEMENTS: u16 = 12;
    pub(super) const GET_ELEMENTS: u16 = 13;
    pub(super) const DEL_ELEMENTS: u16 = 14;
    pub(super) const GET_GENERATION: u16 = 16;
}

/// Flags of a table, `NFT_TABLE_F_*`.
pub mod table_flags {
    /// Packets do not pass it.
    pub const DORMANT: u32 = 1;
    /// Only the socket that made it may change it. Linux 5.12 and later.
    pub const OWNER: u32 = 2;
    /// It outlives its owner, and is then nobody's until the next claims it. Linux 6.9 and later.
    pub const PERSIST: u32 = 4;
}

/// Kinds of attributes that several modules know.
mod kind {
    /// The table's name, in messages of every kind.
    pub(super) const TABLE: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    pub(super) const TABLE_OWNER: u16 = 7;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const CHAIN_FLAGS: u16 = 10;
    pub(super) const CHAIN_USERDATA: u16 = 12;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_HANDLE: u16 = 3;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const RULE_USERDATA: u16 = 7;
    pub(super) const SET_NAME: u16 = 2;
    pub(super) const SET_FLAGS: u16 = 3;
    pub(super) const SET_KEY_TYPE: u16 = 4;
    pub(super) const SET_KEY_LENGTH: u16 = 5;
    pub(super) const SET_DATA_TYPE: u16 = 6;
    pub(super) const SET_DATA_LENGTH: u16 = 7;
    pub(super) const SET_DESCRIPTION: u16 = 9;
    pub(super) const SET_ID: u16 = 10;
    pub(super) const SET_TIMEOUT: u16 = 11;
    pub(super) const SET_USERDATA: u16 = 13;
    pub(super) const SET_EXPRESSION: u16 = 17;
    pub(super) const SET_EXPRESSIONS: u16 = 18;
    pub(super) const DESCRIPTION_SIZE: u16 = 1;
    pub(super) const ELEMENTS_SET: u16 = 2;
    pub(super) const ELEMENTS: u16 = 3;
    /// An item of a list.
    pub(super) const ITEM: u16 = 1;
    pub(super) const ELEMENT_KEY: u16 = 1;
    pub(super) const ELEMENT_DATA: u16 = 2;
    pub(super) const ELEMENT_FLAGS: u16 = 3;
    pub(super) const ELEMENT_USERDATA: u16 = 6;
    pub(super) const ELEMENT_EXPRESSION: u16 = 7;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
    pub(super) const VERDICT_CHAIN: u16 = 2;
}

/// Types of keys in nft's numbering, which it also lists them by.
mod data_type {
    pub(super) const IPV4: u32 = 7;
    pub(super) const IPV6: u32 = 8;
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const PORT: u32 = 13;
    pub(super) const INTERFACE_NAME: u32 = 41;
    pub(super) const VERDICT: u32 = 0xffff_ff00;
}

/// Flags of a set, `NFT_SET_*`.
mod set_flags {
    pub(super) const ANONYMOUS: u32 = 1;
    pub(super) const INTERVAL: u32 = 4;
    pub(super) const MAP: u32 = 8;
}

/// An element is the end of a range, and itself no member.
const INTERVAL_END: u32 = 1;
/// Longest name of an interface, with the zero behind it.
const INTERFACE_NAME_LENGTH: usize = 16;
/// Policy of a base chain: accept.
const ACCEPT: u32 = 1;

/// Entries of the user data of an object: the kernel keeps them for whoever lists it.
mod userdata {
    /// Comment of a chain or rule.
    pub(super) const COMMENT: u8 = 0;
    pub(super) const SET_KEY_ORDER: u8 = 0;
    pub(super) const SET_DATA_ORDER: u8 = 1;
    pub(super) const SET_COMMENT: u8 = 7;
    pub(super) const ELEMENT_FLAGS: u8 = 1;
}
