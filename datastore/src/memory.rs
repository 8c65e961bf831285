//! A store in memory: the contract of [`Store`] for tests and dry runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::StoreError;
use crate::store::{
    Compare, Event, EventBatch, KeyValue, Listing, MAX_OPERATIONS, Operation, Outcome, Store, Transaction,
    Watch,
};

/// A store that lives as long as the process. Clones share their contents. It has no clock: leases never expire.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    revision: i64,
    entries: BTreeMap<String, KeyValue>,
    /// Every batch since the beginning; one a revision.
    history: Vec<EventBatch>,
    /// Watches from an older revision are refused.
    compacted: i64,
    watchers: Vec<Watcher>,
    /// Leases granted so far; they are numbered from 1.
    leases: i64,
}

#[derive(Debug)]
struct Watcher {
    prefix: String,
    start: i64,
    sender: mpsc::UnboundedSender<EventBatch>,
}

impl MemoryStore {
    /// Forgets the history before a revision, as a compaction of etcd does: watches that start earlier end with
    /// [`StoreError::Compacted`].
    pub fn compact(&self, revision: i64) {
        let mut inner = self.lock();
        inner.compacted = inner.compacted.max(revision);
        inner.history.retain(|batch| batch.revision >= revision);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.entries.contains_key(key),
            Compare::ModRevision(key, revision) => {
                self.entries.get(key).is_some_and(|kv| kv.mod_revision == *revision)
            }
        }
    }

    /// What etcd refuses too.
    fn check(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let refused = |reason: &str| Err(StoreError::Refused { reason: reason.to_owned() });
        if transaction.compares.len().max(transaction.operations.len()) > MAX_OPERATIONS {
            return refused("etcdserver: too many operations in txn request");
        }
        let mut keys = std::collections::BTreeSet::new();
        for operation in &transaction.operations {
            let (key, lease) = match operation {
                Operation::Put { key, lease, .. } => (key, *lease),
                Operation::Delete(key) => (key, 0),
            };
            if key.is_empty() {
                return refused("etcdserver: key is not provided");
            }
            if !keys.insert(key) {
                return refused("etcdserver: duplicate key given in txn request");
            }
            if !(0..=self.leases).contains(&lease) {
                return refused("etcdserver: requested lease not found");
            }
        }
        Ok(())
    }

    fn commit(&mut self, operations: Vec<Operation>) {
        let revision = self.revision + 1;
        let mut events = Vec::new();
        for operation in operations {
            match operation {
                Operation::Put { key, value, .. } => {
                    let create_revision = self.entries.get(&key).map_or(revision, |kv| kv.create_revision);
                    let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision: revision };
                    self.entries.insert(key, kv.clone());
                    events.push(Event::Put(kv));
                }
                Operation::Delete(key) => {
                    if self.entries.remove(&key).is_some() {
                        events.push(Event::Delete { key, mod_revision: revision });
                    }
                }
            }
        }
        if events.is_empty() {
            return;
        }
        self.revision = revision;
        let batch = EventBatch { revision, events };
        self.watchers.retain(|watcher| match matching(&batch, &watcher.prefix) {
            Some(batch) if revision >= watcher.start => watcher.sender.send(batch).is_ok(),
            _ => !watcher.sender.is_closed(),
        });
        self.history.push(batch);
    }
}

/// The part of a batch about keys with a prefix.
fn matching(batch: &EventBatch, prefix: &str) -> Option<EventBatch> {
    let key = |event: &Event| match event {
        Event::Put(kv) => kv.key.starts_with(prefix),
        Event::Delete { key, .. } => key.starts_with(prefix),
    };
    let events: Vec<Event> = batch.events.iter().filter(|e| key(e)).cloned().collect();
    (!events.is_empty()).then_some(EventBatch { revision: batch.revision, events })
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.lock().entries.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let inner = self.lock();
        let range = inner.entries.range(prefix.to_owned()..);
        let entries =
            range.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, kv)| kv.clone()).collect();
        Ok(Listing { revision: inner.revision, entries })
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let mut inner = self.lock();
        inner.check(&transaction)?;
        if transaction.compares.iter().all(|compare| inner.holds(compare)) {
            inner.commit(transaction.operations);
            return Ok(Outcome::Committed { revision: inner.revision });
        }
        let current = transaction.compares.iter().filter_map(|compare| match compare {
            Compare::Absent(key) | Compare::ModRevision(key, _) => inner.entries.get(key).cloned(),
        });
        Ok(Outcome::Conflict { current: current.collect(), revision: inner.revision })
    }

    async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Watch, StoreError> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let (out, batches) = mpsc::channel(64);
        {
            let mut inner = self.lock();
            if start_revision < inner.compacted {
                let error = StoreError::Compacted { requested: start_revision, oldest: inner.compacted };
                out.try_send(Err(error)).expect("the channel is empty and its receiver is here");
                return Ok(Watch { batches });
            }
            for batch in inner.history.iter().filter(|b| b.revision >= start_revision) {
                if let Some(batch) = matching(batch, prefix) {
                    sender.send(batch).expect("its receiver is here");
                }
            }
            inner.watchers.push(Watcher { prefix: prefix.to_owned(), start: start_revision, sender });
        }
        tokio::spawn(async move {
            loop {
                let batch = tokio::select! {
                    batch = receiver.recv() => batch,
                    () = out.closed() => return,
                };
                let Some(batch) = batch else { return };
                if out.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Watch { batches })
    }

    async fn grant_lease(&self, _seconds: i64) -> Result<i64, StoreError> {
        let mut inner = self.lock();
        inner.leases += 1;
        Ok(inner.leases)
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        Ok((1..=self.lock().leases).contains(&lease))
    }
}
