//! Nothing that comes over the wire makes the codec panic.

use proptest::collection::vec;
use proptest::prelude::*;
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::update::{Encoded, Layout, RawUpdate};
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Context, Kind, Notification, Open, Reading, frame, refresh};

use super::strategies;

fn contexts() -> impl Iterator<Item = Context> {
    (0..128).map(|bits| {
        let reading = |shift: u32| {
            (bits >> shift & 1 != 0)
                .then_some(Reading { add_path: bits & 64 != 0, extended_next_hop: bits & 16 != 0 })
        };
        Context { internal: bits & 1 != 0, four_octet: bits & 2 != 0, ipv4: reading(2), ipv6: reading(3) }
    })
}

fn read_update(body: &[u8]) {
    for context in contexts() {
        let Ok(raw) = RawUpdate::decode(body) else { return };
        match judge(raw, context) {
            Ok(update) => {
                assert!(update.attributes.is_some() || update.announced.is_empty());
                let family = |nlri: &Nlri| context.reading(nlri.prefix.family()).is_some();
                assert!(update.withdrawn.iter().chain(&update.announced).all(family));
                if let Some(attributes) = update.attributes {
                    // What was accepted can be passed on.
                    attributes.encode_head(&mut Vec::new());
                    attributes.encode_tail(&mut Vec::new());
                    drop(attributes.encode_narrow());
                }
            }
            Err(error) => drop(error.notification().encode()),
        }
    }
}

fn read_stream(mut stream: &[u8]) {
    while let Ok(Some((frame, rest))) = frame::split(stream) {
        match frame.kind {
            Kind::Open => drop(Open::decode(frame.body).map_err(|error| error.notification().encode())),
            Kind::Update => read_update(frame.body),
            Kind::Notification => drop(Notification::decode(frame.body).map(|n| n.to_string())),
            Kind::Keepalive => {}
            Kind::Refresh => drop(refresh::decode(frame.body)),
        }
        stream = rest;
    }
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(u16::try_from(body.len() + 19).unwrap().to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn random_octets(stream in vec(any::<u8>(), 0..200)) {
        read_stream(&stream);
    }

    #[test]
    fn random_bodies(kind in 1..6_u8, body in vec(any::<u8>(), 0..200)) {
        read_stream(&framed(kind, &body));
    }

    /// Attribute sections that look right from outside.
    #[test]
    fn random_attributes(
        all in vec((any::<u8>(), prop_oneof![0..20_u8, any::<u8>()], vec(any::<u8>(), 0..40)), 0..6),
        nlri in vec(any::<u8>(), 0..20),
    ) {
        let mut section = Vec::new();
        for (flags, code, value) in all {
            tortie_bgp::wire::attribute::push(&mut section, flags, code, &value);
        }
        let mut body = vec![0, 0];
        body.extend(u16::try_from(section.len()).unwrap().to_be_bytes());
        body.extend(section);
        body.extend(nlri);
        read_update(&body);
    }

    #[test]
    fn mutated_updates(
        (attributes, prefixes) in strategies::family()
            .prop_flat_map(|f| (strategies::attributes(f), vec(strategies::prefix(f), 1..20))),
        mutations in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut head, mut tail, mut out) = (vec![], vec![], vec![]);
        attributes.encode_head(&mut head);
        attributes.encode_tail(&mut tail);
        let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
        let nlri: Vec<Nlri> = prefixes.into_iter().map(Nlri::from).collect();
        let family = nlri[0].prefix.family();
        prop_assert!(Layout::plain(family).announce(&mut out, encoded, nlri.iter()));
        for (index, value) in mutations {
            let at = 19 + index.index(out.len() - 19);
            out[at] = value;
        }
        read_stream(&out);
    }

    #[test]
    fn mutated_opens(open in strategies::open(), mutations in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut out = open.encode();
        for (index, value) in mutations {
            let at = 19 + index.index(out.len() - 19);
            out[at] = value;
        }
        read_stream(&out);
    }
}
