//! The [`Store`] trait: what every backend promises.
//!
//! # Contract
//!
//! - Keys and values are bytes to the server; ours are UTF-8 keys and JSON values.
//! - Every successful write raises the store's revision by one, however many keys it touches.
//! - Reads are linearizable: a read that starts after a write returned sees it.
//! - [`Store::transact`] is atomic: all compares hold and all operations happen at one revision, or none happens.
//! - A watch delivers every event after its start revision exactly once, in revision order, all events of one
//!   revision together in one batch, and ends with an error rather than with a gap.
//! - A transaction has at most [`MAX_OPERATIONS`] compares and as many operations, and names each key it writes once;
//!   another one is [`StoreError::Refused`].
//! - Every request has a deadline; a request that missed it returns [`StoreError::Unavailable`].

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::StoreError;

/// Compares, and operations, of one transaction at most (etcd's default of `--max-txn-ops`).
pub const MAX_OPERATIONS: usize = 128;

/// A key, its value and its place in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Revision at which the key was created.
    pub create_revision: i64,
    /// Revision of its last change; what compare-and-swap compares.
    pub mod_revision: i64,
}

/// The answer to a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Revision of the store the listing is of; a watch from `revision + 1` continues it.
    pub revision: i64,
    /// In key order.
    pub entries: Vec<KeyValue>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key's mod revision is this one.
    ModRevision(String, i64),
}

/// A write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The lease it dies with; 0 for none.
        lease: i64,
    },
    /// Removes a key; removing an absent one succeeds.
    Delete(String),
}

/// All compares, then all operations, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Conditions; all must hold.
    pub compares: Vec<Compare>,
    /// Writes; each key at most once.
    pub operations: Vec<Operation>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done at this revision.
    Committed {
        /// The store's revision after it; the mod revision of every key it put.
        revision: i64,
    },
    /// A compare did not hold; nothing was written. Current values of the compared keys, absent ones left out.
    Conflict {
        /// What the compared keys hold now.
        current: Vec<KeyValue>,
        /// The store's revision.
        revision: i64,
    },
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key has a new value.
    Put(KeyValue),
    /// The key is gone since this revision.
    Delete {
        /// The key.
        key: String,
        /// When.
        mod_revision: i64,
    },
}

/// What a watch delivers: all events of one or more whole revisions, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventBatch {
    /// The watch has now seen everything up to this revision.
    pub revision: i64,
    /// The events.
    pub events: Vec<Event>,
}

/// A running watch. Dropping it cancels the watch. After an `Err` nothing follows.
#[derive(Debug)]
pub struct Watch {
    /// Batches in order. Bounded: a slow reader holds the server back.
    pub batches: mpsc::Receiver<Result<EventBatch, StoreError>>,
}

impl Watch {
    /// The next batch; an error ends the watch (`Compacted`: list again; otherwise: watch again from the last revision).
    /// `None` after the error, or when the store is shut down.
    pub async fn next(&mut self) -> Option<Result<EventBatch, StoreError>> {
        self.batches.recv().await
    }
}

/// A key-value store with etcd's semantics.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// One key.
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError>;

    /// All keys with a prefix. Backends read large ranges in pages of one revision.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// The same in pages, each sent as soon as it is there, for readers that need not hold all of it at once. All pages are
    /// of one revision; there is at least one. When that revision is compacted meanwhile, [`StoreError::Compacted`].
    async fn list_in_pages(&self, prefix: &str, pages: mpsc::Sender<Listing>) -> Result<(), StoreError> {
        let listing = self.list(prefix).await?;
        // A reader that is gone wants nothing.
        let _ = pages.send(listing).await;
        Ok(())
    }

    /// Compare and write.
    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError>;

    /// All changes of keys with a prefix from `start_revision` on (inclusive).
    async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Watch, StoreError>;

    /// A lease of `seconds`; its keys die with it.
    async fn grant_lease(&self, seconds: i64) -> Result<i64, StoreError>;

    /// Renews a lease; `false` when it had expired.
    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError>;
}
