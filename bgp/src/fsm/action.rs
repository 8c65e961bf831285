//! What a peer's state machine wants done.

use super::negotiate::Session;
use crate::family::Family;
use crate::speaker::ConnId;

/// Something to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Connect; the answer is `connected` or `dial_failed`.
    Dial(ConnId),
    /// Send a message.
    Send(ConnId, Vec<u8>),
    /// Close when everything is sent.
    Close(ConnId),
    /// The session is up.
    Up(Box<Session>),
    /// It is gone.
    Down(Loss),
    /// The peer asks for all routes of a family once more (RFC 2918).
    Refresh(Family),
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// With a NOTIFICATION, or for good: its routes are forgotten.
    Final,
    /// Without a word: its routes may be kept until the peer is back (RFC 4724 4.2).
    Silent,
}
