//! What can go wrong with a store.

/// An operation on a store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No endpoint answered, or the answer did not come in time. Nothing is known about a write that was under way.
    #[error("datastore unreachable at {endpoints}: {reason}")]
    Unavailable {
        /// The endpoints tried.
        endpoints: String,
        /// The last failure.
        reason: String,
    },
    /// A watch or a read asked for a revision that was compacted; list again.
    #[error("revision {requested} is compacted; the oldest kept is {oldest}")]
    Compacted {
        /// Asked for.
        requested: i64,
        /// Oldest that can be read; 0 when the server did not say.
        oldest: i64,
    },
    /// The server refused the request: credentials, a malformed request, no space.
    #[error("datastore refused the request: {reason}")]
    Refused {
        /// The server's words.
        reason: String,
    },
}
