//! The service over a store in memory, a kernel of maps and a data plane that obeys, with faults wherever it looks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tortie_datastore::memory::MemoryStore;
use tortie_datastore::store::{KeyValue, Listing, Outcome, Transaction, Watch};
use tortie_datastore::syncer::Value;
use tortie_datastore::{Store, StoreError};
use tortie_model::ipam::Block;
use tortie_model::local_api::PodName;
use tortie_model::resource::{IpPool, IpPoolSpec, Node, NodeSpec, ProfileSpec, WorkloadEndpointSpec};
use tortie_model::{AnyResource, Key, Kind, ObjectMeta};

use super::*;
use crate::desired::Wired;
use crate::workload::ErrorKind;
use crate::workload::wiring::{HostLink, Wire, WiringError};

mod abandoned;
mod faults;
mod order;

/// Calls that still succeed; shared by store and kernel, so that a fault can hit anywhere.
#[derive(Clone, Debug)]
struct Faults {
    calls_left: Arc<AtomicI64>,
    /// Whether all calls after the fault fail too, as when the process dies.
    for_good: bool,
    /// Whether the failing call takes effect nevertheless.
    takes_effect: bool,
}

impl Faults {
    fn none() -> Faults {
        Faults::after(i64::MAX, false, false)
    }

    fn after(calls: i64, for_good: bool, takes_effect: bool) -> Faults {
        Faults { calls_left: Arc::new(AtomicI64::new(calls)), for_good, takes_effect }
    }

    /// Whether this call fails, and whether it takes effect.
    fn next(&self) -> (bool, bool) {
        let left = self.calls_left.fetch_sub(1, Ordering::Relaxed);
        let fails = left == 0 || (left < 0 && self.for_good);
        (fails, !fails || (left == 0 && self.takes_effect))
    }
}

/// No index is given twice.
static NEXT_INDEX: AtomicU32 = AtomicU32::new(10);

/// Host interfaces by name.
type Links = Arc<Mutex<BTreeMap<String, HostLink>>>;

#[derive(Clone, Debug)]
struct FakeKernel {
    links: Links,
    faults: Faults,
}

impl FakeKernel {
    fn call<T>(&self, work: impl FnOnce(&mut BTreeMap<String, HostLink>) -> T) -> Result<T, WiringError> {
        let (fails, effect) = self.faults.next();
        let failure =
            || WiringError::Kernel { action: "do as asked".into(), source: std::io::Error::other("as told") };
        if !effect {
            return Err(failure());
        }
        let result = work(&mut self.links.lock().unwrap());
        if fails { Err(failure()) } else { Ok(result) }
    }
}

impl Wiring for FakeKernel {
    fn find(&self, host_interface: &str) -> Result<Option<HostLink>, WiringError> {
        self.call(|links| links.get(host_interface).cloned())
    }

    fn create(&self, wire: &Wire) -> Result<u32, WiringError> {
        self.call(|links| {
            let index = NEXT_INDEX.fetch_add(1, Ordering::Relaxed);
            let link = HostLink { owner: Some(wire.owner.clone()), index, mac: HOST_MAC, mtu: wire.mtu };
            let before = links.insert(wire.host_interface.clone(), link);
            assert_eq!(before, None, "the kernel refuses a second {}", wire.host_interface);
            index
        })
    }

    fn remove(&self, host_interface: &str) -> Result<(), WiringError> {
        self.call(|links| drop(links.remove(host_interface)))
    }

    fn verify(&self, _: &Wire) -> Result<(), WiringError> {
        self.call(|_| ())
    }
}

#[derive(Debug)]
struct FaultyStore {
    inner: MemoryStore,
    faults: Faults,
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { endpoints: "test".into(), reason: "as told".into() }
}

#[async_trait]
impl Store for FaultyStore {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        if self.faults.next().0 { Err(unavailable()) } else { self.inner.get(key).await }
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        if self.faults.next().0 { Err(unavailable()) } else { self.inner.list(prefix).await }
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let (fails, effect) = self.faults.next();
        if !effect {
            return Err(unavailable());
        }
        let outcome = self.inner.transact(transaction).await?;
        if fails { Err(unavailable()) } else { Ok(outcome) }
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

/// What outlives a process: the datastore and the kernel.
#[derive(Clone, Debug)]
struct World {
    store: MemoryStore,
    links: Links,
}

impl World {
    async fn new() -> World {
        let world = World { store: MemoryStore::default(), links: Links::default() };
        let client = world.client();
        client.create(Node::new(ObjectMeta::named("n1"), NodeSpec::default()).into()).await.unwrap();
        let cidr = "10.65.0.0/24".parse().unwrap();
        let pool = IpPool::new(ObjectMeta::named("p"), IpPoolSpec { cidr, ..IpPoolSpec::default() });
        client.create(pool.into()).await.unwrap();
        world
    }

    fn client(&self) -> Client {
        Client::new(Arc::new(self.store.clone()))
    }

    /// A process of the agent, with a data plane that obeys.
    fn agent(&self, faults: &Faults) -> Service {
        let (service, applied, updates) = self.agent_without_data_plane(faults);
        tokio::spawn(obey(Arc::clone(&self.links), applied, updates));
        service
    }

    fn agent_without_data_plane(
        &self,
        faults: &Faults,
    ) -> (Service, watch::Sender<Arc<Applied>>, mpsc::Receiver<Vec<Update>>) {
        let store = FaultyStore { inner: self.store.clone(), faults: faults.clone() };
        let client = Client::new(Arc::new(store));
        let (applied, applied_reader) = watch::channel(Arc::new(Applied::default()));
        let (updates, updates_reader) = mpsc::channel(64);
        let (_, mtu) = watch::channel(1480);
        let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let config = ServiceConfig {
            ipam: Ipam::new(client.clone(), now),
            wiring: Arc::new(FakeKernel { links: Arc::clone(&self.links), faults: faults.clone() }),
            now,
            ..ServiceConfig::new(client, "n1", mtu)
        };
        (Service::new(config, applied_reader, updates), applied, updates_reader)
    }

    /// Every address in use, with the endpoint that has it; panics when they disagree. Then every host interface.
    async fn state(&self) -> (BTreeMap<IpAddr, String>, Vec<String>) {
        let mut used = BTreeMap::new();
        let mut endpoints = BTreeMap::new();
        for kv in self.store.list("/").await.unwrap().entries {
            match Key::parse(&kv.key) {
                Some(Key::Block(_)) => {
                    let block: Block = serde_json::from_slice(&kv.value).unwrap();
                    block.check().unwrap();
                    let of = |owner: &tortie_model::ipam::AllocationAttribute| {
                        owner.handle_id.as_deref().and_then(|h| h.strip_prefix("net.")).unwrap().to_owned()
                    };
                    used.extend(block.in_use().map(|(address, owner)| (address, of(owner))));
                }
                Some(Key::Resource { kind: Kind::WorkloadEndpoint, namespace, name }) => {
                    let client = self.client();
                    let found = client.find::<WorkloadEndpointSpec>(namespace.as_deref(), &name).await;
                    let endpoint = found.unwrap().unwrap();
                    let container = endpoint.spec.container_id.clone();
                    endpoints.extend(addresses_of(&endpoint).into_iter().map(|a| (a, container.clone())));
                }
                _ => {}
            }
        }
        assert_eq!(used, endpoints, "no address without endpoint, no endpoint without address");
        let links = self.links.lock().unwrap();
        (used, links.values().map(|link| link.owner.clone().unwrap()).collect())
    }
}

/// Reports an interface once it knows its endpoint and the interface is there, until that changes.
async fn obey(links: Links, applied: watch::Sender<Arc<Applied>>, mut updates: mpsc::Receiver<Vec<Update>>) {
    let mut wanted: BTreeMap<Key, (String, Vec<IpAddr>)> = BTreeMap::new();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    loop {
        tokio::select! {
            batch = updates.recv() => for update in batch.into_iter().flatten() {
                wanted.remove(&update.key);
                let Some(Value::Resource(resource)) = update.value else { continue };
                let AnyResource::WorkloadEndpoint(endpoint) = *resource else { continue };
                wanted.insert(update.key, (endpoint.spec.interface_name.clone(), addresses_of(&endpoint)));
            },
            _ = tick.tick() => {}
            () = applied.closed() => return,
        }
        let links = links.lock().unwrap();
        let there = || wanted.values().filter(|(name, _)| links.contains_key(name));
        let state = Applied {
            ready: true,
            guarded: true,
            interfaces: there()
                .map(|(name, addresses)| {
                    let addresses = addresses.iter().copied().collect();
                    (name.clone(), Wired { index: links[name].index, addresses })
                })
                .collect(),
            ..Applied::default()
        };
        applied.send_if_modified(|now| {
            let changed = **now != state;
            *now = Arc::new(state);
            changed
        });
    }
}

fn request(container: &str) -> AttachRequest {
    AttachRequest {
        network: "net".into(),
        container_id: container.into(),
        netns: "/run/netns/x".into(),
        interface: "eth0".into(),
        ..AttachRequest::default()
    }
}

fn pod(container: &str) -> AttachRequest {
    let name = PodName { namespace: "shop".into(), name: "db-0".into() };
    AttachRequest { pod: Some(name), ..request(container) }
}

fn of(request: &AttachRequest) -> DetachRequest {
    DetachRequest {
        network: request.network.clone(),
        container_id: request.container_id.clone(),
        interface: request.interface.clone(),
        pod: request.pod.clone(),
    }
}
