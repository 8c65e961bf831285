//! The same storms over the network: a real etcd, where it is installed, and the embedded server.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tortie_datastore::Store;
use tortie_datastore::etcd::{EtcdOptions, EtcdStore};
use tortie_datastore::server::Embedded;

use crate::audit::audit;
use crate::concurrency::storms;
use crate::fixture::{ipam, pool, populate, want, with_endpoint};

const ETCD: &str = "/usr/bin/etcd";
const START_WITHIN: Duration = Duration::from_secs(30);

/// An etcd of our own; gone with the value.
struct Etcd {
    process: Child,
    endpoint: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Etcd {
        let data = tempfile::tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        let (client, peer): (SocketAddr, SocketAddr) = (free(), free());
        let (endpoint, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let process = Command::new(ETCD)
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Etcd { process, endpoint, _data: data }
    }

    async fn connect(&self) -> EtcdStore {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            match EtcdStore::connect(EtcdOptions::new([self.endpoint.clone()])).await {
                Ok(store) => return store,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_nodes_over_a_real_etcd() {
    if !std::path::Path::new(ETCD).exists() {
        println!("skipped: {ETCD} is not installed (package etcd-server)");
        return;
    }
    let etcd = Etcd::start();
    let store = etcd.connect().await;
    storms(Arc::new(store)).await;
}

/// So many nodes, each with an allocator of its own, claim so many addresses each, all at once; at last everything is
/// consistent. Returns how many transactions each allocation took.
async fn claim_at_once(etcd: &Etcd, nodes: usize, workloads: usize) -> Vec<usize> {
    let names: Vec<String> = (0..nodes).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let store: Arc<dyn Store> = Arc::new(etcd.connect().await);
    let client = populate(Arc::clone(&store), &names, &[pool("p", "10.64.0.0/16", 26)]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for node in 0..nodes {
        let ipam = ipam(&client);
        for workload in 0..workloads {
            let ipam = ipam.clone();
            tasks.spawn(async move {
                let handle = format!("net.n{node}-w{workload}");
                let change = ipam.assign(&want(&format!("n{node}"), &handle), with_endpoint(&handle)).await;
                let change = change.unwrap();
                (change.addresses[0], change.attempts)
            });
        }
    }
    let (mut unique, mut attempts) = (BTreeSet::new(), Vec::new());
    while let Some(result) = tasks.join_next().await {
        let (address, tried) = result.unwrap();
        assert!(unique.insert(address), "{address} was given twice");
        attempts.push(tried);
    }
    let found = audit(&client).await;
    assert_eq!(found.held.len(), nodes * workloads);
    assert_eq!(found.blocks.len(), nodes, "each node has a block of its own");
    attempts
}

/// Panics when the allocations took many transactions; returns how many.
fn assert_no_storm(attempts: &[usize]) -> String {
    let mean = attempts.iter().sum::<usize>() as f64 / attempts.len() as f64;
    let most = attempts.iter().copied().max().unwrap_or_default();
    let figures = format!("{} allocations: {mean:.3} transactions each, {most} at most", attempts.len());
    assert!(mean < 2.0 && most <= 20, "{figures}");
    figures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_nodes_claim_at_once_without_a_storm_of_retries() {
    if !std::path::Path::new(ETCD).exists() {
        println!("skipped: {ETCD} is not installed (package etcd-server)");
        return;
    }
    println!("{}", assert_no_storm(&claim_at_once(&Etcd::start(), 50, 4).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "soak: 250 nodes at a real etcd"]
async fn soak_250_nodes_claim_at_once_without_a_storm_of_retries() {
    println!("{}", assert_no_storm(&claim_at_once(&Etcd::start(), 250, 4).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_nodes_over_the_embedded_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Embedded::start(data.path(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let endpoint = format!("http://{}", server.address());
    storms(Arc::new(EtcdStore::connect(EtcdOptions::new([endpoint])).await.unwrap())).await;
    server.stop().await.unwrap();
}
