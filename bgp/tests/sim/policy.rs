//! Filters, external peers, changes of configuration, peers that do not drain.

use std::collections::BTreeMap;
use std::time::Duration;

use tortie_bgp::filter::{Change, Filter, PrefixMatch, Verdict};
use tortie_bgp::speaker::Note;
use tortie_bgp::table::OriginatedRoute;

use super::SECOND;
use super::network::{Network, address, config, peer, peer_id, routes, rule};

/// Nodes 0 and 1 of one AS, both with the top-of-rack router 2.
fn rack() -> Network {
    let mut configs: Vec<_> =
        [64512, 64512, 65000].into_iter().enumerate().map(|(n, asn)| config(n, asn)).collect();
    for (own, other) in [(0, 1), (1, 0)] {
        configs[own].peers.insert(peer_id(other), peer(own, other, 64512));
        configs[own].peers.insert(peer_id(2), peer(own, 2, 65000));
        configs[2].peers.insert(peer_id(own), peer(2, own, 64512));
    }
    let mut network = Network::new(configs);
    for node in 0..3 {
        network.nodes[node].originated = routes(&[&format!("172.16.{node}.0/26")]);
        network.start(node, false);
    }
    network.run(SECOND * 2);
    network
}

#[test]
fn a_router_prefers_the_owner_of_a_block_over_those_who_pass_it_on() {
    let mut network = rack();
    for owner in 0..2 {
        let block = format!("172.16.{owner}.0/26").parse().unwrap();
        assert_eq!(network.nodes[2].table[&block].next_hops, [address(owner)]);
        assert_eq!(network.nodes[2].table[&block].local_pref, 100, "LOCAL_PREF does not leave the AS");
    }
    assert_eq!(network.snapshot(2).peers[&peer_id(0)].received, 2, "both blocks come from both nodes");
    // An export rule has the last word: with equal MED both nodes share the load.
    let mut level = rule(Verdict::Accept);
    level.set = vec![Change::Med(0)];
    for node in 0..2 {
        let filter = Filter::new(vec![level.clone()]);
        network.configure(node, |config| config.peers.get_mut(&peer_id(2)).unwrap().export = filter);
    }
    network.run(SECOND);
    let block = "172.16.0.0/26".parse().unwrap();
    assert_eq!(network.nodes[2].table[&block].next_hops, [address(0), address(1)]);
    assert_eq!(network.take_lost(2), []);
}

#[test]
fn routes_of_the_router_reach_internal_peers_with_its_next_hop() {
    let network = rack();
    let route = &network.nodes[0].table[&"172.16.2.0/26".parse().unwrap()];
    assert_eq!((route.next_hops.as_slice(), route.internal), (&[address(2)][..], false));
}

#[test]
fn a_changed_filter_is_applied_to_what_is_known_without_a_reset() {
    let mut network = Network::mesh(3, |own, other| own < other);
    network.run(SECOND * 30);
    let mut reject = rule(Verdict::Reject);
    reject.prefix = Some(PrefixMatch::In("172.16.1.0/24".parse().unwrap()));
    network.configure(0, |config| {
        config.peers.get_mut(&peer_id(1)).unwrap().import = Filter::new(vec![reject.clone()]);
        config.peers.get_mut(&peer_id(2)).unwrap().export = Filter::default();
    });
    network.run(SECOND);
    assert_eq!(network.prefixes(0), ["172.16.2.0/26"]);
    assert_eq!(network.prefixes(2), ["172.16.1.0/26"], "what is not accepted any more is withdrawn");
    network.configure(0, |config| config.peers.get_mut(&peer_id(1)).unwrap().import = Filter::default());
    network.run(SECOND);
    assert_eq!(network.prefixes(0), ["172.16.1.0/26", "172.16.2.0/26"]);
    assert!(network.snapshot(0).peers.values().all(|peer| peer.since > SECOND * 30));
}

#[test]
fn an_unrelated_peer_never_notices_a_change() {
    let mut network = Network::mesh(4, |own, other| own < other);
    network.run(SECOND * 20);
    network.configure(0, |config| {
        config.peers.remove(&peer_id(1));
        config.peers.get_mut(&peer_id(2)).unwrap().password = Some("new".into());
    });
    network.run(SECOND * 20);
    let snapshot = network.snapshot(0);
    assert!(!snapshot.peers.contains_key(&peer_id(1)));
    assert!(snapshot.peers[&peer_id(2)].since < SECOND * 21, "another password is another session");
    assert!(snapshot.peers[&peer_id(3)].since > SECOND * 38);
    assert_eq!(network.prefixes(0), ["172.16.2.0/26", "172.16.3.0/26"]);
    assert!(network.nodes[1].notes.iter().any(
        |note| matches!(note, Note::Down { reason, .. } if reason == "received NOTIFICATION Cease/Peer De-configured, hard reset")
    ));
    let ended = |end: usize, words: &str| {
        let notes = &network.nodes[0].notes;
        notes.iter().any(|note| matches!(note, Note::Down { peer, reason, .. } if *peer == peer_id(end) && reason == words))
    };
    assert!(ended(1, "sent NOTIFICATION Cease/Peer De-configured"), "the end that did it says so too");
    assert!(ended(2, "sent NOTIFICATION Cease/Other Configuration Change"));
}

#[test]
fn a_wrong_as_is_named_on_both_ends() {
    let mut configs: Vec<_> = (0..2).map(|node| config(node, 64512)).collect();
    configs[0].peers.insert(peer_id(1), peer(0, 1, 65001));
    let mut other = peer(1, 0, 64512);
    other.passive = true;
    configs[1].peers.insert(peer_id(0), other);
    let mut network = Network::new(configs);
    network.start(0, false);
    network.start(1, false);
    network.run(SECOND);
    let error = network.snapshot(0).peers[&peer_id(1)].last_error.clone().unwrap();
    assert_eq!(
        error,
        "sent NOTIFICATION OPEN Message Error/Bad Peer AS: peer says AS 64512, configured is AS 65001"
    );
    let error = network.snapshot(1).peers[&peer_id(0)].last_error.clone().unwrap();
    assert_eq!(error, "received NOTIFICATION OPEN Message Error/Bad Peer AS");
    network.configure(0, |config| config.peers.get_mut(&peer_id(1)).unwrap().remote_as = 64512);
    network.run(SECOND);
    assert_eq!(network.established(0), 1, "a corrected configuration does not wait for the back-off");
}

#[test]
fn a_peer_that_does_not_drain_gets_the_latest_state_later() {
    let mut network = Network::mesh(2, |own, other| own < other);
    network.run(SECOND);
    network.nodes[0].stuck = true;
    let block = |i: u32| format!("10.{}.{}.{}/32", i >> 16 & 255, i >> 8 & 255, i & 255).parse().unwrap();
    let mut many: BTreeMap<_, _> =
        (0..250_000).map(|i| (block(i), OriginatedRoute { local_pref: 100 })).collect();
    network.nodes[0].originated = many.clone();
    network.input(0, tortie_bgp::speaker::Input::Originate(many.clone()));
    network.run(Duration::from_millis(100));
    let first = network.nodes[1].table.len();
    assert!((100_000..250_000).contains(&first), "somewhat more than a megabyte is on its way: {first}");
    many.retain(|prefix, _| prefix.ip() < "10.1.0.0".parse::<std::net::Ipv4Addr>().unwrap());
    network.input(0, tortie_bgp::speaker::Input::Originate(many.clone()));
    many.insert("192.168.7.0/24".parse().unwrap(), OriginatedRoute { local_pref: 100 });
    network.input(0, tortie_bgp::speaker::Input::Originate(many));
    network.run(SECOND);
    assert_eq!(network.nodes[1].table.len(), first, "nothing more for a peer that is behind");
    network.unstick(0);
    network.run(SECOND);
    assert_eq!(network.nodes[1].table.len(), 65_537);
    assert_eq!(network.established(1), 1);
}

#[test]
fn a_queue_that_never_moves_ends_the_session() {
    let mut network = Network::mesh(2, |own, other| own < other);
    network.run(SECOND);
    network.nodes[0].stuck = true;
    network.run(SECOND * 400);
    assert_eq!(network.established(0), 1);
    network.run(SECOND * 200);
    assert!(network.nodes[0].notes.iter().any(
        |note| matches!(note, Note::Down { reason, .. } if reason == "sent NOTIFICATION Send Hold Timer Expired")
    ));
}

/// A peer that connects and leaves in a loop is soon refused, and taken again when it has calmed down.
#[test]
fn connections_in_a_loop_are_refused_after_a_while() {
    let mut network = Network::mesh(2, |own, other| own < other);
    network.kill(1);
    network.run(SECOND * 60);
    let (local, remote) = (peer_id(0).ip(), std::net::SocketAddr::new(peer_id(1).ip(), 40000));
    let mut refused = 0;
    for n in 0..100 {
        let conn = tortie_bgp::speaker::ConnId::Accepted(1_000_000 + n);
        let before = network.snapshot(0).peers[&peer_id(1)].last_error.clone();
        network.input(0, tortie_bgp::speaker::Input::Accepted { conn, local, remote });
        let after = network.snapshot(0).peers[&peer_id(1)].last_error.clone();
        refused += usize::from(after != before || after.as_deref().is_some_and(|e| e.contains("refused")));
        network.input(0, tortie_bgp::speaker::Input::Closed { conn, reason: "reset".into() });
    }
    assert!((85..=95).contains(&refused), "{refused}");
    network.start(1, false);
    network.run(SECOND * 30);
    assert_eq!(network.established(0), 1);
}
