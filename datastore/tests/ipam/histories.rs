//! Random histories of several nodes at a store that fails, with a clock that moves: no address is given twice, no live
//! address is lost, and after recovery nothing leaks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use tortie_datastore::ipam::{AssignRequest, Extra, Ipam, IpamError, Living, Suspects, find_leaks};
use tortie_datastore::memory::MemoryStore;
use tortie_datastore::store::{KeyValue, Listing, Operation, Outcome, Transaction, Watch};
use tortie_datastore::{Client, Store, StoreError};
use tortie_model::AnyResource;
use tortie_model::ipam::IpamConfig;
use tortie_model::resource::IpPoolSpec;

use crate::audit::audit;
use crate::fixture::{
    Time, configure, endpoint_key, pool, populate, put, want, with_endpoint, without_endpoint,
};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const WORKLOADS: usize = 6;
const GRACE: Duration = Duration::from_secs(900);

/// A store whose n-th call from now fails, before or after it took effect; no call does while `calls_left` is negative.
#[derive(Debug)]
struct Unreliable {
    inner: MemoryStore,
    calls_left: AtomicI64,
    after: std::sync::atomic::AtomicBool,
}

impl Unreliable {
    fn fails(&self) -> bool {
        self.calls_left.fetch_sub(1, Ordering::Relaxed) == 0
    }

    fn answer<T>(&self, fails: bool, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let failure = StoreError::Unavailable { endpoints: "test".into(), reason: "as told".into() };
        if fails { Err(failure) } else { answer }
    }
}

#[async_trait]
impl Store for Unreliable {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        let fails = self.fails();
        self.answer(fails, self.inner.get(key).await)
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let fails = self.fails();
        self.answer(fails, self.inner.list(prefix).await)
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let fails = self.fails();
        if fails && !self.after.load(Ordering::Relaxed) {
            return self.answer(true, Ok(Outcome::Committed { revision: 0 }));
        }
        self.answer(fails, self.inner.transact(transaction).await)
    }

    async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Watch, StoreError> {
        let fails = self.fails();
        self.answer(fails, self.inner.watch(prefix, start_revision).await)
    }

    async fn grant_lease(&self, seconds: i64) -> Result<i64, StoreError> {
        self.inner.grant_lease(seconds).await
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        self.inner.keep_alive(lease).await
    }
}

#[derive(Clone, Debug)]
enum Step {
    Attach {
        node: usize,
        workload: usize,
        addresses: usize,
        crash: Option<(u8, bool)>,
    },
    Detach {
        node: usize,
        workload: usize,
        crash: Option<(u8, bool)>,
    },
    /// The workload dies with nobody to detach it.
    Die {
        node: usize,
        workload: usize,
    },
    Upkeep {
        node: usize,
        crash: Option<(u8, bool)>,
    },
    Reconcile {
        node: usize,
        crash: Option<(u8, bool)>,
    },
    ReleaseAffinities {
        node: usize,
    },
    Wait {
        seconds: u64,
    },
    Pool {
        second: bool,
        disabled: bool,
    },
    Configure {
        strict: bool,
        cooldown: u32,
    },
    Reserve {
        first: bool,
    },
    /// Other clients left a claim of the node half done.
    HalfClaim {
        node: usize,
        block: u8,
        deleting: bool,
    },
}

fn crash() -> impl Strategy<Value = Option<(u8, bool)>> {
    prop_oneof![2 => Just(None), 1 => (0..12u8, any::<bool>()).prop_map(Some)]
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES.len();
    prop_oneof![
        8 => (node.clone(), 0..WORKLOADS, 1..4usize, crash()).prop_map(|(node, workload, addresses, crash)| {
            Step::Attach { node, workload, addresses, crash }
        }),
        4 => (node.clone(), 0..WORKLOADS, crash())
            .prop_map(|(node, workload, crash)| Step::Detach { node, workload, crash }),
        1 => (node.clone(), 0..WORKLOADS).prop_map(|(node, workload)| Step::Die { node, workload }),
        2 => (node.clone(), crash()).prop_map(|(node, crash)| Step::Upkeep { node, crash }),
        2 => (node.clone(), crash()).prop_map(|(node, crash)| Step::Reconcile { node, crash }),
        1 => node.clone().prop_map(|node| Step::ReleaseAffinities { node }),
        3 => prop_oneof![Just(20u64), Just(70), Just(1000)].prop_map(|seconds| Step::Wait { seconds }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(second, disabled)| Step::Pool { second, disabled }),
        1 => (any::<bool>(), prop_oneof![Just(0u32), Just(30)])
            .prop_map(|(strict, cooldown)| Step::Configure { strict, cooldown }),
        1 => any::<bool>().prop_map(|first| Step::Reserve { first }),
        1 => (node, 0..8u8, any::<bool>())
            .prop_map(|(node, block, deleting)| Step::HalfClaim { node, block, deleting }),
    ]
}

/// Three nodes in two pools of 16 addresses, in blocks of four.
struct World {
    time: Time,
    sound: Client,
    stores: Vec<Arc<Unreliable>>,
    allocators: Vec<Ipam>,
    suspects: Vec<Suspects>,
    /// Workloads that live, with the addresses they were told.
    alive: BTreeMap<(usize, usize), BTreeSet<IpAddr>>,
}

fn handle(node: usize, workload: usize) -> String {
    format!("net.{}-w{workload}", NODES[node])
}

impl World {
    async fn new() -> World {
        let inner = MemoryStore::default();
        let pools = [pool("a", "10.65.0.0/28", 30), pool("b", "10.66.0.0/28", 30)];
        let sound = populate(Arc::new(inner.clone()), &NODES, &pools).await;
        let time = Time::default();
        let stores: Vec<Arc<Unreliable>> = NODES
            .iter()
            .map(|_| {
                let calls_left = AtomicI64::new(-1);
                Arc::new(Unreliable { inner: inner.clone(), calls_left, after: false.into() })
            })
            .collect();
        let allocators = stores.iter().map(|store| time.ipam(&Client::new(store.clone()))).collect();
        let suspects = vec![Suspects::default(); NODES.len()];
        World { time, sound, stores, allocators, suspects, alive: BTreeMap::new() }
    }

    /// Runs something on a node. When the store fails the node's agent is killed and starts anew.
    async fn on<T>(
        &mut self,
        node: usize,
        crash: Option<(u8, bool)>,
        act: impl AsyncFn(&Ipam) -> Result<T, IpamError>,
    ) -> Option<T> {
        // Events of watches arrive meanwhile.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        let store = &self.stores[node];
        if let Some((calls, after)) = crash {
            store.after.store(after, Ordering::Relaxed);
            store.calls_left.store(i64::from(calls), Ordering::Relaxed);
        }
        let result = act(&self.allocators[node]).await;
        store.calls_left.store(-1, Ordering::Relaxed);
        match result {
            Ok(done) => Some(done),
            Err(IpamError::Store(_) | IpamError::Client(_)) => {
                assert!(crash.is_some(), "the store failed unasked");
                self.allocators[node] = self.time.ipam(&Client::new(self.stores[node].clone()));
                self.suspects[node] = Suspects::default();
                None
            }
            Err(IpamError::Exhausted { .. } | IpamError::BlockLimit { .. } | IpamError::NoPool { .. }) => {
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn attach(&mut self, node: usize, workload: usize, addresses: usize, crash: Option<(u8, bool)>) {
        let handle = handle(node, workload);
        if self.alive.contains_key(&(node, workload)) {
            return;
        }
        let request = AssignRequest { ipv4: addresses, ..want(NODES[node], &handle) };
        let assigned =
            self.on(node, crash, async |ipam| ipam.assign(&request, with_endpoint(&handle)).await).await;
        if let Some(change) = assigned {
            let told: BTreeSet<IpAddr> = change.addresses.iter().copied().collect();
            assert_eq!(told.len(), addresses);
            self.alive.insert((node, workload), told);
        }
    }

    async fn detach(&mut self, node: usize, workload: usize, crash: Option<(u8, bool)>) {
        let handle = handle(node, workload);
        // From here on it is not alive, whether the agent manages to release it or not.
        self.alive.remove(&(node, workload));
        self.on(node, crash, async |ipam| ipam.release_by_handle(&handle, without_endpoint(&handle)).await)
            .await;
    }

    async fn reconcile(&mut self, node: usize, crash: Option<(u8, bool)>) {
        let ours = || self.alive.iter().filter(|((n, _), _)| *n == node);
        let handles: BTreeSet<String> = ours().map(|((n, w), _)| handle(*n, *w)).collect();
        let addresses: BTreeSet<IpAddr> = ours().flat_map(|(_, told)| told).copied().collect();
        let (now, mut suspects) = (self.time.now(), self.suspects[node].clone());
        let looked = self.on(node, crash, async |ipam| ipam.node_allocations(NODES[node]).await).await;
        let Some(held) = looked else { return };
        let living = Living { handles: &handles, addresses: &addresses };
        let leaks = find_leaks(NODES[node], &held, living, now, GRACE, &mut suspects);
        self.suspects[node] = suspects;
        for leak in leaks {
            let gone = Operation::Delete(endpoint_key(leak.handle()));
            let extra = Extra { compares: Vec::new(), operations: vec![gone] };
            self.on(node, crash, async |ipam| ipam.release_leak(&leak, extra.clone()).await).await;
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Attach { node, workload, addresses, crash } => {
                self.attach(*node, *workload, *addresses, *crash).await;
            }
            Step::Detach { node, workload, crash } => self.detach(*node, *workload, *crash).await,
            Step::Die { node, workload } => drop(self.alive.remove(&(*node, *workload))),
            Step::Upkeep { node, crash } => {
                let name = NODES[*node];
                self.on(*node, *crash, async |ipam| ipam.prefetch(name).await).await;
                self.on(*node, *crash, async |ipam| ipam.give_back(name).await).await;
            }
            Step::Reconcile { node, crash } => self.reconcile(*node, *crash).await,
            Step::ReleaseAffinities { node } => {
                self.time.ipam(&self.sound).release_host_affinities(NODES[*node], false).await.unwrap();
            }
            Step::Wait { seconds } => self.time.advance(*seconds),
            Step::Pool { second, disabled } => {
                let name = if *second { "b" } else { "a" };
                let mut pool = self.sound.find::<IpPoolSpec>(None, name).await.unwrap().unwrap();
                pool.spec.disabled = *disabled;
                self.sound.update(AnyResource::from(pool)).await.unwrap();
            }
            Step::Configure { strict, cooldown } => {
                let config = IpamConfig {
                    strict_affinity: *strict,
                    ip_cooldown_seconds: *cooldown,
                    ..IpamConfig::absent()
                };
                configure(&self.sound, config).await;
            }
            Step::Reserve { first } => {
                let cidr = if *first { "10.65.0.1/32" } else { "10.66.0.6" };
                let key = format!("/calico/resources/v3/projectcalico.org/ipreservations/{first}");
                let value = serde_json::json!({"spec": {"reservedCIDRs": [cidr]}}).to_string();
                put(&self.sound, &key, value.into_bytes()).await;
            }
            Step::HalfClaim { node, block, deleting } => {
                self.half_claim(NODES[*node], *block, *deleting).await
            }
        }
    }

    /// A claim without a block, or one its node was about to give up.
    async fn half_claim(&self, host: &str, block: u8, deleting: bool) {
        let cidr = format!("10.{}.0.{}-30", 65 + block / 4, block % 4 * 4);
        let key = format!("/calico/ipam/v2/host/{host}/ipv4/block/{cidr}");
        let present = self.sound.store().get(&key).await.unwrap().is_some();
        let state = if deleting { "pendingDeletion" } else { "pending" };
        if present == deleting {
            put(&self.sound, &key, format!(r#"{{"state":"{state}","deleted":false}}"#).into_bytes()).await;
        }
    }

    /// What holds at every moment: nobody alive has lost an address, and no two have the same one.
    async fn check(&self) {
        let held = held(&self.sound).await;
        let mut seen = BTreeSet::new();
        for ((node, workload), told) in &self.alive {
            let handle = handle(*node, *workload);
            assert_eq!(held.get(&handle), Some(told), "{handle} lives");
            assert!(told.iter().all(|address| seen.insert(*address)), "{handle} shares an address");
        }
    }

    /// All nodes come back, look twice, and clean up.
    async fn recover(&mut self) {
        for round in 0..3 {
            for node in 0..NODES.len() {
                self.step(&Step::Upkeep { node, crash: None }).await;
                self.reconcile(node, None).await;
            }
            self.time.advance(if round == 0 { 901 } else { 61 });
        }
        let found = audit(&self.sound).await;
        let alive: BTreeMap<String, BTreeSet<IpAddr>> =
            self.alive.iter().map(|((n, w), told)| (handle(*n, *w), told.clone())).collect();
        assert_eq!(found.held, alive, "addresses in blocks are those of living workloads");
    }
}

/// Addresses by handle; no address twice. Claims may be half done.
async fn held(client: &Client) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut held: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for kv in client.store().list("/calico/ipam/v2/assignment/").await.unwrap().entries {
        let block: tortie_model::ipam::Block = serde_json::from_slice(&kv.value).unwrap();
        block.check().unwrap();
        for (address, owner) in block.in_use() {
            assert!(seen.insert(address), "{address} is in two blocks");
            held.entry(owner.handle_id.clone().unwrap()).or_default().insert(address);
        }
    }
    held
}

/// So many histories, unless the environment says how many.
fn cases() -> u32 {
    let set = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    set.unwrap_or(128)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]
    #[test]
    fn no_duplicate_no_loss_and_no_leak_after_recovery(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.step(step).await;
                world.check().await;
            }
            world.recover().await;
        });
    }
}
