//! Speakers on a virtual clock, through real octets: meshes, reflectors, loss and restarts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bulk;
mod chaos;
mod explain;
mod graceful;
mod hostile;
mod network;
mod policy;
mod raw;
mod refresh;
mod sessions;

use std::time::Duration;

use network::{Network, address, config, peer, peer_id};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_mesh_of_five_knows_all_blocks() {
    for passive in [(|own, other| own < other) as fn(usize, usize) -> bool, |_, _| false] {
        let mut network = Network::mesh(5, passive);
        let took = network.until("all routes", |n| n.nodes.iter().all(|node| node.table.len() == 4));
        assert!(took < SECOND, "took {took:?}");
        for node in 0..5 {
            assert_eq!(network.established(node), 4);
            for (prefix, route) in network.nodes[node].table.clone() {
                let owner = network.nodes.iter().position(|n| n.originated.contains_key(&prefix)).unwrap();
                assert_eq!(route.next_hops, [address(owner)]);
                assert!(route.internal);
                assert_eq!(route.local_pref, 2147482623);
            }
        }
        network.run(SECOND);
        assert!(network.nodes.iter().all(|node| node.converged));

        network.originate(3, &["172.16.3.64/26"]);
        network.run(SECOND);
        assert_eq!(
            network.prefixes(0),
            ["172.16.1.0/26", "172.16.2.0/26", "172.16.3.64/26", "172.16.4.0/26"]
        );
        let snapshot = network.snapshot(0);
        let counts: Vec<_> = snapshot.peers.values().map(|peer| (peer.received, peer.announced)).collect();
        assert_eq!(counts, [(1, 1); 4], "internal routes are not passed on to internal peers");
    }
}

#[test]
fn keepalives_hold_idle_sessions() {
    let mut network = Network::mesh(3, |own, other| own < other);
    network.run(SECOND * 3000);
    let snapshot = network.snapshot(0);
    assert!(snapshot.peers.values().all(|peer| peer.since > SECOND * 2990), "{snapshot:#?}");
}

#[test]
fn a_cut_wire_ends_the_session_after_the_hold_time_and_heals() {
    let mut network = Network::mesh(3, |own, other| own < other);
    network.run(SECOND);
    network.cut(0, 1);
    network.run(SECOND * 150);
    assert_eq!(network.established(0), 2, "hold time not over");
    network.run(SECOND * 100);
    assert_eq!(network.established(0), 1);
    assert_eq!(network.prefixes(0).len(), 2, "routes survive the hold timer (RFC 8538)");
    network.run(SECOND * 120);
    assert_eq!(network.prefixes(0), ["172.16.2.0/26"], "but not longer than the restart time");
    let snapshot = network.snapshot(0);
    let error = snapshot.peers[&peer_id(1)].last_error.clone().unwrap();
    assert!(error.contains("Hold Timer Expired") || error.contains("connect"), "{error}");
    network.heal();
    let took = network.until("the session back", |n| n.prefixes(0).len() == 2 && n.prefixes(1).len() == 2);
    assert!(took < SECOND * 31, "took {took:?}");
}

/// Node 0 reflects; 1, 2 and 3 are clients and know only it.
pub(crate) fn reflector() -> Network {
    let mut configs: Vec<_> = (0..4).map(|node| config(node, 64512)).collect();
    configs[0].cluster_id = Some("9.9.9.9".parse().unwrap());
    for client in 1..4 {
        let mut at_reflector = peer(0, client, 64512);
        at_reflector.reflector_client = true;
        configs[0].peers.insert(peer_id(client), at_reflector);
        configs[client].peers.insert(peer_id(0), peer(client, 0, 64512));
    }
    let mut network = Network::new(configs);
    for node in 0..4 {
        network.nodes[node].originated = network::routes(&[&format!("172.16.{node}.0/26")]);
        network.start(node, false);
    }
    network
}

#[test]
fn a_reflector_passes_routes_of_clients_with_their_next_hop() {
    let mut network = reflector();
    network.run(SECOND * 2);
    for client in 1..4 {
        assert_eq!(network.nodes[client].table.len(), 3, "at client {client}");
        for (prefix, route) in &network.nodes[client].table {
            let owner = network.nodes.iter().position(|n| n.originated.contains_key(prefix)).unwrap();
            assert_eq!(route.next_hops, [address(owner)]);
        }
    }
    network.originate(2, &[]);
    network.run(SECOND);
    assert_eq!(network.prefixes(1), ["172.16.0.0/26", "172.16.3.0/26"]);
}

#[test]
fn two_reflectors_do_not_loop() {
    let mut configs: Vec<_> = (0..4).map(|node| config(node, 64512)).collect();
    for rr in 0..2 {
        configs[rr].cluster_id = Some("9.9.9.9".parse().unwrap());
        configs[rr].peers.insert(peer_id(1 - rr), peer(rr, 1 - rr, 64512));
        for client in 2..4 {
            let mut at_reflector = peer(rr, client, 64512);
            at_reflector.reflector_client = true;
            configs[rr].peers.insert(peer_id(client), at_reflector);
            configs[client].peers.insert(peer_id(rr), peer(client, rr, 64512));
        }
    }
    let mut network = Network::new(configs);
    for node in 0..4 {
        network.nodes[node].originated = network::routes(&[&format!("172.16.{node}.0/26")]);
        network.start(node, false);
    }
    network.run(SECOND * 2);
    for client in 2..4 {
        assert_eq!(network.nodes[client].table.len(), 3);
    }
    network.originate(2, &[]);
    network.run(SECOND * 2);
    assert_eq!(
        network.prefixes(3),
        ["172.16.0.0/26", "172.16.1.0/26"],
        "a withdrawn route does not live on in a loop"
    );
}
