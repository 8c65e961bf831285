//! What goes with a node when it is deleted (calico-datamodel 1.11): its endpoints and their addresses, its tunnel
//! addresses, its claims to blocks, and everything configured for it alone. The Node itself comes last, so that a
//! delete that broke off can be repeated.

use std::net::IpAddr;

use tortie_datastore::client::Identifier;
use tortie_datastore::ipam::{Ipam, IpamError, Tunnel};
use tortie_datastore::{Client, ClientError};
use tortie_model::resource::{BgpPeerSpec, HostEndpointSpec, WorkloadEndpointSpec};
use tortie_model::{Kind, ObjectMeta};

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
        let id = identifier(Kind::BgpPeer, "", &peer.metadata.name);
        unless_absent(client.delete(&id, revision(&peer.metadata)).await)?;
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

async fn host_endpoints(client: &Client, node: &str) -> Result<(), OperationError> {
    let all = client.find_every::<HostEndpointSpec>().await?;
    for endpoint in all.iter().filter(|endpoint| endpoint.spec.node == node) {
        let id = identifier(Kind::HostEndpoint, "", &endpoint.metadata.name);
        unless_absent(client.delete(&id, revision(&endpoint.metadata)).await)?;
    }
    Ok(())
}

/// The revision an object was read at: what was decided by its content must not happen to another content.
fn revision(metadata: &ObjectMeta) -> Option<i64> {
    metadata.resource_version.as_deref().and_then(|revision| revision.parse().ok())
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
