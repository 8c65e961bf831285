//! Keys in the store, both ways (calico-datamodel 1.1, 1.5).

use tortie_model::names::{cidr_from_key, cidr_to_key};
use tortie_model::{Key, Kind};

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";

fn resource(kind: Kind, namespace: Option<&str>, name: &str) -> Key {
    Key::resource(kind, namespace, name)
}

fn block(text: &str) -> Key {
    Key::Block(text.parse().expect("a CIDR"))
}

fn affinity(host: &str, text: &str) -> Key {
    Key::BlockAffinity { host: host.to_owned(), block: text.parse().expect("a CIDR") }
}

fn keys() -> Vec<(String, Key)> {
    let resources = [
        ("bgpconfigurations/default", resource(Kind::BgpConfiguration, None, "default")),
        ("bgpconfigurations/node.n1", resource(Kind::BgpConfiguration, None, "node.n1")),
        ("bgppeers/node-1.10-0-0-1", resource(Kind::BgpPeer, None, "node-1.10-0-0-1")),
        ("clusterinformations/default", resource(Kind::ClusterInformation, None, "default")),
        ("felixconfigurations/default", resource(Kind::FelixConfiguration, None, "default")),
        ("globalnetworkpolicies/default.a", resource(Kind::GlobalNetworkPolicy, None, "default.a")),
        ("ippools/default-ipv4-ippool", resource(Kind::IpPool, None, "default-ipv4-ippool")),
        ("networkpolicies/ns1/default.a", resource(Kind::NetworkPolicy, Some("ns1"), "default.a")),
        ("networkpolicies/ns1/knp.default.a", resource(Kind::NetworkPolicy, Some("ns1"), "knp.default.a")),
        ("nodes/ip-10-0-0-1.ec2.internal", resource(Kind::Node, None, "ip-10-0-0-1.ec2.internal")),
        ("profiles/kns.default", resource(Kind::Profile, None, "kns.default")),
        ("profiles/ksa.default.default", resource(Kind::Profile, None, "ksa.default.default")),
        ("tiers/default", resource(Kind::Tier, None, "default")),
        (
            "workloadendpoints/ns/n--1-k8s-p-eth0",
            resource(Kind::WorkloadEndpoint, Some("ns"), "n--1-k8s-p-eth0"),
        ),
    ];
    let ipam = [
        ("/calico/ipam/v2/assignment/ipv4/block/10.65.3.0-26", block("10.65.3.0/26")),
        ("/calico/ipam/v2/assignment/ipv4/block/10.65.3.7-32", block("10.65.3.7/32")),
        ("/calico/ipam/v2/assignment/ipv4/block/0.0.0.0-0", block("0.0.0.0/0")),
        ("/calico/ipam/v2/assignment/ipv6/block/fd00:1::40-122", block("fd00:1::40/122")),
        ("/calico/ipam/v2/assignment/ipv6/block/fd00:0:0:1::-64", block("fd00:0:0:1::/64")),
        ("/calico/ipam/v2/assignment/ipv6/block/::-0", block("::/0")),
        ("/calico/ipam/v2/assignment/ipv6/block/::1-128", block("::1/128")),
        ("/calico/ipam/v2/host/n1/ipv4/block/10.65.3.0-26", affinity("n1", "10.65.3.0/26")),
        ("/calico/ipam/v2/host/a.b-c_d/ipv6/block/fd00::-122", affinity("a.b-c_d", "fd00::/122")),
        // Names of hosts are not escaped.
        ("/calico/ipam/v2/host/a%25b/ipv4/block/10.0.0.0-8", affinity("a%25b", "10.0.0.0/8")),
        ("/calico/ipam/v2/host/n1", Key::IpamHost("n1".into())),
        ("/calico/ipam/v2/host/10.0.0.1", Key::IpamHost("10.0.0.1".into())),
        ("/calico/ipam/v2/handle/k8s-pod-network.0123abcd", Key::Handle("k8s-pod-network.0123abcd".into())),
        ("/calico/ipam/v2/handle/ipip-tunnel-addr-n1", Key::Handle("ipip-tunnel-addr-n1".into())),
        // Handles stand raw.
        ("/calico/ipam/v2/handle/a b%2fc:d", Key::Handle("a b%2fc:d".into())),
        ("/calico/ipam/v2/config", Key::IpamConfig),
    ];
    let resources = resources.into_iter().map(|(text, key)| (format!("{RESOURCES}{text}"), key));
    resources.chain(ipam.into_iter().map(|(text, key)| (text.to_owned(), key))).collect()
}

#[test]
fn keys_are_read_and_written() {
    for (text, key) in keys() {
        assert_eq!(Key::parse(&text), Some(key.clone()));
        assert_eq!(key.to_string(), text);
    }
}

#[test]
fn texts_that_are_no_key() {
    let resources = [
        "",
        "ippools",
        "ippools/",
        "ippools/a/b",
        "ippools//a",
        "IPPools/a",
        "ippool/a",
        "ippoolsfoo/a",
        "/ippools/a",
        "networkpolicies/a",
        "networkpolicies/ns/",
        "networkpolicies//a",
        "networkpolicies/ns/a/b",
        "networkpolicies/ns/a/",
        "nodes/a/",
        "pods/ns/a",
    ];
    let others = [
        "",
        "/",
        "/calico",
        "/calico/",
        "calico/ipam/v2/config",
        "//calico/ipam/v2/config",
        "/calico/ipam/v1/config",
        "/calico/ipam/v2/",
        "/calico/ipam/v2/config/",
        "/calico/ipam/v2/configs",
        "/calico/ipam/v2/handle/",
        "/calico/ipam/v2/handle",
        "/calico/ipam/v2/host/",
        "/calico/ipam/v2/host//ipv4/block/10.0.0.0-8",
        "/calico/ipam/v2/host/n1/",
        "/calico/ipam/v2/host/n1/ipv4/block/",
        "/calico/ipam/v2/host/n1/ipv4/10.0.0.0-8",
        "/calico/ipam/v2/host/n1/ipv6/block/10.0.0.0-8",
        "/calico/ipam/v2/assignment/ipv4/block/fd00::-122",
        "/calico/ipam/v2/assignment/ipv5/block/10.0.0.0-8",
        "/calico/ipam/v2/assignment/block/10.0.0.0-8",
        "/calico/resources/v3/crd.projectcalico.org/ippools/a",
        "/calico/resources/v1/projectcalico.org/ippools/a",
        "/calico/v1/Ready",
        "/calico/v1/ipam/v4/pool/10.0.0.0-16",
        "/registry/pods/default/a",
    ];
    let resources = resources.into_iter().map(|text| format!("{RESOURCES}{text}"));
    for text in resources.chain(others.into_iter().map(str::to_owned)) {
        assert_eq!(Key::parse(&text), None, "{text}");
    }
}

/// CIDRs, and how they stand in keys: masked, compressed, in lower case.
const CIDRS: &[(&str, &str)] = &[
    ("10.65.3.0/26", "10.65.3.0-26"),
    ("10.65.3.7/26", "10.65.3.0-26"),
    ("0.0.0.0/0", "0.0.0.0-0"),
    ("255.255.255.255/32", "255.255.255.255-32"),
    ("192.168.255.255/16", "192.168.0.0-16"),
    ("fd00:1::40/122", "fd00:1::40-122"),
    ("FD00:0001:0:0:0:0:0:007f/122", "fd00:1::40-122"),
    ("::/0", "::-0"),
    ("::1/128", "::1-128"),
    ("2001:db8:0:0:1:0:0:1/128", "2001:db8::1:0:0:1-128"),
    ("2001:db8:0:1:1:1:1:1/64", "2001:db8:0:1::-64"),
    ("2001:0:0:1:0:0:0:1/128", "2001:0:0:1::1-128"),
];

#[test]
fn cidrs_in_keys() {
    for (cidr, text) in CIDRS {
        assert_eq!(cidr_to_key(&cidr.parse().expect("a CIDR")), *text);
        assert_eq!(cidr_from_key(text).map(|cidr| cidr_to_key(&cidr)).as_deref(), Some(*text));
    }
    // Another spelling of a block would be a second key of it.
    for text in [
        "",
        "-",
        "10.65.3.0",
        "10.65.3.0-",
        "-26",
        "10.65.3.0/26",
        "10.65.3.0-33",
        "10.65.3.0--1",
        "10.65.3.0-+26",
        "10.65.3.0-026",
        "10.65.3.0-26 ",
        " 10.65.3.0-26",
        "10.65.3.1-26",
        "10.65.03.0-26",
        "10.65.3-26",
        "10.65.3.0-26-26",
        "fd00::40-129",
        "FD00:1::40-122",
        "fd00:1:0::40-122",
        "fd00:0001::40-122",
        "fd00:1::41-122",
        "[fd00:1::40]-122",
        "fd00::%eth0-64",
        "::ffff:0a41:0300-122",
        "fd00::1.2.3.4-128",
    ] {
        assert_eq!(cidr_from_key(text), None, "{text}");
    }
}

#[test]
fn prefixes_end_in_a_slash() {
    for (prefix, expected) in [
        (Key::resource_prefix(Kind::IpPool, None), "/calico/resources/v3/projectcalico.org/ippools/"),
        (
            Key::resource_prefix(Kind::NetworkPolicy, None),
            "/calico/resources/v3/projectcalico.org/networkpolicies/",
        ),
        (
            Key::resource_prefix(Kind::NetworkPolicy, Some("ns")),
            "/calico/resources/v3/projectcalico.org/networkpolicies/ns/",
        ),
        (Key::ipam_prefix().to_owned(), "/calico/ipam/v2/"),
        (Key::block_prefix(false), "/calico/ipam/v2/assignment/ipv4/block/"),
        (Key::block_prefix(true), "/calico/ipam/v2/assignment/ipv6/block/"),
        (Key::affinity_prefix("n1", false), "/calico/ipam/v2/host/n1/ipv4/block/"),
        (Key::affinity_prefix("n1", true), "/calico/ipam/v2/host/n1/ipv6/block/"),
    ] {
        assert_eq!(prefix, expected);
    }
}
