//! Local interfaces and what policy sees of endpoints.

use serde_json::json;
use tortie_model::Kind;
use tortie_policy::snapshot::EndpointId;

use super::world::{World, settings};
use crate::calc::cache::Cache;
use crate::calc::endpoints::{Workloads, calculate};
use crate::calc::{Problems, Settings};

fn endpoints(world: &World, settings: &Settings) -> (Workloads, Problems) {
    let mut cache = Cache::default();
    for update in world.updates() {
        cache.apply("n1", update);
    }
    let workloads = calculate(&cache, settings);
    let problems = workloads.problems.clone();
    (workloads, problems)
}

fn id(name: &str) -> EndpointId {
    EndpointId { namespace: "default".into(), name: name.into() }
}

/// Interfaces with their addresses, as text.
fn interfaces(world: &World) -> Vec<(String, Vec<String>)> {
    let (endpoints, _) = endpoints(world, &settings());
    let line = |(name, interface): (String, crate::desired::WorkloadInterface)| {
        (name, interface.addresses.iter().map(ToString::to_string).collect())
    };
    endpoints.interfaces.into_iter().map(line).collect()
}

fn listed(name: &str, addresses: &[&str]) -> (String, Vec<String>) {
    (name.into(), addresses.iter().map(|a| (*a).to_owned()).collect())
}

#[test]
fn endpoints_of_this_node_have_interfaces() {
    let world = World::default()
        .endpoint("default/a", "n1", "cali1", &["10.64.0.5/32", "fd00::5/128"])
        .endpoint("default/b", "n2", "cali2", &["10.64.0.6/32"])
        .endpoint("default/c", "n1", "cali3", &[]);
    assert_eq!(interfaces(&world), [listed("cali1", &["10.64.0.5", "fd00::5"])]);
    let (endpoints, problems) = endpoints(&world, &settings());
    assert_eq!(endpoints.interfaces["cali1"].mac, Some([0xca, 0xfe, 0x1d, 0x52, 0xbb, 0xe9]));
    assert_eq!(endpoints.all[&id("a")].interface.as_deref(), Some("cali1"));
    assert!(!endpoints.all.contains_key(&id("b")), "of another node");
    assert!(problems.lines().next().is_none(), "{problems:?}");

    let (without, _) = self::endpoints(&world, &Settings { ipv6: false, ..settings() });
    assert_eq!(without.interfaces["cali1"].addresses.len(), 1);
    assert_eq!(without.all[&id("a")].addresses.len(), 1);
}

#[test]
fn labels_tell_namespace_orchestrator_and_service_account() {
    let spec = json!({"orchestrator": "k8s", "node": "n1", "pod": "p", "endpoint": "eth0", "serviceAccountName": "sa",
                      "profiles": ["kns.default"], "ports": [{"name": "", "protocol": "TCP", "port": 1},
                      {"name": "http", "protocol": "TCP", "port": 80}]});
    let metadata = json!({"labels": {"app": "x", "pcns.team": "forged", "pcsa.role": "forged",
                                     "projectcalico.org/namespace": "forged"}});
    let world = World::default().document(Kind::WorkloadEndpoint, "default/a", metadata, spec);
    let (endpoints, _) = endpoints(&world, &settings());
    let endpoint = &endpoints.all[&id("a")];
    let labels: Vec<_> = endpoint.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let expected = [
        "app=x",
        "projectcalico.org/namespace=default",
        "projectcalico.org/orchestrator=k8s",
        "projectcalico.org/serviceaccount=sa",
    ];
    assert_eq!(labels, expected);
    assert_eq!((endpoint.profiles.len(), endpoint.ports.len()), (1, 1));
}

#[test]
fn the_lowest_name_has_a_contested_interface_or_address() {
    let world = World::default()
        .endpoint("default/b", "n1", "cali1", &["10.64.0.6/32"])
        .endpoint("default/a", "n1", "cali1", &["10.64.0.5/32"])
        .endpoint("default/c", "n1", "cali2", &["10.64.0.5/32", "10.64.0.7/32"]);
    let expected = [listed("cali1", &["10.64.0.5"]), listed("cali2", &["10.64.0.7"])];
    assert_eq!(interfaces(&world), expected);
    let (endpoints, problems) = endpoints(&world, &settings());
    assert_eq!(endpoints.all[&id("b")].interface, None);
    // What it may not have it may not send from either.
    assert_eq!(endpoints.all[&id("c")].addresses.len(), 1);
    assert!(problems.of("WorkloadEndpoint default/b").unwrap().contains("cali1"));
    assert!(problems.of("WorkloadEndpoint default/c").unwrap().contains("10.64.0.5"));

    let a = tortie_model::Key::resource(Kind::WorkloadEndpoint, Some("default"), "a");
    let expected = [listed("cali1", &["10.64.0.6"]), listed("cali2", &["10.64.0.5", "10.64.0.7"])];
    assert_eq!(interfaces(&world.without(&a)), expected);
}

#[test]
fn what_cannot_be_trusted_gets_no_interface() {
    for (interface, address) in [
        ("eth0", "10.64.0.5/32"),
        ("", "10.64.0.5/32"),
        ("cali0123456789ab", "10.64.0.5/32"),
        ("cali/../x", "10.64.0.5/32"),
        ("cali 1", "10.64.0.5/32"),
        ("cali1", "10.64.0.0/24"),
    ] {
        let world = World::default().endpoint("default/a", "n1", interface, &[address]);
        let (endpoints, problems) = endpoints(&world, &settings());
        assert!(endpoints.interfaces.is_empty(), "{interface} {address}");
        assert!(problems.of("WorkloadEndpoint default/a").is_some(), "{interface} {address}");
    }
    let unreadable = World::default()
        .endpoint("default/a", "n1", "cali1", &["10.64.0.5/32"])
        .unreadable(Kind::WorkloadEndpoint, "default/a");
    assert!(interfaces(&unreadable).is_empty());
}

#[test]
fn a_bad_mac_costs_the_neighbour_only() {
    for bad in ["x", "ca:fe:1d:52:bb", "ca:fe:1d:52:bb:e9:00", "ca:fe:1d:52:bb:zz", "c:fe:1d:52:bb:e9"] {
        let spec = json!({"orchestrator": "cni", "node": "n1", "endpoint": "eth0", "interfaceName": "cali1",
                          "ipNetworks": ["10.64.0.5"], "mac": bad});
        let world = World::default().with(Kind::WorkloadEndpoint, "default/a", spec);
        let (endpoints, problems) = endpoints(&world, &settings());
        assert_eq!(endpoints.interfaces["cali1"].mac, None, "{bad}");
        assert_eq!(endpoints.interfaces["cali1"].addresses.len(), 1, "{bad}");
        assert!(problems.of("WorkloadEndpoint default/a").unwrap().contains("mac"), "{bad}");
    }
}
