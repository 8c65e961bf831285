//! Deleting a resource with what hangs on it (calico-datamodel 1.11).

use tortie_datastore::Client;
use tortie_datastore::client::Identifier;
use tortie_model::resource::{GlobalNetworkPolicySpec, NetworkPolicySpec};
use tortie_model::{AnyResource, Kind};

use super::{OperationError, builtin, modify, names};

/// Tiers every cluster has.
const BUILT_IN_TIERS: [&str; 5] =
    ["default", "kube-admin", "kube-baseline", "adminnetworkpolicy", "baselineadminnetworkpolicy"];

/// Deletes a resource; at `revision` when given, else whatever is there.
pub(crate) async fn delete(
    client: &Client,
    id: &Identifier,
    revision: Option<&str>,
) -> Result<(), OperationError> {
    builtin::refuse_write("delete", id)?;
    let Some(resource) = names::stored(client, id).await? else {
        return Err(tortie_datastore::ClientError::DoesNotExist(id.clone()).into());
    };
    if revision.is_some_and(|wanted| resource.metadata().resource_version.as_deref() != Some(wanted)) {
        return Err(tortie_datastore::ClientError::Conflict(id.clone()).into());
    }
    let stored = Identifier::of(&resource);
    match &resource {
        AnyResource::Tier(_) => refuse_tier_in_use(client, id).await?,
        AnyResource::IpPool(_) => disable(client, &stored).await?,
        _ => {}
    }
    let at = if stored.kind == Kind::IpPool { None } else { revision.and_then(|r| r.parse().ok()) };
    client.delete(&stored, at).await?;
    Ok(())
}

async fn refuse_tier_in_use(client: &Client, id: &Identifier) -> Result<(), OperationError> {
    let refuse = |reason: String| {
        Err(OperationError::Unsupported { operation: "delete", identifier: id.clone(), reason })
    };
    if BUILT_IN_TIERS.contains(&id.name.as_str()) {
        return refuse("every cluster has this tier".to_owned());
    }
    let in_tier = |tier: &Option<String>| tier.as_deref() == Some(id.name.as_str());
    let global = client.find_all::<GlobalNetworkPolicySpec>().await?;
    let namespaced = client.find_all::<NetworkPolicySpec>().await?;
    let users = global.iter().filter(|p| in_tier(&p.spec.tier)).count()
        + namespaced.iter().filter(|p| in_tier(&p.spec.tier)).count();
    if users > 0 {
        return refuse(format!("{users} policies are still in it; delete them first"));
    }
    Ok(())
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
