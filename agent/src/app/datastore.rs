//! The datastore at start: embedded or a cluster, waited for or not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;
use tortie_datastore::Store;
use tortie_datastore::config::{StoreConfig, connect};
use tortie_datastore::server::{Embedded, Server};

use crate::config::DatastoreConfig;
use crate::logging::chain;

/// Pause between attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// An open datastore.
#[derive(Debug)]
pub(super) struct Datastore {
    pub(super) store: Arc<dyn Store>,
    /// The server in this process.
    pub(super) embedded: Option<Embedded>,
}

/// Opens the configured datastore.
///
/// # Errors
/// When it cannot be had; with `wait`, a cluster that does not answer is waited for instead.
pub(super) async fn open(config: &DatastoreConfig, wait: bool) -> anyhow::Result<Datastore> {
    let (config, embedded) = match config {
        DatastoreConfig::Cluster(config) => (config.clone(), None),
        DatastoreConfig::Embedded { directory, listen, insecure, tls } => {
            let serve = async {
                let listener = match tls {
                    Some(tls) => Server::bind_tls(*listen, tls.clone()).await?,
                    None => Server::bind(*listen, *insecure).await?,
                };
                Embedded::start_on(directory, listener).await
            };
            let embedded = serve
                .await
                .with_context(|| format!("cannot open the embedded datastore in {}", directory.display()))?;
            (embedded.config(), Some(embedded))
        }
    };
    let store = reach(&config, wait).await?;
    Ok(Datastore { store, embedded })
}

async fn reach(config: &StoreConfig, wait: bool) -> anyhow::Result<Arc<dyn Store>> {
    let mut reported = String::new();
    loop {
        match connect(config.clone()).await {
            Ok(store) => return Ok(store),
            Err(error) if wait => {
                let text = chain(&error);
                if text != reported {
                    tracing::warn!("Waiting for datastore connection: {text}");
                    reported = text;
                }
                sleep(PAUSE).await;
            }
            Err(error) => {
                return Err(error)
                    .context("Unable to access the datastore (WAIT_FOR_DATASTORE=true waits for it)");
            }
        }
    }
}
