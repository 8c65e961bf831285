//! Many nodes at once: every address unique, blocks, affinities and handles consistent.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_datastore::Client;
use tortie_datastore::ipam::Extra;
use tortie_datastore::memory::MemoryStore;

use crate::audit::audit;
use crate::fixture::{ipam, pool, populate, want, with_endpoint, without_endpoint};

const NODES: usize = 20;
const WORKLOADS: usize = 10;

/// Everyone allocates, half of them release again, all at the same time. Each call has an allocator of its own, so that
/// the calls of one node collide as well.
async fn storm(client: &Client, cidr: &str) {
    let mut tasks = tokio::task::JoinSet::new();
    for node in 0..NODES {
        for workload in 0..WORKLOADS {
            let ipam = ipam(client);
            tasks.spawn(async move {
                let handle = format!("net.n{node}-w{workload}");
                let request = want(&format!("n{node}"), &handle);
                let assigned = ipam.assign(&request, with_endpoint(&handle)).await.unwrap().addresses;
                assert_eq!(assigned.len(), 1);
                if workload % 2 == 0 {
                    ipam.release_by_handle(&handle, without_endpoint(&handle)).await.unwrap();
                    return None;
                }
                Some(assigned[0])
            });
        }
    }
    let mut kept: Vec<IpAddr> = Vec::new();
    while let Some(result) = tasks.join_next().await {
        kept.extend(result.unwrap());
    }
    let unique: BTreeSet<IpAddr> = kept.iter().copied().collect();
    assert_eq!((kept.len(), unique.len()), (NODES * WORKLOADS / 2, NODES * WORKLOADS / 2));
    let found = audit(client).await;
    let held: BTreeSet<IpAddr> = found.held.values().flatten().copied().collect();
    assert_eq!(held, unique);
    let pool: ipnetwork::IpNetwork = cidr.parse().unwrap();
    assert!(held.iter().all(|address| pool.contains(*address)));
    for handle in found.held.keys() {
        ipam(client).release_by_handle(handle, Extra::default()).await.unwrap();
    }
    assert!(audit(client).await.held.is_empty());
}

fn names() -> Vec<String> {
    (0..NODES).map(|n| format!("n{n}")).collect()
}

pub(crate) async fn storms(store: Arc<dyn tortie_datastore::Store>) {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let client = populate(store, &names, &[pool("p", "10.65.0.0/20", 26)]).await;
    storm(&client, "10.65.0.0/20").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_nodes_with_room_for_all() {
    storms(Arc::new(MemoryStore::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_nodes_in_a_pool_that_is_just_large_enough() {
    // 256 addresses in 16 blocks for 20 nodes and 200 workloads: four nodes can only borrow.
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let store = Arc::new(MemoryStore::default());
    let client = populate(store, &names, &[pool("p", "10.65.0.0/24", 28)]).await;
    storm(&client, "10.65.0.0/24").await;
}
