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
    /// The peer begins or ends to send all routes of a family once more (RFC 7313).
    Mark(Family, Mark),
}

/// Beginning and end of a route refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// BoRR.
    Begin,
    /// EoRR.
    End,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// For good: its routes are forgotten.
    Final,
    /// Without a word (RFC 4724 4.2), or with one that both ends want to survive (RFC 8538): its routes are kept until
    /// the peer is back, if it announced graceful restart.
    Graceful,
}
