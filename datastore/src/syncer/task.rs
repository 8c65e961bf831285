//! The task of a syncer: list, watch, and again after every failure.
//!
//! ```text
//!   ┌──▶ list ──▶ difference to what is known ──▶ watch ──▶ changes ──┐
//!   │      └ failed: wait ┘                         │ failed: wait    ├─▶ pending ──▶ reader, when it has room
//!   │                                               └─ watch again ───┘
//!   └── the position was compacted, or the store's past is another one
//! ```
//!
//! A watch goes on with the last change that is known, not behind it: it must be the same change. A store restored from a
//! backup counts on from an older revision, so that its revisions mean other contents than the ones known.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tortie_model::key::ROOT;

use super::pending::{Change, Pending};
use super::{SyncEvent, SyncState, Update, decode};
use crate::store::{Event, EventBatch, KeyValue, Listing, Watch};
use crate::{Store, StoreError};

/// Updates delivered at once.
const BATCH: usize = 500;
/// Keys that may wait for the reader while watching goes on; then the watch is left to wait too.
const MAX_PENDING: usize = 20_000;
/// The same in octets of values.
const MAX_PENDING_BYTES: usize = 64 << 20;
/// Keys of a listing that may wait for the reader before its next page is read.
const MAX_LISTED: usize = 2000;
/// Waits between attempts: doubled from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);
/// A prefix with one small key: listing it tells the store's revision for next to nothing.
const SMALL_PREFIX: &str = "/calico/ipam/v2/config";

/// The reader has gone.
struct Gone;

/// What a key holds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    revision: i64,
    /// Of the value: after a restored backup a revision may come again with another one.
    digest: u64,
}

impl Known {
    fn new(revision: i64, value: &[u8]) -> Known {
        let mut hasher = DefaultHasher::new();
        hasher.write(value);
        Known { revision, digest: hasher.finish() }
    }
}

/// State of a syncer.
pub(super) struct Task {
    store: Arc<dyn Store>,
    events: mpsc::Sender<SyncEvent>,
    state: watch::Sender<SyncState>,
    /// Every key the reader was told of, or will be.
    known: BTreeMap<Arc<str>, Known>,
    pending: Pending,
    /// Everything up to this revision is known; `None` before the first listing.
    seen: Option<i64>,
    /// The newest revision up to there that is known to have changed something; 0 when there is none.
    anchor: i64,
    in_sync: bool,
    /// Whether the reader was told that it has the whole listing.
    told: bool,
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
            anchor: 0,
            in_sync: false,
            told: false,
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
        let (seen, start) = match self.seen.filter(|_| !list) {
            None => match self.list().await? {
                Ok(seen) => (seen, seen + 1),
                Err(error) => return Ok(Round::Failed(error)),
            },
            // Without a revision of the past to start at, nothing shows whose past it is.
            Some(_) if self.anchor == 0 => return Ok(Round::ListAgain),
            Some(seen) => match self.serve_while(store.list(SMALL_PREFIX)).await? {
                // A watch would wait for a revision of the future.
                Ok(listing) if listing.revision < seen => return Ok(self.distrust(seen, listing.revision)),
                Ok(_) => (seen, self.anchor),
                Err(error) => return Ok(Round::Failed(error)),
            },
        };
        let watch = match self.serve_while(store.watch(ROOT, start)).await? {
            Ok(watch) => watch,
            Err(error) => return Ok(Round::Failed(error)),
        };
        self.connected();
        self.follow(watch, seen, start).await
    }

    /// A store that is not the one known, or went back in time.
    fn distrust(&self, seen: i64, now: i64) -> Round {
        tracing::warn!(
            seen,
            now,
            "the datastore has another past than the one known; reading everything again"
        );
        Round::ListAgain
    }

    /// Passes a watch on until it ends. What it repeats, from `start` to `seen`, must be what is known.
    async fn follow(&mut self, mut watch: Watch, seen: i64, start: i64) -> Result<Round, Gone> {
        let events = self.events.clone();
        let mut first = (start <= seen).then_some(start);
        loop {
            let room = self.pending.len() < MAX_PENDING && self.pending.bytes() < MAX_PENDING_BYTES;
            tokio::select! {
                permit = events.reserve(), if self.has_something() => {
                    self.deliver(permit.map_err(|_| Gone)?);
                }
                batch = watch.next(), if room => match batch {
                    Some(Ok(batch)) => {
                        let repeated = batch.revision <= seen;
                        let missing = first.take().is_some_and(|first| batch.revision != first);
                        if missing || repeated && !self.repeats(&batch) {
                            return Ok(self.distrust(seen, batch.revision));
                        }
                        if !repeated {
                            self.take_batch(batch);
                        }
                    }
                    Some(Err(error)) => return Ok(Round::Failed(error)),
                    None => {
                        let reason = "the store was shut down".to_owned();
                        let endpoints = "this store".to_owned();
                        return Ok(Round::Failed(StoreError::Unavailable { endpoints, reason }));
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
        self.pending.len() > 0 || (self.seen.is_some() && !self.told)
    }

    /// The next event for the reader: updates, and after the first listing the mark.
    fn deliver(&mut self, permit: mpsc::Permit<'_, SyncEvent>) {
        if !self.told && self.seen.is_some() && self.pending.first_is_out() {
            self.told = true;
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

    /// Reads everything, a page at a time while the reader is served, and turns it into changes against what is known.
    /// Returns its revision.
    async fn list(&mut self) -> Result<Result<i64, StoreError>, Gone> {
        if std::mem::take(&mut self.told) {
            self.events.send(SyncEvent::Relisting).await.map_err(|_| Gone)?;
        }
        // What a page has delivered must not be overtaken by a watch that goes on from before it.
        self.seen = None;
        self.anchor = 0;
        let mut gone = std::mem::take(&mut self.known);
        let mut revision = 0;
        let (store, events) = (self.store.clone(), self.events.clone());
        let (sender, mut pages) = mpsc::channel(1);
        let request = store.list_in_pages(ROOT, sender);
        tokio::pin!(request);
        let mut answer = None;
        loop {
            let room = self.pending.len() < MAX_LISTED;
            tokio::select! {
                page = pages.recv(), if room => match page {
                    Some(page) => revision = self.take_page(page, &mut gone),
                    None => break,
                },
                ended = &mut request, if answer.is_none() => answer = Some(ended),
                permit = events.reserve(), if self.has_something() => {
                    self.deliver(permit.map_err(|_| Gone)?);
                }
                () = events.closed() => return Err(Gone),
            }
        }
        if let Some(Err(error)) = answer {
            self.known.append(&mut gone);
            return Ok(Err(error));
        }
        for key in gone.keys() {
            self.pending.push(key, Change { revision, value: None });
        }
        self.seen = Some(revision);
        self.pending.mark_first();
        Ok(Ok(revision))
    }

    /// Takes a part of a listing; what it has is not gone.
    fn take_page(&mut self, page: Listing, gone: &mut BTreeMap<Arc<str>, Known>) -> i64 {
        for KeyValue { key, value, mod_revision, .. } in page.entries {
            self.anchor = self.anchor.max(mod_revision);
            if decode::key(&key).is_none() {
                continue;
            }
            let now = Known::new(mod_revision, &value);
            let (key, before) = match gone.remove_entry(key.as_str()) {
                Some((key, before)) => (key, Some(before)),
                None => (Arc::from(key), None),
            };
            if before != Some(now) {
                self.pending.push(&key, Change { revision: mod_revision, value: Some(value) });
            }
            self.known.insert(key, now);
        }
        page.revision
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
            let key: Arc<str> = key.into();
            if let Some(value) = &change.value {
                self.known.insert(key.clone(), Known::new(change.revision, value));
            } else {
                self.known.remove(&key);
            }
            self.pending.push(&key, change);
        }
        self.seen = self.seen.max(Some(batch.revision));
        self.anchor = self.anchor.max(batch.revision);
    }

    /// Whether events of the past left what is known.
    fn repeats(&self, batch: &EventBatch) -> bool {
        batch.events.iter().all(|event| match event {
            Event::Put(kv) => {
                let known = self.known.get(kv.key.as_str());
                known == Some(&Known::new(kv.mod_revision, &kv.value)) || decode::key(&kv.key).is_none()
            }
            Event::Delete { key, .. } => !self.known.contains_key(key.as_str()),
        })
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
