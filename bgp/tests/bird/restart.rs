//! Graceful restart of either end.

use std::time::{Duration, Instant};

use tortie_bgp::snapshot::SessionState;

use super::lab::{Bird, Session, ran_inside};
use super::speaker::{Process, Speaker, config};

const ROUTES: [&str; 2] = ["192.0.2.0/24", "198.51.100.0/24"];
const BLOCKS: [&str; 2] = ["172.16.1.0/26", "172.16.1.64/26"];

fn session(their_as: u32, options: &str) -> Session {
    Session { family: 0, our_as: 64512, their_as, options: format!("multihop; hold time 30; {options}") }
}

/// Watches that BIRD keeps our two blocks until `done`, and a second longer.
fn watch(bird: &Bird, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + super::lab::DEADLINE;
    let mut done_at = None;
    loop {
        assert_eq!(bird.count(), 2, "BIRD lost routes; its log:\n{}", bird.log());
        if done_at.is_none() && done() {
            done_at = Some(Instant::now());
        }
        if done_at.is_some_and(|at| at.elapsed() > Duration::from_secs(1)) {
            return;
        }
        assert!(Instant::now() < end, "never done; BIRD's log:\n{}", bird.log());
    }
}

fn we_are_killed(their_as: u32, options: &str) {
    let session = session(their_as, options);
    let bird = Bird::start(session.clone(), &ROUTES);
    let mut first = Process::start(&session, &BLOCKS);
    bird.until_count(2);
    first.until("converged true");
    first.kill();
    let mut second = Process::start(&session, &[BLOCKS[0], BLOCKS[1], "--restarted"]);
    watch(&bird, || second.show().contains("converged true"));
    assert!(bird.is_established());
    let text = second.show();
    assert!(ROUTES.iter().all(|route| text.contains(route)), "{text}");
    let stale = bird.ask("show route all protocol tortie");
    assert!(!stale.contains("stale"), "{stale}");
    // A third life that knows one block less: BIRD drops the other one.
    second.kill();
    let _third = Process::start(&session, &[BLOCKS[0], "--restarted"]);
    bird.until_count(1);
}

#[test]
fn we_are_killed_external() {
    if !ran_inside("restart::we_are_killed_external") {
        we_are_killed(65000, "passive yes;");
    }
}

#[test]
fn we_are_killed_internal() {
    if !ran_inside("restart::we_are_killed_internal") {
        we_are_killed(64512, "passive yes;");
    }
}

#[test]
fn we_are_killed_and_both_dial() {
    if !ran_inside("restart::we_are_killed_and_both_dial") {
        we_are_killed(65000, "");
    }
}

#[test]
fn a_clean_stop_leaves_our_routes_in_bird() {
    if ran_inside("restart::a_clean_stop_leaves_our_routes_in_bird") {
        return;
    }
    let session = session(65000, "passive yes;");
    let bird = Bird::start(session.clone(), &ROUTES);
    let speaker = Speaker::start(config(&session), &BLOCKS);
    bird.until_count(2);
    speaker.shutdown();
    watch(&bird, || !bird.is_established());
    let mut next = Process::start(&session, &[BLOCKS[0], BLOCKS[1], "--restarted"]);
    watch(&bird, || next.show().contains("converged true"));
}

fn bird_is_killed(we_are_passive: bool) {
    let session = session(65000, if we_are_passive { "" } else { "passive yes;" });
    let mut bird = Bird::start(session.clone(), &ROUTES);
    let mut ours = config(&session);
    ours.peers.values_mut().for_each(|peer| peer.passive = we_are_passive);
    let mut speaker = Speaker::start(ours, &BLOCKS);
    ROUTES.iter().for_each(|route| drop(speaker.until_route(route)));
    bird.until_count(2);
    bird.kill();
    speaker.until("the loss noticed", |s| s.peers.values().all(|peer| peer.last_error.is_some()));
    assert_eq!(speaker.snapshot().routes.len(), 2);
    bird.launch(true);
    bird.until_count(2);
    bird.until("show status", "Daemon is up");
    super::lab::eventually("recovery done", || {
        (!bird.ask("show status").contains("Graceful restart recovery in progress")).then_some(())
    });
    assert_eq!(speaker.snapshot().routes.len(), 2);
    assert_eq!(speaker.lost(), []);
    // The next restart comes with one route less: it goes when BIRD has told the rest.
    bird.kill();
    speaker.until("the second loss noticed", |s| {
        s.peers.values().all(|peer| peer.state != SessionState::Established)
    });
    bird.launch(true);
    bird.set_routes(&ROUTES[..1]);
    speaker.until_gone(ROUTES[1]);
    // Snapshots and table events come by different ways: the event may be the later one.
    let lost = super::lab::eventually("the loss told", || {
        let lost = speaker.lost();
        (!lost.is_empty()).then_some(lost)
    });
    assert_eq!(lost, [ROUTES[1].parse().unwrap()]);
}

#[test]
fn bird_is_killed_we_dial() {
    if !ran_inside("restart::bird_is_killed_we_dial") {
        bird_is_killed(false);
    }
}

#[test]
fn bird_is_killed_bird_dials() {
    if !ran_inside("restart::bird_is_killed_bird_dials") {
        bird_is_killed(true);
    }
}
