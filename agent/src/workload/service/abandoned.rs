//! Taking away what no workload has any more. Whether it is so is decided elsewhere (`leaks`); here it is made sure of:
//! no attach runs meanwhile, and the datastore says the same.

use std::sync::Arc;

use tortie_datastore::ipam::{Extra, IpamError, Leak};
use tortie_datastore::store::{Compare, Operation};
use tortie_model::resource::{WorkloadEndpoint, WorkloadEndpointSpec};

use super::Service;
use super::store::{addresses_of, endpoint_update, failed, revision_of};
use crate::workload::WorkloadError;

impl Service {
    /// The name of the node.
    pub(in crate::workload) fn node(&self) -> &str {
        &self.config.node
    }

    /// Whether the host interface of an endpoint is there. One that says it is another container's is not; any other is
    /// taken for it, whoever wrote its alias, and so is one of which nothing can be told.
    pub(in crate::workload) async fn has_interface(&self, endpoint: &WorkloadEndpoint) -> bool {
        let wiring = Arc::clone(&self.config.wiring);
        let name = endpoint.spec.interface_name.clone();
        let (container, interface) = (endpoint.spec.container_id.clone(), endpoint.spec.endpoint.clone());
        let is_another = move |owner: &str| match owner.rsplit_once('/') {
            Some((other, inside)) => inside == interface && other != container,
            None => false,
        };
        match tokio::task::spawn_blocking(move || wiring.find(&name)).await {
            Ok(Ok(found)) => found.is_some_and(|link| !link.owner.is_some_and(|owner| is_another(&owner))),
            // Not to know is no proof.
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Deletes the endpoint of a workload whose interface is gone and releases its handle, in one transaction. `false` when
    /// the endpoint is not what it was, or its interface is back.
    ///
    /// # Errors
    /// [`WorkloadError`]; nothing was taken away then.
    pub(in crate::workload) async fn remove_gone(
        &self,
        endpoint: &WorkloadEndpoint,
        handle: Option<&str>,
    ) -> Result<bool, WorkloadError> {
        let _guard = self.locks.lock(&endpoint.spec.interface_name).await;
        self.require_ready().await?;
        let namespace = endpoint.metadata.namespace.as_deref();
        let client = &self.config.client;
        let stored = client.find::<WorkloadEndpointSpec>(namespace, &endpoint.metadata.name).await;
        let Some(stored) = stored.map_err(failed("read the workload endpoint"))? else { return Ok(false) };
        if stored.spec != endpoint.spec || self.has_interface(endpoint).await {
            return Ok(false);
        }
        let key = stored.key().to_string();
        let extra = Extra {
            compares: vec![Compare::ModRevision(key.clone(), revision_of(&stored))],
            operations: vec![Operation::Delete(key)],
        };
        // Another workload may have the address since; what it holds stays. Without a handle only the endpoint goes.
        let own = format!(".{}", endpoint.spec.container_id);
        let handle = handle.filter(|handle| handle.ends_with(&own)).unwrap_or_default();
        let released = self.config.ipam.release_by_handle(handle, extra).await;
        match released {
            Ok(change) => {
                let mut updates = change.updates;
                updates.push(endpoint_update(&stored, None, change.revision));
                self.tell(updates).await?;
                Ok(true)
            }
            Err(IpamError::Superseded) => Ok(false),
            Err(source) => Err(WorkloadError::Ipam { action: "release addresses", source: Box::new(source) }),
        }
    }

    /// Releases a leak unless an endpoint in the datastore has one of its addresses. `false` when it is no leak any more.
    ///
    /// # Errors
    /// [`WorkloadError`].
    pub(in crate::workload) async fn release_leak(&self, leak: &Leak) -> Result<bool, WorkloadError> {
        // An attach that is repeated takes its addresses over from the attempt that was broken off. None is made to
        // wait: there is another look.
        let Ok(_nobody_attaches) = self.attaching.try_write() else { return Ok(false) };
        self.require_ready().await?;
        let endpoints = self.config.client.find_every::<WorkloadEndpointSpec>().await;
        let endpoints = endpoints.map_err(failed("list the workload endpoints"))?;
        let leaked: Vec<_> = leak.addresses().collect();
        let in_use = |endpoint: &WorkloadEndpoint| addresses_of(endpoint).iter().any(|a| leaked.contains(a));
        if endpoints.iter().any(in_use) {
            return Ok(false);
        }
        match self.config.ipam.release_leak(leak, Extra::default()).await {
            Ok(Some(change)) => {
                self.tell(change.updates).await?;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(source) => {
                Err(WorkloadError::Ipam { action: "release leaked addresses", source: Box::new(source) })
            }
        }
    }
}
