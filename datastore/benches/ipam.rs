//! An address for a workload and back, over the store in memory: what our own code costs, in a cluster that is nearly
//! empty and in one that has 10 000 addresses in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use tortie_datastore::Client;
use tortie_datastore::ipam::{AssignRequest, Extra, Ipam};
use tortie_datastore::memory::MemoryStore;
use tortie_model::ObjectMeta;
use tortie_model::resource::{IpPool, IpPoolSpec, Node, NodeSpec};

/// Workloads of one node, before the one that is measured.
const PER_NODE: usize = 50;

fn want(node: usize, handle: &str) -> AssignRequest {
    AssignRequest {
        attributes: BTreeMap::from([("node".to_owned(), format!("n{node}"))]),
        ..AssignRequest::new(format!("n{node}"), handle)
    }
}

/// A cluster of so many nodes with [`PER_NODE`] workloads each.
async fn cluster(nodes: usize) -> Ipam {
    let client = Client::new(Arc::new(MemoryStore::default()));
    let spec = IpPoolSpec { cidr: "10.64.0.0/12".parse().expect("a literal"), ..IpPoolSpec::default() };
    client.create(IpPool::new(ObjectMeta::named("pool"), spec).into()).await.expect("a pool");
    let ipam = Ipam::new(client.clone(), SystemTime::now);
    for node in 0..nodes {
        let resource = Node::new(ObjectMeta::named(format!("n{node}")), NodeSpec::default());
        client.create(resource.into()).await.expect("a node");
        for workload in 0..PER_NODE {
            let request = want(node, &format!("net.n{node}-w{workload}"));
            ipam.assign(&request, |_| Extra::default()).await.expect("an address");
        }
    }
    ipam
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn addresses(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("ipam");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for nodes in [1, 200] {
        let ipam = runtime.block_on(cluster(nodes));
        let request = want(0, "net.measured");
        group.bench_function(BenchmarkId::new("assign_and_release_with_addresses", nodes * PER_NODE), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let assigned = ipam.assign(&request, |_| Extra::default()).await.expect("an address");
                    ipam.release_by_handle(&request.handle, Extra::default()).await.expect("its release");
                    assigned.addresses
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, addresses);
criterion_main!(benches);
