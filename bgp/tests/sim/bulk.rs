//! Much of something: long attributes, long queues.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::{IpNetwork, Ipv4Network};
use tortie_bgp::family::Family;
use tortie_bgp::snapshot::SessionState;
use tortie_bgp::speaker::Input;
use tortie_bgp::table::OriginatedRoute;
use tortie_bgp::wire::frame::keepalive;
use tortie_bgp::wire::refresh::Subtype;
use tortie_bgp::wire::{Capability, Kind};

use super::raw::{Raw, capabilities};

/// So many blocks of 64 addresses.
fn blocks(count: u32) -> BTreeMap<IpNetwork, OriginatedRoute> {
    let block = |number: u32| Ipv4Network::new(Ipv4Addr::from(0x1400_0000 + number * 64), 26).unwrap();
    (0..count).map(|number| (block(number).into(), OriginatedRoute { local_pref: 100 })).collect()
}

/// An UPDATE whose AS_PATH has so many segments of 255 two-octet numbers.
fn long_path(segments: usize) -> Vec<u8> {
    let segment = [&[2, 255][..], &[0xfd, 0xe8].repeat(255)].concat();
    let path = segment.repeat(segments);
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 3, 4, 10, 0, 0, 2, 0x50, 2];
    attributes.extend(u16::try_from(path.len()).unwrap().to_be_bytes());
    attributes.extend(path);
    let mut message = vec![0xff; 16];
    let body =
        [&[0, 0][..], &u16::try_from(attributes.len()).unwrap().to_be_bytes(), &attributes, &[24, 10, 9, 9]]
            .concat();
    message.extend(u16::try_from(body.len() + 19).unwrap().to_be_bytes());
    message.push(2);
    message.extend(body);
    message
}

/// Two-octet numbers take twice the room in our tables: an extended message can hold a path that we cannot.
#[test]
fn a_path_too_long_to_be_kept_is_treated_as_withdrawn() {
    let mut raw = Raw::new(|_| {});
    let mut old = capabilities(&[Family::Ipv4]);
    old.retain(|capability| !matches!(capability, Capability::FourOctetAs(_)));
    old.push(Capability::ExtendedMessage);
    raw.connect(old);
    raw.send(&long_path(63));
    assert_eq!(raw.prefixes(), ["10.9.9.0/24"], "a path of 16065 numbers is one of few, but a path");
    raw.send(&long_path(127));
    assert_eq!(raw.state(), SessionState::Established);
    assert_eq!(raw.faults(), ["attribute 2: longer than can be kept; routes treated as withdrawn"]);
    assert_eq!(raw.prefixes(), Vec::<String>::new());
}

/// A header that no message can have, in two pieces with more behind it, is answered once and not read for ever.
#[test]
fn a_broken_header_in_two_pieces_ends_the_session() {
    for (at, octet) in [(0, 0), (17, 0), (17, 20), (18, 9)] {
        let mut raw = Raw::new(|_| {});
        raw.connect(capabilities(&[Family::Ipv4]));
        let mut message = keepalive();
        message[at] = octet;
        raw.send(&message[..1]);
        raw.send(&[&message[1..], &[0xff; 40]].concat());
        assert_eq!(raw.ended().code, 1, "a message header error for octet {at}");
    }
}

/// A refresh asked for while octets wait, but not so many that routes are held back, comes when they are gone.
#[test]
fn a_refresh_asked_for_while_octets_wait_is_answered_when_they_are_gone() {
    let mut raw = Raw::new(|_| {});
    raw.connect(capabilities(&[Family::Ipv4]));
    raw.input(Input::Sent { conn: raw.conn, octets: 1000 });
    raw.input(Input::Originate(blocks(80_000)));
    raw.told.clear();
    let sent = 80_000 * 5;
    assert!(sent > 1 << 18 && sent < 1 << 20, "between the marks of the queue");
    raw.mark(Family::Ipv4, Subtype::Request);
    assert_eq!(raw.told.len(), 0, "not yet");
    raw.input(Input::Sent { conn: raw.conn, octets: sent });
    let octets: usize =
        raw.told.iter().filter(|(kind, _)| *kind == Kind::Update).map(|(_, body)| body.len()).sum();
    assert!(octets > sent, "everything once more, not {octets} octets");
}
