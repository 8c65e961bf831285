//! What the tests share: snapshots written as YAML, packets in a few words, `nft` in a namespace of its own.

// Each test binary uses its part.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use serde::Deserialize;
use tortie_model::resource::{ProfileSpec, TierSpec, WorkloadEndpointPort, listed_network};
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::snapshot::{
    Endpoint, EndpointId, EndpointToHost, NetworkSet, PolicyBody, PolicyId, Pool, Snapshot,
};

/// A snapshot as YAML.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(default)]
    tiers: BTreeMap<String, TierSpec>,
    #[serde(default)]
    policies: Vec<PolicyDocument>,
    #[serde(default)]
    profiles: BTreeMap<String, Option<ProfileSpec>>,
    #[serde(default)]
    endpoints: Vec<EndpointDocument>,
    #[serde(default)]
    network_sets: Vec<NetworkSetDocument>,
    #[serde(default)]
    pools: Vec<PoolDocument>,
    endpoint_to_host: Option<String>,
    #[serde(default)]
    tunnel_peers: BTreeSet<IpAddr>,
}

/// A policy; `namespace` makes it a NetworkPolicy, `invalid` one that cannot be read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyDocument {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    spec: serde_yaml::Value,
    invalid: Option<String>,
}

/// An endpoint; the label of its namespace is added.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointDocument {
    name: String,
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    profiles: Vec<String>,
    #[serde(default)]
    addresses: BTreeSet<IpAddr>,
    #[serde(default)]
    ports: Vec<WorkloadEndpointPort>,
    interface: Option<String>,
}

/// A network set; with a namespace it has its label and its profile `kns.<namespace>`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkSetDocument {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    nets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PoolDocument {
    cidr: ipnetwork::IpNetwork,
    #[serde(default)]
    nat_outgoing: bool,
}

/// Reads a snapshot.
pub(crate) fn snapshot(yaml: &str) -> Snapshot {
    let document: Document = serde_yaml::from_str(yaml).unwrap_or_else(|e| panic!("{e} in\n{yaml}"));
    let endpoint = |d: EndpointDocument| {
        let id = EndpointId { namespace: d.namespace.clone(), name: d.name };
        let mut labels = d.labels;
        labels.insert("projectcalico.org/namespace".into(), d.namespace);
        let endpoint = Endpoint {
            labels: labels.into_iter().collect(),
            profiles: d.profiles.into_iter().map(Arc::from).collect(),
            addresses: d.addresses.into_iter().collect(),
            ports: d.ports,
            interface: d.interface,
        };
        (Arc::new(id), Arc::new(endpoint))
    };
    Snapshot {
        tiers: document.tiers,
        policies: document.policies.into_iter().map(policy).collect(),
        profiles: document.profiles,
        endpoints: document.endpoints.into_iter().map(endpoint).collect(),
        network_sets: document.network_sets.into_iter().map(network_set).collect(),
        pools: document
            .pools
            .into_iter()
            .map(|p| Pool { cidr: p.cidr, nat_outgoing: p.nat_outgoing })
            .collect(),
        endpoint_to_host: match document.endpoint_to_host.as_deref() {
            None | Some("Drop") => EndpointToHost::Drop,
            Some("Accept") => EndpointToHost::Accept,
            Some("Return") => EndpointToHost::Return,
            Some(other) => panic!("endpointToHost {other}"),
        },
        tunnel_peers: document.tunnel_peers,
    }
}

fn network_set(document: NetworkSetDocument) -> (Arc<EndpointId>, Arc<NetworkSet>) {
    let NetworkSetDocument { name, namespace, mut labels, nets } = document;
    let mut profiles = Vec::new();
    if !namespace.is_empty() {
        labels.insert("projectcalico.org/namespace".into(), namespace.clone());
        profiles.push(format!("kns.{namespace}").into());
    }
    let net = |text: &String| listed_network(text).unwrap_or_else(|| panic!("{text} is no network"));
    let nets = nets.iter().map(net).collect();
    let set = NetworkSet { labels: labels.into_iter().collect(), profiles, nets };
    (Arc::new(EndpointId { namespace, name }), Arc::new(set))
}

fn policy(document: PolicyDocument) -> (PolicyId, PolicyBody) {
    let PolicyDocument { name, namespace, spec, invalid } = document;
    let body = match (invalid, namespace.is_empty()) {
        (Some(reason), _) => PolicyBody::Invalid(reason),
        (None, true) => PolicyBody::Global(Box::new(serde_yaml::from_value(spec).expect("a policy"))),
        (None, false) => PolicyBody::Network(Box::new(serde_yaml::from_value(spec).expect("a policy"))),
    };
    (PolicyId { name, namespace }, body)
}

/// A packet from `cali0`-like or other interfaces, in words such as `cali0 > eth0 10.0.0.1 > 10.0.0.2 tcp 80`. An
/// interface `-` is none; the protocol is `tcp PORT`, `udp PORT`, `icmp TYPE CODE` or a number; then perhaps a state, or
/// `spoofed`.
pub(crate) fn packet(text: &str) -> Packet {
    let words: Vec<&str> = text.split_whitespace().collect();
    let interface = |word: &str| (word != "-").then(|| word.to_owned());
    let number = |i: usize| words[i].parse::<u16>().unwrap_or_else(|_| panic!("{text}: {}", words[i]));
    let address = |i: usize| words[i].parse::<IpAddr>().unwrap_or_else(|_| panic!("{text}: {}", words[i]));
    let (source, destination) = (address(3), address(5));
    let (protocol, ports, icmp, rest) = match words[6] {
        "tcp" => (6, Some((40000, number(7))), None, 8),
        "udp" => (17, Some((40000, number(7))), None, 8),
        "icmp" => {
            let icmp = (number(7) as u8, number(8) as u8);
            (if source.is_ipv4() { 1 } else { 58 }, None, Some(icmp), 9)
        }
        _ => (number(6) as u8, None, None, 7),
    };
    let state = match words.get(rest).copied() {
        None | Some("spoofed") => CtState::New,
        Some("established") => CtState::Established,
        Some("related") => CtState::Related,
        Some("invalid") => CtState::Invalid,
        Some(other) => panic!("{text}: {other}"),
    };
    let reverse_route = words.get(rest) != Some(&"spoofed");
    let (input, output) = (interface(words[0]), interface(words[2]));
    Packet { input, output, source, destination, protocol, ports, icmp, state, reverse_route }
}

/// Runs nft on rule-set texts, in order, in a user and network namespace that goes away with it. First each text is only
/// checked, then all are loaded one over the other, then what the kernel has is listed and returned.
pub(crate) fn load(texts: &[String]) -> String {
    let directory = tempfile::tempdir().expect("a directory for rule-sets");
    let mut script = String::from("set -e\n");
    for (i, text) in texts.iter().enumerate() {
        let path = directory.path().join(format!("{i}.nft"));
        std::fs::File::create(&path).and_then(|mut f| f.write_all(text.as_bytes())).expect("a rule-set file");
        script += &format!("nft -c -f - < {0}\nnft -f - < {0}\n", path.display());
    }
    script += "nft list ruleset\n";
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
        .env("PATH", path)
        .output()
        .expect("unshare(1) of util-linux is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("nft: not found"), "nft is needed: install the package nftables");
    assert!(output.status.success(), "{errors}\n{}", texts.join("\n"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
