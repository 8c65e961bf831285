//! Sessions of every kind: up, routes both ways, withdrawals, hold time.

use std::time::Duration;

use tortie_bgp::PeerConfig;
use tortie_bgp::snapshot::SessionState;

use super::lab::{Bird, OURS, Session, THEIRS, ran_inside, run};
use super::speaker::{Speaker, accept_all, config};

const OUR_ROUTES: [[&str; 2]; 2] = [["172.16.1.0/26", "172.16.1.64/26"], ["fd01::/64", "fd01:0:0:1::/64"]];
const THEIR_ROUTES: [[&str; 2]; 2] = [["192.0.2.0/24", "198.51.100.7/32"], ["fd02::/64", "fd02::7/128"]];

fn session(family: usize, internal: bool, we_are_passive: bool) -> Session {
    let direct = if internal { "direct;" } else { "multihop;" };
    let passive = if we_are_passive { "" } else { "passive yes;" };
    let their_as = if internal { 64512 } else { 4_200_000_001 };
    Session { family, our_as: 64512, their_as, options: format!("{direct} {passive} hold time 30;") }
}

/// The life of a session, as dialling and as waiting side.
fn life(family: usize, internal: bool, we_are_passive: bool) {
    let session = session(family, internal, we_are_passive);
    let bird = Bird::start(session.clone(), &THEIR_ROUTES[family]);
    let mut ours = config(&session);
    ours.peers.values_mut().for_each(|peer| peer.passive = we_are_passive);
    let speaker = Speaker::start(ours, &OUR_ROUTES[family]);

    for prefix in THEIR_ROUTES[family] {
        let seen = speaker.until_route(prefix);
        let route = &seen.routes[&prefix.parse().unwrap()];
        assert_eq!(route.next_hops, [THEIRS[family].parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!((route.internal, route.local_pref), (internal, 100));
    }
    for prefix in OUR_ROUTES[family] {
        let text = bird.until(&format!("show route all {prefix} protocol tortie"), prefix);
        assert!(text.contains(&format!("BGP.next_hop: {}", OURS[family])), "{text}");
        assert!(text.contains("BGP.origin: IGP"), "{text}");
        assert!(!text.contains("BGP.med"), "originated routes carry no MED: {text}");
        let (path, preference) =
            if internal { ("BGP.as_path: \n", "777") } else { ("BGP.as_path: 64512", "100") };
        assert!(text.contains(path), "{text}");
        assert!(text.contains(&format!("BGP.local_pref: {preference}")), "{text}");
        assert!(!text.contains("unreachable"), "{text}");
    }
    let capabilities = bird.ask("show protocols all tortie");
    assert!(
        capabilities.contains("4-octet AS numbers") && capabilities.contains("Route refresh"),
        "{capabilities}"
    );
    let peer = speaker.peer();
    assert_eq!((peer.state, peer.received, peer.announced), (SessionState::Established, 2, 2));
    speaker.until("the start complete", |snapshot| snapshot.converged);

    speaker.originate(&OUR_ROUTES[family][..1]);
    bird.until_count(1);
    assert!(bird.route(OUR_ROUTES[family][1]).is_none());
    bird.set_routes(&THEIR_ROUTES[family][1..]);
    speaker.until_gone(THEIR_ROUTES[family][0]);
    assert!(
        speaker.peer().last_error.is_none_or(|error| error.starts_with("connect: ")),
        "{:?}",
        speaker.peer()
    );
    assert!(bird.is_established());
}

#[test]
fn external_ipv4_we_dial() {
    if !ran_inside("sessions::external_ipv4_we_dial") {
        life(0, false, false);
    }
}

#[test]
fn external_ipv4_they_dial() {
    if !ran_inside("sessions::external_ipv4_they_dial") {
        life(0, false, true);
    }
}

#[test]
fn internal_ipv4_we_dial() {
    if !ran_inside("sessions::internal_ipv4_we_dial") {
        life(0, true, false);
    }
}

#[test]
fn internal_ipv4_they_dial() {
    if !ran_inside("sessions::internal_ipv4_they_dial") {
        life(0, true, true);
    }
}

#[test]
fn external_ipv6_we_dial() {
    if !ran_inside("sessions::external_ipv6_we_dial") {
        life(1, false, false);
    }
}

#[test]
fn external_ipv6_they_dial() {
    if !ran_inside("sessions::external_ipv6_they_dial") {
        life(1, false, true);
    }
}

#[test]
fn internal_ipv6_we_dial() {
    if !ran_inside("sessions::internal_ipv6_we_dial") {
        life(1, true, false);
    }
}

#[test]
fn internal_ipv6_they_dial() {
    if !ran_inside("sessions::internal_ipv6_they_dial") {
        life(1, true, true);
    }
}

#[test]
fn both_dial() {
    if ran_inside("sessions::both_dial") {
        return;
    }
    let session = Session { options: "multihop; hold time 30;".into(), ..session(0, false, false) };
    let bird = Bird::start(session.clone(), &THEIR_ROUTES[0]);
    let speaker = Speaker::start(config(&session), &OUR_ROUTES[0]);
    for _ in 0..3 {
        speaker.until_route(THEIR_ROUTES[0][0]);
        bird.until_count(2);
        bird.ask("restart tortie");
        speaker.until("the restart noticed", |s| s.peers.values().any(|p| p.since < Duration::from_secs(1)));
    }
}

#[test]
fn a_silent_bird_is_dropped_after_the_hold_time() {
    if ran_inside("sessions::a_silent_bird_is_dropped_after_the_hold_time") {
        return;
    }
    let session =
        Session { options: "multihop; passive yes; hold time 3;".into(), ..session(0, false, false) };
    let bird = Bird::start(session.clone(), &THEIR_ROUTES[0]);
    let speaker = Speaker::start(config(&session), &OUR_ROUTES[0]);
    speaker.until_route(THEIR_ROUTES[0][0]);
    bird.signal("STOP");
    speaker.until_gone(THEIR_ROUTES[0][0]);
    let error = speaker.peer().last_error.unwrap();
    assert_eq!(error, "sent NOTIFICATION Hold Timer Expired");
    bird.signal("CONT");
    speaker.until_route(THEIR_ROUTES[0][0]);
    bird.until_count(2);
}

#[test]
fn bird_drops_us_when_we_are_silent() {
    if ran_inside("sessions::bird_drops_us_when_we_are_silent") {
        return;
    }
    let session =
        Session { options: "multihop; passive yes; hold time 3;".into(), ..session(0, false, false) };
    let bird = Bird::start(session.clone(), &THEIR_ROUTES[0]);
    let speaker = Speaker::start(config(&session), &OUR_ROUTES[0]);
    bird.until_count(2);
    run("ip link set veth0 down");
    bird.until("show protocols all tortie", "Hold timer expired");
    run("ip link set veth0 up");
    bird.until_count(2);
    speaker.until_route(THEIR_ROUTES[0][0]);
}

#[test]
fn a_closing_bird_is_quoted() {
    if ran_inside("sessions::a_closing_bird_is_quoted") {
        return;
    }
    let session = session(0, false, false);
    let bird = Bird::start(session.clone(), &THEIR_ROUTES[0]);
    let speaker = Speaker::start(config(&session), &OUR_ROUTES[0]);
    speaker.until_route(THEIR_ROUTES[0][0]);
    bird.ask("disable tortie \"new cable\"");
    speaker.until_gone(THEIR_ROUTES[0][0]);
    let error = speaker.peer().last_error.unwrap();
    assert_eq!(error, "received NOTIFICATION Cease/Administrative Shutdown (new cable)");
    bird.ask("enable tortie");
    speaker.until_route(THEIR_ROUTES[0][0]);
}

#[test]
fn bird_asks_for_a_refresh() {
    if ran_inside("sessions::bird_asks_for_a_refresh") {
        return;
    }
    let session = session(0, false, false);
    let bird = Bird::start(session.clone(), &THEIR_ROUTES[0]);
    let speaker = Speaker::start(config(&session), &OUR_ROUTES[0]);
    bird.until_count(2);
    let updates = |bird: &Bird| -> u32 {
        let text = bird.ask("show protocols all tortie");
        let line = text.lines().find(|line| line.contains("Import updates:")).unwrap();
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    let before = updates(&bird);
    bird.ask("reload in tortie");
    super::lab::eventually("the routes told again", || (updates(&bird) >= before + 2).then_some(()));
    assert_eq!(speaker.peer().state, SessionState::Established);
    assert_eq!(speaker.peer().last_error, None);
}

#[test]
fn thousands_of_routes_both_ways() {
    if ran_inside("sessions::thousands_of_routes_both_ways") {
        return;
    }
    let session = session(0, true, false);
    let many = |net: u8| {
        (0..5000).map(move |i: u32| format!("10.{net}.{}.{}/32", i / 250, i % 250)).collect::<Vec<_>>()
    };
    let (ours, theirs) = (many(100), many(200));
    let bird = Bird::start(session.clone(), &theirs.iter().map(String::as_str).collect::<Vec<_>>());
    let speaker = Speaker::start(config(&session), &ours.iter().map(String::as_str).collect::<Vec<_>>());
    speaker.until("5000 routes", |snapshot| snapshot.routes.len() == 5000);
    bird.until_count(5000);
    speaker.originate(&["172.16.1.0/26"]);
    bird.until_count(1);
}

#[test]
fn a_relayed_route_carries_med_1_to_the_router() {
    if ran_inside("sessions::a_relayed_route_carries_med_1_to_the_router") {
        return;
    }
    let session = session(0, false, false);
    let bird = Bird::start(session.clone(), &THEIR_ROUTES[0]);
    run("ip address add 10.9.0.3/24 dev veth0");
    // Another node, in the mesh with the one that peers with the router.
    let mut other = config(&session);
    other.router_id = "3.3.3.3".parse().unwrap();
    other.listen = vec!["10.9.0.3:1790".parse().unwrap()];
    let mut mesh = PeerConfig::new("Mesh", 64512);
    mesh.passive = true;
    mesh.export = accept_all();
    mesh.local_address = Some("10.9.0.3".parse().unwrap());
    other.peers = [("10.9.0.1:179".parse().unwrap(), mesh.clone())].into();
    let other = Speaker::start(other, &["172.16.3.0/26"]);
    let mut ours = config(&session);
    mesh.passive = false;
    mesh.local_address = Some("10.9.0.1".parse().unwrap());
    ours.peers.insert("10.9.0.3:1790".parse().unwrap(), mesh);
    let _speaker = Speaker::start(ours, &OUR_ROUTES[0]);
    let text = bird.until("show route all 172.16.3.0/26", "172.16.3.0/26");
    assert!(text.contains("BGP.med: 1\n"), "{text}");
    assert!(text.contains("BGP.next_hop: 10.9.0.1\n"), "{text}");
    // And what the router says goes on to the mesh with the router as next hop.
    let seen = other.until_route(THEIR_ROUTES[0][0]);
    let next_hops = &seen.routes[&THEIR_ROUTES[0][0].parse().unwrap()].next_hops;
    assert_eq!(next_hops, &["10.9.0.2".parse::<std::net::IpAddr>().unwrap()]);
}
