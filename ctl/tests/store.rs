//! What the verbs leave in the store, and how they live with what others left there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read;
use std::process::{Command, Stdio};

use support::{IPAM, PREFIX, RunningStore, inputs, policy, run};

#[test]
fn the_v1_pool_is_stored_as_upstream_stores_a_pool() {
    let store = RunningStore::embedded();
    assert_eq!(store.run(&["create", "-f", "v1-pool.yaml"]).code, 0);
    let contents = store.contents();
    assert_eq!(contents.len(), 1);
    let (key, text, _) = &contents[0];
    assert_eq!(*key, format!("{PREFIX}ippools/172-169-10-0-24"));
    let metadata = text.split(r#","creationTimestamp":""#).next().unwrap();
    let uid = metadata.strip_prefix(
        r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"172-169-10-0-24","uid":""#,
    );
    assert_eq!(uid.unwrap().len(), 37, "{text}");
    assert!(
        text.ends_with(concat!(
            r#"Z"},"spec":{"cidr":"172.169.10.0/24","vxlanMode":"Never","ipipMode":"CrossSubnet","#,
            r#""natOutgoing":true,"blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"#,
            r#""assignmentMode":"Automatic"}}"#
        )),
        "{text}"
    );
}

#[test]
fn unknown_fields_of_new_kinds_survive_an_apply() {
    let store = RunningStore::embedded();
    let key = format!("{PREFIX}felixconfigurations/default");
    store.put(
        &key,
        r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"u","creationTimestamp":"t"},"spec":{"bpfLogLevel":"Info","fromTheFuture":{"a":1}}}"#,
    );
    let document = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {ipipMTU: 1400}\n";
    assert_eq!(store.run_with_input(&["apply", "-f", "-"], document).code, 0);
    let spec = &store.value("felixconfigurations/default")["spec"];
    assert_eq!((&spec["ipipMTU"], &spec["fromTheFuture"]["a"]), (&1400.into(), &1.into()));
    assert_eq!(spec.get("bpfLogLevel"), None);
    let patch = store.run(&["patch", "felixconfig", "default", "-p", "{\"spec\":{\"ipipMTU\":1300}}"]);
    assert_eq!(patch.code, 0, "{patch:?}");
    assert_eq!(store.value("felixconfigurations/default")["spec"]["fromTheFuture"]["a"], 1);
}

#[test]
fn a_replace_keeps_what_newer_versions_stored() {
    let store = RunningStore::embedded();
    let key = format!("{PREFIX}nodes/n1");
    store.put(
        &key,
        concat!(
            r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1","uid":"u","creationTimestamp":"t","#,
            r#""labels":{"gone":"1"},"finalizers":["f"]},"spec":{"fromTheFuture":1,"bgp":{"ipv4Address":"10.0.0.1/24","asNumber":5}},"#,
            r#""status":{"wireguardPublicKey":"k"}}"#
        ),
    );
    let document = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1, uid: other}\nspec: {bgp: {ipv4Address: 10.0.0.2/24}}\n";
    assert_eq!(store.run_with_input(&["replace", "-f", "-"], document).code, 0);
    let expected = concat!(
        r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1","uid":"u","creationTimestamp":"t","#,
        r#""finalizers":["f"]},"spec":{"bgp":{"ipv4Address":"10.0.0.2/24"},"fromTheFuture":1},"#,
        r#""status":{"wireguardPublicKey":"k"}}"#
    );
    assert_eq!(store.contents()[0].1, expected);
}

#[test]
fn a_revision_in_the_document_must_be_the_stored_one() {
    let store = RunningStore::embedded();
    assert_eq!(store.run_with_input(&["apply", "-f", "-"], &policy("p", 1)).code, 0);
    let shown = store.run(&["get", "np", "p", "-o", "yaml"]).stdout;
    assert_eq!(store.run_with_input(&["apply", "-f", "-"], &shown).code, 0, "what get prints can be applied");
    let conflict = "failed to apply 'NetworkPolicy' resource: [update conflict: NetworkPolicy(default/p)]\n";
    assert_eq!(store.run_with_input(&["apply", "-f", "-"], &shown).stderr, conflict);
    let create = store.run_with_input(&["create", "-f", "-"], &shown.replace("name: p", "name: q"));
    assert!(create.stderr.contains("field must not be set for a Create request"), "{create:?}");
    let exported = store.run(&["get", "np", "p", "-o", "yaml", "--export"]).stdout;
    assert_eq!(store.run_with_input(&["create", "-f", "-"], &exported.replace("name: p", "name: q")).code, 0);
}

#[test]
fn values_that_cannot_be_read_are_named_and_the_rest_is_shown() {
    let store = RunningStore::embedded();
    store.put(&format!("{PREFIX}tiers/broken"), "{");
    store.put(&format!("{PREFIX}tiers/good"), r#"{"metadata":{"name":"good"},"spec":{"order":1}}"#);
    let list = store.run(&["get", "tiers"]);
    assert_eq!((list.stdout.as_str(), list.code), ("NAME   ORDER   \ngood   1       \n\n", 1));
    assert!(list.stderr.contains("tiers/broken is not a valid Tier"), "{}", list.stderr);
    assert_eq!(store.run(&["delete", "tier", "broken"]).code, 0);
    assert_eq!(store.run(&["get", "tiers"]).code, 0);
}

#[test]
fn clusters_of_another_major_version_need_a_flag() {
    let store = RunningStore::embedded();
    let info = |version: &str| {
        store.put(
            &format!("{PREFIX}clusterinformations/default"),
            &format!(r#"{{"metadata":{{"name":"default"}},"spec":{{"calicoVersion":"{version}","clusterType":"bgp"}}}}"#),
        );
    };
    info("v3.29.1");
    assert_eq!(store.run(&["get", "nodes"]).code, 0);
    info("v4.0.0");
    let refused = store.run(&["get", "nodes"]);
    assert!(refused.code == 1 && refused.stderr.starts_with("version mismatch."), "{refused:?}");
    assert_eq!(store.run(&["get", "nodes", "--allow-version-mismatch"]).code, 0);
    assert!(store.run(&["version"]).stdout.ends_with("Cluster Version:   v4.0.0\nCluster Type:      bgp\n"));
}

/// A /30 of `host` with as many addresses in use as there are handles.
fn put_block(store: &RunningStore, cidr: &str, host: &str, handles: &[&str]) {
    let key = cidr.replace('/', "-");
    let entries: Vec<serde_json::Value> =
        (0..4).map(|i| if i < handles.len() { i.into() } else { serde_json::Value::Null }).collect();
    let attributes: Vec<serde_json::Value> =
        handles.iter().map(|h| serde_json::json!({"handle_id": h, "secondary": {"node": host}})).collect();
    let block = serde_json::json!({
        "cidr": cidr, "affinity": format!("host:{host}"), "allocations": entries,
        "unallocated": (handles.len()..4).collect::<Vec<_>>(), "attributes": attributes,
        "sequenceNumber": 7, "sequenceNumberForAllocation": {}, "deleted": false
    });
    store.put(&format!("{IPAM}assignment/ipv4/block/{key}"), &block.to_string());
    store.put(&format!("{IPAM}host/{host}/ipv4/block/{key}"), r#"{"state":"confirmed","deleted":false}"#);
    for handle in handles {
        let value = serde_json::json!({"block": {cidr: 1}, "deleted": false}).to_string();
        store.put(&format!("{IPAM}handle/{handle}"), &value);
    }
}

#[test]
fn a_deleted_pool_gives_up_its_blocks() {
    let store = RunningStore::embedded();
    let pool = |name: &str, cidr: &str| {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: {cidr}, blockSize: 30}}\n"
        );
        assert_eq!(store.run_with_input(&["create", "-f", "-"], &text).code, 0);
    };
    pool("a", "10.1.0.0/24");
    pool("b", "10.2.0.0/24");
    put_block(&store, "10.1.0.0/30", "n1", &["used"]);
    put_block(&store, "10.1.0.4/30", "n1", &[]);
    put_block(&store, "10.2.0.0/30", "n1", &[]);
    let said = store.run(&["delete", "ipPool", "10.1.0.0/24"]);
    assert_eq!(said.stdout, "Successfully deleted 1 'IPPool' resource(s)\n", "{said:?}");
    assert_eq!(
        store.keys(),
        [
            "ipam/assignment/ipv4/block/10.1.0.0-30",
            "ipam/assignment/ipv4/block/10.2.0.0-30",
            "ipam/handle/used",
            "ipam/host/n1/ipv4/block/10.2.0.0-30",
            "ippools/b",
        ]
    );
    let block = store.contents().remove(0).1;
    assert!(block.contains(r#""affinity":null"#) && block.contains(r#""sequenceNumber":8"#), "{block}");
}

#[test]
fn a_deleted_node_takes_everything_of_its_own_along() {
    let store = RunningStore::embedded();
    for name in ["n1", "n2"] {
        let documents = format!(
            "\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {{name: {name}}}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{name: tor-{name}}}
spec: {{node: {name}, peerIP: 10.0.0.254, asNumber: 65000}}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {{name: node.{name}}}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
spec: {{node: {name}, orchestrator: cni, containerID: c, endpoint: eth0, ipNetworks: [10.{name}.0.0/32]}}
"
        )
        .replace("10.n", "10.");
        let said = store.run_with_input(&["create", "-f", "-"], &documents);
        assert_eq!(said.code, 0, "{said:?}");
        let host_endpoint = format!(r#"{{"spec":{{"node":"{name}"}}}}"#);
        store.put(&format!("{PREFIX}hostendpoints/{name}-eth0"), &host_endpoint);
        store.put(&format!("{IPAM}host/{name}"), "{}");
        let tunnel = format!("ipip-tunnel-addr-{name}");
        put_block(&store, &format!("10.{}.0.0/30", &name[1..]), name, &[&format!("cni.{name}"), &tunnel]);
    }
    let before = store.keys();
    let said = store.run(&["delete", "node", "n1"]);
    assert_eq!(said.stdout, "Successfully deleted 1 'Node' resource(s)\n", "{said:?}");
    let left: Vec<&String> =
        before.iter().filter(|key| key.contains("n2") || key.contains("10.2.")).collect();
    assert_eq!(store.keys().iter().collect::<Vec<_>>(), left);
    assert_eq!(before.len(), 2 * left.len());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(support::BINARY)
        .args(["convert", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let document = "apiVersion: v1\nkind: node\nmetadata: {name: a}\n---\n".repeat(5000);
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), document.as_bytes()).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((said.as_str(), child.wait().unwrap().code()), ("", Some(0)));
}

#[test]
fn invoked_as_calicoctl_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("calicoctl");
    std::os::unix::fs::symlink(support::BINARY, &link).unwrap();
    let help = Command::new(link).args(["get", "--help"]).output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: calicoctl get "));
}

#[test]
fn convert_prints_v3_and_lists_of_it() {
    let one = run(None, &inputs(), &["convert", "-f", "v1-pool.yaml"], "");
    assert!(one.stdout.starts_with("apiVersion: projectcalico.org/v3\nkind: IPPool\n"), "{one:?}");
    let masked = one.stdout.replace("172.169.10.0/24", "172.169.10.1/24");
    assert_eq!(run(None, &inputs(), &["convert", "-f", "-"], &masked).code, 1);
    assert_eq!(run(None, &inputs(), &["convert", "-f", "-", "--ignore-validation"], &masked).stdout, masked);
    let twice = std::fs::read_to_string(inputs().join("v1-pool.yaml")).unwrap();
    let two = run(None, &inputs(), &["convert", "-f", "-", "-o", "json"], &format!("{twice}---\n{twice}"));
    let list: serde_json::Value = serde_json::from_str(&two.stdout).unwrap();
    assert_eq!((list["kind"].as_str(), list["items"].as_array().unwrap().len()), (Some("List"), 2));
}

#[test]
fn node_status_asks_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("tortie.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = connection.read(&mut request).unwrap();
        assert!(request[..read].starts_with(b"GET /v1/node/status HTTP/1.0\r\n"));
        let body = r#"{"node":"n1","version":"v","ready":true,"peers":[{"address":"fd00::1","peerType":"global","state":"start","since":"2026-01-02","info":"Connect"}]}"#;
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        std::io::Write::write_all(&mut connection, answer.as_bytes()).unwrap();
    });
    let said = run(None, directory.path(), &["node", "status", "--socket", "tortie.sock"], "");
    agent.join().unwrap();
    let expected = "\
Calico process is running.

IPv4 BGP status
No IPv4 peers found.

IPv6 BGP status
+--------------+-----------+-------+------------+---------+
| PEER ADDRESS | PEER TYPE | STATE |   SINCE    |  INFO   |
+--------------+-----------+-------+------------+---------+
| fd00::1      | global    | start | 2026-01-02 | Connect |
+--------------+-----------+-------+------------+---------+

";
    assert_eq!((said.stdout.as_str(), said.code), (expected, 0), "{}", said.stderr);
    let gone = run(None, directory.path(), &["node", "status", "--socket", "gone.sock"], "");
    assert!(
        gone.code == 1
            && gone.stderr.starts_with("Calico process is not running.\n(nothing listens on gone.sock")
    );
}
