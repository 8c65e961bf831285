//! The few messages it takes: RFC 4271 with four-octet AS numbers, IPv4 unicast. Pure.

use std::net::Ipv4Addr;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
/// Octets of a header.
pub(crate) const HEADER: usize = 19;
const LONGEST: usize = 4096;

/// Which prefixes a scenario has: numbered, so that receivers keep a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Of every 8 routes one /24, one /26 and six /32.
    Mixed,
    /// Only /26, the default size of an IPAM block.
    Blocks,
}

const NET24: u32 = 0x1400_0000;
const NET26: u32 = 0x2800_0000;
const NET32: u32 = 0x6500_0000;

impl Plan {
    /// Address and length of a prefix by its number.
    pub(crate) fn prefix(self, number: u32) -> (u32, u8) {
        match (self, number % 8) {
            (Plan::Blocks, _) => (NET26 + number * 64, 26),
            (Plan::Mixed, 0) => (NET24 + number / 8 * 256, 24),
            (Plan::Mixed, 1) => (NET26 + number / 8 * 64, 26),
            (Plan::Mixed, _) => (NET32 + number, 32),
        }
    }

    /// Its number; `None` for a prefix that is none of these.
    pub(crate) fn number(self, (address, length): (u32, u8)) -> Option<u32> {
        match (self, length) {
            (Plan::Blocks, 26) => Some(address.checked_sub(NET26)? / 64),
            (Plan::Mixed, 24) => Some(address.checked_sub(NET24)? / 256 * 8),
            (Plan::Mixed, 26) => Some(address.checked_sub(NET26)? / 64 * 8 + 1),
            (Plan::Mixed, 32) => address.checked_sub(NET32),
            _ => None,
        }
    }
}

fn message(out: &mut Vec<u8>, kind: u8, body: &[&[u8]]) {
    let length = HEADER + body.iter().map(|part| part.len()).sum::<usize>();
    out.extend([0xff; 16]);
    out.extend(short(length));
    out.push(kind);
    body.iter().for_each(|part| out.extend_from_slice(part));
}

/// A length on the wire; what is built here is never longer than a message.
fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

pub(crate) fn open(asn: u32, id: Ipv4Addr) -> Vec<u8> {
    const HOLD: u16 = 180;
    const AS_TRANS: u16 = 23456;
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 2, 0, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let [_, length] = short(capabilities.len());
    let two_octets = u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes();
    let mut out = Vec::new();
    let parameters = [length + 2, 2, length];
    message(
        &mut out,
        OPEN,
        &[&[4], &two_octets, &HOLD.to_be_bytes(), &id.octets(), &parameters, &capabilities],
    );
    out
}

pub(crate) fn keepalive() -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, KEEPALIVE, &[]);
    out
}

/// Cease, Administrative Shutdown.
pub(crate) fn cease() -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, NOTIFICATION, &[&[6, 2]]);
    out
}

/// The attributes number `set`; `local_pref` is for internal peers.
pub(crate) fn attributes(path: &[u32], next_hop: Ipv4Addr, local_pref: Option<u32>, set: u32) -> Vec<u8> {
    let mut out = vec![0x40, 1, 1, 0, 0x40, 2];
    let [_, hops] = short(path.len());
    if path.is_empty() {
        out.push(0);
    } else {
        out.extend([2 + 4 * hops, 2, hops]);
        path.iter().for_each(|asn| out.extend(asn.to_be_bytes()));
    }
    out.extend([0x40, 3, 4]);
    out.extend(next_hop.octets());
    if let Some(preference) = local_pref {
        out.extend([0x40, 5, 4]);
        out.extend(preference.to_be_bytes());
    }
    out.extend([0xc0, 8, 8]);
    out.extend((64600 << 16 | set & 0xffff).to_be_bytes());
    out.extend((64601 << 16 | set >> 16).to_be_bytes());
    out
}

fn put_prefix(out: &mut Vec<u8>, (address, length): (u32, u8)) {
    out.push(length);
    out.extend(address.to_be_bytes().iter().take(usize::from(length).div_ceil(8)));
}

/// UPDATEs that announce these prefixes with the same attributes.
pub(crate) fn announce(out: &mut Vec<u8>, attributes: &[u8], prefixes: impl Iterator<Item = (u32, u8)>) {
    let room = LONGEST - HEADER - 4 - attributes.len();
    let mut nlri = Vec::new();
    let mut flush = |nlri: &mut Vec<u8>| {
        if !nlri.is_empty() {
            message(out, UPDATE, &[&[0, 0], &short(attributes.len()), attributes, nlri]);
            nlri.clear();
        }
    };
    for prefix in prefixes {
        if nlri.len() + 5 > room {
            flush(&mut nlri);
        }
        put_prefix(&mut nlri, prefix);
    }
    flush(&mut nlri);
}

/// An UPDATE that withdraws one prefix.
pub(crate) fn withdraw(prefix: (u32, u8)) -> Vec<u8> {
    let (mut out, mut nlri) = (Vec::new(), Vec::new());
    put_prefix(&mut nlri, prefix);
    message(&mut out, UPDATE, &[&short(nlri.len()), &nlri, &[0, 0]]);
    out
}

/// Prefixes as they stand in an UPDATE; ends early at one cut short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefixes<'a>(&'a [u8]);

impl Iterator for Prefixes<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let (&length, rest) = self.0.split_first()?;
        let octets = rest.get(..usize::from(length).div_ceil(8))?;
        let mut address = [0; 4];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        self.0 = rest.get(octets.len()..)?;
        Some((u32::from_be_bytes(address), length))
    }
}

/// The withdrawn and the announced prefixes of an UPDATE's body.
pub(crate) fn update(body: &[u8]) -> Option<(Prefixes<'_>, Prefixes<'_>)> {
    fn sized(octets: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = octets.split_first_chunk::<2>()?;
        rest.split_at_checked(u16::from_be_bytes(*length).into())
    }
    let (withdrawn, rest) = sized(body)?;
    let (_, announced) = sized(rest)?;
    Some((Prefixes(withdrawn), Prefixes(announced)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_and_withdrawn_is_read_again() {
        for plan in [Plan::Mixed, Plan::Blocks] {
            let numbers: Vec<u32> = (0..5000).collect();
            let mut out = Vec::new();
            let set = attributes(&[65001, 4_200_000_000], Ipv4Addr::LOCALHOST, None, 7);
            announce(&mut out, &set, numbers.iter().map(|number| plan.prefix(*number)));
            let mut seen = Vec::new();
            let mut rest = &out[..];
            while !rest.is_empty() {
                let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
                assert!(length <= LONGEST && rest[18] == UPDATE);
                let (withdrawn, announced) = update(&rest[HEADER..length]).unwrap();
                assert_eq!(withdrawn.count(), 0);
                seen.extend(announced.filter_map(|prefix| plan.number(prefix)));
                rest = &rest[length..];
            }
            assert_eq!(seen, numbers);
            let gone = withdraw(plan.prefix(9));
            let (withdrawn, announced) = update(&gone[HEADER..]).unwrap();
            assert_eq!((withdrawn.map(|p| plan.number(p)).collect(), announced.count()), (vec![Some(9)], 0));
        }
    }
}
