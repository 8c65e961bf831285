//! TCP-MD5 and GTSM: they work with BIRD, and without them there is no session.

use std::time::Duration;

use tortie_bgp::snapshot::SessionState;

use super::lab::{Bird, Session, ran_inside};
use super::speaker::{Speaker, config};

const ROUTES: [&str; 1] = ["192.0.2.0/24"];

fn session(options: &str) -> Session {
    Session { family: 0, our_as: 64512, their_as: 65000, options: format!("hold time 30; {options}") }
}

fn md5(we_are_passive: bool) {
    let passive = if we_are_passive { "" } else { "passive yes;" };
    let session = session(&format!("multihop; hold time 9; password \"secret\"; {passive}"));
    let mut bird = Bird::start(session.clone(), &ROUTES);
    let mut ours = config(&session);
    ours.peers.values_mut().for_each(|peer| {
        peer.passive = we_are_passive;
        peer.password = Some("secret".into());
    });
    let speaker = Speaker::start(ours, &["172.16.1.0/26"]);
    speaker.until_route(ROUTES[0]);
    bird.until_count(1);
    // A key that does not fit ends the session by its hold time and keeps it down, whoever is wrong.
    speaker
        .configure(|config| config.peers.values_mut().for_each(|peer| peer.password = Some("wrong".into())));
    speaker.until_gone(ROUTES[0]);
    stays_down(&speaker);
    bird.set_options(&format!("multihop; hold time 9; password \"wrong\"; {passive}"), &ROUTES);
    speaker.until_route(ROUTES[0]);
}

/// No session for longer than a whole round of attempts.
fn stays_down(speaker: &Speaker) {
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        assert_ne!(speaker.peer().state, SessionState::Established);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn md5_we_dial() {
    if !ran_inside("protection::md5_we_dial") {
        md5(false);
    }
}

#[test]
fn md5_they_dial() {
    if !ran_inside("protection::md5_they_dial") {
        md5(true);
    }
}

fn gtsm(family: usize, we_are_passive: bool) {
    let passive = if we_are_passive { "" } else { "passive yes;" };
    let session = Session { family, ..session(&format!("direct; ttl security on; {passive}")) };
    let route = ["192.0.2.0/24", "fd02::/64"][family];
    let mut bird = Bird::start(session.clone(), &[route]);
    let mut ours = config(&session);
    ours.peers.values_mut().for_each(|peer| {
        peer.passive = we_are_passive;
        peer.ttl_security = Some(1);
    });
    let speaker = Speaker::start(ours, &[]);
    speaker.until_route(route);
    // Without it BIRD sends with a TTL of 64 or 1, as anyone far away could.
    bird.set_options(&format!("multihop; {passive}"), &[route]);
    speaker
        .until("the session down", |s| s.peers.values().all(|peer| peer.state != SessionState::Established));
    stays_down(&speaker);
}

#[test]
fn gtsm_ipv4_we_dial() {
    if !ran_inside("protection::gtsm_ipv4_we_dial") {
        gtsm(0, false);
    }
}

#[test]
fn gtsm_ipv4_they_dial() {
    if !ran_inside("protection::gtsm_ipv4_they_dial") {
        gtsm(0, true);
    }
}

#[test]
fn gtsm_ipv6_we_dial() {
    if !ran_inside("protection::gtsm_ipv6_we_dial") {
        gtsm(1, false);
    }
}
