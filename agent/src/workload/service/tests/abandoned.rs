//! What no workload has any more is taken away, after two looks a grace period apart; what one has stays.

use tokio::sync::oneshot;

use super::*;
use crate::calc::Tenancy;
use crate::workload::Search;
use tortie_datastore::ipam::{AssignRequest, Extra, allocations_of};

const GRACE: Duration = Duration::from_secs(900);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045 + seconds)
}

/// Answers as calc does, from what is stored.
async fn tenancy(store: MemoryStore) -> Tenancy {
    let client = Client::new(Arc::new(store.clone()));
    let endpoints = client.find_every::<WorkloadEndpointSpec>().await.unwrap();
    let mut tenancy = Tenancy { endpoints, ..Tenancy::default() };
    tenancy.endpoints.iter_mut().for_each(|endpoint| endpoint.metadata.resource_version = None);
    for kv in store.list("/calico/ipam/v2/assignment/").await.unwrap().entries {
        let block: Block = serde_json::from_slice(&kv.value).unwrap();
        tenancy.allocations.extend(allocations_of("n1", &block));
    }
    tenancy
}

fn search(world: &World, service: Service) -> Search {
    let (asker, mut questions) = mpsc::channel::<oneshot::Sender<Option<Tenancy>>>(1);
    let store = world.store.clone();
    tokio::spawn(async move {
        while let Some(question) = questions.recv().await {
            let _ = question.send(Some(tenancy(store.clone()).await));
        }
    });
    Search::new(service, asker, Some(GRACE))
}

async fn used(world: &World) -> Vec<String> {
    world.state().await.0.into_values().collect()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_interface_is_gone_goes_after_the_grace_period() {
    let world = World::new().await;
    let service = world.agent(&Faults::none());
    service.attach(request("lives")).await.unwrap();
    service.attach(request("gone")).await.unwrap();
    world.links.lock().unwrap().retain(|_, link| link.owner.as_deref() != Some("gone/eth0"));
    let mut search = search(&world, service);
    for seconds in [0, 300, 899] {
        search.look(at(seconds)).await;
        assert_eq!(used(&world).await, ["lives", "gone"]);
    }
    search.look(at(900)).await;
    assert_eq!(used(&world).await, ["lives"]);
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_back_stops_the_count() {
    let world = World::new().await;
    let service = world.agent(&Faults::none());
    service.attach(request("c1")).await.unwrap();
    let mut search = search(&world, service.clone());
    let links = world.links.lock().unwrap().clone();
    world.links.lock().unwrap().clear();
    search.look(at(0)).await;
    *world.links.lock().unwrap() = links.clone();
    search.look(at(600)).await;
    world.links.lock().unwrap().clear();
    search.look(at(1200)).await;
    assert_eq!(used(&world).await, ["c1"]);
    // Attached again before the next look: the same container, an interface of its own.
    service.attach(request("c1")).await.unwrap();
    search.look(at(9000)).await;
    assert_eq!(used(&world).await, ["c1"]);
}

#[tokio::test(start_paused = true)]
async fn one_look_is_not_enough_however_old() {
    let world = World::new().await;
    let service = world.agent(&Faults::none());
    service.attach(request("c1")).await.unwrap();
    world.links.lock().unwrap().clear();
    search(&world, service).look(at(1_000_000)).await;
    assert_eq!(used(&world).await, ["c1"]);
}

#[tokio::test(start_paused = true)]
async fn addresses_without_endpoint_are_released_and_those_of_the_living_are_not() {
    let world = World::new().await;
    let service = world.agent(&Faults::none());
    service.attach(request("c1")).await.unwrap();
    let ipam = service.config.ipam.clone();
    let attributes = BTreeMap::from([("node".to_owned(), "n1".to_owned())]);
    let leaked = AssignRequest { attributes, ..AssignRequest::new("n1", "net.leaked") };
    let leaked = ipam.assign(&leaked, |_| Extra::default()).await.unwrap().addresses[0];
    let mut search = search(&world, service);
    let given = async || {
        let blocks = world.store.list("/calico/ipam/v2/assignment/").await.unwrap().entries;
        let block: Block = serde_json::from_slice(&blocks[0].value).unwrap();
        block.in_use().map(|(address, _)| address).collect::<Vec<_>>()
    };
    search.look(at(0)).await;
    assert!(given().await.contains(&leaked));
    search.look(at(900)).await;
    assert!(!given().await.contains(&leaked), "released");
    assert_eq!(used(&world).await, ["c1"]);
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_died_anywhere_leaves_nothing_for_good() {
    for effect in [false, true] {
        for calls in 0..200 {
            let world = World::new().await;
            let done = world.agent(&Faults::after(calls, true, effect)).attach(request("c1")).await.is_ok();
            // The machine lost its power: no interface is left, and the container never comes back.
            world.links.lock().unwrap().clear();
            let mut search = search(&world, world.agent(&Faults::none()));
            search.look(at(0)).await;
            search.look(at(900)).await;
            assert_eq!(world.state().await, (BTreeMap::new(), Vec::new()), "after {calls} calls");
            if done {
                break;
            }
            assert!(calls < 199, "no run without fault");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_left_alone() {
    let world = World::new().await;
    let service = world.agent(&Faults::none());
    service.attach(request("c1")).await.unwrap();
    let mut endpoint = world.client().find_every::<WorkloadEndpointSpec>().await.unwrap().remove(0);
    world.links.lock().unwrap().clear();
    // Another orchestrator's endpoint: its interface comes when it comes.
    endpoint.metadata = ObjectMeta::namespaced("default", "n1-openstack-vm-eth0");
    endpoint.spec.orchestrator = "openstack".into();
    endpoint.spec.workload = "vm".into();
    endpoint.spec.interface_name = "tap0".into();
    endpoint.spec.container_id = String::new();
    world.client().create(endpoint.into()).await.unwrap();
    // The kernel does not answer: that is no proof.
    let mute = world.agent(&Faults::after(0, true, false));
    let mut search_of_mute = search(&world, mute);
    search_of_mute.look(at(0)).await;
    search_of_mute.look(at(5000)).await;
    let stored = world.client().find_every::<WorkloadEndpointSpec>().await.unwrap();
    assert_eq!(stored.len(), 2);
    let mut search = search(&world, service);
    search.look(at(0)).await;
    search.look(at(900)).await;
    let left = world.client().find_every::<WorkloadEndpointSpec>().await.unwrap();
    assert_eq!(left.iter().map(|e| e.spec.orchestrator.as_str()).collect::<Vec<_>>(), ["openstack"]);
}
