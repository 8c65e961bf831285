//! Links, routes, nexthop objects and neighbours by rtnetlink: the only place where such messages are built.
//!
//! Messages and attributes are open sets, of which we read what we know: hence the wildcards.
//!
//! A route message always carries protocol and table: left out, the kernel would take the route for somebody else's.

#![expect(clippy::wildcard_enum_match_arm, reason = "the kernel's attributes are an open set")]

use netlink_packet_core::{Emitable, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;

use super::KernelError;
use super::socket::{Message, Refusal, Request};

mod links;
mod neighbours;
mod nexthops;
mod routes;

pub(super) use links::read_links;
pub(super) use nexthops::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP};

/// Wraps a message for the socket.
fn request(message: &RouteNetlinkMessage, flags: u16) -> Request {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    Request { kind: message.message_type(), flags, body }
}

/// Reads a message. One that cannot be read is no message of ours: the kernel is newer than our tables, and what we write
/// we can read.
fn decode(message: &Message<'_>) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = message.kind;
    match RouteNetlinkMessage::deserialize(&header, message.body) {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            tracing::debug!(kind = message.kind, %error, "netlink message not understood");
            None
        }
    }
}

/// Puts the subject to a refusal.
fn refused(action: impl Into<String>, refusal: Refusal) -> KernelError {
    let action = action.into();
    match refusal.words {
        Some(words) => KernelError::RefusedInWords { action, words, source: refusal.source },
        None => KernelError::Refused { action, source: refusal.source },
    }
}

/// Removing what is gone, or adding what is there, has come to what was asked for.
fn unless(
    answer: Result<(), Refusal>,
    settled: fn(&KernelError) -> bool,
    action: impl FnOnce() -> String,
) -> Result<(), KernelError> {
    match answer {
        Ok(()) => Ok(()),
        Err(refusal) => {
            let error = refused(action(), refusal);
            if settled(&error) { Ok(()) } else { Err(error) }
        }
    }
}

fn never(_: &KernelError) -> bool {
    false
}
