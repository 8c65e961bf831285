//! Initialisation, of new clusters and old ones, once and by many at a time.

use std::sync::Arc;

use tortie_model::{Key, Kind};

use super::*;
use crate::Store;
use crate::memory::MemoryStore;
use crate::store::{Operation, Transaction};

fn stamp() -> Stamp {
    Stamp { uid: "u-1".to_owned(), creation_timestamp: "2026-01-02T03:04:05Z".to_owned() }
}

fn guid() -> String {
    "ba3d624239c64dcd86f3b4e2f8a4ae5e".to_owned()
}

#[test]
fn a_new_cluster_is_written_as_upstream_writes_it() {
    let new = cluster_information(None, Some("v3.32.1"), "bgp", stamp, guid).unwrap();
    let text = String::from_utf8(tortie_model::codec::encode(&new.clone().into())).unwrap();
    let expected = concat!(
        r#"{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"u-1","#,
        r#""creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"clusterGUID":"ba3d624239c64dcd86f3b4e2f8a4ae5e","#,
        r#""clusterType":"bgp","calicoVersion":"v3.32.1","datastoreReady":true}}"#
    );
    assert_eq!(text, expected);
    assert_eq!(cluster_information(Some(new), Some("v3.32.1"), "bgp", stamp, guid), None);
}

#[test]
fn an_old_cluster_is_brought_up_to_date_and_stays_stopped() {
    let mut old = ClusterInformation::new(stamp().metadata("default"), ClusterInformationSpec::default());
    old.spec.cluster_guid = "00112233445566778899aabbccddeeff".to_owned();
    old.spec.cluster_type = "k8s,bgp".to_owned();
    old.spec.calico_version = "v3.28.0".to_owned();
    old.spec.datastore_ready = Some(false);
    let never = || -> String { panic!("the cluster has a GUID") };
    let unstamped = || -> Stamp { panic!("the cluster is stamped") };
    let new =
        cluster_information(Some(old.clone()), Some("v3.32.1"), "bgp,tortie", unstamped, never).unwrap();
    assert_eq!(new.spec.cluster_type, "k8s,bgp,tortie");
    assert_eq!(new.spec.calico_version, "v3.32.1");
    assert_eq!(new.spec.datastore_ready, Some(false));
    assert_eq!(cluster_information(Some(old), None, "bgp", unstamped, never), None);
}

#[test]
fn tiers_are_those_of_3_32() {
    let tiers = built_in_tiers(stamp);
    let facts: Vec<_> = tiers
        .iter()
        .map(|t| (t.metadata.name.as_str(), t.spec.order.unwrap(), t.spec.default_action.unwrap()))
        .collect();
    let expected = [
        ("default", 1e6, TierAction::Deny),
        ("kube-admin", 1e3, TierAction::Pass),
        ("kube-baseline", 1e7, TierAction::Pass),
    ];
    assert_eq!(facts, expected);
}

#[test]
fn stamps_are_uuids_and_whole_seconds() {
    let stamp = Stamp::now();
    assert_eq!(stamp.uid.len(), 36);
    assert!(stamp.creation_timestamp.ends_with('Z') && stamp.creation_timestamp.len() == 20, "{stamp:?}");
}

#[tokio::test]
async fn many_nodes_initialise_one_cluster() {
    let client = Client::new(Arc::new(MemoryStore::default()));
    let nodes = (0..8).map(|i| {
        let client = client.clone();
        async move { ensure_initialized(&client, Some("v3.32.1"), &format!("bgp,t{i}")).await }
    });
    for result in futures::future::join_all(nodes).await {
        result.unwrap();
    }
    let info = client.find::<ClusterInformationSpec>(None, "default").await.unwrap().unwrap();
    assert_eq!(info.spec.cluster_guid.len(), 32);
    assert_eq!(info.spec.cluster_type.split(',').count(), 9, "{}", info.spec.cluster_type);
    assert_eq!(client.list(Kind::Tier, None).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn a_tier_that_exists_is_left_alone() {
    let store = MemoryStore::default();
    let mut custom = built_in_tiers(stamp).remove(0);
    custom.spec.default_action = Some(TierAction::Pass);
    let key = Key::resource(Kind::Tier, None, "default").to_string();
    let value = tortie_model::codec::encode(&custom.into());
    let operations = vec![Operation::Put { key, value, lease: 0 }];
    store.transact(Transaction { compares: Vec::new(), operations }).await.unwrap();
    let client = Client::new(Arc::new(store));
    ensure_initialized(&client, None, "bgp").await.unwrap();
    let tier = client.find::<TierSpec>(None, "default").await.unwrap().unwrap();
    assert_eq!(tier.spec.default_action, Some(TierAction::Pass));
    let info = client.find::<ClusterInformationSpec>(None, "default").await.unwrap().unwrap();
    assert_eq!(info.spec.calico_version, "");
}
