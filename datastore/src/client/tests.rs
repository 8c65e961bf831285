//! The typed client over a store in memory.

use tortie_model::resource::{IpPool, IpPoolSpec};

use super::*;
use crate::memory::MemoryStore;

fn pool(name: &str) -> AnyResource {
    IpPool::new(ObjectMeta::named(name), IpPoolSpec::default()).into()
}

fn id(kind: Kind, name: &str) -> Identifier {
    Identifier { kind, namespace: None, name: name.to_owned() }
}

#[tokio::test]
async fn create_update_and_delete_answer_with_calicoctls_words() {
    let client = Client::new(Arc::new(MemoryStore::default()));
    let created = client.create(pool("a")).await.unwrap();
    let again = client.create(pool("a")).await.unwrap_err();
    assert_eq!(again.to_string(), "resource already exists: IPPool(a) with error: <nil>");
    let updated = client.update(created.clone()).await.unwrap();
    let stale = client.update(created).await.unwrap_err();
    assert_eq!(stale.to_string(), "update conflict: IPPool(a)");
    let old = client.delete(&id(Kind::IpPool, "a"), Some(1)).await.unwrap_err();
    assert!(matches!(old, ClientError::Conflict(_)));
    assert_eq!(client.delete(&id(Kind::IpPool, "a"), Some(2)).await.unwrap(), updated);
    let gone = client.delete(&id(Kind::IpPool, "a"), None).await.unwrap_err();
    assert_eq!(gone.to_string(), "resource does not exist: IPPool(a) with error: <nil>");
    let absent = client.update(updated).await.unwrap_err();
    assert!(matches!(absent, ClientError::DoesNotExist(_)));
}

#[tokio::test]
async fn a_value_nobody_can_read_is_reported_and_can_be_deleted() {
    let store = MemoryStore::default();
    let key = Key::resource(Kind::IpPool, None, "broken").to_string();
    let operations = vec![Operation::Put { key, value: b"{".to_vec(), lease: 0 }];
    store.transact(Transaction { compares: Vec::new(), operations }).await.unwrap();
    let client = Client::new(Arc::new(store));
    client.create(pool("a")).await.unwrap();
    let list = client.list(Kind::IpPool, None).await.unwrap();
    assert_eq!((list.items.len(), list.invalid.len(), list.revision), (1, 1, 2));
    assert_eq!(client.find_all::<IpPoolSpec>().await.unwrap().len(), 1);
    assert!(matches!(client.find_every::<IpPoolSpec>().await, Err(ClientError::Decode(_))));
    let broken = id(Kind::IpPool, "broken");
    assert!(matches!(client.get(&broken).await, Err(ClientError::Decode(_))));
    let deleted = client.delete(&broken, None).await.unwrap();
    assert_eq!(deleted.metadata().name, "broken");
    assert!(matches!(client.get(&broken).await, Err(ClientError::DoesNotExist(_))));
}

#[tokio::test]
async fn the_profile_that_allows_is_there_and_cannot_be_changed() {
    let client = Client::new(Arc::new(MemoryStore::default()));
    let own = id(Kind::Profile, DEFAULT_ALLOW_PROFILE);
    let profile = client.get(&own).await.unwrap();
    assert_eq!(profile.metadata().resource_version.as_deref(), Some("1"));
    let profiles = client.find_all::<ProfileSpec>().await.unwrap();
    assert_eq!(profiles.len(), 1);
    assert_eq!((profiles[0].spec.ingress.len(), profiles[0].spec.egress.len()), (1, 1));
    let exists = client.create(profile.clone()).await.unwrap_err();
    assert!(matches!(exists, ClientError::AlreadyExists(_)));
    let update = client.update(profile).await.unwrap_err();
    let text = "operation update is not supported on Profile(projectcalico-default-allow)";
    assert_eq!(update.to_string(), text);
    let delete = client.delete(&own, None).await.unwrap_err();
    assert!(matches!(delete, ClientError::NotSupported { operation: "delete", .. }));
}
