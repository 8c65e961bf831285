//! A store that fails at its n-th call, before or after doing it: whatever n, repeating the request or giving up leaves
//! nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use tortie_datastore::ipam::Ipam;
use tortie_datastore::memory::MemoryStore;
use tortie_datastore::store::{KeyValue, Listing, Outcome, Transaction, Watch};
use tortie_datastore::{Client, Store, StoreError};

use crate::audit::audit;
use crate::fixture::{
    endpoint_key, ipam, memory, nothing_else, pool, populate, want, with_endpoint, without_endpoint,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The request never arrived.
    Before,
    /// It was carried out, its answer got lost.
    After,
}

#[derive(Debug)]
struct FailingStore {
    inner: MemoryStore,
    calls_left: AtomicI64,
    fault: Fault,
}

impl FailingStore {
    /// Whether this call fails; every later one fails too, as after a crash.
    fn fails(&self) -> bool {
        self.calls_left.fetch_sub(1, Ordering::Relaxed) <= 0
    }

    fn error() -> StoreError {
        StoreError::Unavailable { endpoints: "test".into(), reason: "as told".into() }
    }
}

#[async_trait]
impl Store for FailingStore {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        if self.fails() { Err(Self::error()) } else { self.inner.get(key).await }
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        if self.fails() { Err(Self::error()) } else { self.inner.list(prefix).await }
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let before = self.calls_left.load(Ordering::Relaxed);
        if self.fails() {
            if self.fault == Fault::After && before == 0 {
                self.inner.transact(transaction).await?;
            }
            return Err(Self::error());
        }
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

/// A world in which `a` has an address, seen through a store that fails after `calls` calls, and a sound one.
async fn world(calls: i64, fault: Fault) -> (Ipam, Client) {
    let inner = MemoryStore::default();
    // Two blocks of one address each, so that the second workload has to claim one.
    let sound = populate(Arc::new(inner.clone()), &["n1"], &[pool("p", "10.65.0.0/30", 32)]).await;
    ipam(&sound).assign(&want("n1", "a"), with_endpoint("a")).await.unwrap();
    let failing = FailingStore { inner, calls_left: AtomicI64::new(calls), fault };
    (ipam(&Client::new(Arc::new(failing))), sound)
}

/// Every address is in the endpoint of its holder, and every endpoint's address is held.
async fn nothing_leaked(client: &Client, handles: &[&str]) {
    let audit = audit(client).await;
    assert_eq!(audit.held.keys().collect::<Vec<_>>(), handles);
    for handle in handles {
        let endpoint = client.store().get(&endpoint_key(handle)).await.unwrap().unwrap();
        let addresses: Vec<std::net::IpAddr> = serde_json::from_slice(&endpoint.value).unwrap();
        assert_eq!(addresses, audit.held[*handle].iter().copied().collect::<Vec<_>>());
    }
}

/// Runs `scenario` with a fault at every call until one run has none left; returns how many failed.
async fn at_every_call(fault: Fault, scenario: impl AsyncFn(&Ipam, &Client) -> bool) -> i64 {
    for calls in 0..100 {
        let (failing, sound) = world(calls, fault).await;
        if scenario(&failing, &sound).await {
            return calls;
        }
    }
    panic!("no run without fault");
}

#[tokio::test]
async fn an_interrupted_add_repeated_or_undone_leaks_nothing() {
    for fault in [Fault::Before, Fault::After] {
        let failed = at_every_call(fault, async |failing, sound| {
            let done = failing.assign(&want("n1", "b"), with_endpoint("b")).await.is_ok();
            ipam(sound).assign(&want("n1", "b"), with_endpoint("b")).await.unwrap();
            nothing_leaked(sound, &["a", "b"]).await;
            done
        })
        .await;
        assert!(failed >= 5, "{failed}");
        at_every_call(fault, async |failing, sound| {
            let done = failing.assign(&want("n1", "b"), with_endpoint("b")).await.is_ok();
            ipam(sound).release_by_handle("b", without_endpoint("b")).await.unwrap();
            nothing_leaked(sound, &["a"]).await;
            done
        })
        .await;
    }
}

#[tokio::test]
async fn an_interrupted_delete_repeated_leaks_nothing() {
    for fault in [Fault::Before, Fault::After] {
        let failed = at_every_call(fault, async |failing, sound| {
            let done = failing.release_by_handle("a", without_endpoint("a")).await.is_ok();
            let held = audit(sound).await.held.len();
            let endpoint = sound.store().get(&endpoint_key("a")).await.unwrap();
            assert_eq!(held == 1, endpoint.is_some(), "endpoint and address go together");
            ipam(sound).release_by_handle("a", without_endpoint("a")).await.unwrap();
            nothing_leaked(sound, &[]).await;
            done
        })
        .await;
        assert_eq!(failed, 4, "configuration, handle, block, transaction");
    }
}

/// A store at which others write the same block before each of our transactions.
#[derive(Debug)]
struct ContendedStore {
    client: Client,
    rounds: AtomicI64,
}

#[async_trait]
impl Store for ContendedStore {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.client.store().get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.client.store().list(prefix).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        if self.rounds.fetch_sub(1, Ordering::Relaxed) > 0 {
            ipam(&self.client).assign(&want("n1", "other"), nothing_else).await.unwrap();
        }
        self.client.store().transact(transaction).await
    }

    async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Watch, StoreError> {
        self.client.store().watch(prefix, start_revision).await
    }

    async fn grant_lease(&self, seconds: i64) -> Result<i64, StoreError> {
        self.client.store().grant_lease(seconds).await
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        self.client.store().keep_alive(lease).await
    }
}

#[tokio::test]
async fn conflicts_are_retried_a_hundred_times() {
    for (rounds, succeeds) in [(99, true), (100, false)] {
        let client = memory(&["n1"], &[pool("p", "10.65.0.0/24", 26)]).await;
        let store = ContendedStore { client: client.clone(), rounds: AtomicI64::new(rounds) };
        let contended = ipam(&Client::new(Arc::new(store)));
        let result = contended.assign(&want("n1", "mine"), nothing_else).await;
        assert_eq!(result.is_ok(), succeeds, "{result:?}");
        if let Err(error) = result {
            assert_eq!(error.to_string(), "gave up after 100 conflicting writes by others; try again");
        }
        audit(&client).await;
    }
}
