//! Service ranges (bgp-behaviour 10).

use super::*;
use crate::desired::RouteTarget;

fn ranges() -> serde_json::Value {
    let cidrs = |list: &[&str]| list.iter().map(|cidr| json!({"cidr": cidr})).collect::<Vec<_>>();
    json!({
        "serviceClusterIPs": cidrs(&["10.96.0.0/12", "fd00:96::/112"]),
        "serviceExternalIPs": cidrs(&["198.51.100.0/24", "203.0.113.7/32"]),
        "serviceLoadBalancerIPs": cidrs(&["192.0.2.0/25", "192.0.2.200/32"]),
    })
}

fn with(more: serde_json::Value) -> World {
    let mut spec = ranges();
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    World::nodes(2).with(Kind::BgpConfiguration, "default", spec)
}

/// What is announced and what is never programmed.
fn fate(world: &World, settings: Settings) -> (Vec<String>, Vec<String>) {
    let output = world.output_with(settings);
    let announced: Vec<String> = output.bgp.originated.keys().map(ToString::to_string).collect();
    let blackholes = output.desired.routes.iter().filter(|(_, target)| **target == RouteTarget::Blackhole);
    assert_eq!(announced, blackholes.map(|(range, _)| range.to_string()).collect::<Vec<_>>());
    let config = output.bgp.config.as_ref().unwrap();
    let export = &config.peers.values().next().unwrap().export;
    for range in output.bgp.originated.keys().filter(|range| range.is_ipv4()) {
        let accepts = |rule: &tortie_bgp::filter::Rule| rule.reason == format!("service range {range}");
        assert!(export.rules().iter().any(accepts), "{range}");
    }
    (announced, output.desired.never_program.iter().map(ToString::to_string).collect())
}

#[test]
fn ranges_are_announced_whole_and_never_programmed() {
    let all = ["10.96.0.0/12", "192.0.2.0/25", "198.51.100.0/24", "fd00:96::/112"];
    let (announced, never) = fate(&with(json!({})), settings());
    assert_eq!(
        (announced.as_slice(), never.as_slice()),
        (&all.map(String::from)[..], &all.map(String::from)[..])
    );

    let (announced, never) = fate(&with(json!({"serviceLoadBalancerAggregation": "Disabled"})), settings());
    assert_eq!(announced, ["10.96.0.0/12", "198.51.100.0/24", "fd00:96::/112"]);
    assert_eq!(never, all);

    let (announced, _) = fate(&with(json!({})), Settings { ipv6: false, ..settings() });
    assert_eq!(announced, &all[..3]);
}

#[test]
fn the_environment_wins_over_cluster_ranges() {
    let environment = Some(vec![net("172.30.0.0/16")]);
    let (announced, never) =
        fate(&with(json!({})), Settings { service_cluster_ips: environment, ..settings() });
    assert_eq!(announced, ["172.30.0.0/16", "192.0.2.0/25", "198.51.100.0/24"]);
    assert_eq!(never, announced);
}

#[test]
fn an_excluded_node_announces_none_but_does_not_program_them_either() {
    let labels = json!({"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": "true"}});
    let spec = json!({"bgp": {"ipv4Address": "10.0.0.1/24"}});
    let (announced, never) = fate(&with(json!({})).document(Kind::Node, "n1", labels, spec), settings());
    assert!(announced.is_empty());
    assert_eq!(never.len(), 4);
}

#[test]
fn a_pool_inside_a_service_range_is_reported() {
    let world = with(json!({})).pool("p", "10.100.0.0/16", json!({})).pool("q", "10.64.0.0/16", json!({}));
    let output = world.output();
    let reason = output.problems.of("IPPool p").unwrap();
    assert!(reason.contains("overlaps the service range 10.96.0.0/12"), "{reason}");
    assert!(output.problems.of("IPPool q").is_none());
}
