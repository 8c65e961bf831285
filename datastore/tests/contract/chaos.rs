//! Who writes, reads and watches while a cluster suffers, and what each of them must have seen in the end.
//!
//! Every write is a compare-and-swap of a key nobody else writes, repeated until its fate is known, so that the ledger
//! has every change of the store with its revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tortie_datastore::etcd::EtcdStore;
use tortie_datastore::store::{Compare, Event, Operation, Outcome, Transaction};
use tortie_datastore::syncer::Value;
use tortie_datastore::{Store, StoreError, SyncEvent, Syncer};
use tortie_model::{Key, Kind};

use crate::suite::put_op;

/// Everything is written below this.
pub(crate) const PREFIX: &str = "/calico/";

/// Keys of a writer.
const SLOTS: usize = 20;

/// What a key holds: the writer's number of the write; `None` when it is gone.
type Content = Option<usize>;

/// State of a store: revision and content by key.
pub(crate) type State = BTreeMap<String, (i64, usize)>;

/// What has happened, as far as writers know.
#[derive(Default)]
pub(crate) struct Ledger {
    changes: Mutex<BTreeMap<i64, (String, Content)>>,
    /// Deletes whose answer was lost: done, at a revision nobody told.
    deletes: Mutex<BTreeMap<String, usize>>,
    /// Highest revision that was acknowledged.
    pub(crate) latest: AtomicI64,
    /// Writes whose fate is known.
    pub(crate) writes: AtomicUsize,
    /// Answers that did not come.
    pub(crate) lost: AtomicUsize,
    /// Reads answered.
    pub(crate) reads: AtomicUsize,
    /// Writers and readers end.
    pub(crate) stop: AtomicBool,
    /// Nothing will be written any more: who watches ends when he has seen it all.
    complete: AtomicBool,
    end: OnceLock<State>,
}

impl Ledger {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn seen_all(&self, seen: i64) -> bool {
        self.complete.load(Ordering::SeqCst) && seen >= self.latest.load(Ordering::SeqCst)
    }

    /// The last write of all, and what the store holds after it.
    pub(crate) async fn complete(&self, store: &EtcdStore) {
        write_one(store, &key(usize::MAX, 0), None, Some(0), self).await;
        let end = state(&store.list(PREFIX).await.unwrap().entries);
        self.end.set(end).expect("it is completed once");
        self.complete.store(true, Ordering::SeqCst);
    }

    /// What the store holds in the end.
    pub(crate) fn end(&self) -> Option<&State> {
        self.end.get()
    }

    fn changes(&self) -> MutexGuard<'_, BTreeMap<i64, (String, Content)>> {
        self.changes.lock().unwrap()
    }

    /// Notes a write; `revision` where it is known.
    fn note(&self, key: &str, content: Content, revision: Option<i64>) {
        match revision {
            Some(revision) => {
                let twice = self.changes().insert(revision, (key.to_owned(), content));
                assert_eq!(twice, None, "revision {revision} was given to two writes");
                self.latest.fetch_max(revision, Ordering::SeqCst);
            }
            None => *self.deletes.lock().unwrap().entry(key.to_owned()).or_default() += 1,
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
    }
}

/// A short wait before somebody who got no answer asks again.
pub(crate) async fn breathe() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn key(writer: usize, slot: usize) -> String {
    Key::resource(Kind::Node, None, &format!("w{writer}-{slot}")).to_string()
}

fn value(number: usize) -> String {
    format!(
        r#"{{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{{"name":"n","annotations":{{"n":"{number}"}}}},"spec":{{}}}}"#
    )
}

fn number(value: &[u8]) -> usize {
    let document: serde_json::Value = serde_json::from_slice(value).unwrap();
    document["metadata"]["annotations"]["n"].as_str().unwrap().parse().unwrap()
}

/// Writes until told to stop: mostly puts, some deletes.
pub(crate) async fn write(store: &EtcdStore, writer: usize, ledger: &Ledger) {
    let mut revisions = [None; SLOTS];
    for round in 0.. {
        if ledger.stopped() {
            return;
        }
        let slot = round % SLOTS;
        let content = (round % 7 != 6 || revisions[slot].is_none()).then_some(round);
        revisions[slot] = write_one(store, &key(writer, slot), revisions[slot], content, ledger).await;
    }
}

/// One write, until it is known to have happened. Returns the key's mod revision.
async fn write_one(
    store: &EtcdStore,
    key: &str,
    revision: Option<i64>,
    content: Content,
    ledger: &Ledger,
) -> Option<i64> {
    let compare = match revision {
        Some(revision) => Compare::ModRevision(key.to_owned(), revision),
        None => Compare::Absent(key.to_owned()),
    };
    let operation = match content {
        Some(number) => put_op(key, value(number).as_bytes()),
        None => Operation::Delete(key.to_owned()),
    };
    let transaction = Transaction { compares: vec![compare], operations: vec![operation] };
    let mut lost = false;
    loop {
        match store.transact(transaction.clone()).await {
            Ok(Outcome::Committed { revision }) => {
                ledger.note(key, content, Some(revision));
                return content.map(|_| revision);
            }
            Ok(Outcome::Conflict { current, .. }) => {
                // An attempt without an answer has happened after all.
                assert!(lost, "{key}: a write conflicts with nobody's: {current:?}");
                let found = current.first().map(|kv| number(&kv.value));
                assert_eq!(found, content, "{key} holds something else than what was tried");
                let revision = current.first().map(|kv| kv.mod_revision);
                ledger.note(key, content, revision);
                return revision;
            }
            Err(StoreError::Unavailable { .. }) => {
                lost = true;
                ledger.lost.fetch_add(1, Ordering::SeqCst);
                breathe().await;
            }
            Err(error) => panic!("{key}: {error}"),
        }
    }
}

/// Reads until told to stop. An answer must have seen everything that was acknowledged before the question.
pub(crate) async fn read(store: &EtcdStore, ledger: &Ledger) {
    while !ledger.stopped() {
        let acknowledged = ledger.latest.load(Ordering::SeqCst);
        let newest = ledger.changes().last_key_value().map(|(revision, (key, _))| (*revision, key.clone()));
        let revision = match store.list("/calico/ipam/").await {
            Ok(listing) => listing.revision,
            Err(StoreError::Unavailable { .. }) => {
                breathe().await;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(revision >= acknowledged, "a read of {revision} after a write at {acknowledged}");
        ledger.reads.fetch_add(1, Ordering::SeqCst);
        if let Some((written, key)) = newest
            && let Ok(Some(kv)) = store.get(&key).await
        {
            assert!(kv.mod_revision >= written, "{key} of {} after a write at {written}", kv.mod_revision);
        }
    }
}

/// What a watch that is resumed for ever has delivered.
#[derive(Default)]
pub(crate) struct Recording {
    events: BTreeMap<i64, Vec<(String, Content)>>,
    /// Where history was compacted away: between which revisions, and the listing that took its place.
    gaps: Vec<(i64, i64, State)>,
    pub(crate) resumed: usize,
}

impl Recording {
    pub(crate) fn relisted(&self) -> usize {
        self.gaps.len()
    }
}

/// Watches from `seen` on, until it was told to stop and has seen everything up to the ledger's end.
pub(crate) async fn record(store: &EtcdStore, mut seen: i64, ledger: &Ledger) -> Recording {
    let mut recording = Recording::default();
    while !ledger.seen_all(seen) {
        // A member that has just started learns by a read what the others have agreed on meanwhile.
        let caught_up = store.list("/calico/ipam/").await;
        let watch = match caught_up {
            Ok(_) => store.watch(PREFIX, seen + 1).await,
            Err(error) => Err(error),
        };
        let mut error = match watch {
            Ok(mut watch) => loop {
                match tokio::time::timeout(Duration::from_secs(1), watch.next()).await {
                    Ok(Some(Ok(batch))) => {
                        assert!(batch.revision > seen, "{} comes after {seen}", batch.revision);
                        seen = batch.revision;
                        recording.events.insert(seen, batch.events.into_iter().map(event).collect());
                    }
                    Ok(Some(Err(error))) => {
                        recording.resumed += 1;
                        break error;
                    }
                    Ok(None) => panic!("a watch ends without an error"),
                    Err(_) if ledger.seen_all(seen) => return recording,
                    Err(_) => {}
                }
            },
            Err(error) => {
                breathe().await;
                error
            }
        };
        while let StoreError::Compacted { .. } = error {
            match store.list(PREFIX).await {
                Ok(listing) => {
                    recording.gaps.push((seen, listing.revision, state(&listing.entries)));
                    seen = listing.revision;
                    break;
                }
                Err(StoreError::Unavailable { .. }) => breathe().await,
                Err(other) => error = other,
            }
        }
        assert!(!matches!(error, StoreError::Refused { .. }), "{error}");
    }
    recording
}

fn event(event: Event) -> (String, Content) {
    match event {
        Event::Put(kv) => (kv.key, Some(number(&kv.value))),
        Event::Delete { key, .. } => (key, None),
    }
}

/// What a listing says.
pub(crate) fn state(entries: &[tortie_datastore::store::KeyValue]) -> State {
    entries.iter().map(|kv| (kv.key.clone(), (kv.mod_revision, number(&kv.value)))).collect()
}

/// What a syncer delivered, and the state it left its reader in.
#[derive(Default)]
pub(crate) struct Synced {
    updates: Vec<(i64, String, Content)>,
    state: State,
}

/// Reads a syncer until it was told to stop and the syncer has nothing more; `pause` after each event.
pub(crate) async fn follow(mut syncer: Syncer, pause: Duration, ledger: &Ledger) -> Synced {
    let mut synced = Synced::default();
    let mut revisions: BTreeMap<String, i64> = BTreeMap::new();
    let mut newest = 0;
    let mut heard = Instant::now();
    // A listing tells of what is gone after what is there, so the newest revision is not the last news.
    while !ledger.seen_all(newest) || ledger.end() != Some(&synced.state) {
        // The last update may come before its writer knows that it was the last.
        let Ok(next) = tokio::time::timeout(Duration::from_secs(1), syncer.events.recv()).await else {
            let silence = heard.elapsed();
            assert!(silence < Duration::from_secs(120), "no update: {:?}", *syncer.state.borrow());
            if ledger.seen_all(newest) && silence > Duration::from_secs(30) {
                // The judge says what is wrong with it.
                break;
            }
            continue;
        };
        heard = Instant::now();
        let SyncEvent::Updates(updates) = next.expect("the syncer runs") else { continue };
        for update in updates {
            let key = update.key.to_string();
            let before = revisions.insert(key.clone(), update.revision);
            assert!(before < Some(update.revision), "{key}: {} comes after {before:?}", update.revision);
            newest = newest.max(update.revision);
            let content = update.value.map(content);
            match content {
                Some(number) => drop(synced.state.insert(key.clone(), (update.revision, number))),
                None => drop(synced.state.remove(&key)),
            }
            synced.updates.push((update.revision, key, content));
        }
        tokio::time::sleep(pause).await;
    }
    synced
}

fn content(value: Value) -> usize {
    let Value::Resource(resource) = value else { panic!("{value:?}") };
    resource.metadata().annotations["n"].parse().unwrap()
}

/// A watch must have told of everything that happened, once, and of nothing else.
pub(crate) fn judge_recording(ledger: &Ledger, recording: &Recording) {
    let changes = ledger.changes();
    let mut deletes = ledger.deletes.lock().unwrap().clone();
    for (revision, change) in changes.iter() {
        let gap = recording.gaps.iter().find(|(from, to, _)| from < revision && revision <= to);
        match (recording.events.get(revision), gap) {
            (Some(events), None) => {
                assert_eq!(events.as_slice(), std::slice::from_ref(change), "@{revision}")
            }
            // The listing has it, or something later.
            (None, Some((_, _, listing))) => match listing.get(&change.0) {
                Some((listed, _)) => assert!(listed >= revision, "@{revision} is missing in a listing"),
                None => assert!(
                    change.1.is_none()
                        || changes.range(revision + 1..).any(|(_, later)| later.0 == change.0)
                        || deletes.contains_key(&change.0),
                    "@{revision} is missing in a listing"
                ),
            },
            (events, gap) => panic!("@{revision} {change:?}: {events:?}, gap: {}", gap.is_some()),
        }
    }
    let mut told = BTreeSet::new();
    for (revision, events) in &recording.events {
        for (key, content) in events {
            assert!(content.is_none() || told.insert((key, content)), "{key} {content:?} comes twice");
            if !changes.contains_key(revision) {
                let left = deletes.get_mut(key).filter(|left| **left > 0 && content.is_none());
                *left.unwrap_or_else(|| panic!("@{revision} {key} {content:?}: nobody did that")) -= 1;
            }
        }
    }
}

/// Readers of syncers must have been given nothing that was not written, and have the store's state in the end.
pub(crate) fn judge_synced(ledger: &Ledger, synced: &[Synced], end: &State) {
    let changes = ledger.changes();
    for synced in synced {
        assert_eq!(&synced.state, end, "a syncer's reader has another state than the store");
        for (revision, key, content) in synced.updates.iter().filter(|(_, _, content)| content.is_some()) {
            assert_eq!(
                changes.get(revision),
                Some(&(key.clone(), *content)),
                "@{revision} is not what was written"
            );
        }
    }
}
