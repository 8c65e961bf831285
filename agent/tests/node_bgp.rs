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
use tortie_model::resource::CalicoNodeStatusSpec;
use tortie_model::{Kind, codec};

/// Works with the agent's datastore.
fn with_client<T>(work: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = connect(StoreConfig::etcd(["http://127.0.0.1:2379".to_owned()])).await.unwrap();
        work(Client::new(store)).await
    })
}

fn create(kind: Kind, name: &str, spec: Value) {
    let document = json!({"kind": kind.name(), "metadata": {"name": name}, "spec": spec});
    with_client(async |client| client.create(codec::from_document(kind, document).unwrap()).await.unwrap());
}

/// BIRD behind the machine's cable, at 10.0.0.254.
struct Router {
    directory: PathBuf,
    child: Child,
}

impl Router {
    fn start(machine: &Machine, password: &str) -> Router {
        run("ip netns add tor
             ip link set peer0 netns tor
             ip -n tor addr add 10.0.0.254/24 dev peer0
             ip -n tor link set peer0 up
             ip -n tor link set lo up");
        let directory = machine.path("tor");
        std::fs::create_dir(&directory).unwrap();
        configure(&directory, password);
        let child = Command::new("ip")
            .args(["netns", "exec", "tor", "bird", "-f", "-c", "bird.conf", "-s", "ctl"])
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("BIRD (Debian: bird2) can be started");
        Router { directory, child }
    }

    fn set_password(&self, password: &str) {
        configure(&self.directory, password);
        run(&format!("cd {} && birdc -s ctl configure", self.directory.display()));
    }

    fn show(&self, what: &str) -> String {
        run(&format!("cd {} && birdc -s ctl show {what}", self.directory.display()))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configure(directory: &std::path::Path, password: &str) {
    let config = format!(
        "router id 10.0.0.254;
         protocol device {{}}
         protocol static {{ ipv4; route 172.30.1.0/24 blackhole; route 172.31.1.0/24 blackhole; }}
         protocol bgp node {{
             local 10.0.0.254 as 65100; neighbor 10.0.0.1 as 64512; password \"{password}\";
             connect retry time 1; error wait time 1, 2;
             ipv4 {{ import all; export where source = RTS_STATIC; }};
         }}"
    );
    std::fs::write(directory.join("bird.conf"), config).unwrap();
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
        let router = Router::start(machine, "one");
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
        with_client(async |client| {
            let config = client.find::<tortie_model::resource::BgpConfigurationSpec>(None, "default").await;
            let mut config = config.unwrap().unwrap();
            config.spec.service_cluster_ips =
                vec![tortie_model::resource::ServiceBlock { cidr: "10.96.0.0/12".parse().unwrap() }];
            client.update(config.into()).await.unwrap();
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
        eventually("services are announced", || {
            router.show("route all for 10.96.0.0/12").contains("(65000,7)")
        });
        let route = router.show("route all for 10.96.0.0/12");
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
        router.set_password("two");
        eventually("the session is down", || !is_up(&agent));
        assert_eq!(agent.get("/ready/bgp").0, 503);
        std::fs::write(&file, "two\n").unwrap();
        eventually("the session is up again", || is_up(&agent));
    });
}
