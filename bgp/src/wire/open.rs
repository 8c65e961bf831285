//! OPEN (RFC 4271 4.2): structure only; whether it is acceptable is decided by `fsm::negotiate`.

use std::net::Ipv4Addr;

use super::capability::Capability;
use super::frame::{Kind, message};
use super::{WireError, take, take_slice};

/// Stands in the two-octet AS field for numbers that do not fit (RFC 6793).
pub const AS_TRANS: u16 = 23456;

const CAPABILITIES: u8 = 2;
const EXTENDED: u8 = 255;

/// An OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// AS number: that of the four-octet capability if it is there.
    pub asn: u32,
    /// Proposed hold time in seconds.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities in their order.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The whole message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut capabilities = Vec::new();
        for capability in &self.capabilities {
            capability.encode(&mut capabilities);
        }
        message(Kind::Open, |out| {
            out.push(4);
            out.extend(u16::try_from(self.asn).unwrap_or(AS_TRANS).to_be_bytes());
            out.extend(self.hold_time.to_be_bytes());
            out.extend(self.router_id.octets());
            encode_parameters(&capabilities, out);
        })
    }

    /// Takes a message body apart; also with extended parameters (RFC 9072).
    ///
    /// # Errors
    /// Another version, or lengths that contradict each other.
    pub fn decode(body: &[u8]) -> Result<Open, WireError> {
        const CUT: WireError = WireError::Open("shorter than its fields");
        let ([version, as_high, as_low, hold_high, hold_low], rest) = take::<5>(body).ok_or(CUT)?;
        if version != 4 {
            return Err(WireError::Version(version));
        }
        let (id, rest) = take::<4>(rest).ok_or(CUT)?;
        let capabilities = parameters(rest)?;
        let short = u32::from(u16::from_be_bytes([as_high, as_low]));
        let asn = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            Capability::Multiprotocol(..)
            | Capability::RouteRefresh
            | Capability::ExtendedNextHop(_)
            | Capability::ExtendedMessage
            | Capability::Role(_)
            | Capability::GracefulRestart(_)
            | Capability::AddPath(_)
            | Capability::EnhancedRefresh
            | Capability::Unknown { .. } => None,
        });
        Ok(Open {
            asn: asn.unwrap_or(short),
            hold_time: u16::from_be_bytes([hold_high, hold_low]),
            router_id: Ipv4Addr::from(id),
            capabilities,
        })
    }
}

/// All capabilities in one parameter; in the extended form only where it needs that (RFC 9072 2).
fn encode_parameters(capabilities: &[u8], out: &mut Vec<u8>) {
    let length = capabilities.len();
    match (u8::try_from(length), u8::try_from(length + 2)) {
        (Ok(0), _) => out.push(0),
        (Ok(length), Ok(total)) => out.extend([total, CAPABILITIES, length]),
        _ => {
            let word = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            out.extend([EXTENDED, EXTENDED]);
            out.extend(word(length + 3));
            out.push(CAPABILITIES);
            out.extend(word(length));
        }
    }
    out.extend(capabilities);
}

fn parameters(input: &[u8]) -> Result<Vec<Capability>, WireError> {
    const CUT: WireError = WireError::Open("optional parameters cut");
    let ([length], rest) = take::<1>(input).ok_or(CUT)?;
    let extended = length != 0 && rest.first() == Some(&EXTENDED);
    let (total, rest) = if extended {
        let ([_, high, low], rest) = take::<3>(rest).ok_or(CUT)?;
        (usize::from(u16::from_be_bytes([high, low])), rest)
    } else {
        (usize::from(length), rest)
    };
    if rest.len() != total {
        return Err(WireError::Open("length of the optional parameters does not fit the message"));
    }
    let mut input = rest;
    let mut all = Vec::new();
    while !input.is_empty() {
        let ([kind], rest) = take::<1>(input).ok_or(CUT)?;
        let (length, rest) = if extended {
            let (length, rest) = take::<2>(rest).ok_or(CUT)?;
            (usize::from(u16::from_be_bytes(length)), rest)
        } else {
            let ([length], rest) = take::<1>(rest).ok_or(CUT)?;
            (usize::from(length), rest)
        };
        let (value, rest) = take_slice(rest, length).ok_or(CUT)?;
        if kind != CAPABILITIES {
            return Err(WireError::Parameter(kind));
        }
        all.extend(Capability::decode_all(value)?);
        input = rest;
    }
    Ok(all)
}
