//! From flags and environment to a client of the datastore, and the check that it is a cluster we understand.

use std::path::Path;

use anyhow::{Context as _, bail};
use tortie_datastore::config::{StoreConfig, connect};
use tortie_datastore::{Client, ClientError, StoreError};
use tortie_model::resource::ClusterInformationSpec;

use crate::cli::Global;

/// Major version of Calico whose data we read and write.
const MAJOR_VERSION: &str = "3";

/// A client of the datastore that flags and environment name.
pub(crate) async fn client(global: &Global) -> anyhow::Result<Client> {
    let client = client_of_any_version(global.config.as_deref()).await?;
    if !global.allow_version_mismatch {
        check_version(&client).await?;
    }
    Ok(client)
}

/// The same without the version check.
pub(crate) async fn client_of_any_version(config: Option<&Path>) -> anyhow::Result<Client> {
    // The environment is only read here; everything below gets values.
    let config = StoreConfig::load(config, |name| std::env::var(name).ok()).map_err(unprefixed)?;
    let store = connect(config).await.map_err(with_advice)?;
    Ok(Client::new(store))
}

fn unprefixed(error: tortie_datastore::config::ConfigError) -> anyhow::Error {
    anyhow::Error::new(error)
}

/// Adds what to try to an unreachable store.
pub(crate) fn with_advice(error: StoreError) -> anyhow::Error {
    let unreachable = matches!(error, StoreError::Unavailable { .. });
    let error = anyhow::Error::new(error);
    if !unreachable {
        return error;
    }
    anyhow::anyhow!(
        "{error:#}\ncheck that etcd runs there, or say where it is: etcdEndpoints in {} (or in --config FILE), \
         or ETCD_ENDPOINTS in the environment",
        tortie_datastore::config::DEFAULT_PATH
    )
}

async fn check_version(client: &Client) -> anyhow::Result<()> {
    let info = match client.find::<ClusterInformationSpec>(None, "default").await {
        Ok(info) => info,
        Err(ClientError::Store(error)) => return Err(with_advice(error)),
        Err(error) => return Err(error).context("cannot read the cluster's version"),
    };
    let version = info.map(|info| info.spec.calico_version).unwrap_or_default();
    if let Some(major) = major_version(&version)
        && major != MAJOR_VERSION
    {
        bail!(
            "version mismatch.\nClient Version:   {}\nCluster Version:  {version}\nthis client works with data of \
             Calico v{MAJOR_VERSION}; use --allow-version-mismatch to try anyway",
            crate::commands::CLIENT_VERSION
        );
    }
    Ok(())
}

/// `3` of `v3.32.1-rc`; `None` when there is no number.
fn major_version(version: &str) -> Option<&str> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let major = version.split('.').next()?;
    (!major.is_empty() && major.bytes().all(|b| b.is_ascii_digit())).then_some(major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_a_major_number_or_none() {
        assert_eq!(major_version("v3.32.1"), Some("3"));
        assert_eq!(major_version("4.0"), Some("4"));
        assert_eq!(major_version(""), None);
        assert_eq!(major_version("master"), None);
    }
}
