//! The policy compiler's input.

use std::sync::Arc;

use serde_json::{Value, json};
use tortie_model::Kind;
use tortie_policy::Snapshot;
use tortie_policy::ir::{Limit, Period, Verdict};
use tortie_policy::snapshot::{
    DenyAction, EndpointId, EndpointToHost, Failsafe, HostPlace, Options, PolicyBody, PolicyId,
};

use super::world::{World, settings};
use crate::calc::cache::Cache;
use crate::calc::{Calc, Problems, Settings, feed, hosts, network_sets, policies};
use crate::metrics::Listen;

fn snapshot_with(world: &World, settings: &Settings) -> (Snapshot, Problems) {
    let mut cache = Cache::default();
    for update in world.updates() {
        cache.apply("n1", update);
    }
    let mut problems = Problems::default();
    let around = feed::surroundings(&cache, settings, &mut problems);
    let names = cache.profiles.keys().cloned().chain(["kns.default".to_owned()]);
    let profiles = names.filter_map(|name| {
        let profile = policies::profile(&cache, &name)?.cloned();
        Some((name, profile))
    });
    for (id, stored) in &cache.network_sets {
        network_sets::problems(id, stored).iter().for_each(|found| problems.extend(found));
    }
    let hosts = cache.host_endpoints.iter().map(|(name, stored)| {
        let id = EndpointId { namespace: String::new(), name: name.clone() };
        (Arc::new(id), hosts::for_policy(stored, settings))
    });
    let snapshot = Snapshot {
        policies: policies::policies(&cache),
        staged: policies::staged(&cache),
        profiles: profiles.collect(),
        network_sets: cache.network_sets.iter().map(|(id, set)| (id.clone(), set.set().clone())).collect(),
        host_endpoints: hosts.collect(),
        pools: around.pools,
        endpoint_to_host: around.endpoint_to_host,
        tunnel_peers: around.tunnel_peers,
        options: around.options,
        ..Snapshot::default()
    };
    (snapshot, problems)
}

fn snapshot(world: &World) -> Snapshot {
    snapshot_with(world, &settings()).0
}

fn names(world: &World) -> Vec<String> {
    let name = |id: &PolicyId| format!("{}/{}", id.namespace, id.name);
    snapshot(world).policies.keys().map(name).collect()
}

fn annotated(name: &str) -> Value {
    json!({"annotations": {"projectcalico.org/metadata": json!({"name": name}).to_string()}})
}

#[test]
fn policies_of_all_eras_go_by_the_names_users_know() {
    let world = World::default()
        .with(Kind::GlobalNetworkPolicy, "default.old", json!({}))
        .document(Kind::GlobalNetworkPolicy, "default.middle", annotated("middle"), json!({}))
        .document(Kind::GlobalNetworkPolicy, "new", annotated("new"), json!({"tier": "default"}))
        .document(Kind::GlobalNetworkPolicy, "default.really", annotated("default.really"), json!({}))
        .with(Kind::GlobalNetworkPolicy, "default.foreign", json!({"tier": "security"}))
        .with(Kind::NetworkPolicy, "ns/knp.default.x", json!({}))
        .with(Kind::NetworkPolicy, "ns/default.x", json!({}));
    let expected =
        ["/default.foreign", "/default.really", "ns/knp.default.x", "/middle", "/new", "/old", "ns/x"];
    assert_eq!(names(&world), expected);
}

#[test]
fn no_policy_is_lost_over_a_name() {
    let world = World::default()
        .with(Kind::GlobalNetworkPolicy, "default.foo", json!({"order": 1.0}))
        .with(Kind::GlobalNetworkPolicy, "foo", json!({"order": 2.0}))
        .document(Kind::GlobalNetworkPolicy, "bar", annotated("default.foo"), json!({"order": 3.0}))
        .document(Kind::GlobalNetworkPolicy, "baz", annotated("bar"), json!({"order": 4.0}));
    let mut orders: Vec<_> = snapshot(&world)
        .policies
        .into_values()
        .map(|body| match body {
            PolicyBody::Global(spec) => spec.order,
            PolicyBody::Network(_) | PolicyBody::Invalid(_) => None,
        })
        .collect();
    orders.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(orders, [Some(1.0), Some(2.0), Some(3.0), Some(4.0)]);
}

#[test]
fn what_cannot_be_read_denies_and_is_reported() {
    let world = World::nodes(1)
        .unreadable(Kind::GlobalNetworkPolicy, "default.a")
        .unreadable(Kind::NetworkPolicy, "ns/b")
        .unreadable(Kind::Profile, "kns.default")
        .with(Kind::Profile, "kns.other", json!({"labelsToApply": {"pcns.a": "b"}}));
    let snapshot = snapshot(&world);
    assert_eq!(names(&world), ["/a", "ns/b"]);
    assert!(
        snapshot
            .policies
            .values()
            .all(|body| matches!(body, PolicyBody::Invalid(reason) if !reason.is_empty()))
    );
    assert_eq!(snapshot.profiles["kns.default"], None);
    assert!(snapshot.profiles["kns.other"].is_some());
    let problems = world.output().problems;
    for subject in ["GlobalNetworkPolicy default.a", "NetworkPolicy ns/b", "Profile kns.default"] {
        assert!(problems.of(subject).is_some(), "{problems:?}");
    }
}

#[test]
fn pools_for_workloads_count_once_disabled_or_not() {
    let world = World::default()
        .pool("a", "10.64.0.0/16", json!({"natOutgoing": true, "disabled": true}))
        .pool("b", "10.64.0.0/16", json!({}))
        .pool("c", "10.66.0.0/16", json!({"allowedUses": ["LoadBalancer"]}))
        .pool("d", "10.67.0.0/16", json!({"allowedUses": ["Tunnel"]}));
    let pools: Vec<_> = snapshot(&world).pools.iter().map(|p| (p.cidr.to_string(), p.nat_outgoing)).collect();
    assert_eq!(pools, [("10.64.0.0/16".to_owned(), true), ("10.67.0.0/16".to_owned(), false)]);
}

#[test]
fn tunnel_peers_are_the_other_nodes() {
    let world = World::nodes(2).with(
        Kind::Node,
        "n3",
        json!({"bgp": {"ipv4Address": "10.0.0.3/24", "ipv6Address": "fd00::3/64"}}),
    );
    let peers: Vec<_> = snapshot(&world).tunnel_peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["10.0.0.2", "10.0.0.3", "fd00::3"]);
}

#[test]
fn traffic_to_the_host_follows_the_nearest_configuration() {
    let action = |world: &World, settings: &Settings| snapshot_with(world, settings).0.endpoint_to_host;
    let configured = |world: World, object: &str, action: Value| {
        world.with(Kind::FelixConfiguration, object, json!({"defaultEndpointToHostAction": action}))
    };
    let world = World::default();
    assert_eq!(action(&world, &settings()), EndpointToHost::Drop);
    let world = configured(world, "default", json!("Accept"));
    assert_eq!(action(&world, &settings()), EndpointToHost::Accept);
    let world = configured(world, "node.n1", json!("RETURN"));
    assert_eq!(action(&world, &settings()), EndpointToHost::Return);
    let from_environment = Settings { endpoint_to_host: Some(EndpointToHost::Accept), ..settings() };
    assert_eq!(action(&world, &from_environment), EndpointToHost::Accept);
    let world = configured(world, "node.n1", json!("Maybe"));
    let (snapshot, problems) = snapshot_with(&world, &settings());
    assert_eq!(snapshot.endpoint_to_host, EndpointToHost::Drop);
    assert!(problems.of("FelixConfiguration node.n1").unwrap().contains("Maybe"));
}

#[test]
fn the_profile_that_allows_everything_is_there_although_nobody_stores_it() {
    let spec = json!({
        "orchestrator": "cni", "node": "n1", "endpoint": "eth0", "containerID": "c0", "interfaceName": "cali1",
        "ipNetworks": ["10.1.0.1/32"], "profiles": ["projectcalico-default-allow"],
    });
    let denies = json!({"ingress": [{"action": "Deny"}]});
    let world = World::nodes(1).with(Kind::WorkloadEndpoint, "default/w", spec).with(
        Kind::Profile,
        "projectcalico-default-allow",
        denies,
    );
    let output = world.output();
    assert_eq!(output.problems.of("Profile projectcalico-default-allow"), None);
    for (map, end) in [("to-endpoint", "accept"), ("from-endpoint", "return")] {
        let Verdict::Goto(chain) = &output.desired.ruleset.maps[map].elements["cali1"] else {
            panic!("{map}")
        };
        let text = tortie_policy::nft::render_table(&output.desired.ruleset);
        let first = text.split(&format!("chain {chain} {{")).nth(1).unwrap();
        let rule = first.lines().find(|line| line.contains("gress[0]")).unwrap();
        assert!(rule.trim_start().starts_with(&format!("counter {end} ")), "without conditions: {rule}");
    }
}

#[test]
fn network_sets_reach_policy_with_the_labels_of_their_namespace() {
    let labels = |value: &str| json!({"labels": {"role": value, "pcns.env": "forged"}});
    let world = World::nodes(1)
        .document(Kind::NetworkSet, "ns/own", labels("in"), json!({"nets": ["10.1.2.3/8", "10.0.0.1", "x"]}))
        .document(Kind::GlobalNetworkSet, "wide", labels("out"), json!({"nets": ["2001:db8::/32"]}));
    let (snapshot, problems) = snapshot_with(&world, &settings());
    let found: Vec<_> = snapshot
        .network_sets
        .iter()
        .map(|(id, set)| {
            let labels: Vec<_> = set.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let nets: Vec<_> = set.nets.iter().map(ToString::to_string).collect();
            format!(
                "{}/{} [{}] {:?} {}",
                id.namespace,
                id.name,
                labels.join(" "),
                set.profiles,
                nets.join(" ")
            )
        })
        .collect();
    let expected = [
        "/wide [role=out] [] 2001:db8::/32",
        "ns/own [projectcalico.org/namespace=ns role=in] [\"kns.ns\"] 10.0.0.0/8 10.0.0.1/32",
    ];
    assert_eq!(found, expected);
    let told = problems.of("NetworkSet ns/own");
    assert_eq!(told.as_deref(), Some("nets has 'x', which is no network and is left out"));

    let key = tortie_model::Key::resource(Kind::NetworkSet, Some("ns"), "own");
    assert_eq!(self::snapshot(&world.without(&key)).network_sets.len(), 1);
}

#[test]
fn host_endpoints_of_all_nodes_reach_policy_and_those_of_this_one_with_their_place() {
    let host = |node: &str, interface: &str| json!({"node": node, "interfaceName": interface, "expectedIPs": ["192.0.2.1", "2001:db8::1"], "ports": [{"name": "api", "protocol": "TCP", "port": 80}]});
    let labels = json!({"labels": {"role": "edge"}});
    let world = World::nodes(1)
        .document(Kind::HostEndpoint, "n1-all", labels, host("n1", "*"))
        .with(Kind::HostEndpoint, "n1-eth0", host("n1", "eth0"))
        .with(Kind::HostEndpoint, "n1-ip", host("n1", ""))
        .with(Kind::HostEndpoint, "n2-eth0", host("n2", "eth0"));
    let snapshot = snapshot(&world);
    let places: Vec<_> = snapshot.host_endpoints.iter().map(|(id, host)| (&*id.name, &host.place)).collect();
    let expected = [
        ("n1-all", &HostPlace::All),
        ("n1-eth0", &HostPlace::Interface("eth0".to_owned())),
        ("n1-ip", &HostPlace::Addresses),
        ("n2-eth0", &HostPlace::Elsewhere),
    ];
    assert_eq!(places, expected);
    let first = snapshot.host_endpoints.values().next().unwrap();
    assert_eq!(first.endpoint.labels.get("role"), Some("edge"));
    assert_eq!((first.endpoint.addresses.len(), first.endpoint.ports.len()), (2, 1));
}

#[test]
fn addresses_of_interfaces_find_a_host_endpoint_without_a_name() {
    let host = json!({"node": "n1", "expectedIPs": ["192.0.2.1"]});
    let mut calc = Calc::new(settings());
    World::nodes(1).with(Kind::HostEndpoint, "h", host).updates().into_iter().for_each(|u| calc.apply(u));
    calc.in_sync();
    let told = calc.flush().unwrap();
    assert!(
        told.problems.of("HostEndpoint h").is_some() && !told.desired.ruleset.chains.contains_key("output")
    );
    let interfaces = [("eth7".to_owned(), ["192.0.2.1".parse().unwrap()].into())];
    calc.set_host_interfaces(interfaces.clone().into());
    let found = calc.flush().unwrap();
    assert_eq!(found.problems.of("HostEndpoint h"), None);
    assert!(found.desired.ruleset.maps["host-output"].elements.contains_key("eth7"));
    calc.set_host_interfaces(interfaces.into());
    assert!(calc.flush().is_none());
}

/// Else a policy of the tier would come after one that allows what it denies.
#[test]
fn policies_of_a_tier_that_cannot_be_read_deny_before_all_others() {
    let deny = json!({"tier": "t", "selector": "all()", "ingress": [{"action": "Deny", "protocol": "UDP"}]});
    let allow = json!({"selector": "all()", "ingress": [{"action": "Allow"}]});
    let world = World::nodes(1)
        .endpoint("default/w", "n1", "cali1", &["10.1.0.1/32"])
        .with(Kind::Tier, "default", json!({}))
        .with(Kind::GlobalNetworkPolicy, "default.a", allow)
        .with(Kind::GlobalNetworkPolicy, "t.d", deny);
    let rules = |world: &World| {
        let output = world.output();
        let Verdict::Goto(chain) = &output.desired.ruleset.maps["to-endpoint"].elements["cali1"] else {
            panic!()
        };
        let rules = &output.desired.ruleset.chains[chain].rules;
        let rules: Vec<_> = rules.iter().map(|rule| rule.comment.to_string()).collect();
        (rules, output.problems.of("Tier t"))
    };
    let (plain, _) = rules(&world.clone().with(Kind::Tier, "t", json!({"order": 1.0})));
    assert!(plain[0].contains("t.d") && plain.len() > 1, "{plain:?}");
    let (closed, problem) = rules(&world.unreadable(Kind::Tier, "t"));
    assert!(closed.len() == 1 && closed[0].contains("t.d cannot be read"), "{closed:?}");
    assert!(problem.is_some_and(|text| !text.contains("does not exist")));
}

#[test]
fn staged_policies_reach_policy_under_their_names() {
    let world = World::nodes(1)
        .with(Kind::StagedNetworkPolicy, "ns/default.p", json!({"stagedAction": "Set"}))
        .with(Kind::StagedGlobalNetworkPolicy, "default.g", json!({}))
        .with(Kind::StagedKubernetesNetworkPolicy, "ns/p", json!({}))
        .unreadable(Kind::StagedGlobalNetworkPolicy, "default.bad");
    let (snapshot, _) = snapshot_with(&world, &settings());
    let names: Vec<_> = snapshot.staged.keys().map(|id| format!("{}/{}", id.namespace, id.name)).collect();
    assert_eq!(names, ["/g", "ns/knp.default.p", "ns/p"]);
    assert!(world.output().problems.of("StagedGlobalNetworkPolicy default.bad").is_some());
}

#[test]
fn options_come_from_the_nearest_configuration() {
    let felix = |name: &str, spec: Value| World::nodes(1).with(Kind::FelixConfiguration, name, spec);
    assert_eq!(snapshot(&World::nodes(1)).options, Options::default());
    let inbound = json!([{"protocol": "UDP", "port": 53}, {"port": 22, "net": "10.1.2.3/8"}]);
    let world = felix("default", json!({"failsafeInboundHostPorts": inbound, "failsafeOutboundHostPorts": [], "vxlanPort": 4790, "logPrefix": "%t"}))
        .with(Kind::FelixConfiguration, "node.n1", json!({"vxlanPort": 4791, "disableConntrackInvalidCheck": true, "allowIPIPPacketsFromWorkloads": true}));
    let options = snapshot(&world).options;
    let net = Some("10.0.0.0/8".parse().unwrap());
    let expected = [Failsafe { protocol: 17, port: 53, net: None }, Failsafe { protocol: 6, port: 22, net }];
    assert_eq!((options.failsafe_inbound.as_slice(), options.failsafe_outbound.len()), (&expected[..], 0));
    assert_eq!((options.vxlan_port, options.log.prefix.as_str()), (4791, "%t"));
    assert!(options.accept_invalid && options.ipip_from_workloads && !options.vxlan_from_workloads);

    let deny = |spec: Value| snapshot(&felix("default", spec)).options.deny;
    assert_eq!(deny(json!({"iptablesFilterDenyAction": "REJECT"})), DenyAction::Reject);
    let both = json!({"nftablesFilterDenyAction": "Drop", "iptablesFilterDenyAction": "Reject"});
    assert_eq!(deny(both), DenyAction::Drop);
    let world = felix("default", json!({"nftablesFilterDenyAction": "Refuse"}));
    assert!(snapshot_with(&world, &settings()).1.of("FelixConfiguration default").is_some());

    let log = |spec: Value| snapshot(&felix("default", spec)).options.log;
    let limit = |burst| Some(Limit { packets: 10, period: Period::Minute, burst });
    assert_eq!(log(json!({"logActionRateLimit": "10/minute"})).limit, limit(5));
    assert_eq!(
        log(json!({"logActionRateLimit": "10/minute", "logActionRateLimitBurst": 20})).limit,
        limit(20)
    );
    for none in [json!({"logActionRateLimitBurst": 20}), json!({"logActionRateLimit": ""})] {
        assert_eq!(log(none).limit, None);
    }
    for bad in ["10", "0/second", "10/week", "10000/day"] {
        let world = felix("default", json!({"logActionRateLimit": bad}));
        let (snapshot, problems) = snapshot_with(&world, &settings());
        assert_eq!(snapshot.options.log.limit, None, "{bad}");
        assert!(problems.of("FelixConfiguration default").is_some(), "{bad}");
    }
    let grouped = Settings { log_group: Some(7), ..settings() };
    assert_eq!(snapshot_with(&World::nodes(1), &grouped).0.options.log.group, Some(7));

    let metrics = |spec: Value| felix("default", spec).output().metrics;
    let listen =
        |host: Option<&str>, port| Some(Listen { host: host.map(|text| text.parse().unwrap()), port });
    assert_eq!(metrics(json!({"prometheusMetricsPort": 9999})), None);
    assert_eq!(metrics(json!({"prometheusMetricsEnabled": true})), listen(None, 9091));
    let local = json!({"prometheusMetricsEnabled": true, "prometheusMetricsHost": "localhost", "prometheusMetricsPort": 9999});
    assert_eq!(metrics(local), listen(Some("127.0.0.1"), 9999));
    let tls = json!({"prometheusMetricsEnabled": true, "prometheusMetricsCertFile": "/cert"});
    let output = felix("default", tls).output();
    assert!(output.metrics.is_none() && output.problems.of("FelixConfiguration default").is_some());

    for bad in [
        json!([{"protocol": "ICMP", "port": 1}]),
        json!("none"),
        json!([{"protocol": "TCP"}]),
        json!([{"port": 70000}]),
    ] {
        let world = felix("default", json!({"failsafeInboundHostPorts": bad}));
        let (snapshot, problems) = snapshot_with(&world, &settings());
        assert_eq!(snapshot.options, Options::default(), "{bad}");
        assert!(problems.of("FelixConfiguration default").unwrap().contains("the default counts"));
    }
}
