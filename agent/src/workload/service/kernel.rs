//! The kernel's part of an attach and a detach, and waiting for the data plane.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tortie_model::local_api::AttachRequest;

use super::{Service, stopped};
use crate::desired::{Applied, Wired};
use crate::workload::WorkloadError;
use crate::workload::identity::Identity;
use crate::workload::wiring::{HostLink, Wire, Wiring, WiringError};

/// A deadline that knows how long it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    start: Instant,
    length: Duration,
}

impl Wait {
    /// From now on.
    pub(super) fn of(length: Duration) -> Wait {
        Wait { start: Instant::now(), length }
    }
}

impl Service {
    pub(super) fn mtu(&self, request: &AttachRequest) -> u32 {
        if request.mtu == 0 { *self.config.mtu.borrow() } else { request.mtu }
    }

    pub(super) fn wire(&self, identity: &Identity, request: &AttachRequest, addresses: Vec<IpAddr>) -> Wire {
        Wire {
            host_interface: identity.host_interface.clone(),
            owner: identity.owner(),
            netns: PathBuf::from(&request.netns),
            interface: identity.interface.clone(),
            mac: identity.mac(),
            mtu: self.mtu(request),
            addresses,
        }
    }

    pub(super) async fn find(&self, identity: &Identity) -> Result<Option<HostLink>, WorkloadError> {
        let name = identity.host_interface.clone();
        self.kernel(identity, move |wiring| wiring.find(&name)).await
    }

    /// Whether the workload's side is in the namespace of the request as it was made.
    pub(super) async fn is_whole(
        &self,
        identity: &Identity,
        request: &AttachRequest,
        addresses: &[IpAddr],
    ) -> Result<bool, WorkloadError> {
        let wire = self.wire(identity, request, addresses.to_vec());
        match self.kernel(identity, move |wiring| wiring.verify(&wire)).await {
            Ok(()) => Ok(true),
            Err(WorkloadError::Wiring { source: WiringError::Changed { what }, .. }) => {
                tracing::info!(interface = identity.host_interface, reason = what, "attaching anew");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the host interface unless it is another container's.
    pub(super) async fn remove_own_link(
        &self,
        identity: &Identity,
        belongs_to_newer: bool,
    ) -> Result<(), WorkloadError> {
        let removable = match self.find(identity).await? {
            None => false,
            Some(HostLink { owner: Some(owner), .. }) => owner == identity.owner(),
            Some(HostLink { owner: None, .. }) => !belongs_to_newer,
        };
        if removable {
            let name = identity.host_interface.clone();
            self.kernel(identity, move |wiring| wiring.remove(&name)).await?;
        }
        Ok(())
    }

    /// Runs kernel work on a thread that may block.
    pub(super) async fn kernel<T: Send + 'static>(
        &self,
        identity: &Identity,
        work: impl FnOnce(&dyn Wiring) -> Result<T, WiringError> + Send + 'static,
    ) -> Result<T, WorkloadError> {
        let wiring = Arc::clone(&self.config.wiring);
        match tokio::task::spawn_blocking(move || work(&*wiring)).await {
            Ok(done) => done.map_err(|source| WorkloadError::Wiring {
                interface: identity.host_interface.clone(),
                source,
            }),
            Err(error) => Err(stopped(error)),
        }
    }

    /// Waits until the data plane has wired this very interface with these addresses. By name alone, word of an earlier
    /// interface, or of an earlier endpoint with it, would pass for the new one's.
    pub(super) async fn in_force(
        &self,
        identity: &Identity,
        index: u32,
        addresses: &[IpAddr],
        wait: Wait,
    ) -> Result<(), WorkloadError> {
        let name = &identity.host_interface;
        let is_this =
            |wired: &Wired| wired.index == index && addresses.iter().all(|a| wired.addresses.contains(a));
        self.until(identity, wait, |applied| applied.interfaces.get(name).is_some_and(is_this)).await
    }

    /// Waits until what the data plane has applied fulfils a condition.
    pub(super) async fn until(
        &self,
        identity: &Identity,
        wait: Wait,
        condition: impl Fn(&Applied) -> bool,
    ) -> Result<(), WorkloadError> {
        let mut applied = self.applied.clone();
        let fulfilled = applied.wait_for(|applied| condition(applied));
        match tokio::time::timeout_at(wait.start + wait.length, fulfilled).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => return Err(WorkloadError::Stopping),
            Err(_) => {}
        }
        let interface = identity.host_interface.clone();
        let reason = complaints(&self.applied.borrow(), &interface);
        Err(WorkloadError::NotApplied { interface, waited: wait.length, reason })
    }
}

/// What the data plane says about an interface.
fn complaints(applied: &Applied, interface: &str) -> String {
    let about = |(object, text): (&String, &String)| {
        (object.contains(interface) || text.contains(interface)).then(|| format!("{object}: {text}"))
    };
    let found: Vec<String> = applied.failures.iter().filter_map(about).collect();
    let unguarded = || applied.failures.get("ruleset").map(|text| format!("ruleset: {text}"));
    match (found.is_empty(), applied.guarded) {
        (false, _) => found.join("; "),
        (true, true) => "the data plane has not reported it".to_owned(),
        (true, false) => unguarded().unwrap_or_else(|| "the data plane is not in sync yet".to_owned()),
    }
}
