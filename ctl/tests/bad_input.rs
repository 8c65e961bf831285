//! Wrong input of every sort: refused with file, document, field and value, exit code 1, and nothing written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::{Run, RunningStore, run};

const POOL: &str = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: NAME
spec:
  cidr: CIDR
";

fn pool(name: &str, cidr: &str) -> String {
    POOL.replace("NAME", name).replace("CIDR", cidr)
}

/// Applies and creates a good pool together with `bad` in one file; checks that both are refused alike, with all
/// `expected` texts, and that nothing was written.
#[track_caller]
fn refused(store: &RunningStore, bad: &str, expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("in.yaml"), format!("{}---\n{bad}", pool("good", "10.200.0.0/16")))
        .unwrap();
    let before = store.contents();
    for verb in ["apply", "create"] {
        let Run { stdout, stderr, code } =
            run(Some(&store.endpoint), directory.path(), &[verb, "-f", "in.yaml"], "");
        assert_eq!((code, stdout.as_str()), (1, ""), "{verb}: {stderr}");
        for text in expected {
            assert!(stderr.contains(text), "{verb}: no '{text}' in: {stderr}");
        }
    }
    assert_eq!(store.contents(), before, "something was written");
}

#[test]
fn every_kind_of_mistake_is_refused_before_anything_is_written() {
    let store = RunningStore::embedded();
    let stored = store.run_with_input(&["create", "-f", "-"], &pool("stored", "10.0.0.0/16"));
    assert_eq!(stored.code, 0, "{stored:?}");
    let place = "in.yaml, document 2 (line 7)";

    // Not a network; host bits; overlap with the store, with the same input.
    let bad = pool("b", "10.1.0.0/33");
    refused(
        &store,
        &bad,
        &[place, "IPPool(b)", "error with field spec.cidr = '10.1.0.0/33' (must be a network"],
    );
    let bad = pool("b", "10.1.0.1/16");
    refused(
        &store,
        &bad,
        &[place, "spec.cidr = '10.1.0.1/16'", "the address of this network is 10.1.0.0/16"],
    );
    let bad = pool("b", "10.0.128.0/17");
    refused(
        &store,
        &bad,
        &[place, "IPPool(b)", "spec.cidr = '10.0.128.0/17' (overlaps with IPPool(stored) 10.0.0.0/16)"],
    );
    let bad = pool("b", "10.200.1.0/24");
    let expected = "spec.cidr = '10.200.1.0/24' (overlaps with IPPool(good) 10.200.0.0/16 in in.yaml, document 1 (line 1))";
    refused(&store, &bad, &[place, expected]);

    // Block size out of range, for both families; a pool smaller than its blocks.
    let bad = pool("b", "10.1.0.0/16") + "  blockSize: 33\n";
    refused(
        &store,
        &bad,
        &[place, "spec.blockSize = '33' (block size of an IPv4 pool must be from 20 to 32)"],
    );
    let bad = pool("b", "fd00::/48") + "  blockSize: 64\n";
    refused(
        &store,
        &bad,
        &[place, "spec.blockSize = '64' (block size of an IPv6 pool must be from 116 to 128)"],
    );
    refused(&store, &pool("b", "10.1.0.0/27"), &[place, "spec.cidr = '10.1.0.0/27'", "which are /26"]);

    let bad = pool("b", "10.1.0.0/16") + "  nodeSelector: rack = 'a'\n";
    refused(&store, &bad, &[place, "spec.nodeSelector = 'rack = 'a'' (invalid selector: ", "at column 6)"]);

    // Unknown kind and field, with the nearest name.
    let bad = pool("b", "10.1.0.0/16").replace("IPPool", "IPPol");
    refused(&store, &bad, &[place, "unknown resource type (IPPol)", "did you mean 'IPPool'?"]);
    let bad = pool("b", "10.1.0.0/16") + "  natOutgoin: true\n";
    refused(&store, &bad, &[place, "wrong location: spec.natOutgoin (did you mean 'natOutgoing'?)"]);
    let bad = "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 10.1.0.0/16}\nspec: {nat-outgoin: true}\n";
    refused(
        &store,
        bad,
        &[place, "ipPool", "wrong location: spec.nat-outgoin (did you mean 'nat-outgoing'?)"],
    );
    let bad = "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 10.1.0.1/16}\n";
    refused(&store, bad, &[place, "error with field metadata.cidr = '10.1.0.1/16'"]);

    // Broken YAML, with line and column of the file.
    refused(&store, "spec: [1,\nkind: x\n", &[place, "broken YAML at line 10, column 1"]);

    // What only the store knows.
    let bad =
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {tier: defalt}\n";
    refused(
        &store,
        bad,
        &[
            place,
            "NetworkPolicy(default/p)",
            "spec.tier = 'defalt' (tier does not exist; did you mean 'default'?)",
        ],
    );
    let bad = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: p}\nspec: {peerIP: 10.0.0.1, asNumber: 1, filters: [f]}\n";
    refused(&store, bad, &[place, "spec.filters[0] = 'f' (BGPFilter does not exist)"]);
    let bad = "apiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {name: default}\n";
    refused(&store, bad, &[place, "is not supported on ClusterInformation(default)"]);
    let bad = "apiVersion: projectcalico.org/v3\nkind: StagedGlobalNetworkPolicy\nmetadata: {name: p}\nspec: {tier: defalt}\n";
    refused(
        &store,
        bad,
        &[place, "StagedGlobalNetworkPolicy(p)", "spec.tier = 'defalt' (tier does not exist"],
    );
    let bad = "apiVersion: projectcalico.org/v3\nkind: BlockAffinity\nmetadata: {name: a}\nspec: {state: confirmed, node: n, cidr: 10.0.0.0/26}\n";
    refused(&store, bad, &[place, "is not supported on BlockAffinity(a): it is written by IPAM"]);
    let bad = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: knp.default.a}\n";
    refused(&store, bad, &[place, "NetworkPolicy(default/knp.default.a)", "through Kubernetes"]);
}

#[test]
fn several_mistakes_are_listed_together() {
    let store = RunningStore::embedded();
    let bad =
        format!("{}  blockSize: 40\n  ipipmode: Always\n---\n{}", pool("b", "10.1.0.1/16"), pool("c", "x"));
    refused(
        &store,
        &bad,
        &[
            "2 problems in the input:\n-  ",
            "spec.ipipmode (did you mean 'ipipMode'?)",
            "document 3",
            "spec.cidr = 'x'",
        ],
    );
    let bad = pool("b", "10.1.0.1/16") + "  blockSize: 40\n  ipipMode: Always\n  vxlanMode: Always\n";
    refused(
        &store,
        &bad,
        &["3 problems", "spec.cidr = '10.1.0.1/16'", "spec.blockSize = '40'", "spec.ipipMode = 'Always'"],
    );
}

#[test]
fn what_a_pool_is_made_of_cannot_be_changed() {
    let store = RunningStore::embedded();
    let key = "/calico/ipam/v2/assignment/ipv4/block/10.5.0.0-24";
    store.put(
        key,
        r#"{"cidr":"10.5.0.0/24","allocations":[],"unallocated":[],"attributes":[],"deleted":false}"#,
    );
    refused(&store, &pool("b", "10.5.0.0/16"), &["spec.blockSize = '26' (block 10.5.0.0/24 of another size"]);
    assert_eq!(store.run_with_input(&["create", "-f", "-"], &pool("b", "10.6.0.0/16")).code, 0);
    for (change, expected) in [
        (pool("b", "10.7.0.0/16"), "spec.cidr = '10.7.0.0/16' (a pool's CIDR cannot be changed"),
        (
            pool("b", "10.6.0.0/16") + "  blockSize: 28\n",
            "spec.blockSize = '28' (a pool's block size cannot be changed",
        ),
    ] {
        let said = store.run_with_input(&["apply", "-f", "-"], &change);
        assert!(said.code == 1 && said.stderr.contains(expected), "{said:?}");
        assert!(said.stderr.contains("standard input, document 1 (line 1)"), "{said:?}");
    }
}

#[test]
fn an_unreachable_store_is_named_in_bounded_time() {
    let endpoint = format!("http://127.0.0.1:{}", support::free_port());
    // A port that takes connections and never answers is worse than a closed one.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_endpoint = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in [&endpoint, &silent_endpoint] {
        let start = Instant::now();
        let said = run(Some(endpoint), Path::new("."), &["get", "nodes"], "");
        assert_eq!((said.code, said.stdout.as_str()), (1, ""));
        assert!(said.stderr.contains(&format!("datastore unreachable at {endpoint}")), "{}", said.stderr);
        assert!(said.stderr.contains("ETCD_ENDPOINTS"), "{}", said.stderr);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    let said = run(None, Path::new("."), &["get", "nodes", "-c", "missing.cfg"], "");
    assert!(said.code == 1 && said.stderr.starts_with("Error reading config file: missing.cfg"), "{said:?}");
    // Files are read before the store is looked for.
    let said = run(Some(&endpoint), Path::new("."), &["apply", "-f", "missing.yaml"], "");
    assert!(said.stderr.starts_with("failed to execute command: cannot read missing.yaml: "), "{said:?}");
}

#[test]
fn wrong_command_lines_exit_with_1_and_help_with_0() {
    let here = Path::new(".");
    assert_eq!(run(None, here, &["get"], "").code, 1);
    assert_eq!(run(None, here, &["frobnicate"], "").code, 1);
    for command in
        ["create", "apply", "replace", "delete", "get", "patch", "label", "validate", "convert", "version"]
    {
        let help = run(None, here, &[command, "-h"], "");
        assert!(help.code == 0 && help.stdout.contains("Example:\n  tortiectl "), "{help:?}");
    }
    let empty = run(None, here, &["validate", "-f", "-"], "# nothing\n---\n");
    assert_eq!((empty.code, empty.stderr.as_str()), (1, "no resources specified in file standard input\n"));
    let skipped = run(None, here, &["validate", "-f", "-", "--skip-empty"], "");
    assert_eq!((skipped.code, skipped.stdout.as_str()), (0, "No resources specified\n"));
}
