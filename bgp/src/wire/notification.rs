//! NOTIFICATION: codes, their names, and the message itself.

use std::fmt;

use super::frame::{Kind, message};
use crate::family::Family;

/// Error codes (RFC 4271 4.5).
pub mod code {
    /// Message header error.
    pub const HEADER: u8 = 1;
    /// OPEN message error.
    pub const OPEN: u8 = 2;
    /// UPDATE message error.
    pub const UPDATE: u8 = 3;
    /// Hold timer expired.
    pub const HOLD_TIMER: u8 = 4;
    /// Finite state machine error (subcodes: RFC 6608).
    pub const FSM: u8 = 5;
    /// Cease (subcodes: RFC 4486).
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH message error (RFC 7313).
    pub const REFRESH: u8 = 7;
    /// Send hold timer expired (RFC 9687).
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of an OPEN error.
pub mod open {
    /// Unsupported version.
    pub const VERSION: u8 = 1;
    /// Bad peer AS.
    pub const PEER_AS: u8 = 2;
    /// Bad BGP identifier.
    pub const ROUTER_ID: u8 = 3;
    /// Unsupported optional parameter.
    pub const PARAMETER: u8 = 4;
    /// Unacceptable hold time.
    pub const HOLD_TIME: u8 = 6;
    /// Unsupported capability.
    pub const CAPABILITY: u8 = 7;
    /// Role mismatch (RFC 9234).
    pub const ROLE: u8 = 11;
}

/// Subcodes of an UPDATE error.
pub mod update {
    /// Malformed attribute list.
    pub const ATTRIBUTE_LIST: u8 = 1;
    /// Optional attribute error.
    pub const OPTIONAL: u8 = 9;
    /// Invalid network field.
    pub const NETWORK: u8 = 10;
}

/// Subcodes of a message header error.
pub mod header {
    /// Connection not synchronised.
    pub const SYNCHRONIZATION: u8 = 1;
    /// Bad message length.
    pub const LENGTH: u8 = 2;
    /// Bad message type.
    pub const KIND: u8 = 3;
}

/// Subcodes of a ROUTE-REFRESH error.
pub mod refresh {
    /// Invalid message length.
    pub const LENGTH: u8 = 1;
}

/// Subcodes of Cease.
pub mod cease {
    /// Maximum number of prefixes reached.
    pub const PREFIXES: u8 = 1;
    /// Administrative shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// Peer de-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative reset.
    pub const RESET: u8 = 4;
    /// Connection rejected.
    pub const REJECTED: u8 = 5;
    /// Other configuration change.
    pub const CONFIGURATION: u8 = 6;
    /// Connection collision resolution.
    pub const COLLISION: u8 = 7;
    /// Hard reset (RFC 8538): routes go with the session, graceful restart or not.
    pub const HARD_RESET: u8 = 9;
}

/// Why a session ends, as one end tells the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data; its meaning depends on the codes.
    pub data: Vec<u8>,
}

impl Notification {
    /// A NOTIFICATION without data.
    #[must_use]
    pub fn new(code: u8, subcode: u8) -> Notification {
        Notification { code, subcode, data: Vec::new() }
    }

    /// Administrative shutdown or reset with the operator's words (RFC 9003), cut to the 255 octets there are for them.
    #[must_use]
    pub fn with_words(subcode: u8, words: &str) -> Notification {
        const ROOM: usize = 255;
        let end = (0..=words.len().min(ROOM)).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
        let text = &words.as_bytes()[..end];
        let mut data: Vec<u8> = u8::try_from(text.len()).into_iter().collect();
        data.extend(text);
        Notification { code: code::CEASE, subcode, data }
    }

    /// Cease for more prefixes of a family than `limit` (RFC 4486 4).
    #[must_use]
    pub fn too_many(family: Family, limit: u32) -> Notification {
        let data = [&family.afi().to_be_bytes()[..], &[1], &limit.to_be_bytes()].concat();
        Notification { code: code::CEASE, subcode: cease::PREFIXES, data }
    }

    /// The same as a hard reset (RFC 8538 3.1).
    #[must_use]
    pub fn hard(&self) -> Notification {
        let data = [&[self.code, self.subcode][..], &self.data].concat();
        Notification { code: code::CEASE, subcode: cease::HARD_RESET, data }
    }

    /// Ends graceful restart, too.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        (self.code, self.subcode) == (code::CEASE, cease::HARD_RESET)
    }

    /// Takes a message body apart; `None` when it is shorter than its two codes.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Notification> {
        let ([code, subcode], data) = super::take::<2>(body)?;
        Some(Notification { code, subcode, data: data.to_vec() })
    }

    /// The whole message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        message(Kind::Notification, |out| {
            out.extend([self.code, self.subcode]);
            out.extend(&self.data);
        })
    }

    /// The words of a shutdown communication (RFC 9003), if there are any.
    #[must_use]
    pub fn communication(&self) -> Option<String> {
        if self.code != code::CEASE || ![cease::SHUTDOWN, cease::RESET].contains(&self.subcode) {
            return None;
        }
        let (&length, text) = self.data.split_first()?;
        let text = text.get(..usize::from(length)).filter(|text| !text.is_empty())?;
        let mut words = String::new();
        for letter in String::from_utf8_lossy(text).chars() {
            // Nobody's words may move the cursor or forge a line of the log.
            if letter.is_control() || is_invisible(letter) {
                words.extend(letter.escape_default());
            } else {
                words.push(letter);
            }
        }
        Some(words)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One inside another may hold one more; what is deeper is of no interest.
        if let Some(reason) = self.is_hard().then(|| Notification::decode(&self.data)).flatten()
            && !reason.is_hard()
        {
            return write!(f, "{reason}, hard reset");
        }
        match (code_name(self.code), subcode_name(self.code, self.subcode)) {
            (Some(code), Some(subcode)) => write!(f, "{code}/{subcode}")?,
            (Some(code), None) if self.subcode == 0 => write!(f, "{code}")?,
            (Some(code), None) => write!(f, "{code}/subcode {}", self.subcode)?,
            (None, _) => write!(f, "code {}/subcode {}", self.code, self.subcode)?,
        }
        match self.communication() {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

/// Marks that change the order in which text is shown, and line separators.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn code_name(code: u8) -> Option<&'static str> {
    Some(match code {
        code::HEADER => "Message Header Error",
        code::OPEN => "OPEN Message Error",
        code::UPDATE => "UPDATE Message Error",
        code::HOLD_TIMER => "Hold Timer Expired",
        code::FSM => "Finite State Machine Error",
        code::CEASE => "Cease",
        code::REFRESH => "ROUTE-REFRESH Message Error",
        code::SEND_HOLD_TIMER => "Send Hold Timer Expired",
        _ => return None,
    })
}

fn subcode_name(code: u8, subcode: u8) -> Option<&'static str> {
    if (code, subcode) == (code::OPEN, open::ROLE) {
        return Some("Role Mismatch");
    }
    let names: &[&'static str] = match code {
        code::HEADER => &["Connection Not Synchronized", "Bad Message Length", "Bad Message Type"],
        code::OPEN => &[
            "Unsupported Version Number",
            "Bad Peer AS",
            "Bad BGP Identifier",
            "Unsupported Optional Parameter",
            "Authentication Failure",
            "Unacceptable Hold Time",
            "Unsupported Capability",
        ],
        code::UPDATE => &[
            "Malformed Attribute List",
            "Unrecognized Well-known Attribute",
            "Missing Well-known Attribute",
            "Attribute Flags Error",
            "Attribute Length Error",
            "Invalid ORIGIN Attribute",
            "AS Routing Loop",
            "Invalid NEXT_HOP Attribute",
            "Optional Attribute Error",
            "Invalid Network Field",
            "Malformed AS_PATH",
        ],
        code::FSM => &[
            "Unexpected Message in OpenSent State",
            "Unexpected Message in OpenConfirm State",
            "Unexpected Message in Established State",
        ],
        code::REFRESH => &["Invalid Message Length"],
        code::CEASE => &[
            "Maximum Number of Prefixes Reached",
            "Administrative Shutdown",
            "Peer De-configured",
            "Administrative Reset",
            "Connection Rejected",
            "Other Configuration Change",
            "Connection Collision Resolution",
            "Out of Resources",
            "Hard Reset",
            "BFD Down",
        ],
        _ => &[],
    };
    names.get(usize::from(subcode).checked_sub(1)?).copied()
}
