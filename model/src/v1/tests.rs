use super::*;
use crate::AnyResource;
use crate::strict::{documents, read};
use sha1::Digest as _;

mod table;

fn document(text: &str) -> Value {
    documents("f", text).unwrap().remove(0).value
}

fn v3(text: &str) -> AnyResource {
    read(&document(text), "default").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn spec(text: &str) -> Value {
    v3(text).to_value()["spec"].clone()
}

fn problems(text: &str) -> Vec<String> {
    read(&document(text), "default").unwrap_err().iter().map(ToString::to_string).collect()
}

/// Byte for byte the file of the requirement.
const POOL: &str = "\
apiVersion: v1
kind: ipPool
metadata:
  cidr: 172.169.10.0/24
spec:
  ipip:
    enabled: true
    mode: cross-subnet
  nat-outgoing: true
  disabled: false
";

#[test]
fn the_pool_of_the_requirement() {
    let AnyResource::IpPool(pool) = v3(POOL) else { panic!("kind") };
    assert_eq!(pool.metadata.name, "172-169-10-0-24");
    assert_eq!(pool.spec.cidr.to_string(), "172.169.10.0/24");
    assert_eq!(pool.spec.ipip(), crate::resource::EncapMode::CrossSubnet);
    assert_eq!(pool.spec.vxlan(), crate::resource::EncapMode::Never);
    assert!(pool.spec.nat_outgoing && !pool.spec.disabled);
    assert_eq!(pool.spec.block_size, Some(26));
}

#[test]
fn ipip_modes() {
    for (ipip, mode) in [
        ("{enabled: true}", "Always"),
        ("{enabled: true, mode: always}", "Always"),
        ("{enabled: true, mode: ''}", "Always"),
        ("{enabled: false, mode: cross-subnet}", "Never"),
        ("{}", "Never"),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: ipPool\nmetadata: {{cidr: 10.0.0.0/16}}\nspec: {{ipip: {ipip}}}\n"
        );
        assert_eq!(spec(&text)["ipipMode"], mode, "{ipip}");
    }
}

#[test]
fn peers_of_all_nodes_and_of_one() {
    let global = "apiVersion: v1\nkind: bgpPeer\nmetadata: {scope: global, peerIP: 192.20.30.40}\nspec: {asNumber: '64567'}\n";
    assert_eq!(v3(global).metadata().name, "192-20-30-40");
    assert_eq!(spec(global), serde_json::json!({"peerIP": "192.20.30.40", "asNumber": 64567}));
    let node = "apiVersion: v1\nkind: bgpPeer\nmetadata: {scope: node, node: Rack1-Host1, peerIP: 'aabb:aabb::ffff'}\nspec: {asNumber: 64514}\n";
    assert_eq!(v3(node).metadata().name, "rack1-host1.aabb-aabb-0000-0000-0000-0000-0000-ffff");
    assert_eq!(spec(node)["node"], "rack1-host1");
    assert_eq!(
        problems("apiVersion: v1\nkind: bgpPeer\nmetadata: {scope: node, peerIP: 10.0.0.1}\n"),
        ["error with field metadata.node (is required with scope node)"]
    );
}

#[test]
fn nodes_keep_the_length_of_their_subnet() {
    let node = "apiVersion: v1\nkind: node\nmetadata: {name: Node.1}\nspec: {bgp: {asNumber: 1, ipv4Address: 10.0.0.1/24}}\n";
    assert_eq!(v3(node).metadata().name, "node.1");
    assert_eq!(spec(node), serde_json::json!({"bgp": {"asNumber": 1, "ipv4Address": "10.0.0.1/24"}}));
    assert_eq!(
        spec("apiVersion: v1\nkind: node\nmetadata: {name: a}\nspec: {bgp: {}}\n"),
        serde_json::json!({})
    );
}

#[test]
fn policies_become_global_network_policies() {
    let policy = "
apiVersion: v1
kind: policy
metadata: {name: allow.tcp-6379, annotations: {a: b}}
spec:
  order: 1234
  selector: calico/k8s_ns == 'x' && role == 'database'
  doNotTrack: true
  ingress:
  - action: allow
    protocol: tcp
    source: {selector: role == 'frontend', tag: web, net: 10.0.0.7/24, nets: [10.1.0.0/16]}
    destination: {ports: [6379], notTag: a, notSelector: b == 'c'}
  - action: next-tier
  egress:
  - action: ''
  - action: log
    icmp: {type: 8}
    protocol: icmp
";
    assert_eq!(v3(policy).metadata().name, "allow-tcp-6379");
    let spec = spec(policy);
    assert_eq!(spec["selector"], "projectcalico.org/namespace == 'x' && role == 'database'");
    assert_eq!(spec["types"], serde_json::json!(["Ingress", "Egress"]));
    assert_eq!((&spec["applyOnForward"], &spec["doNotTrack"]), (&true.into(), &true.into()));
    assert_eq!(
        spec["ingress"],
        serde_json::json!([
            {
                "action": "Allow", "protocol": "TCP",
                "source": {"nets": ["10.1.0.0/16", "10.0.0.0/24"], "selector": "(role == 'frontend') && web == ''"},
                "destination": {"ports": [6379], "notSelector": "(b == 'c') || a == ''"}
            },
            {"action": "Pass"}
        ])
    );
    assert_eq!(spec["egress"][0], serde_json::json!({"action": "Allow"}));
    assert_eq!(spec["egress"][1]["action"], "Log");
}

#[test]
fn profiles_turn_tags_into_labels() {
    let profile = "apiVersion: v1\nkind: profile\nmetadata: {name: k8s_ns.web, tags: [t], labels: {a: b}}\nspec: {ingress: [{action: deny}]}\n";
    assert_eq!(v3(profile).metadata().name, "kns.web");
    assert_eq!(spec(profile)["labelsToApply"], serde_json::json!({"a": "b", "t": ""}));
    assert!(
        problems(&profile.replace("[t]", "[a]"))[0].starts_with("error with field metadata.tags[0] = 'a'")
    );
}

#[test]
fn workload_endpoints_get_their_computed_name() {
    let endpoint = "
apiVersion: v1
kind: workloadEndpoint
metadata: {name: eth0, workload: default.front-1, orchestrator: k8s, node: Host_1, activeInstanceID: c1, labels: {calico/k8s_ns: default, app: a}}
spec: {ipNetworks: [192.168.0.0/32], profiles: [k8s_ns.default], interfaceName: cali0ef24ba, mac: 'ca:fe:1d:52:bb:e9'}
";
    let resource = v3(endpoint);
    assert_eq!(resource.metadata().name, "host--1-k8s-front--1-eth0");
    assert_eq!(resource.metadata().namespace.as_deref(), Some("default"));
    let labels: Vec<&str> = resource.metadata().labels.keys().map(String::as_str).collect();
    assert_eq!(labels, ["app", "projectcalico.org/namespace", "projectcalico.org/orchestrator"]);
    assert_eq!(spec(endpoint)["profiles"], serde_json::json!(["kns.default"]));
    assert_eq!(spec(endpoint)["containerID"], "c1");
}

#[test]
fn host_endpoints_are_converted() {
    let endpoint = "apiVersion: v1\nkind: hostEndpoint\nmetadata: {name: eth0, node: Host, labels: {a: b}}\nspec: {interfaceName: eth0, expectedIPs: [10.0.0.1], profiles: [k8s_ns.web, p], ports: [{name: x, protocol: tcp, port: 80}]}\n";
    assert_eq!(
        spec(endpoint),
        serde_json::json!({
            "node": "host", "interfaceName": "eth0", "expectedIPs": ["10.0.0.1"],
            "profiles": ["kns.web", "p"], "ports": [{"name": "x", "protocol": "TCP", "port": 80}]
        })
    );
    assert_eq!(v3(endpoint).metadata().labels.get("a").map(String::as_str), Some("b"));
    // The name was changed to lower case, so it has a hash; the node's has none.
    let digest = &hex::encode(sha1::Sha1::digest("Host.eth0"))[..8];
    assert_eq!(v3(endpoint).metadata().name, format!("host.eth0-{digest}"));
    assert_eq!(v3(&endpoint.replace("Host", "host")).metadata().name, "host.eth0");
    let nothing = "apiVersion: v1\nkind: hostEndpoint\nmetadata: {name: a, node: n}\n";
    assert_eq!(
        problems(nothing),
        ["error with field spec.interfaceName (at least one of interfaceName and expectedIPs is required)"]
    );
    assert_eq!(
        problems("apiVersion: v1\nkind: hostEndpoint\nmetadata: {name: a}\n"),
        ["error with field metadata.node (is required)"]
    );
}

#[test]
fn tiers_are_accepted() {
    assert_eq!(spec("apiVersion: v1\nkind: tier\nmetadata: {name: sec}\nspec: {order: 5}\n")["order"], 5.0);
}

#[test]
fn mistakes_have_v1_field_names() {
    let with = |from: &str, to: &str| problems(&POOL.replace(from, to));
    assert_eq!(
        with("nat-outgoing", "natOutgoing"),
        [
            "field in document is not recognized or is in the wrong location: spec.natOutgoing (did you mean 'nat-outgoing'?)"
        ]
    );
    assert!(
        with("cross-subnet", "CrossSubnet")[0].starts_with(
            "error with field spec.ipip.mode = 'CrossSubnet' (must be one of always, cross-subnet"
        )
    );
    assert!(
        with("172.169.10.0/24", "172.169.10.1/24")[0]
            .starts_with("error with field metadata.cidr = '172.169.10.1/24'")
    );
    assert!(
        with("172.169.10.0/24", "172.169.10.0/33")[0]
            .starts_with("error with field metadata.cidr = '172.169.10.0/33'")
    );
    assert_eq!(with("  cidr: 172.169.10.0/24\n", "  {}\n"), ["error with field metadata.cidr (is required)"]);
    assert!(with("kind: ipPool", "kind: ipPol")[0].contains("did you mean 'ipPool'?"));
    assert_eq!(v1_path("workloadEndpoint", "spec.ports[0].name"), "spec.ports[0].name");
    assert_eq!(v1_path("workloadEndpoint", "spec.node"), "metadata.node");
}
