//! An address for a workload and back, over the store in memory: what our own code costs, in a cluster that is nearly
//! empty and in one that has 10 000 addresses in use. And 250 nodes that claim four addresses each at once, on one real
//! etcd where it is installed: how long until all have them, and how many transactions an allocation took.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use tortie_datastore::etcd::{EtcdOptions, EtcdStore};
use tortie_datastore::ipam::{AssignRequest, Extra, Ipam};
use tortie_datastore::memory::MemoryStore;
use tortie_datastore::{Client, Store};
use tortie_model::ObjectMeta;
use tortie_model::resource::{IpPool, IpPoolSpec, Node, NodeSpec};

/// Workloads of one node, before the one that is measured.
const PER_NODE: usize = 50;

fn want(node: usize, handle: &str) -> AssignRequest {
    AssignRequest {
        attributes: BTreeMap::from([("node".to_owned(), format!("n{node}"))]),
        ..AssignRequest::new(format!("n{node}"), handle)
    }
}

/// A cluster of so many nodes with [`PER_NODE`] workloads each.
async fn cluster(nodes: usize) -> Ipam {
    let client = Client::new(Arc::new(MemoryStore::default()));
    let spec = IpPoolSpec { cidr: "10.64.0.0/12".parse().expect("a literal"), ..IpPoolSpec::default() };
    client.create(IpPool::new(ObjectMeta::named("pool"), spec).into()).await.expect("a pool");
    let ipam = Ipam::new(client.clone(), SystemTime::now);
    for node in 0..nodes {
        let resource = Node::new(ObjectMeta::named(format!("n{node}")), NodeSpec::default());
        client.create(resource.into()).await.expect("a node");
        for workload in 0..PER_NODE {
            let request = want(node, &format!("net.n{node}-w{workload}"));
            ipam.assign(&request, |_| Extra::default()).await.expect("an address");
        }
    }
    ipam
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn addresses(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("ipam");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for nodes in [1, 200] {
        let ipam = runtime.block_on(cluster(nodes));
        let request = want(0, "net.measured");
        group.bench_function(BenchmarkId::new("assign_and_release_with_addresses", nodes * PER_NODE), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let assigned = ipam.assign(&request, |_| Extra::default()).await.expect("an address");
                    ipam.release_by_handle(&request.handle, Extra::default()).await.expect("its release");
                    assigned.addresses
                })
            });
        });
    }
    group.finish();
}

const ETCD: &str = "/usr/bin/etcd";
const NODES: usize = 250;
const AT_ONCE: usize = 4;

/// An etcd of our own; gone with the value.
struct Etcd {
    process: Child,
    endpoint: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Etcd {
        let data = tempfile::tempdir().expect("a directory");
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            format!("http://{}", listener.local_addr().expect("its address"))
        };
        let (endpoint, peer) = (free(), free());
        let process = Command::new(ETCD)
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        Etcd { process, endpoint, _data: data }
    }

    async fn connect(&self) -> Arc<dyn Store> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match EtcdStore::connect(EtcdOptions::new([self.endpoint.clone()])).await {
                Ok(store) => return Arc::new(store),
                Err(error) => assert!(Instant::now() < deadline, "etcd did not start: {error}"),
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It is ours, and its data goes with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Everyone at once; how long it took, and the transactions of each allocation.
async fn claim_at_once(client: &Client) -> (Duration, Vec<usize>) {
    let allocators: Vec<Ipam> = (0..NODES).map(|_| Ipam::new(client.clone(), SystemTime::now)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    let start = Instant::now();
    for (node, ipam) in allocators.iter().enumerate() {
        for workload in 0..AT_ONCE {
            let ipam = ipam.clone();
            tasks.spawn(async move {
                let request = want(node, &format!("net.n{node}-w{workload}"));
                ipam.assign(&request, |_| Extra::default()).await.expect("an address").attempts
            });
        }
    }
    let attempts = tasks.join_all().await;
    let elapsed = start.elapsed();
    for (node, ipam) in allocators.iter().enumerate() {
        for workload in 0..AT_ONCE {
            let handle = format!("net.n{node}-w{workload}");
            ipam.release_by_handle(&handle, Extra::default()).await.expect("its release");
        }
        ipam.release_host_affinities(&format!("n{node}"), true).await.expect("its blocks");
    }
    (elapsed, attempts)
}

fn storm(criterion: &mut Criterion) {
    if !Path::new(ETCD).exists() {
        return;
    }
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let etcd = Etcd::start();
    let client = runtime.block_on(async {
        let client = Client::new(etcd.connect().await);
        let spec = IpPoolSpec { cidr: "10.64.0.0/16".parse().expect("a literal"), ..IpPoolSpec::default() };
        client.create(IpPool::new(ObjectMeta::named("pool"), spec).into()).await.expect("a pool");
        for node in 0..NODES {
            let resource = Node::new(ObjectMeta::named(format!("n{node}")), NodeSpec::default());
            client.create(resource.into()).await.expect("a node");
        }
        client
    });
    let mut all = Vec::new();
    let mut group = criterion.benchmark_group("ipam");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_millis(100));
    group.bench_function(BenchmarkId::new("addresses_claimed_at_once_on_etcd", NODES * AT_ONCE), |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let (elapsed, attempts) = runtime.block_on(claim_at_once(&client));
                total += elapsed;
                all.extend(attempts);
            }
            total
        });
    });
    group.finish();
    let mean = all.iter().sum::<usize>() as f64 / all.len().max(1) as f64;
    let most = all.iter().max().copied().unwrap_or_default();
    report(&format!("transactions per allocation: {mean:.3} on average, {most} at most"));
}

#[expect(clippy::print_stdout, reason = "a figure criterion has no place for")]
fn report(line: &str) {
    println!("{line}");
}

criterion_group!(benches, addresses, storm);
criterion_main!(benches);
