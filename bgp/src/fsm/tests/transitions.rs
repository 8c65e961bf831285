//! What each event does in each state.

use super::*;
use crate::fsm::Loss;
use crate::wire::notification::{cease, code};
use crate::wire::update::end_of_rib;
use crate::wire::{Capability, Notification};

#[test]
fn the_way_up() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.state(), SessionState::Active);
    bench.tick(0);
    assert_eq!(bench.state(), SessionState::Connect);
    let [Action::Dial(conn)] = bench.actions[..] else { panic!("{:?}", bench.actions) };
    let actions = bench.act(|peer, now, out| peer.connected(conn, LOCAL, now, out));
    assert_eq!(sent(actions, conn), [(Kind::Open, 0, 0)]);
    assert_eq!(bench.state(), SessionState::OpenSent);
    assert_eq!(sent(bench.receive(conn, &open(9)), conn), [(Kind::Keepalive, 0, 0)]);
    assert_eq!(bench.state(), SessionState::OpenConfirm);
    let actions = bench.receive(conn, &frame::keepalive());
    let [Action::Up(session)] = actions else { panic!("{actions:?}") };
    assert_eq!((session.conn, session.local, session.four_octet), (conn, LOCAL, true));
    assert_eq!(session.keepalive_time, Duration::from_secs(30));
    assert_eq!(bench.state(), SessionState::Established);
}

/// A thousand peers have a thousand such lists.
#[test]
fn a_list_of_connections_has_room_for_those_in_it() {
    let mut bench = Bench::new(false);
    bench.connect();
    assert_eq!(bench.peer.connections.capacity(), 1);
    bench.accept(1);
    assert_eq!(bench.peer.connections.len(), 2);
    assert_eq!(bench.peer.connections.capacity(), 2);
}

/// Every message in every state; what is out of place names the state (RFC 6608).
#[test]
fn messages_out_of_place() {
    let keepalive = frame::keepalive();
    let update = end_of_rib(Family::Ipv4);
    let refresh = frame::message(Kind::Refresh, |out| out.extend([0, 1, 0, 1]));
    let open = open(9);
    for (stage, subcode, fine) in
        [(0, 1, vec![&open]), (1, 2, vec![&keepalive]), (2, 3, vec![&keepalive, &update, &refresh])]
    {
        for message in [&open, &keepalive, &update, &refresh] {
            let mut bench = Bench::new(false);
            let conn = bench.connect();
            if stage > 0 {
                bench.receive(conn, &open);
            }
            if stage > 1 {
                bench.receive(conn, &keepalive);
            }
            let actions = bench.receive(conn, message).to_vec();
            let refused = sent(&actions, conn).contains(&(Kind::Notification, code::FSM, subcode));
            assert_eq!(refused, !fine.contains(&message), "{stage} {message:?}: {actions:?}");
            assert_eq!(closed(&actions, conn), refused);
            assert_eq!(actions.contains(&Action::Down(Loss::Graceful)), refused && stage == 2);
        }
    }
}

#[test]
fn a_notification_ends_every_stage_and_backs_off() {
    let notification = Notification::new(code::CEASE, cease::RESET).encode();
    for stage in 0..3 {
        let mut bench = Bench::new(false);
        let conn = bench.connect();
        if stage > 0 {
            bench.receive(conn, &open(9));
        }
        if stage > 1 {
            bench.receive(conn, &frame::keepalive());
        }
        let actions = bench.receive(conn, &notification).to_vec();
        assert!(closed(&actions, conn) && sent(&actions, conn).is_empty(), "never answered");
        assert_eq!(actions.contains(&Action::Down(Loss::Graceful)), stage == 2);
        assert_eq!(bench.state(), SessionState::Idle);
        assert_eq!(bench.error(), "received NOTIFICATION Cease/Administrative Reset");
        assert_eq!(bench.tick(4), []);
        assert!(matches!(bench.tick(1), [Action::Dial(_)]));
    }
}

#[test]
fn the_back_off_doubles_and_is_forgotten() {
    let mut bench = Bench::new(false);
    let fail = |bench: &mut Bench| {
        let conn = bench.connect();
        bench.receive(conn, &Notification::new(code::CEASE, cease::RESET).encode());
        bench.peer.deadline().unwrap().duration_since(bench.now).as_secs()
    };
    for expected in [5, 10, 20, 30, 30] {
        let pause = fail(&mut bench);
        assert_eq!(pause, expected);
        bench.now += Duration::from_secs(pause);
    }
    bench.now += Duration::from_secs(300);
    assert_eq!(fail(&mut bench), 5);
}

#[test]
fn refused_dials_come_quickly_first() {
    let mut bench = Bench::new(false);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        bench.now = bench.peer.deadline().unwrap();
        bench.tick(0);
        let [Action::Dial(conn)] = bench.actions[..] else { panic!("{:?}", bench.actions) };
        bench.act(|peer, now, _| peer.dial_failed(conn, "Connection refused", now));
        pauses.push(bench.peer.deadline().unwrap().duration_since(bench.now).as_millis());
    }
    for (pause, most) in pauses.into_iter().zip([250, 500, 1000, 2000, 4000, 5000, 5000]) {
        assert!((most * 3 / 4..=most).contains(&pause), "{pause} of {most}");
    }
    assert_eq!(bench.error(), "connect: Connection refused");
}

#[test]
fn a_dial_without_an_answer_is_given_up() {
    let mut bench = Bench::new(false);
    bench.tick(0);
    let [Action::Dial(conn)] = bench.actions[..] else { panic!("{:?}", bench.actions) };
    assert_eq!(bench.tick(5), [Action::Close(conn)]);
    assert_eq!(bench.error(), "connect: no answer");
    let late = bench.act(|peer, now, out| peer.connected(conn, LOCAL, now, out)).to_vec();
    assert_eq!(late, [Action::Close(conn)], "an answer that comes too late");
}

#[test]
fn a_passive_peer_never_dials() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.tick(1000), []);
    assert_eq!(bench.peer.deadline(), None);
    let conn = bench.accept(1);
    bench.establish(conn, 9);
    bench.act(|peer, now, out| peer.closed(conn, "reset", now, out));
    assert_eq!(bench.tick(1000), []);
}

#[test]
fn hold_and_keepalive_timers() {
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    assert_eq!(bench.tick(239), [], "the peer has four minutes for its OPEN");
    bench.establish(conn, 9);
    assert_eq!(sent(bench.tick(30), conn), [(Kind::Keepalive, 0, 0)]);
    bench.act(|peer, now, _| peer.spoke(conn, now + Duration::from_secs(20)));
    assert_eq!(bench.tick(42), [], "an UPDATE serves as well");
    bench.receive(conn, &frame::keepalive());
    assert_eq!(sent(bench.tick(89), conn), [(Kind::Keepalive, 0, 0)]);
    let actions = bench.tick(1).to_vec();
    assert_eq!(sent(&actions, conn), [(Kind::Notification, code::HOLD_TIMER, 0)]);
    assert!(actions.contains(&Action::Down(Loss::Graceful)));
    assert_eq!(bench.error(), "sent NOTIFICATION Hold Timer Expired");
}

#[test]
fn a_hold_time_of_zero_switches_the_timers_off() {
    let mut bench = Bench::new(true);
    let conn = bench.accept(1);
    bench.receive(conn, &open_of(|open| open.hold_time = 0));
    assert!(bench.peer.deadline().is_some(), "but the KEEPALIVE has to come");
    bench.receive(conn, &frame::keepalive());
    assert_eq!(bench.peer.deadline(), None);
}

#[test]
fn opens_that_are_refused() {
    type Change = fn(&mut Open);
    let cases: [(Change, u8, &str); 6] = [
        (|o| (o.asn, o.capabilities) = (65001, vec![]), 2, "peer says AS 65001, configured is AS 64512"),
        (|o| o.router_id = Ipv4Addr::UNSPECIFIED, 3, "BGP identifier 0.0.0.0"),
        (|o| o.router_id = Ipv4Addr::new(5, 5, 5, 5), 3, "BGP identifier 5.5.5.5"),
        (|o| o.hold_time = 1, 6, "hold time 1 s"),
        (|o| o.hold_time = 2, 6, "hold time 2 s"),
        (|o| o.capabilities = vec![Capability::Multiprotocol(2, 1)], 7, "peer does not carry IPv4 unicast"),
    ];
    for (change, subcode, words) in cases {
        let mut bench = Bench::new(false);
        let conn = bench.connect();
        let actions = bench.receive(conn, &open_of(change)).to_vec();
        assert_eq!(sent(&actions, conn), [(Kind::Notification, code::OPEN, subcode)], "{words}");
        assert!(closed(&actions, conn) && bench.error().contains(words), "{}", bench.error());
    }
}

#[test]
fn a_speaker_without_capabilities_carries_ipv4_with_short_numbers() {
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    bench.receive(conn, &open_of(|open| open.capabilities.clear()));
    let actions = bench.receive(conn, &frame::keepalive());
    let [Action::Up(session)] = actions else { panic!("{actions:?}") };
    assert!(!session.four_octet && session.restart.is_none());
}

/// RFC 4271 6.8. We are 5.5.5.5; the higher identifier's connection stays, however the OPENs are ordered.
#[test]
fn collisions() {
    for (remote, dialled_stays) in [(9, false), (2, true)] {
        for dialled_first in [true, false] {
            let mut bench = Bench::new(false);
            let dialled = bench.connect();
            let accepted = bench.accept(1);
            let order = if dialled_first { [dialled, accepted] } else { [accepted, dialled] };
            let mut all = bench.receive(order[0], &open(remote)).to_vec();
            all.extend(bench.receive(order[1], &open(remote)).to_vec());
            let (stays, goes) = if dialled_stays { (dialled, accepted) } else { (accepted, dialled) };
            assert!(closed(&all, goes) && !closed(&all, stays), "{remote} {dialled_first}: {all:?}");
            assert!(sent(&all, goes).contains(&(Kind::Notification, code::CEASE, cease::COLLISION)));
            bench.receive(stays, &frame::keepalive());
            assert_eq!(bench.state(), SessionState::Established);
            assert_eq!(bench.error(), "");
        }
    }
}

/// RFC 6286 2.3: with equal identifiers the higher AS number's connection stays.
#[test]
fn collisions_of_equal_identifiers() {
    for (remote_as, dialled_stays) in [(64511, true), (64513, false)] {
        let mut bench = Bench::new(false);
        bench.act(|peer, now, out| peer.set_settings(Settings { remote_as, ..settings(false) }, now, out));
        let theirs = open_of(|open| {
            open.router_id = Ipv4Addr::new(5, 5, 5, 5);
            open.asn = remote_as;
            open.capabilities.retain(|capability| !matches!(capability, Capability::FourOctetAs(_)));
        });
        let dialled = bench.connect();
        let accepted = bench.accept(1);
        let mut all = bench.receive(dialled, &theirs).to_vec();
        all.extend(bench.receive(accepted, &theirs).to_vec());
        assert_eq!((closed(&all, accepted), closed(&all, dialled)), (dialled_stays, !dialled_stays));
    }
}

#[test]
fn the_established_connection_closes_the_other() {
    let mut bench = Bench::new(false);
    let dialled = bench.connect();
    let accepted = bench.accept(1);
    bench.receive(dialled, &open(9));
    let actions = bench.receive(dialled, &frame::keepalive()).to_vec();
    assert!(closed(&actions, accepted));
    assert_eq!(bench.state(), SessionState::Established);
}

#[test]
fn a_late_second_connection_is_a_collision_first_and_a_restart_later() {
    let mut bench = Bench::new(false);
    let dialled = bench.connect();
    bench.establish(dialled, 9);
    let early = bench.accept(1);
    let actions = bench.receive(early, &open(9)).to_vec();
    assert!(closed(&actions, early) && !closed(&actions, dialled));
    assert_eq!(sent(&actions, dialled), [(Kind::Keepalive, 0, 0)], "a probe of the old connection");
    bench.tick(10);
    let late = bench.accept(2);
    let actions = bench.receive(late, &open(9)).to_vec();
    assert!(closed(&actions, dialled) && !closed(&actions, late));
    assert!(sent(&actions, dialled).is_empty(), "no NOTIFICATION: routes are kept");
    assert!(actions.contains(&Action::Down(Loss::Graceful)));
}

#[test]
fn a_peer_that_dialled_and_dials_again_has_restarted() {
    let mut bench = Bench::new(true);
    let first = bench.accept(1);
    bench.establish(first, 9);
    let second = bench.accept(2);
    let actions = bench.receive(second, &open_of(|o| (o.asn, o.capabilities) = (1, vec![]))).to_vec();
    assert!(!closed(&actions, first), "an OPEN that is not acceptable proves nothing");
    let third = bench.accept(3);
    let actions = bench.receive(third, &open(9)).to_vec();
    assert!(closed(&actions, first) && actions.contains(&Action::Down(Loss::Graceful)));
    bench.receive(third, &frame::keepalive());
    assert_eq!(bench.state(), SessionState::Established);
}

#[test]
fn a_lost_session_is_dialled_again_at_once() {
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    bench.establish(conn, 9);
    bench.now += Duration::from_secs(20);
    let actions =
        bench.act(|peer, now, out| peer.closed(conn, "connection closed by peer", now, out)).to_vec();
    assert_eq!(actions, [Action::Down(Loss::Graceful)]);
    assert!(matches!(bench.tick(0), [Action::Dial(_)]));
}

#[test]
fn stopping_says_why() {
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    bench.establish(conn, 9);
    let actions = bench.act(|peer, now, out| peer.stop(cease::DECONFIGURED, now, out)).to_vec();
    assert_eq!(sent(&actions, conn), [(Kind::Notification, code::CEASE, cease::HARD_RESET)]);
    assert_eq!(bench.error(), "sent NOTIFICATION Cease/Peer De-configured");
    assert_eq!(actions[1..], [Action::Close(conn), Action::Down(Loss::Final)]);
    assert_eq!(bench.peer.deadline(), None);
}

/// Each end chose another connection and both are closed: only the end whose connections stay in collisions dials.
#[test]
fn after_a_collision_that_killed_both_only_one_end_dials_at_once() {
    for (remote, pause) in [(2, 250), (9, 5000)] {
        let mut bench = Bench::new(false);
        let conn = bench.connect();
        bench.receive(conn, &open(remote));
        bench.receive(conn, &Notification::new(code::CEASE, cease::COLLISION).encode());
        assert_eq!(bench.peer.deadline().unwrap().duration_since(bench.now).as_millis(), pause);
        assert_eq!(bench.error(), "");
    }
}
