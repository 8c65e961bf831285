//! Where the datastore is: calicoctl's configuration file or the environment, as one checked [`StoreConfig`]
//! (calico-datamodel 6.2), and [`connect`].
//!
//! The only place that reads datastore settings. All problems are found before the first is reported.

use std::path::Path;
use std::sync::Arc;

use crate::etcd::{EndpointHealth, EtcdOptions, EtcdStore, Tls};
use crate::{Store, StoreError};

mod document;
mod settings;

/// Where calicoctl and calico/node look when no file is named.
pub const DEFAULT_PATH: &str = "/etc/calico/calicoctl.cfg";

/// A datastore to connect to.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// An etcd cluster, or the embedded server.
    Etcd(EtcdOptions),
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file named by the user is not there, or cannot be read. The first words are calicoctl's.
    #[error("Error reading config file: {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the operating system said; part of the text, so not a cause of its own.
        reason: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("Error reading config file: {path}: {reason}")]
    Document {
        /// The file.
        path: String,
        /// Line, column and field.
        reason: String,
    },
    /// The settings make no sense; all of them that do not.
    #[error("invalid datastore configuration:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
}

impl StoreConfig {
    /// Of endpoints, without TLS or credentials.
    pub fn etcd(endpoints: impl IntoIterator<Item = String>) -> StoreConfig {
        StoreConfig::Etcd(EtcdOptions::new(endpoints))
    }

    /// As calicoctl does it: the file named by the user; else the default file if it is there; else the environment.
    /// With a file the environment is not looked at.
    ///
    /// # Errors
    /// Every problem of the source that was used.
    pub fn load(
        explicit: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<StoreConfig, ConfigError> {
        let path = explicit.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(path) {
            Ok(text) => StoreConfig::from_document(&text, &path.display().to_string()),
            Err(error) if explicit.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                StoreConfig::from_environment(env)
            }
            Err(reason) => Err(ConfigError::File { path: path.display().to_string(), reason }),
        }
    }

    /// From the text of a configuration file: `kind: CalicoAPIConfig` of `projectcalico.org/v3`, or `calicoApiConfig`
    /// of `v1`. Unknown fields are errors. `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError::Document`] or [`ConfigError::Invalid`].
    pub fn from_document(text: &str, path: &str) -> Result<StoreConfig, ConfigError> {
        let settings =
            document::read(text).map_err(|reason| ConfigError::Document { path: path.to_owned(), reason })?;
        settings.check().map_err(ConfigError::Invalid)
    }

    /// From environment variables, each also with the prefix `CALICO_`, which wins.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn from_environment(env: impl Fn(&str) -> Option<String>) -> Result<StoreConfig, ConfigError> {
        settings::Settings::from_environment(env).check().map_err(ConfigError::Invalid)
    }

    /// The endpoints, for messages.
    pub fn endpoints(&self) -> String {
        match self {
            StoreConfig::Etcd(options) => options.endpoints.join(","),
        }
    }
}

/// Connects to the configured store.
///
/// # Errors
/// [`StoreError::Unavailable`] naming the endpoints, after at most the request deadline (5 s), when none answers;
/// [`StoreError::Refused`] for bad credentials or certificates.
pub async fn connect(config: StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    match config {
        StoreConfig::Etcd(options) => Ok(Arc::new(EtcdStore::connect(options).await?)),
    }
}

/// Asks every endpoint of the configured store how it is, within the request deadline (5 s).
///
/// # Errors
/// [`StoreError::Refused`] when there is no endpoint. Endpoints that do not answer are no error but part of the answer.
pub async fn health(config: StoreConfig) -> Result<Vec<EndpointHealth>, StoreError> {
    match config {
        StoreConfig::Etcd(options) => Ok(EtcdStore::lazy(options)?.health().await),
    }
}

/// TLS from the settings' PEM texts.
fn tls(authorities: Option<Vec<u8>>, identity: Option<(Vec<u8>, Vec<u8>)>) -> Tls {
    Tls { authorities, identity }
}

#[cfg(test)]
mod tests;
