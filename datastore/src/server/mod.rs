//! The embedded datastore: etcd's v3 API over a durable file, for one machine, a lab or a first look.
//!
//! ```text
//!  gRPC ── services, watch ──job──▶ engine (one thread) ──▶ state: mvcc + leases (pure)
//!                          ◀─answer─┘      └─ entries ──▶ disk (redb, fsync) ── then the answers go out
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `mvcc`, `range`, `txn`, `lease`, `state` | what requests mean; pure |
//! | `disk` | the file |
//! | `engine` | order, group commit, answers only after the commit |
//! | `services`, `watch` | gRPC |
//!
//! One process, no cluster, no TLS, no users: past that it is an etcd cluster, with the same clients and the same keys.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use etcd_client::proto::{PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch as channel};
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;

mod disk;
mod engine;
mod error;
mod lease;
mod mvcc;
mod range;
mod services;
mod state;
mod txn;
mod watch;

pub use error::ServerError;

use crate::config::StoreConfig;
use disk::Disk;
use engine::Engine;
use services::Services;
use state::Identity;

/// Where the embedded datastore listens unless told otherwise.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);

/// Revisions that stay readable when nobody compacts.
const KEEP_REVISIONS: i64 = 5000;

/// Largest request: etcd's `--max-request-bytes` and its allowance for the rest of the message.
const MAX_REQUEST: usize = (1536 + 512) << 10;

/// How long connections may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// An open datastore, not yet served. Dropping it closes the file.
#[derive(Debug)]
pub struct Server {
    engine: Engine,
}

impl Server {
    /// Opens the datastore of a directory, or makes it.
    ///
    /// # Errors
    /// [`ServerError::InUse`] when another process has it, [`ServerError::Directory`] and [`ServerError::File`].
    pub fn open(data_dir: &Path) -> Result<Server, ServerError> {
        let (cluster, member) = uuid::Uuid::new_v4().as_u64_pair();
        let disk = Disk::open(data_dir, Identity { cluster, member })?;
        Ok(Server { engine: Engine::start(disk, KEEP_REVISIONS)? })
    }

    /// Listens on an address: a loopback address, or any other when `insecure` says so.
    ///
    /// # Errors
    /// [`ServerError::NotLoopback`] or [`ServerError::Listen`].
    pub async fn bind(address: SocketAddr, insecure: bool) -> Result<TcpListener, ServerError> {
        if !insecure && !address.ip().is_loopback() {
            return Err(ServerError::NotLoopback(address));
        }
        TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })
    }

    /// Serves until `shutdown` resolves; the file is closed when this returns.
    ///
    /// # Errors
    /// [`ServerError::Listen`] or [`ServerError::Serve`].
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServerError> {
        let address = local_address(&listener)?;
        let (stop, stopping) = channel::channel(false);
        let services = Services { engine: self.engine.handle(), stopping: stopping.clone(), address };
        let mut stopped = stopping.clone();
        let routes = tonic::transport::Server::builder()
            .add_service(PbKvServer::new(services.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(PbWatchServer::new(services.clone()))
            .add_service(PbLeaseServer::new(services.clone()))
            .add_service(PbClusterServer::new(services.clone()))
            .add_service(PbMaintenanceServer::new(services));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = routes.serve_with_incoming_shutdown(incoming, async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        tokio::pin!(serving);
        tracing::info!(%address, "embedded datastore serving");
        let result = tokio::select! {
            result = &mut serving => result,
            () = shutdown => {
                stop.send_replace(true);
                tokio::time::timeout(GRACE, &mut serving).await.unwrap_or(Ok(()))
            }
        };
        drop(self.engine);
        result.map_err(ServerError::Serve)
    }
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, ServerError> {
    listener.local_addr().map_err(|source| {
        let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        ServerError::Listen { address, source }
    })
}

/// A datastore served inside this process, to be used like any other: by connecting to it.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Embedded {
    /// Opens the datastore of a directory and serves it on a loopback address; port 0 picks a free one.
    ///
    /// # Errors
    /// As [`Server::open`] and [`Server::bind`].
    pub async fn start(data_dir: &Path, address: SocketAddr) -> Result<Embedded, ServerError> {
        Embedded::start_on(data_dir, Server::bind(address, false).await?).await
    }

    /// The same on a listener of [`Server::bind`].
    ///
    /// # Errors
    /// As [`Server::open`], and [`ServerError::Listen`].
    pub async fn start_on(data_dir: &Path, listener: TcpListener) -> Result<Embedded, ServerError> {
        let address = local_address(&listener)?;
        let data_dir = data_dir.to_owned();
        // Opening reads the whole file.
        let server = tokio::task::spawn_blocking(move || Server::open(&data_dir)).await;
        let server = server.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(listener, async {
            // A dropped sender means the same.
            let _ = stopped.await;
        }));
        Ok(Embedded { address, stop: Some(stop), task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How to connect to it from this machine.
    pub fn config(&self) -> StoreConfig {
        let mut address = self.address;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        StoreConfig::etcd([format!("http://{address}")])
    }

    /// Stops serving and closes the file.
    ///
    /// # Errors
    /// [`ServerError::Serve`] when it had failed before.
    pub async fn stop(mut self) -> Result<(), ServerError> {
        self.stop = None;
        self.task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}
