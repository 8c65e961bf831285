//! The datastore's part of an attach and a detach, and what calc is told about it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_datastore::ClientError;
use tortie_datastore::client::Identifier;
use tortie_datastore::ipam::{AssignRequest, Change, Extra, IpamError};
use tortie_datastore::store::{Compare, Operation};
use tortie_datastore::syncer::{Update, Value};
use tortie_model::local_api::AttachRequest;
use tortie_model::resource::{ClusterInformationSpec, ProfileSpec, WorkloadEndpoint, WorkloadEndpointSpec};
use tortie_model::{AnyResource, Kind, codec};

use super::{ENDPOINT_RETRIES, Service, Written};
use crate::workload::WorkloadError;
use crate::workload::endpoint::{attributes, endpoint, network_profile};
use crate::workload::identity::Identity;

impl Service {
    /// Addresses and endpoint, in one transaction.
    pub(super) async fn allocate(
        &self,
        identity: &Identity,
        request: &AttachRequest,
        mut stored: Option<WorkloadEndpoint>,
    ) -> Result<(Written, Change), WorkloadError> {
        let wanted = self.assign_request(identity, request)?;
        let now = self.rfc3339();
        for _ in 0..ENDPOINT_RETRIES {
            let make =
                |addresses: &[IpAddr]| endpoint(identity, request, stored.as_ref(), addresses, now.clone());
            let extra = |addresses: &[IpAddr]| put_endpoint(make(addresses), stored.as_ref());
            match self.config.ipam.assign(&wanted, extra).await {
                Ok(change) => {
                    let addresses = change.addresses.clone();
                    let written =
                        Written { endpoint: make(&addresses), revision: change.revision, addresses };
                    return Ok((written, change));
                }
                Err(IpamError::Superseded) => stored = self.stored(identity).await?,
                Err(source) => {
                    return Err(WorkloadError::Ipam {
                        action: "allocate addresses",
                        source: Box::new(source),
                    });
                }
            }
        }
        Err(WorkloadError::Contended { endpoint: identity.endpoint.clone() })
    }

    /// Releases the handle's addresses and deletes the endpoint, in one transaction. `None` when the endpoint was
    /// changed meanwhile; nothing is released then.
    pub(super) async fn release(
        &self,
        identity: &Identity,
        stored: Option<(&WorkloadEndpoint, i64)>,
    ) -> Result<Option<()>, WorkloadError> {
        let extra = stored.map(|(endpoint, revision)| {
            let key = endpoint.key().to_string();
            let compares = vec![Compare::ModRevision(key.clone(), revision)];
            Extra { compares, operations: vec![Operation::Delete(key)] }
        });
        match self.config.ipam.release_by_handle(&identity.handle, extra.unwrap_or_default()).await {
            Ok(change) => {
                let mut updates = change.updates;
                updates.extend(stored.map(|(endpoint, _)| endpoint_update(endpoint, None, change.revision)));
                self.tell(updates).await?;
                Ok(Some(()))
            }
            Err(IpamError::Superseded) => Ok(None),
            Err(source) => Err(WorkloadError::Ipam { action: "release addresses", source: Box::new(source) }),
        }
    }

    /// A migration or an operator may have locked the datastore (calico-datamodel 1.3).
    pub(super) async fn require_ready(&self) -> Result<(), WorkloadError> {
        let found = self.config.client.find::<ClusterInformationSpec>(None, "default").await;
        let information = found.map_err(failed("read ClusterInformation"))?;
        match information.and_then(|i| i.spec.datastore_ready) {
            Some(false) => Err(WorkloadError::NotReady),
            Some(true) | None => Ok(()),
        }
    }

    pub(super) async fn stored(
        &self,
        identity: &Identity,
    ) -> Result<Option<WorkloadEndpoint>, WorkloadError> {
        let found =
            self.config.client.find::<WorkloadEndpointSpec>(Some(&identity.namespace), &identity.endpoint);
        found.await.map_err(failed("read the workload endpoint"))
    }

    pub(super) async fn ensure_profile(&self, network: &str) -> Result<(), WorkloadError> {
        let client = &self.config.client;
        let found = client.find::<ProfileSpec>(None, network).await;
        if found.map_err(failed("read the network's profile"))?.is_some() {
            return Ok(());
        }
        match client.create(network_profile(network, self.rfc3339()).into()).await {
            Ok(created) => {
                let revision = revision(created.metadata().resource_version.as_deref());
                let key = Identifier { kind: Kind::Profile, namespace: None, name: network.to_owned() }.key();
                self.tell(vec![Update { key, value: Some(Value::Resource(Box::new(created))), revision }])
                    .await
            }
            Err(ClientError::AlreadyExists(_)) => Ok(()),
            Err(error) => Err(failed("create the network's profile")(error)),
        }
    }

    fn assign_request(
        &self,
        identity: &Identity,
        request: &AttachRequest,
    ) -> Result<AssignRequest, WorkloadError> {
        let asked = |ipv6: bool| request.addresses.iter().any(|a| a.is_ipv6() == ipv6);
        let ipv6_pool = |pool: &String| pool.parse::<IpNetwork>().is_ok_and(|cidr| cidr.is_ipv6());
        let ipv4 = request.assign_ipv4.unwrap_or(true) && !asked(false);
        let ipv6 = request.assign_ipv6.unwrap_or_else(|| request.pools.iter().any(ipv6_pool)) && !asked(true);
        if !ipv4 && !ipv6 && request.addresses.is_empty() {
            return Err(WorkloadError::Invalid {
                field: "assignIpv4",
                value: "false".into(),
                rule: "leaves no family: set assignIpv6, or ask for an address",
            });
        }
        Ok(AssignRequest {
            namespace: identity.pod.as_ref().map(|_| identity.namespace.clone()),
            attributes: attributes(identity, self.go_time()),
            ipv4: usize::from(ipv4),
            ipv6: usize::from(ipv6),
            addresses: request.addresses.clone(),
            pools: request.pools.clone(),
            ..AssignRequest::new(&identity.node, &identity.handle)
        })
    }

    pub(super) async fn tell(&self, updates: Vec<Update>) -> Result<(), WorkloadError> {
        if updates.is_empty() {
            return Ok(());
        }
        self.updates.send(updates).await.map_err(|_| WorkloadError::Stopping)
    }

    fn timestamp(&self) -> jiff::Timestamp {
        jiff::Timestamp::try_from((self.config.now)()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    fn rfc3339(&self) -> String {
        self.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// As Go prints a time in UTC.
    fn go_time(&self) -> String {
        self.timestamp().strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
    }
}

fn put_endpoint(endpoint: WorkloadEndpoint, stored: Option<&WorkloadEndpoint>) -> Extra {
    let key = endpoint.key().to_string();
    let compare = match stored {
        Some(stored) => Compare::ModRevision(key.clone(), revision_of(stored)),
        None => Compare::Absent(key.clone()),
    };
    let value = codec::encode(&AnyResource::from(endpoint));
    Extra { compares: vec![compare], operations: vec![Operation::Put { key, value, lease: 0 }] }
}

/// The endpoint as a watch would deliver it: written at a revision, or gone (`None`).
pub(super) fn endpoint_update(endpoint: &WorkloadEndpoint, written: Option<i64>, revision: i64) -> Update {
    let value = written.map(|revision| {
        let mut endpoint = endpoint.clone();
        endpoint.metadata.resource_version = Some(revision.to_string());
        Value::Resource(Box::new(endpoint.into()))
    });
    Update { key: endpoint.key(), value, revision }
}

/// The mod revision an endpoint was read at.
pub(super) fn revision_of(endpoint: &WorkloadEndpoint) -> i64 {
    revision(endpoint.metadata.resource_version.as_deref())
}

fn revision(text: Option<&str>) -> i64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

pub(super) fn addresses_of(endpoint: &WorkloadEndpoint) -> Vec<IpAddr> {
    endpoint.spec.ip_networks.iter().map(IpNetwork::ip).collect()
}

pub(super) fn failed(action: &'static str) -> impl FnOnce(ClientError) -> WorkloadError {
    move |source| WorkloadError::Datastore { action, source: Box::new(source) }
}
