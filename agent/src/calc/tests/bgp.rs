//! Peers and originated routes; the vectors of bgp-behaviour 12 among them.

mod filters;
mod memo;
mod secrets;
mod services;
mod workloads;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tortie_bgp::config::NextHopMode;
use tortie_bgp::{PeerConfig, SpeakerConfig};
use tortie_model::Kind;

use super::world::{World, net, settings};
use crate::calc::{Calc, RouterId, Settings};

fn config(world: &World) -> SpeakerConfig {
    let config = world.output().bgp.config.clone().expect("the node has an address");
    SpeakerConfig::clone(&config)
}

/// A calculation that knows a world.
fn calc_of(world: &World) -> Calc {
    let mut calc = Calc::new(settings());
    world.updates().into_iter().for_each(|update| calc.apply(update));
    calc.in_sync();
    calc
}

/// Peers of n1 by name.
fn peers(world: &World) -> BTreeMap<String, PeerConfig> {
    config(world).peers.into_values().map(|peer| (peer.name.clone(), peer)).collect()
}

fn names(world: &World) -> Vec<String> {
    peers(world).into_keys().collect()
}

fn peer(world: World, spec: serde_json::Value) -> World {
    world.with(Kind::BgpPeer, "p", spec)
}

fn no_mesh(world: World) -> World {
    world.with(Kind::BgpConfiguration, "default", json!({"nodeToNodeMeshEnabled": false}))
}

fn rr(world: World, node: &str, address: &str, cluster: &str) -> World {
    world.with(Kind::Node, node, json!({"bgp": {"ipv4Address": address, "routeReflectorClusterID": cluster}}))
}

#[test]
fn the_mesh_is_passive_towards_greater_address_texts() {
    let world = World::default()
        .node("n1", "10.192.0.2/16")
        .node("n2", "10.192.0.3/16")
        .node("n3", "10.192.0.4/16")
        .node("n4", "10.192.0.10/16");
    let peers = peers(&world);
    assert!(peers["Mesh_10_192_0_3"].passive && peers["Mesh_10_192_0_4"].passive);
    // "10.192.0.10" comes before "10.192.0.2" as text.
    assert!(!peers["Mesh_10_192_0_10"].passive);
    let one = &peers["Mesh_10_192_0_3"];
    assert_eq!(one.local_address, Some("10.192.0.2".parse().unwrap()));
    assert_eq!((one.remote_as, one.ttl_security, one.password.as_deref()), (64512, None, None));
    assert_eq!((one.hold_time, one.restart_time), (Duration::from_secs(240), Duration::from_secs(120)));
}

#[test]
fn as_numbers_and_ports_come_from_the_node_then_the_cluster() {
    let world = World::nodes(2)
        .with(Kind::Node, "n1", json!({"bgp": {"ipv4Address": "10.0.0.1/24", "asNumber": 65001}}))
        .with(Kind::Node, "n3", json!({"bgp": {"ipv4Address": "10.0.0.3/24", "asNumber": "1.10"}}))
        .with(Kind::BgpConfiguration, "default", json!({"asNumber": 65000, "listenPort": 1790}))
        .with(Kind::BgpConfiguration, "node.n3", json!({"listenPort": 1793, "asNumber": 1}));
    let config = config(&world);
    assert_eq!((config.local_as, config.router_id.to_string().as_str()), (65001, "10.0.0.1"));
    assert_eq!(config.listen, ["0.0.0.0:1790".parse().unwrap()]);
    let ends: Vec<_> = config.peers.iter().map(|(end, p)| (end.to_string(), p.remote_as)).collect();
    // n2 has the cluster's number although the local node has another.
    assert_eq!(ends, [("10.0.0.2:1790".to_owned(), 65000), ("10.0.0.3:1793".to_owned(), 65546)]);
}

#[test]
fn a_family_without_own_address_has_no_sessions() {
    let both = json!({"bgp": {"ipv4Address": "10.0.0.2/24", "ipv6Address": "fd00::2/64"}});
    let world = World::nodes(1).with(Kind::Node, "n2", both.clone());
    assert_eq!(names(&world), ["Mesh_10_0_0_2"]);
    let world = world.with(
        Kind::Node,
        "n1",
        json!({"bgp": {"ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64"}}),
    );
    assert_eq!(names(&world), ["Mesh_10_0_0_2", "Mesh_fd00__2"]);
    assert_eq!(config(&world).listen.len(), 2);
    let without = Settings { ipv6: false, ..settings() };
    assert_eq!(world.output_with(without).bgp.config.as_ref().unwrap().peers.len(), 1);

    let addressless = World::nodes(2).with(Kind::Node, "n1", json!({}));
    assert_eq!(addressless.output().bgp.config, None);
    let vxlan = Settings { bgp: false, ..settings() };
    assert_eq!(World::nodes(2).output_with(vxlan).bgp.config, None);
}

#[test]
fn listening_follows_the_bind_mode() {
    let world = World::nodes(1).with(Kind::BgpConfiguration, "default", json!({"bindMode": "NodeIP"}));
    assert_eq!(config(&world).listen, ["10.0.0.1:179".parse().unwrap()]);
}

#[test]
fn reflectors_leave_the_mesh_and_have_clients() {
    // A reflector (10.0.0.1), two internal peers, one external.
    let world = rr(World::nodes(3), "n1", "10.0.0.1/24", "10.0.0.1");
    let world = world.with(Kind::BgpPeer, "clients", json!({"node": "n1", "peerSelector": "all()"})).with(
        Kind::BgpPeer,
        "tor",
        json!({"node": "n1", "peerIP": "10.0.0.254", "asNumber": 65100}),
    );
    assert_eq!(config(&world).cluster_id, Some("10.0.0.1".parse().unwrap()));
    let clients: Vec<_> = peers(&world).into_iter().map(|(n, p)| (n, p.reflector_client)).collect();
    let expected = [
        ("Node_10_0_0_2".to_owned(), true),
        ("Node_10_0_0_254".into(), false),
        ("Node_10_0_0_3".into(), true),
    ];
    assert_eq!(clients, expected);

    // A second reflector of the same cluster is an ordinary internal peer, one of another cluster a client.
    let world = rr(rr(world, "n2", "10.0.0.2/24", "10.0.0.1"), "n3", "10.0.0.3/24", "10.0.0.3");
    let peers = peers(&world);
    assert!(!peers["Node_10_0_0_2"].reflector_client && peers["Node_10_0_0_3"].reflector_client);

    // Others skip reflectors in the mesh, and are no reflectors themselves.
    let world = rr(World::nodes(3), "n3", "10.0.0.3/24", "10.0.0.9");
    assert_eq!(names(&world), ["Mesh_10_0_0_2"]);
    assert_eq!(config(&world).cluster_id, None);
}

#[test]
fn next_hop_modes() {
    let end = |more: serde_json::Value| {
        let mut spec = json!({"peerIP": "10.0.0.254", "asNumber": 65100});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        peers(&peer(World::nodes(1), spec))["Global_10_0_0_254"].next_hop
    };
    assert_eq!(end(json!({"nextHopMode": "Keep"})), NextHopMode::Keep);
    assert_eq!(end(json!({"nextHopMode": "Self", "asNumber": 64512})), NextHopMode::OwnAddress);
    assert_eq!(end(json!({"keepOriginalNextHop": true})), NextHopMode::Keep);
    assert_eq!(end(json!({"keepOriginalNextHop": true, "asNumber": 64512})), NextHopMode::Auto);
    // Internal by the local AS of the session.
    assert_eq!(end(json!({"keepOriginalNextHop": true, "localASNumber": 65100})), NextHopMode::Auto);
    assert_eq!(end(json!({})), NextHopMode::Auto);
}

#[test]
fn session_options() {
    let spec = json!({
        "peerIP": "10.0.0.254", "asNumber": 65100, "localASNumber": 65200, "ttlSecurity": 1, "maxRestartTime": "10600ms",
        "keepaliveTime": "1m10s", "numAllowedLocalASNumbers": 2, "sourceAddress": "None",
    });
    let peer = &peers(&peer(World::nodes(1), spec))["Global_10_0_0_254"];
    assert_eq!((peer.remote_as, peer.local_as, peer.allow_own_as), (65100, Some(65200), 2));
    assert_eq!((peer.ttl_security, peer.local_address, peer.passive), (Some(1), None, false));
    assert_eq!((peer.restart_time.as_secs(), peer.keepalive_time), (11, Some(Duration::from_secs(70))));

    let mesh =
        World::nodes(2).with(Kind::BgpConfiguration, "default", json!({"nodeMeshMaxRestartTime": "10s"}));
    assert_eq!(peers(&mesh)["Mesh_10_0_0_2"].restart_time.as_secs(), 10);

    // peerSelector with ttlSecurity: one hop to each.
    let spec = json!({"peerSelector": "all()", "ttlSecurity": 1});
    let world = no_mesh(self::peer(World::nodes(3), spec));
    assert_eq!(names(&world), ["Global_10_0_0_2", "Global_10_0_0_3"]);
    assert!(peers(&world).values().all(|p| p.ttl_security == Some(1) && !p.passive));
}

#[test]
fn global_peers_that_are_nodes_follow_the_textual_order() {
    let world = World::default()
        .node("n1", "10.192.0.2/16")
        .node("n2", "10.192.0.3/16")
        .with(Kind::BgpConfiguration, "node.n2", json!({"listenPort": 150}))
        .with(Kind::BgpPeer, "a", json!({"peerIP": "10.192.0.3:150", "asNumber": 64512}))
        .with(Kind::BgpPeer, "b", json!({"peerIP": "10.192.0.4:166", "asNumber": 64512}))
        .with(Kind::BgpPeer, "c", json!({"peerIP": "10.192.0.4", "asNumber": 64512}));
    let passive: Vec<_> = peers(&world).into_iter().map(|(name, peer)| (name, peer.passive)).collect();
    let expected = [
        ("Global_10_192_0_3_port_150".to_owned(), true),
        ("Global_10_192_0_4".into(), false),
        ("Global_10_192_0_4_port_166".into(), false),
    ];
    assert_eq!(passive, expected);

    // Without a port the node's own is used, if the AS number is the node's too.
    let found = |number: u32| {
        let spec = json!({"peerIP": "10.192.0.3", "asNumber": number});
        names(&no_mesh(world.clone().with(Kind::BgpPeer, "a", spec)))
    };
    assert!(found(64512).contains(&"Global_10_192_0_3_port_150".to_owned()));
    assert!(found(65001).contains(&"Global_10_192_0_3".to_owned()));
}

#[test]
fn peerings_select_local_nodes_and_the_first_claim_of_an_end_wins() {
    let labelled = |world: World, node: &str, address: &str, rack: &str| {
        let spec = json!({"bgp": {"ipv4Address": address}});
        world.document(Kind::Node, node, json!({"labels": {"rack": rack}}), spec)
    };
    let world =
        no_mesh(labelled(labelled(World::default(), "n1", "10.0.0.1/24", "a"), "n2", "10.0.1.1/24", "b"));
    let tor = |number: u32| json!({"peerIP": "10.0.0.254", "asNumber": number});
    let mut for_rack_a = tor(1);
    for_rack_a["nodeSelector"] = json!("rack == 'a'");
    let mut for_rack_b = tor(2);
    for_rack_b["nodeSelector"] = json!("rack == 'b'");
    let world = world.with(Kind::BgpPeer, "a", for_rack_a).with(Kind::BgpPeer, "b", for_rack_b);
    assert_eq!(peers(&world)["Node_10_0_0_254"].remote_as, 1);

    // A global peering with the same end wins over the node's, whatever their names.
    let world = world.with(Kind::BgpPeer, "z", tor(3));
    assert_eq!(names(&world), ["Global_10_0_0_254"]);
    assert_eq!(peers(&world)["Global_10_0_0_254"].remote_as, 3);

    // The node itself is never its peer.
    let world = World::nodes(2).with(Kind::BgpPeer, "self", json!({"peerIP": "10.0.0.1", "asNumber": 64512}));
    assert_eq!(names(&no_mesh(world)), ["Node_10_0_0_2"], "only the reverse of the other node's");
}

#[test]
fn remote_ends_peer_back() {
    // n2's peering towards n1, by selector: n1 gets the reverse, with the options but the local ones.
    let spec = json!({"node": "n2", "peerSelector": "all()", "keepaliveTime": "7s"});
    let world = no_mesh(World::nodes(3)).with(Kind::BgpPeer, "p", spec.clone());
    assert_eq!(names(&world), ["Node_10_0_0_2"]);
    assert_eq!(peers(&world)["Node_10_0_0_2"].keepalive_time, Some(Duration::from_secs(7)));
    let mut manual = spec;
    manual["reversePeering"] = json!("Manual");
    assert!(names(&world.clone().with(Kind::BgpPeer, "p", manual)).is_empty());

    // By address: only when AS and port are this node's.
    let by_ip = |end: &str, number: u32| {
        let spec = json!({"node": "n2", "peerIP": end, "asNumber": number, "localASNumber": 65009, "numAllowedLocalASNumbers": 3});
        peers(&world.clone().with(Kind::BgpPeer, "p", spec))
    };
    let reverse = by_ip("10.0.0.1", 64512);
    assert_eq!(reverse.keys().collect::<Vec<_>>(), ["Node_10_0_0_2"]);
    assert_eq!((reverse["Node_10_0_0_2"].local_as, reverse["Node_10_0_0_2"].allow_own_as), (None, 0));
    assert_eq!(by_ip("10.0.0.1:179", 64512).len(), 1);
    assert!(by_ip("10.0.0.1:180", 64512).is_empty() && by_ip("10.0.0.1", 65001).is_empty());
}

#[test]
fn borrowed_addresses_are_originated_own_ones_are_not() {
    let world = World::nodes(1)
        .confirmed("n1", "10.64.0.0/26")
        .endpoint("default/a", "n1", "cali1", &["10.64.0.5/32"])
        .endpoint("default/b", "n1", "cali2", &["10.64.9.5/32", "fd00::5/128"])
        .endpoint("default/c", "n2", "cali3", &["10.64.9.6/32"]);
    let prefixes: Vec<_> = world.output().bgp.originated.keys().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["10.64.0.0/26", "10.64.9.5/32", "fd00::5/128"]);
}

#[test]
fn peers_that_get_no_session_are_named() {
    let world = World::nodes(2)
        .with(Kind::BgpPeer, "a", json!({"node": "n1", "peerIP": "10.0.0.254", "asNumber": 65100}))
        .with(Kind::BgpPeer, "b", json!({"node": "n1", "peerIP": "10.0.0.254:179", "asNumber": 65200}))
        .with(Kind::BgpPeer, "six", json!({"node": "n1", "peerIP": "fd00::254", "asNumber": 65100}))
        .with(Kind::BgpPeer, "all", json!({"peerIP": "fd00::254", "asNumber": 65100}))
        // Ends found by selectors may overlap.
        .with(Kind::BgpPeer, "c", json!({"nodeSelector": "all()", "peerSelector": "all()"}))
        .with(Kind::BgpPeer, "d", json!({"peerSelector": "all()"}));
    assert_eq!(peers(&world)["Node_10_0_0_254"].remote_as, 65100);
    let problems: Vec<String> = world.output().problems.lines().collect();
    assert_eq!(
        problems,
        [
            "BGPPeer b: peerIP 10.0.0.254:179: this node peers with 10.0.0.254:179 by BGPPeer a already; no second session",
            "BGPPeer six: peerIP fd00::254: this node has no IPv6 address (IP6 gives it one); no session",
        ]
    );
}

#[test]
fn a_node_that_was_deleted_is_named() {
    let world = World::nodes(2).without(&tortie_model::Key::resource(Kind::Node, None, "n1"));
    let output = world.output();
    let reason = output.problems.of("Node n1").unwrap();
    assert!(output.bgp.config.is_none() && reason.contains("restart tortie-node"), "{reason}");
    let unreadable = world.unreadable(Kind::Node, "n1").output().problems.of("Node n1").unwrap();
    assert!(!unreadable.contains("restart"), "{unreadable}");
}

#[test]
fn what_cannot_be_honoured_stays_down_and_is_reported() {
    let secret = json!({"secretKeyRef": {"name": "bgp", "key": "pw"}});
    let end = json!({"peerIP": "10.0.0.2", "asNumber": 64512});
    for (field, value) in [
        ("password", secret.clone()),
        ("reachableBy", json!("fd00::1")),
        ("maxRestartTime", json!("soon")),
        ("peerIP", json!("10.0.0.2:x")),
        ("asNumber", json!(0)),
        ("peerSelector", json!("all()")),
        ("sourceAddress", json!("10.0.0.1")),
    ] {
        let mut spec = end.clone();
        spec[field] = value;
        let output = peer(World::nodes(2), spec).output();
        let reason =
            output.problems.of("BGPPeer p").unwrap_or_else(|| panic!("{field}: {:?}", output.problems));
        assert!(reason.contains(field), "{reason}");
        let left: Vec<_> =
            output.bgp.config.as_ref().unwrap().peers.values().map(|p| p.name.clone()).collect();
        // The mesh must not bring up without a password what was to have one.
        let readable = !["peerIP", "asNumber", "peerSelector"].contains(&field);
        assert_eq!(left.is_empty(), readable, "{field}: {left:?}");
    }
    let mesh = World::nodes(2).with(Kind::BgpConfiguration, "default", json!({"nodeMeshPassword": secret}));
    assert!(names(&mesh).is_empty());
    assert!(mesh.output().problems.of("BGPConfiguration default").unwrap().contains("nodeMeshPassword"));
}

#[test]
fn gateways_to_peers_become_host_routes() {
    let tor = |gateway: &str, ip: &str| json!({"peerIP": ip, "asNumber": 65100, "reachableBy": gateway});
    let world = World::nodes(1)
        .with(Kind::BgpPeer, "a", tor("10.0.0.253", "10.9.0.1"))
        .with(Kind::BgpPeer, "b", tor("10.0.0.252", "10.9.0.1:180"))
        .with(Kind::BgpPeer, "c", tor("10.0.0.252", "10.9.0.2"));
    let output = world.output();
    let routes: Vec<_> = output.desired.reachable_by.iter().map(|(to, by)| format!("{to} by {by}")).collect();
    assert_eq!(routes, ["10.9.0.1 by 10.0.0.253", "10.9.0.2 by 10.0.0.252"]);
    assert!(output.problems.of("BGPPeer b").unwrap().contains("reached by 10.0.0.253 already"));
    let none = no_mesh(World::nodes(1)).output();
    assert!(none.desired.reachable_by.is_empty());
}

#[test]
fn every_session_asks_for_several_paths() {
    let both = tortie_bgp::config::AddPath { send: true, receive: true };
    let world = peer(World::nodes(2), json!({"peerIP": "10.0.0.254", "asNumber": 65100}));
    assert!(peers(&world).values().all(|peer| peer.add_path == both && peer.extended_messages));
}

#[test]
fn identifiers_must_be_unicast_and_unique() {
    let multicast = World::nodes(1).node("n1", "224.0.0.9/24").output();
    assert_eq!(multicast.bgp.config, None);
    assert!(multicast.problems.of("Node n1").unwrap().contains("224.0.0.9 is none"));

    let twins = World::nodes(2).node("n2", "10.0.0.1/24").output();
    assert!(twins.problems.of("Node n1").unwrap().contains("10.0.0.1 is that of node n2"));
    let fixed = Settings { router_id: RouterId::Address("10.0.0.2".parse().unwrap()), ..settings() };
    let output = World::nodes(3).output_with(fixed);
    assert!(output.problems.of("Node n1").unwrap().contains("node n2"));
    assert_eq!(output.bgp.config.as_ref().unwrap().router_id.to_string(), "10.0.0.2");
    let hashed = Settings { router_id: RouterId::Hash, ..settings() };
    assert_eq!(World::nodes(3).output_with(hashed).problems.lines().count(), 0);
    assert_eq!(World::nodes(3).output().problems.lines().count(), 0);
}
