//! Routes: interned attributes, the table of all paths with its decision, and what each group of peers was told.
//!
//! Operations return what the caller must do. Nothing here knows a session's state or a clock.

pub(crate) mod adj_out;
pub(crate) mod attrs;
pub(crate) mod batch;
pub(crate) mod decision;
pub(crate) mod loc;
pub(crate) mod missed;
pub(crate) mod paths;

#[cfg(test)]
mod tests;

/// A peer inside the core: never used twice, so a path cannot be mistaken for one of a peer that came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerKey(pub(crate) u32);

impl PeerKey {
    /// This speaker itself, where a route's source is named.
    pub(crate) const OWN: PeerKey = PeerKey(u32::MAX);
}
