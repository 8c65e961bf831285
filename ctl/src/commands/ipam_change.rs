//! `ipam release` and `ipam configure` (calico-datamodel 4.1, 6.6).

use std::net::IpAddr;

use tortie_datastore::ipam::Ipam;
use tortie_datastore::store::{Compare, Operation, Outcome as Stored, Transaction};
use tortie_datastore::{Client, StoreError};
use tortie_model::Key;
use tortie_model::ipam::IpamConfig;

use super::{address, words};
use crate::cli::{Global, IpamConfigureArgs, IpamReleaseArgs};
use crate::context;
use crate::operations::OperationError;
use crate::outcome::Outcome;

/// The configuration changes hands when somebody configures; a few rounds are plenty.
const ATTEMPTS: usize = 20;

pub(super) async fn release(global: &Global, args: &IpamReleaseArgs) -> anyhow::Result<Outcome> {
    let address: IpAddr = address(&args.ip)?;
    let client = context::client(global).await?;
    let ipam = Ipam::new(client, std::time::SystemTime::now);
    Ok(match ipam.release_addresses(&[address]).await {
        Ok(change) if change.addresses.is_empty() => {
            Outcome::failed(format!("IP address {address} is not assigned"))
        }
        Ok(_) => Outcome::line(format!("Successfully released IP address {address}")),
        Err(error) => Outcome::failed(words(OperationError::Ipam(error))),
    })
}

pub(super) async fn configure(global: &Global, args: &IpamConfigureArgs) -> anyhow::Result<Outcome> {
    let Some(strict) = args.strictaffinity else {
        anyhow::bail!(
            "failed to execute command: at least one configuration option must be specified, such as \
             --strictaffinity=true"
        );
    };
    let client = context::client(global).await?;
    Ok(match set_strict_affinity(&client, strict).await {
        Ok(()) => Outcome::line(format!("Successfully set StrictAffinity to: {strict}")),
        Err(error) => Outcome::failed(words(error.into())),
    })
}

/// Changes this one setting; all others stay, those of other versions among them.
async fn set_strict_affinity(client: &Client, strict: bool) -> Result<(), StoreError> {
    let key = Key::IpamConfig.to_string();
    let refused = |reason: String| StoreError::Refused { reason };
    for _ in 0..ATTEMPTS {
        let (mut config, compare) = match client.store().get(&key).await? {
            None => (IpamConfig::absent(), Compare::Absent(key.clone())),
            Some(kv) => {
                let config = serde_json::from_slice(&kv.value).map_err(|error| {
                    refused(format!("value of {key} is not an IPAM configuration: {error}"))
                })?;
                (config, Compare::ModRevision(key.clone(), kv.mod_revision))
            }
        };
        config.strict_affinity = strict;
        if !strict && !config.auto_allocate_blocks {
            return Err(refused(
                "strict affinity and automatic allocation of blocks cannot both be off: no node could get an \
                 address"
                    .to_owned(),
            ));
        }
        if !strict && config.max_blocks_per_host > 0 {
            let limit = config.max_blocks_per_host;
            return Err(refused(format!("maxBlocksPerHost is {limit}, which needs strict affinity")));
        }
        let value = serde_json::to_vec(&config).expect("IPAM's values have text keys and whole numbers");
        let put = Operation::Put { key: key.clone(), value, lease: 0 };
        let transaction = Transaction { compares: vec![compare], operations: vec![put] };
        if let Stored::Committed { .. } = client.store().transact(transaction).await? {
            return Ok(());
        }
    }
    Err(refused(format!("{key} keeps changing; try again")))
}
