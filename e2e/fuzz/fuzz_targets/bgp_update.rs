//! Any octets as the body of an UPDATE, in every context a session can have.
//!
//! Never panics; prefixes are of families the session carries; what was accepted without a fault is written to what
//! reads as the same, for four-octet sessions as it is and for two-octet ones as far as RFC 6793 keeps it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_bgp::family::Family;
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::update::{Encoded, Layout, RawUpdate};
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Context, PathAttributes, Reading, as_path, frame};

fn context(bits: u8) -> Context {
    let reading = |carried: bool, add_path: bool| {
        carried.then_some(Reading { add_path, extended_next_hop: bits & 16 != 0 })
    };
    Context {
        internal: bits & 1 != 0,
        four_octet: bits & 2 != 0,
        ipv4: reading(bits & 4 == 0, bits & 32 != 0),
        ipv6: reading(bits & 8 == 0, bits & 64 != 0),
    }
}

/// The messages made of these attributes and prefixes; `None` when the attributes leave no room for a prefix.
fn written(
    attributes: &PathAttributes<'_>,
    nlri: &[Nlri],
    context: Context,
    max_message: usize,
) -> Option<Vec<u8>> {
    let family = nlri[0].prefix.family();
    let add_path = context.reading(family).expect("a family carried").add_path;
    let layout = Layout { family, add_path, max_message };
    let (head, tail) = if context.four_octet {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        attributes.encode_head(&mut head);
        attributes.encode_tail(&mut tail);
        (head, tail)
    } else {
        attributes.encode_narrow()
    };
    let mut out = Vec::new();
    let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
    layout.announce(&mut out, encoded, nlri.iter()).then_some(out)
}

fn again(attributes: &PathAttributes<'_>, nlri: &[Nlri], context: Context) {
    let longest = frame::EXTENDED_MESSAGE;
    let Some(octets) = written(attributes, nlri, context, longest) else { return };
    let (mut rest, mut seen) = (&octets[..], Vec::new());
    while let Some((message, more)) = frame::split_within(rest, longest).expect("a header") {
        rest = more;
        let raw = RawUpdate::decode(message.body).expect("an UPDATE");
        let update = judge(raw, context).expect("readable");
        assert_eq!((update.faults, update.withdrawn, update.also), (vec![], vec![], None));
        let read = update.attributes.expect("attributes");
        if context.four_octet {
            assert_eq!(&read, attributes);
        } else {
            assert_eq!(as_path::hops(&read.as_path), as_path::hops(&attributes.as_path));
            assert_eq!(read.communities, attributes.communities);
            assert_eq!(read.next_hop, attributes.next_hop);
        }
        seen.extend(update.announced);
    }
    assert!(rest.is_empty());
    assert_eq!(seen, nlri);
}

fuzz_target!(|input: &[u8]| {
    let Some((&bits, body)) = input.split_first() else { return };
    let context = context(bits);
    let raw = match RawUpdate::decode(body) {
        Ok(raw) => raw,
        Err(error) => return drop(error.notification().encode()),
    };
    let update = match judge(raw, context) {
        Ok(update) => update,
        Err(error) => return drop(error.notification().encode()),
    };
    update.faults.iter().for_each(|fault| drop(fault.to_string()));
    let also = update.also.iter().flat_map(|(_, nlri)| nlri);
    for nlri in update.withdrawn.iter().chain(&update.announced).chain(also) {
        let reading = context.reading(nlri.prefix.family()).expect("only families carried");
        assert!(reading.add_path || nlri.path_id == 0);
    }
    assert!(update.end_of_rib.is_none_or(|family: Family| context.reading(family).is_some()));
    let Some(attributes) = &update.attributes else {
        return assert!(update.announced.is_empty() && update.also.is_none());
    };
    again(attributes, &update.announced, context);
    if let Some((next_hop, nlri)) = &update.also {
        again(&PathAttributes { next_hop: *next_hop, ..attributes.clone() }, nlri, context);
    }
});
