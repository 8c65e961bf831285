//! Looking after a store: export and import, IPAM's own commands, patches, and values nobody can read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use support::{RunningStore, run};

const PREFIX: &str = "/calico/resources/v3/projectcalico.org/";
const CONFIG: &str = "/calico/ipam/v2/config";

fn keys_and_values(store: &RunningStore) -> Vec<(String, String)> {
    store.contents().into_iter().map(|(key, value, _)| (key, value)).collect()
}

#[track_caller]
fn ok(store: &RunningStore, args: &[&str], input: &str) -> String {
    let run = store.run_with_input(args, input);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
    run.stdout
}

#[track_caller]
fn fails(store: &RunningStore, args: &[&str], input: &str, expected: &str) {
    let before = store.contents();
    let run = store.run_with_input(args, input);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}");
    assert!(run.stderr.contains(expected), "no '{expected}' in: {}", run.stderr);
    assert_eq!(store.contents(), before, "something was written");
}

fn pool(name: &str, cidr: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: {cidr}}}\n"
    )
}

#[test]
fn an_export_is_imported_byte_for_byte_into_another_store() {
    let source = RunningStore::embedded();
    for i in 0..150 {
        source.put(
            &format!("/calico/ipam/v2/handle/h{i}"),
            &format!("{{\"block\": {{}}, \"deleted\":{}}}", i % 2 == 0),
        );
    }
    source.put("/calico/large", &"x".repeat(700 << 10));
    source.put("/elsewhere", "stays");
    ok(&source, &["create", "-f", "v1-pool.yaml"], "");
    let export = ok(&source, &["datastore", "export"], "");
    let all: Vec<_> =
        keys_and_values(&source).into_iter().filter(|(key, _)| key.starts_with("/calico/")).collect();
    let targets = [Some(RunningStore::embedded()), RunningStore::etcd()];
    for target in targets.into_iter().flatten() {
        assert_eq!(
            ok(&target, &["datastore", "import", "-f", "-"], &export),
            format!("Successfully imported {} keys\n", all.len())
        );
        assert_eq!(keys_and_values(&target), all);
        fails(
            &target,
            &["datastore", "import", "-f", "-"],
            &export,
            "the datastore is not empty: it has 152 keys",
        );
        target.put("/calico/large", "other");
        target.put("/calico/own", "stays");
        ok(&target, &["datastore", "import", "--force", "-f", "-"], &export);
        let after = keys_and_values(&target);
        assert_eq!(after.len(), all.len() + 1);
        assert!(all.iter().all(|entry| after.contains(entry)));
        let cut = export.rsplit_once("{\"key\"").unwrap().0;
        fails(&target, &["datastore", "import", "--force", "-f", "-"], cut, "the file is cut short");
        fails(
            &target,
            &["datastore", "import", "--force", "-f", "/nonexistent"],
            "",
            "cannot read /nonexistent",
        );
    }
}

#[test]
fn a_snapshot_or_the_directory_of_a_stopped_server_is_exported_as_the_server_itself() {
    let mut source = RunningStore::embedded();
    source.put("/calico/a", "1");
    source.put("/calico/b", "2");
    source.put("/elsewhere", "3");
    let live = ok(&source, &["datastore", "export"], "");
    let dir = tempfile::tempdir().unwrap();
    let snapshot = dir.path().join("snapshot").display().to_string();
    let saved = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &source.endpoint, "snapshot", "save", &snapshot])
        .output()
        .unwrap();
    assert!(saved.status.success(), "{saved:?}");
    let offline = |args: &[&str]| run(None, Path::new("."), &[&["datastore", "export"], args].concat(), "");
    let from_snapshot = offline(&["--snapshot", &snapshot]);
    assert_eq!((from_snapshot.code, from_snapshot.stdout.as_str()), (0, live.as_str()));
    let data = source.data_dir().display().to_string();
    let in_use = offline(&["--data-dir", &data]);
    assert_eq!(in_use.code, 1);
    assert!(in_use.stderr.contains("is in use by another process"), "{}", in_use.stderr);
    source.kill();
    assert_eq!(offline(&["--data-dir", &data]).stdout, live);

    // One command brings it into a real etcd.
    let Some(target) = RunningStore::etcd() else { return };
    let said = ok(&target, &["datastore", "import", "-f", "-"], &from_snapshot.stdout);
    assert_eq!(said, "Successfully imported 2 keys\n");
    assert_eq!(
        keys_and_values(&target),
        [("/calico/a", "1"), ("/calico/b", "2")].map(|(k, v)| (k.into(), v.into()))
    );
    let none = offline(&["--snapshot", "/nonexistent"]);
    assert!(none.stderr.contains("snapshot /nonexistent: cannot be read"), "{}", none.stderr);
}

#[test]
fn serving_refuses_what_would_let_everybody_in() {
    let serve = |args: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("d").display().to_string();
        let start = ["datastore", "serve", "--data-dir", &data, "--listen"];
        let refused = run(None, Path::new("."), &[&start[..], args].concat(), "");
        assert_eq!(refused.code, 1, "{args:?}");
        assert!(!dir.path().join("d").exists(), "nothing is made");
        refused.stderr
    };
    let open = serve(&["0.0.0.0:0"]);
    assert!(open.contains("--cert-file") && open.contains("--insecure"), "{open}");
    assert!(
        serve(&["0.0.0.0:0", "--cert-file", "/x"]).contains("--cert-file is given but --key-file is not")
    );
    assert!(serve(&["0.0.0.0:0", "--cert-file", "/x", "--insecure"]).contains("cannot be used with"));
}

#[test]
fn strict_affinity_is_one_setting_among_others() {
    let store = RunningStore::embedded();
    let configure =
        |value: &str| ok(&store, &["ipam", "configure", &format!("--strictaffinity={value}")], "");
    assert_eq!(configure("true"), "Successfully set StrictAffinity to: true\n");
    assert_eq!(store.contents()[0].1, r#"{"strict_affinity":true,"auto_allocate_blocks":true}"#);
    store.put(CONFIG, r#"{"strict_affinity":true,"auto_allocate_blocks":true,"newer":[1]}"#);
    assert_eq!(configure("false"), "Successfully set StrictAffinity to: false\n");
    assert_eq!(store.contents()[0].1, r#"{"auto_allocate_blocks":true,"newer":[1]}"#);
    let off = ["ipam", "configure", "--strictaffinity=false"];
    store.put(CONFIG, r#"{"strict_affinity":true}"#);
    fails(&store, &off, "", "cannot both be off");
    store.put(CONFIG, r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":2}"#);
    fails(&store, &off, "", "maxBlocksPerHost is 2");
    store.put(CONFIG, "{");
    fails(&store, &off, "", "value of /calico/ipam/v2/config is not a valid IPAM configuration");
    fails(&store, &["ipam", "configure"], "", "at least one configuration option must be specified");
    fails(&store, &["ipam", "configure", "--strictaffinity=yes"], "", "invalid value 'yes'");
}

#[test]
fn all_settings_of_ipam_can_be_changed_and_shown() {
    let store = RunningStore::embedded();
    let all = [
        "ipam",
        "configure",
        "--strictaffinity=true",
        "--max-blocks-per-host=4",
        "--kubevirt-ip-persistence=Disabled",
        "--ip-cooldown-seconds=30",
    ];
    let expected = "\
Successfully set StrictAffinity to: true
Successfully set MaxBlocksPerHost to: 4
Successfully set KubeVirtVMAddressPersistence to: Disabled
Successfully set IPCooldownSeconds to: 30
";
    assert_eq!(ok(&store, &all, ""), expected);
    let shown = ok(&store, &["ipam", "show", "--show-configuration"], "");
    assert!(shown.contains("| MaxBlocksPerHost             |        4 |"), "{shown}");
    let wrong = ["ipam", "configure", "--strictaffinity=false", "--ip-cooldown-seconds=1201"];
    fails(&store, &wrong, "", "maxBlocksPerHost is 4, which needs strict affinity");
    fails(&store, &wrong, "", "ipCooldownSeconds is 1201: must be 0 to 1200");
}

/// A cluster in which an address of n1 leaked, and one is a workload's.
fn leaking(store: &RunningStore) {
    let block = serde_json::json!({
        "cidr": "10.1.0.0/30", "affinity": "host:n1", "allocations": [0, 1, null, null], "unallocated": [2, 3],
        "attributes": [{"handle_id": "used", "secondary": {"node": "n1"}}, {"handle_id": "dead", "secondary": {"node": "n1"}}],
        "sequenceNumber": 7, "sequenceNumberForAllocation": {"0": 5, "1": 6}, "deleted": false
    });
    store.put("/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-30", &block.to_string());
    store.put("/calico/ipam/v2/host/n1/ipv4/block/10.1.0.0-30", r#"{"state":"confirmed","deleted":false}"#);
    for handle in ["used", "dead", "empty"] {
        let counts = if handle == "empty" { "{}" } else { r#"{"10.1.0.0/30":1}"# };
        let value = format!(r#"{{"block":{counts},"deleted":false}}"#);
        store.put(&format!("/calico/ipam/v2/handle/{handle}"), &value);
    }
    let pool = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: a}\n\
                spec: {cidr: 10.1.0.0/16, blockSize: 30}\n";
    ok(store, &["create", "-f", "-"], pool);
    let endpoint = "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\n\
                    spec: {node: n1, orchestrator: cni, containerID: c, endpoint: eth0, ipNetworks: [10.1.0.0/32]}\n";
    ok(store, &["create", "-f", "-"], endpoint);
    lock(store, "false");
}

fn lock(store: &RunningStore, ready: &str) {
    let value = format!(
        r#"{{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{{"name":"default"}},"spec":{{"clusterGUID":"abc","datastoreReady":{ready}}}}}"#
    );
    store.put(&format!("{PREFIX}clusterinformations/default"), &value);
}

#[test]
fn a_check_finds_leaks_and_a_release_by_its_report_removes_them() {
    let store = RunningStore::embedded();
    leaking(&store);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let file = file.to_str().unwrap();
    let said = ok(&store, &["ipam", "check", "--show-all-ips", "-o", file], "");
    let expected = "\
Checking IPAM for inconsistencies...

Found 1 IPAM blocks.
 IPAM block 10.1.0.0/30 affinity=host:n1
IPAM blocks record 2 allocations; 0 more cool down.
Found 1 active IP pools.
  10.1.0.0/16
Workloads and nodes are using 1 IPs.

  10.1.0.0 in use; owners: Workload(default/n1-cni-c-eth0); handle used, node n1
  10.1.0.1 leaked; handle dead, node n1
Found 1 IPs that are allocated in IPAM but not actually in use.
Found 1 handles with no matching IPs.
  empty
Found 0 contradictions.
Check complete; found 2 problems.
";
    assert_eq!(said, expected);
    let release = ["ipam", "release", "--from-report", file];
    let report = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, report.replace("\"abc\"", "\"other\"")).unwrap();
    fails(&store, &release, "", "is of cluster other, this is cluster abc");
    std::fs::write(file, report.replace(": \"v", ": \"w")).unwrap();
    fails(&store, &release, "", "is of version w");
    std::fs::write(file, &report).unwrap();
    assert_eq!(
        ok(&store, &release, ""),
        "Released 1 IPs, removed 1 handles.\nYou may now unlock the data store.\n"
    );
    assert!(ok(&store, &["ipam", "check"], "").ends_with("Check complete; found 0 problems.\n"));
    assert_eq!(
        ok(&store, &release, ""),
        "Released 0 IPs, removed 0 handles.\nYou may now unlock the data store.\n"
    );
    lock(&store, "true");
    fails(&store, &release, "", "the datastore is not locked");
    fails(&store, &[&release[..], &["--force"]].concat(), "", "no report is current");
    fails(&store, &["ipam", "release", "--ip=10.1.0.1", "--from-report=x"], "", "cannot be used with");
}

#[test]
fn an_address_is_released_once() {
    let store = RunningStore::embedded();
    let block = serde_json::json!({
        "cidr": "10.1.0.0/30", "affinity": "host:n1", "allocations": [0, null, null, null], "unallocated": [1, 2, 3],
        "attributes": [{"handle_id": "h", "secondary": {"node": "n1"}}],
        "sequenceNumber": 7, "sequenceNumberForAllocation": {}, "deleted": false
    });
    store.put("/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-30", &block.to_string());
    store.put("/calico/ipam/v2/handle/h", r#"{"block":{"10.1.0.0/30":1},"deleted":false}"#);
    let release = ["ipam", "release", "--ip=10.1.0.0"];
    assert_eq!(ok(&store, &release, ""), "Successfully released IP address 10.1.0.0\n");
    assert_eq!(ok(&store, &["ipam", "show", "--ip=10.1.0.0"], ""), "10.1.0.0 is not assigned\n");
    assert!(!keys_and_values(&store).iter().any(|(key, _)| key.ends_with("/handle/h")));
    fails(&store, &release, "", "IP address 10.1.0.0 is not assigned");
    fails(&store, &["ipam", "release", "--ip=10.1.0"], "", "--ip 10.1.0: must be an IP address");
    fails(&store, &["ipam", "release"], "", "--ip <IP>");
}

#[test]
fn patches_of_every_type_change_fields_and_nothing_else() {
    let store = RunningStore::embedded();
    ok(&store, &["create", "-f", "-"], &pool("a", "10.1.0.0/16"));
    let patch = ["patch", "ippool", "a", "--type", "json", "-p"];
    let json = |text: &'static str| [&patch[..], &[text]].concat();
    let said = ok(
        &store,
        &json(
            r#"[{"op":"test","path":"/spec/blockSize","value":26},{"op":"add","path":"/spec/natOutgoing","value":true}]"#,
        ),
        "",
    );
    assert_eq!(said, "Successfully patched 1 'IPPool' resource\n");
    assert!(ok(&store, &["get", "ippool", "a", "-o", "json"], "").contains("\"natOutgoing\": true"));
    fails(
        &store,
        &json(r#"[{"op":"test","path":"/spec/blockSize","value":27}]"#),
        "",
        "--patch: operation '/0' failed",
    );
    fails(
        &store,
        &json(r#"[{"op":"add","path":"/spec/natOutgoin","value":true}]"#),
        "",
        "did you mean 'natOutgoing'?",
    );
    fails(&store, &json(r#"{"spec":{}}"#), "", "type json takes a list such as [{\"op\"");
    for change in [r#"{"metadata":{"name":"b"}}"#, r#"{"kind":"Tier","spec":null}"#] {
        fails(&store, &["patch", "ippool", "a", "-p", change], "", "kind, name and namespace stay");
    }
    fails(&store, &["patch", "ippool", "a", "-p", "[]"], "", "a list of operations goes with --type json");
}

#[test]
fn what_nobody_can_read_counts_as_a_conflict_and_not_as_absent() {
    let store = RunningStore::embedded();
    let broken = |plural: &str, name: &str| store.put(&format!("{PREFIX}{plural}/{name}"), "{");
    broken("ippools", "x");
    fails(&store, &["create", "-f", "-"], &pool("a", "10.1.0.0/16"), "ippools/x is not a valid IPPool");
    fails(&store, &["ipam", "show"], "", "ippools/x is not a valid IPPool");
    ok(&store, &["delete", "ippool", "x"], "");
    ok(&store, &["create", "-f", "-"], &pool("a", "10.1.0.0/16"));

    ok(
        &store,
        &["create", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 5}\n",
    );
    broken("globalnetworkpolicies", "t.p");
    fails(
        &store,
        &["delete", "tier", "t"],
        "",
        "globalnetworkpolicies/t.p is not a valid GlobalNetworkPolicy",
    );
    ok(&store, &["delete", "gnp", "t.p"], "");
    ok(&store, &["delete", "tier", "t"], "");

    ok(&store, &["create", "-f", "-"], "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n}\n");
    broken("workloadendpoints", "ns/n-k8s-p-eth0");
    fails(&store, &["delete", "node", "n"], "", "is not a valid WorkloadEndpoint");
}

#[test]
fn orders_are_shown_and_stored_without_a_fraction() {
    let store = RunningStore::embedded();
    ok(
        &store,
        &["create", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 5}\n",
    );
    assert!(store.contents()[0].1.contains(r#""order":5,"#), "{:?}", store.contents());
    assert!(ok(&store, &["get", "tier", "t", "-o", "yaml"], "").contains("\n  order: 5\n"));
}

#[test]
fn an_empty_namespace_is_the_default_one() {
    let store = RunningStore::embedded();
    let policy = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p}\n";
    ok(&store, &["create", "-n", "", "-f", "-"], policy);
    assert_eq!(ok(&store, &["get", "np", "p", "-n", "", "-o", "name"], ""), "networkpolicy/p\n");
    ok(&store, &["delete", "np", "p", "-n", ""], "");
}

#[test]
fn a_missing_configuration_is_named_once() {
    let run = run(None, Path::new("."), &["-c", "/nonexistent", "get", "nodes"], "");
    let expected = "Error reading config file: /nonexistent: No such file or directory (os error 2)\n";
    assert_eq!((run.code, run.stderr.as_str()), (1, expected));
}

#[test]
fn the_state_of_every_endpoint_is_shown() {
    let [embedded, closed] = [RunningStore::embedded(), RunningStore::embedded()];
    let (first, second) = (embedded.endpoint.clone(), closed.endpoint.clone());
    drop(closed);
    let table = ok(&embedded, &["datastore", "status"], "");
    assert_eq!(table.lines().count(), 5, "{table}");
    let row: Vec<&str> = table.lines().nth(3).unwrap().split('|').map(str::trim).collect();
    assert_eq!((row[1], row[2], row[4]), (first.as_str(), "healthy", "leader"), "{table}");

    let both = run(Some(&format!("{first},{second}")), Path::new("."), &["datastore", "status"], "");
    assert_eq!(both.code, 1);
    assert!(both.stdout.contains(&format!("| {second} | unreachable |")), "{}", both.stdout);
    assert!(
        both.stderr.starts_with(&format!("{second}: ")) && both.stderr.contains("refused"),
        "{}",
        both.stderr
    );
    assert!(!both.stderr.contains(&first), "{}", both.stderr);
}
