//! UPDATE: taken apart without a judgement, and built from attributes and prefixes.

use std::net::IpAddr;

use super::attribute::{code, flag, push};
use super::frame::{HEADER, Kind, MAX_MESSAGE, begin, finish, message};
use super::{WireError, nlri, take, take_slice};
use crate::family::{Family, Prefix};

/// The three sections of an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawUpdate<'a> {
    /// Withdrawn IPv4 prefixes.
    pub withdrawn: &'a [u8],
    /// Path attributes.
    pub attributes: &'a [u8],
    /// Announced IPv4 prefixes.
    pub announced: &'a [u8],
}

impl<'a> RawUpdate<'a> {
    /// Takes a message body apart.
    ///
    /// # Errors
    /// Section lengths that do not fit the message (RFC 4271 6.3).
    pub fn decode(body: &'a [u8]) -> Result<RawUpdate<'a>, WireError> {
        const CUT: WireError = WireError::Update("section lengths exceed the message");
        let (length, rest) = take::<2>(body).ok_or(CUT)?;
        let (withdrawn, rest) = take_slice(rest, u16::from_be_bytes(length).into()).ok_or(CUT)?;
        let (length, rest) = take::<2>(rest).ok_or(CUT)?;
        let (attributes, announced) = take_slice(rest, u16::from_be_bytes(length).into()).ok_or(CUT)?;
        Ok(RawUpdate { withdrawn, attributes, announced })
    }
}

/// Attributes ready to be sent, apart from the next hop.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// ORIGIN and AS_PATH.
    pub head: &'a [u8],
    /// What follows NEXT_HOP.
    pub tail: &'a [u8],
    /// The next hop.
    pub next_hop: IpAddr,
}

/// Appends UPDATEs that announce `prefixes`, as few as hold them. IPv4 goes into the classic fields.
///
/// False when the attributes leave no room for a prefix: then nothing is appended.
#[must_use]
pub fn announce(out: &mut Vec<u8>, attributes: Encoded<'_>, prefixes: &[Prefix]) -> bool {
    match attributes.next_hop {
        IpAddr::V4(next_hop) => {
            let mut section = attributes.head.to_vec();
            push(&mut section, flag::TRANSITIVE, code::NEXT_HOP, &next_hop.octets());
            section.extend(attributes.tail);
            announce_classic(out, &section, prefixes)
        }
        IpAddr::V6(next_hop) => announce_multiprotocol(out, attributes, next_hop.octets(), prefixes),
    }
}

fn announce_classic(out: &mut Vec<u8>, section: &[u8], prefixes: &[Prefix]) -> bool {
    let Some(room) = room(HEADER + 4 + section.len(), 5) else { return false };
    for chunk in chunks(prefixes, room) {
        let start = begin(Kind::Update, out);
        out.extend([0, 0]);
        put_length(out, section.len());
        out.extend(section);
        chunk.iter().for_each(|prefix| nlri::encode(*prefix, out));
        finish(start, out);
    }
    true
}

fn announce_multiprotocol(
    out: &mut Vec<u8>,
    attributes: Encoded<'_>,
    next_hop: [u8; 16],
    prefixes: &[Prefix],
) -> bool {
    const FIXED: usize = 4 + 5 + 16; // attribute header; AFI, SAFI, length, reserved; next hop
    let others = attributes.head.len() + attributes.tail.len();
    let Some(room) = room(HEADER + 4 + others + FIXED, 17) else { return false };
    for chunk in chunks(prefixes, room) {
        let start = begin(Kind::Update, out);
        out.extend([0, 0]);
        let octets: usize = chunk.iter().map(|prefix| nlri::size(*prefix)).sum();
        put_length(out, others + FIXED + octets);
        // First, as RFC 7606 5.1 asks for.
        out.extend([flag::OPTIONAL | flag::EXTENDED, code::MP_REACH]);
        put_length(out, FIXED - 4 + octets);
        out.extend([0, 2, 1, 16]);
        out.extend(next_hop);
        out.push(0);
        chunk.iter().for_each(|prefix| nlri::encode(*prefix, out));
        out.extend(attributes.head);
        out.extend(attributes.tail);
        finish(start, out);
    }
    true
}

/// Appends UPDATEs that withdraw `prefixes`.
pub fn withdraw(out: &mut Vec<u8>, family: Family, prefixes: &[Prefix]) {
    for chunk in chunks(prefixes, MAX_MESSAGE - HEADER - 4 - 7) {
        let octets: usize = chunk.iter().map(|prefix| nlri::size(*prefix)).sum();
        let start = begin(Kind::Update, out);
        match family {
            Family::Ipv4 => {
                put_length(out, octets);
                chunk.iter().for_each(|prefix| nlri::encode(*prefix, out));
                out.extend([0, 0]);
            }
            Family::Ipv6 => {
                out.extend([0, 0]);
                put_length(out, octets + 7);
                out.extend([flag::OPTIONAL | flag::EXTENDED, code::MP_UNREACH]);
                put_length(out, octets + 3);
                out.extend([0, 2, 1]);
                chunk.iter().for_each(|prefix| nlri::encode(*prefix, out));
            }
        }
        finish(start, out);
    }
}

/// The End-of-RIB marker (RFC 4724 2).
#[must_use]
pub fn end_of_rib(family: Family) -> Vec<u8> {
    message(Kind::Update, |out| match family {
        Family::Ipv4 => out.extend([0, 0, 0, 0]),
        Family::Ipv6 => out.extend([0, 0, 0, 6, flag::OPTIONAL, code::MP_UNREACH, 3, 0, 2, 1]),
    })
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend(u16::try_from(length).expect("messages are cut at 4096 octets").to_be_bytes());
}

/// Octets left for prefixes, if at least one of `largest` octets fits.
fn room(used: usize, largest: usize) -> Option<usize> {
    MAX_MESSAGE.checked_sub(used).filter(|room| *room >= largest)
}

/// Cuts `prefixes` into runs of at most `room` octets.
fn chunks(mut prefixes: &[Prefix], room: usize) -> impl Iterator<Item = &[Prefix]> {
    std::iter::from_fn(move || {
        let mut octets = 0;
        let count = prefixes
            .iter()
            .take_while(|prefix| {
                octets += nlri::size(**prefix);
                octets <= room
            })
            .count();
        let (chunk, rest) = prefixes.split_at(count);
        prefixes = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}
