//! What a session may have beyond the plain one, with BIRD at the other end: long messages, roles, words at the end,
//! limits, short hold times.

use std::time::Duration;

use tortie_bgp::PeerConfig;
use tortie_bgp::config::Role;
use tortie_bgp::snapshot::SessionState;

use super::lab::{Bird, Session, eventually, ran_inside};
use super::speaker::{Speaker, config};

const ROUTES: [&str; 3] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];

/// BIRD as AS 65000 with these options, and us with this change.
fn lab(options: &str, routes: &[&str], change: impl FnOnce(&mut PeerConfig)) -> (Bird, Speaker) {
    let options = format!("multihop; {options}");
    let session = Session { family: 0, our_as: 64512, their_as: 65000, options };
    let bird = Bird::start(session.clone(), routes);
    let mut ours = config(&session);
    change(ours.peers.values_mut().next().unwrap());
    (bird, Speaker::start(ours, &["172.16.1.0/26"]))
}

fn last_error(speaker: &Speaker) -> String {
    speaker.peer().last_error.unwrap_or_default()
}

#[test]
fn a_route_too_long_for_a_plain_message_arrives_in_an_extended_one() {
    if ran_inside("options::a_route_too_long_for_a_plain_message_arrives_in_an_extended_one") {
        return;
    }
    // 1200 communities are 4800 octets. What stands after the prefix goes into BIRD's configuration as it is.
    let communities: String = (0..1200).map(|i| format!("bgp_community.add((65000,{i}));")).collect();
    let long = format!("{} blackhole {{ {communities} }};\nroute {}", ROUTES[0], ROUTES[1]);
    let (bird, speaker) = lab("enable extended messages on;", &[&long], |_| {});
    speaker.until_route(ROUTES[1]);
    speaker.until_route(ROUTES[0]);
    let text = bird.ask("show protocols all tortie");
    assert_eq!(text.matches("Extended message").count(), 2, "{text}");
    assert_eq!(text.matches("Enhanced refresh").count(), 2, "{text}");
    assert_eq!(last_error(&speaker), "");
}

#[test]
fn a_role_marks_routes_and_keeps_wrong_ends_apart() {
    if ran_inside("options::a_role_marks_routes_and_keeps_wrong_ends_apart") {
        return;
    }
    let provider = |peer: &mut PeerConfig| (peer.role, peer.strict_role) = (Some(Role::Provider), true);
    let (mut bird, speaker) = lab("local role customer; require roles on;", &ROUTES, provider);
    speaker.until_route(ROUTES[0]);
    let text = bird.until("show route all 172.16.1.0/26", "172.16.1.0/26");
    assert!(text.contains("BGP.otc: 64512"), "{text}");
    bird.set_options("multihop; local role peer;", &ROUTES);
    let mismatch = "OPEN Message Error/Role Mismatch";
    eventually("the mismatch", || last_error(&speaker).contains(mismatch).then_some(()));
    bird.set_options("multihop;", &ROUTES);
    eventually("the missing role", || last_error(&speaker).contains("announces no role").then_some(()));
    // What a provider says is for customers only: it is taken, and marked by BIRD.
    bird.set_options("multihop; local role provider;", &ROUTES);
    speaker.configure(|config| {
        let peer = config.peers.values_mut().next().unwrap();
        peer.role = Some(Role::Customer);
    });
    speaker.until_route(ROUTES[0]);
}

#[test]
fn bird_hears_our_words_and_waits() {
    if ran_inside("options::bird_hears_our_words_and_waits") {
        return;
    }
    let (bird, speaker) = lab("", &ROUTES, |_| {});
    speaker.until_route(ROUTES[0]);
    speaker.configure(|config| {
        config.peers.values_mut().for_each(|peer| peer.shutdown = Some("new cable".into()));
    });
    eventually("our words in BIRD's log", || bird.log().contains("new cable").then_some(()));
    speaker.until_gone(ROUTES[0]);
    assert_eq!(speaker.peer().state, SessionState::Idle);
    assert_eq!(last_error(&speaker), "administratively down (new cable)");
    speaker.configure(|_| {});
    speaker.until_route(ROUTES[0]);
}

#[test]
fn a_limit_ends_the_session_until_it_is_raised() {
    if ran_inside("options::a_limit_ends_the_session_until_it_is_raised") {
        return;
    }
    let (bird, speaker) = lab("", &ROUTES[..2], |peer| peer.max_prefixes = Some(2));
    speaker.until_route(ROUTES[1]);
    bird.set_routes(&ROUTES);
    speaker.until_gone(ROUTES[1]);
    bird.until("show protocols all tortie", "Maximum number of prefixes reached");
    assert!(
        last_error(&speaker).contains("prefix limit of 2 exceeded (IPv4 unicast)"),
        "{}",
        last_error(&speaker)
    );
    // BIRD dials every second or two, and is refused.
    eventually("a refused connection", || bird.log().contains("Connection rejected").then_some(()));
    assert_eq!(speaker.peer().state, SessionState::Idle);
    speaker.configure(|config| {
        config.peers.values_mut().for_each(|peer| peer.max_prefixes = Some(3));
    });
    speaker.until_route(ROUTES[2]);
}

#[test]
fn a_hold_time_of_three_seconds_outlives_many_of_them() {
    if ran_inside("options::a_hold_time_of_three_seconds_outlives_many_of_them") {
        return;
    }
    let (bird, speaker) = lab("hold time 3;", &ROUTES, |peer| peer.hold_time = Duration::from_secs(3));
    speaker.until_route(ROUTES[0]);
    speaker.until("four hold times in one session", |snapshot| {
        let peer = snapshot.peers.values().next().unwrap();
        assert_eq!(peer.state, SessionState::Established, "{peer:?}");
        peer.since > Duration::from_secs(12)
    });
    bird.signal("STOP");
    speaker.until("the end of a silent session", |snapshot| {
        snapshot.peers.values().all(|peer| peer.state != SessionState::Established)
    });
    assert_eq!(last_error(&speaker), "sent NOTIFICATION Hold Timer Expired");
    bird.signal("CONT");
    speaker.until_route(ROUTES[0]);
}
