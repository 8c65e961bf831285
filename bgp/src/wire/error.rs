//! What can be wrong with a message so that the session has to end, and the NOTIFICATION that says so.

use std::net::Ipv4Addr;

use super::frame::{HEADER, MAX_MESSAGE};
use super::notification::{Notification, code, header, open, refresh, update};
use crate::config::Role;

/// A fault that ends the session. Milder ones of an UPDATE are [`super::Fault`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// RFC 4271 6.1.
    #[error("the marker of a message header is not all ones")]
    Marker,
    /// RFC 4271 6.1.
    #[error("message length {0} does not fit its type")]
    Length(u16),
    /// RFC 4271 6.1.
    #[error("message type {0} is unknown")]
    Kind(u8),
    /// RFC 4271 6.2.
    #[error("BGP version {0} instead of 4")]
    Version(u8),
    /// RFC 4271 6.2.
    #[error("OPEN is malformed: {0}")]
    Open(&'static str),
    /// RFC 4271 6.2.
    #[error("optional parameter {0} of OPEN is unknown")]
    Parameter(u8),
    /// The other end has another AS number than configured.
    #[error("peer says AS {received}, configured is AS {expected}")]
    PeerAs {
        /// Configured.
        expected: u32,
        /// In the OPEN.
        received: u32,
    },
    /// RFC 4271 6.2, RFC 6286.
    #[error("BGP identifier {0} is not acceptable")]
    RouterId(Ipv4Addr),
    /// One or two seconds, RFC 4271 4.2.
    #[error("hold time {0} s is not acceptable")]
    HoldTime(u16),
    /// RFC 5492: a family we need is missing.
    #[error("peer does not carry {0}")]
    Family(crate::family::Family),
    /// RFC 9234 4.2: the roles of both ends do not fit, or the peer announces none and we insist.
    #[error("{}", role_mismatch(*own, *received))]
    Role {
        /// Our role.
        own: Role,
        /// Code of the peer's.
        received: Option<u8>,
    },
    /// RFC 7313 5; the whole message.
    #[error("ROUTE-REFRESH of {} octets instead of 23", .0.len())]
    Refresh(Vec<u8>),
    /// RFC 4271 6.3: lengths inside an UPDATE contradict each other so that prefixes cannot be told.
    #[error("UPDATE is malformed: {0}")]
    Update(&'static str),
    /// RFC 7606 7.11, 5.3: an MP attribute whose prefixes cannot be told.
    #[error("multiprotocol attribute is malformed: {0}")]
    Multiprotocol(&'static str),
    /// RFC 7606 5.3.
    #[error("a prefix cannot be told: {0}")]
    Nlri(&'static str),
}

impl WireError {
    /// What to tell the other end.
    #[must_use]
    pub fn notification(&self) -> Notification {
        let (code, subcode, data) = match self {
            WireError::Marker => (code::HEADER, header::SYNCHRONIZATION, vec![]),
            WireError::Length(length) => (code::HEADER, header::LENGTH, length.to_be_bytes().to_vec()),
            WireError::Kind(kind) => (code::HEADER, header::KIND, vec![*kind]),
            WireError::Version(_) => (code::OPEN, open::VERSION, vec![0, 4]),
            WireError::Open(_) => (code::OPEN, 0, vec![]),
            WireError::Parameter(_) => (code::OPEN, open::PARAMETER, vec![]),
            WireError::PeerAs { received, .. } => {
                (code::OPEN, open::PEER_AS, received.to_be_bytes().to_vec())
            }
            WireError::RouterId(id) => (code::OPEN, open::ROUTER_ID, id.octets().to_vec()),
            WireError::HoldTime(_) => (code::OPEN, open::HOLD_TIME, vec![]),
            WireError::Family(family) => {
                let [high, low] = family.afi().to_be_bytes();
                (code::OPEN, open::CAPABILITY, vec![1, 4, high, low, 0, 1])
            }
            WireError::Role { .. } => (code::OPEN, open::ROLE, vec![]),
            // A NOTIFICATION is never longer than what every peer takes.
            WireError::Refresh(message) => (
                code::REFRESH,
                refresh::LENGTH,
                message[..message.len().min(MAX_MESSAGE - HEADER - 2)].to_vec(),
            ),
            WireError::Update(_) => (code::UPDATE, update::ATTRIBUTE_LIST, vec![]),
            WireError::Multiprotocol(_) => (code::UPDATE, update::OPTIONAL, vec![]),
            WireError::Nlri(_) => (code::UPDATE, update::NETWORK, vec![]),
        };
        Notification { code, subcode, data }
    }
}

fn role_mismatch(own: Role, received: Option<u8>) -> String {
    let wanted = own.counterpart();
    match received.map(|code| (code, Role::from_code(code))) {
        None => format!("peer announces no role, wanted is {wanted} since we are {own}"),
        Some((_, Some(role))) => {
            format!("peer says its role is {role}, wanted is {wanted} since we are {own}")
        }
        Some((code, None)) => {
            format!("peer says its role is number {code}, wanted is {wanted} since we are {own}")
        }
    }
}
