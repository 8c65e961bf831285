//! The cases: each a promise of the contract.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tortie_datastore::StoreError;
use tortie_datastore::store::{
    Compare, Event, EventBatch, KeyValue, MAX_OPERATIONS, Operation, Outcome, Store, Transaction, Watch,
};

use crate::backend::Backend;

pub(crate) fn put_op(key: &str, value: &[u8]) -> Operation {
    Operation::Put { key: key.to_owned(), value: value.to_vec(), lease: 0 }
}

pub(crate) async fn write(store: &dyn Store, operations: Vec<Operation>) -> i64 {
    match store.transact(Transaction { compares: Vec::new(), operations }).await.unwrap() {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict { .. } => panic!("nothing was compared"),
    }
}

pub(crate) async fn put(store: &dyn Store, key: &str, value: &str) -> i64 {
    write(store, vec![put_op(key, value.as_bytes())]).await
}

pub(crate) async fn delete(store: &dyn Store, key: &str) -> i64 {
    write(store, vec![Operation::Delete(key.to_owned())]).await
}

async fn next(watch: &mut Watch) -> Result<EventBatch, StoreError> {
    let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    next.expect("something within twenty seconds").expect("the watch goes on")
}

fn keys(batch: &EventBatch) -> Vec<String> {
    let key = |event: &Event| match event {
        Event::Put(kv) => format!("+{}", kv.key),
        Event::Delete { key, .. } => format!("-{key}"),
    };
    batch.events.iter().map(key).collect()
}

pub(crate) async fn get_and_list(backend: &mut Backend) {
    let store = backend.store.as_ref();
    assert_eq!(store.get("/t/a").await.unwrap(), None);
    let created = put(store, "/t/a", "1").await;
    let changed = put(store, "/t/a", "2").await;
    assert_eq!(changed, created + 1);
    let a = KeyValue {
        key: "/t/a".to_owned(),
        value: b"2".to_vec(),
        create_revision: created,
        mod_revision: changed,
    };
    assert_eq!(store.get("/t/a").await.unwrap().as_ref(), Some(&a));
    put(store, "/t/ab", "x").await;
    put(store, "/tz", "x").await;
    let last = put(store, "/t0", "x").await;
    let listing = store.list("/t/").await.unwrap();
    assert_eq!(listing.revision, last);
    let found: Vec<&str> = listing.entries.iter().map(|kv| kv.key.as_str()).collect();
    assert_eq!(found, ["/t/a", "/t/ab"]);
    assert_eq!(listing.entries[0], a);
    let none = store.list("/nothing/").await.unwrap();
    assert_eq!((none.revision, none.entries.len()), (last, 0));
    assert_eq!(delete(store, "/t/a").await, last + 1);
    assert_eq!(store.get("/t/a").await.unwrap(), None);
    // Removing what is not there succeeds and changes nothing.
    assert_eq!(delete(store, "/t/a").await, last + 1);
}

/// More keys than a page has, larger than gRPC's usual limit, while somebody writes.
pub(crate) async fn lists_are_of_one_revision(backend: &mut Backend) {
    let store = backend.store.clone();
    let value = vec![b'x'; 3000];
    for chunk in 0..24 {
        let key = |i: usize| format!("/t/{:05}", chunk * 100 + i);
        write(store.as_ref(), (0..100).map(|i| put_op(&key(i), &value)).collect()).await;
    }
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writer = store.clone();
    // Two keys, far apart, that always change together.
    let pair = |value: &str| vec![put_op("/t/00000", value.as_bytes()), put_op("/t/99999", value.as_bytes())];
    write(store.as_ref(), pair("start")).await;
    let writing = tokio::spawn(async move {
        let mut round = 0;
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            write(writer.as_ref(), pair(&round.to_string())).await;
            round += 1;
        }
    });
    for _ in 0..5 {
        let listing = store.list("/t/").await.unwrap();
        assert_eq!(listing.entries.len(), 2401);
        assert!(listing.entries.is_sorted_by(|a, b| a.key < b.key));
        let (first, last) = (&listing.entries[0], &listing.entries[2400]);
        assert_eq!((&first.value, first.mod_revision), (&last.value, last.mod_revision));
        assert!(listing.entries.iter().all(|kv| kv.mod_revision <= listing.revision));
    }
    stop.send(()).unwrap();
    writing.await.unwrap();
}

pub(crate) async fn compares_decide(backend: &mut Backend) {
    let store = backend.store.as_ref();
    let attempt = async |compare: Compare| {
        let transaction =
            Transaction { compares: vec![compare], operations: vec![put_op("/t/result", b"x")] };
        matches!(store.transact(transaction).await.unwrap(), Outcome::Committed { .. })
    };
    let absent = |key: &str| Compare::Absent(key.to_owned());
    let at = |key: &str, revision| Compare::ModRevision(key.to_owned(), revision);
    assert!(attempt(absent("/t/a")).await);
    assert!(!attempt(at("/t/a", 0)).await, "a mod revision means that the key is there");
    assert!(!attempt(at("/t/a", 1)).await);
    let created = put(store, "/t/a", "1").await;
    assert!(!attempt(absent("/t/a")).await);
    assert!(attempt(at("/t/a", created)).await);
    let changed = put(store, "/t/a", "1").await;
    assert!(!attempt(at("/t/a", created)).await);
    assert!(attempt(at("/t/a", changed)).await);
    delete(store, "/t/a").await;
    assert!(!attempt(at("/t/a", changed)).await);
    assert!(attempt(absent("/t/a")).await);
}

pub(crate) async fn transactions_are_atomic(backend: &mut Backend) {
    let store = backend.store.as_ref();
    let a = put(store, "/t/a", "1").await;
    let b = put(store, "/t/b", "1").await;
    let both = |a_revision| Transaction {
        compares: vec![
            Compare::ModRevision("/t/a".to_owned(), a_revision),
            Compare::ModRevision("/t/b".to_owned(), b),
            Compare::Absent("/t/c".to_owned()),
        ],
        operations: vec![
            put_op("/t/a", b"2"),
            Operation::Delete("/t/b".to_owned()),
            put_op("/t/c", b"new"),
            Operation::Delete("/t/absent".to_owned()),
        ],
    };
    let conflict = store.transact(both(a - 1)).await.unwrap();
    let Outcome::Conflict { current, revision } = conflict else { panic!("{conflict:?}") };
    assert_eq!(revision, b, "nothing was written");
    let seen: Vec<(&str, &[u8], i64)> =
        current.iter().map(|kv| (kv.key.as_str(), kv.value.as_slice(), kv.mod_revision)).collect();
    assert_eq!(seen, [("/t/a", b"1".as_slice(), a), ("/t/b", b"1".as_slice(), b)]);

    assert_eq!(store.transact(both(a)).await.unwrap(), Outcome::Committed { revision: b + 1 });
    let listing = store.list("/t/").await.unwrap();
    let seen: Vec<(&str, i64, i64)> =
        listing.entries.iter().map(|kv| (kv.key.as_str(), kv.create_revision, kv.mod_revision)).collect();
    assert_eq!(seen, [("/t/a", a, b + 1), ("/t/c", b + 1, b + 1)]);
    let nothing = Transaction { compares: Vec::new(), operations: Vec::new() };
    assert_eq!(store.transact(nothing).await.unwrap(), Outcome::Committed { revision: b + 1 });
}

pub(crate) async fn malformed_transactions_are_refused(backend: &mut Backend) {
    let store = backend.store.as_ref();
    let before = put(store, "/t/a", "1").await;
    let many = |count| (0..count).map(|i| put_op(&format!("/t/{i}"), b"")).collect::<Vec<_>>();
    let unknown_lease = Operation::Put { key: "/t/l".to_owned(), value: Vec::new(), lease: 4711 };
    for operations in [
        vec![put_op("/t/x", b"1"), put_op("/t/x", b"2")],
        vec![put_op("/t/x", b"1"), Operation::Delete("/t/x".to_owned())],
        vec![put_op("/t/x", b"1"), put_op("", b"2")],
        vec![put_op("/t/x", b"1"), unknown_lease],
        many(MAX_OPERATIONS + 1),
    ] {
        let refused = store.transact(Transaction { compares: Vec::new(), operations }).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    }
    assert_eq!(store.list("/t/").await.unwrap().revision, before);
    assert_eq!(write(store, many(MAX_OPERATIONS)).await, before + 1);
}

pub(crate) async fn counters_lose_no_increment(backend: &mut Backend) {
    let tasks = (0..6).map(|_| {
        let store = backend.store.clone();
        tokio::spawn(async move {
            for _ in 0..15 {
                increment(store.as_ref(), "/t/counter").await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(backend.store.get("/t/counter").await.unwrap().unwrap().value, b"90");
}

async fn increment(store: &dyn Store, key: &str) {
    let mut present = store.get(key).await.unwrap();
    loop {
        let (compare, value) = match &present {
            None => (Compare::Absent(key.to_owned()), 0),
            Some(kv) => {
                let value: u32 = String::from_utf8(kv.value.clone()).unwrap().parse().unwrap();
                (Compare::ModRevision(key.to_owned(), kv.mod_revision), value)
            }
        };
        let operations = vec![put_op(key, (value + 1).to_string().as_bytes())];
        match store.transact(Transaction { compares: vec![compare], operations }).await.unwrap() {
            Outcome::Committed { .. } => return,
            Outcome::Conflict { mut current, .. } => present = current.pop(),
        }
    }
}

pub(crate) async fn watches_deliver_whole_revisions_in_order(backend: &mut Backend) {
    let store = backend.store.as_ref();
    let start = put(store, "/t/a", "1").await;
    put(store, "/other", "1").await;
    let together = write(
        store,
        vec![
            put_op("/t/b", b"1"),
            put_op("/other", b"2"),
            Operation::Delete("/t/a".to_owned()),
            put_op("/t/c", b""),
        ],
    )
    .await;
    let mut watch = store.watch("/t/", start).await.unwrap();
    let first = next(&mut watch).await.unwrap();
    assert_eq!((first.revision, keys(&first)), (start, vec!["+/t/a".to_owned()]));
    let second = next(&mut watch).await.unwrap();
    assert_eq!(second.revision, together);
    assert_eq!(keys(&second), ["+/t/b", "-/t/a", "+/t/c"]);
    let Event::Put(b) = &second.events[0] else { panic!("{second:?}") };
    assert_eq!(
        (b.value.as_slice(), b.create_revision, b.mod_revision),
        (b"1".as_slice(), together, together)
    );
    assert_eq!(second.events[1], Event::Delete { key: "/t/a".to_owned(), mod_revision: together });

    put(store, "/other", "3").await;
    let live = delete(store, "/t/b").await;
    let third = next(&mut watch).await.unwrap();
    assert_eq!((third.revision, keys(&third)), (live, vec!["-/t/b".to_owned()]));
}

pub(crate) async fn watches_resume_without_loss_or_repetition(backend: &mut Backend) {
    let store = backend.store.clone();
    let start = put(store.as_ref(), "/t/0", "").await;
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for i in 1..=300 {
            put(writer.as_ref(), &format!("/t/{}", i % 7), &i.to_string()).await;
        }
    });
    // A reader that keeps only the state a listing would show, and loses its watch all the time.
    let mut seen = start;
    let mut state: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    while seen < start + 300 {
        let mut watch = store.watch("/t/", seen + 1).await.unwrap();
        for _ in 0..17 {
            let batch = next(&mut watch).await.unwrap();
            assert_eq!(batch.revision, seen + 1, "a revision is missing or comes again");
            seen = batch.revision;
            for event in batch.events {
                let Event::Put(kv) = event else { panic!("{event:?}") };
                state.insert(kv.key, kv.value);
            }
            if seen == start + 300 {
                break;
            }
        }
    }
    writing.await.unwrap();
    let listing = store.list("/t/").await.unwrap();
    let listed: BTreeMap<String, Vec<u8>> =
        listing.entries.into_iter().map(|kv| (kv.key, kv.value)).collect();
    assert_eq!(state, listed);
}

pub(crate) async fn a_future_revision_is_waited_for(backend: &mut Backend) {
    let store = backend.store.as_ref();
    let now = put(store, "/t/a", "1").await;
    let mut watch = store.watch("/t/", now + 3).await.unwrap();
    for value in ["2", "3", "4"] {
        put(store, "/t/a", value).await;
    }
    assert_eq!(next(&mut watch).await.unwrap().revision, now + 3);
}

pub(crate) async fn a_compacted_watch_says_so(backend: &mut Backend) {
    let store = backend.store.clone();
    let start = put(store.as_ref(), "/t/a", "1").await;
    let deleted = delete(store.as_ref(), "/t/a").await;
    put(store.as_ref(), "/t/b", "1").await;
    backend.compact(deleted).await;
    let mut watch = store.watch("/t/", start).await.unwrap();
    let error = next(&mut watch).await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { requested, .. } if requested == start), "{error}");
    assert!(watch.next().await.is_none(), "nothing follows an error");

    // At the compacted revision itself either everything comes or an error; a delete must not be lost.
    let mut watch = store.watch("/t/", deleted).await.unwrap();
    match next(&mut watch).await {
        Ok(batch) => assert_eq!((batch.revision, keys(&batch)), (deleted, vec!["-/t/a".to_owned()])),
        Err(error) => assert!(matches!(error, StoreError::Compacted { .. }), "{error}"),
    }
    let mut watch = store.watch("/t/", deleted + 1).await.unwrap();
    assert_eq!(keys(&next(&mut watch).await.unwrap()), ["+/t/b"]);
}

/// A transaction close to etcd's limit of a request, read by a watch in fragments.
pub(crate) async fn large_revisions_stay_whole(backend: &mut Backend) {
    let store = backend.store.as_ref();
    let value = vec![b'v'; 14_000];
    let start = put(store, "/t/first", "").await;
    let large = write(store, (0..100).map(|i| put_op(&format!("/t/{i:03}"), &value)).collect()).await;
    let last = put(store, "/t/last", "").await;
    for round in 0..2 {
        let mut watch = store.watch("/t/", start + 1).await.unwrap();
        let batch = next(&mut watch).await.unwrap();
        assert_eq!((batch.revision, batch.events.len()), (large, 100), "round {round}");
        assert_eq!(next(&mut watch).await.unwrap().revision, last);
    }
}

pub(crate) async fn leases_take_their_keys_with_them(backend: &mut Backend) {
    let store = backend.store.as_ref();
    let short = store.grant_lease(2).await.unwrap();
    let kept = store.grant_lease(2).await.unwrap();
    assert_ne!(short, kept);
    let leased = |key: &str, lease| Operation::Put { key: key.to_owned(), value: b"x".to_vec(), lease };
    let start =
        write(store, vec![leased("/t/short", short), leased("/t/kept", kept), leased("/t/freed", short)])
            .await;
    // A later write without the lease takes the key off it.
    put(store, "/t/freed", "y").await;
    let mut watch = store.watch("/t/", start + 2).await.unwrap();
    let begun = Instant::now();
    let batch = loop {
        assert!(store.keep_alive(kept).await.unwrap());
        match tokio::time::timeout(Duration::from_millis(500), watch.next()).await {
            Ok(batch) => break batch.unwrap().unwrap(),
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(15), "the lease does not end"),
        }
    };
    assert_eq!(keys(&batch), ["-/t/short"]);
    assert!(begun.elapsed() > Duration::from_millis(1500), "the lease ended after {:?}", begun.elapsed());
    assert!(!store.keep_alive(short).await.unwrap());
    assert!(store.get("/t/kept").await.unwrap().is_some());
    assert!(store.get("/t/freed").await.unwrap().is_some());
}

pub(crate) async fn a_dead_server_is_an_error_in_time(backend: &mut Backend) {
    let store = backend.store.clone();
    let start = put(store.as_ref(), "/t/a", "1").await;
    let mut watch = store.watch("/t/", start + 1).await.unwrap();
    let url = backend.url();
    backend.stop().await;
    let ended = next(&mut watch).await.unwrap_err();
    assert!(matches!(ended, StoreError::Unavailable { .. }), "{ended}");
    assert!(watch.next().await.is_none());
    let begun = Instant::now();
    let read = store.get("/t/a").await.unwrap_err();
    let write = Transaction { compares: Vec::new(), operations: vec![put_op("/t/a", b"2")] };
    let write = store.transact(write).await.unwrap_err();
    let watch = store.watch("/t/", start + 1).await.unwrap_err();
    for error in [read, write, watch] {
        let text = error.to_string();
        assert!(text.starts_with(&format!("datastore unreachable at {url}: ")), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}
