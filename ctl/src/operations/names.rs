//! Names users type and names in the store.
//!
//! Policies have had three forms of stored name; [`policy_name`] knows them. A policy that is there keeps its key when it is
//! changed, so that there are never two of it (decision 0007).
//!
//! Pools: calicoctl 1.x named a pool by its CIDR, so a name that is a CIDR selects the pool that has it.

use ipnetwork::IpNetwork;
use tortie_datastore::client::Identifier;
use tortie_datastore::{Client, ClientError};
use tortie_model::policy_name::{self, NAME_ANNOTATION};
use tortie_model::resource::IpPoolSpec;
use tortie_model::{AnyResource, Kind};

use super::OperationError;

/// The stored object of a name, under its stored name. `None` when there is none.
pub(super) async fn stored(client: &Client, id: &Identifier) -> Result<Option<AnyResource>, OperationError> {
    if id.kind.has_tiered_names() {
        return policy(client, id).await;
    }
    if let Some(resource) = exact(client, id).await? {
        return Ok(Some(resource));
    }
    match id.name.parse::<IpNetwork>() {
        Ok(cidr) if id.kind == Kind::IpPool && id.name.contains('/') => {
            let mut pools = client.find_all::<IpPoolSpec>().await?.into_iter();
            Ok(pools.find(|pool| pool.spec.cidr == cidr).map(AnyResource::from))
        }
        _ => Ok(None),
    }
}

async fn policy(client: &Client, id: &Identifier) -> Result<Option<AnyResource>, OperationError> {
    for name in policy_name::candidates(&id.name) {
        let candidate = Identifier { name, ..id.clone() };
        if let Some(policy) = exact(client, &candidate).await? {
            let (metadata, tier) = (policy.metadata(), policy_name::tier(&policy));
            if policy_name::is_called(&id.name, &metadata.name, tier, &metadata.annotations) {
                return Ok(Some(policy));
            }
        }
    }
    Ok(None)
}

async fn exact(client: &Client, id: &Identifier) -> Result<Option<AnyResource>, OperationError> {
    match client.get(id).await {
        Ok(resource) => Ok(Some(resource)),
        Err(ClientError::DoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A stored object as users see it: its own name, without the annotation.
pub(super) fn shown(mut resource: AnyResource) -> AnyResource {
    if resource.kind().has_tiered_names() {
        let name = shown_name(&resource);
        let metadata = resource.metadata_mut();
        metadata.name = name;
        metadata.annotations.remove(NAME_ANNOTATION);
    }
    resource
}

/// The name of a stored object as users see it.
pub(super) fn shown_name(resource: &AnyResource) -> String {
    let metadata = resource.metadata();
    if !resource.kind().has_tiered_names() {
        return metadata.name.clone();
    }
    policy_name::shown(&metadata.name, policy_name::tier(resource), &metadata.annotations)
}

/// Gives a new object the name it is stored under.
pub(super) fn name_for_store(resource: &mut AnyResource) {
    if resource.kind().has_tiered_names() {
        let name = policy_name::stored(&resource.metadata().name, policy_name::tier(resource));
        resource.metadata_mut().name = name;
    }
}

/// Notes the user's name of a policy, as all clients since 3.29 do.
pub(super) fn annotate(resource: &mut AnyResource, user_name: &str) {
    if resource.kind().has_tiered_names() {
        let note = policy_name::note(user_name);
        resource.metadata_mut().annotations.insert(NAME_ANNOTATION.to_owned(), note);
    }
}
