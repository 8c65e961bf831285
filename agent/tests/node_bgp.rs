//! The real tortie-node and a real BIRD 2 as its router: sessions, filters, secrets and reports from resources.
//!
//! Needs bird2 and iproute2; fails without them.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "other tests use the rest of the machine")]

mod machine;
mod netns;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use machine::{Agent, Machine, on_a_machine};
use netns::{eventually, run};
use serde_json::{Value, json};
use tortie_datastore::Client;
use tortie_datastore::config::{StoreConfig, connect};
use tortie_model::resource::{BgpConfigurationSpec, CalicoNodeStatusSpec, ServiceBlock};
use tortie_model::{Kind, codec};

/// Works with the agent's datastore.
fn with_client<T>(work: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = connect(StoreConfig::etcd(["http://127.0.0.1:2379".to_owned()])).await.unwrap();
        work(Client::new(store)).await
    })
}

fn create_in(namespace: Option<&str>, kind: Kind, name: &str, labels: Value, spec: Value) {
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let document = json!({"kind": kind.name(), "metadata": metadata, "spec": spec});
    with_client(async |client| client.create(codec::from_document(kind, document).unwrap()).await.unwrap());
}

fn create(kind: Kind, name: &str, spec: Value) {
    create_in(None, kind, name, json!({}), spec);
}

fn update_config(change: impl FnOnce(&mut BgpConfigurationSpec)) {
    with_client(async |client| {
        let mut config = client.find::<BgpConfigurationSpec>(None, "default").await.unwrap().unwrap();
        change(&mut config.spec);
        client.update(config.into()).await.unwrap();
    });
}

/// BIRD in a namespace of its own.
struct Bird {
    directory: PathBuf,
    child: Child,
}

impl Bird {
    /// Starts it in a namespace that is there already.
    fn start(machine: &Machine, namespace: &str, config: &str) -> Bird {
        let directory = machine.path(namespace);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("bird.conf"), config).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, "bird", "-f", "-c", "bird.conf", "-s", "ctl"])
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("BIRD (Debian: bird2) can be started");
        Bird { directory, child }
    }

    fn configure(&self, config: &str) {
        std::fs::write(self.directory.join("bird.conf"), config).unwrap();
        run(&format!("cd {} && birdc -s ctl configure", self.directory.display()));
    }

    fn show(&self, what: &str) -> String {
        run(&format!("cd {} && birdc -s ctl show {what} || true", self.directory.display()))
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The router behind the machine's cable, at 10.0.0.254.
fn router(password: &str) -> String {
    format!(
        "router id 10.0.0.254;
         protocol device {{}}
         protocol static {{ ipv4; route 172.30.1.0/24 blackhole; route 172.31.1.0/24 blackhole; }}
         protocol bgp node {{
             local 10.0.0.254 as 65100; neighbor 10.0.0.1 as 64512; password \"{password}\";
             connect retry time 1; error wait time 1, 2;
             ipv4 {{ import all; export where source = RTS_STATIC; }};
         }}"
    )
}

fn status(agent: &Agent) -> Value {
    serde_json::from_str(&agent.get("/v1/node/status").1).unwrap_or_default()
}

fn has_problem(agent: &Agent, text: &str) -> bool {
    let status = status(agent);
    status["problems"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one.as_str().unwrap().contains(text)))
}

fn is_up(agent: &Agent) -> bool {
    status(agent)["peers"]
        .as_array()
        .is_some_and(|peers| peers.iter().all(|peer| peer["state"] == "up") && !peers.is_empty())
}

#[test]
fn a_router_with_a_password_and_a_filter() {
    on_a_machine("a_router_with_a_password_and_a_filter", |machine| {
        let secrets = machine.path("secrets");
        let agent = machine.start(&[("NODENAME", "n1"), ("TORTIE_SECRETS_DIR", secrets.to_str().unwrap())]);
        run("ip netns add tor
             ip link set peer0 netns tor
             ip -n tor addr add 10.0.0.254/24 dev peer0
             ip -n tor link set peer0 up
             ip -n tor link set lo up");
        let tor = Bird::start(machine, "tor", &router("one"));
        create(
            Kind::BgpFilter,
            "f",
            json!({
                "importV4": [{"action": "Accept", "cidr": "172.30.0.0/16", "matchOperator": "In"}, {"action": "Reject"}],
                "exportV4": [{"action": "Accept", "cidr": "10.96.0.0/12", "matchOperator": "Equal", "operations":
                              [{"addCommunity": {"value": "65000:7"}}, {"prependASPath": {"prefix": [64700, 64701]}}]}],
            }),
        );
        create(
            Kind::CalicoNodeStatus,
            "report",
            json!({
                "node": "n1", "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 1,
            }),
        );
        create(
            Kind::BgpPeer,
            "tor",
            json!({
                "peerIP": "10.0.0.254", "asNumber": 65100, "filters": ["f"],
                "password": {"secretKeyRef": {"name": "bgp", "key": "tor"}},
            }),
        );
        update_config(|config| {
            config.service_cluster_ips = vec![ServiceBlock { cidr: "10.96.0.0/12".parse().unwrap() }];
        });
        let file = secrets.join("bgp/tor");
        let missing = format!("BGPPeer tor: password: the secret's file {} is missing", file.display());
        eventually("the missing secret is named", || has_problem(&agent, &missing));

        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "one\n").unwrap();
        eventually("the session is up", || is_up(&agent) && agent.get("/ready/bgp").0 == 200);
        assert!(!has_problem(&agent, "password"));

        // Import and export are filtered.
        eventually("the wanted route is there", || run("ip route").contains("172.30.1.0/24 via 10.0.0.254"));
        assert!(!run("ip route").contains("172.31.1.0"));
        eventually("services are announced", || tor.show("route all for 10.96.0.0/12").contains("(65000,7)"));
        let route = tor.show("route all for 10.96.0.0/12");
        assert!(route.contains("BGP.as_path: 64512 64700 64701"), "{route}");
        assert!(run("ip route").contains("blackhole 10.96.0.0/12"));

        eventually("the report tells of both", || {
            let report =
                with_client(async |client| client.find::<CalicoNodeStatusSpec>(None, "report").await);
            let report = report.unwrap().unwrap().status.unwrap_or_default();
            let routes = report["routes"]["routesV4"].as_array().cloned().unwrap_or_default();
            report["bgp"]["numberEstablishedV4"] == 1
                && report["agent"]["birdV4"]["state"] == "Ready"
                && routes.iter().any(|route| route["learnedFrom"]["peerIP"] == "10.0.0.254")
        });

        // A new key on one side ends the session, on both it is back.
        tor.configure(&router("two"));
        eventually("the session is down", || !is_up(&agent));
        assert_eq!(agent.get("/ready/bgp").0, 503);
        std::fs::write(&file, "two\n").unwrap();
        eventually("the session is up again", || is_up(&agent));
    });
}

/// The router without a password, telling whatever it has.
const OPEN_ROUTER: &str = "
    router id 10.0.0.254;
    protocol device {}
    protocol static { ipv4; route 172.30.1.0/24 blackhole; route 172.31.1.0/24 blackhole; route 10.96.0.0/13 blackhole; }
    protocol bgp node {
        local 10.0.0.254 as 65100; neighbor 10.0.0.1 as 64512;
        connect retry time 1; error wait time 1, 2;
        ipv4 { import all; export where source = RTS_STATIC; };
    }";

#[test]
fn operators_are_told_what_routes_there_are_and_why() {
    on_a_machine("operators_are_told_what_routes_there_are_and_why", |machine| {
        let agent = machine.start(&[("NODENAME", "n1")]);
        run("ip netns add tor
             ip link set peer0 netns tor
             ip -n tor addr add 10.0.0.254/24 dev peer0
             ip -n tor link set peer0 up
             ip -n tor link set lo up");
        let tor = Bird::start(machine, "tor", OPEN_ROUTER);
        create(
            Kind::BgpFilter,
            "f",
            json!({"importV4": [{"action": "Reject", "cidr": "172.31.0.0/16", "matchOperator": "In"}]}),
        );
        create(Kind::BgpPeer, "tor", json!({"peerIP": "10.0.0.254", "asNumber": 65100, "filters": ["f"]}));
        // Nobody home.
        create(Kind::BgpPeer, "far", json!({"peerIP": "10.0.0.77", "asNumber": 65101}));
        update_config(|config| {
            config.service_cluster_ips = vec![ServiceBlock { cidr: "10.96.0.0/12".parse().unwrap() }];
        });
        let ask = |path: &str| -> (u16, Value) {
            let (status, text) = agent.get(path);
            (status, serde_json::from_str(&text).unwrap_or_default())
        };
        let explain = |prefix: &str| ask(&format!("/v1/bgp/explain?prefix={prefix}")).1;
        eventually("everything is learned and programmed", || {
            tor.show("route").contains("10.96.0.0/12")
                && explain("172.30.1.5")["kernel"]["programmed"] == json!(true)
        });

        // What the router announced, and what became of it.
        let received = ask("/v1/bgp/routes?view=received&peer=10.0.0.254").1;
        let mut lines: Vec<String> = received["routes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|route| {
                format!("{} {} {}", route["prefix"], route["standing"], route["reason"]).replace('"', "")
            })
            .collect();
        lines.sort();
        let rejected = "the import filter rejects it: BGPFilter f rule 1 (importV4)";
        let expected = [
            "10.96.0.0/13 best null".to_owned(),
            "172.30.1.0/24 best null".to_owned(),
            format!("172.31.1.0/24 rejected {rejected}"),
        ];
        assert_eq!(lines, expected);

        // Told alike by name, and as the router has it.
        let sent = ask("/v1/bgp/routes?view=sent&peer=Global_10_0_0_254").1;
        let sent = sent["routes"].as_array().unwrap();
        let range = sent.iter().find(|route| route["prefix"] == "10.96.0.0/12").unwrap();
        assert_eq!((&range["asPath"], &range["nextHop"]), (&json!("64512"), &json!("10.0.0.1")));
        let peer = status(&agent)["peers"].as_array().unwrap()[1].clone();
        assert_eq!((&peer["address"], &peer["received"]), (&json!("10.0.0.254"), &json!(2)));
        assert_eq!(peer["announced"], json!(sent.len()));
        let at_the_router = tor.show("protocols all node");
        assert!(
            at_the_router.contains(&format!("Routes:         {} imported", sent.len())),
            "{at_the_router}"
        );

        // From the wire to the kernel.
        let learned = explain("172.30.1.5");
        assert_eq!(
            (&learned["asked"], &learned["prefix"]),
            (&json!("172.30.1.5/32"), &json!("172.30.1.0/24"))
        );
        assert_eq!(learned["kernel"]["gateways"], json!(["10.0.0.254 dev eth0"]));
        let own = explain("10.96.0.0/12");
        assert_eq!(own["originated"]["localPref"], 2_147_482_623);
        let told = |explanation: &Value, at: usize| explanation["peers"][at].clone();
        let no_session = told(&own, 0)["nothing"].as_str().unwrap().to_owned();
        assert!(no_session.starts_with("there is no session ("), "{no_session}");
        assert_eq!(told(&own, 1)["routes"][0]["reason"], "service range 10.96.0.0/12");
        let inside = explain("10.96.0.0/13");
        assert_eq!(told(&inside, 1)["routes"][0]["reason"], "it came from this peer");
        let reason = "in the service range 10.96.0.0/12, which is not routed between nodes";
        assert_eq!(inside["kernel"], json!({"programmed": false, "reason": reason}));
        assert_eq!(explain("192.0.2.0/24")["prefix"], Value::Null);

        let (code, error) = ask("/v1/bgp/routes?view=sent&peer=tor");
        let known = "no peer 'tor'; peers are Global_10_0_0_77 (10.0.0.77), Global_10_0_0_254 (10.0.0.254)";
        assert_eq!((code, &error["error"]), (404, &json!(known)));
        assert_eq!(ask("/v1/bgp/explain?prefix=10.0.0.0/33").0, 400);
    });
}

/// Another node of the mesh, one with BIRD.
const OTHER_NODE: &str = "
    router id 10.0.0.2;
    protocol device {}
    protocol static { ipv4; route 192.168.9.0/26 blackhole; }
    protocol bgp Mesh_10_0_0_1 {
        local 10.0.0.2 as 64512; neighbor 10.0.0.1 as 64512; multihop;
        connect retry time 1; error wait time 1, 2; graceful restart on;
        ipv4 { import all; export where source = RTS_STATIC; add paths on; };
    }";

#[test]
fn a_mesh_with_a_bird_node_looks_the_same_from_both_ends() {
    on_a_machine("a_mesh_with_a_bird_node_looks_the_same_from_both_ends", |machine| {
        let agent = machine.start(&[("NODENAME", "n1"), ("CALICO_IPV4POOL_IPIP", "Never")]);
        run("ip netns add n2
             ip link set peer0 netns n2
             ip -n n2 addr add 10.0.0.2/24 dev peer0
             ip -n n2 link set peer0 up
             ip -n n2 link set lo up");
        create(Kind::Node, "n2", json!({"bgp": {"ipv4Address": "10.0.0.2/24"}}));
        update_config(|config| {
            config.service_cluster_ips = vec![ServiceBlock { cidr: "10.96.0.0/12".parse().unwrap() }];
        });
        let bird = Bird::start(machine, "n2", OTHER_NODE);
        let peer = || status(&agent)["peers"][0].clone();
        eventually("routes went both ways", || {
            peer()["received"] == 1 && bird.show("route").contains("10.96.0.0/12")
        });
        let here = peer();
        assert_eq!(
            (&here["address"], &here["peerType"], &here["state"], &here["info"], &here["announced"]),
            (&json!("10.0.0.2"), &json!("mesh"), &json!("up"), &json!("Established"), &json!(1))
        );
        let there = bird.show("protocols all Mesh_10_0_0_1");
        for line in [
            "BGP state:          Established",
            "Routes:         1 imported, 1 exported",
            "4-octet AS numbers",
        ] {
            assert!(there.contains(line), "no {line} in {there}");
        }

        // It dies; its routes stay, and both are told.
        drop(bird);
        eventually("the session is gone", || peer()["state"] == "start");
        let info = peer()["info"].as_str().unwrap().to_owned();
        assert!(info.starts_with("Active ") || info.starts_with("Connect "), "{info}");
        let routes = agent.get("/v1/bgp/routes?view=best&peer=Mesh_10_0_0_2").1;
        let routes: Value = serde_json::from_str(&routes).unwrap();
        assert_eq!(
            (&routes["routes"][0]["prefix"], &routes["routes"][0]["stale"]),
            (&json!("192.168.9.0/26"), &json!(true))
        );
    });
}

/// A workload on this node, in a namespace of its own, that may do everything.
fn place_workload() {
    run("ip netns add pod
         ip link add cali1 type veth peer name eth0 netns pod
         ip link set cali1 up
         ip -n pod addr add 192.168.7.5/32 dev eth0
         ip -n pod link set eth0 up
         ip -n pod link set lo up
         ip -n pod route add 169.254.1.1 dev eth0
         ip -n pod route add default via 169.254.1.1");
    create_in(
        Some("default"),
        Kind::WorkloadEndpoint,
        "n1-cni-c0-eth0",
        json!({"app": "router"}),
        json!({
            "orchestrator": "cni", "node": "n1", "containerID": "c0", "endpoint": "eth0", "interfaceName": "cali1",
            "ipNetworks": ["192.168.7.5/32"], "profiles": ["projectcalico-default-allow"],
        }),
    );
}

#[test]
fn a_workload_that_speaks_bgp() {
    on_a_machine("a_workload_that_speaks_bgp", |machine| {
        let agent = machine.start(&[("NODENAME", "n1"), ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "Accept")]);
        place_workload();
        update_config(|config| config.local_workload_peering_ipv4 = Some("169.254.1.1".into()));
        create(Kind::BgpPeer, "pods", json!({"localWorkloadSelector": "app == 'router'", "asNumber": 65200}));
        eventually("the workload is reached", || run("ip route").contains("192.168.7.5 dev cali1"));
        // Whoever is first.
        run("ip addr add 169.254.1.1/32 dev cali1 || true");
        let pod = Bird::start(
            machine,
            "pod",
            "
            router id 192.168.7.5;
            protocol device {}
            protocol static { ipv4; route 172.30.9.0/24 blackhole; }
            protocol bgp node {
                local 192.168.7.5 as 65200; neighbor 169.254.1.1 as 64512; multihop;
                connect retry time 1; error wait time 1, 2;
                ipv4 { import all; export where source = RTS_STATIC; };
            }",
        );
        eventually("the session is up", || is_up(&agent));
        let peer = status(&agent)["peers"][0].clone();
        assert_eq!((&peer["address"], &peer["peerType"]), (&json!("192.168.7.5"), &json!("localWorkload")));
        assert!(pod.show("protocols all node").contains("Established"));
        assert_eq!(agent.get("/ready/bgp").0, 200, "workloads do not count");
    });
}
