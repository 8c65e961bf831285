//! Prefixes on the wire: a length in bits and as few octets as hold them (RFC 4271 4.3), with add-path a path identifier
//! before them (RFC 7911 3).

use super::{WireError, take, take_slice};
use crate::family::{Family, Prefix};

/// A path of a prefix as one session names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// The prefix.
    pub prefix: Prefix,
    /// The path identifier; 0 on sessions without add-path.
    pub path_id: u32,
}

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Nlri {
        Nlri { prefix, path_id: 0 }
    }
}

/// Octets of a path identifier.
const PATH_ID: usize = 4;

/// Reads all prefixes of a field, each with a path identifier if `add_path` was agreed on.
///
/// # Errors
/// A length the family does not have, or a prefix cut short: where the next one begins is unknown then.
pub fn decode(
    mut input: &[u8],
    family: Family,
    add_path: bool,
    out: &mut Vec<Nlri>,
) -> Result<(), WireError> {
    const CUT: WireError = WireError::Nlri("cut short");
    const LONG: WireError = WireError::Nlri("longer than an address");
    while !input.is_empty() {
        let (path_id, rest) = if add_path { take::<PATH_ID>(input).ok_or(CUT)? } else { ([0; 4], input) };
        let ([length], rest) = take::<1>(rest).ok_or(CUT)?;
        if length > family.bits() {
            return Err(LONG);
        }
        let (octets, rest) = take_slice(rest, usize::from(length).div_ceil(8)).ok_or(CUT)?;
        let prefix = Prefix::from_octets(family, octets, length).ok_or(LONG)?;
        out.push(Nlri { prefix, path_id: u32::from_be_bytes(path_id) });
        input = rest;
    }
    Ok(())
}

/// Appends a prefix, after its path identifier if `add_path` was agreed on.
pub fn encode(nlri: &Nlri, add_path: bool, out: &mut Vec<u8>) {
    if add_path {
        out.extend_from_slice(&nlri.path_id.to_be_bytes());
    }
    out.push(nlri.prefix.length());
    out.extend_from_slice(nlri.prefix.significant());
}

/// Octets [`encode`] needs.
#[must_use]
pub fn size(nlri: &Nlri, add_path: bool) -> usize {
    1 + nlri.prefix.significant().len() + if add_path { PATH_ID } else { 0 }
}
