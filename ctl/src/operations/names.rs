//! Names users type and names in the store.
//!
//! Policies: up to 3.28 policy `foo` of tier default was stored as `default.foo`; 3.29 to 3.31 did the same and noted
//! the user's name in an annotation; since 3.32 it is stored as `foo`, with the annotation (calico-datamodel 1.10).
//! We write the form of 3.32 and read all three; a policy in an old form keeps its key when it is changed, so that
//! there are never two of it.
//!
//! Pools: calicoctl 1.x named a pool by its CIDR, so a name that is a CIDR selects the pool that has it.

use ipnetwork::IpNetwork;
use tortie_datastore::client::Identifier;
use tortie_datastore::{Client, ClientError};
use tortie_model::resource::IpPoolSpec;
use tortie_model::{AnyResource, Kind};

use super::OperationError;

/// JSON with the name the user gave a policy.
const NAME_ANNOTATION: &str = "projectcalico.org/metadata";

/// What old versions put before the names of policies in tier default.
const DEFAULT_TIER_PREFIX: &str = "default.";

fn is_policy(kind: Kind) -> bool {
    matches!(kind, Kind::NetworkPolicy | Kind::GlobalNetworkPolicy)
}

/// The stored object of a name, under its stored name. `None` when there is none.
pub(super) async fn stored(client: &Client, id: &Identifier) -> Result<Option<AnyResource>, OperationError> {
    if let Some(resource) = exact(client, id).await? {
        return Ok(Some(resource));
    }
    if is_policy(id.kind) {
        let old = Identifier { name: format!("{DEFAULT_TIER_PREFIX}{}", id.name), ..id.clone() };
        return Ok(exact(client, &old).await?.filter(|policy| shown_name(policy) == id.name));
    }
    match id.name.parse::<IpNetwork>() {
        Ok(cidr) if id.kind == Kind::IpPool && id.name.contains('/') => {
            let mut pools = client.find_all::<IpPoolSpec>().await?.into_iter();
            Ok(pools.find(|pool| pool.spec.cidr == cidr).map(AnyResource::from))
        }
        _ => Ok(None),
    }
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
    if is_policy(resource.kind()) {
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
    let tier = if let AnyResource::NetworkPolicy(policy) = resource {
        &policy.spec.tier
    } else if let AnyResource::GlobalNetworkPolicy(policy) = resource {
        &policy.spec.tier
    } else {
        return metadata.name.clone();
    };
    if let Some(name) = metadata.annotations.get(NAME_ANNOTATION).and_then(|text| noted_name(text)) {
        return name;
    }
    let in_default_tier = tier.as_deref().is_none_or(|tier| tier.is_empty() || tier == "default");
    match metadata.name.strip_prefix(DEFAULT_TIER_PREFIX) {
        Some(name) if in_default_tier && !name.is_empty() => name.to_owned(),
        _ => metadata.name.clone(),
    }
}

fn noted_name(annotation: &str) -> Option<String> {
    let note: serde_json::Value = serde_json::from_str(annotation).ok()?;
    note.get("name")?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Notes the user's name of a policy, as all clients since 3.29 do.
pub(super) fn annotate(resource: &mut AnyResource, user_name: &str) {
    if is_policy(resource.kind()) {
        let note = serde_json::json!({ "name": user_name }).to_string();
        resource.metadata_mut().annotations.insert(NAME_ANNOTATION.to_owned(), note);
    }
}
