//! AS paths as they are on the wire, always with four octets per AS number; the two-octet form only at the edge.

use super::open::AS_TRANS;
use super::take_slice;

const SET: u8 = 1;
const SEQUENCE: u8 = 2;
/// Octets of the longest path we keep: with a number of our own in front it still is an attribute. Only two-octet
/// numbers in an extended message can make a longer one.
pub const LONGEST: usize = 65_000;

/// One segment: its type and its AS numbers as octets.
#[derive(Clone, Copy)]
struct Segment<'a> {
    kind: u8,
    numbers: &'a [u8],
}

impl Segment<'_> {
    fn numbers(&self) -> impl Iterator<Item = u32> {
        self.numbers.chunks_exact(4).map(|n| u32::from_be_bytes([n[0], n[1], n[2], n[3]]))
    }
}

/// The segments of a path with `width` octets per number; ends at the first fault.
fn segments(path: &[u8], width: usize) -> impl Iterator<Item = Option<Segment<'_>>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let segment = (|| {
            let ([kind, count], tail) = super::take::<2>(rest)?;
            let (numbers, tail) = take_slice(tail, usize::from(count) * width)?;
            rest = tail;
            (count > 0 && (kind == SET || kind == SEQUENCE)).then_some(Segment { kind, numbers })
        })();
        if segment.is_none() {
            rest = &[];
        }
        Some(segment)
    })
}

fn sound(path: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    segments(path, 4).flatten()
}

/// Well formed with `width` octets per number: known segments, none empty, no AS 0 (RFC 7606 7.2, RFC 7607).
#[must_use]
pub fn is_valid(path: &[u8], width: usize) -> bool {
    segments(path, width).all(|segment| {
        segment.is_some_and(|s| s.numbers.chunks_exact(width).all(|n| n.iter().any(|o| *o != 0)))
    })
}

/// A path of two-octet numbers in four.
#[must_use]
pub fn widen(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() * 2);
    for segment in segments(path, 2).flatten() {
        out.extend([segment.kind, u8::try_from(segment.numbers.len() / 2).unwrap_or(u8::MAX)]);
        for number in segment.numbers.chunks_exact(2) {
            out.extend([0, 0, number[0], number[1]]);
        }
    }
    out
}

/// A path in two octets per number, and whether a number had to be replaced by `AS_TRANS`.
#[must_use]
pub fn narrow(path: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(path.len());
    let mut lossy = false;
    for segment in sound(path) {
        out.extend([segment.kind, u8::try_from(segment.numbers.len() / 4).unwrap_or(u8::MAX)]);
        for number in segment.numbers() {
            lossy |= number > u32::from(u16::MAX);
            out.extend(u16::try_from(number).unwrap_or(AS_TRANS).to_be_bytes());
        }
    }
    (out, lossy)
}

/// Length as the decision process counts it: a set is one (RFC 4271 9.1.2.2).
#[must_use]
pub fn hops(path: &[u8]) -> usize {
    sound(path).map(|s| if s.kind == SET { 1 } else { s.numbers.len() / 4 }).sum()
}

/// The AS the route came from last, if the path says so.
#[must_use]
pub fn neighbour(path: &[u8]) -> Option<u32> {
    sound(path).next().filter(|s| s.kind == SEQUENCE).and_then(|s| s.numbers().next())
}

/// The path as operators write it: numbers in order, sets in braces.
#[must_use]
pub fn text(path: &[u8]) -> String {
    let join = |s: Segment<'_>, between| s.numbers().map(|n| n.to_string()).collect::<Vec<_>>().join(between);
    let segments =
        sound(path).map(|s| if s.kind == SET { format!("{{{}}}", join(s, ",")) } else { join(s, " ") });
    segments.collect::<Vec<_>>().join(" ")
}

/// How often `asn` stands in the path.
#[must_use]
pub fn count(path: &[u8], asn: u32) -> usize {
    sound(path).map(|s| s.numbers().filter(|n| *n == asn).count()).sum()
}

/// The path with `asn` in front.
#[must_use]
pub fn prepend(path: &[u8], asn: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 6);
    match path {
        [SEQUENCE, count, rest @ ..] if *count < u8::MAX => {
            out.extend([SEQUENCE, count + 1]);
            out.extend(asn.to_be_bytes());
            out.extend(rest);
        }
        _ => {
            out.extend([SEQUENCE, 1]);
            out.extend(asn.to_be_bytes());
            out.extend(path);
        }
    }
    out
}

/// Puts AS4_PATH into a widened AS_PATH of an old speaker (RFC 6793 4.2.3): the last numbers come from `as4`.
#[must_use]
pub fn merge(path: &[u8], as4: &[u8]) -> Vec<u8> {
    let (have, replace) = (hops(path), hops(as4));
    if replace > have {
        return path.to_vec();
    }
    let mut keep = have - replace;
    let mut out = Vec::with_capacity(path.len());
    for segment in sound(path) {
        if keep == 0 {
            break;
        }
        let size = if segment.kind == SET { 1 } else { segment.numbers.len() / 4 };
        let numbers = if size <= keep { segment.numbers } else { &segment.numbers[..keep * 4] };
        keep = keep.saturating_sub(size);
        out.extend([segment.kind, u8::try_from(numbers.len() / 4).unwrap_or(u8::MAX)]);
        out.extend(numbers);
    }
    out.extend(as4);
    out
}
