//! The address of the node's IPIP device: allocated while a pool wants one, and published in the Node resource
//! (calico-datamodel 4.7).

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tortie_datastore::ipam::{Ipam, IpamError};
use tortie_datastore::{Client, ClientError};
use tortie_model::resource::NodeSpec;

use super::node::{self, NodeError};
use crate::logging::chain;

/// Why the device has no address.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The Node could not be read.
    #[error("cannot read the Node resource of this node")]
    Read(#[source] ClientError),
    /// None could be allocated.
    #[error("cannot allocate an address for the IPIP tunnel")]
    Allocate(#[from] IpamError),
    /// It could not be published.
    #[error("cannot publish the address of the IPIP tunnel")]
    Publish(#[from] NodeError),
}

/// Sees to the address once.
///
/// # Errors
/// [`TunnelError`].
pub async fn ensure(client: &Client, ipam: &Ipam, name: &str) -> Result<(), TunnelError> {
    // Without a Node there is nothing to publish in, and nobody to route to.
    let Some(stored) = client.find::<NodeSpec>(None, name).await.map_err(TunnelError::Read)? else {
        return Ok(());
    };
    let address = ipam.ensure_ipip_address(&stored).await?;
    let published = stored.spec.bgp.as_ref().and_then(|bgp| bgp.ipv4_ipip_tunnel_addr);
    if address != published {
        match address {
            Some(address) => tracing::info!(%address, "Assigned IPIP tunnel address to node"),
            None => tracing::info!("Removed IPIP tunnel address from node"),
        }
        node::write_ipip_address(client, name, address).await?;
    }
    Ok(())
}

/// Sees to the address whenever `changed` says that pools or the node are different; tries again until it works.
pub async fn keep(client: Client, ipam: Ipam, name: String, changed: std::sync::Arc<Notify>) {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LAST_PAUSE: Duration = Duration::from_secs(60);
    loop {
        changed.notified().await;
        let mut pause = FIRST_PAUSE;
        while let Err(error) = ensure(&client, &ipam, &name).await {
            tracing::warn!("{}; trying again in {} s", chain(&error), pause.as_secs());
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}
