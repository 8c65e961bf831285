//! Prefixes on the wire: a length in bits and as few octets as hold them (RFC 4271 4.3).

use std::net::IpAddr;

use super::{WireError, take_slice};
use crate::family::{Family, Prefix};

/// Reads all prefixes of a field.
///
/// # Errors
/// A length the family does not have, or a prefix cut short: where the next one begins is unknown then.
pub fn decode(mut input: &[u8], family: Family, out: &mut Vec<Prefix>) -> Result<(), WireError> {
    while let Some((&length, rest)) = input.split_first() {
        if length > family.bits() {
            return Err(WireError::Nlri("longer than an address"));
        }
        let (octets, rest) =
            take_slice(rest, usize::from(length).div_ceil(8)).ok_or(WireError::Nlri("cut short"))?;
        out.push(prefix(octets, length, family));
        input = rest;
    }
    Ok(())
}

fn prefix(octets: &[u8], length: u8, family: Family) -> Prefix {
    let address = match family {
        Family::Ipv4 => {
            let mut address = [0; 4];
            address[..octets.len()].copy_from_slice(octets);
            IpAddr::from(address)
        }
        Family::Ipv6 => {
            let mut address = [0; 16];
            address[..octets.len()].copy_from_slice(octets);
            IpAddr::from(address)
        }
    };
    Prefix::new(address, length).expect("the length was checked against the family")
}

/// Appends a prefix.
pub fn encode(prefix: Prefix, out: &mut Vec<u8>) {
    let octets = usize::from(prefix.length()).div_ceil(8);
    out.push(prefix.length());
    match prefix.address() {
        IpAddr::V4(address) => out.extend(&address.octets()[..octets]),
        IpAddr::V6(address) => out.extend(&address.octets()[..octets]),
    }
}

/// Octets [`encode`] needs.
#[must_use]
pub fn size(prefix: Prefix) -> usize {
    1 + usize::from(prefix.length()).div_ceil(8)
}
