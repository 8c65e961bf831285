//! The task of a syncer: list, watch, and again after every failure.
//!
//! ```text
//!   ┌──▶ list ──▶ difference to what is known ──▶ watch ──▶ changes ──┐
//!   │      └ failed: wait ┘                         │ failed: wait    ├─▶ pending ──▶ reader, when it has room
//!   │                                               └─ watch again ───┘
//!   └── the position was compacted, or the store went back
//! ```

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tortie_model::key::ROOT;

use super::pending::{Change, Pending};
use super::{SyncEvent, SyncState, Update, decode};
use crate::store::{Event, EventBatch, Listing, Watch};
use crate::{Store, StoreError};

/// Updates delivered at once.
const BATCH: usize = 500;
/// Keys that may wait for the reader while watching goes on; then the watch is left to wait too.
const MAX_PENDING: usize = 20_000;
/// Waits between attempts: doubled from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);
/// A prefix with one small key: listing it tells the store's revision for next to nothing.
const SMALL_PREFIX: &str = "/calico/ipam/v2/config";

/// The reader has gone.
struct Gone;

/// State of a syncer.
pub(super) struct Task {
    store: Arc<dyn Store>,
    events: mpsc::Sender<SyncEvent>,
    state: watch::Sender<SyncState>,
    /// Mod revision of every key the reader was told of, or will be.
    known: BTreeMap<Arc<str>, i64>,
    pending: Pending,
    /// Everything up to this revision is known; `None` before the first listing.
    seen: Option<i64>,
    in_sync: bool,
    wait: Duration,
}

impl Task {
    pub(super) fn new(
        store: Arc<dyn Store>,
        events: mpsc::Sender<SyncEvent>,
        state: watch::Sender<SyncState>,
    ) -> Task {
        Task {
            store,
            events,
            state,
            known: BTreeMap::new(),
            pending: Pending::default(),
            seen: None,
            in_sync: false,
            wait: FIRST_WAIT,
        }
    }

    /// Runs until the reader is gone.
    pub(super) async fn run(mut self) {
        let _: Result<(), Gone> = self.sync().await;
    }

    async fn sync(&mut self) -> Result<(), Gone> {
        let mut list = true;
        loop {
            let started = Instant::now();
            let error = match self.round(list).await? {
                Round::Failed(error) => error,
                Round::ListAgain => {
                    list = true;
                    continue;
                }
            };
            if started.elapsed() > LAST_WAIT {
                self.wait = FIRST_WAIT;
            }
            list = self.seen.is_none() || matches!(error, StoreError::Compacted { .. });
            self.report(&error);
            self.pause().await?;
        }
    }

    /// Lists if asked to, then watches until something fails.
    async fn round(&mut self, list: bool) -> Result<Round, Gone> {
        let store = self.store.clone();
        let seen = match self.seen.filter(|_| !list) {
            None => match self.serve_while(store.list(ROOT)).await? {
                Ok(listing) => self.take_listing(&listing),
                Err(error) => return Ok(Round::Failed(error)),
            },
            Some(seen) => match self.serve_while(store.list(SMALL_PREFIX)).await? {
                Ok(listing) if listing.revision < seen => {
                    self.distrust(seen, listing.revision);
                    return Ok(Round::ListAgain);
                }
                Ok(_) => seen,
                Err(error) => return Ok(Round::Failed(error)),
            },
        };
        let watch = match self.serve_while(store.watch(ROOT, seen + 1)).await? {
            Ok(watch) => watch,
            Err(error) => return Ok(Round::Failed(error)),
        };
        self.connected();
        Ok(Round::Failed(self.follow(watch).await?))
    }

    /// A store that went back, restored or made anew, would leave a watch waiting for a revision of the future, and
    /// its revisions mean other contents than the ones known.
    fn distrust(&mut self, seen: i64, now: i64) {
        tracing::warn!(seen, now, "the datastore went back to an older revision; reading everything again");
        self.known.values_mut().for_each(|revision| *revision = 0);
    }

    /// Passes a watch on until it ends.
    async fn follow(&mut self, mut watch: Watch) -> Result<StoreError, Gone> {
        let events = self.events.clone();
        loop {
            let room = self.pending.len() < MAX_PENDING;
            tokio::select! {
                permit = events.reserve(), if self.has_something() => {
                    self.deliver(permit.map_err(|_| Gone)?);
                }
                batch = watch.next(), if room => match batch {
                    Some(Ok(batch)) => self.take_batch(batch),
                    Some(Err(error)) => return Ok(error),
                    None => {
                        let reason = "the store was shut down".to_owned();
                        return Ok(StoreError::Unavailable { endpoints: "this store".to_owned(), reason });
                    }
                },
                () = events.closed() => return Err(Gone),
            }
        }
    }

    /// Waits for a request while the reader is served.
    async fn serve_while<T>(&mut self, request: impl Future<Output = T>) -> Result<T, Gone> {
        tokio::pin!(request);
        let events = self.events.clone();
        loop {
            tokio::select! {
                answer = &mut request => return Ok(answer),
                permit = events.reserve(), if self.has_something() => {
                    self.deliver(permit.map_err(|_| Gone)?);
                }
                () = events.closed() => return Err(Gone),
            }
        }
    }

    fn has_something(&self) -> bool {
        self.pending.len() > 0 || (self.seen.is_some() && !self.in_sync)
    }

    /// The next event for the reader: updates, and after the first listing the mark.
    fn deliver(&mut self, permit: mpsc::Permit<'_, SyncEvent>) {
        if !self.in_sync && self.pending.first_is_out() {
            self.in_sync = true;
            permit.send(SyncEvent::InSync);
            self.publish_in_sync();
            return;
        }
        let mut updates = Vec::new();
        for (text, Change { revision, value }) in self.pending.take(BATCH) {
            let Some(key) = decode::key(&text) else { continue };
            let value = value.and_then(|bytes| decode::value(&key, &bytes, revision));
            updates.push(Update { key, value, revision });
        }
        permit.send(SyncEvent::Updates(updates));
    }

    /// Turns a listing into changes against what is known. Returns its revision.
    fn take_listing(&mut self, listing: &Listing) -> i64 {
        let mut gone = std::mem::take(&mut self.known);
        for entry in &listing.entries {
            if decode::key(&entry.key).is_none() {
                continue;
            }
            let (key, before) = match gone.remove_entry(entry.key.as_str()) {
                Some((key, before)) => (key, Some(before)),
                None => (Arc::from(entry.key.as_str()), None),
            };
            if before != Some(entry.mod_revision) {
                let value = Some(entry.value.clone());
                self.pending.push(&key, Change { revision: entry.mod_revision, value });
            }
            self.known.insert(key, entry.mod_revision);
        }
        for key in gone.keys() {
            self.pending.push(key, Change { revision: listing.revision, value: None });
        }
        self.seen = Some(listing.revision);
        if !self.in_sync {
            self.pending.mark_first();
        }
        listing.revision
    }

    fn take_batch(&mut self, batch: EventBatch) {
        for event in batch.events {
            let (key, change) = match event {
                Event::Put(kv) => (kv.key, Change { revision: kv.mod_revision, value: Some(kv.value) }),
                Event::Delete { key, mod_revision } => (key, Change { revision: mod_revision, value: None }),
            };
            if decode::key(&key).is_none() {
                continue;
            }
            if change.value.is_some() {
                self.known.insert(Arc::from(key.as_str()), change.revision);
            } else {
                self.known.remove(key.as_str());
            }
            self.pending.push(&key, change);
        }
        self.seen = self.seen.max(Some(batch.revision));
    }

    /// Notes a failure; only the first of a series is logged.
    fn report(&mut self, error: &StoreError) {
        let changed = self.state.send_if_modified(|state| {
            let first = !matches!(state, SyncState::Reconnecting { .. });
            *state = SyncState::Reconnecting { reason: error.to_string() };
            first
        });
        if changed {
            tracing::warn!(%error, revision = self.seen, "no connection to the datastore; what is known stays in force");
        }
    }

    /// Notes that the store answers again.
    fn connected(&mut self) {
        let state = if self.in_sync { SyncState::InSync } else { SyncState::Listing };
        let back = self.state.send_if_modified(|old| {
            let was_lost = matches!(old, SyncState::Reconnecting { .. });
            let changed = *old != state;
            *old = state.clone();
            changed && was_lost
        });
        if back {
            tracing::info!(revision = self.seen, "datastore connection is back");
        }
    }

    fn publish_in_sync(&mut self) {
        if !self.in_sync {
            return;
        }
        let first = self.state.send_if_modified(|state| {
            let first = *state == SyncState::Listing;
            if first {
                *state = SyncState::InSync;
            }
            first
        });
        if first {
            tracing::info!(revision = self.seen, keys = self.known.len(), "in sync with the datastore");
        }
    }

    /// Waits before the next attempt, longer each time, serving the reader meanwhile.
    async fn pause(&mut self) -> Result<(), Gone> {
        let until = Instant::now() + jittered(self.wait);
        self.wait = (self.wait * 2).min(LAST_WAIT);
        self.serve_while(tokio::time::sleep_until(until)).await
    }
}

/// How a round ended.
enum Round {
    /// Wait, then try again.
    Failed(StoreError),
    /// Read everything again at once.
    ListAgain,
}

/// Up to a quarter more or less, so that the nodes of a cluster do not all come back in step.
fn jittered(wait: Duration) -> Duration {
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let percent = u32::try_from(random % 51).unwrap_or(25);
    wait * (75 + percent) / 100
}
