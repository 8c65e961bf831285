//! NOTIFICATION: codes, their names, and the message itself.

use std::fmt;

use super::frame::{Kind, message};

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

/// Subcodes of Cease.
pub mod cease {
    /// Administrative shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// Peer de-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative reset.
    pub const RESET: u8 = 4;
    /// Other configuration change.
    pub const CONFIGURATION: u8 = 6;
    /// Connection collision resolution.
    pub const COLLISION: u8 = 7;
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
        Some(String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect())
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

fn code_name(code: u8) -> Option<&'static str> {
    Some(match code {
        code::HEADER => "Message Header Error",
        code::OPEN => "OPEN Message Error",
        code::UPDATE => "UPDATE Message Error",
        code::HOLD_TIMER => "Hold Timer Expired",
        code::FSM => "Finite State Machine Error",
        code::CEASE => "Cease",
        7 => "ROUTE-REFRESH Message Error",
        code::SEND_HOLD_TIMER => "Send Hold Timer Expired",
        _ => return None,
    })
}

fn subcode_name(code: u8, subcode: u8) -> Option<&'static str> {
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
            "subcode 8",
            "subcode 9",
            "subcode 10",
            "Role Mismatch",
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
