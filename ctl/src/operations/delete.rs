//! Deleting a resource with what hangs on it (calico-datamodel 1.11).

use std::time::Duration;

use tortie_datastore::client::Identifier;
use tortie_datastore::ipam::Ipam;
use tortie_datastore::{Client, ClientError};
use tortie_model::resource::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, StagedGlobalNetworkPolicySpec, StagedNetworkPolicySpec,
};
use tortie_model::{AnyResource, Kind};

use super::{OperationError, builtin, modify, names, node};

/// Tiers every cluster has.
const BUILT_IN_TIERS: [&str; 5] =
    ["default", "kube-admin", "kube-baseline", "adminnetworkpolicy", "baselineadminnetworkpolicy"];

/// What upstream waits between disabling a pool and giving up its blocks.
const POOL_SETTLING: Duration = Duration::from_millis(500);

/// Deletes a resource; at `revision` when given, else whatever is there.
pub(crate) async fn delete(
    client: &Client,
    id: &Identifier,
    revision: Option<&str>,
) -> Result<(), OperationError> {
    builtin::refuse_write("delete", id)?;
    if id.kind == Kind::Tier && BUILT_IN_TIERS.contains(&id.name.as_str()) {
        return refuse(id, "every cluster has this tier".to_owned());
    }
    let resource = match names::stored(client, id).await {
        Ok(Some(resource)) => resource,
        Ok(None) => return Err(ClientError::DoesNotExist(id.clone()).into()),
        // What nobody can read must not be undeletable.
        Err(OperationError::Client(ClientError::Decode(_))) => {
            client.delete(id, None).await?;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if revision.is_some_and(|wanted| resource.metadata().resource_version.as_deref() != Some(wanted)) {
        return Err(ClientError::Conflict(id.clone()).into());
    }
    let stored = Identifier::of(&resource);
    if stored.kind == Kind::Tier {
        refuse_tier_in_use(client, id).await?;
    }
    if let AnyResource::IpPool(pool) = &resource {
        // Nodes that saw the pool enabled may still be claiming from it: what they claim now is found empty or in use
        // like any other block.
        disable(client, &stored).await?;
        tokio::time::sleep(POOL_SETTLING).await;
        let ipam = Ipam::new(client.clone(), std::time::SystemTime::now);
        ipam.release_pool_affinities(&pool.spec.cidr).await?;
    }
    if stored.kind == Kind::Node {
        node::release(client, &stored.name).await?;
    }
    let at = if stored.kind == Kind::IpPool { None } else { revision.and_then(|r| r.parse().ok()) };
    client.delete(&stored, at).await?;
    Ok(())
}

async fn refuse_tier_in_use(client: &Client, id: &Identifier) -> Result<(), OperationError> {
    let in_tier = |tier: &Option<String>| tier.as_deref() == Some(id.name.as_str());
    let global = client.find_every::<GlobalNetworkPolicySpec>().await?;
    let namespaced = client.find_every::<NetworkPolicySpec>().await?;
    let staged_global = client.find_every::<StagedGlobalNetworkPolicySpec>().await?;
    let staged = client.find_every::<StagedNetworkPolicySpec>().await?;
    let users = global.iter().filter(|p| in_tier(&p.spec.tier)).count()
        + namespaced.iter().filter(|p| in_tier(&p.spec.tier)).count()
        + staged_global.iter().filter(|p| in_tier(&p.spec.tier)).count()
        + staged.iter().filter(|p| in_tier(&p.spec.tier)).count();
    if users > 0 {
        return refuse(id, format!("policies are still in it ({users}); delete them first"));
    }
    Ok(())
}

fn refuse(id: &Identifier, reason: String) -> Result<(), OperationError> {
    Err(OperationError::Unsupported { operation: "delete", identifier: id.clone(), reason })
}

/// Stops nodes from taking addresses from a pool that is about to go.
async fn disable(client: &Client, id: &Identifier) -> Result<(), OperationError> {
    let disabled = |mut resource: AnyResource| {
        if let AnyResource::IpPool(pool) = &mut resource {
            pool.spec.disabled = true;
        }
        Ok(resource)
    };
    modify(client, id, None, disabled).await.map(|_| ())
}
