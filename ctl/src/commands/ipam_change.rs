//! `ipam release` and `ipam configure` (calico-datamodel 4.1, 6.6).

use std::net::IpAddr;

use tortie_datastore::ipam::Ipam;
use tortie_model::ipam::IpamConfig;

use super::{address, ipam_check, words};
use crate::cli::{Global, IpamConfigureArgs, IpamReleaseArgs};
use crate::context;
use crate::operations::OperationError;
use crate::outcome::Outcome;

pub(super) async fn release(global: &Global, args: &IpamReleaseArgs) -> anyhow::Result<Outcome> {
    let Some(ip) = &args.ip else { return ipam_check::release(global, &args.from_report, args.force).await };
    let address: IpAddr = address(ip)?;
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

/// Changes the settings given; all others stay, those of other versions among them.
pub(super) async fn configure(global: &Global, args: &IpamConfigureArgs) -> anyhow::Result<Outcome> {
    let done = changes(args);
    if done.is_empty() {
        anyhow::bail!(
            "failed to execute command: at least one configuration option must be specified, such as \
             --strictaffinity=true"
        );
    }
    let client = context::client(global).await?;
    let ipam = Ipam::new(client, std::time::SystemTime::now);
    Ok(match ipam.configure(|config| set(config, args)).await {
        Ok(_) => Outcome::ok(done),
        Err(error) => Outcome::failed(words(OperationError::Ipam(error))),
    })
}

fn set(config: &mut IpamConfig, args: &IpamConfigureArgs) {
    if let Some(strict) = args.strictaffinity {
        config.strict_affinity = strict;
    }
    if let Some(limit) = args.max_blocks_per_host {
        config.max_blocks_per_host = limit;
    }
    if let Some(persistence) = &args.kubevirt_ip_persistence {
        config.kube_virt_vm_address_persistence = Some(persistence.clone());
    }
    if let Some(seconds) = args.ip_cooldown_seconds {
        config.ip_cooldown_seconds = seconds;
    }
}

/// A line for each setting that is given.
fn changes(args: &IpamConfigureArgs) -> String {
    let lines = [
        ("StrictAffinity", args.strictaffinity.map(|value| value.to_string())),
        ("MaxBlocksPerHost", args.max_blocks_per_host.map(|value| value.to_string())),
        ("KubeVirtVMAddressPersistence", args.kubevirt_ip_persistence.clone()),
        ("IPCooldownSeconds", args.ip_cooldown_seconds.map(|value| value.to_string())),
    ];
    let given = lines.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.map(|(name, value)| format!("Successfully set {name} to: {value}\n")).collect()
}
