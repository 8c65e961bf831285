//! The old v1 form in v3: names above all, and what rules and selectors become (calico-datamodel 5.2).
//!
//! Hashes in names are the first 8 digits of `printf NAME | sha1sum`.

use serde_json::{Value, json};
use tortie_model::v1::convert;

fn v3(kind: &str, metadata: Value, spec: Value) -> Value {
    let document = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec});
    convert(&document).unwrap_or_else(|problems| panic!("{document}: {problems:?}"))
}

fn name(kind: &str, metadata: Value) -> String {
    let spec = if kind == "bgpPeer" { json!({"asNumber": 1}) } else { json!({}) };
    v3(kind, metadata, spec)["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn pools_are_named_after_their_cidr() {
    for (cidr, expected) in [
        ("192.168.0.0/16", "192-168-0-0-16"),
        ("10.0.0.0/8", "10-0-0-0-8"),
        ("172.169.10.0/24", "172-169-10-0-24"),
        ("10.1.2.3/32", "10-1-2-3-32"),
        ("fd00:1:2::/48", "fd00-1-2---48"),
        ("fd00::1:0/112", "fd00--1-0-112"),
        ("2001:db8:1:2:3:4:5:0/112", "2001-db8-1-2-3-4-5-0-112"),
    ] {
        assert_eq!(name("ipPool", json!({"cidr": cidr})), expected);
    }
}

#[test]
fn peers_are_named_after_node_and_address() {
    for (node, ip, expected) in [
        ("", "10.0.0.1", "10-0-0-1"),
        ("", "192.20.30.40", "192-20-30-40"),
        ("", "fd00::1", "fd00-0000-0000-0000-0000-0000-0000-0001"),
        ("", "AABB:AABB::FFFF", "aabb-aabb-0000-0000-0000-0000-0000-ffff"),
        ("", "1:2:3:4:5:6:7:8", "0001-0002-0003-0004-0005-0006-0007-0008"),
        ("rack1-host1", "10.0.0.1", "rack1-host1.10-0-0-1"),
        ("Rack1_Host1", "10.0.0.1", "rack1-host1.10-0-0-1"),
        ("host.example.com", "fd00::1", "host.example.com.fd00-0000-0000-0000-0000-0000-0000-0001"),
    ] {
        let metadata = match node {
            "" => json!({"scope": "global", "peerIP": ip}),
            node => json!({"scope": "node", "node": node, "peerIP": ip}),
        };
        assert_eq!(name("bgpPeer", metadata), expected);
    }
}

/// A v1 name, without and with the hash it gets when it had to be changed.
const NAMES: &[(&str, &str, &str)] = &[
    ("a", "a", "a"),
    ("already.fine-1", "already.fine-1", "already.fine-1"),
    ("a--b", "a--b", "a--b"),
    ("0", "0", "0"),
    ("MyName", "myname", "myname-28ecdf0d"),
    ("my_name", "my-name", "my-name-7201224b"),
    ("my name", "my-name", "my-name-c1f49c5a"),
    ("a/b", "a.b", "a.b-3ec69c85"),
    ("a//b", "a.b", "a.b-586cec69"),
    ("a..b", "a.b", "a.b-89cf32c3"),
    ("a.-b", "a.b", "a.b-70a05980"),
    ("a-.b", "a.b", "a.b-cb18534f"),
    ("a-.-b", "a.b", "a.b-4e7545e4"),
    ("a_-b", "a--b", "a--b-6a7ac6c7"),
    ("a_/b", "a.b", "a.b-c1eb944f"),
    ("a!@#b", "a---b", "a---b-c96556c5"),
    ("-a-", "a", "a-e62b78f7"),
    (".a.", "a", "a-613072f5"),
    ("_a_", "a", "a-77448970"),
    ("/a/", "a", "a-75cd27c7"),
    ("a-", "a", "a-d5054dde"),
    ("A/B_C", "a.b-c", "a.b-c-88059c54"),
    ("Big/Name_", "big.name", "big.name-8eaaf927"),
    ("namé", "nam", "nam-a0ab462d"),
    ("é.a", "a", "a-0f3918a7"),
    ("aéb", "a-b", "a-b-4b697025"),
    ("openstack-sg-4d6c1ed2", "openstack-sg-4d6c1ed2", "openstack-sg-4d6c1ed2"),
    ("allow.tcp-6379", "allow.tcp-6379", "allow.tcp-6379"),
    ("http:80", "http-80", "http-80-e2a8bfc5"),
];

#[test]
fn names_are_made_legal() {
    for (original, node, hashed) in NAMES {
        assert_eq!(name("node", json!({"name": original})), *node, "a node keeps its name without a hash");
        assert_eq!(name("profile", json!({"name": original})), *hashed);
        assert_eq!(
            name("policy", json!({"name": original})),
            hashed.replace('.', "-"),
            "no dots in a policy's name"
        );
        assert_eq!(name("tier", json!({"name": original})), *hashed);
    }
}

#[test]
fn names_of_profiles_and_host_endpoints() {
    for (original, expected) in [
        ("k8s_ns.default", "kns.default"),
        ("k8s_ns.kube-system", "kns.kube-system"),
        // Only the prefix is special.
        ("x.k8s_ns.default", "x.k8s-ns.default-0e05bcee"),
        ("k8s_ns", "k8s-ns-f1451722"),
    ] {
        assert_eq!(name("profile", json!({"name": original})), expected);
    }
    for (node, endpoint, expected) in [
        ("node1", "eth0", "node1.eth0"),
        ("node-1", "eth0.1", "node-1.eth0.1"),
        ("Node1", "eth0", "node1.eth0-2dd8b4d7"),
        ("node1", "Eth_0", "node1.eth-0-fa5cc339"),
    ] {
        assert_eq!(name("hostEndpoint", json!({"name": endpoint, "node": node})), expected);
    }
}

#[test]
fn workload_endpoints_get_a_computed_name() {
    for (orchestrator, workload, namespace, expected) in [
        ("k8s", "default.frontend-5gs43", "default", ("pod", "frontend-5gs43")),
        ("k8s", "kube-system.a.b", "kube-system", ("pod", "a.b")),
        ("libnetwork", "libnetwork", "default", ("workload", "libnetwork")),
        ("other", "vm1", "default", ("workload", "vm1")),
        ("other", "VM_1", "default", ("workload", "vm-1-13791fb9")),
    ] {
        let metadata =
            json!({"name": "eth0", "workload": workload, "orchestrator": orchestrator, "node": "Node_1"});
        let v3 = v3("workloadEndpoint", metadata, json!({"ipNetworks": ["10.0.0.1/32"]}));
        assert_eq!(v3["metadata"]["namespace"], namespace, "{workload}");
        assert_eq!(v3["metadata"]["labels"]["projectcalico.org/namespace"], namespace);
        assert_eq!(v3["metadata"]["labels"]["projectcalico.org/orchestrator"], orchestrator);
        assert_eq!((&v3["spec"][expected.0], &v3["spec"]["node"]), (&json!(expected.1), &json!("node-1")));
    }
}

/// Tag, selector, the v3 selector: both must hold.
const SELECTORS: &[(&str, &str, &str)] = &[
    ("", "", ""),
    ("web", "", "web == ''"),
    ("", "role == 'x'", "role == 'x'"),
    ("web", "role == 'x'", "(role == 'x') && web == ''"),
    ("web", "a == 'b' || c == 'd'", "(a == 'b' || c == 'd') && web == ''"),
    ("", "calico/k8s_ns == 'x'", "projectcalico.org/namespace == 'x'"),
    ("t", "has(calico/k8s_ns)", "(has(projectcalico.org/namespace)) && t == ''"),
];

#[test]
fn tags_and_selectors_of_rules() {
    for (tag, selector, expected) in SELECTORS {
        let source = json!({"tag": tag, "selector": selector});
        let v3 =
            v3("policy", json!({"name": "p"}), json!({"ingress": [{"action": "allow", "source": source}]}));
        let found = v3["spec"]["ingress"][0]["source"]["selector"].as_str().unwrap_or_default();
        assert_eq!(found, *expected);
    }
}

#[test]
fn nets_are_masked_and_the_single_one_comes_last() {
    for (net, nets, expected) in [
        (json!("10.0.0.7/24"), json!([]), json!(["10.0.0.0/24"])),
        (json!("10.0.0.7/32"), json!(["10.1.0.0/16"]), json!(["10.1.0.0/16", "10.0.0.7/32"])),
        (Value::Null, json!(["10.1.2.3/16", "10.2.0.0/16"]), json!(["10.1.0.0/16", "10.2.0.0/16"])),
        (json!("fd00::1/64"), json!([]), json!(["fd00::/64"])),
    ] {
        let source = json!({"net": net, "nets": nets, "notNet": net, "notNets": nets});
        let v3 =
            v3("policy", json!({"name": "p"}), json!({"ingress": [{"action": "deny", "source": source}]}));
        let source = &v3["spec"]["ingress"][0]["source"];
        assert_eq!((&source["nets"], &source["notNets"]), (&expected, &expected));
    }
}

#[test]
fn actions_are_capitalised() {
    for (action, expected) in [
        ("allow", "Allow"),
        ("deny", "Deny"),
        ("log", "Log"),
        ("pass", "Pass"),
        ("next-tier", "Pass"),
        ("", "Allow"),
    ] {
        let v3 = v3("profile", json!({"name": "p"}), json!({"egress": [{"action": action}]}));
        assert_eq!(v3["spec"]["egress"][0]["action"], expected, "{action}");
    }
}

/// Encapsulation of v1 pools: enabled, mode, `ipipMode`.
const MODES: &[(bool, &str, &str)] = &[
    (false, "", "Never"),
    (false, "always", "Never"),
    (false, "cross-subnet", "Never"),
    (true, "", "Always"),
    (true, "always", "Always"),
    (true, "cross-subnet", "CrossSubnet"),
];

#[test]
fn encapsulation_of_pools() {
    for (enabled, mode, expected) in MODES {
        let spec = json!({"ipip": {"enabled": enabled, "mode": mode}});
        let v3 = v3("ipPool", json!({"cidr": "10.0.0.0/16"}), spec);
        assert_eq!((&v3["spec"]["ipipMode"], &v3["spec"]["vxlanMode"]), (&json!(expected), &json!("Never")));
    }
}

#[test]
fn types_of_policies_come_from_their_rules_when_absent() {
    let rule = json!([{"action": "allow"}]);
    for (spec, types) in [
        (json!({}), json!(["Ingress"])),
        (json!({"ingress": rule}), json!(["Ingress"])),
        (json!({"egress": rule}), json!(["Egress"])),
        (json!({"ingress": rule, "egress": rule}), json!(["Ingress", "Egress"])),
        (json!({"types": ["egress"], "ingress": rule}), json!(["Egress"])),
        (json!({"types": ["ingress", "egress"]}), json!(["Ingress", "Egress"])),
    ] {
        let v3 = v3("policy", json!({"name": "p"}), spec);
        assert_eq!(v3["spec"]["types"], types);
        assert!(v3["spec"].get("applyOnForward").is_none());
    }
    for field in ["doNotTrack", "preDNAT"] {
        let v3 = v3("policy", json!({"name": "p"}), json!({field: true}));
        assert_eq!((&v3["spec"][field], &v3["spec"]["applyOnForward"]), (&json!(true), &json!(true)));
    }
}
