//! Peering with workloads of the node (bgp-behaviour 2.4).

use super::*;

fn speaker(world: World, name: &str, node: &str, interface: &str, labels: serde_json::Value) -> World {
    let last = interface.trim_start_matches("cali");
    let spec = json!({
        "orchestrator": "cni", "node": node, "endpoint": "eth0", "interfaceName": interface, "profiles": ["routers"],
        "ipNetworks": [format!("10.64.0.{last}/32"), format!("fd00:64::{last}/128"), format!("10.64.1.{last}/32")],
    });
    world.document(Kind::WorkloadEndpoint, name, json!({"labels": labels}), spec)
}

fn world() -> World {
    let spec = json!({"bgp": {"ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64"}});
    let addresses = json!({"localWorkloadPeeringIPV4": "169.254.1.1", "localWorkloadPeeringIPV6": "fe80::1"});
    let world = no_mesh(World::default()).with(Kind::Node, "n1", spec);
    let mut config = json!({"nodeToNodeMeshEnabled": false});
    config.as_object_mut().unwrap().extend(addresses.as_object().unwrap().clone());
    let world = world.with(Kind::BgpConfiguration, "default", config);
    let world = speaker(world, "default/a", "n1", "cali5", json!({"app": "router"}));
    let world = speaker(world, "default/b", "n1", "cali6", json!({"app": "web"}));
    speaker(world, "default/c", "n2", "cali7", json!({"app": "router"}))
}

fn with(world: World, selector: &str) -> World {
    let spec = json!({"localWorkloadSelector": selector, "asNumber": 65200, "localASNumber": 65300,
                      "numAllowedLocalASNumbers": 3, "nodeSelector": "all()"});
    world.with(Kind::BgpPeer, "w", spec)
}

#[test]
fn selected_workloads_get_a_passive_session_of_each_family() {
    let peers = peers(&with(world(), "app == 'router'"));
    assert_eq!(peers.keys().collect::<Vec<_>>(), ["Local_Workload_10_64_0_5", "Local_Workload_fd00_64__5"]);
    for peer in peers.values() {
        assert_eq!((peer.passive, peer.local_address), (true, None));
        assert_eq!((peer.remote_as, peer.local_as, peer.allow_own_as), (65200, Some(65300), 0));
    }
}

#[test]
fn their_interfaces_get_the_address_to_dial() {
    let output = with(world(), "app == 'router'").output();
    let addresses: Vec<_> = output.desired.peering_addresses.iter().collect();
    let expected = ["169.254.1.1".parse().unwrap(), "fe80::1".parse().unwrap()].into();
    assert_eq!(addresses, [(&"cali5".to_owned(), &expected)]);
    let peers: Vec<_> =
        output.desired.workload_peers.iter().map(|(ip, name)| format!("{ip} {name}")).collect();
    assert_eq!(peers, ["10.64.0.5 cali5", "fd00:64::5 cali5"]);
    let none = world().output();
    assert!(none.desired.peering_addresses.is_empty() && none.desired.workload_peers.is_empty());
}

#[test]
fn they_are_listened_for_where_they_dial() {
    let bound = json!({"nodeToNodeMeshEnabled": false, "bindMode": "NodeIP",
                       "localWorkloadPeeringIPV4": "169.254.1.1", "localWorkloadPeeringIPV6": "fe80::1"});
    let world = world().with(Kind::BgpConfiguration, "default", bound);
    let listen = |world: &World| config(world).listen.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(listen(&world), ["10.0.0.1:179", "[fd00::1]:179"]);
    assert_eq!(listen(&with(world, "all()")), ["10.0.0.1:179", "[fd00::1]:179", "169.254.1.1:179"]);
}

#[test]
fn labels_of_profiles_count_and_own_ones_win() {
    let profile = json!({"labelsToApply": {"app": "router", "role": "bgp"}});
    let world = world().with(Kind::Profile, "routers", profile);
    assert_eq!(names(&with(world.clone(), "role == 'bgp'")).len(), 4);
    assert_eq!(names(&with(world, "app == 'router'")).len(), 2);
}

#[test]
fn only_selected_nodes_peer_with_their_workloads_and_nobody_peers_back() {
    let spec = json!({"localWorkloadSelector": "all()", "asNumber": 65200, "node": "n2"});
    assert!(names(&world().with(Kind::BgpPeer, "w", spec)).is_empty());
    let both = json!({"localWorkloadSelector": "all()", "asNumber": 65200, "peerIP": "10.0.0.9"});
    let world = world().with(Kind::BgpPeer, "w", both);
    assert!(world.output().problems.of("BGPPeer w").unwrap().contains("excludes peerIP"));
    assert!(names(&world).is_empty());
    let no_as = json!({"localWorkloadSelector": "all()"});
    let world = self::world().with(Kind::BgpPeer, "w", no_as);
    assert!(world.output().problems.of("BGPPeer w").unwrap().contains("asNumber"));
}
