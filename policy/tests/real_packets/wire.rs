//! Packets as octets. Each ends in a number of its own, by which it is known where it arrives.

use std::net::IpAddr;

use tortie_policy::eval::{CtState, Packet};

/// Before the number, so that what the kernel sends by itself is told apart.
const MAGIC: [u8; 4] = *b"tort";
/// What stands where other protocols have ports, in those that have none.
const NO_PORTS: [(u16, u16); 3] = [(80, 80), (53, 8080), (4789, 81)];
/// IPv6 destination options, which change nothing about what a packet is.
const DESTINATION_OPTIONS: u8 = 60;

/// A packet that was sent, as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arrived {
    pub(crate) id: u32,
    pub(crate) protocol: u8,
    /// Only where the whole packet can be seen.
    pub(crate) source: Option<IpAddr>,
}

/// A whole packet from its IP header. Every eighth has a header of options more.
pub(crate) fn packet(packet: &Packet, id: u32) -> Vec<u8> {
    let payload = transport(packet, id);
    let options = id.is_multiple_of(8);
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // The kernel fills in length, checksum and, for 0, the identification.
            let mut bytes =
                vec![if options { 0x46 } else { 0x45 }, 0, 0, 0, 0, 0, 0, 0, 64, packet.protocol, 0, 0];
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            // No operation.
            bytes.extend(vec![1; if options { 4 } else { 0 }]);
            [bytes, payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let extension = [packet.protocol, 0, 1, 4, 0, 0, 0, 0];
            let extension = if options { &extension[..] } else { &[] };
            let next = if options { DESTINATION_OPTIONS } else { packet.protocol };
            let [high, low] = ((extension.len() + payload.len()) as u16).to_be_bytes();
            let mut bytes = vec![0x60, 0, 0, 0, high, low, next, 64];
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            [&bytes, extension, &payload].concat()
        }
        families => panic!("two families: {families:?}"),
    }
}

/// What is behind the IP header.
fn transport(packet: &Packet, id: u32) -> Vec<u8> {
    let number = id.to_be_bytes();
    let (source, destination) = packet.ports.unwrap_or(NO_PORTS[id as usize % NO_PORTS.len()]);
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    let (head, checksum): (Vec<u8>, _) = match (packet.protocol, packet.icmp) {
        // A first segment; one that also ends the connection fits none.
        (6, _) => {
            let flags = if packet.state == CtState::Invalid { 3 } else { 2 };
            ([&ports[..], &number, &[0; 4], &[0x50, flags, 4, 0, 0, 0, 0, 0]].concat(), Some(16))
        }
        (17, _) => ([&ports[..], &[0, 16, 0, 0]].concat(), Some(6)),
        // UDP-Lite, all of it covered by the checksum.
        (136, _) => ([&ports[..], &[0; 4]].concat(), Some(6)),
        (132, _) => return sctp(&ports, number),
        (1 | 58, Some((icmp_type, code))) => {
            ([&[icmp_type, code, 0, 0], &number[2..], &number[..2]].concat(), Some(2))
        }
        // GRE: what would be a destination port is the protocol inside.
        (47, _) => ([&[0, 0], &ports[2..], &[0; 4]].concat(), None),
        _ => (ports, None),
    };
    let mut bytes = [&head[..], &MAGIC, &number].concat();
    if let Some(place) = checksum {
        let pseudo = if packet.protocol == 1 { vec![] } else { pseudo_header(packet, bytes.len() as u32) };
        let sum = checksum_of(&[pseudo, bytes.clone()].concat());
        bytes[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// A chunk INIT with the number as a parameter that nobody knows (RFC 9260, 3.3.2).
fn sctp(ports: &[u8], number: [u8; 4]) -> Vec<u8> {
    let chunk = [1, 0, 0, 32, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0x8f, 0xff, 0, 12];
    let mut bytes = [ports, &[0; 8], &chunk, &MAGIC, &number].concat();
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
        (0..8).fold(sum ^ u32::from(*byte), step)
    });
    bytes[8..12].copy_from_slice(&(!sum).to_le_bytes());
    bytes
}

fn pseudo_header(packet: &Packet, length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in [packet.source, packet.destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend(length.to_be_bytes());
    // Connection tracking checks UDP-Lite as if it were UDP (udplite_error; seen on 6.18).
    let protocol = if packet.protocol == 136 { 17 } else { packet.protocol };
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// The checksum of the Internet; never 0, which for UDP means none.
fn checksum_of(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => u16::MAX,
        sum => sum,
    }
}

/// Reads a packet from its IP header.
pub(crate) fn read(bytes: &[u8]) -> Option<Arrived> {
    let (protocol, source, length): (u8, IpAddr, usize) = match bytes.first()? >> 4 {
        4 => {
            let length = usize::from(bytes.first()? & 0xf) * 4;
            (*bytes.get(9)?, <[u8; 4]>::try_from(bytes.get(12..16)?).ok()?.into(), length)
        }
        6 => {
            let (next, length) = match *bytes.get(6)? {
                DESTINATION_OPTIONS => (*bytes.get(40)?, 48),
                next => (next, 40),
            };
            (next, <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?.into(), length)
        }
        _ => return None,
    };
    Some(Arrived { source: Some(source), ..read_payload(protocol, bytes.get(length..)?)? })
}

/// Reads what is behind the IP header. What is said of a packet that was rejected is not that packet.
pub(crate) fn read_payload(protocol: u8, bytes: &[u8]) -> Option<Arrived> {
    if let (1, Some(3)) | (58, Some(1)) = (protocol, bytes.first()) {
        return None;
    }
    let number = bytes.last_chunk::<8>()?.strip_prefix(&MAGIC)?;
    Some(Arrived { id: u32::from_be_bytes(number.try_into().ok()?), protocol, source: None })
}

/// What connection tracking makes of a first packet.
pub(crate) fn state(packet: &Packet) -> CtState {
    let v6 = packet.source.is_ipv6();
    match (packet.protocol, packet.icmp) {
        (1, Some((8, _))) => CtState::New,
        (58, Some((128, _))) => CtState::New,
        (58, Some((130..=137 | 143, _))) if v6 => CtState::Untracked,
        // No request, or ICMP of the other family.
        (1 | 58, _) => CtState::Invalid,
        // `transport` makes it so.
        (6, _) if packet.state == CtState::Invalid => CtState::Invalid,
        _ => CtState::New,
    }
}
