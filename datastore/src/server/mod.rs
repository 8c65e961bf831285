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
//! | `disk` | the file; `snapshot` its copies, and reading them |
//! | `engine` | order, group commit, answers only after the commit |
//! | `services`, `watch` | gRPC |
//! | `access`, `limits` | who may reach it; what they may cost |
//! | `embedded` | all of it inside another process |
//!
//! One process, no cluster, no users: past that it is an etcd cluster, with the same clients and the same keys.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use tokio::sync::watch as channel;

mod access;
mod disk;
mod embedded;
mod engine;
mod error;
mod lease;
mod limits;
mod mvcc;
mod range;
mod services;
mod snapshot;
mod state;
mod txn;
mod watch;

pub use access::{Listener, ServerTls, TlsFiles};
pub use embedded::Embedded;
pub use error::ServerError;
pub use limits::Limits;
pub use snapshot::{read_data_dir, read_snapshot};

use disk::Disk;
use engine::Engine;
use limits::Gates;
use services::{NoUsers, Services};
use state::Identity;

/// Where the embedded datastore listens unless told otherwise.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);

/// Revisions that stay readable when nobody compacts.
const KEEP_REVISIONS: i64 = 5000;

/// Largest request to keys: etcd's `--max-request-bytes` and its allowance for the rest of the message.
const MAX_REQUEST: usize = (1536 + 512) << 10;
/// Largest request of the other services, which carry a key at most.
const MAX_OTHER: usize = 64 << 10;

/// What one connection, and one request on it, may send ahead of being read.
const CONNECTION_WINDOW: u32 = 256 << 10;
const STREAM_WINDOW: u32 = 128 << 10;

/// A quiet connection is asked whether its client still lives, and closed without an answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// How long connections may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// An open datastore, not yet served. Dropping it closes the file.
#[derive(Debug)]
pub struct Server {
    engine: Engine,
    data_dir: Arc<Path>,
    limits: Limits,
}

impl Server {
    /// Opens the datastore of a directory, or makes it.
    ///
    /// # Errors
    /// [`ServerError::InUse`] when another process has it, [`ServerError::Directory`] and [`ServerError::File`].
    pub fn open(data_dir: &Path) -> Result<Server, ServerError> {
        let (cluster, member) = uuid::Uuid::new_v4().as_u64_pair();
        let disk = Disk::open(data_dir, Identity { cluster, member })?;
        let engine = Engine::start(disk, KEEP_REVISIONS)?;
        Ok(Server { engine, data_dir: data_dir.into(), limits: Limits::default() })
    }

    /// The same with other limits than the usual ones.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Server {
        Server { limits, ..self }
    }

    /// Listens on an address without TLS: a loopback address, or any other when `insecure` says so.
    ///
    /// # Errors
    /// [`ServerError::NotLoopback`] or [`ServerError::Listen`].
    pub async fn bind(address: SocketAddr, insecure: bool) -> Result<Listener, ServerError> {
        Listener::plain(address, insecure).await
    }

    /// Listens on any address with TLS.
    ///
    /// # Errors
    /// [`ServerError::Listen`].
    pub async fn bind_tls(address: SocketAddr, tls: ServerTls) -> Result<Listener, ServerError> {
        Listener::secure(address, tls).await
    }

    /// Serves until `shutdown` resolves; the file is closed when this returns.
    ///
    /// # Errors
    /// [`ServerError::Serve`].
    pub async fn serve(
        self,
        listener: Listener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServerError> {
        let Server { engine, data_dir, limits } = self;
        let url = listener.url();
        let (stop, stopping) = channel::channel(false);
        let gates = Gates::new(limits);
        let services = Services {
            engine: engine.handle(),
            stopping: stopping.clone(),
            url: url.clone(),
            gates: gates.clone(),
            data_dir,
        };
        let mut stopped = stopping;
        let mut server = server(&limits);
        if let Some(tls) = &listener.tls {
            server = server.tls_config(tls.config()).map_err(ServerError::Serve)?;
        }
        let keys = PbKvServer::new(services.clone()).max_decoding_message_size(MAX_REQUEST);
        let routes = server
            .add_service(gates.gated(keys))
            .add_service(NoUsers)
            .add_service(PbWatchServer::new(services.clone()).max_decoding_message_size(MAX_OTHER))
            .add_service(PbLeaseServer::new(services.clone()).max_decoding_message_size(MAX_OTHER))
            .add_service(PbClusterServer::new(services.clone()).max_decoding_message_size(MAX_OTHER))
            .add_service(PbMaintenanceServer::new(services).max_decoding_message_size(MAX_OTHER));
        let incoming = limits::incoming(listener.socket, limits.connections);
        let serving = routes.serve_with_incoming_shutdown(incoming, async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        tokio::pin!(serving);
        tracing::info!(url, "embedded datastore serving");
        let result = tokio::select! {
            result = &mut serving => result,
            () = shutdown => {
                stop.send_replace(true);
                tokio::time::timeout(GRACE, &mut serving).await.unwrap_or(Ok(()))
            }
        };
        drop(engine);
        result.map_err(ServerError::Serve)
    }
}

/// HTTP/2 with its share of the limits.
fn server(limits: &Limits) -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(limits.per_connection)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
}
