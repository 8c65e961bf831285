//! AS paths as lists of what counts as one (RFC 4271 9.1.2.2): a number of a sequence, or a whole set.

use netgauze_bgp_pkt::path_attribute::{As4PathSegment, AsPath};

const SET: u8 = 1;

/// Kind of segment and numbers.
pub(super) type Path = Vec<(u8, Vec<u32>)>;

fn units(kind: u8, numbers: Vec<u32>) -> Path {
    if kind == SET { vec![(kind, numbers)] } else { numbers.into_iter().map(|n| (kind, vec![n])).collect() }
}

/// From the octets of a path of four-octet numbers.
pub(super) fn ours(mut octets: &[u8]) -> Path {
    let mut path = Path::new();
    while let [kind, count, rest @ ..] = octets {
        let (numbers, rest) = rest.split_at(usize::from(*count) * 4);
        let numbers = numbers.chunks_exact(4).map(|n| u32::from_be_bytes(n.try_into().unwrap()));
        path.extend(units(*kind, numbers.collect()));
        octets = rest;
    }
    path
}

pub(super) fn theirs(path: &AsPath) -> Path {
    match path {
        AsPath::As4PathSegments(segments) => wide(segments),
        AsPath::As2PathSegments(segments) => segments
            .iter()
            .flat_map(|s| {
                units(s.segment_type().into(), s.as_numbers().iter().map(|n| (*n).into()).collect())
            })
            .collect(),
    }
}

pub(super) fn wide(segments: &[As4PathSegment]) -> Path {
    segments.iter().flat_map(|s| units(s.segment_type().into(), s.as_numbers().to_vec())).collect()
}

/// RFC 6793 4.2.3, which netgauze leaves to its user: the end of the path is that of AS4_PATH, unless that is the longer one.
pub(super) fn whole(path: Path, as4_path: Option<Path>) -> Path {
    match as4_path.filter(|as4| as4.len() <= path.len()) {
        Some(as4) => path[..path.len() - as4.len()].iter().cloned().chain(as4).collect(),
        None => path,
    }
}
