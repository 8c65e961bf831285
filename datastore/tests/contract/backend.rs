//! The stores under test and the processes behind them.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tortie_datastore::etcd::{EtcdOptions, EtcdStore};
use tortie_datastore::memory::MemoryStore;
use tortie_datastore::server::Embedded;
use tortie_datastore::{Store, StoreError};

use crate::cluster::{Cluster, MEMBERS};

/// A store and what serves it.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) server: Server,
}

/// What serves a store. Dropping it ends it.
pub(crate) enum Server {
    Memory(MemoryStore),
    Embedded { embedded: Option<Embedded>, _dir: TempDir },
    Etcd(Etcd),
    Cluster(Cluster),
}

impl Backend {
    #[expect(clippy::unused_async, reason = "called as its siblings are")]
    pub(crate) async fn memory() -> Backend {
        let store = MemoryStore::default();
        Backend { store: Arc::new(store.clone()), server: Server::Memory(store) }
    }

    pub(crate) async fn embedded() -> Backend {
        let dir = tempfile::tempdir().unwrap();
        let embedded = start_embedded(dir.path()).await;
        let store = EtcdStore::connect(options(&url(embedded.address()))).await.unwrap();
        Backend { store: Arc::new(store), server: Server::Embedded { embedded: Some(embedded), _dir: dir } }
    }

    pub(crate) async fn etcd() -> Backend {
        let etcd = Etcd::start(&[]);
        let store = etcd.connect().await;
        Backend { store: Arc::new(store), server: Server::Etcd(etcd) }
    }

    pub(crate) async fn cluster() -> Backend {
        let cluster = Cluster::start().await;
        Backend { store: Arc::new(cluster.connect().await), server: Server::Cluster(cluster) }
    }

    /// The server's URL, or a list of them with commas; in memory there is none.
    pub(crate) fn url(&self) -> String {
        match &self.server {
            Server::Memory(_) => panic!("no server"),
            Server::Embedded { embedded, .. } => url(embedded.as_ref().unwrap().address()),
            Server::Etcd(etcd) => etcd.url.clone(),
            Server::Cluster(cluster) => cluster.urls().join(","),
        }
    }

    pub(crate) async fn compact(&self, revision: i64) {
        match &self.server {
            Server::Memory(store) => store.compact(revision),
            Server::Embedded { .. } | Server::Etcd(_) | Server::Cluster(_) => {
                compact(&self.url(), revision).await;
            }
        }
    }

    /// Ends the server.
    pub(crate) async fn stop(&mut self) {
        match &mut self.server {
            Server::Memory(_) => panic!("no server"),
            Server::Embedded { embedded, .. } => embedded.take().unwrap().stop().await.unwrap(),
            Server::Etcd(etcd) => etcd.kill(),
            Server::Cluster(cluster) => (0..MEMBERS).for_each(|member| cluster.kill(member)),
        }
    }
}

/// Compacts the store at these URLs, and waits until every one of them has done it.
pub(crate) async fn compact(urls: &str, revision: i64) {
    for (i, url) in urls.split(',').enumerate() {
        let client = etcd_client::Client::connect([url], None).await.unwrap();
        if i == 0 {
            client.kv_client().compact(revision, None).await.unwrap();
        }
        // A member answers this when it has applied what was agreed on before.
        client.kv_client().get("/", None).await.unwrap();
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// A deadline that a busy machine keeps too.
pub(crate) fn options(url: &str) -> EtcdOptions {
    let mut options = EtcdOptions::new([url.to_owned()]);
    options.deadline = Duration::from_secs(10);
    options
}

pub(crate) async fn start_embedded(dir: &Path) -> Embedded {
    Embedded::start(dir, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// A real etcd, alone, on free loopback ports.
pub(crate) struct Etcd {
    pub(crate) url: String,
    child: Child,
    dir: TempDir,
}

impl Etcd {
    /// Starts one with more flags; on `https` when they name certificates.
    pub(crate) fn start(flags: &[&str]) -> Etcd {
        let dir = tempfile::tempdir().unwrap();
        let scheme = if flags.contains(&"--cert-file") { "https" } else { "http" };
        let (client, peer) = (free_port(), free_port());
        let url = format!("{scheme}://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("etcd")
            .args(["--name", "one", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start etcd ({error}): apt install etcd-server etcd-client")
            });
        Etcd { url, child, dir }
    }

    /// Connects as soon as it answers.
    pub(crate) async fn connect(&self) -> EtcdStore {
        self.connect_with(options(&self.url)).await.unwrap_or_else(|error| {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            panic!("etcd does not answer: {error}\n{log}")
        })
    }

    pub(crate) async fn connect_with(&self, options: EtcdOptions) -> Result<EtcdStore, StoreError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match EtcdStore::connect(options.clone()).await {
                Err(StoreError::Unavailable { .. }) if Instant::now() < deadline => {}
                other => return other,
            }
        }
    }

    pub(crate) fn kill(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port nobody listens on now.
/// A port nobody listens on, below those the kernel gives to connections: one of those would be taken before etcd has it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
