//! The real tortie-node on a real kernel: what its configuration says about policy is what the rules do, and metrics tell.

#![allow(clippy::unwrap_used, reason = "a test")]

mod machine;
mod netns;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use machine::on_a_machine;
use netns::{eventually, run};
use tortie_datastore::config::{StoreConfig, connect};
use tortie_datastore::store::{Operation, Transaction};

/// Writes a resource into the agent's datastore, whatever was there.
fn put(kind: &str, path: &str, document: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = connect(StoreConfig::etcd(["http://127.0.0.1:2379".to_owned()])).await.unwrap();
        let key = format!("/calico/resources/v3/projectcalico.org/{kind}/{path}");
        let operations = vec![Operation::Put { key, value: document.into(), lease: 0 }];
        store.transact(Transaction { compares: Vec::new(), operations }).await.unwrap();
    });
}

fn metrics() -> Option<String> {
    let mut stream = TcpStream::connect("127.0.0.1:9091").ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn what_is_configured_is_what_the_rules_do() {
    on_a_machine("what_is_configured_is_what_the_rules_do", |machine| {
        let agent = machine.start(&[
            ("NODENAME", "n1"),
            ("TORTIE_LOG_GROUP", "7"),
            ("TORTIE_REEVALUATE_FLOWS", "true"),
        ]);
        run("ip link add cali1 type veth peer name pod1\nip link set cali1 up\nip link set pod1 up");
        put(
            "workloadendpoints",
            "default/n1-cni-c0-eth0",
            r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1-cni-c0-eth0","namespace":
               "default"},"spec":{"orchestrator":"cni","node":"n1","containerID":"c0","endpoint":"eth0","ipNetworks":
               ["192.168.7.5/32"],"interfaceName":"cali1","mac":"02:00:00:00:00:05"}}"#,
        );
        put(
            "networkpolicies",
            "default/default.web",
            r#"{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.web","namespace":
               "default"},"spec":{"selector":"all()","types":["Ingress"],"ingress":[{"action":"Log"},{"action":"Deny"}]}}"#,
        );
        let table = || run("nft list table inet tortie");
        eventually("the policy is in force", || {
            table().contains("tier default policy default/web ingress[1]")
        });
        let before = table();
        for rule in ["log prefix \"calico-packet: \" group 7 comment", "policy no longer allows the flow"] {
            assert!(before.contains(rule), "{rule} in {before}");
        }
        assert!(!before.contains("reject") && metrics().is_none());
        put(
            "felixconfigurations",
            "default",
            r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":
               {"nftablesFilterDenyAction":"Reject","logActionRateLimit":"3/minute","logActionRateLimitBurst":2,
                "prometheusMetricsEnabled":true,"prometheusMetricsHost":"localhost"}}"#,
        );
        eventually("denied packets are answered", || {
            table().lines().any(|line| line.contains(" reject ") && line.contains("web ingress[1]"))
        });
        let limited = "limit rate 3/minute burst 2 packets log prefix \"calico-packet: \" group 7";
        assert!(table().contains(limited), "{}", table());
        let counted = "tortie_policy_packets_total{tier=\"default\",namespace=\"default\",policy=\"web\",direction=\"ingress\",action=\"deny\"} 0";
        eventually("metrics are served", || metrics().is_some_and(|text| text.contains(counted)));
        assert!(!agent.log().contains("ERROR"), "{}", agent.log());
    });
}
