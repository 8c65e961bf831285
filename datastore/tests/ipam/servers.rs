//! The same storms over the network: a real etcd, where it is installed, and the embedded server.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tortie_datastore::etcd::{EtcdOptions, EtcdStore};
use tortie_datastore::server::Embedded;

use crate::concurrency::storms;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_nodes_over_the_embedded_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Embedded::start(data.path(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let endpoint = format!("http://{}", server.address());
    storms(Arc::new(EtcdStore::connect(EtcdOptions::new([endpoint])).await.unwrap())).await;
    server.stop().await.unwrap();
}
