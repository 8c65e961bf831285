//! What becomes of routes and dialling when a session ends.

use super::*;
use crate::fsm::Loss;
use crate::wire::notification::{cease, code};
use crate::wire::{Capability, Notification, WireError};

/// How an established session with these OPENs ends.
fn loss(their_open: &[u8], end: impl FnOnce(&mut Bench, ConnId)) -> (Loss, Vec<Action>) {
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    bench.receive(conn, their_open);
    bench.receive(conn, &frame::keepalive());
    assert_eq!(bench.state(), SessionState::Established);
    end(&mut bench, conn);
    let down = bench
        .actions
        .iter()
        .find_map(|action| if let Action::Down(loss) = action { Some(*loss) } else { None });
    (down.unwrap(), bench.actions.clone())
}

fn without_n() -> Vec<u8> {
    open_of(|open| {
        for capability in &mut open.capabilities {
            if let Capability::GracefulRestart(graceful) = capability {
                graceful.notification = false;
            }
        }
    })
}

/// RFC 8538 4: routes survive everything but a hard reset if both ends said N, and nothing but silence otherwise.
#[test]
fn which_notifications_routes_survive() {
    let hard = Notification::new(code::CEASE, cease::SHUTDOWN).hard();
    let received = [
        (Notification::new(code::HOLD_TIMER, 0), true),
        (Notification::new(code::UPDATE, 1), true),
        (Notification::new(code::CEASE, cease::SHUTDOWN), true),
        (Notification::new(code::CEASE, cease::RESET), true),
        (Notification::new(code::CEASE, cease::HARD_RESET), false),
        (hard, false),
    ];
    for (notification, kept) in received {
        let message = notification.encode();
        let (loss_n, _) = loss(&open(9), |bench, conn| {
            bench.receive(conn, &message);
        });
        assert_eq!(loss_n == Loss::Graceful, kept, "{notification}");
        let (loss_plain, _) = loss(&without_n(), |bench, conn| {
            bench.receive(conn, &message);
        });
        assert_eq!(loss_plain, Loss::Final, "{notification}");
    }
    for (open, expected) in [(open(9), Loss::Graceful), (without_n(), Loss::Final)] {
        let (hold, actions) = loss(&open, |bench, _| {
            bench.tick(90);
        });
        assert_eq!(hold, expected, "our hold timer");
        assert_eq!(actions.iter().filter(|action| matches!(action, Action::Send(..))).count(), 1);
        let (broken, _) = loss(&open, |bench, conn| {
            bench.act(|peer, now, out| peer.broken(conn, &WireError::Marker, now, out));
        });
        assert_eq!(broken, expected, "their octets");
        let (closed, _) = loss(&open, |bench, conn| {
            bench.act(|peer, now, out| peer.closed(conn, "reset", now, out));
        });
        assert_eq!(closed, Loss::Graceful);
    }
}

#[test]
fn what_ends_for_good_is_a_hard_reset_where_a_cease_would_keep_routes() {
    let first = |actions: &[Action]| {
        let Action::Send(_, message) = &actions[0] else { panic!("{actions:?}") };
        Notification::decode(&message[19..]).unwrap()
    };
    let stop = |bench: &mut Bench, _: ConnId| {
        bench.act(|peer, now, out| peer.stop(cease::DECONFIGURED, now, out));
    };
    let plain = Notification::new(code::CEASE, cease::DECONFIGURED);
    let (lost, actions) = loss(&without_n(), stop);
    assert_eq!((lost, first(&actions)), (Loss::Final, plain.clone()));
    let (lost, actions) = loss(&open(9), stop);
    assert_eq!((lost, first(&actions)), (Loss::Final, plain.hard()));
    assert_eq!(first(&actions).to_string(), "Cease/Peer De-configured, hard reset");
}

fn settings_with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings(false);
    change(&mut settings);
    settings
}

#[test]
fn a_shut_down_peer_neither_dials_nor_is_taken() {
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    bench.receive(conn, &without_n());
    bench.receive(conn, &frame::keepalive());
    let down = settings_with(|s| s.shutdown = Some("new cable".into()));
    let actions = bench.act(|peer, now, out| peer.set_settings(down.clone(), now, out)).to_vec();
    let cease = Notification::with_words(cease::SHUTDOWN, "new cable");
    let expected = [Action::Send(conn, cease.encode()), Action::Close(conn), Action::Down(Loss::Final)];
    assert_eq!(actions, expected);
    assert_eq!((bench.state(), bench.error()), (SessionState::Idle, "administratively down (new cable)"));
    assert_eq!(bench.tick(1000), []);
    assert_eq!(bench.peer.deadline(), None);
    // Another change leaves it down.
    bench.act(|peer, now, out| {
        peer.set_settings(Settings { hold_time: Duration::from_secs(9), ..down }, now, out)
    });
    assert_eq!(bench.tick(1000), []);
    assert_eq!(bench.state(), SessionState::Idle);
    let accepted = ConnId::Accepted(1);
    bench.accept(1);
    assert_eq!(bench.actions, [Action::Send(accepted, cease.encode()), Action::Close(accepted)]);
    bench.act(|peer, now, out| peer.set_settings(settings(false), now, out));
    assert_eq!((bench.state(), bench.error()), (SessionState::Active, ""));
    assert!(matches!(bench.tick(0), [Action::Dial(_)]));
}

#[test]
fn a_peer_that_begins_shut_down_stays_so() {
    let now = Instant::now();
    let mut peer = Peer::new(settings_with(|s| s.shutdown = Some(String::new())), 1, now);
    assert_eq!((peer.status().0, peer.status().2), (SessionState::Idle, Some("administratively down")));
    let mut out = Vec::new();
    peer.tick(now + Duration::from_secs(100), &mut out);
    assert_eq!((peer.deadline(), out), (None, vec![]));
}

#[test]
fn too_many_prefixes_keep_a_peer_down_until_its_configuration_changes() {
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    bench.receive(conn, &without_n());
    bench.receive(conn, &frame::keepalive());
    let actions = bench.act(|peer, now, out| peer.over_limit(Family::Ipv6, 300, now, out)).to_vec();
    let cease = Notification { code: 6, subcode: 1, data: vec![0, 2, 1, 0, 0, 1, 44] };
    assert_eq!(actions, [Action::Send(conn, cease.encode()), Action::Close(conn), Action::Down(Loss::Final)]);
    assert_eq!(bench.state(), SessionState::Idle);
    assert_eq!(
        bench.error(),
        "prefix limit of 300 exceeded (IPv6 unicast), sent NOTIFICATION Cease/Maximum Number of Prefixes Reached; \
         down until its configuration changes"
    );
    assert!(bench.peer.is_held());
    assert_eq!(bench.tick(10_000), []);
    assert_eq!(bench.peer.deadline(), None);
    bench.accept(1);
    assert_eq!(
        sent(&bench.actions, ConnId::Accepted(1)),
        [(Kind::Notification, code::CEASE, cease::REJECTED)]
    );
    bench.act(|peer, now, out| peer.set_settings(settings(false), now, out));
    assert!(matches!(bench.tick(0), [Action::Dial(_)]));
    // Without a session there is nothing to end.
    assert_eq!(bench.act(|peer, now, out| peer.over_limit(Family::Ipv4, 1, now, out)), []);
    assert_eq!(bench.state(), SessionState::Connect);
}

#[test]
fn the_shortest_hold_time_is_three_seconds() {
    for (configured, proposed) in [(0, 0), (1, 3), (3, 3), (90, 90)] {
        let settings = settings_with(|s| s.hold_time = Duration::from_secs(configured));
        assert_eq!(settings.open(false).hold_time, proposed);
    }
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    bench.receive(conn, &open_of(|open| open.hold_time = 3));
    bench.receive(conn, &frame::keepalive());
    let keepalive = bench.peer.deadline().unwrap() - bench.now;
    assert!(keepalive >= Duration::from_millis(750) && keepalive <= Duration::from_secs(1), "{keepalive:?}");
}
