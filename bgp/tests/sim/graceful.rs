//! Graceful restart: what a restart must not cost, and what it must not hide.

use super::network::{Network, peer_id};
use super::{SECOND, reflector};

fn passive_by_order(own: usize, other: usize) -> bool {
    own < other
}

#[test]
fn a_killed_speaker_that_comes_back_costs_no_route() {
    for passive in [passive_by_order, |own, other| own > other, |_, _| false] {
        let mut network = Network::mesh(4, passive);
        network.run(SECOND * 20);
        network.kill(1);
        network.run(SECOND * 3);
        assert_eq!(network.established(0), 2);
        network.start(1, true);
        network.run(SECOND * 30);
        for other in [0, 2, 3] {
            assert_eq!(network.take_lost(other), [], "at {other}");
            assert_eq!(network.established(other), 3);
        }
        assert!(network.nodes[1].converged);
        assert_eq!(network.nodes[1].table.len(), 3);
    }
}

#[test]
fn what_a_restarted_speaker_does_not_announce_again_goes_with_its_end_of_rib() {
    let mut network = Network::mesh(3, passive_by_order);
    network.originate(1, &["172.16.1.0/26", "172.16.1.64/26"]);
    network.run(SECOND);
    network.kill(1);
    network.nodes[1].originated.remove(&"172.16.1.0/26".parse().unwrap());
    network.run(SECOND);
    network.start(1, true);
    network.run(SECOND * 10);
    assert_eq!(network.take_lost(0), ["172.16.1.0/26".parse().unwrap()]);
    assert_eq!(network.prefixes(0), ["172.16.1.64/26", "172.16.2.0/26"]);
}

#[test]
fn a_speaker_that_stays_away_loses_its_routes_after_the_restart_time() {
    let mut network = Network::mesh(3, passive_by_order);
    network.run(SECOND);
    network.kill(1);
    network.run(SECOND * 115);
    assert_eq!(network.prefixes(0).len(), 2);
    network.run(SECOND * 10);
    assert_eq!(network.prefixes(0), ["172.16.2.0/26"]);
}

#[test]
fn no_end_of_rib_before_the_originated_routes_are_known() {
    let mut network = Network::mesh(3, passive_by_order);
    network.run(SECOND);
    network.kill(1);
    network.run(SECOND);
    network.start_mute(1, true);
    network.run(SECOND * 15);
    assert_eq!(network.established(1), 2);
    assert!(!network.nodes[1].converged);
    network.run(SECOND * 60);
    assert!(network.nodes[1].converged, "what is learned does not wait for ever");
    assert_eq!(network.take_lost(0), []);
    network.originate(1, &["172.16.1.0/26"]);
    network.run(SECOND);
    assert_eq!(network.take_lost(0), []);
    assert_eq!(network.prefixes(0).len(), 2);
}

#[test]
fn a_machine_that_lost_power_is_taken_back_at_once() {
    // Its peers still believe in the old session when it connects again, from either side.
    for passive in [passive_by_order, |own, other| own > other] {
        let mut network = Network::mesh(3, passive);
        network.run(SECOND * 20);
        network.crash(1);
        network.run(SECOND);
        assert_eq!(network.established(0), 2, "nobody told node 0");
        network.start(1, true);
        // Where the others dial, they have to notice first: their next KEEPALIVE is answered with a reset.
        network.run(SECOND * 90);
        for other in [0, 2] {
            assert_eq!(network.take_lost(other), []);
            assert_eq!(network.established(other), 2);
        }
    }
}

#[test]
fn a_passive_side_accepts_a_restarted_peer_while_its_session_is_up() {
    let mut network = Network::mesh(2, |own, _| own == 0);
    network.run(SECOND);
    network.crash(1);
    network.start(1, true);
    let took = network.until("node 1 complete", |n| n.nodes[1].converged && n.nodes[1].table.len() == 1);
    assert!(took < SECOND, "took {took:?}");
    assert_eq!(network.take_lost(0), []);
    let error = network.snapshot(0).peers[&peer_id(1)].last_error.clone();
    assert_eq!(error.as_deref(), Some("peer restarted and connected anew"));
}

#[test]
fn a_restarted_reflector_costs_its_clients_nothing() {
    let mut network = reflector();
    network.run(SECOND * 20);
    network.kill(0);
    network.run(SECOND * 2);
    network.start(0, true);
    network.run(SECOND * 70);
    for client in 1..4 {
        assert_eq!(network.take_lost(client), [], "at client {client}");
        assert_eq!(network.nodes[client].table.len(), 3);
    }
}

#[test]
fn two_that_restart_together_do_not_wait_for_each_other() {
    let mut network = Network::mesh(3, |_, _| false);
    network.run(SECOND * 20);
    network.kill(0);
    network.kill(1);
    network.run(SECOND);
    network.start(0, true);
    network.start(1, true);
    let took = network.until("both complete", |n| n.nodes[0].converged && n.nodes[1].converged);
    assert!(took < SECOND * 6, "took {took:?}");
    network.run(SECOND);
    assert_eq!(network.take_lost(2), []);
    assert!((0..3).all(|node| network.nodes[node].table.len() == 2));
}

#[test]
fn what_a_peer_that_restarted_too_has_not_told_again_is_not_gone() {
    let mut network = Network::mesh(3, |_, _| false);
    network.run(SECOND * 20);
    network.kill(0);
    network.kill(1);
    network.run(SECOND);
    network.start_mute(1, true);
    network.start(0, true);
    network.run(SECOND * 10);
    assert_eq!(network.established(0), 2);
    assert!(!network.nodes[0].converged, "its kernel still needs the routes to node 1");
    network.originate(1, &["172.16.1.0/26"]);
    let took = network.until("node 0 complete", |n| n.nodes[0].converged);
    assert!(took < SECOND, "took {took:?}");
    assert_eq!(network.nodes[0].table.len(), 2);
}

#[test]
fn a_dead_peer_delays_the_start_only_up_to_its_limit() {
    let mut network = Network::mesh(3, passive_by_order);
    network.run(SECOND * 20);
    network.kill(2);
    network.kill(0);
    network.run(SECOND);
    network.start(0, true);
    network.run(SECOND * 50);
    assert!(!network.nodes[0].converged);
    assert_eq!(network.take_lost(1), []);
    network.run(SECOND * 11);
    assert!(network.nodes[0].converged);
    assert_eq!(network.take_lost(1), []);
}

#[test]
fn timers_change_without_the_loss_of_a_route() {
    let mut network = Network::mesh(2, passive_by_order);
    network.run(SECOND * 20);
    network.configure(0, |config| config.peers.values_mut().for_each(|peer| peer.hold_time = SECOND * 9));
    network.run(SECOND * 5);
    assert_eq!((network.take_lost(0), network.take_lost(1)), (vec![], vec![]));
    network.cut(0, 1);
    network.run(SECOND * 11);
    assert_eq!(network.established(1), 0, "the new hold time holds");
}

#[test]
fn without_graceful_restart_routes_go_with_the_session() {
    let mut network = Network::mesh(2, passive_by_order);
    network.configure(0, |config| {
        config.peers.values_mut().for_each(|peer| peer.restart_time = std::time::Duration::ZERO)
    });
    network.run(SECOND * 20);
    assert_eq!(network.prefixes(0).len(), 1);
    network.kill(1);
    network.run(SECOND);
    assert_eq!(network.prefixes(0).len(), 0);
}
