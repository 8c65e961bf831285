//! What goes with a node when it is deleted (calico-datamodel 1.11): its endpoints and their addresses, its tunnel
//! addresses, its claims to blocks, and everything configured for it alone. The Node itself comes last, so that a
//! delete that broke off can be repeated.

use std::net::IpAddr;

use serde_json::Value;
use tortie_datastore::client::Identifier;
use tortie_datastore::ipam::{Ipam, IpamError, Tunnel};
use tortie_datastore::store::{Compare, Operation, Outcome, Transaction};
use tortie_datastore::{Client, ClientError, StoreError};
use tortie_model::Kind;
use tortie_model::resource::{BgpPeerSpec, WorkloadEndpointSpec};

use super::{OperationError, identifier};

/// Removes everything of a node except the Node.
pub(super) async fn release(client: &Client, node: &str) -> Result<(), OperationError> {
    let ipam = Ipam::new(client.clone(), std::time::SystemTime::now);
    endpoints(client, &ipam, node).await?;
    for tunnel in Tunnel::ALL {
        ipam.release_tunnel_address(tunnel, node).await.map_err(released)?;
    }
    ipam.remove_host(node).await.map_err(released)?;
    for peer in client.find_every::<BgpPeerSpec>().await?.iter().filter(|peer| peer.spec.node == node) {
        // At the revision read: it may be another node's by now.
        let revision = peer.metadata.resource_version.as_deref().and_then(|r| r.parse().ok());
        unless_absent(client.delete(&identifier(Kind::BgpPeer, "", &peer.metadata.name), revision).await)?;
    }
    for kind in [Kind::FelixConfiguration, Kind::BgpConfiguration] {
        let own = identifier(kind, "", &format!("node.{node}"));
        unless_absent(client.delete(&own, None).await)?;
    }
    host_endpoints(client, node).await
}

async fn endpoints(client: &Client, ipam: &Ipam, node: &str) -> Result<(), OperationError> {
    for endpoint in client.find_every::<WorkloadEndpointSpec>().await? {
        if endpoint.spec.node != node {
            continue;
        }
        let addresses: Vec<IpAddr> = endpoint.spec.ip_networks.iter().map(|network| network.ip()).collect();
        ipam.release_addresses(&addresses).await.map_err(released)?;
        let id = Identifier {
            kind: Kind::WorkloadEndpoint,
            namespace: endpoint.metadata.namespace,
            name: endpoint.metadata.name,
        };
        unless_absent(client.delete(&id, None).await)?;
    }
    Ok(())
}

/// HostEndpoints are not among our kinds yet; other clients may have stored some.
async fn host_endpoints(client: &Client, node: &str) -> Result<(), OperationError> {
    let prefix = format!("{}resources/v3/projectcalico.org/hostendpoints/", tortie_model::key::ROOT);
    let of_node = |value: &[u8]| {
        let value: Option<Value> = serde_json::from_slice(value).ok();
        value.is_some_and(|value| value.pointer("/spec/node").and_then(Value::as_str) == Some(node))
    };
    let entries = client.store().list(&prefix).await?.entries;
    for entry in entries.into_iter().filter(|entry| of_node(&entry.value)) {
        remove(client, entry.key, Some(entry.mod_revision)).await?;
    }
    Ok(())
}

/// Removes a key, at a revision when what it held decided that it goes.
async fn remove(client: &Client, key: String, revision: Option<i64>) -> Result<(), OperationError> {
    let compares = revision.map(|revision| Compare::ModRevision(key.clone(), revision)).into_iter().collect();
    let transaction = Transaction { compares, operations: vec![Operation::Delete(key.clone())] };
    match client.store().transact(transaction).await? {
        Outcome::Conflict { current, .. } if !current.is_empty() => {
            let reason = format!("{key} was changed meanwhile; delete the node again");
            Err(StoreError::Refused { reason }.into())
        }
        Outcome::Committed { .. } | Outcome::Conflict { .. } => Ok(()),
    }
}

fn unless_absent<T>(result: Result<T, ClientError>) -> Result<(), OperationError> {
    match result {
        Ok(_) | Err(ClientError::DoesNotExist(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn released(error: IpamError) -> OperationError {
    OperationError::Ipam(error)
}
