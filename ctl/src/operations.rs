//! What the verbs do to the store, with the semantics of upstream's client (calico-datamodel 1.3, 1.10, 1.11, 6.3).
//!
//! | module | what it owns |
//! |---|---|
//! | `names` | policy names of three eras; pools named by their CIDR |
//! | `builtin` | what may not be written |
//! | `preflight` | checks against the store of everything that is about to be written |
//! | `delete` | deleting with what hangs on a resource |
//! | `node` | what hangs on a node |
//! | `ipam_check` | blocks, handles and claims against endpoints and nodes |
//!
//! Resources come in validated and with defaults; nothing here prints.

use std::time::Duration;

use tortie_datastore::client::Identifier;
use tortie_datastore::init::Stamp;
use tortie_datastore::ipam::IpamError;
use tortie_datastore::{Client, ClientError, StoreError};
use tortie_model::strict::Problem;
use tortie_model::{AnyResource, Kind, ObjectMeta};

mod builtin;
mod delete;
pub(crate) mod ipam_check;
mod names;
mod node;
mod preflight;
#[cfg(test)]
mod tests;

pub(crate) use delete::delete;
pub(crate) use preflight::{Verb, preflight};

/// An update that lost a race is repeated so often, so far apart (calico-datamodel 6.3).
const UPDATE_RETRIES: usize = 5;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why an operation failed. The texts are calicoctl's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// The client's own.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The operation makes no sense on this resource.
    #[error("operation {operation} is not supported on {identifier}: {reason}")]
    Unsupported { operation: &'static str, identifier: Identifier, reason: String },
    /// Addresses could not be released.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The resource breaks a rule that only shows against the store.
    #[error("{0}")]
    Invalid(Problem),
}

impl OperationError {
    /// The failure of the store itself, after which going on makes no sense.
    pub(crate) fn store_failure(&self) -> Option<&StoreError> {
        match self {
            OperationError::Client(ClientError::Store(error))
            | OperationError::Ipam(IpamError::Store(error)) => Some(error),
            OperationError::Client(
                ClientError::DoesNotExist(_)
                | ClientError::AlreadyExists(_)
                | ClientError::Conflict(_)
                | ClientError::NotSupported { .. }
                | ClientError::Decode(_),
            )
            | OperationError::Ipam(_)
            | OperationError::Unsupported { .. }
            | OperationError::Invalid(_) => None,
        }
    }

    /// Whether the resource was not there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, OperationError::Client(ClientError::DoesNotExist(_)))
    }

    /// Whether the resource was there already.
    pub(crate) fn exists(&self) -> bool {
        matches!(self, OperationError::Client(ClientError::AlreadyExists(_)))
    }
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> OperationError {
        OperationError::Client(ClientError::Store(error))
    }
}

/// A resource by kind, namespace (for namespaced kinds) and name.
pub(crate) fn identifier(kind: Kind, namespace: &str, name: &str) -> Identifier {
    let namespace = kind.is_namespaced().then(|| namespace.to_owned());
    Identifier { kind, namespace, name: name.to_owned() }
}

/// Creates a resource: sets uid and time, keeps name, namespace, labels and annotations of its metadata.
pub(crate) async fn create(client: &Client, resource: AnyResource) -> Result<AnyResource, OperationError> {
    let id = Identifier::of(&resource);
    builtin::refuse_write("create", &id)?;
    if let Some(revision) = &resource.metadata().resource_version {
        let rule = "field must not be set for a Create request";
        return Err(OperationError::Invalid(Problem::bad_value("metadata.resourceVersion", revision, rule)));
    }
    if names::stored(client, &id).await?.is_some() {
        return Err(ClientError::AlreadyExists(id).into());
    }
    let mut stored = resource;
    let metadata = stored.metadata().clone();
    *stored.metadata_mut() = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        labels: metadata.labels,
        annotations: metadata.annotations,
        ..ObjectMeta::default()
    };
    stamp(stored.metadata_mut());
    names::annotate(&mut stored, &id.name);
    names::name_for_store(&mut stored);
    match client.create(stored).await {
        Ok(created) => Ok(names::shown(created)),
        // Under the name the user knows.
        Err(ClientError::AlreadyExists(_)) => Err(ClientError::AlreadyExists(id).into()),
        Err(error) => Err(error.into()),
    }
}

/// Gives an object its uid and time of creation where it has none.
fn stamp(metadata: &mut ObjectMeta) {
    let stamp = Stamp::now();
    metadata.uid.get_or_insert(stamp.uid);
    metadata.creation_timestamp.get_or_insert(stamp.creation_timestamp);
}

/// Replaces a resource that exists. Without a revision in the document a lost race is repeated.
pub(crate) async fn replace(client: &Client, resource: AnyResource) -> Result<AnyResource, OperationError> {
    let id = Identifier::of(&resource);
    builtin::refuse_write("update", &id)?;
    let wanted = resource.metadata().resource_version.clone();
    modify(client, &id, wanted.as_deref(), |current| Ok(merged(current, &resource))).await
}

/// Creates a resource, or replaces it when it exists.
pub(crate) async fn apply(client: &Client, resource: AnyResource) -> Result<AnyResource, OperationError> {
    let id = Identifier::of(&resource);
    builtin::refuse_write("apply", &id)?;
    if resource.metadata().resource_version.is_some() {
        return replace(client, resource).await;
    }
    match create(client, resource.clone()).await {
        Err(error) if error.exists() => replace(client, resource).await,
        other => other,
    }
}

/// Reads a resource, changes it and writes it back, again and again while others win the race.
///
/// # Errors
/// What `change` returns; a conflict when `wanted` is another revision than the stored one, or after all retries.
pub(crate) async fn modify(
    client: &Client,
    id: &Identifier,
    wanted: Option<&str>,
    change: impl Fn(AnyResource) -> Result<AnyResource, OperationError>,
) -> Result<AnyResource, OperationError> {
    builtin::refuse_write("update", id)?;
    let mut retries = UPDATE_RETRIES;
    loop {
        let Some(current) = names::stored(client, id).await? else {
            return Err(ClientError::DoesNotExist(id.clone()).into());
        };
        if wanted.is_some_and(|wanted| current.metadata().resource_version.as_deref() != Some(wanted)) {
            return Err(ClientError::Conflict(id.clone()).into());
        }
        let (stored_name, shown_name) = (current.metadata().name.clone(), names::shown_name(&current));
        let mut next = change(current)?;
        next.metadata_mut().name = stored_name;
        stamp(next.metadata_mut());
        names::annotate(&mut next, &shown_name);
        match client.update(next).await {
            Ok(written) => return Ok(names::shown(written)),
            Err(ClientError::Conflict(_)) if wanted.is_none() && retries > 0 => retries -= 1,
            Err(ClientError::Conflict(_)) => return Err(ClientError::Conflict(id.clone()).into()),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// The stored object with the spec, labels and annotations of a document. Everything else, fields unknown to us
/// among it, stays as stored.
fn merged(mut current: AnyResource, document: &AnyResource) -> AnyResource {
    let mut next = document.clone();
    let labels = document.metadata().labels.clone();
    let annotations = document.metadata().annotations.clone();
    *next.metadata_mut() = ObjectMeta { labels, annotations, ..current.metadata().clone() };
    *next.original_mut() = std::mem::take(current.original_mut());
    *next.status_mut() = current.status_mut().take();
    next
}

/// One resource as it is shown.
pub(crate) async fn get(client: &Client, id: &Identifier) -> Result<AnyResource, OperationError> {
    match names::stored(client, id).await? {
        Some(resource) => Ok(names::shown(resource)),
        None => Err(ClientError::DoesNotExist(id.clone()).into()),
    }
}

/// What a list found.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Revision of the store.
    pub(crate) revision: i64,
    /// As they are shown.
    pub(crate) items: Vec<AnyResource>,
    /// Why stored values are missing in `items`.
    pub(crate) unreadable: Vec<String>,
}

/// All resources of a kind, of one namespace or of all, as they are shown.
pub(crate) async fn list(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
) -> Result<Listed, OperationError> {
    let list = client.list(kind, namespace.filter(|_| kind.is_namespaced())).await?;
    let items = list.items.into_iter().map(names::shown).collect();
    let unreadable = list.invalid.iter().map(crate::commands::chain).collect();
    Ok(Listed { revision: list.revision, items, unreadable })
}
