//! How sessions between two speakers end and stay.

use tortie_bgp::config::Role;
use tortie_bgp::snapshot::SessionState;

use super::SECOND;
use super::network::{Network, config, peer, peer_id, routes};

fn pair() -> Network {
    let mut network = Network::mesh(2, |own, other| own < other);
    network.run(SECOND * 20);
    assert_eq!(network.established(0), 1);
    network
}

/// RFC 9003: the words arrive, the session stays down until they are gone, and it is no fault that is backed off.
#[test]
fn a_shutdown_tells_the_other_end_why() {
    let mut network = pair();
    let shut = |network: &mut Network, words: Option<&str>| {
        let words = words.map(str::to_owned);
        network.configure(0, |config| config.peers.get_mut(&peer_id(1)).unwrap().shutdown = words);
    };
    shut(&mut network, Some("new cable until noon"));
    network.run(SECOND);
    assert_eq!((network.prefixes(0), network.prefixes(1)), (vec![], vec![]), "a hard reset (RFC 8538)");
    for _ in 0..20 {
        network.run(SECOND * 10);
        let ours = network.snapshot(0).peers[&peer_id(1)].clone();
        assert_eq!(ours.state, SessionState::Idle);
        assert_eq!(ours.last_error.as_deref(), Some("administratively down (new cable until noon)"));
        let theirs = network.snapshot(1).peers[&peer_id(0)].last_error.clone().unwrap();
        assert!(theirs.contains("Cease/Administrative Shutdown (new cable until noon)"), "{theirs}");
    }
    shut(&mut network, None);
    network.until("the session back", |n| n.prefixes(0).len() == 1 && n.prefixes(1).len() == 1);
}

#[test]
fn a_removed_peer_takes_its_routes_along_at_once() {
    let mut network = pair();
    network.configure(0, |config| config.peers.clear());
    network.run(SECOND);
    assert_eq!(network.prefixes(1), Vec::<String>::new(), "though both ends keep routes over NOTIFICATIONs");
}

#[test]
fn a_hold_time_of_three_seconds_holds() {
    let mut network = pair();
    for node in 0..2 {
        network
            .configure(node, |config| config.peers.values_mut().for_each(|peer| peer.hold_time = SECOND * 3));
    }
    network.run(SECOND * 10);
    network.take_lost(0);
    network.run(SECOND * 600);
    assert!(network.snapshot(0).peers[&peer_id(1)].since >= SECOND * 600);
    network.cut(0, 1);
    network.run(SECOND * 4);
    assert_eq!((network.established(0), network.established(1)), (0, 0));
    network.heal();
    network.until("the session back", |n| n.established(0) == 1 && n.established(1) == 1);
    assert_eq!(network.take_lost(0), [], "routes survive the hold timer (RFC 8538)");
}

#[test]
fn roles_that_do_not_fit_keep_the_session_down_on_both_ends() {
    let mut configs: Vec<_> =
        [64512, 65000].into_iter().enumerate().map(|(node, asn)| config(node, asn)).collect();
    let mut ours = peer(0, 1, 65000);
    ours.role = Some(Role::Customer);
    let mut theirs = peer(1, 0, 64512);
    theirs.role = Some(Role::Peer);
    configs[0].peers.insert(peer_id(1), ours);
    configs[1].peers.insert(peer_id(0), theirs);
    let mut network = Network::new(configs);
    network.start(0, false);
    network.start(1, false);
    network.run(SECOND * 60);
    assert_eq!(network.established(0), 0);
    let errors = [network.snapshot(0), network.snapshot(1)]
        .map(|s| s.peers.values().next().unwrap().last_error.clone().unwrap());
    assert!(errors.iter().all(|error| error.contains("OPEN Message Error/Role Mismatch")), "{errors:?}");
    network.configure(1, |config| config.peers.get_mut(&peer_id(0)).unwrap().role = Some(Role::Provider));
    network.until("the session", |n| n.established(0) == 1);
}

/// RFC 9234: node 0 buys transit from 1 and 2, 3 buys from 0. Without any filter nothing leaks from 1 to 2.
#[test]
fn a_customer_of_two_providers_does_not_join_them() {
    let asn = |node: usize| 65000 + u32::try_from(node).unwrap();
    let mut configs: Vec<_> = (0..4).map(|node| config(node, asn(node))).collect();
    for (above, below) in [(1, 0), (2, 0), (0, 3)] {
        let mut down = peer(above, below, asn(below));
        down.role = Some(Role::Provider);
        configs[above].peers.insert(peer_id(below), down);
        let mut up = peer(below, above, asn(above));
        up.role = Some(Role::Customer);
        configs[below].peers.insert(peer_id(above), up);
    }
    let mut network = Network::new(configs);
    for node in 0..4 {
        network.nodes[node].originated = routes(&[&format!("172.16.{node}.0/26")]);
        network.start(node, false);
    }
    network.run(SECOND * 5);
    let blocks = |nodes: &[usize]| nodes.iter().map(|n| format!("172.16.{n}.0/26")).collect::<Vec<_>>();
    assert_eq!(network.prefixes(0), blocks(&[1, 2, 3]));
    assert_eq!(network.prefixes(1), blocks(&[0, 3]), "not those of the other provider");
    assert_eq!(network.prefixes(2), blocks(&[0, 3]));
    assert_eq!(network.prefixes(3), blocks(&[0, 1, 2]), "a customer gets everything");
    // The customer forgets its role towards one provider: the other end still sees the leak.
    network.configure(0, |config| config.peers.get_mut(&peer_id(2)).unwrap().role = None);
    network.run(SECOND * 5);
    assert_eq!(network.established(0), 3);
    assert_eq!(network.prefixes(2), blocks(&[0, 3]));
    assert_eq!(network.snapshot(0).peers[&peer_id(2)].announced, 3, "though it is announced");
}
