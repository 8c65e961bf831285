//! The same messages read by an independent implementation, netgauze-bgp-pkt: what we write it reads as we meant it, what it
//! writes we read the same, and of messages bent at random in which we find no fault it reads the same.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the other implementation has more kinds than this looks at"
)]

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::collection::vec;
use proptest::prelude::*;

use super::strategies;

mod opens;
mod path;
mod routes;
mod updates;

/// Octets to be replaced in a message, anywhere behind its header.
fn bends() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
}

fn bend(message: &mut [u8], bends: Vec<(prop::sample::Index, u8)>) {
    for (at, octet) in bends {
        let at = 19 + at.index(message.len() - 19);
        message[at] = octet;
    }
}

fn parse(message: &[u8], context: &mut BgpParsingContext) -> Option<BgpMessage> {
    BgpMessage::parse(&mut SliceReader::new(message), context).ok()
}

fn write(message: &BgpMessage) -> Vec<u8> {
    let mut written = Vec::new();
    message.write(&mut written).unwrap();
    written
}
