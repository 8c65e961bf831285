//! Encode, then decode: the same.

use proptest::collection::vec;
use proptest::prelude::*;
use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::update::{Encoded, Layout, RawUpdate, end_of_rib};
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Context, Frame, Kind, Notification, Open, PathAttributes, Reading, as_path, frame};

use super::strategies;

/// All messages of a stream, each within bounds.
fn messages(stream: &[u8]) -> Vec<Frame<'_>> {
    messages_within(stream, frame::MAX_MESSAGE)
}

fn messages_within(mut stream: &[u8], longest: usize) -> Vec<Frame<'_>> {
    let mut all = Vec::new();
    while let Some((frame, rest)) = frame::split_within(stream, longest).unwrap() {
        assert!(stream.len() - rest.len() <= longest);
        all.push(frame);
        stream = rest;
    }
    assert!(stream.is_empty());
    all
}

fn context(family: Family, four_octet: bool) -> Context {
    Context::plain(true, four_octet, &[family])
}

/// What a receiver makes of an announcement.
fn received(stream: &[u8], context: Context, layout: Layout) -> (Vec<Nlri>, Vec<PathAttributes<'_>>) {
    let mut prefixes = Vec::new();
    let mut attributes = Vec::new();
    for message in messages_within(stream, layout.max_message) {
        assert_eq!(message.kind, Kind::Update);
        let update = judge(RawUpdate::decode(message.body).unwrap(), context).unwrap();
        assert_eq!((update.faults, update.withdrawn, update.end_of_rib), (vec![], vec![], None));
        prefixes.extend(update.announced);
        attributes.extend(update.attributes);
    }
    (prefixes, attributes)
}

fn context_of(layout: Layout, four_octet: bool) -> Context {
    let reading = Some(Reading { add_path: layout.add_path, extended_next_hop: false });
    match layout.family {
        Family::Ipv4 => Context { ipv4: reading, ..context(layout.family, four_octet) },
        Family::Ipv6 => Context { ipv6: reading, ..context(layout.family, four_octet) },
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    (strategies::family(), any::<bool>(), prop_oneof![Just(frame::MAX_MESSAGE), Just(65535)])
        .prop_map(|(family, add_path, max_message)| Layout { family, add_path, max_message })
}

fn nlri(layout: Layout) -> impl Strategy<Value = Nlri> {
    (strategies::prefix(layout.family), any::<u32>())
        .prop_map(move |(prefix, id)| Nlri { prefix, path_id: if layout.add_path { id } else { 0 } })
}

fn with_prefixes(most: usize) -> impl Strategy<Value = (Layout, Vec<Nlri>)> {
    layout().prop_flat_map(move |layout| (Just(layout), vec(nlri(layout), 1..most)))
}

fn with_attributes() -> impl Strategy<Value = (Layout, PathAttributes<'static>, Vec<Nlri>)> {
    layout().prop_flat_map(|layout| {
        (Just(layout), strategies::attributes(layout.family), vec(nlri(layout), 1..1500))
    })
}

proptest! {
    #[test]
    fn open(open in strategies::open()) {
        let encoded = open.encode();
        let all = messages(&encoded);
        prop_assert_eq!(all[0].kind, Kind::Open);
        prop_assert_eq!(Open::decode(all[0].body).unwrap(), open);
    }

    #[test]
    fn notification(code: u8, subcode: u8, data in vec(any::<u8>(), 0..200)) {
        let notification = Notification { code, subcode, data };
        let encoded = notification.encode();
        let all = messages(&encoded);
        prop_assert_eq!(Notification::decode(all[0].body), Some(notification));
    }

    #[test]
    fn announcements((layout, attributes, prefixes) in with_attributes()) {
        let (mut head, mut tail, mut out) = (vec![], vec![], vec![]);
        attributes.encode_head(&mut head);
        attributes.encode_tail(&mut tail);
        let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
        prop_assert!(layout.announce(&mut out, encoded, prefixes.iter()));
        let (seen, all) = received(&out, context_of(layout, true), layout);
        prop_assert_eq!(seen, prefixes);
        prop_assert!(all.iter().all(|seen| *seen == attributes), "{:?}\n{:?}", all, attributes);
    }

    /// Through a session of two-octet AS numbers nothing is lost either (RFC 6793).
    #[test]
    fn announcements_to_old_speakers((layout, attributes, prefixes) in with_attributes()) {
        let (head, tail) = attributes.encode_narrow();
        let mut out = vec![];
        let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
        prop_assert!(layout.announce(&mut out, encoded, prefixes.iter()));
        let (seen, all) = received(&out, context_of(layout, false), layout);
        prop_assert_eq!(seen, prefixes);
        for seen in all {
            prop_assert_eq!(as_path::hops(&seen.as_path), as_path::hops(&attributes.as_path));
            prop_assert_eq!(as_path::neighbour(&seen.as_path), as_path::neighbour(&attributes.as_path));
            prop_assert_eq!(seen.aggregator, attributes.aggregator);
            prop_assert_eq!(seen.communities, attributes.communities.clone());
        }
    }

    #[test]
    fn withdrawals((layout, prefixes) in with_prefixes(1500)) {
        let mut out = vec![];
        layout.withdraw(&mut out, prefixes.iter());
        let mut seen = vec![];
        for message in messages_within(&out, layout.max_message) {
            let update = judge(RawUpdate::decode(message.body).unwrap(), context_of(layout, true)).unwrap();
            prop_assert!(update.attributes.is_none() && update.faults.is_empty() && update.end_of_rib.is_none());
            seen.extend(update.withdrawn);
        }
        prop_assert_eq!(seen, prefixes);
    }

    #[test]
    fn paths_grow_at_the_front(path in strategies::as_path(), asn in 1..=u32::MAX) {
        let longer = as_path::prepend(&path, asn);
        prop_assert!(as_path::is_valid(&longer, 4));
        prop_assert_eq!(as_path::hops(&longer), as_path::hops(&path) + 1);
        prop_assert_eq!(as_path::neighbour(&longer), Some(asn));
        prop_assert_eq!(as_path::count(&longer, asn), as_path::count(&path, asn) + 1);
    }
}

#[test]
fn a_keepalive_is_a_header_and_takes_no_more_room() {
    let keepalive = frame::keepalive();
    assert_eq!(messages(&keepalive), [Frame { kind: Kind::Keepalive, body: &[] }]);
    assert_eq!((keepalive.len(), keepalive.capacity()), (frame::HEADER, frame::HEADER));
}

#[test]
fn a_full_segment_is_not_overfilled() {
    let mut path = Vec::new();
    for _ in 0..300 {
        path = as_path::prepend(&path, 7);
    }
    assert!(as_path::is_valid(&path, 4));
    assert_eq!(as_path::hops(&path), 300);
}

#[test]
fn end_of_rib_is_told_from_an_empty_update() {
    for family in [Family::Ipv4, Family::Ipv6] {
        let marker = end_of_rib(family);
        let all = messages(&marker);
        for receiver in [Family::Ipv4, Family::Ipv6] {
            let update = judge(RawUpdate::decode(all[0].body).unwrap(), context(receiver, true)).unwrap();
            assert_eq!(update.end_of_rib, (family == receiver).then_some(family));
        }
    }
}

#[test]
fn attributes_that_leave_no_room_are_not_sent() {
    let long = PathAttributes {
        communities: vec![1; 4080].into(),
        ..PathAttributes::originated([10, 0, 0, 1].into())
    };
    let (mut head, mut tail, mut out) = (vec![], vec![], vec![]);
    long.encode_head(&mut head);
    long.encode_tail(&mut tail);
    let encoded = Encoded { head: &head, tail: &tail, next_hop: long.next_hop };
    let prefix: Nlri = Prefix::new([10, 0, 0, 0].into(), 8).unwrap().into();
    assert!(!Layout::plain(Family::Ipv4).announce(&mut out, encoded, [prefix].iter()));
    assert!(out.is_empty());
}
