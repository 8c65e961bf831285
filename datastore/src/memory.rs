//! A store in memory: the contract of [`Store`] for tests and dry runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::StoreError;
use crate::store::{
    Compare, Event, EventBatch, KeyValue, Listing, Operation, Outcome, Store, Transaction, Watch,
};

/// A store that lives as long as the process. Clones share their contents.
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
    watchers: Vec<(String, mpsc::UnboundedSender<EventBatch>)>,
    leases: i64,
}

impl MemoryStore {
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
        self.watchers.retain(|(prefix, watcher)| match matching(&batch, prefix) {
            Some(batch) => watcher.send(batch).is_ok(),
            None => !watcher.is_closed(),
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
        {
            let mut inner = self.lock();
            for batch in inner.history.iter().filter(|b| b.revision >= start_revision) {
                if let Some(batch) = matching(batch, prefix) {
                    // The receiver is alive: it is ours.
                    let _ = sender.send(batch);
                }
            }
            inner.watchers.push((prefix.to_owned(), sender));
        }
        let (out, batches) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(batch) = receiver.recv().await {
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
        Ok(lease <= self.lock().leases)
    }
}
