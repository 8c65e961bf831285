//! The header of every message (RFC 4271 4.1): cutting messages out of a stream and putting the header on.

use super::WireError;

/// Octets of a header.
pub const HEADER: usize = 19;
/// Longest message, unless the receiver announced that it takes extended ones.
pub const MAX_MESSAGE: usize = 4096;
/// Longest extended message (RFC 8654). OPEN and KEEPALIVE are never extended.
pub const EXTENDED_MESSAGE: usize = 65535;

/// Type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OPEN.
    Open,
    /// UPDATE.
    Update,
    /// NOTIFICATION.
    Notification,
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH (RFC 2918).
    Refresh,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Open => 1,
            Kind::Update => 2,
            Kind::Notification => 3,
            Kind::Keepalive => 4,
            Kind::Refresh => 5,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        [Kind::Open, Kind::Update, Kind::Notification, Kind::Keepalive, Kind::Refresh]
            .into_iter()
            .find(|kind| kind.code() == code)
    }

    /// Shortest and longest message of this type where the receiver takes `longest` octets.
    fn bounds(self, longest: usize) -> (usize, usize) {
        match self {
            Kind::Open => (29, MAX_MESSAGE),
            Kind::Update => (23, longest),
            // A length other than 23 is for RFC 7313 5 to judge.
            Kind::Refresh => (HEADER, longest),
            Kind::Notification => (21, longest),
            Kind::Keepalive => (HEADER, HEADER),
        }
    }
}

/// One message without its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: Kind,
    /// What follows the header.
    pub body: &'a [u8],
}

/// [`split_within`] for a receiver without extended messages.
///
/// # Errors
/// As there.
pub fn split(input: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, WireError> {
    split_within(input, MAX_MESSAGE)
}

/// Cuts the first message off `input` and returns it with the rest; `None` while it is incomplete. `longest` is what
/// the receiver said it takes: [`MAX_MESSAGE`] or [`EXTENDED_MESSAGE`] octets.
///
/// # Errors
/// A header that no message can have; the stream cannot be read on.
pub fn split_within(input: &[u8], longest: usize) -> Result<Option<(Frame<'_>, &[u8])>, WireError> {
    let Some((header, _)) = super::take::<HEADER>(input) else { return Ok(None) };
    if header[..16] != [0xff; 16] {
        return Err(WireError::Marker);
    }
    let length = u16::from_be_bytes([header[16], header[17]]);
    let size = usize::from(length);
    if !(HEADER..=longest).contains(&size) {
        return Err(WireError::Length(length));
    }
    let kind = Kind::from_code(header[18]).ok_or(WireError::Kind(header[18]))?;
    let (shortest, longest) = kind.bounds(longest);
    if size < shortest || size > longest {
        return Err(WireError::Length(length));
    }
    let Some((whole, rest)) = super::take_slice(input, size) else { return Ok(None) };
    Ok(Some((Frame { kind, body: &whole[HEADER..] }, rest)))
}

/// Octets to be read before the message begun in `start` can be cut off: the rest of its header, then the rest of it.
#[must_use]
pub fn missing(start: &[u8]) -> usize {
    match super::take::<HEADER>(start) {
        Some((header, _)) => {
            usize::from(u16::from_be_bytes([header[16], header[17]])).saturating_sub(start.len())
        }
        None => HEADER - start.len(),
    }
}

/// Starts a message at the end of `out` and returns where; to be completed by [`finish`].
pub(crate) fn begin(kind: Kind, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend([0xff; 16]);
    out.extend([0, 0, kind.code()]);
    start
}

/// Writes the length of the message that began at `start`.
pub(crate) fn finish(start: usize, out: &mut [u8]) {
    let length = u16::try_from(out.len() - start).expect("messages are cut at 4096 octets");
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
}

/// A whole message of its own.
pub(crate) fn message(kind: Kind, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let start = begin(kind, &mut out);
    body(&mut out);
    finish(start, &mut out);
    out
}

/// A KEEPALIVE.
#[must_use]
pub fn keepalive() -> Vec<u8> {
    // Of its exact length it becomes shared octets without another allocation.
    let mut out = Vec::with_capacity(HEADER);
    let start = begin(Kind::Keepalive, &mut out);
    finish(start, &mut out);
    out
}
