//! Path attributes (RFC 4271 4.3, 5): cutting them, and the set of a route with its canonical octets.
//!
//! [`PathAttributes`] borrows from the message it was read from; nothing is copied until someone changes it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use super::{as_path, take, take_slice};

/// Attribute type codes.
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the standards")]
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH: u8 = 14;
    pub const MP_UNREACH: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const LARGE_COMMUNITIES: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
}

/// Attribute flags.
pub mod flag {
    /// Not every implementation knows it.
    pub const OPTIONAL: u8 = 0x80;
    /// Passed on by those that do not know it.
    pub const TRANSITIVE: u8 = 0x40;
    /// Passed on by someone who did not know it.
    pub const PARTIAL: u8 = 0x20;
    /// Two octets of length.
    pub const EXTENDED: u8 = 0x10;
}

/// ORIGIN: learned from an interior protocol. What routes of our own carry.
pub const ORIGIN_IGP: u8 = 0;

/// One attribute as it stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Its flags.
    pub flags: u8,
    /// Its type code.
    pub code: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// Cuts the first attribute off `input` and returns it with the rest; `None` when the section contradicts itself.
#[must_use]
pub fn split(input: &[u8]) -> Option<(RawAttribute<'_>, &[u8])> {
    let ([flags, code], rest) = take::<2>(input)?;
    let (length, rest) = if flags & flag::EXTENDED == 0 {
        let ([length], rest) = take::<1>(rest)?;
        (usize::from(length), rest)
    } else {
        let (length, rest) = take::<2>(rest)?;
        (usize::from(u16::from_be_bytes(length)), rest)
    };
    let (value, rest) = take_slice(rest, length)?;
    Some((RawAttribute { flags, code, value }, rest))
}

/// Appends an attribute; the extended-length flag follows the value's length.
pub fn push(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags & !flag::EXTENDED, code, length]),
        Err(_) => {
            let [high, low] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
            out.extend([flags | flag::EXTENDED, code, high, low]);
        }
    }
    out.extend(value);
}

/// The attributes of a route, judged and normal: four-octet AS numbers, no NEXT_HOP or MP attribute among the octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathAttributes<'a> {
    /// NEXT_HOP, or the global one of MP_REACH_NLRI.
    pub next_hop: IpAddr,
    /// ORIGIN.
    pub origin: u8,
    /// AS_PATH, four octets per number.
    pub as_path: Cow<'a, [u8]>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// COMMUNITIES, four octets each.
    pub communities: Cow<'a, [u8]>,
    /// ORIGINATOR_ID.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST, four octets each.
    pub cluster_list: Cow<'a, [u8]>,
    /// EXTENDED COMMUNITIES, eight octets each.
    pub extended_communities: Cow<'a, [u8]>,
    /// LARGE_COMMUNITIES, twelve octets each.
    pub large_communities: Cow<'a, [u8]>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub only_to_customer: Option<u32>,
    /// Unknown transitive attributes, whole, with the partial flag set.
    pub unknown: Cow<'a, [u8]>,
}

impl<'a> PathAttributes<'a> {
    /// The attributes of a route that begins here.
    #[must_use]
    pub fn originated(next_hop: IpAddr) -> PathAttributes<'static> {
        PathAttributes {
            next_hop,
            origin: ORIGIN_IGP,
            as_path: Cow::Borrowed(&[]),
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Cow::Borrowed(&[]),
            originator_id: None,
            cluster_list: Cow::Borrowed(&[]),
            extended_communities: Cow::Borrowed(&[]),
            large_communities: Cow::Borrowed(&[]),
            only_to_customer: None,
            unknown: Cow::Borrowed(&[]),
        }
    }

    /// Reads octets that [`PathAttributes::encode_head`] and [`PathAttributes::encode_tail`] wrote.
    pub(crate) fn from_canonical(next_hop: IpAddr, mut octets: &'a [u8]) -> PathAttributes<'a> {
        let mut attributes: PathAttributes<'a> = PathAttributes::originated(next_hop);
        while let Some((raw, rest)) = split(octets) {
            if !attributes.take_canonical(raw) {
                attributes.unknown = Cow::Borrowed(octets);
                break;
            }
            octets = rest;
        }
        attributes
    }

    fn take_canonical(&mut self, raw: RawAttribute<'a>) -> bool {
        let value = raw.value;
        let word = || take::<4>(value).map(|(octets, _)| u32::from_be_bytes(octets));
        match raw.code {
            code::ORIGIN => self.origin = value.first().copied().unwrap_or(ORIGIN_IGP),
            code::AS_PATH => self.as_path = Cow::Borrowed(value),
            code::MULTI_EXIT_DISC => self.med = word(),
            code::LOCAL_PREF => self.local_pref = word(),
            code::ATOMIC_AGGREGATE => self.atomic_aggregate = true,
            code::AGGREGATOR => self.aggregator = aggregator(value),
            code::COMMUNITIES => self.communities = Cow::Borrowed(value),
            code::ORIGINATOR_ID => self.originator_id = word().map(Ipv4Addr::from),
            code::CLUSTER_LIST => self.cluster_list = Cow::Borrowed(value),
            code::EXTENDED_COMMUNITIES => self.extended_communities = Cow::Borrowed(value),
            code::LARGE_COMMUNITIES => self.large_communities = Cow::Borrowed(value),
            code::ONLY_TO_CUSTOMER => self.only_to_customer = word(),
            _ => return false,
        }
        true
    }

    /// Appends what belongs before NEXT_HOP: ORIGIN and AS_PATH.
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        push(out, flag::TRANSITIVE, code::ORIGIN, &[self.origin]);
        push(out, flag::TRANSITIVE, code::AS_PATH, &self.as_path);
    }

    /// Appends what belongs after NEXT_HOP, by type code; unknown attributes last.
    pub fn encode_tail(&self, out: &mut Vec<u8>) {
        const BOTH: u8 = flag::OPTIONAL | flag::TRANSITIVE;
        let mut word = |flags, code, value: Option<u32>| {
            if let Some(value) = value {
                push(out, flags, code, &value.to_be_bytes());
            }
        };
        word(flag::OPTIONAL, code::MULTI_EXIT_DISC, self.med);
        word(flag::TRANSITIVE, code::LOCAL_PREF, self.local_pref);
        if self.atomic_aggregate {
            push(out, flag::TRANSITIVE, code::ATOMIC_AGGREGATE, &[]);
        }
        if let Some((asn, id)) = self.aggregator {
            let mut value = asn.to_be_bytes().to_vec();
            value.extend(id.octets());
            push(out, BOTH, code::AGGREGATOR, &value);
        }
        let mut list = |flags, code, value: &[u8]| {
            if !value.is_empty() {
                push(out, flags, code, value);
            }
        };
        list(BOTH, code::COMMUNITIES, &self.communities);
        if let Some(id) = self.originator_id {
            list(flag::OPTIONAL, code::ORIGINATOR_ID, &id.octets());
        }
        list(flag::OPTIONAL, code::CLUSTER_LIST, &self.cluster_list);
        list(BOTH, code::EXTENDED_COMMUNITIES, &self.extended_communities);
        list(BOTH, code::LARGE_COMMUNITIES, &self.large_communities);
        if let Some(asn) = self.only_to_customer {
            list(BOTH, code::ONLY_TO_CUSTOMER, &asn.to_be_bytes());
        }
        out.extend(&*self.unknown);
    }

    /// The attributes for a speaker with two-octet AS numbers: before and after NEXT_HOP (RFC 6793 4.2.2).
    #[must_use]
    pub fn encode_narrow(&self) -> (Vec<u8>, Vec<u8>) {
        const BOTH: u8 = flag::OPTIONAL | flag::TRANSITIVE;
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let (path, lossy) = as_path::narrow(&self.as_path);
        push(&mut head, flag::TRANSITIVE, code::ORIGIN, &[self.origin]);
        push(&mut head, flag::TRANSITIVE, code::AS_PATH, &path);
        let mut rest = self.clone();
        if let Some((asn, id)) = rest.aggregator.take() {
            let short = u16::try_from(asn).unwrap_or(super::open::AS_TRANS);
            push(&mut tail, BOTH, code::AGGREGATOR, &[&short.to_be_bytes()[..], &id.octets()].concat());
            if u32::from(short) != asn {
                push(&mut tail, BOTH, code::AS4_AGGREGATOR, &[&asn.to_be_bytes()[..], &id.octets()].concat());
            }
        }
        if lossy {
            push(&mut tail, BOTH, code::AS4_PATH, &self.as_path);
        }
        rest.encode_tail(&mut tail);
        (head, tail)
    }

    /// Carries this standard community.
    #[must_use]
    pub fn has_community(&self, community: u32) -> bool {
        self.communities.chunks_exact(4).any(|c| c == community.to_be_bytes())
    }

    /// Adds a standard community unless it is there.
    pub fn add_community(&mut self, community: u32) {
        if !self.has_community(community) {
            self.communities.to_mut().extend(community.to_be_bytes());
        }
    }

    /// Adds a large community unless it is there.
    pub fn add_large_community(&mut self, community: [u32; 3]) {
        let octets: Vec<u8> = community.iter().flat_map(|part| part.to_be_bytes()).collect();
        if !self.large_communities.chunks_exact(12).any(|c| c == octets) {
            self.large_communities.to_mut().extend(octets);
        }
    }
}

/// AGGREGATOR with four-octet AS number.
pub(crate) fn aggregator(value: &[u8]) -> Option<(u32, Ipv4Addr)> {
    let (asn, rest) = take::<4>(value)?;
    let (id, _) = take::<4>(rest)?;
    Some((u32::from_be_bytes(asn), Ipv4Addr::from(id)))
}
