//! Blackholes, the IPIP device, the context of learned routes, and the lock.

use serde_json::json;
use tortie_model::ipam::AffinityState;
use tortie_model::resource::EncapMode;
use tortie_model::{Key, Kind};

use super::world::{World, net, settings};
use crate::calc::{Calc, Settings};
use crate::desired::{IpipDevice, RouteTarget};

#[test]
fn own_confirmed_blocks_are_black_holes_unless_they_are_single_addresses() {
    let world = World::nodes(2)
        .confirmed("n1", "10.0.0.0/30")
        .confirmed("n1", "10.1.0.0/24")
        .confirmed("n1", "10.2.0.1/32")
        .confirmed("n1", "10.3.0.0/26")
        .confirmed("n1", "fd00::/122")
        .confirmed("n2", "10.4.0.0/26")
        .block("n1", "10.5.0.0/26", AffinityState::Pending)
        .block("n1", "10.6.0.0/26", AffinityState::PendingDeletion);
    let routes = world.output().desired.routes.clone();
    assert!(routes.values().all(|target| *target == RouteTarget::Blackhole));
    let prefixes: Vec<_> = routes.keys().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["10.0.0.0/30", "10.1.0.0/24", "10.3.0.0/26", "fd00::/122"]);
    let without = Settings { ipv6: false, ..settings() };
    assert_eq!(world.output_with(without).desired.routes.len(), 3);
}

#[test]
fn the_ipip_device_exists_while_a_pool_uses_it() {
    let node = |address: serde_json::Value| {
        World::default().with(
            Kind::Node,
            "n1",
            json!({"bgp": {"ipv4Address": "10.0.0.1/24", "ipv4IPIPTunnelAddr": address}}),
        )
    };
    let world = node(json!("10.64.0.1"));
    assert_eq!(world.output().desired.ipip, None);
    assert_eq!(
        world.clone().pool("p", "10.64.0.0/16", json!({"ipipMode": "Never"})).output().desired.ipip,
        None
    );
    let world = world.pool("p", "10.64.0.0/16", json!({"ipipMode": "CrossSubnet"}));
    let device = IpipDevice { address: Some("10.64.0.1".parse().unwrap()), mtu: 1480 };
    assert_eq!(world.output().desired.ipip, Some(device));
    let world = world.with(Kind::Node, "n1", json!({"bgp": {"ipv4Address": "10.0.0.1/24"}}));
    assert_eq!(world.output().desired.ipip, Some(IpipDevice { address: None, mtu: 1480 }));
}

#[test]
fn the_tunnel_mtu_is_configurable() {
    let world = World::nodes(1).pool("p", "10.64.0.0/16", json!({"ipipMode": "Always"}));
    let mtu = |world: &World, settings| world.output_with(settings).desired.ipip.as_ref().map(|d| d.mtu);
    let world = world.with(Kind::FelixConfiguration, "default", json!({"ipipMTU": 1400}));
    assert_eq!(mtu(&world, settings()), Some(1400));
    let world = world.with(Kind::FelixConfiguration, "node.n1", json!({"ipipMTU": 1300}));
    assert_eq!(mtu(&world, settings()), Some(1300));
    assert_eq!(mtu(&world, Settings { ipip_mtu: Some(1200), ..settings() }), Some(1200));
    let world = world.with(Kind::FelixConfiguration, "node.n1", json!({"ipipMTU": 0}));
    assert_eq!(mtu(&world, settings()), Some(1480));
    let world = world.with(Kind::FelixConfiguration, "node.n1", json!({"ipipMTU": "big"}));
    assert_eq!(mtu(&world, settings()), Some(1480));
    assert!(world.output().problems.of("FelixConfiguration node.n1").unwrap().contains("ipipMTU"));
}

#[test]
fn workload_packets_fit_into_every_tunnel() {
    let world = World::nodes(1).pool("a", "10.64.0.0/16", json!({}));
    assert_eq!(world.output().workload_mtu, 1500);
    let world = world.pool("b", "10.65.0.0/16", json!({"ipipMode": "Always"}));
    assert_eq!(world.output().workload_mtu, 1480);
    let world = world.pool("c", "10.66.0.0/16", json!({"vxlanMode": "CrossSubnet"}));
    assert_eq!(world.output().workload_mtu, 1450);
    let world = world.pool("d", "fd00::/48", json!({"vxlanMode": "Always"}));
    assert_eq!(world.output().workload_mtu, 1430);
}

#[test]
fn learned_routes_are_judged_by_own_subnets_and_pools() {
    let world = World::nodes(2).pool("a", "10.64.0.0/16", json!({"ipipMode": "CrossSubnet"})).pool(
        "b",
        "10.65.0.0/16",
        json!({"vxlanMode": "Always"}),
    );
    let context = world.output().desired.route_context.clone();
    assert_eq!(context.node_addresses, [net("10.0.0.1/24")]);
    let pools: Vec<_> = context.pools.iter().map(|p| (p.cidr.to_string(), p.ipip, p.vxlan)).collect();
    let expected = [
        ("10.64.0.0/16".to_owned(), EncapMode::CrossSubnet, EncapMode::Never),
        ("10.65.0.0/16".to_owned(), EncapMode::Never, EncapMode::Always),
    ];
    assert_eq!(pools, expected);
}

fn feed(calc: &mut Calc, world: &World) {
    for update in world.updates() {
        calc.apply(update);
    }
}

#[test]
fn nothing_comes_out_before_the_datastore_is_in_sync() {
    let mut calc = Calc::new(settings());
    assert_eq!(calc.flush(), None);
    feed(&mut calc, &World::nodes(1));
    assert_eq!(calc.flush(), None);
    calc.in_sync();
    assert!(calc.flush().is_some());
    assert_eq!(calc.flush(), None, "nothing changed since");
    feed(&mut calc, &World::nodes(1));
    assert_eq!(calc.flush(), None, "an echo changes nothing");
}

#[test]
fn another_clusters_datastore_changes_nothing() {
    let of = |guid: &str| {
        World::nodes(2).with(
            Kind::ClusterInformation,
            "default",
            json!({"clusterGUID": guid, "datastoreReady": true}),
        )
    };
    let mut calc = Calc::new(settings());
    feed(&mut calc, &of("a"));
    calc.in_sync();
    assert!(calc.flush().is_some());
    feed(&mut calc, &of("b"));
    assert_eq!(calc.flush(), None);
    assert!(calc.locked().unwrap().contains("clusterGUID b"));
    feed(&mut calc, &of("a"));
    assert!(calc.flush().is_some(), "restored");
}

#[test]
fn nothing_is_made_of_half_a_listing() {
    let mut calc = Calc::new(settings());
    feed(&mut calc, &World::nodes(3));
    calc.in_sync();
    assert!(calc.flush().is_some());
    calc.relisting();
    let key = Key::resource(Kind::Node, None, "n2");
    calc.apply(tortie_datastore::syncer::Update { key, value: None, revision: 9 });
    assert_eq!((calc.flush(), calc.tenancy()), (None, None));
    calc.in_sync();
    assert_eq!(calc.flush().unwrap().bgp.config.as_ref().unwrap().peers.len(), 1);
}

#[test]
fn a_locked_datastore_stops_programming() {
    let ready = |ready: bool| json!({"datastoreReady": ready});
    let mut calc = Calc::new(settings());
    feed(&mut calc, &World::nodes(1).with(Kind::ClusterInformation, "default", ready(true)));
    calc.in_sync();
    assert!(calc.flush().is_some() && calc.locked().is_none());

    feed(&mut calc, &World::nodes(2).with(Kind::ClusterInformation, "default", ready(false)));
    assert_eq!(calc.flush(), None);
    assert!(calc.locked().unwrap().contains("locked"));
    feed(&mut calc, &World::default().unreadable(Kind::ClusterInformation, "default"));
    assert_eq!(calc.flush(), None);
    assert!(calc.locked().unwrap().contains("cannot be read"));

    feed(&mut calc, &World::default().with(Kind::ClusterInformation, "default", ready(true)));
    let output = calc.flush().expect("unlocked, and a node came meanwhile");
    assert_eq!(output.bgp.config.as_ref().unwrap().peers.len(), 1);
    assert!(output.problems.lines().next().is_none(), "{:?}", output.problems);
    let key = Key::resource(Kind::ClusterInformation, None, "default");
    calc.apply(tortie_datastore::syncer::Update { key, value: None, revision: 9 });
    assert_eq!(calc.flush(), None, "a store that lost it may have lost everything");
    assert!(calc.locked().unwrap().contains("is gone"));
    let mut without = Calc::new(settings());
    feed(&mut without, &World::nodes(1));
    without.in_sync();
    assert!(without.flush().is_some(), "one that never was is no lock");
}
