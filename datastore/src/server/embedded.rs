//! The server inside another process: started, connected to like any other, and stopped with it.

use std::net::SocketAddr;
use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Listener, Server, ServerError};
use crate::config::StoreConfig;

/// A datastore served inside this process, to be used like any other: by connecting to it.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    config: StoreConfig,
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

    /// The same on a listener of [`Server::bind`] or [`Server::bind_tls`].
    ///
    /// # Errors
    /// As [`Server::open`].
    pub async fn start_on(data_dir: &Path, listener: Listener) -> Result<Embedded, ServerError> {
        let data_dir = data_dir.to_owned();
        // Opening reads the whole file.
        let server = tokio::task::spawn_blocking(move || Server::open(&data_dir)).await;
        let server = server.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(Embedded::serving(server, listener))
    }

    /// Serves an open datastore.
    pub fn serving(server: Server, listener: Listener) -> Embedded {
        let (address, config) = (listener.address, listener.own_config());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(listener, async {
            // A dropped sender means the same.
            let _ = stopped.await;
        }));
        Embedded { address, config, stop: Some(stop), task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How to connect to it from this process. With client certificates that is with the server's own.
    pub fn config(&self) -> StoreConfig {
        self.config.clone()
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
