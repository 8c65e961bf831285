//! Each kind of the old form with all its fields, and what it becomes; and what each refuses (calico-datamodel 5).

use serde_json::{Value, json};

use super::{document, problems};
use crate::strict::read;

/// Metadata and spec of the converted document, without the labels every policy of v3 gets.
fn converted(kind: &str, metadata: &str, spec: &str) -> Value {
    let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n");
    let read = read(&document(&text), "default").unwrap_or_else(|problems| panic!("{text}{problems:#?}"));
    let mut v3 = read.to_value();
    assert_eq!(v3["apiVersion"], "projectcalico.org/v3");
    if let Some(Value::Object(members)) = v3.as_object_mut().map(|all| &mut all["metadata"]) {
        let labels = members.get_mut("labels").and_then(Value::as_object_mut);
        if labels.is_some_and(|labels| {
            labels.shift_remove("projectcalico.org/tier").is_some() && labels.is_empty()
        }) {
            members.shift_remove("labels");
        }
    }
    json!([v3["kind"], v3["metadata"], v3["spec"]])
}

#[test]
fn every_kind_becomes_its_v3_kind() {
    let cases = [
        (
            "ipPool",
            "{cidr: 'fd00:1::/48'}",
            "{ipip: {enabled: false, mode: always}, nat-outgoing: false, disabled: true}",
            json!(["IPPool", {"name": "fd00-1---48"}, {
                "cidr": "fd00:1::/48", "vxlanMode": "Never", "ipipMode": "Never", "disabled": true, "blockSize": 122,
                "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"], "assignmentMode": "Automatic"
            }]),
        ),
        (
            "bgpPeer",
            "{scope: node, node: Host_1, peerIP: 10.0.0.254}",
            "{asNumber: '1.10'}",
            json!(["BGPPeer", {"name": "host-1.10-0-0-254"}, {
                "node": "host-1", "peerIP": "10.0.0.254", "asNumber": 65546
            }]),
        ),
        (
            "node",
            "{name: Rack1/Host_2}",
            "{bgp: {asNumber: 64513, ipv4Address: 10.0.0.1/24, ipv6Address: 'fd00::1'}, orchRefs: [{nodeName: k, orchestrator: k8s}]}",
            json!(["Node", {"name": "rack1.host-2"}, {
                "bgp": {"asNumber": 64513, "ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/128"},
                "orchRefs": [{"nodeName": "k", "orchestrator": "k8s"}]
            }]),
        ),
        (
            "policy",
            "{name: a.b, annotations: {why: x}}",
            "{order: 1.5, selector: '', preDNAT: true, types: [ingress], ingress: [{action: pass, ipVersion: 4, notProtocol: 17, \
             source: {notNet: 10.1.2.3/16, notNets: [10.2.0.0/16], notPorts: [1, '2:3']}, protocol: sctp}]}",
            json!(["GlobalNetworkPolicy", {"name": "a-b", "annotations": {"why": "x"}}, {
                "tier": "default", "order": 1.5,
                "ingress": [{
                    "action": "Pass", "ipVersion": 4, "protocol": "SCTP", "notProtocol": 17,
                    "source": {"notNets": ["10.2.0.0/16", "10.1.0.0/16"], "notPorts": [1, "2:3"]}
                }],
                "types": ["Ingress"], "preDNAT": true, "applyOnForward": true
            }]),
        ),
        (
            "profile",
            "{name: Web, tags: [db, cache], labels: {role: web}}",
            "{ingress: [{source: {tag: db}}], egress: [{action: allow}]}",
            json!(["Profile", {"name": format!("web-{}", hash("Web"))}, {
                "ingress": [{"action": "Allow", "source": {"selector": "db == ''"}}],
                "egress": [{"action": "Allow"}],
                "labelsToApply": {"cache": "", "db": "", "role": "web"}
            }]),
        ),
        (
            "hostEndpoint",
            "{name: eth0, node: n1, labels: {a: b}}",
            "{expectedIPs: ['fd00::1'], profiles: [k8s_ns.x]}",
            json!(["HostEndpoint", {"name": "n1.eth0", "labels": {"a": "b"}}, {
                "node": "n1", "expectedIPs": ["fd00::1"], "profiles": ["kns.x"]
            }]),
        ),
        (
            "workloadEndpoint",
            "{name: eth0, workload: Front/1, orchestrator: docker, node: n1, activeInstanceID: c}",
            "{ipNetworks: [10.0.0.1/32, 'fd00::1/128'], ipNATs: [{internalIP: 10.0.0.1, externalIP: 192.0.2.1}], ipv4Gateway: 10.0.0.254, \
             ipv6Gateway: 'fd00::ff', interfaceName: cali1, mac: 'ca:fe:1d:52:bb:e9', ports: [{name: http, protocol: tcp, port: 80}], \
             allow_spoofed_source_prefixes: [10.9.0.0/16]}",
            json!(["WorkloadEndpoint",
                {
                    "name": format!("n1-docker-front.1--{}-eth0", hash("Front/1")), "namespace": "default",
                    "labels": {"projectcalico.org/namespace": "default", "projectcalico.org/orchestrator": "docker"}
                },
                {
                    "orchestrator": "docker", "workload": format!("front.1-{}", hash("Front/1")), "node": "n1",
                    "containerID": "c", "endpoint": "eth0", "ipNetworks": ["10.0.0.1/32", "fd00::1/128"],
                    "ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "192.0.2.1"}],
                    "ipv4Gateway": "10.0.0.254", "ipv6Gateway": "fd00::ff", "interfaceName": "cali1",
                    "mac": "ca:fe:1d:52:bb:e9",
                    "ports": [{"name": "http", "protocol": "TCP", "port": 80, "hostPort": 0, "hostIP": ""}],
                    "allowSpoofedSourcePrefixes": ["10.9.0.0/16"]
                }
            ]),
        ),
    ];
    for (kind, metadata, spec, expected) in cases {
        assert_eq!(converted(kind, metadata, spec), expected, "{kind}");
    }
}

/// What is appended to names that had to be changed.
fn hash(original: &str) -> String {
    use sha1::Digest as _;
    hex::encode(sha1::Sha1::digest(original))[..8].to_owned()
}

#[test]
fn every_kind_refuses_what_it_does_not_know_in_its_own_words() {
    for (kind, metadata, spec, expected) in [
        ("ipPool", "{cidr: 10.0.0.0/16}", "{blockSize: 26}", "wrong location: spec.blockSize"),
        ("ipPool", "{cidr: 10.0.0.0/16, name: x}", "{}", "wrong location: metadata.name"),
        ("ipPool", "{cidr: 10.0.0.0/27}", "{}", "field metadata.cidr = '10.0.0.0/27'"),
        ("bgpPeer", "{scope: everywhere, peerIP: 10.0.0.1}", "{}", "field metadata.scope = 'everywhere'"),
        ("bgpPeer", "{scope: global, node: n, peerIP: 10.0.0.1}", "{}", "field metadata.node = 'n'"),
        ("bgpPeer", "{scope: global, peerIP: 10.0.0}", "{}", "field metadata.peerIP = '10.0.0'"),
        (
            "node",
            "{name: n}",
            "{bgp: {ipv4Address: 'fd00::1'}}",
            "field spec.bgp.ipv4Address = 'fd00::1/128'",
        ),
        ("node", "{}", "{}", "field metadata.name (is required)"),
        ("policy", "{name: p}", "{ingress: [{action: permit}]}", "field spec.ingress[0].action = 'permit'"),
        ("policy", "{name: p}", "{types: [Ingress]}", "field spec.types[0] = 'Ingress'"),
        ("policy", "{name: p}", "{ingress: [{source: {tags: x}}]}", "(did you mean 'tag'?)"),
        ("policy", "{name: p}", "{selector: 'a ='}", "field spec.selector = 'a ='"),
        ("profile", "{name: p, tag: [a]}", "{}", "metadata.tag (did you mean 'tags'?)"),
        ("profile", "{name: p, tags: [a], labels: {a: b}}", "{}", "field metadata.tags[0] = 'a'"),
        ("hostEndpoint", "{name: e, node: n}", "{interfaceNam: x}", "(did you mean 'interfaceName'?)"),
        (
            "hostEndpoint",
            "{name: e, node: n}",
            "{interfaceName: x, expectedIPs: [x]}",
            "field spec.expectedIPs[0] = 'x'",
        ),
        (
            "workloadEndpoint",
            "{name: e, workload: pod, orchestrator: k8s, node: n}",
            "{}",
            "field metadata.workload = 'pod' (must be <namespace>.<pod>",
        ),
        (
            "workloadEndpoint",
            "{name: e, workload: w, orchestrator: o, node: n}",
            "{ipNetworks: [10.0.0.0/24]}",
            "field spec.ipNetworks[0] = '10.0.0.0/24'",
        ),
        (
            "workloadEndpoint",
            "{name: e, workload: w, orchestrator: o, node: n}",
            "{allowSpoofedSourcePrefixes: []}",
            "spec.allowSpoofedSourcePrefixes (did you mean 'allow_spoofed_source_prefixes'?)",
        ),
    ] {
        let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n");
        let said = problems(&text).join("\n");
        assert!(said.contains(expected), "{text}{said}");
    }
}
