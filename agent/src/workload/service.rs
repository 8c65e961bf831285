//! The order of an attach and a detach, and undoing an attach that failed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnetwork::IpNetwork;
use tokio::sync::{RwLock, mpsc, watch};
use tokio::task::JoinError;
use tortie_datastore::Client;
use tortie_datastore::ipam::{Change, Ipam};
use tortie_datastore::syncer::Update;
use tortie_model::local_api::{AttachRequest, AttachResponse, DetachRequest};
use tortie_model::resource::WorkloadEndpoint;

use super::WorkloadError;
use super::identity::Identity;
use super::locks::Locks;
use super::wiring::{HOST_MAC, Wiring};
use crate::desired::Applied;
use kernel::Wait;
use store::{addresses_of, endpoint_update, revision_of};

mod abandoned;
mod kernel;
mod store;

/// How often an operation reads an endpoint again that others changed (felix-dataplane 9.3).
const ENDPOINT_RETRIES: usize = 5;

/// What the service works with.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The datastore.
    pub client: Client,
    /// Allocator over the same datastore.
    pub ipam: Ipam,
    /// Name of this node.
    pub node: String,
    /// MTU of workloads that ask for none.
    pub mtu: watch::Receiver<u32>,
    /// How long an attach may take until the data plane has wired the interface.
    pub deadline: Duration,
    /// The kernel.
    pub wiring: Arc<dyn Wiring>,
    /// The clock.
    pub now: fn() -> SystemTime,
}

impl ServiceConfig {
    /// The usual: the real kernel and clock, 10 s for an attach.
    pub fn new(client: Client, node: impl Into<String>, mtu: watch::Receiver<u32>) -> ServiceConfig {
        ServiceConfig {
            ipam: Ipam::new(client.clone(), SystemTime::now),
            client,
            node: node.into(),
            mtu,
            deadline: Duration::from_secs(10),
            wiring: Arc::new(super::Netlink),
            now: SystemTime::now,
        }
    }
}

/// Attaches workloads of this node. Cheap to clone.
///
/// An operation once begun runs to its end, even if the caller stops waiting for it: half an attach is worse than one
/// nobody waits for.
#[derive(Clone, Debug)]
pub struct Service {
    config: Arc<ServiceConfig>,
    applied: watch::Receiver<Arc<Applied>>,
    updates: mpsc::Sender<Vec<Update>>,
    locks: Locks,
    /// Shared by attaches; what no workload has is taken away while there are none.
    attaching: Arc<RwLock<()>>,
}

/// What an attach wrote, for undoing it.
struct Written {
    endpoint: WorkloadEndpoint,
    revision: i64,
    addresses: Vec<IpAddr>,
}

impl Service {
    /// A service that learns from `applied` what the data plane has done, and hands its own writes to calc by
    /// `updates`, so that nothing waits for the echo of the datastore's watch.
    pub fn new(
        config: ServiceConfig,
        applied: watch::Receiver<Arc<Applied>>,
        updates: mpsc::Sender<Vec<Update>>,
    ) -> Service {
        Service {
            config: Arc::new(config),
            applied,
            updates,
            locks: Locks::default(),
            attaching: Arc::default(),
        }
    }

    /// Gives a workload an interface; the same request again gives the same answer.
    ///
    /// # Errors
    /// [`WorkloadError`]; what was done is undone then.
    pub async fn attach(&self, request: AttachRequest) -> Result<AttachResponse, WorkloadError> {
        let service = self.clone();
        tokio::spawn(async move { service.attach_now(&request).await })
            .await
            .unwrap_or_else(|e| Err(stopped(e)))
    }

    /// Takes a workload's interface, endpoint and addresses away; succeeds when there is nothing. What belongs to a
    /// newer container of the same pod stays.
    ///
    /// # Errors
    /// [`WorkloadError`]; calling it again continues.
    pub async fn detach(&self, request: DetachRequest) -> Result<(), WorkloadError> {
        let service = self.clone();
        tokio::spawn(async move { service.detach_now(&request).await })
            .await
            .unwrap_or_else(|e| Err(stopped(e)))
    }

    /// Whether what [`Service::attach`] made is still there and in force.
    ///
    /// # Errors
    /// [`WorkloadError::NotAttached`], [`WorkloadError::Wiring`], [`WorkloadError::NotApplied`].
    pub async fn check(&self, request: AttachRequest) -> Result<(), WorkloadError> {
        let identity = Identity::of_attach(&self.config.node, &request)?;
        let missing = |reason: String| WorkloadError::NotAttached {
            container: identity.container.clone(),
            interface: identity.interface.clone(),
            reason,
        };
        let stored = self.stored(&identity).await?;
        let Some(stored) = stored.filter(|e| e.spec.container_id == identity.container) else {
            return Err(missing(format!("workload endpoint {} is not there", identity.endpoint)));
        };
        let addresses = addresses_of(&stored);
        if let Some(other) = request.addresses.iter().find(|a| !addresses.contains(a)) {
            return Err(missing(format!("it has not the address {other}")));
        }
        let link = self.find(&identity).await?;
        let Some(link) = link.filter(|link| link.owner.as_deref() == Some(&identity.owner())) else {
            return Err(missing(format!("interface {} is not there", identity.host_interface)));
        };
        let wire = self.wire(&identity, &request, addresses);
        self.kernel(&identity, move |wiring| wiring.verify(&wire)).await?;
        self.in_force(&identity, link.index, &addresses_of(&stored), Wait::of(Duration::ZERO)).await
    }

    async fn attach_now(&self, request: &AttachRequest) -> Result<AttachResponse, WorkloadError> {
        let identity = Identity::of_attach(&self.config.node, request)?;
        let _attaching = self.attaching.read().await;
        let wait = Wait::of(self.config.deadline);
        let _guard = self.locks.lock(&identity.host_interface).await;
        self.require_ready().await?;
        let stored = self.stored(&identity).await?;
        let link = self.find(&identity).await?;
        if let Some(link) = &link {
            let owner = link.owner.as_deref();
            let ours = stored.as_ref().filter(|e| e.spec.container_id == identity.container);
            if let Some(stored) = ours.filter(|_| owner == Some(&identity.owner())) {
                let addresses = addresses_of(stored);
                // Made anew when the workload's side is not as it was made, or in another namespace than this one: the
                // container was started again without a DEL.
                if self.is_whole(&identity, request, &addresses).await? {
                    self.in_force(&identity, link.index, &addresses, wait).await?;
                    return Ok(response(&identity, link.mtu, &addresses));
                }
            }
            if let Some(owner) = owner.filter(|owner| !identity.displaces(owner)) {
                let (interface, owner) = (identity.host_interface.clone(), owner.to_owned());
                return Err(WorkloadError::Taken { interface, owner });
            }
        }
        // An interface lets its workload send at once; without any rules of ours that would go anywhere.
        self.until(&identity, wait, |applied| applied.guarded).await?;
        if identity.pod.is_none() {
            self.ensure_profile(&identity.network).await?;
        }
        let (written, change) = self.allocate(&identity, request, stored).await?;
        let finished = self.finish(&identity, request, &written, change, link.is_some(), wait).await;
        if let Err(error) = finished {
            self.undo(&identity, written).await;
            return Err(error);
        }
        Ok(response(&identity, self.mtu(request), &written.addresses))
    }

    /// Interface, then calc, then the data plane.
    async fn finish(
        &self,
        identity: &Identity,
        request: &AttachRequest,
        written: &Written,
        change: Change,
        leftover: bool,
        wait: Wait,
    ) -> Result<(), WorkloadError> {
        if leftover {
            let name = identity.host_interface.clone();
            self.kernel(identity, move |wiring| wiring.remove(&name)).await?;
        }
        let wire = self.wire(identity, request, written.addresses.clone());
        let index = self.kernel(identity, move |wiring| wiring.create(&wire)).await?;
        let mut updates = change.updates;
        updates.push(endpoint_update(&written.endpoint, Some(written.revision), written.revision));
        self.tell(updates).await?;
        self.in_force(identity, index, &written.addresses, wait).await
    }

    /// Takes back what an attach did. What cannot be taken back is left to the detach that follows a failed attach.
    async fn undo(&self, identity: &Identity, written: Written) {
        let name = identity.host_interface.clone();
        if let Err(error) = self.kernel(identity, move |wiring| wiring.remove(&name)).await {
            tracing::warn!(
                interface = identity.host_interface,
                error = error.chain(),
                "cannot undo an attach"
            );
            // As long as the interface lives, its addresses must not be given to another.
            return;
        }
        let stored = Some((&written.endpoint, written.revision));
        match self.release(identity, stored).await {
            Ok(Some(())) => {}
            Ok(None) => {
                tracing::warn!(endpoint = identity.endpoint, "left to who changed it during the attach");
            }
            Err(error) => {
                tracing::warn!(endpoint = identity.endpoint, error = error.chain(), "cannot undo an attach");
            }
        }
    }

    async fn detach_now(&self, request: &DetachRequest) -> Result<(), WorkloadError> {
        let identity = Identity::of_detach(&self.config.node, request)?;
        let _guard = self.locks.lock(&identity.host_interface).await;
        self.require_ready().await?;
        if self.find(&identity).await?.is_some_and(|link| identity.is_of_other_interface(&link)) {
            // The handle is the container's: what it holds belongs to the interface that was attached.
            return Ok(());
        }
        for _ in 0..ENDPOINT_RETRIES {
            let stored = self.stored(&identity).await?;
            let theirs = |endpoint: &WorkloadEndpoint| {
                ![identity.container.as_str(), ""].contains(&endpoint.spec.container_id.as_str())
            };
            let belongs_to_newer = stored.as_ref().is_some_and(theirs);
            // The interface goes first: as long as it lives, its addresses must not be given to another.
            self.remove_own_link(&identity, belongs_to_newer).await?;
            let mine = stored.as_ref().filter(|_| !belongs_to_newer);
            let mine = mine.map(|endpoint| (endpoint, revision_of(endpoint)));
            if self.release(&identity, mine).await?.is_some() {
                return Ok(());
            }
        }
        Err(WorkloadError::Contended { endpoint: identity.endpoint.clone() })
    }
}

fn response(identity: &Identity, mtu: u32, addresses: &[IpAddr]) -> AttachResponse {
    AttachResponse {
        host_interface: identity.host_interface.clone(),
        host_mac: HOST_MAC.to_string(),
        mac: identity.mac().to_string(),
        mtu,
        addresses: addresses.iter().copied().map(IpNetwork::from).collect(),
    }
}

/// A task that did not end by itself: its panic goes on here, else the runtime is shutting down.
fn stopped(error: JoinError) -> WorkloadError {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => WorkloadError::Stopping,
    }
}

#[cfg(test)]
mod tests;
