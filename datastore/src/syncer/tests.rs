//! The syncer over a store in memory whose connection can be cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tortie_model::Kind;

use super::*;
use crate::StoreError;
use crate::memory::MemoryStore;
use crate::store::{KeyValue, Listing, Operation, Outcome, Transaction, Watch};

/// Two stores behind a connection that can be cut and switched from one to the other.
#[derive(Clone, Debug, Default)]
struct Cable {
    first: MemoryStore,
    second: MemoryStore,
    switched: Arc<AtomicBool>,
    cut: watch::Sender<bool>,
}

impl Cable {
    fn current(&self) -> Result<&MemoryStore, StoreError> {
        if *self.cut.borrow() {
            return Err(unplugged());
        }
        Ok(if self.switched.load(Ordering::Relaxed) { &self.second } else { &self.first })
    }

    fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

fn unplugged() -> StoreError {
    StoreError::Unavailable { endpoints: "http://cable".to_owned(), reason: "cut".to_owned() }
}

#[async_trait]
impl Store for Cable {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.current()?.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.current()?.list(prefix).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        self.current()?.transact(transaction).await
    }

    async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Watch, StoreError> {
        let mut inner = self.current()?.watch(prefix, start_revision).await?;
        let mut cut = self.cut.subscribe();
        let (sender, batches) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    biased;
                    _ = cut.wait_for(|cut| *cut) => Some(Err(unplugged())),
                    next = inner.next() => next,
                };
                let Some(next) = next else { return };
                let last = next.is_err();
                if sender.send(next).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Watch { batches })
    }

    async fn grant_lease(&self, seconds: i64) -> Result<i64, StoreError> {
        self.current()?.grant_lease(seconds).await
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        self.current()?.keep_alive(lease).await
    }
}

async fn put(store: &MemoryStore, key: &str, value: &str) -> i64 {
    let put = Operation::Put { key: key.to_owned(), value: value.as_bytes().to_vec(), lease: 0 };
    write(store, put).await
}

async fn delete(store: &MemoryStore, key: &str) -> i64 {
    write(store, Operation::Delete(key.to_owned())).await
}

async fn write(store: &MemoryStore, operation: Operation) -> i64 {
    let transaction = Transaction { compares: Vec::new(), operations: vec![operation] };
    match store.transact(transaction).await.unwrap() {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict { .. } => panic!("nothing was compared"),
    }
}

async fn next(syncer: &mut Syncer) -> SyncEvent {
    let next = tokio::time::timeout(Duration::from_secs(10), syncer.events.recv()).await;
    next.expect("an event within ten seconds").expect("the syncer runs")
}

/// Updates as `key=present?@revision`, until `count` have come.
async fn updates(syncer: &mut Syncer, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        if let SyncEvent::Updates(updates) = next(syncer).await {
            seen.extend(updates.iter().map(describe));
        }
    }
    seen
}

fn describe(update: &Update) -> String {
    let what = match &update.value {
        None => "gone",
        Some(Value::Invalid(_)) => "invalid",
        Some(Value::Resource(_)) => "resource",
        Some(Value::Block(_)) => "block",
        Some(Value::Affinity(_)) => "affinity",
        Some(Value::Handle(_)) => "handle",
        Some(Value::IpamConfig(_)) => "config",
    };
    let text = update.key.to_string();
    format!("{} {what} @{}", text.rsplit('/').next().unwrap_or_default(), update.revision)
}

/// Reads until the first listing is out; returns its updates.
async fn first_listing(syncer: &mut Syncer) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match next(syncer).await {
            SyncEvent::Updates(updates) => seen.extend(updates.iter().map(describe)),
            SyncEvent::Relisting => {}
            SyncEvent::InSync => return seen,
        }
    }
}

async fn state(syncer: &mut Syncer, wanted: fn(&SyncState) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), syncer.state.wait_for(wanted)).await.is_ok();
    assert!(waited, "state stayed {:?}", *syncer.state.borrow());
}

fn is_lost(state: &SyncState) -> bool {
    matches!(state, SyncState::Reconnecting { .. })
}

fn is_in_sync(state: &SyncState) -> bool {
    *state == SyncState::InSync
}

fn pool(name: &str) -> String {
    Key::resource(Kind::IpPool, None, name).to_string()
}

const POOL: &str = r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},"spec":{"cidr":"10.0.0.0/16"}}"#;

#[tokio::test]
async fn everything_stored_comes_first_then_the_mark_then_changes() {
    let store = MemoryStore::default();
    let block = r#"{"cidr":"10.65.3.0/30","affinity":"host:n1","allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":[]}"#;
    for (key, value) in [
        (pool("a").as_str(), POOL),
        (pool("broken").as_str(), "{"),
        ("/calico/ipam/v2/assignment/ipv4/block/10.65.3.0-30", block),
        ("/calico/ipam/v2/host/n1/ipv4/block/10.65.3.0-30", ""),
        ("/calico/ipam/v2/handle/h1", r#"{"block":{"10.65.3.0/30":1},"deleted":false}"#),
        ("/calico/ipam/v2/config", r#"{"auto_allocate_blocks":true}"#),
        ("/calico/ipam/v2/host/n1", "{}"),
        ("/calico/felix/v2/no-region/host/n1/status", "{}"),
        ("/elsewhere", "x"),
    ] {
        put(&store, key, value).await;
    }
    let mut syncer = Syncer::start(Arc::new(store.clone()));
    let mut seen = first_listing(&mut syncer).await;
    seen.sort();
    let expected = [
        "10.65.3.0-30 affinity @4",
        "10.65.3.0-30 block @3",
        "a resource @1",
        "broken invalid @2",
        "config config @6",
        "h1 handle @5",
    ];
    assert_eq!(seen, expected);
    assert_eq!(*syncer.state.borrow(), SyncState::InSync);

    let repaired = put(&store, &pool("broken"), POOL).await;
    assert_eq!(updates(&mut syncer, 1).await, [format!("broken resource @{repaired}")]);
    let gone = delete(&store, &pool("a")).await;
    assert_eq!(updates(&mut syncer, 1).await, [format!("a gone @{gone}")]);
}

#[tokio::test]
async fn an_empty_store_is_in_sync_at_once() {
    let store = MemoryStore::default();
    let mut syncer = Syncer::start(Arc::new(store.clone()));
    assert!(first_listing(&mut syncer).await.is_empty());
    put(&store, &pool("a"), POOL).await;
    assert_eq!(updates(&mut syncer, 1).await, ["a resource @1"]);
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_value_of_each_key_once() {
    let store = MemoryStore::default();
    let mut syncer = Syncer::start(Arc::new(store.clone()));
    first_listing(&mut syncer).await;
    let mut last = 0;
    for _ in 0..2000 {
        last = put(&store, &pool("hot"), POOL).await;
    }
    let end = put(&store, &pool("end"), POOL).await;
    let mut seen: Vec<String> = Vec::new();
    while seen.last() != Some(&format!("end resource @{end}")) {
        seen.extend(updates(&mut syncer, 1).await);
    }
    assert!(seen.len() < 500, "{} updates for two keys", seen.len());
    assert!(seen.contains(&format!("hot resource @{last}")));
}

#[tokio::test]
async fn large_listings_come_in_bounded_batches() {
    let store = MemoryStore::default();
    for i in 0..1201 {
        put(&store, &pool(&format!("p{i}")), POOL).await;
    }
    let mut syncer = Syncer::start(Arc::new(store));
    let mut sizes = Vec::new();
    while let SyncEvent::Updates(updates) = next(&mut syncer).await {
        sizes.push(updates.len());
    }
    assert_eq!(sizes, [500, 500, 201]);
}

#[tokio::test]
async fn an_outage_deletes_nothing_and_what_was_missed_comes_after_it() {
    let cable = Cable::default();
    put(&cable.first, &pool("a"), POOL).await;
    put(&cable.first, &pool("b"), POOL).await;
    let mut syncer = Syncer::start(Arc::new(cable.clone()));
    first_listing(&mut syncer).await;

    cable.set_cut(true);
    state(&mut syncer, is_lost).await;
    let c = put(&cable.first, &pool("c"), POOL).await;
    let b = delete(&cable.first, &pool("b")).await;
    assert!(syncer.events.try_recv().is_err(), "an outage changes nothing");
    cable.set_cut(false);
    state(&mut syncer, is_in_sync).await;
    assert_eq!(updates(&mut syncer, 2).await, [format!("c resource @{c}"), format!("b gone @{b}")]);
}

#[tokio::test]
async fn after_a_compaction_only_the_difference_comes() {
    let cable = Cable::default();
    for name in ["same", "changed", "deleted"] {
        put(&cable.first, &pool(name), POOL).await;
    }
    let mut syncer = Syncer::start(Arc::new(cable.clone()));
    assert_eq!(first_listing(&mut syncer).await.len(), 3);

    cable.set_cut(true);
    state(&mut syncer, is_lost).await;
    let changed = put(&cable.first, &pool("changed"), POOL).await;
    delete(&cable.first, &pool("deleted")).await;
    let new = put(&cable.first, &pool("new"), POOL).await;
    cable.first.compact(new);
    cable.set_cut(false);
    let expected = [
        format!("changed resource @{changed}"),
        format!("new resource @{new}"),
        format!("deleted gone @{new}"),
    ];
    assert_eq!(updates(&mut syncer, 3).await, expected);
    let next = put(&cable.first, &pool("later"), POOL).await;
    assert_eq!(updates(&mut syncer, 1).await, [format!("later resource @{next}")]);
}

#[tokio::test]
async fn a_store_that_went_back_is_read_again() {
    let cable = Cable::default();
    for name in ["a", "b", "c"] {
        put(&cable.first, &pool(name), POOL).await;
    }
    put(&cable.second, &pool("b"), "{").await;
    let mut syncer = Syncer::start(Arc::new(cable.clone()));
    first_listing(&mut syncer).await;

    cable.set_cut(true);
    state(&mut syncer, is_lost).await;
    cable.switched.store(true, Ordering::Relaxed);
    cable.set_cut(false);
    assert_eq!(updates(&mut syncer, 3).await, ["b invalid @1", "a gone @1", "c gone @1"]);
    put(&cable.second, &pool("d"), POOL).await;
    assert_eq!(updates(&mut syncer, 1).await, ["d resource @2"]);
}

#[tokio::test]
async fn a_second_listing_is_told_of_before_and_after_it() {
    let cable = Cable::default();
    put(&cable.first, &pool("a"), POOL).await;
    put(&cable.second, &pool("b"), POOL).await;
    let mut syncer = Syncer::start(Arc::new(cable.clone()));
    first_listing(&mut syncer).await;
    cable.set_cut(true);
    state(&mut syncer, is_lost).await;
    cable.switched.store(true, Ordering::Relaxed);
    cable.set_cut(false);
    assert!(matches!(next(&mut syncer).await, SyncEvent::Relisting));
    assert_eq!(first_listing(&mut syncer).await, ["b resource @1", "a gone @1"]);
    put(&cable.second, &pool("c"), POOL).await;
    assert_eq!(updates(&mut syncer, 1).await, ["c resource @2"]);
}

/// A backup that was restored, and written to until it had as many revisions as the store that was lost.
#[tokio::test]
async fn a_past_that_is_another_one_is_read_again() {
    for last_is_delete in [false, true] {
        let cable = Cable::default();
        for store in [&cable.first, &cable.second] {
            put(store, &pool("same"), POOL).await;
            put(store, &pool("deleted"), POOL).await;
        }
        let mut syncer = Syncer::start(Arc::new(cable.clone()));
        first_listing(&mut syncer).await;
        put(&cable.first, &pool("lost"), POOL).await;
        if last_is_delete {
            delete(&cable.first, &pool("deleted")).await;
        } else {
            put(&cable.first, &pool("overwritten"), POOL).await;
        }
        updates(&mut syncer, 2).await;

        cable.set_cut(true);
        state(&mut syncer, is_lost).await;
        put(&cable.second, &pool("other"), POOL).await;
        // The same key at the same revision, with another value.
        put(&cable.second, &pool("overwritten"), "{").await;
        put(&cable.second, &pool("later"), POOL).await;
        cable.switched.store(true, Ordering::Relaxed);
        cable.set_cut(false);
        let expected = if last_is_delete {
            [
                "deleted resource @2",
                "later resource @5",
                "other resource @3",
                "overwritten invalid @4",
                "lost gone @5",
            ]
            .as_slice()
        } else {
            &["later resource @5", "other resource @3", "overwritten invalid @4", "lost gone @5"]
        };
        assert_eq!(updates(&mut syncer, expected.len()).await, expected, "delete: {last_is_delete}");
    }
}

/// Deletes between the newest key of a listing and its revision come again when the watch goes on; they are no news.
#[tokio::test]
async fn what_a_resumed_watch_repeats_is_no_news() {
    let cable = Cable::default();
    put(&cable.first, &pool("gone"), POOL).await;
    put(&cable.first, &pool("kept"), POOL).await;
    delete(&cable.first, &pool("gone")).await;
    let mut syncer = Syncer::start(Arc::new(cable.clone()));
    assert_eq!(first_listing(&mut syncer).await, ["kept resource @2"]);
    for round in 4..7 {
        cable.set_cut(true);
        state(&mut syncer, is_lost).await;
        let new = put(&cable.first, &pool("new"), POOL).await;
        cable.set_cut(false);
        assert_eq!(updates(&mut syncer, 1).await, [format!("new resource @{round}")]);
        assert_eq!(new, round);
    }
    assert!(syncer.events.try_recv().is_err());
}

/// A store whose watch tells of new keys without end, and counts them.
#[derive(Clone, Debug, Default)]
struct Flood {
    told: Arc<std::sync::atomic::AtomicUsize>,
    value: usize,
}

#[async_trait]
impl Store for Flood {
    async fn get(&self, _: &str) -> Result<Option<KeyValue>, StoreError> {
        Ok(None)
    }

    async fn list(&self, _: &str) -> Result<Listing, StoreError> {
        Ok(Listing { revision: 1, entries: Vec::new() })
    }

    async fn transact(&self, _: Transaction) -> Result<Outcome, StoreError> {
        Err(unplugged())
    }

    async fn watch(&self, _: &str, start_revision: i64) -> Result<Watch, StoreError> {
        let (sender, batches) = mpsc::channel(1);
        let flood = self.clone();
        tokio::spawn(async move {
            for revision in start_revision.. {
                let kv = KeyValue {
                    key: pool(&format!("p{revision}")),
                    value: vec![b' '; flood.value],
                    create_revision: revision,
                    mod_revision: revision,
                };
                let batch = crate::store::EventBatch { revision, events: vec![crate::store::Event::Put(kv)] };
                if sender.send(Ok(batch)).await.is_err() {
                    return;
                }
                flood.told.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Watch { batches })
    }

    async fn grant_lease(&self, _: i64) -> Result<i64, StoreError> {
        Err(unplugged())
    }

    async fn keep_alive(&self, _: i64) -> Result<bool, StoreError> {
        Err(unplugged())
    }
}

/// What waits for a reader that takes nothing is bounded, in keys and in octets; then the store is held back.
#[tokio::test]
async fn a_reader_that_stands_still_holds_the_store_back() {
    for (value, least, most) in [(10, 20_000, 21_000), (1 << 20, 64, 600)] {
        let flood = Flood { value, ..Flood::default() };
        let mut syncer = Syncer::start(Arc::new(flood.clone()));
        first_listing(&mut syncer).await;
        let told = || flood.told.load(Ordering::Relaxed);
        // One thread: once everybody else has had many turns without a change, nobody goes on.
        let (mut before, mut still) = (0, 0);
        while still < 1000 {
            tokio::task::yield_now().await;
            still = if told() == before && before >= least { still + 1 } else { 0 };
            before = told();
            assert!(before < most, "{before} changes wait");
        }
        let SyncEvent::Updates(first) = next(&mut syncer).await else { panic!("no updates") };
        assert!(!first.is_empty());
    }
}

#[tokio::test]
async fn a_store_unreachable_at_first_is_waited_for() {
    let cable = Cable::default();
    cable.set_cut(true);
    put(&cable.first, &pool("a"), POOL).await;
    let mut syncer = Syncer::start(Arc::new(cable.clone()));
    state(&mut syncer, is_lost).await;
    let SyncState::Reconnecting { reason } = syncer.state.borrow().clone() else { panic!("not lost") };
    assert_eq!(reason, "datastore unreachable at http://cable: cut");
    cable.set_cut(false);
    assert_eq!(first_listing(&mut syncer).await, ["a resource @1"]);
    state(&mut syncer, is_in_sync).await;
}

#[tokio::test]
async fn dropping_the_events_stops_the_task() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut syncer = Syncer::start(store.clone());
    first_listing(&mut syncer).await;
    drop(syncer);
    let stopped = async {
        while Arc::strong_count(&store) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("the task ends");
}

/// A store whose first listing breaks off after a part of it.
#[derive(Debug)]
struct Torn {
    inner: MemoryStore,
    torn: AtomicBool,
}

#[async_trait]
impl Store for Torn {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.inner.list(prefix).await
    }

    async fn list_in_pages(&self, prefix: &str, pages: mpsc::Sender<Listing>) -> Result<(), StoreError> {
        let mut page = self.list(prefix).await?;
        if self.torn.swap(true, Ordering::Relaxed) {
            let _ = pages.send(page).await;
            return Ok(());
        }
        page.entries.truncate(2);
        let _ = pages.send(page).await;
        // Before anybody asks again, what the first page had is gone and another key has changed.
        delete(&self.inner, &pool("a")).await;
        put(&self.inner, &pool("b"), "{").await;
        Err(unplugged())
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        self.inner.transact(transaction).await
    }

    async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Watch, StoreError> {
        self.inner.watch(prefix, start_revision).await
    }

    async fn grant_lease(&self, seconds: i64) -> Result<i64, StoreError> {
        self.inner.grant_lease(seconds).await
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        self.inner.keep_alive(lease).await
    }
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_no_listing() {
    let inner = MemoryStore::default();
    for name in ["a", "b", "c"] {
        put(&inner, &pool(name), POOL).await;
    }
    let mut syncer = Syncer::start(Arc::new(Torn { inner, torn: AtomicBool::new(false) }));
    let expected = ["a resource @1", "b resource @2", "b invalid @5", "c resource @3", "a gone @5"];
    assert_eq!(first_listing(&mut syncer).await, expected);
}
