//! Address families and prefixes. Owns the one rule that a prefix has no host bits; never looks at routes.

use std::fmt;
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

/// A prefix without host bits, so that equal prefixes compare equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNetwork);

impl Prefix {
    /// The prefix of `length` bits that holds `address`; `None` when the family has fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        let masked = match address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(length.into())?).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(a) & mask))
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(length.into())?).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(a) & mask))
            }
        };
        IpNetwork::new(masked, length).ok().map(Prefix)
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0.ip()
    }

    /// Its length in bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.0.prefix()
    }

    /// Its family.
    #[must_use]
    pub fn family(self) -> Family {
        Family::of(self.0.ip())
    }

    /// Equal to `other` or inside it.
    #[must_use]
    pub fn is_within(self, other: IpNetwork) -> bool {
        self.length() >= other.prefix() && other.contains(self.address())
    }

    /// The same as the type the rest of the world uses.
    #[must_use]
    pub fn network(self) -> IpNetwork {
        self.0
    }
}

impl From<IpNetwork> for Prefix {
    fn from(network: IpNetwork) -> Prefix {
        Prefix::new(network.ip(), network.prefix()).expect("an IpNetwork's length fits its family")
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
