//! The syncer and cluster initialisation over real connections, through the restart of the server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tortie_datastore::etcd::EtcdStore;
use tortie_datastore::init::ensure_initialized;
use tortie_datastore::server::Embedded;
use tortie_datastore::{Client, Store, SyncEvent, SyncState, Syncer};
use tortie_model::{Key, Kind};

use crate::backend::{Backend, options, start_embedded, url};
use crate::suite::{delete, put};

const NODE: &str =
    r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n"},"spec":{},"status":{}}"#;

fn node(name: &str) -> String {
    Key::resource(Kind::Node, None, name).to_string()
}

async fn next(syncer: &mut Syncer) -> SyncEvent {
    let next = tokio::time::timeout(Duration::from_secs(20), syncer.events.recv()).await;
    next.expect("an event within twenty seconds").expect("the syncer runs")
}

/// Names of the updates until one of `last` comes, with `-` before those of what is gone.
async fn names_until(syncer: &mut Syncer, last: &str) -> Vec<String> {
    let mut names = Vec::new();
    while names.last().is_none_or(|name| name != last) {
        let SyncEvent::Updates(updates) = next(syncer).await else { continue };
        for update in updates {
            let text = update.key.to_string();
            let name = text.rsplit('/').next().unwrap_or_default();
            names.push(format!("{}{name}", if update.value.is_none() { "-" } else { "" }));
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_syncer_lives_through_a_restart_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = start_embedded(dir.path()).await;
    let address = server.address();
    let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(options(&url(address))).await.unwrap());
    for name in ["a", "b", "c"] {
        put(store.as_ref(), &node(name), NODE).await;
    }
    let mut syncer = Syncer::start(store.clone());
    assert_eq!(names_until(&mut syncer, "c").await, ["a", "b", "c"]);
    assert!(matches!(next(&mut syncer).await, SyncEvent::InSync));

    server.stop().await.unwrap();
    let lost = syncer.state.wait_for(|state| matches!(state, SyncState::Reconnecting { .. }));
    let lost = tokio::time::timeout(Duration::from_secs(20), lost).await.is_ok();
    assert!(lost, "the outage is noticed");
    assert!(syncer.events.try_recv().is_err(), "an outage changes nothing");
    let server = Embedded::start(dir.path(), address).await.unwrap();
    let other = EtcdStore::connect(options(&url(address))).await.unwrap();
    delete(&other, &node("b")).await;
    put(&other, &node("d"), NODE).await;
    assert_eq!(names_until(&mut syncer, "d").await, ["-b", "d"]);
    let back =
        tokio::time::timeout(Duration::from_secs(20), syncer.state.wait_for(|s| *s == SyncState::InSync));
    assert!(back.await.is_ok(), "the state follows");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn initialisation_on_the_embedded_server_and_on_etcd_stores_the_same_keys() {
    let mut seen = Vec::new();
    for backend in [Backend::embedded().await, Backend::etcd().await] {
        let client = Client::new(backend.store.clone());
        for _ in 0..2 {
            ensure_initialized(&client, Some("v3.32.1"), "bgp").await.unwrap();
        }
        let listing = backend.store.list("/calico/").await.unwrap();
        seen.push(listing.entries.into_iter().map(|kv| kv.key).collect::<BTreeSet<String>>());
    }
    assert_eq!(seen[0], seen[1]);
    let prefix = "/calico/resources/v3/projectcalico.org/";
    let names: Vec<&str> = seen[0].iter().filter_map(|key| key.strip_prefix(prefix)).collect();
    let expected =
        ["clusterinformations/default", "tiers/default", "tiers/kube-admin", "tiers/kube-baseline"];
    assert_eq!(names, expected);
}
