//! How often an operation asks the store, and that what it remembers never makes it wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tortie_datastore::ipam::{Extra, Ipam, IpamError};
use tortie_datastore::memory::MemoryStore;
use tortie_datastore::store::{KeyValue, Listing, Outcome, Transaction, Watch};
use tortie_datastore::{Client, Store, StoreError};
use tortie_model::ipam::IpamConfig;
use tortie_model::resource::{IpPool, IpPoolSpec, NodeSpec};
use tortie_model::{AnyResource, Key, Kind};

use crate::audit::audit;
use crate::fixture::{
    configure, endpoint_key, ip, ipam, net, nothing_else, pool, populate, put, want, with_endpoint,
    without_endpoint,
};

/// A store that counts what it is asked.
#[derive(Debug, Default)]
struct Counting {
    inner: MemoryStore,
    reads: AtomicUsize,
    transactions: AtomicUsize,
}

impl Counting {
    /// Reads and transactions since the last time.
    fn take(&self) -> (usize, usize) {
        (self.reads.swap(0, Ordering::Relaxed), self.transactions.swap(0, Ordering::Relaxed))
    }
}

#[async_trait]
impl Store for Counting {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.inner.transact(transaction).await
    }

    async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Watch, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.watch(prefix, start_revision).await
    }

    async fn grant_lease(&self, seconds: i64) -> Result<i64, StoreError> {
        self.inner.grant_lease(seconds).await
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        self.inner.keep_alive(lease).await
    }
}

/// A node that has had its first address, its allocator, and another client of the same store.
struct World {
    store: Arc<Counting>,
    ipam: Ipam,
    other: Client,
}

impl World {
    async fn new(pools: &[IpPool]) -> World {
        let store = Arc::new(Counting::default());
        let other = populate(Arc::new(store.inner.clone()), &["n1", "n2"], pools).await;
        let ipam = ipam(&Client::new(store.clone()));
        ipam.assign(&want("n1", "first"), nothing_else).await.unwrap();
        store.take();
        World { store, ipam, other }
    }
}

#[tokio::test]
async fn an_address_from_a_known_block_costs_one_round_trip() {
    let world = World::new(&[pool("p", "10.65.0.0/24", 26)]).await;
    for n in 0..20 {
        let handle = format!("net.c{n}");
        let change = world.ipam.assign(&want("n1", &handle), with_endpoint(&handle)).await.unwrap();
        assert_eq!(world.store.take(), (0, 1), "{handle}: nothing is read, one transaction");
        assert_eq!((change.addresses.len(), change.attempts), (1, 1));
    }
    let found = audit(&world.other).await;
    assert_eq!((found.held.len(), found.blocks.len()), (21, 1));
    for n in 0..20 {
        let handle = format!("net.c{n}");
        world.ipam.release_by_handle(&handle, without_endpoint(&handle)).await.unwrap();
        assert_eq!(world.store.take(), (2, 1), "{handle}: configuration and handle at once, one transaction");
    }
    assert_eq!(audit(&world.other).await.held.len(), 1);
}

#[tokio::test]
async fn both_families_cost_one_round_trip_once_both_are_known() {
    let world = World::new(&[pool("p", "10.65.0.0/24", 26), pool("six", "fd00::/120", 122)]).await;
    let dual = |handle: &str| tortie_datastore::ipam::AssignRequest { ipv6: 1, ..want("n1", handle) };
    world.ipam.assign(&dual("a"), nothing_else).await.unwrap();
    world.store.take();
    assert_eq!(world.ipam.assign(&dual("b"), nothing_else).await.unwrap().addresses.len(), 2);
    assert_eq!(world.store.take(), (0, 1));
    audit(&world.other).await;
}

#[tokio::test]
async fn a_block_changed_by_others_costs_one_more_and_no_read() {
    let world = World::new(&[pool("p", "10.65.0.0/26", 26)]).await;
    ipam(&world.other).assign(&want("n2", "borrower"), nothing_else).await.unwrap();
    let change = world.ipam.assign(&want("n1", "a"), with_endpoint("a")).await.unwrap();
    assert_eq!((world.store.take(), change.attempts), ((0, 2), 2), "the conflict said what the block holds");
    assert_eq!(audit(&world.other).await.held.len(), 3);
}

#[tokio::test]
async fn a_handle_that_is_there_is_read_with_its_blocks() {
    let world = World::new(&[pool("p", "10.65.0.0/26", 26)]).await;
    let first = ipam(&world.other).assign(&want("n1", "a"), nothing_else).await.unwrap();
    let again = world.ipam.assign(&want("n1", "a"), with_endpoint("a")).await.unwrap();
    assert_eq!(first.addresses, again.addresses);
    assert!(world.other.store().get(&endpoint_key("a")).await.unwrap().is_some());
    audit(&world.other).await;
}

#[tokio::test]
async fn a_release_by_what_is_remembered_is_made_sure_of() {
    let world = World::new(&[pool("p", "10.65.0.0/26", 26)]).await;
    ipam(&world.other).assign(&want("n1", "a"), with_endpoint("a")).await.unwrap();
    let change = world.ipam.release_by_handle("a", without_endpoint("a")).await.unwrap();
    assert_eq!((change.addresses.len(), change.attempts), (1, 2), "the block remembered knows nothing of it");
    assert_eq!(audit(&world.other).await.held.keys().collect::<Vec<_>>(), ["first"]);
}

#[tokio::test]
async fn a_block_lost_to_others_is_not_used() {
    let world = World::new(&[pool("p", "10.65.0.0/24", 30)]).await;
    let lost = audit(&world.other).await.blocks.into_keys().next().unwrap();
    let others = ipam(&world.other);
    others.release_by_handle("first", Extra::default()).await.unwrap();
    others.release_host_affinities("n1", true).await.unwrap();
    let mut there = want("n2", "theirs");
    there.addresses = vec![lost.network()];
    there.ipv4 = 0;
    others.assign(&there, nothing_else).await.unwrap();
    let address = world.ipam.assign(&want("n1", "a"), nothing_else).await.unwrap().addresses[0];
    assert!(!lost.contains(address), "{address} is out of a block of n2");
    assert_eq!(audit(&world.other).await.blocks[&lost].host(), Some("n2"));
}

#[tokio::test]
async fn a_claim_about_to_be_given_up_is_made_sure_of_again() {
    let world = World::new(&[pool("p", "10.65.0.0/26", 26)]).await;
    let block = net("10.65.0.0/26");
    let key = Key::BlockAffinity { host: "n1".into(), block }.to_string();
    put(&world.other, &key, br#"{"state":"pendingDeletion","deleted":false}"#.to_vec()).await;
    world.ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
    audit(&world.other).await;
}

async fn change_pool(client: &Client, change: impl Fn(&mut IpPoolSpec)) {
    let mut pool = client.find::<IpPoolSpec>(None, "p").await.unwrap().unwrap();
    change(&mut pool.spec);
    client.update(AnyResource::from(pool)).await.unwrap();
}

#[tokio::test]
async fn a_pool_disabled_meanwhile_gives_nothing() {
    let world = World::new(&[pool("p", "10.65.0.0/26", 26)]).await;
    change_pool(&world.other, |spec| spec.disabled = true).await;
    let error = world.ipam.assign(&want("n1", "a"), nothing_else).await.unwrap_err();
    assert!(matches!(error, IpamError::NoPool { .. }), "{error}");
    change_pool(&world.other, |spec| spec.disabled = false).await;
    world.ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
}

#[tokio::test]
async fn a_node_or_a_configuration_changed_meanwhile_is_honoured() {
    let world = World::new(&[pool("p", "10.65.0.0/26", 26)]).await;
    change_pool(&world.other, |spec| spec.node_selector = Some("!has(spare)".into())).await;
    world.ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
    let mut node = world.other.find::<NodeSpec>(None, "n1").await.unwrap().unwrap();
    node.metadata.labels.insert("spare".into(), "yes".into());
    world.other.update(node.into()).await.unwrap();
    let error = world.ipam.assign(&want("n1", "b"), nothing_else).await.unwrap_err();
    assert!(matches!(error, IpamError::NoPool { .. }), "{error}");

    let world = World::new(&[pool("p", "10.65.0.0/30", 30)]).await;
    configure(&world.other, IpamConfig { ip_cooldown_seconds: 60, ..IpamConfig::absent() }).await;
    world.ipam.release_by_handle("first", Extra::default()).await.unwrap();
    for handle in ["b", "c", "d"] {
        world.ipam.assign(&want("n1", handle), nothing_else).await.unwrap();
    }
    let error = world.ipam.assign(&want("n1", "e"), nothing_else).await.unwrap_err();
    assert!(matches!(error, IpamError::Exhausted { .. }), "the released address cools down: {error}");
}

#[tokio::test]
async fn a_node_deleted_meanwhile_gets_nothing() {
    let world = World::new(&[pool("p", "10.65.0.0/26", 26)]).await;
    let id = tortie_datastore::client::Identifier { kind: Kind::Node, namespace: None, name: "n1".into() };
    world.other.delete(&id, None).await.unwrap();
    let error = world.ipam.assign(&want("n1", "a"), nothing_else).await.unwrap_err();
    assert!(matches!(error, IpamError::NoNode { .. }), "{error}");
}

#[tokio::test]
async fn a_new_reservation_is_learned_without_reading() {
    let world = World::new(&[pool("p", "10.65.0.0/30", 30)]).await;
    let key = "/calico/resources/v3/projectcalico.org/ipreservations/r";
    put(&world.other, key, br#"{"spec":{"reservedCIDRs":["10.65.0.1/32"]}}"#.to_vec()).await;
    // The store in memory hands events on by a task of its own.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let change = world.ipam.assign(&want("n1", "a"), nothing_else).await.unwrap();
    assert_eq!(change.addresses, [ip("10.65.0.2")]);
}
