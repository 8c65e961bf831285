//! Netlink messages and attributes, written into one buffer and read from one.

use super::{INET, SUBSYSTEM};

const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
const NESTED: u16 = 0x8000;
/// An attribute's type without its flags.
const TYPE: u16 = 0x3fff;

/// A buffer of messages.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// One message of this type, with netfilter's own header.
    pub(super) fn message(
        &mut self,
        (kind, flags, sequence): (u16, u16, u32),
        (family, resource): (u8, u16),
        body: impl FnOnce(&mut Writer),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// More flags for the message that begins there.
    pub(super) fn add_flags(&mut self, message: usize, flags: u16) {
        if let Some(field) = self.bytes.get_mut(message + 6..message + 8) {
            let before = u16::from_ne_bytes([field[0], field[1]]);
            field.copy_from_slice(&(before | flags).to_ne_bytes());
        }
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.header(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Text with a zero behind it.
    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.header(kind, text.len() + 1);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// A number in network order.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute made of attributes.
    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.header(kind | NESTED, 0);
        body(self);
        let length = u16::try_from(self.bytes.len() - start).expect("lists are cut before they are too long");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// A value as nf_tables wants it.
    pub(super) fn value(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |w| w.bytes(super::kind::DATA_VALUE, value));
    }

    /// The same of a value with two fields.
    pub(super) fn fields(&mut self, kind: u16, fields: [&[u8]; 2]) {
        self.nest(kind, |w| {
            w.header(super::kind::DATA_VALUE, fields.iter().map(|field| field.len()).sum());
            fields.iter().for_each(|field| w.bytes.extend_from_slice(field));
            w.pad();
        });
    }

    fn header(&mut self, kind: u16, length: usize) {
        self.bytes.extend_from_slice(&((4 + length) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Type of an nf_tables message.
pub(super) fn subsystem(kind: u16) -> u16 {
    SUBSYSTEM << 8 | kind
}

/// The body of a request that asks for something: netfilter's header and attributes.
pub(super) fn request(attributes: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer { bytes: vec![INET, 0, 0, 0] };
    attributes(&mut writer);
    writer.bytes
}

/// The attributes in a buffer: type without flags, and value. A length that makes no sense ends them.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & TYPE;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a type.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number in network order.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|raw| u32::from_be_bytes(*raw))
}

/// Text up to its zero.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
}

/// Entries of user data: a byte each for type and length, then the value.
pub(super) fn entries(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, length) = (*bytes.first()?, usize::from(*bytes.get(1)?));
        let value = bytes.get(2..2 + length)?;
        bytes = &bytes[2 + length..];
        Some((kind, value))
    })
}

/// Appends an entry of user data.
pub(super) fn push_entry(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    bytes.push(u8::try_from(value.len()).expect("a comment is short"));
    bytes.extend_from_slice(value);
}
