//! What the tests share: snapshots written as YAML, packets in a few words, `nft` and a node in namespaces of their own.

// Each test binary uses its part.
#![allow(dead_code)]

pub(crate) mod node;
pub(crate) mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use serde::Deserialize;
use tortie_model::resource::{ProfileSpec, TierSpec, WorkloadEndpointPort, listed_network};
use tortie_model::rule::Rule;
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::ir::{Limit, Period};
use tortie_policy::snapshot::{
    DenyAction, Endpoint, EndpointId, EndpointToHost, Failsafe, HostEndpoint, HostPlace, LogFormat,
    NetworkSet, Options, PolicyBody, PolicyId, Pool, Snapshot, StagedBody,
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
    staged: Vec<StagedDocument>,
    #[serde(default)]
    host_endpoints: Vec<HostDocument>,
    #[serde(default)]
    host_interfaces: BTreeMap<String, BTreeSet<IpAddr>>,
    #[serde(default)]
    options: OptionsDocument,
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

/// A staged policy: as a policy, or with `kubernetes` in that shape.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StagedDocument {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    spec: serde_yaml::Value,
    #[serde(default)]
    kubernetes: bool,
    invalid: Option<String>,
}

/// A host endpoint: `interface` is one of this node, `*` for all; without it the addresses tell, and with `elsewhere` it
/// is another node's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostDocument {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    profiles: Vec<String>,
    #[serde(default)]
    addresses: BTreeSet<IpAddr>,
    #[serde(default)]
    ports: Vec<WorkloadEndpointPort>,
    interface: Option<String>,
    #[serde(default)]
    elsewhere: bool,
}

/// What differs from the defaults; a failsafe without `net` is for everybody.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OptionsDocument {
    failsafe_inbound: Option<Vec<FailsafeDocument>>,
    failsafe_outbound: Option<Vec<FailsafeDocument>>,
    #[serde(default)]
    ipip_from_workloads: bool,
    #[serde(default)]
    vxlan_from_workloads: bool,
    #[serde(default)]
    accept_invalid: bool,
    vxlan_port: Option<u16>,
    log_prefix: Option<String>,
    log_group: Option<u16>,
    log_limit: Option<u32>,
    #[serde(default)]
    reject: bool,
    #[serde(default)]
    stop_refused: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailsafeDocument {
    protocol: u8,
    port: u16,
    net: Option<ipnetwork::IpNetwork>,
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

/// How many random cases a test takes: a part of `TORTIE_POLICY_CASES`, or of 2000 when that is not set, since they
/// take long unless optimised.
pub(crate) fn cases(part: f64) -> u32 {
    let all = std::env::var("TORTIE_POLICY_CASES").map_or(2000.0, |text| {
        text.parse().unwrap_or_else(|_| panic!("TORTIE_POLICY_CASES={text} is no number"))
    });
    (all * part).ceil() as u32
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
        staged: document.staged.into_iter().map(staged).collect(),
        host_endpoints: document.host_endpoints.into_iter().map(host_endpoint).collect(),
        host_interfaces: document.host_interfaces,
        options: options(document.options),
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

fn staged(document: StagedDocument) -> (PolicyId, StagedBody) {
    let StagedDocument { name, namespace, spec, kubernetes, invalid } = document;
    fn read<T: serde::de::DeserializeOwned>(spec: serde_yaml::Value) -> Box<T> {
        Box::new(serde_yaml::from_value(spec).expect("a staged policy"))
    }
    let (name, body) = match (invalid, kubernetes, namespace.is_empty()) {
        (Some(reason), ..) => (name, StagedBody::Invalid(reason)),
        (None, true, _) => (format!("knp.default.{name}"), StagedBody::Kubernetes(read(spec))),
        (None, false, true) => (name, StagedBody::Global(read(spec))),
        (None, false, false) => (name, StagedBody::Network(read(spec))),
    };
    (PolicyId { name, namespace }, body)
}

fn host_endpoint(d: HostDocument) -> (Arc<EndpointId>, Arc<HostEndpoint>) {
    let place = match (d.elsewhere, d.interface.as_deref()) {
        (true, _) => HostPlace::Elsewhere,
        (false, Some("*")) => HostPlace::All,
        (false, Some(name)) => HostPlace::Interface(name.to_owned()),
        (false, None) => HostPlace::Addresses,
    };
    let endpoint = Endpoint {
        labels: d.labels.into_iter().collect(),
        profiles: d.profiles.into_iter().map(Arc::from).collect(),
        addresses: d.addresses.into_iter().collect(),
        ports: d.ports,
        interface: None,
    };
    let id = EndpointId { namespace: String::new(), name: d.name };
    (Arc::new(id), Arc::new(HostEndpoint { endpoint, place }))
}

fn options(document: OptionsDocument) -> Options {
    let default = Options::default();
    let failsafes = |list: Option<Vec<FailsafeDocument>>, default: Vec<Failsafe>| {
        let failsafe = |d: FailsafeDocument| Failsafe { protocol: d.protocol, port: d.port, net: d.net };
        list.map_or(default, |list| list.into_iter().map(failsafe).collect())
    };
    Options {
        failsafe_inbound: failsafes(document.failsafe_inbound, default.failsafe_inbound),
        failsafe_outbound: failsafes(document.failsafe_outbound, default.failsafe_outbound),
        ipip_from_workloads: document.ipip_from_workloads,
        vxlan_from_workloads: document.vxlan_from_workloads,
        accept_invalid: document.accept_invalid,
        vxlan: document.vxlan_port.is_some(),
        vxlan_port: document.vxlan_port.unwrap_or(default.vxlan_port),
        log: LogFormat {
            prefix: document.log_prefix.unwrap_or(default.log.prefix),
            group: document.log_group,
            limit: document.log_limit.map(|packets| Limit { packets, period: Period::Minute, burst: 5 }),
        },
        merged_rows: default.merged_rows,
        stop_refused: document.stop_refused,
        deny: if document.reject { DenyAction::Reject } else { DenyAction::Drop },
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
/// interface `-` is none; the protocol is `tcp PORT`, `udp PORT`, `sctp PORT`, `icmp TYPE CODE` or a number; then perhaps `from
/// PORT`, a state, `spoofed`, `marked`, and `for ADDRESS PORT` where the destination was translated from.
pub(crate) fn packet(text: &str) -> Packet {
    let words: Vec<&str> = text.split_whitespace().collect();
    let interface = |word: &str| (word != "-").then(|| word.to_owned());
    let number = |i: usize| words[i].parse::<u16>().unwrap_or_else(|_| panic!("{text}: {}", words[i]));
    let address = |i: usize| words[i].parse::<IpAddr>().unwrap_or_else(|_| panic!("{text}: {}", words[i]));
    let (source, destination) = (address(3), address(5));
    let (protocol, ports, icmp, rest) = match words[6] {
        "tcp" => (6, Some((40000, number(7))), None, 8),
        "udp" => (17, Some((40000, number(7))), None, 8),
        "sctp" => (132, Some((40000, number(7))), None, 8),
        "icmp" => {
            let icmp = (number(7) as u8, number(8) as u8);
            (if source.is_ipv4() { 1 } else { 58 }, None, Some(icmp), 9)
        }
        _ => (number(6) as u8, None, None, 7),
    };
    let mut packet = Packet {
        input: interface(words[0]),
        output: interface(words[2]),
        source,
        destination,
        original: None,
        protocol,
        ports,
        icmp,
        state: CtState::New,
        reverse_route: true,
        marked: false,
    };
    let mut rest = words.into_iter().skip(rest);
    while let Some(word) = rest.next() {
        match word {
            "spoofed" => packet.reverse_route = false,
            "marked" => packet.marked = true,
            "established" => packet.state = CtState::Established,
            "related" => packet.state = CtState::Related,
            "refused" => packet.state = CtState::Refused,
            "invalid" => packet.state = CtState::Invalid,
            "untracked" => packet.state = CtState::Untracked,
            "from" => {
                let port = rest.next().and_then(|word| word.parse().ok());
                let port = port.unwrap_or_else(|| panic!("{text}: from PORT"));
                packet.ports = packet.ports.map(|(_, destination)| (port, destination));
            }
            "for" => {
                let mut next = || rest.next().unwrap_or_else(|| panic!("{text}: for ADDRESS PORT"));
                packet.original =
                    Some((next().parse().expect("an address"), next().parse().expect("a port")));
            }
            other => panic!("{text}: {other}"),
        }
    }
    packet
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
    let output = unshare(&["sh", "-c", &script]).output().expect("unshare(1) of util-linux is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("nft: not found"), "nft is needed: install the package nftables");
    assert!(output.status.success(), "{errors}\n{}", texts.join("\n"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `unshare` with user and network namespaces of its own and these arguments; it finds programs of administrators too.
fn unshare(arguments: &[&str]) -> Command {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net"]).args(arguments).env("PATH", path);
    command
}

/// Rules of a policy by direction; none of one that cannot be read.
pub(crate) fn rule_lists(body: &mut PolicyBody) -> Vec<&mut Vec<Rule>> {
    match body {
        PolicyBody::Network(spec) => vec![&mut spec.ingress, &mut spec.egress],
        PolicyBody::Global(spec) => vec![&mut spec.ingress, &mut spec.egress],
        PolicyBody::Invalid(_) => vec![],
    }
}
