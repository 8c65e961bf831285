//! Typed resources over a store, with the semantics and words of upstream's client (calico-datamodel 1.3, 6.3).

use std::sync::Arc;

use tortie_model::codec::{self, DecodeError};
use tortie_model::resource::{Profile, ProfileSpec};
use tortie_model::rule::{Action, Rule};
use tortie_model::{AnyResource, Key, Kind, Object, ObjectMeta, Spec};

use crate::store::{Compare, KeyValue, Operation, Outcome, Transaction};
use crate::{Store, StoreError};

/// Why an operation on a resource failed. The texts are calicoctl's.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The resource is not there.
    #[error("resource does not exist: {0} with error: <nil>")]
    DoesNotExist(Identifier),
    /// The resource is there already.
    #[error("resource already exists: {0} with error: <nil>")]
    AlreadyExists(Identifier),
    /// Someone else changed it first.
    #[error("update conflict: {0}")]
    Conflict(Identifier),
    /// The resource is built in.
    #[error("operation {operation} is not supported on {id}")]
    NotSupported {
        /// `update` or `delete`.
        operation: &'static str,
        /// The resource.
        id: Identifier,
    },
    /// The stored value is no such resource.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `IPPool(x)`, or `NetworkPolicy(namespace/x)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// The kind.
    pub kind: Kind,
    /// The namespace, for namespaced kinds.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl Identifier {
    /// Of a resource.
    pub fn of(resource: &AnyResource) -> Identifier {
        let metadata = resource.metadata();
        Identifier {
            kind: resource.kind(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }

    /// Its key.
    pub fn key(&self) -> Key {
        Key::resource(self.kind, self.namespace.as_deref(), &self.name)
    }
}

impl std::fmt::Display for Identifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}({namespace}/{})", self.kind, self.name),
            None => write!(f, "{}({})", self.kind, self.name),
        }
    }
}

/// A client of typed resources. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    store: Arc<dyn Store>,
}

/// The answer to a list of resources.
#[derive(Debug)]
pub struct ResourceList {
    /// Revision of the store.
    pub revision: i64,
    /// In key order.
    pub items: Vec<AnyResource>,
    /// Values that are no such resource; the list goes on without them.
    pub invalid: Vec<DecodeError>,
}

impl Client {
    /// A client over a store.
    pub fn new(store: Arc<dyn Store>) -> Client {
        Client { store }
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Creates a resource; the caller has set `uid` and `creationTimestamp`. Returns it with its revision.
    ///
    /// # Errors
    /// [`ClientError::AlreadyExists`], or the store's.
    pub async fn create(&self, resource: AnyResource) -> Result<AnyResource, ClientError> {
        let id = Identifier::of(&resource);
        if is_built_in(&id) {
            return Err(ClientError::AlreadyExists(id));
        }
        let compare = Compare::Absent(id.key().to_string());
        match self.put(&id, &resource, compare).await? {
            Outcome::Committed { revision } => Ok(at_revision(resource, revision)),
            Outcome::Conflict { .. } => Err(ClientError::AlreadyExists(id)),
        }
    }

    /// Replaces the resource whose revision is `metadata.resourceVersion`.
    ///
    /// # Errors
    /// [`ClientError::DoesNotExist`], [`ClientError::Conflict`] (also without a valid revision),
    /// [`ClientError::NotSupported`], or the store's.
    pub async fn update(&self, resource: AnyResource) -> Result<AnyResource, ClientError> {
        let id = Identifier::of(&resource);
        if is_built_in(&id) {
            return Err(ClientError::NotSupported { operation: "update", id });
        }
        let Some(revision) = resource.metadata().resource_version.as_deref().and_then(|v| v.parse().ok())
        else {
            return Err(ClientError::Conflict(id));
        };
        match self.put(&id, &resource, Compare::ModRevision(id.key().to_string(), revision)).await? {
            Outcome::Committed { revision } => Ok(at_revision(resource, revision)),
            Outcome::Conflict { current, .. } if current.is_empty() => Err(ClientError::DoesNotExist(id)),
            Outcome::Conflict { .. } => Err(ClientError::Conflict(id)),
        }
    }

    async fn put(
        &self,
        id: &Identifier,
        resource: &AnyResource,
        compare: Compare,
    ) -> Result<Outcome, StoreError> {
        let put = Operation::Put { key: id.key().to_string(), value: codec::encode(resource), lease: 0 };
        self.store.transact(Transaction { compares: vec![compare], operations: vec![put] }).await
    }

    /// Deletes a resource, at `revision` when given. Returns what was deleted; of a value nobody can read its name only.
    ///
    /// # Errors
    /// [`ClientError::DoesNotExist`], [`ClientError::Conflict`], [`ClientError::NotSupported`], or the store's.
    pub async fn delete(&self, id: &Identifier, revision: Option<i64>) -> Result<AnyResource, ClientError> {
        if is_built_in(id) {
            return Err(ClientError::NotSupported { operation: "delete", id: id.clone() });
        }
        let key = id.key().to_string();
        loop {
            let Some(before) = self.store.get(&key).await? else {
                return Err(ClientError::DoesNotExist(id.clone()));
            };
            if revision.is_some_and(|wanted| wanted != before.mod_revision) {
                return Err(ClientError::Conflict(id.clone()));
            }
            let transaction = Transaction {
                compares: vec![Compare::ModRevision(key.clone(), before.mod_revision)],
                operations: vec![Operation::Delete(key.clone())],
            };
            match self.store.transact(transaction).await? {
                Outcome::Committed { .. } => return Ok(deleted(id, &before)?),
                Outcome::Conflict { .. } => {}
            }
        }
    }

    /// One resource.
    ///
    /// # Errors
    /// [`ClientError::DoesNotExist`], [`ClientError::Decode`], or the store's.
    pub async fn get(&self, id: &Identifier) -> Result<AnyResource, ClientError> {
        if is_built_in(id) {
            return Ok(default_allow_profile().into());
        }
        let key = id.key();
        match self.store.get(&key.to_string()).await? {
            Some(kv) => Ok(codec::decode(id.kind, &key, &kv.value, kv.mod_revision)?),
            None => Err(ClientError::DoesNotExist(id.clone())),
        }
    }

    /// All resources of a kind, or of a kind in a namespace. The built-in profile comes last among profiles.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, kind: Kind, namespace: Option<&str>) -> Result<ResourceList, ClientError> {
        let listing = self.store.list(&Key::resource_prefix(kind, namespace)).await?;
        let mut list = ResourceList { revision: listing.revision, items: Vec::new(), invalid: Vec::new() };
        for kv in &listing.entries {
            let Some(key) = Key::parse(&kv.key) else { continue };
            match codec::decode(kind, &key, &kv.value, kv.mod_revision) {
                Ok(resource) => list.items.push(resource),
                Err(error) => list.invalid.push(error),
            }
        }
        if kind == Kind::Profile {
            list.items.push(default_allow_profile().into());
        }
        Ok(list)
    }

    /// One resource of a known type; `None` when it is not there.
    ///
    /// # Errors
    /// [`ClientError::Decode`], or the store's.
    pub async fn find<S: Spec>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Object<S>>, ClientError>
    where
        Object<S>: TryFrom<AnyResource>,
    {
        let id = Identifier { kind: S::KIND, namespace: namespace.map(str::to_owned), name: name.to_owned() };
        match self.get(&id).await {
            Ok(any) => Ok(Object::try_from(any).ok()),
            Err(ClientError::DoesNotExist(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All resources of a known type, for callers to whom a missing one would be a wrong answer.
    ///
    /// # Errors
    /// [`ClientError::Decode`] of the first value that cannot be read, or the store's.
    pub async fn find_every<S: Spec>(&self) -> Result<Vec<Object<S>>, ClientError>
    where
        Object<S>: TryFrom<AnyResource>,
    {
        let list = self.list(S::KIND, None).await?;
        match list.invalid.into_iter().next() {
            Some(error) => Err(error.into()),
            None => Ok(list.items.into_iter().filter_map(|any| Object::try_from(any).ok()).collect()),
        }
    }

    /// All resources of a known type; invalid ones are left out, see [`Client::find_every`].
    ///
    /// # Errors
    /// The store's.
    pub async fn find_all<S: Spec>(&self) -> Result<Vec<Object<S>>, ClientError>
    where
        Object<S>: TryFrom<AnyResource>,
    {
        let list = self.list(S::KIND, None).await?;
        Ok(list.items.into_iter().filter_map(|any| Object::try_from(any).ok()).collect())
    }
}

/// A value that cannot be read must not be undeletable.
fn deleted(id: &Identifier, before: &KeyValue) -> Result<AnyResource, DecodeError> {
    let key = id.key();
    codec::decode(id.kind, &key, &before.value, before.mod_revision).or_else(|_| {
        let metadata = ObjectMeta {
            namespace: id.namespace.clone(),
            resource_version: Some(before.mod_revision.to_string()),
            ..ObjectMeta::named(&id.name)
        };
        codec::from_document(id.kind, serde_json::json!({ "metadata": metadata }))
            .map_err(|source| DecodeError::Json { key: key.to_string(), kind: id.kind.name(), source })
    })
}

/// The profile that allows everything, of endpoints that no orchestrator gave rules.
pub const DEFAULT_ALLOW_PROFILE: &str = "projectcalico-default-allow";

/// The built-in profile [`DEFAULT_ALLOW_PROFILE`]: one rule each way that allows. It is never stored and no syncer delivers
/// it: get and list make it up, and who computes policy adds it (calico-datamodel 1.11).
pub fn default_allow_profile() -> Profile {
    let allow = Rule { action: Action::Allow, ..Rule::default() };
    let spec = ProfileSpec { ingress: vec![allow.clone()], egress: vec![allow], ..ProfileSpec::default() };
    let metadata =
        ObjectMeta { resource_version: Some("1".to_owned()), ..ObjectMeta::named(DEFAULT_ALLOW_PROFILE) };
    Profile::new(metadata, spec)
}

/// Whether it is the built-in profile, which nobody can create, change or delete.
pub fn is_built_in(id: &Identifier) -> bool {
    id.kind == Kind::Profile && id.name == DEFAULT_ALLOW_PROFILE
}

fn at_revision(mut resource: AnyResource, revision: i64) -> AnyResource {
    resource.metadata_mut().resource_version = Some(revision.to_string());
    resource
}

#[cfg(test)]
mod tests;
