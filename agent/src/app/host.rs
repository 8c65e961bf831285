//! The task that looks at the machine again from time to time: the node's addresses where they are to be detected, and
//! the MTU of the interface that has them. Nobody announces either; what follows from a change is calc's affair.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use ipnetwork::IpNetwork;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tortie_datastore::Client;
use tortie_model::names::INTERFACE_PREFIX;
use tortie_model::resource::NodeSpec;

use super::calculation::HostInterfaces;
use crate::config::Config;
use crate::logging::chain;
use crate::{kernel, startup};

/// How often the MTU is read where addresses are not polled.
const PERIOD: Duration = Duration::from_secs(60);
/// How often interfaces are read: a host endpoint may be about one by its address.
const INTERFACES: Duration = Duration::from_secs(2);

/// What the task works with.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) config: Config,
    pub(super) client: Client,
    /// Name of this node.
    pub(super) name: String,
    /// MTU of the interface that has the node's address.
    pub(super) mtu: watch::Sender<u32>,
}

impl Host {
    /// Runs for ever.
    pub(super) async fn watch(self) {
        let period = self.config.autodetect_poll.unwrap_or(PERIOD);
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = BTreeSet::new();
        loop {
            ticks.tick().await;
            let complaints = self.look().await;
            for line in complaints.difference(&told) {
                tracing::warn!("{line}");
            }
            told = complaints;
        }
    }

    /// Looks once; returns what is not as it should be.
    async fn look(&self) -> BTreeSet<String> {
        let mut complaints = BTreeSet::new();
        if self.config.autodetect_poll.is_some() {
            match startup::redetect(&self.config, &self.client, &self.name).await {
                Ok(warnings) => complaints.extend(warnings),
                Err(error) => drop(complaints.insert(chain(&error))),
            }
        }
        match mtu(&self.client, &self.name).await {
            // An interface that is away for a moment will have its MTU again.
            Ok(None) => {}
            Ok(Some(mtu)) => drop(self.mtu.send_if_modified(|present| {
                let before = std::mem::replace(present, mtu);
                if before != mtu {
                    tracing::info!("the host's MTU is {mtu} now, was {before}");
                }
                before != mtu
            })),
            Err(error) => drop(complaints.insert(format!("{error:#}"))),
        }
        complaints
    }
}

/// Tells the addresses of the node's own interfaces when they are others than before. Runs for ever.
pub(super) async fn watch_interfaces(told: watch::Sender<HostInterfaces>) {
    let mut ticks = interval_at(Instant::now() + INTERFACES, INTERFACES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match spawn_blocking(interfaces).await {
            Ok(Ok(found)) => drop(told.send_if_modified(|present| {
                let differ = *present != found;
                *present = found;
                differ
            })),
            Ok(Err(error)) => tracing::warn!("{error:#}"),
            Err(error) => tracing::error!(%error, "reading the host's interfaces"),
        }
    }
}

/// Addresses of the node's own interfaces, those of workloads left out.
///
/// # Errors
/// When they cannot be read.
pub(super) fn interfaces() -> anyhow::Result<HostInterfaces> {
    let links = kernel::interfaces().context("cannot read the host's interfaces")?;
    let own = links.into_iter().filter(|(name, _)| !name.starts_with(INTERFACE_PREFIX));
    Ok(own.map(|(name, link)| (name, link.addresses.iter().map(IpNetwork::ip).collect())).collect())
}

/// MTU of the interface that has the address of the node `name`; `None` when no interface has it.
///
/// # Errors
/// When the Node or the interfaces cannot be read.
pub(super) async fn mtu(client: &Client, name: &str) -> anyhow::Result<Option<u32>> {
    let node =
        client.find::<NodeSpec>(None, name).await.context("cannot read the Node resource of this node")?;
    let Some(address) = node.and_then(|node| node.spec.bgp_ips().next()) else { return Ok(None) };
    let read = spawn_blocking(move || kernel::mtu_of(address)).await?;
    read.context("cannot read the MTU of the host's interfaces")
}
