//! The few messages a crowd of peers speaks: IPv4 unicast, four-octet AS numbers, graceful restart. Pure, and not the
//! product's codec, so that a mistake in that cannot hide here.

use std::net::Ipv4Addr;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
/// Octets of a header.
pub(crate) const HEADER: usize = 19;
const LONGEST: usize = 4096;

/// A prefix: address and length.
pub(crate) type Prefix = (u32, u8);

fn length(octets: usize) -> [u8; 2] {
    u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes()
}

fn message(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend([0xff; 16]);
    out.extend(length(HEADER + parts.iter().map(|part| part.len()).sum::<usize>()));
    out.push(kind);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// An OPEN that announces graceful restart, and the KEEPALIVE behind it.
pub(crate) fn hello(asn: u32, id: Ipv4Addr) -> Vec<u8> {
    const HOLD: u16 = 240;
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 2, 0, 64, 6, 0, 120, 0, 1, 1, 0x80, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let [_, size] = length(capabilities.len());
    let short = u16::try_from(asn).unwrap_or(23456).to_be_bytes();
    let mut out = Vec::new();
    let parameters = [size + 2, 2, size];
    message(OPEN, &[&[4], &short, &HOLD.to_be_bytes(), &id.octets(), &parameters, &capabilities], &mut out);
    message(KEEPALIVE, &[], &mut out);
    out
}

pub(crate) fn keepalive() -> Vec<u8> {
    let mut out = Vec::new();
    message(KEEPALIVE, &[], &mut out);
    out
}

/// End-of-RIB.
pub(crate) fn end() -> Vec<u8> {
    let mut out = Vec::new();
    message(UPDATE, &[&[0; 4]], &mut out);
    out
}

/// Attributes; an internal peer's have a LOCAL_PREF and no AS. `set` tells sets apart.
pub(crate) fn attributes(asn: Option<u32>, next_hop: Ipv4Addr, set: u32) -> Vec<u8> {
    let mut out = vec![0x40, 1, 1, 0, 0x40, 2];
    match asn {
        Some(asn) => {
            out.extend([6, 2, 1]);
            out.extend(asn.to_be_bytes());
        }
        None => out.push(0),
    }
    out.extend([0x40, 3, 4]);
    out.extend(next_hop.octets());
    if asn.is_none() {
        out.extend([0x40, 5, 4, 0, 0, 0, 100]);
    }
    out.extend([0xc0, 8, 4]);
    out.extend(set.to_be_bytes());
    out
}

fn put(out: &mut Vec<u8>, (address, bits): Prefix) {
    out.push(bits);
    out.extend(address.to_be_bytes().iter().take(usize::from(bits).div_ceil(8)));
}

/// UPDATEs that announce these prefixes with the same attributes.
pub(crate) fn announce(attributes: &[u8], prefixes: impl Iterator<Item = Prefix>, out: &mut Vec<u8>) {
    let room = LONGEST - HEADER - 4 - attributes.len();
    let mut prefixes = prefixes.peekable();
    while prefixes.peek().is_some() {
        let mut nlri = Vec::new();
        while let Some(prefix) = prefixes.next_if(|_| nlri.len() + 5 <= room) {
            put(&mut nlri, prefix);
        }
        message(UPDATE, &[&[0, 0], &length(attributes.len()), attributes, &nlri], out);
    }
}

/// UPDATEs that withdraw these prefixes.
pub(crate) fn withdraw(prefixes: impl Iterator<Item = Prefix>, out: &mut Vec<u8>) {
    let mut prefixes = prefixes.peekable();
    while prefixes.peek().is_some() {
        let mut nlri = Vec::new();
        while let Some(prefix) = prefixes.next_if(|_| nlri.len() + 5 <= LONGEST - HEADER - 4) {
            put(&mut nlri, prefix);
        }
        message(UPDATE, &[&length(nlri.len()), &nlri, &[0, 0]], out);
    }
}

/// The prefixes of a field; ends early at one cut short.
struct Prefixes<'a>(&'a [u8]);

impl Iterator for Prefixes<'_> {
    type Item = Prefix;

    fn next(&mut self) -> Option<Prefix> {
        let (&bits, rest) = self.0.split_first()?;
        let octets = rest.get(..usize::from(bits).div_ceil(8))?;
        let mut address = [0; 4];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        self.0 = rest.get(octets.len()..)?;
        Some((u32::from_be_bytes(address), bits))
    }
}

/// Calls `each` for every prefix of an UPDATE's body, true for those announced.
pub(crate) fn update(body: &[u8], mut each: impl FnMut(Prefix, bool)) {
    fn sized(octets: &[u8]) -> Option<(&[u8], &[u8])> {
        let (size, rest) = octets.split_first_chunk::<2>()?;
        rest.split_at_checked(u16::from_be_bytes(*size).into())
    }
    let Some((withdrawn, rest)) = sized(body) else { return };
    let Some((_, announced)) = sized(rest) else { return };
    Prefixes(withdrawn).for_each(|prefix| each(prefix, false));
    Prefixes(announced).for_each(|prefix| each(prefix, true));
}
