//! Netlink messages taken apart: header, attributes, and what an error says. Whatever comes in, reading it ends.

use std::io;

/// Length of a netlink header.
pub(in crate::kernel) const HEADER: usize = 16;

const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Why one request failed: the error number and, where the kernel gave them, its words.
#[derive(Debug)]
pub(in crate::kernel) struct Refusal {
    pub(in crate::kernel) source: io::Error,
    pub(in crate::kernel) words: Option<String>,
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Refusal {
        Refusal { source, words: None }
    }
}

/// A message as received.
pub(in crate::kernel) struct Message<'a> {
    pub(in crate::kernel) kind: u16,
    pub(in crate::kernel) flags: u16,
    pub(in crate::kernel) sequence: u32,
    /// Port of the socket whose request this answers or, for a notification, whose request caused it.
    pub(in crate::kernel) port: u32,
    pub(in crate::kernel) body: &'a [u8],
}

/// The messages of a datagram. A length that makes no sense ends it.
pub(in crate::kernel) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let length = u32_at(header, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let message = Message {
            kind: u16_at(header, 4)?,
            flags: u16_at(header, 6)?,
            sequence: u32_at(header, 8)?,
            port: u32_at(header, 12)?,
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes of a message body: type without flag bits, and value.
pub(in crate::kernel) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Appends an attribute.
pub(in crate::kernel) fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|raw| u16::from_ne_bytes(*raw))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_ne_bytes(*raw))
}

/// What an NLMSG_ERROR says: code 0 is an acknowledgement.
pub(super) fn verdict(message: &Message<'_>) -> Result<(), Refusal> {
    let code = u32_at(message.body, 0).map_or(0, |code| code as i32);
    if code == 0 {
        return Ok(());
    }
    Err(Refusal { source: io::Error::from_raw_os_error(-code), words: words(message) })
}

/// The kernel's words (extended acknowledgement) behind the code and the header of the refused request, and that
/// request's body unless capped.
fn words(message: &Message<'_>) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { u32_at(message.body, 4)? as usize };
    let tail = message.body.get(4 + request.next_multiple_of(4)..)?;
    let (_, text) = attributes(tail).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
    let text = String::from_utf8_lossy(text);
    Some(text.trim_end_matches('\0').to_string())
}
