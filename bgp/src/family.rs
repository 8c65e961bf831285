//! Address families and prefixes. Owns the one rule that a prefix has no host bits; never looks at routes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// A family this speaker carries; the subsequent family is always unicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4,
    /// AFI 2, SAFI 1.
    Ipv6,
}

impl Family {
    /// The family of an address. One session carries the family of its transport (bgp-behaviour 1).
    #[must_use]
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    /// The family of an AFI and SAFI pair, if we carry it.
    #[must_use]
    pub fn from_code(afi: u16, safi: u8) -> Option<Family> {
        match (afi, safi) {
            (1, 1) => Some(Family::Ipv4),
            (2, 1) => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// Address family identifier (RFC 4760).
    #[must_use]
    pub fn afi(self) -> u16 {
        match self {
            Family::Ipv4 => 1,
            Family::Ipv6 => 2,
        }
    }

    /// Bits in an address.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4 unicast",
            Family::Ipv6 => "IPv6 unicast",
        })
    }
}

/// A prefix without host bits, so that equal prefixes compare equal. IPv4 sorts before IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    family: Family,
    /// The address; an IPv4 one stands in the first four octets and zeros follow.
    octets: [u8; 16],
    length: u8,
}

impl Prefix {
    /// The prefix of `length` bits that holds `address`; `None` when the family has fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        match address {
            IpAddr::V4(address) => Prefix::from_octets(Family::Ipv4, &address.octets(), length),
            IpAddr::V6(address) => Prefix::from_octets(Family::Ipv6, &address.octets(), length),
        }
    }

    /// The prefix of `length` bits whose address starts with `start`; bits beyond `length` do not count. `None` when the
    /// family has fewer bits or octets.
    #[must_use]
    pub(crate) fn from_octets(family: Family, start: &[u8], length: u8) -> Option<Prefix> {
        if length > family.bits() || start.len() * 8 > usize::from(family.bits()) {
            return None;
        }
        let mut octets = [0; 16];
        octets[..start.len()].copy_from_slice(start);
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        let octets = (u128::from_be_bytes(octets) & mask).to_be_bytes();
        Some(Prefix { family, octets, length })
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        match self.family {
            Family::Ipv4 => {
                let [a, b, c, d, ..] = self.octets;
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(self.octets)),
        }
    }

    /// The octets of its address that hold bits of the prefix.
    pub(crate) fn significant(&self) -> &[u8] {
        &self.octets[..usize::from(self.length).div_ceil(8)]
    }

    /// Its length in bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Its family.
    #[must_use]
    pub fn family(self) -> Family {
        self.family
    }

    /// Equal to `other` or inside it.
    #[must_use]
    pub fn is_within(self, other: IpNetwork) -> bool {
        self.length() >= other.prefix() && other.contains(self.address())
    }

    /// The same as the type the rest of the world uses.
    #[must_use]
    pub fn network(self) -> IpNetwork {
        IpNetwork::new(self.address(), self.length).expect("the length was checked against the family")
    }
}

/// One word for IPv4, two and a half for IPv6: prefixes are hashed for every route.
impl Hash for Prefix {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bits = u128::from_be_bytes(self.octets);
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        match self.family {
            Family::Ipv4 => state.write_u64(high | u64::from(self.length)),
            Family::Ipv6 => {
                state.write_u64(high);
                state.write_u64(low ^ u64::from(self.length).rotate_right(8));
            }
        }
    }
}

impl From<IpNetwork> for Prefix {
    fn from(network: IpNetwork) -> Prefix {
        Prefix::new(network.ip(), network.prefix()).expect("an IpNetwork's length fits its family")
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.network().fmt(f)
    }
}
