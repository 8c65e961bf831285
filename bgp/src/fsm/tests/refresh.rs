//! ROUTE-REFRESH, plain and enhanced.

use super::*;
use crate::fsm::Mark;
use crate::wire::Capability;
use crate::wire::frame::message;
use crate::wire::notification::{code, header, refresh as subcode};
use crate::wire::refresh::{Subtype, encode};

fn established(open: &[u8]) -> (Bench, ConnId) {
    let mut bench = Bench::new(false);
    let conn = bench.connect();
    bench.receive(conn, open);
    bench.receive(conn, &frame::keepalive());
    assert_eq!(bench.state(), SessionState::Established);
    (bench, conn)
}

fn without(capability: &Capability) -> Vec<u8> {
    open_of(|open| open.capabilities.retain(|other| other != capability))
}

fn raw(body: &[u8]) -> Vec<u8> {
    message(Kind::Refresh, |out| out.extend(body))
}

#[test]
fn requests_and_marks_become_actions() {
    let (mut bench, conn) = established(&open(9));
    assert_eq!(bench.receive(conn, &encode(Family::Ipv4, Subtype::Request)), [Action::Refresh(Family::Ipv4)]);
    let begin = Action::Mark(Family::Ipv4, Mark::Begin);
    assert_eq!(bench.receive(conn, &encode(Family::Ipv4, Subtype::Begin)), [begin]);
    assert_eq!(
        bench.receive(conn, &encode(Family::Ipv4, Subtype::End)),
        [Action::Mark(Family::Ipv4, Mark::End)]
    );
}

#[test]
fn what_is_not_carried_or_means_nothing_is_ignored() {
    let (mut bench, conn) = established(&open(9));
    for body in [[0, 2, 0, 1], [0, 2, 1, 1], [0, 1, 3, 1], [0, 1, 255, 1], [0, 1, 0, 2], [9, 9, 0, 9]] {
        assert_eq!(bench.receive(conn, &raw(&body)), [], "{body:?}");
    }
    assert_eq!(bench.state(), SessionState::Established);
}

#[test]
fn marks_not_agreed_on_are_ignored() {
    let (mut bench, conn) = established(&without(&Capability::EnhancedRefresh));
    for subtype in [Subtype::Begin, Subtype::End] {
        assert_eq!(bench.receive(conn, &encode(Family::Ipv4, subtype)), []);
    }
    assert_eq!(bench.receive(conn, &raw(&[0, 1, 1, 1, 7])), [], "nor is their length judged");
    assert_eq!(bench.receive(conn, &encode(Family::Ipv4, Subtype::Request)), [Action::Refresh(Family::Ipv4)]);
}

/// RFC 7313 5.
#[test]
fn a_wrong_length_ends_the_session() {
    for body in [&[0, 1, 1, 1, 7][..], &[0, 1, 2, 1, 7, 7], &[0, 1, 0], &[0, 1], &[]] {
        let (mut bench, conn) = established(&open(9));
        let actions = bench.receive(conn, &raw(body)).to_vec();
        assert_eq!(sent(&actions, conn), [(Kind::Notification, code::REFRESH, subcode::LENGTH)], "{body:?}");
        let Action::Send(_, message) = &actions[0] else { panic!("{actions:?}") };
        assert_eq!(message[21..], raw(body), "with the whole message");
    }
    let (mut bench, conn) = established(&without(&Capability::EnhancedRefresh));
    let actions = bench.receive(conn, &raw(&[0, 1, 0])).to_vec();
    assert_eq!(sent(&actions, conn), [(Kind::Notification, code::HEADER, header::LENGTH)]);
    let (mut bench, conn) = established(&open(9));
    let filter = [0, 1, 0, 1, 1, 64, 0, 0];
    assert_eq!(
        bench.receive(conn, &raw(&filter)),
        [Action::Refresh(Family::Ipv4)],
        "a request may be longer"
    );
}

#[test]
fn the_data_of_a_notification_fits_every_peer() {
    let (mut bench, conn) = established(&open(9));
    let mut long = vec![0, 1, 1, 1];
    long.resize(60_000, 0);
    let message = raw(&long);
    let (frame, _) = frame::split_within(&message, bench.peer.longest(conn)).unwrap().unwrap();
    let actions = bench.act(|peer, now, out| drop(peer.frame(conn, frame, now, out))).to_vec();
    let Action::Send(_, notification) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(notification.len(), 4096);
}

#[test]
fn a_peer_is_asked_where_it_can_be_asked() {
    let (mut bench, conn) = established(&open(9));
    let mut asked = false;
    bench.act(|peer, now, out| asked = peer.request_refresh(now, out));
    assert!(asked);
    assert_eq!(bench.actions, [Action::Send(conn, encode(Family::Ipv4, Subtype::Request))]);
    let (mut bench, _) = established(&without(&Capability::RouteRefresh));
    bench.act(|peer, now, out| asked = peer.request_refresh(now, out));
    assert!(!asked && bench.actions.is_empty());
    let mut bench = Bench::new(false);
    bench.act(|peer, now, out| asked = peer.request_refresh(now, out));
    assert!(!asked);
}
