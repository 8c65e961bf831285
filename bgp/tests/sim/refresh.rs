//! Route refresh between marks (RFC 7313), both ways.

use std::collections::BTreeMap;

use tortie_bgp::family::Family;
use tortie_bgp::snapshot::SessionState;
use tortie_bgp::speaker::Input;
use tortie_bgp::table::OriginatedRoute;
use tortie_bgp::wire::Kind;
use tortie_bgp::wire::refresh::{self, Subtype};
use tortie_bgp::wire::update::end_of_rib;

use super::SECOND;
use super::raw::{Raw, capabilities, graceful};

/// RFC 7313: what a marked refresh does not bring again goes with its end, not before.
#[test]
fn a_marked_refresh_removes_what_it_does_not_bring() {
    let mut raw = Raw::new(|_| {});
    raw.connect(capabilities(&[Family::Ipv4]));
    raw.announce(&["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"]);
    raw.mark(Family::Ipv4, Subtype::Begin);
    raw.announce(&["192.0.2.0/24"]);
    // Once more from the beginning: what came since counts no more.
    raw.mark(Family::Ipv4, Subtype::Begin);
    raw.announce(&["198.51.100.0/24"]);
    raw.send(&end_of_rib(Family::Ipv4));
    assert_eq!(raw.prefixes().len(), 3, "End-of-RIB does not end a refresh");
    raw.mark(Family::Ipv4, Subtype::End);
    assert_eq!(raw.prefixes(), ["198.51.100.0/24"]);
    raw.mark(Family::Ipv4, Subtype::End);
    assert_eq!(raw.prefixes(), ["198.51.100.0/24"], "nothing is unconfirmed any more");
    assert_eq!(raw.faults(), ["end of a route refresh without its beginning; ignored"]);
}

#[test]
fn a_refresh_that_never_ends_is_ended_after_a_while() {
    let mut raw = Raw::new(|_| {});
    raw.connect(capabilities(&[Family::Ipv4]));
    raw.announce(&["192.0.2.0/24", "198.51.100.0/24"]);
    raw.mark(Family::Ipv4, Subtype::Begin);
    raw.announce(&["192.0.2.0/24"]);
    raw.run(SECOND * 299);
    assert_eq!(raw.prefixes().len(), 2);
    raw.run(SECOND);
    assert_eq!(raw.prefixes(), ["192.0.2.0/24"]);
    assert_eq!(raw.state(), SessionState::Established);
}

/// RFC 7313 4.2: a beginning before End-of-RIB would undo graceful restart.
#[test]
fn a_refresh_before_end_of_rib_is_ignored() {
    let mut raw = Raw::new(|_| {});
    let mut capabilities = capabilities(&[Family::Ipv4]);
    capabilities.push(graceful(&[(Family::Ipv4, true)]));
    raw.connect(capabilities);
    raw.announce(&["192.0.2.0/24"]);
    raw.mark(Family::Ipv4, Subtype::Begin);
    raw.mark(Family::Ipv4, Subtype::End);
    assert_eq!(raw.prefixes(), ["192.0.2.0/24"]);
    assert_eq!(raw.faults().len(), 2);
    raw.send(&end_of_rib(Family::Ipv4));
    raw.mark(Family::Ipv4, Subtype::Begin);
    raw.mark(Family::Ipv4, Subtype::End);
    assert!(raw.prefixes().is_empty());
}

#[test]
fn a_session_lost_in_the_middle_of_a_refresh_keeps_its_routes() {
    let mut raw = Raw::new(|_| {});
    let mut capabilities = capabilities(&[Family::Ipv4]);
    capabilities.push(graceful(&[(Family::Ipv4, true)]));
    raw.connect(capabilities.clone());
    raw.announce(&["192.0.2.0/24", "198.51.100.0/24"]);
    raw.send(&end_of_rib(Family::Ipv4));
    raw.mark(Family::Ipv4, Subtype::Begin);
    raw.announce(&["192.0.2.0/24"]);
    raw.lose();
    assert_eq!(raw.prefixes().len(), 2);
    raw.connect(capabilities);
    raw.announce(&["198.51.100.0/24"]);
    raw.send(&end_of_rib(Family::Ipv4));
    assert_eq!(raw.prefixes(), ["198.51.100.0/24"]);
}

/// What was told: marks, and how many octets of UPDATE at a time.
fn told(raw: &mut Raw) -> Vec<String> {
    let word = |(kind, body): (Kind, Vec<u8>)| match kind {
        Kind::Refresh => format!("{:?}", refresh::decode(&body).unwrap().1),
        Kind::Update if body == [0, 0, 0, 0] => "end of RIB".to_owned(),
        Kind::Update => "update".to_owned(),
        Kind::Open | Kind::Notification | Kind::Keepalive => format!("{kind:?}"),
    };
    std::mem::take(&mut raw.told).into_iter().map(word).collect()
}

fn originate(raw: &mut Raw) {
    let route = ("172.16.0.0/26".parse().unwrap(), OriginatedRoute { local_pref: 100 });
    raw.input(Input::Originate(BTreeMap::from([route])));
}

#[test]
fn what_is_asked_for_is_told_between_marks_where_both_know_them() {
    let mut raw = Raw::new(|_| {});
    originate(&mut raw);
    raw.connect(capabilities(&[Family::Ipv4]));
    raw.told.clear();
    raw.mark(Family::Ipv4, Subtype::Request);
    assert_eq!(told(&mut raw), ["Begin", "update", "End"]);
    raw.mark(Family::Ipv6, Subtype::Request);
    assert_eq!(told(&mut raw), Vec::<String>::new(), "not carried");
    raw.lose();
    let mut plain = capabilities(&[Family::Ipv4]);
    plain.retain(|capability| *capability != tortie_bgp::wire::Capability::EnhancedRefresh);
    raw.connect(plain);
    raw.told.clear();
    raw.mark(Family::Ipv4, Subtype::Request);
    assert_eq!(told(&mut raw), ["update"]);
}

/// RFC 7313 4.2: no beginning before End-of-RIB.
#[test]
fn before_end_of_rib_there_are_no_marks() {
    let mut raw = Raw::mute(|_| {});
    raw.connect(capabilities(&[Family::Ipv4]));
    raw.mark(Family::Ipv4, Subtype::Request);
    assert_eq!(told(&mut raw), Vec::<String>::new(), "nothing to tell yet");
    originate(&mut raw);
    assert_eq!(told(&mut raw), ["update", "end of RIB"]);
    raw.mark(Family::Ipv4, Subtype::Request);
    assert_eq!(told(&mut raw), ["Begin", "update", "End"]);
}
