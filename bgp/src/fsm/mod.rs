//! The state machine of a peer (RFC 4271 8): `peer` takes the events and dials, `messages` those of the
//! wire, `collision` chooses between two
//! connections, `ending` ends them and backs off, `held` keeps a peer down; `connection` is one TCP connection from its OPEN on; `negotiate` makes
//! a session of two OPENs, of which `announced` reads the peer's.
//!
//! Events and time in, actions out. No bytes are read here but whole frames, and no socket or clock is known.

pub(crate) mod action;
mod announced;
mod collision;
pub(crate) mod connection;
mod ending;
mod held;
mod jitter;
mod messages;
pub(crate) mod negotiate;
pub(crate) mod peer;

#[cfg(test)]
mod tests;

pub(crate) use action::{Action, Loss, Mark};
pub(crate) use negotiate::{FamilySession, PeerRestart, Session, Settings};
pub(crate) use peer::Peer;
