//! The task that owns the calculation: changes in, levels out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::bail;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tortie_datastore::syncer::{SyncEvent, Update};
use tortie_model::{Key, Kind};

use super::reports::Wanted;
use crate::calc::{Calc, Output, Problems, Secrets, Tenancy};
use crate::desired::{BgpDesired, Desired};
use crate::metrics::Listen;

/// How many batches are taken in before the outcome is calculated: more make a burst cheaper, fewer make it visible
/// earlier.
const BATCHES: usize = 64;

/// How far the calculation is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything that was stored at start is known.
    pub in_sync: bool,
    /// Why nothing is programmed for now.
    pub locked: Option<String>,
    /// Resources that could not be honoured.
    pub problems: Problems,
}

impl Progress {
    /// One line for each thing that is not as it should be.
    pub fn lines(&self) -> Vec<String> {
        let waiting = (!self.in_sync).then(|| "waiting for the datastore: not in sync yet".to_owned());
        waiting.into_iter().chain(self.locked.clone()).chain(self.problems.lines()).collect()
    }
}

/// Addresses of the node's own interfaces, by name.
pub(super) type HostInterfaces = BTreeMap<String, BTreeSet<IpAddr>>;

/// What the calculation listens to and tells.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) events: mpsc::Receiver<SyncEvent>,
    /// Own writes, ahead of the watch.
    pub(super) own: mpsc::Receiver<Vec<Update>>,
    /// Who wants to know who lives on this node.
    pub(super) tenancy: mpsc::Receiver<oneshot::Sender<Option<Tenancy>>>,
    /// MTU of the interface that carries traffic between nodes.
    pub(super) host_mtu: watch::Receiver<u32>,
    /// Addresses of this node's interfaces.
    pub(super) host_interfaces: watch::Receiver<HostInterfaces>,
    /// Secrets on this machine.
    pub(super) secrets: watch::Receiver<Arc<Secrets>>,
    pub(super) desired: watch::Sender<Option<Arc<Desired>>>,
    pub(super) bgp: watch::Sender<Option<Arc<BgpDesired>>>,
    pub(super) progress: watch::Sender<Progress>,
    /// Reports asked of this node.
    pub(super) reports: watch::Sender<Wanted>,
    /// Where metrics are served.
    pub(super) metrics: watch::Sender<Option<Listen>>,
    /// MTU of workloads.
    pub(super) mtu: watch::Sender<u32>,
    /// Pools or this node changed: the tunnel may need another address.
    pub(super) tunnel: Arc<Notify>,
}

/// Runs until the syncer is gone.
pub(super) async fn run(node: String, mut calc: Calc, mut channels: Channels) -> anyhow::Result<()> {
    let mut in_sync = false;
    calc.set_secrets(channels.secrets.borrow_and_update().clone());
    calc.set_host_interfaces(channels.host_interfaces.borrow_and_update().clone());
    loop {
        tokio::select! {
            event = channels.events.recv() => match event {
                Some(event) => in_sync |= take(&mut calc, event, &node, &channels.tunnel),
                None => bail!("the watch of the datastore ended"),
            },
            Ok(()) = channels.host_mtu.changed() => calc.set_host_mtu(*channels.host_mtu.borrow_and_update()),
            Ok(()) = channels.host_interfaces.changed() => {
                calc.set_host_interfaces(channels.host_interfaces.borrow_and_update().clone());
            }
            Ok(()) = channels.secrets.changed() => {
                calc.set_secrets(channels.secrets.borrow_and_update().clone());
            }
            Some(updates) = channels.own.recv() => updates.into_iter().for_each(|update| calc.apply_own(update)),
            Some(asker) = channels.tenancy.recv() => {
                // Whoever asked may have gone.
                let _ = asker.send(calc.tenancy());
                continue;
            }
        }
        for _ in 0..BATCHES {
            let event = channels.events.try_recv();
            let own = channels.own.try_recv();
            if event.is_err() && own.is_err() {
                break;
            }
            in_sync |= event.is_ok_and(|event| take(&mut calc, event, &node, &channels.tunnel));
            own.into_iter().flatten().for_each(|update| calc.apply_own(update));
        }
        // Thousands of policies take a while; other tasks get another thread.
        let output = tokio::task::block_in_place(|| calc.flush());
        publish(&channels, in_sync, calc.locked(), output);
    }
}

/// Takes an event in; whether it says that the calculation is in sync.
fn take(calc: &mut Calc, event: SyncEvent, node: &str, tunnel: &Notify) -> bool {
    match event {
        SyncEvent::Updates(updates) => {
            if updates.iter().any(|update| concerns_tunnel(&update.key, node)) {
                tunnel.notify_one();
            }
            updates.into_iter().for_each(|update| calc.apply(update));
            false
        }
        SyncEvent::Relisting => {
            calc.relisting();
            false
        }
        SyncEvent::InSync => {
            calc.in_sync();
            true
        }
    }
}

fn concerns_tunnel(key: &Key, node: &str) -> bool {
    match key {
        Key::Resource { kind: Kind::IpPool, .. } => true,
        Key::Resource { kind: Kind::Node, name, .. } => name == node,
        Key::Resource { .. }
        | Key::Block(_)
        | Key::BlockAffinity { .. }
        | Key::Handle(_)
        | Key::IpamHost(_)
        | Key::IpamConfig => false,
    }
}

/// Hands out what is new. What was wanted last stays wanted while the datastore is locked.
fn publish(channels: &Channels, in_sync: bool, locked: Option<String>, output: Option<Output>) {
    let mut progress = channels.progress.borrow().clone();
    if progress.locked != locked {
        match &locked {
            Some(reason) => tracing::warn!("{reason}; the node is left as it is"),
            None => tracing::info!("the datastore is unlocked"),
        }
    }
    progress.in_sync = in_sync;
    progress.locked = locked;
    if let Some(output) = output {
        for line in output.problems.lines() {
            if !progress.problems.lines().any(|known| known == line) {
                tracing::warn!("{line}");
            }
        }
        progress.problems = output.problems;
        channels.mtu.send_if_modified(|present| {
            std::mem::replace(present, output.workload_mtu) != output.workload_mtu
        });
        channels.reports.send_if_modified(|present| {
            let different = **present != output.reports;
            if different {
                *present = Arc::new(output.reports);
            }
            different
        });
        channels
            .metrics
            .send_if_modified(|present| std::mem::replace(present, output.metrics) != output.metrics);
        replace(&channels.desired, output.desired);
        replace(&channels.bgp, output.bgp);
    }
    channels.progress.send_if_modified(|present| {
        let different = *present != progress;
        *present = progress;
        different
    });
}

/// A value that equals the present one wakes nobody.
fn replace<T: PartialEq>(sender: &watch::Sender<Option<Arc<T>>>, value: Arc<T>) {
    sender.send_if_modified(|present| {
        let different = present.as_ref() != Some(&value);
        *present = Some(value);
        different
    });
}

#[cfg(test)]
mod tests;
