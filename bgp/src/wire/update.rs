//! UPDATE: taken apart without a judgement, and built from attributes and prefixes.

use std::net::IpAddr;

use super::attribute::{code, flag, push};
use super::frame::{HEADER, Kind, MAX_MESSAGE, begin, finish, message};
use super::nlri::{self, Nlri};
use super::{WireError, take, take_slice};
use crate::family::Family;

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

/// How a session wants its UPDATEs for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The family.
    pub family: Family,
    /// Prefixes have path identifiers (RFC 7911).
    pub add_path: bool,
    /// Longest message in octets: 4096, or 65535 (RFC 8654).
    pub max_message: usize,
}

impl Layout {
    /// Without anything negotiated.
    #[must_use]
    pub fn plain(family: Family) -> Layout {
        Layout { family, add_path: false, max_message: MAX_MESSAGE }
    }

    /// Octets of the longest prefix.
    fn largest(self) -> usize {
        1 + usize::from(self.family.bits() / 8) + if self.add_path { 4 } else { 0 }
    }

    /// IPv4 goes into the classic fields, unless its next hop does not fit there (RFC 8950).
    fn is_classic(self, next_hop: IpAddr) -> bool {
        self.family == Family::Ipv4 && next_hop.is_ipv4()
    }

    /// Appends UPDATEs that announce `nlri`, as few as hold them.
    ///
    /// False when the attributes leave no room for a prefix: then nothing is appended.
    #[must_use]
    pub fn announce<'n>(
        self,
        out: &mut Vec<u8>,
        attributes: Encoded<'_>,
        nlri: impl Iterator<Item = &'n Nlri>,
    ) -> bool {
        if self.is_classic(attributes.next_hop) {
            self.announce_classic(out, attributes, nlri)
        } else {
            self.announce_multiprotocol(out, attributes, nlri)
        }
    }

    fn announce_classic<'n>(
        self,
        out: &mut Vec<u8>,
        attributes: Encoded<'_>,
        nlri: impl Iterator<Item = &'n Nlri>,
    ) -> bool {
        let first = begin(Kind::Update, out);
        out.extend_from_slice(&[0; 4]);
        let section = out.len();
        out.extend_from_slice(attributes.head);
        if let IpAddr::V4(next_hop) = attributes.next_hop {
            push(out, flag::TRANSITIVE, code::NEXT_HOP, &next_hop.octets());
        }
        out.extend_from_slice(attributes.tail);
        let octets = out.len() - section;
        if out.len() - first + self.largest() > self.max_message {
            out.truncate(first);
            return false;
        }
        set_length(out, section - 2, octets);
        let (preamble, mut start) = (out.len() - first, first);
        for nlri in nlri {
            if out.len() - start + nlri::size(nlri, self.add_path) > self.max_message {
                finish(start, out);
                start = out.len();
                out.extend_from_within(first..first + preamble);
            }
            nlri::encode(nlri, self.add_path, out);
        }
        finish(start, out);
        true
    }

    fn announce_multiprotocol<'n>(
        self,
        out: &mut Vec<u8>,
        attributes: Encoded<'_>,
        nlri: impl Iterator<Item = &'n Nlri>,
    ) -> bool {
        let others = attributes.head.len() + attributes.tail.len();
        let first = begin(Kind::Update, out);
        out.extend_from_slice(&[0; 4]);
        // First, as RFC 7606 5.1 asks for.
        out.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED, code::MP_REACH, 0, 0]);
        let [high, low] = self.family.afi().to_be_bytes();
        out.extend_from_slice(&[high, low, 1]);
        match attributes.next_hop {
            IpAddr::V4(next_hop) => {
                out.push(4);
                out.extend_from_slice(&next_hop.octets());
            }
            IpAddr::V6(next_hop) => {
                out.push(16);
                out.extend_from_slice(&next_hop.octets());
            }
        }
        out.push(0);
        let (preamble, mut start) = (out.len() - first, first);
        if preamble + others + self.largest() > self.max_message {
            out.truncate(first);
            return false;
        }
        for nlri in nlri {
            if out.len() - start + others + nlri::size(nlri, self.add_path) > self.max_message {
                finish_multiprotocol(start, out, attributes);
                start = out.len();
                out.extend_from_within(first..first + preamble);
            }
            nlri::encode(nlri, self.add_path, out);
        }
        finish_multiprotocol(start, out, attributes);
        true
    }

    /// Appends UPDATEs that withdraw `nlri`; nothing when there are none.
    pub fn withdraw<'n>(self, out: &mut Vec<u8>, nlri: impl Iterator<Item = &'n Nlri>) {
        let mut nlri = nlri.peekable();
        while nlri.peek().is_some() {
            let start = begin(Kind::Update, out);
            out.extend_from_slice(&[0, 0]);
            if self.family == Family::Ipv6 {
                out.extend_from_slice(&[
                    0,
                    0,
                    flag::OPTIONAL | flag::EXTENDED,
                    code::MP_UNREACH,
                    0,
                    0,
                    0,
                    2,
                    1,
                ]);
            }
            let section = out.len();
            // Two octets for the empty attribute section of the classic form.
            let room = self.max_message - 2;
            while let Some(next) =
                nlri.next_if(|next| out.len() - start + nlri::size(next, self.add_path) <= room)
            {
                nlri::encode(next, self.add_path, out);
            }
            let octets = out.len() - section;
            match self.family {
                Family::Ipv4 => {
                    set_length(out, section - 2, octets);
                    out.extend_from_slice(&[0, 0]);
                }
                Family::Ipv6 => {
                    set_length(out, section - 5, octets + 3);
                    set_length(out, section - 9, octets + 7);
                }
            }
            finish(start, out);
        }
    }
}

/// Puts the other attributes behind MP_REACH_NLRI and writes the lengths.
fn finish_multiprotocol(start: usize, out: &mut Vec<u8>, attributes: Encoded<'_>) {
    let value = start + HEADER + 8;
    let reach = out.len() - value;
    set_length(out, value - 2, reach);
    out.extend_from_slice(attributes.head);
    out.extend_from_slice(attributes.tail);
    let section = start + HEADER + 4;
    let octets = out.len() - section;
    set_length(out, section - 2, octets);
    finish(start, out);
}

/// Writes a length into a message begun.
fn set_length(out: &mut [u8], at: usize, length: usize) {
    let length = u16::try_from(length).expect("messages are cut at 65535 octets");
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// The End-of-RIB marker (RFC 4724 2).
#[must_use]
pub fn end_of_rib(family: Family) -> Vec<u8> {
    message(Kind::Update, |out| match family {
        Family::Ipv4 => out.extend([0, 0, 0, 0]),
        Family::Ipv6 => out.extend([0, 0, 0, 6, flag::OPTIONAL, code::MP_UNREACH, 3, 0, 2, 1]),
    })
}
