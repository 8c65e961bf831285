//! Attach and detach on the real kernel, inside user, mount and network namespaces of their own: what a workload sees,
//! and that nothing is left. The data plane is a stand-in that routes and reports.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod netns;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netns::run;
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, watch};
use tortie_agent::desired::{Applied, Wired};
use tortie_agent::workload::{ErrorKind, Service, ServiceConfig};
use tortie_datastore::memory::MemoryStore;
use tortie_datastore::syncer::{Update, Value};
use tortie_datastore::{Client, Store as _};
use tortie_model::local_api::{AttachRequest, AttachResponse, DetachRequest, PodName};
use tortie_model::resource::{IpPool, IpPoolSpec, Node, NodeSpec, WorkloadEndpointSpec};
use tortie_model::{AnyResource, Key, ObjectMeta};

const MTU: u32 = 1480;

fn ip_json(namespace: Option<&str>, arguments: &str) -> Json {
    let enter = namespace.map(|name| format!("nsenter --net=/run/netns/{name} ")).unwrap_or_default();
    let text = run(&format!("{enter}ip -j {arguments}"));
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
}

fn interfaces() -> Vec<String> {
    let links = ip_json(None, "link");
    let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("cali")).collect()
}

/// A host with a pool, and its namespaces' directory.
struct World {
    store: MemoryStore,
    client: Client,
    service: Service,
    obey: watch::Sender<bool>,
}

impl World {
    async fn new(deadline: Duration) -> World {
        run(
            "mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up && ip addr add 192.0.2.1/32 dev lo",
        );
        run("ip -6 addr add 2001:db8::1/128 dev lo && echo 1 > /proc/sys/net/ipv4/ip_forward");
        let store = MemoryStore::default();
        let client = Client::new(Arc::new(store.clone()));
        client.create(Node::new(ObjectMeta::named("n1"), NodeSpec::default()).into()).await.unwrap();
        for (name, cidr) in [("four", "10.65.0.0/24"), ("six", "fd00:65::/112")] {
            let spec = IpPoolSpec { cidr: cidr.parse().unwrap(), ..IpPoolSpec::default() };
            client.create(IpPool::new(ObjectMeta::named(name), spec).into()).await.unwrap();
        }
        let (applied, applied_reader) = watch::channel(Arc::new(Applied::default()));
        let (updates, updates_reader) = mpsc::channel(16);
        let (obey, obeys) = watch::channel(true);
        tokio::spawn(data_plane(updates_reader, applied, obeys));
        let (_, mtu) = watch::channel(MTU);
        let mut config = ServiceConfig::new(client.clone(), "n1", mtu);
        config.deadline = deadline;
        World { store, client, service: Service::new(config, applied_reader, updates), obey }
    }

    /// Keys below IPAM's handles and the endpoints, and addresses in use.
    async fn leftovers(&self) -> Vec<String> {
        let mut found = interfaces();
        for kv in self.store.list("/").await.unwrap().entries {
            match Key::parse(&kv.key) {
                Some(Key::Handle(id)) => found.push(id),
                Some(Key::Block(_)) => {
                    let block: tortie_model::ipam::Block = serde_json::from_slice(&kv.value).unwrap();
                    found.extend(block.in_use().map(|(address, _)| address.to_string()));
                }
                Some(Key::Resource { kind: tortie_model::Kind::WorkloadEndpoint, name, .. }) => {
                    found.push(name)
                }
                _ => {}
            }
        }
        found
    }
}

/// Routes and reports what it is told about, as the data plane would; notices interfaces that vanish.
async fn data_plane(
    mut updates: mpsc::Receiver<Vec<Update>>,
    applied: watch::Sender<Arc<Applied>>,
    obeys: watch::Receiver<bool>,
) {
    let mut wired: Vec<(Key, String, BTreeSet<IpAddr>, u32)> = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            batch = updates.recv() => {
                let Some(batch) = batch else { return };
                for update in batch.into_iter().filter(|_| *obeys.borrow()) {
                    wired.retain(|(key, ..)| *key != update.key);
                    let Some(Value::Resource(resource)) = update.value else { continue };
                    let AnyResource::WorkloadEndpoint(endpoint) = *resource else { continue };
                    let name = endpoint.spec.interface_name;
                    let addresses: BTreeSet<IpAddr> = endpoint.spec.ip_networks.iter().map(|n| n.ip()).collect();
                    run(&format!("echo 1 > /proc/sys/net/ipv4/conf/{name}/proxy_arp"));
                    for address in &addresses {
                        run(&format!("ip route replace {address} dev {name} scope link proto 80"));
                    }
                    let index = nix::net::if_::if_nametoindex(name.as_str()).unwrap();
                    wired.push((update.key, name, addresses, index));
                }
            }
            _ = tick.tick() => {
                wired.retain(|(_, name, _, index)| nix::net::if_::if_nametoindex(name.as_str()) == Ok(*index));
            }
        }
        let state = Applied {
            ready: true,
            guarded: true,
            interfaces: wired
                .iter()
                .map(|(_, name, addresses, index)| {
                    (name.clone(), Wired { index: *index, addresses: addresses.clone() })
                })
                .collect(),
            routes: wired.iter().flat_map(|(_, _, a, _)| a).map(|a| (*a).into()).collect(),
            ..Applied::default()
        };
        applied.send_if_modified(|now| {
            let changed = **now != state;
            *now = Arc::new(state);
            changed
        });
    }
}

fn container(id: &str) -> AttachRequest {
    run(&format!("[ -e /run/netns/{id} ] || ip netns add {id}"));
    AttachRequest {
        network: "net".into(),
        container_id: id.into(),
        netns: format!("/run/netns/{id}"),
        interface: "eth0".into(),
        ..AttachRequest::default()
    }
}

fn detach(request: &AttachRequest) -> DetachRequest {
    DetachRequest {
        network: request.network.clone(),
        container_id: request.container_id.clone(),
        interface: request.interface.clone(),
        pod: request.pod.clone(),
    }
}

/// Runs `body` inside; `test` is the name of the calling test.
fn inside(test: &str, body: impl Future<Output = ()>) {
    netns::inside(test, || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap().block_on(body);
    });
}

fn ping(from: Option<&str>, to: &IpAddr) {
    let enter = from.map(|name| format!("nsenter --net=/run/netns/{name} ")).unwrap_or_default();
    run(&format!("{enter}ping -n -c 1 -W 2 {to}"));
}

/// The IPv4 side of a workload, exactly.
fn assert_workload(name: &str, answer: &AttachResponse) {
    let address = answer.addresses.iter().find(|a| a.is_ipv4()).unwrap().ip().to_string();
    let mut routes = ip_json(Some(name), "-4 route show table main");
    for route in routes.as_array_mut().unwrap() {
        assert_eq!(route["flags"], json!([]), "no route is onlink or dead");
        route.as_object_mut().unwrap().remove("flags");
    }
    assert_eq!(
        routes,
        json!([
            {"dst": "default", "gateway": "169.254.1.1", "dev": "eth0"},
            {"dst": "169.254.1.1", "dev": "eth0", "scope": "link"},
        ])
    );
    let link = &ip_json(Some(name), "addr show dev eth0")[0];
    assert_eq!((&link["address"], &link["mtu"]), (&json!(answer.mac), &json!(MTU)));
    let inet: Vec<&Json> =
        link["addr_info"].as_array().unwrap().iter().filter(|a| a["family"] == "inet").collect();
    assert_eq!(inet.len(), 1);
    assert_eq!((&inet[0]["local"], &inet[0]["prefixlen"]), (&json!(address), &json!(32)));
    let neighbours = ip_json(Some(name), "-4 neigh");
    assert_eq!(
        neighbours,
        json!([{"dst": "169.254.1.1", "dev": "eth0", "lladdr": "ee:ee:ee:ee:ee:ee", "state": ["PERMANENT"]}])
    );
    let lo = &ip_json(Some(name), "link show dev lo")[0];
    assert!(lo["flags"].as_array().unwrap().contains(&json!("UP")), "{lo}");
    assert_eq!(
        run(&format!("nsenter --net=/run/netns/{name} cat /proc/sys/net/ipv4/ip_forward")).trim(),
        "0"
    );
    let host = &ip_json(None, &format!("link show dev {}", answer.host_interface))[0];
    assert_eq!((&host["address"], &host["mtu"]), (&json!("ee:ee:ee:ee:ee:ee"), &json!(MTU)));
    assert_eq!(host["ifalias"], json!(format!("{name}/eth0")));
}

#[test]
fn a_container_gets_exactly_what_it_needs_and_leaves_nothing() {
    inside("a_container_gets_exactly_what_it_needs_and_leaves_nothing", async {
        let world = World::new(Duration::from_secs(10)).await;
        let request = container("c1");
        let start = Instant::now();
        let answer = world.service.attach(request.clone()).await.unwrap();
        println!("attached in {:?}", start.elapsed());
        assert_eq!((answer.mtu, answer.host_mac.as_str()), (MTU, "ee:ee:ee:ee:ee:ee"));
        assert_workload("c1", &answer);
        ping(None, &answer.addresses[0].ip());
        ping(Some("c1"), &"192.0.2.1".parse().unwrap());

        let revision = world.store.list("/").await.unwrap().revision;
        assert_eq!(world.service.attach(request.clone()).await.unwrap(), answer, "again the same");
        assert_eq!(world.store.list("/").await.unwrap().revision, revision, "and nothing written");
        world.service.check(request.clone()).await.unwrap();

        let other = container("c2");
        let second = world.service.attach(other.clone()).await.unwrap();
        ping(Some("c1"), &second.addresses[0].ip());
        world.service.detach(detach(&other)).await.unwrap();

        run("nsenter --net=/run/netns/c1 ip route del default");
        let error = world.service.check(request.clone()).await.unwrap_err();
        assert!(error.chain().ends_with("the default route via 169.254.1.1 is missing"), "{}", error.chain());

        let start = Instant::now();
        world.service.detach(detach(&request)).await.unwrap();
        println!("detached in {:?}", start.elapsed());
        world.service.detach(detach(&request)).await.unwrap();
        assert_eq!(world.leftovers().await, Vec::<String>::new());
        let error = world.service.check(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

/// The kernel takes its time to notice that both ends of a veth are up, and drops what is sent before.
#[test]
fn a_container_can_send_as_soon_as_it_is_attached() {
    inside("a_container_can_send_as_soon_as_it_is_attached", async {
        let world = World::new(Duration::from_secs(10)).await;
        for number in 0..20 {
            let name = format!("c{number}");
            world.service.attach(container(&name)).await.unwrap();
            let link = &ip_json(Some(&name), "link show eth0")[0];
            assert_eq!(link["operstate"], json!("UP"), "{link}");
        }
    });
}

#[test]
fn a_container_that_was_started_again_is_attached_where_it_is() {
    inside("a_container_that_was_started_again_is_attached_where_it_is", async {
        let world = World::new(Duration::from_secs(10)).await;
        let first = container("c1");
        let before = world.service.attach(first.clone()).await.unwrap();
        // Without a DEL, and the old namespace lives on.
        run("ip netns add again");
        let second = AttachRequest { netns: "/run/netns/again".into(), ..first.clone() };
        let answer = world.service.attach(second.clone()).await.unwrap();
        assert_eq!(answer.addresses, before.addresses, "it keeps its address");
        let has_eth0 = |name: &str| run(&format!("nsenter --net=/run/netns/{name} ip link")).contains("eth0");
        assert!(has_eth0("again") && !has_eth0("c1"));
        ping(None, &answer.addresses[0].ip());
        world.service.check(second.clone()).await.unwrap();
        assert_eq!(answer.host_interface, before.host_interface);
        world.service.detach(detach(&second)).await.unwrap();
        assert_eq!(world.leftovers().await, Vec::<String>::new());
    });
}

#[test]
fn a_container_speaks_both_families() {
    inside("a_container_speaks_both_families", async {
        let world = World::new(Duration::from_secs(10)).await;
        let mut request = container("dual");
        // As Docker starts its containers.
        run("nsenter --net=/run/netns/dual sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'");
        request.assign_ipv6 = Some(true);
        let answer = world.service.attach(request.clone()).await.unwrap();
        assert_workload("dual", &answer);
        let routes = ip_json(Some("dual"), "-6 route show default");
        assert_eq!(
            (&routes[0]["gateway"], &routes[0]["dev"]),
            (&json!("fe80::ecee:eeff:feee:eeee"), &json!("eth0"))
        );
        let neighbours = ip_json(Some("dual"), "-6 neigh show fe80::ecee:eeff:feee:eeee");
        assert_eq!(neighbours[0]["lladdr"], json!("ee:ee:ee:ee:ee:ee"));
        for address in &answer.addresses {
            ping(None, &address.ip());
        }
        ping(Some("dual"), &"2001:db8::1".parse().unwrap());
        world.service.check(request.clone()).await.unwrap();
        world.service.detach(detach(&request)).await.unwrap();
        assert_eq!(world.leftovers().await, Vec::<String>::new());
    });
}

#[test]
fn a_late_detach_spares_the_new_container_of_a_pod() {
    inside("a_late_detach_spares_the_new_container_of_a_pod", async {
        let world = World::new(Duration::from_secs(10)).await;
        let of_pod = |id: &str| {
            let mut request = container(id);
            request.pod = Some(PodName { namespace: "shop".into(), name: "db-0".into() });
            request
        };
        let (old, new) = (of_pod("old"), of_pod("new"));
        let first = world.service.attach(old.clone()).await.unwrap();
        let second = world.service.attach(new.clone()).await.unwrap();
        assert_eq!(first.host_interface, second.host_interface);
        assert_ne!(first.addresses, second.addresses, "the old container still holds its own");
        world.service.detach(detach(&old)).await.unwrap();
        assert_workload("new", &second);
        ping(None, &second.addresses[0].ip());
        let stored = world
            .client
            .find::<WorkloadEndpointSpec>(Some("shop"), "n1-k8s-db--0-eth0")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stored.spec.container_id, "new");
        assert_eq!(stored.spec.profiles, ["kns.shop", "ksa.shop.default"]);
        world.service.detach(detach(&new)).await.unwrap();
        assert_eq!(world.leftovers().await, Vec::<String>::new());
    });
}

#[test]
fn a_failed_attach_is_undone() {
    inside("a_failed_attach_is_undone", async {
        let world = World::new(Duration::from_millis(300)).await;
        let mut gone = container("c1");
        gone.netns = "/run/netns/gone".into();
        let error = world.service.attach(gone).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
        assert_eq!(world.leftovers().await, Vec::<String>::new());

        let mut file = container("c1");
        file.netns = "/proc/self/status".into();
        let error = world.service.attach(file).await.unwrap_err();
        assert!(error.chain().ends_with("/proc/self/status: it is no namespace"), "{}", error.chain());
        assert_eq!((error.kind(), world.leftovers().await), (ErrorKind::NotFound, Vec::new()));

        let mut host = container("c1");
        host.netns = "/proc/self/ns/net".into();
        let error = world.service.attach(host).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error.chain());
        assert_eq!(world.leftovers().await, Vec::<String>::new());

        let mut taken = container("c1");
        taken.interface = "lo".into();
        let error = world.service.attach(taken).await.unwrap_err();
        let words = "cannot wire calic1: network namespace /run/netns/c1 has an interface lo already";
        assert!(error.chain().starts_with(words), "{}", error.chain());
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(world.leftovers().await, Vec::<String>::new());

        world.obey.send_replace(false);
        let error = world.service.attach(container("c1")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "interface calic1 is not programmed after 300ms: the data plane has not reported it"
        );
        assert_eq!(world.leftovers().await, Vec::<String>::new());
        world.obey.send_replace(true);
        world.service.attach(container("c1")).await.unwrap();
    });
}
