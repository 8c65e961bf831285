//! List + watch of everything Calico stores, as one stream of updates with an in-sync mark.
//!
//! The stream promises eventual consistency and one more thing: [`SyncEvent::InSync`] comes only after every key of the
//! first listing was delivered. After an outage or a compaction the syncer lists again and delivers the difference;
//! it never invents a delete because a store did not answer.

use tokio::sync::mpsc;
use tortie_model::codec::DecodeError;
use tortie_model::ipam::{Block, BlockAffinity, Handle, IpamConfig};
use tortie_model::{AnyResource, Key};

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
    /// Everything that was stored at the first listing has been delivered.
    InSync,
}

/// The receiving end of a running syncer; dropping it stops the syncer.
#[derive(Debug)]
pub struct Syncer {
    /// Events in order.
    pub events: mpsc::Receiver<SyncEvent>,
}
