//! List + watch of everything Calico stores, as one stream of updates with an in-sync mark.
//!
//! The stream promises eventual consistency and one more thing: [`SyncEvent::InSync`] comes only after every key of the
//! first listing was delivered. After an outage or a compaction the syncer lists again and delivers the difference;
//! it never invents a delete because a store did not answer.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tortie_model::codec::DecodeError;
use tortie_model::ipam::{Block, BlockAffinity, Handle, IpamConfig};
use tortie_model::{AnyResource, Key};

use crate::Store;

mod decode;
mod pending;
mod task;

/// What a key holds.
#[derive(Debug)]
pub enum Value {
    /// A v3 resource.
    Resource(Box<AnyResource>),
    /// An IPAM block.
    Block(Box<Block>),
    /// A node's affinity to a block.
    Affinity(BlockAffinity),
    /// An IPAM handle.
    Handle(Handle),
    /// IPAM's configuration.
    IpamConfig(IpamConfig),
    /// The value cannot be read; who depends on it must fail closed.
    Invalid(DecodeError),
}

/// A key changed.
#[derive(Debug)]
pub struct Update {
    /// The key.
    pub key: Key,
    /// Its value; `None` when it is gone.
    pub value: Option<Value>,
    /// The revision of the change.
    pub revision: i64,
}

/// What the syncer delivers.
#[derive(Debug)]
pub enum SyncEvent {
    /// Changes, newest value of each key, no key twice.
    Updates(Vec<Update>),
    /// Everything is read again, because the past is lost or another one: the updates until the next
    /// [`SyncEvent::InSync`] are parts of the difference, in no order that means anything.
    Relisting,
    /// Everything that was stored at the listing has been delivered.
    InSync,
}

/// How a syncer stands with its store, for readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// The first listing is being read or delivered.
    Listing,
    /// The first listing was delivered and the watch runs.
    InSync,
    /// The store does not answer. What was delivered stays valid; it may be out of date.
    Reconnecting {
        /// The last failure.
        reason: String,
    },
}

/// The receiving end of a running syncer; dropping its events stops the syncer.
#[derive(Debug)]
pub struct Syncer {
    /// Events in order. Bounded: while the reader is slow, changes of one key become one.
    pub events: mpsc::Receiver<SyncEvent>,
    /// How it stands with the store.
    pub state: watch::Receiver<SyncState>,
}

impl Syncer {
    /// Starts a syncer on the current runtime. It tries until its reader is gone: a store that cannot be reached is a
    /// state, not an error.
    pub fn start(store: Arc<dyn Store>) -> Syncer {
        let (sender, events) = mpsc::channel(1);
        let (publish, state) = watch::channel(SyncState::Listing);
        tokio::spawn(task::Task::new(store, sender, publish).run());
        Syncer { events, state }
    }
}

#[cfg(test)]
mod tests;
