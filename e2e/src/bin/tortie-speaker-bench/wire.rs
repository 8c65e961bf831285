//! The few messages it takes: RFC 4271 with four-octet AS numbers, IPv4 or IPv6 unicast, with add-path and graceful restart if wanted.
//! Pure.

use std::net::{IpAddr, Ipv4Addr};

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
/// Octets of a header.
pub(crate) const HEADER: usize = 19;
const LONGEST: usize = 4096;

/// A prefix: its address in the low bits, and its length.
pub(crate) type Prefix = (u128, u8);

/// Which prefixes a scenario has: numbered, so that receivers keep a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Of every 8 routes one /24, one /26 and six /32; /64 of IPv6.
    Mixed,
    /// Only blocks of IPAM's default sizes, /26 and /122.
    Blocks,
}

const NET24: u128 = 0x1400_0000;
const NET26: u128 = 0x2800_0000;
const NET32: u128 = 0x6500_0000;
const NET_IPV6: u128 = 0x2001_0db8 << 96;

/// How a session's messages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) plan: Plan,
    pub(crate) ipv6: bool,
    pub(crate) add_path: bool,
    pub(crate) graceful: bool,
}

impl Format {
    /// A prefix by its number.
    pub(crate) fn prefix(self, number: u32) -> Prefix {
        let wide = u128::from(number);
        match (self.ipv6, self.plan, number % 8) {
            (true, Plan::Blocks, _) => (NET_IPV6 + (wide << 6), 122),
            (true, Plan::Mixed, _) => (NET_IPV6 + (wide << 64), 64),
            (false, Plan::Blocks, _) => (NET26 + wide * 64, 26),
            (false, Plan::Mixed, 0) => (NET24 + wide / 8 * 256, 24),
            (false, Plan::Mixed, 1) => (NET26 + wide / 8 * 64, 26),
            (false, Plan::Mixed, _) => (NET32 + wide, 32),
        }
    }

    /// Its number; `None` for a prefix that is none of these.
    pub(crate) fn number(self, (address, length): Prefix) -> Option<u32> {
        let number = match (self.ipv6, self.plan, length) {
            (true, Plan::Blocks, 122) => address.checked_sub(NET_IPV6)? >> 6,
            (true, Plan::Mixed, 64) => address.checked_sub(NET_IPV6)? >> 64,
            (false, Plan::Blocks, 26) => address.checked_sub(NET26)? / 64,
            (false, Plan::Mixed, 24) => address.checked_sub(NET24)? / 256 * 8,
            (false, Plan::Mixed, 26) => address.checked_sub(NET26)? / 64 * 8 + 1,
            (false, Plan::Mixed, 32) => address.checked_sub(NET32)?,
            _ => return None,
        };
        u32::try_from(number).ok()
    }

    fn bits(self) -> usize {
        if self.ipv6 { 128 } else { 32 }
    }

    fn afi(self) -> u8 {
        if self.ipv6 { 2 } else { 1 }
    }

    pub(crate) fn open(self, asn: u32, id: Ipv4Addr) -> Vec<u8> {
        const HOLD: u16 = 180;
        const AS_TRANS: u16 = 23456;
        let mut capabilities = vec![1, 4, 0, self.afi(), 0, 1, 2, 0, 65, 4];
        capabilities.extend(asn.to_be_bytes());
        if self.add_path {
            capabilities.extend([69, 4, 0, self.afi(), 1, 3]);
        }
        if self.graceful {
            capabilities.extend([64, 6, 0, 120, 0, self.afi(), 1, 0x80]);
        }
        let [_, length] = short(capabilities.len());
        let two_octets = u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes();
        let mut out = Vec::new();
        let parameters = [length + 2, 2, length];
        let fixed = [&[4][..], &two_octets, &HOLD.to_be_bytes(), &id.octets()].concat();
        message(&mut out, OPEN, &[&fixed, &parameters, &capabilities]);
        out
    }

    /// What says that all routes have been said (RFC 4724 2).
    pub(crate) fn end_of_rib(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.ipv6 {
            false => message(&mut out, UPDATE, &[&[0; 4]]),
            true => message(&mut out, UPDATE, &[&[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]]),
        }
        out
    }

    /// Attributes of one set. `next_hop` is of the family.
    pub(crate) fn attributes(
        self,
        path: &[u32],
        next_hop: IpAddr,
        local_pref: Option<u32>,
        set: u32,
    ) -> Attributes {
        let mut octets = vec![0x40, 1, 1, 0, 0x40, 2];
        let [_, hops] = short(path.len());
        if path.is_empty() {
            octets.push(0);
        } else {
            octets.extend([2 + 4 * hops, 2, hops]);
            path.iter().for_each(|asn| octets.extend(asn.to_be_bytes()));
        }
        if let IpAddr::V4(address) = next_hop {
            octets.extend([0x40, 3, 4]);
            octets.extend(address.octets());
        }
        if let Some(preference) = local_pref {
            octets.extend([0x40, 5, 4]);
            octets.extend(preference.to_be_bytes());
        }
        octets.extend([0xc0, 8, 8]);
        octets.extend((64600 << 16 | set & 0xffff).to_be_bytes());
        octets.extend((64601 << 16 | set >> 16).to_be_bytes());
        Attributes { octets, next_hop }
    }

    fn put(self, out: &mut Vec<u8>, (address, length): Prefix) {
        if self.add_path {
            out.extend([0, 0, 0, 1]);
        }
        out.push(length);
        let all = address.to_be_bytes();
        out.extend(all.iter().skip(16 - self.bits() / 8).take(usize::from(length).div_ceil(8)));
    }

    /// UPDATEs that announce these prefixes with the same attributes.
    pub(crate) fn announce(
        self,
        out: &mut Vec<u8>,
        attributes: &Attributes,
        prefixes: impl Iterator<Item = Prefix>,
    ) {
        // MP_REACH_NLRI takes 25 octets besides its prefixes.
        let room = LONGEST - HEADER - 4 - 25 - attributes.octets.len();
        let mut nlri = Vec::new();
        for prefix in prefixes {
            if nlri.len() + 21 > room {
                attributes.flush(out, &mut nlri);
            }
            self.put(&mut nlri, prefix);
        }
        attributes.flush(out, &mut nlri);
    }

    /// An UPDATE that withdraws one prefix.
    pub(crate) fn withdraw(self, prefix: Prefix) -> Vec<u8> {
        let (mut out, mut nlri) = (Vec::new(), Vec::new());
        self.put(&mut nlri, prefix);
        if self.ipv6 {
            let [_, length] = short(nlri.len() + 3);
            let section = [&[0x80, 15, length, 0, 2, 1][..], &nlri].concat();
            message(&mut out, UPDATE, &[&[0, 0], &short(section.len()), &section]);
        } else {
            message(&mut out, UPDATE, &[&short(nlri.len()), &nlri, &[0, 0]]);
        }
        out
    }

    /// The withdrawn and the announced prefixes of an UPDATE's body; in IPv6 those of the multiprotocol attributes.
    pub(crate) fn update(self, body: &[u8]) -> Option<(Prefixes<'_>, Prefixes<'_>)> {
        let (withdrawn, rest) = sized(body)?;
        let (mut section, announced) = sized(rest)?;
        let prefixes = |octets| Prefixes { octets, format: self };
        if !self.ipv6 {
            return Some((prefixes(withdrawn), prefixes(announced)));
        }
        let (mut gone, mut come): (&[u8], &[u8]) = (&[], &[]);
        while let [flags, code, rest @ ..] = section {
            let (value, more) = match flags & 0x10 {
                0 => rest.split_first().and_then(|(length, rest)| rest.split_at_checked((*length).into()))?,
                _ => sized(rest)?,
            };
            section = more;
            match code {
                14 => {
                    let next_hop = usize::from(*value.get(3)?);
                    come = value.get(5 + next_hop..)?;
                }
                15 => gone = value.get(3..)?,
                _ => {}
            }
        }
        Some((prefixes(gone), prefixes(come)))
    }
}

/// The attributes of a set, without the prefixes.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    octets: Vec<u8>,
    next_hop: IpAddr,
}

impl Attributes {
    fn flush(&self, out: &mut Vec<u8>, nlri: &mut Vec<u8>) {
        if nlri.is_empty() {
            return;
        }
        match self.next_hop {
            IpAddr::V4(_) => message(out, UPDATE, &[&[0, 0], &short(self.octets.len()), &self.octets, nlri]),
            IpAddr::V6(next_hop) => {
                let value = [&[0, 2, 1, 16][..], &next_hop.octets(), &[0], nlri].concat();
                let reach = [&[0x90, 14][..], &short(value.len()), &value].concat();
                let length = short(reach.len() + self.octets.len());
                message(out, UPDATE, &[&[0, 0], &length, &reach, &self.octets]);
            }
        }
        nlri.clear();
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

/// Prefixes as they stand in an UPDATE; ends early at one cut short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefixes<'a> {
    octets: &'a [u8],
    format: Format,
}

impl Iterator for Prefixes<'_> {
    type Item = Prefix;

    fn next(&mut self) -> Option<Prefix> {
        let octets = if self.format.add_path { self.octets.get(4..)? } else { self.octets };
        let (&length, rest) = octets.split_first()?;
        let (prefix, rest) = rest.split_at_checked(usize::from(length).div_ceil(8))?;
        self.octets = rest;
        let address = prefix.iter().fold(0, |address, octet| address << 8 | u128::from(*octet));
        Some((address << self.format.bits().checked_sub(prefix.len() * 8)?, length))
    }
}

/// What a length of two octets in front says, and what is behind it.
fn sized(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats() -> impl Iterator<Item = Format> {
        let plans = [Plan::Mixed, Plan::Blocks].into_iter();
        let with_family = plans.flat_map(|plan| [(plan, false), (plan, true)]);
        with_family.flat_map(|(plan, ipv6)| {
            [false, true].map(|add_path| Format { plan, ipv6, add_path, graceful: true })
        })
    }

    #[test]
    fn what_is_announced_and_withdrawn_is_read_again() {
        for format in formats() {
            let next_hop: IpAddr = if format.ipv6 { "fd00::1" } else { "10.0.0.1" }.parse().unwrap();
            let numbers: Vec<u32> = (0..5000).collect();
            let mut out = Vec::new();
            let set = format.attributes(&[65001, 4_200_000_000], next_hop, None, 7);
            format.announce(&mut out, &set, numbers.iter().map(|number| format.prefix(*number)));
            let mut seen = Vec::new();
            let mut rest = &out[..];
            while !rest.is_empty() {
                let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
                assert!(length <= LONGEST && rest[18] == UPDATE);
                let (withdrawn, announced) = format.update(&rest[HEADER..length]).unwrap();
                assert_eq!(withdrawn.count(), 0);
                seen.extend(announced.filter_map(|prefix| format.number(prefix)));
                rest = &rest[length..];
            }
            assert_eq!(seen, numbers, "{format:?}");
            let gone = format.withdraw(format.prefix(9));
            let (withdrawn, announced) = format.update(&gone[HEADER..]).unwrap();
            let withdrawn: Vec<_> = withdrawn.map(|prefix| format.number(prefix)).collect();
            assert_eq!((withdrawn, announced.count()), (vec![Some(9)], 0), "{format:?}");
            let end = format.end_of_rib();
            let (withdrawn, announced) = format.update(&end[HEADER..]).unwrap();
            assert_eq!(withdrawn.chain(announced).count(), 0);
        }
    }
}
