//! The real tortie-node on a real kernel: start, registration, the local API, stop, adoption, refusals.

#![allow(clippy::unwrap_used, reason = "a test")]

mod machine;
mod netns;

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use machine::{Agent, Etcd, command, on_a_machine};
use netns::{Watch, eventually, run};
use tortie_datastore::config::{StoreConfig, connect};
use tortie_datastore::store::{Compare, Operation, Transaction};
use tortie_datastore::{Client, Store};
use tortie_model::ipam::{AllocationAttribute, Block};
use tortie_model::resource::{
    BgpConfigurationSpec, ClusterInformationSpec, FelixConfigurationSpec, IpPoolSpec, NodeSpec, TierSpec,
};

/// Works with the agent's datastore.
fn with_store<T>(work: impl AsyncFnOnce(Client, Arc<dyn Store>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = connect(StoreConfig::etcd(["http://127.0.0.1:2379".to_owned()])).await.unwrap();
        work(Client::new(Arc::clone(&store)), store).await
    })
}

fn put(key: &str, value: &str) {
    with_store(async |_, store| {
        let operations = vec![Operation::Put { key: key.into(), value: value.into(), lease: 0 }];
        store
            .transact(Transaction { compares: vec![Compare::Absent(key.into())], operations })
            .await
            .unwrap();
    });
}

/// A block with an address given out, and the endpoint on node n1 that has it, with its interface.
fn place_workload() {
    run("ip link add cali1 type veth peer name pod1\nip link set cali1 up\nip link set pod1 up");
    let mut block = Block::new("192.168.7.0/26".parse().unwrap(), Some("n1"), None, 1);
    let owner = AllocationAttribute { handle_id: Some("net.c0".into()), ..AllocationAttribute::default() };
    block.assign("192.168.7.5".parse().unwrap(), &owner).unwrap();
    put("/calico/ipam/v2/assignment/ipv4/block/192.168.7.0-26", &serde_json::to_string(&block).unwrap());
    put("/calico/ipam/v2/host/n1/ipv4/block/192.168.7.0-26", r#"{"state":"confirmed","deleted":false}"#);
    put(
        "/calico/resources/v3/projectcalico.org/workloadendpoints/default/n1-cni-c0-eth0",
        r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1-cni-c0-eth0","namespace":
           "default"},"spec":{"orchestrator":"cni","node":"n1","containerID":"c0","endpoint":"eth0","ipNetworks":
           ["192.168.7.5/32"],"interfaceName":"cali1","mac":"02:00:00:00:00:05"}}"#,
    );
}

/// Routes of ours, one a line without flags that differ between kernels.
fn own_routes() -> Vec<String> {
    let lines = run("ip -4 route show proto 80");
    lines.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
}

fn has_workload_routes() -> bool {
    own_routes() == ["192.168.7.5 dev cali1", "blackhole 192.168.7.0/26"]
        || own_routes() == ["blackhole 192.168.7.0/26", "192.168.7.5 dev cali1"]
}

#[test]
fn a_node_registers_itself_and_its_cluster() {
    on_a_machine("a_node_registers_itself_and_its_cluster", |machine| {
        let agent = machine.start(&[("NODENAME", "n1"), ("AS", "64777"), ("CLUSTER_TYPE", "lab")]);
        assert!(agent.log().contains("Calico node started successfully"), "{}", agent.log());
        assert!(!agent.log().contains("ERROR"), "{}", agent.log());
        assert_eq!(std::fs::read_to_string(machine.path("nodename")).unwrap(), "n1");
        if Path::new("/etc/iproute2").exists() {
            // In a table of its own: in the main one the agent would take it away.
            run("ip route add blackhole 198.51.100.1 proto 80 table 100");
            assert!(run("ip route show table 100").contains("proto tortie"));
        }
        with_store(async |client, _| {
            let node = client.find::<NodeSpec>(None, "n1").await.unwrap().unwrap();
            assert_eq!(node.spec.bgp_address(false).unwrap().to_string(), "10.0.0.1/24");
            assert_eq!(node.spec.bgp.unwrap().as_number.unwrap().0, 64777);
            let mut pools = client.find_all::<IpPoolSpec>().await.unwrap();
            pools.sort_by_key(|pool| pool.spec.cidr.is_ipv6());
            let [v4, v6] = &pools[..] else { panic!("{pools:?}") };
            assert_eq!(
                (v4.metadata.name.as_str(), v4.spec.cidr.to_string().as_str()),
                ("default-ipv4-ippool", "192.168.0.0/16")
            );
            assert!(
                v4.spec.nat_outgoing
                    && v6.spec.cidr.to_string().starts_with("fd")
                    && v6.spec.cidr.prefix() == 48
            );
            let cluster = client.find::<ClusterInformationSpec>(None, "default").await.unwrap().unwrap().spec;
            assert_eq!((cluster.cluster_guid.len(), cluster.datastore_ready), (32, Some(true)));
            assert!(cluster.cluster_type.contains("lab"), "{}", cluster.cluster_type);
            assert!(client.find::<TierSpec>(None, "default").await.unwrap().is_some());
            assert!(client.find::<FelixConfigurationSpec>(None, "node.n1").await.unwrap().is_some());
            assert!(client.find::<BgpConfigurationSpec>(None, "default").await.unwrap().is_some());
        });
        let status: serde_json::Value = serde_json::from_str(&agent.get("/v1/node/status").1).unwrap();
        assert_eq!((status["node"].as_str(), status["ready"].as_bool()), (Some("n1"), Some(true)));
        assert_eq!((agent.get("/live").0, agent.get("/nonsense").0), (200, 404));
        let (code, error) = agent.post("/v1/workload/attach", &serde_json::json!({"network": 7}));
        assert!(code == 400 && error["error"].as_str().unwrap().contains("request"), "{error}");

        // One agent a machine.
        let second = machine.command(&[("NODENAME", "n2")]).output().unwrap();
        let words = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(second.status.code() == Some(1) && words.contains("another tortie-node answers"), "{words}");
        // Nor with a socket of its own: it would program n2 over n1.
        let variables = [("NODENAME", "n2"), ("ETCD_ENDPOINTS", "http://127.0.0.1:2379")];
        let mut third = command(&[], &variables);
        third.env("CALICO_NODENAME_FILE", machine.path("n2")).env("TORTIE_SOCKET", machine.path("n2.sock"));
        let words = refused(&third.output().unwrap());
        let expected =
            format!("another tortie-node (process {}) runs in this network namespace", agent.child.id());
        assert!(words.contains(&expected), "{words}");
        with_store(async |client, _| assert!(client.find::<NodeSpec>(None, "n2").await.unwrap().is_none()));
        assert_eq!(agent.stop(nix::sys::signal::SIGINT), Some(0));
    });
}

#[test]
fn kernel_state_outlives_the_agent_and_is_adopted() {
    on_a_machine("kernel_state_outlives_the_agent_and_is_adopted", |machine| {
        let agent = machine.start(&[("NODENAME", "n1")]);
        place_workload();
        eventually("the workload is wired", has_workload_routes);
        let socket = agent.socket.clone();
        assert_eq!(agent.stop(nix::sys::signal::SIGTERM), Some(0));
        assert!(!socket.exists());
        assert!(has_workload_routes(), "{:?}", own_routes());
        assert!(run("nft list tables").contains("table inet tortie"));

        // The name comes from the file now; nothing of what is there is touched.
        let watch = Watch::start();
        let agent = machine.start(&[]);
        let lines = watch.lines_until("192.0.2.99");
        let touched: Vec<_> = lines.iter().filter(|line| line.contains("192.168.7.")).collect();
        assert!(touched.is_empty(), "{touched:?}");
        assert!(agent.log().contains("Using node name n1"), "{}", agent.log());

        // Killed, it leaves its socket; the next one takes it over.
        assert_eq!(agent.stop(nix::sys::signal::SIGKILL), None);
        assert!(socket.exists() && has_workload_routes());
        machine.start(&[]).stop(nix::sys::signal::SIGTERM);
    });
}

#[test]
fn a_workload_is_attached_and_detached() {
    on_a_machine("a_workload_is_attached_and_detached", |machine| {
        let agent = machine.start(&[("NODENAME", "n1"), ("CALICO_IPV4POOL_CIDR", "10.64.0.0/16")]);
        run("ip netns add pod");
        let request = serde_json::json!({
            "network": "net", "containerId": "c0", "netns": "/run/netns/pod", "interface": "eth0",
        });
        let (status, answer) = agent.post("/v1/workload/attach", &request);
        assert_eq!(status, 200, "{answer}");
        let address = answer["addresses"][0].as_str().unwrap().split('/').next().unwrap().to_owned();
        assert!(address.starts_with("10.64."), "{answer}");
        // The host may always talk to its own workloads.
        run(&format!("ping -c 1 -W 5 {address}"));
        assert_eq!(agent.post("/v1/workload/attach", &request), (200, answer), "the same again");
        assert_eq!(agent.post("/v1/workload/check", &request).0, 200);
        let (status, answer) = agent.post("/v1/workload/detach", &request);
        assert_eq!(status, 200, "{answer}");
        eventually("the route is gone", || run(&format!("ip route show {address}/32")).is_empty());
        assert!(agent.post("/v1/workload/check", &request).0 >= 400);
        agent.stop(nix::sys::signal::SIGTERM);
    });
}

#[test]
fn the_embedded_datastore_serves_others_when_told_so() {
    on_a_machine("the_embedded_datastore_serves_others_when_told_so", |machine| {
        let reachable = || std::net::TcpStream::connect("10.0.0.1:2379").is_ok();
        let agent = machine.start(&[("NODENAME", "n1")]);
        assert!(!reachable());
        agent.stop(nix::sys::signal::SIGTERM);
        let mut command = machine.command(&[]);
        command.args(["--embedded-listen", "0.0.0.0:2379", "--embedded-insecure"]);
        let agent = machine.spawn(command);
        assert!(reachable());
        agent.stop(nix::sys::signal::SIGTERM);
    });
}

#[test]
fn the_node_follows_its_host() {
    on_a_machine("the_node_follows_its_host", |machine| {
        let variables = [
            ("NODENAME", "n1"),
            ("IP", "autodetect"),
            ("AUTODETECT_POLL_INTERVAL", "100ms"),
            ("CALICO_IPV4POOL_CIDR", "10.64.0.0/16"),
        ];
        let agent = machine.start(&variables);
        let address = || {
            with_store(async |client, _| {
                let node = client.find::<NodeSpec>(None, "n1").await.unwrap().unwrap();
                node.spec.bgp_address(false).unwrap().to_string()
            })
        };
        assert_eq!(address(), "10.0.0.1/24");
        run("ip addr add 10.9.0.7/16 dev eth0; ip addr del 10.0.0.1/24 dev eth0; ip link set eth0 mtu 1400");
        eventually("the Node has the new address", || address() == "10.9.0.7/16");
        eventually("the MTU is noticed", || agent.log().contains("the host's MTU is 1400 now"));
        run("ip netns add pod");
        let request = serde_json::json!({
            "network": "net", "containerId": "c0", "netns": "/run/netns/pod", "interface": "eth0",
        });
        let (_, answer) = agent.post("/v1/workload/attach", &request);
        assert_eq!(answer["mtu"], 1400, "{answer}");

        // An address that is another node's is not taken, and what works is kept.
        let other = r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n2"},
            "spec":{"bgp":{"ipv4Address":"10.9.0.8/16"}}}"#;
        put("/calico/resources/v3/projectcalico.org/nodes/n2", other);
        run("ip addr del 10.9.0.7/16 dev eth0; ip addr add 10.9.0.8/16 dev eth0");
        eventually("it is told", || agent.log().contains("'n2' is already using the IPv4 address 10.9.0.8"));
        assert_eq!(address(), "10.9.0.7/16");
        agent.stop(nix::sys::signal::SIGTERM);
    });
}

#[test]
fn what_was_begun_is_finished_before_the_end() {
    on_a_machine("what_was_begun_is_finished_before_the_end", |machine| {
        const WORKLOADS: usize = 24;
        let agent = machine.start(&[("NODENAME", "n1"), ("CALICO_IPV4POOL_CIDR", "10.64.0.0/16")]);
        run(&(0..WORKLOADS).map(|n| format!("ip netns add pod{n}\n")).collect::<String>());
        let attach = |n: usize| {
            let request = serde_json::json!({
                "network": "net", "containerId": format!("c{n}"), "netns": format!("/run/netns/pod{n}"),
                "interface": "eth0",
            });
            agent.request("POST", "/v1/workload/attach", &request.to_string()).0
        };
        let codes: Vec<u16> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..WORKLOADS).map(|n| scope.spawn(move || attach(n))).collect();
            eventually("some are under way", || run("ip link show type veth").contains(": cali"));
            agent.signal(nix::sys::signal::SIGTERM);
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let attached = codes.iter().filter(|code| **code == 200).count();
        assert!(codes.iter().all(|code| [0, 200].contains(code)), "{codes:?}");
        let socket = agent.socket.clone();
        eventually("it ended", || !socket.exists());
        let links = run("ip -o link show type veth").matches(": cali").count();
        assert_eq!((links, own_routes().len() >= attached), (attached, true), "{codes:?}");
        drop(agent);
        let _again = machine.start(&[]);
        let endpoints = with_store(async |client, _| {
            client.find_all::<tortie_model::resource::WorkloadEndpointSpec>().await.unwrap().len()
        });
        assert_eq!(endpoints, attached, "neither half an attach nor a lost one: {codes:?}");
    });
}

#[test]
fn default_pools_can_be_declined() {
    on_a_machine("default_pools_can_be_declined", |machine| {
        let variables = [("NODENAME", "n1"), ("NO_DEFAULT_POOLS", "true"), ("IP", "10.0.0.1")];
        let agent = machine.start(&variables);
        with_store(async |client, _| {
            assert!(client.find_all::<IpPoolSpec>().await.unwrap().is_empty());
            let node = client.find::<NodeSpec>(None, "n1").await.unwrap().unwrap();
            assert_eq!(node.spec.bgp_address(false).unwrap().to_string(), "10.0.0.1/24");
            assert_eq!(node.spec.interfaces.len(), 2, "{:?}", node.spec.interfaces);
        });
        agent.stop(nix::sys::signal::SIGTERM);
    });
}

#[test]
fn an_outage_of_the_datastore_changes_nothing() {
    on_a_machine("an_outage_of_the_datastore_changes_nothing", |machine| {
        let etcd = Etcd::start(machine.directory.path());
        let agent = machine.start_on_etcd();
        place_workload();
        eventually("the workload is wired", has_workload_routes);
        let watch = Watch::start();
        drop(etcd);
        eventually("the outage is noticed", || agent.log().contains("unreachable"));
        let lines = watch.lines_until("192.0.2.99");
        assert!(!lines.iter().any(|line| line.contains("192.168.7.")), "{lines:?}");
        assert_eq!((agent.get("/ready").0, has_workload_routes()), (200, true));

        let _etcd = Etcd::start(machine.directory.path());
        put("/calico/ipam/v2/host/n1/ipv4/block/192.168.8.0-26", r#"{"state":"confirmed","deleted":false}"#);
        eventually("changes are seen again", || run("ip route").contains("blackhole 192.168.8.0/26"));
        assert_eq!(agent.stop(nix::sys::signal::SIGTERM), Some(0));
    });
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_bad_environment_is_refused_with_every_problem() {
    let variables = [
        ("IP", "300.0.0.1"),
        ("AS", "x"),
        ("CALICO_IPV4POOL_BLOCK_SIZE", "40"),
        ("ETCD_ENDPOINTS", "ftp://x"),
    ];
    let words = refused(&command(&[], &variables).output().unwrap());
    for part in ["IP: '300.0.0.1'", "AS: 'x'", "CALICO_IPV4POOL_BLOCK_SIZE: '40'", "ftp://x"] {
        assert!(words.contains(part), "{part} in {words}");
    }
    let unknown = command(&["--embeded-datastore", "/x"], &[]).output().unwrap();
    assert!(
        !unknown.status.success()
            && String::from_utf8_lossy(&unknown.stderr).contains("--embedded-datastore")
    );
}

#[test]
fn a_datastore_out_of_reach_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    // Nobody listens on the discard port of the loopback.
    let variables = [
        ("NODENAME", "n1"),
        ("CALICO_NODENAME_FILE", &*file("nodename")),
        ("ETCD_ENDPOINTS", "http://127.0.0.1:9"),
        ("TORTIE_SOCKET", &*file("sock")),
    ];
    let words = refused(&command(&[], &variables).output().unwrap());
    assert!(words.contains("http://127.0.0.1:9") && words.contains("WAIT_FOR_DATASTORE"), "{words}");
    assert!(!Path::new(&file("nodename")).exists(), "nothing is left behind");
}

#[test]
fn waiting_for_the_datastore_ends_with_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let variables =
        [("NODENAME", "n1"), ("ETCD_ENDPOINTS", "http://127.0.0.1:9"), ("WAIT_FOR_DATASTORE", "true")];
    let mut command = command(&[], &variables);
    command.env("CALICO_NODENAME_FILE", file("nodename")).env("TORTIE_SOCKET", file("sock"));
    let log = std::fs::File::create(file("log")).unwrap();
    let agent = Agent { child: command.stderr(log).spawn().unwrap(), socket: file("sock"), log: file("log") };
    eventually("it waits", || agent.log().contains("Waiting for datastore connection"));
    assert_eq!(agent.stop(nix::sys::signal::SIGTERM), Some(0), "an orderly end, not a death by signal");
}

#[test]
fn a_machine_without_address_is_told_what_to_do() {
    on_a_machine("a_machine_without_address_is_told_what_to_do", |machine| {
        run("ip addr flush dev eth0");
        let words = refused(&machine.command(&[("NODENAME", "n1")]).output().unwrap());
        assert!(
            words.contains("unable to autodetect an IPv4 address") && words.contains("set IP to"),
            "{words}"
        );
        let agent = machine.start(&[("NODENAME", "n1"), ("CALICO_NETWORKING_BACKEND", "none")]);
        agent.stop(nix::sys::signal::SIGTERM);
    });
}
