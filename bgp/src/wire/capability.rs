//! Capabilities of an OPEN (RFC 5492). Unknown ones are kept as they came and mean nothing.

use std::fmt;

use super::{WireError, take, take_slice};
use crate::config::Role;

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_REFRESH: u8 = 70;

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// A family by AFI and SAFI (RFC 4760).
    Multiprotocol(u16, u8),
    /// RFC 2918.
    RouteRefresh,
    /// Prefixes of the AFI and SAFI that may have a next hop of the AFI that comes third (RFC 8950).
    ExtendedNextHop(Vec<(u16, u8, u16)>),
    /// The sender takes messages of up to 65535 octets (RFC 8654).
    ExtendedMessage,
    /// Role of the sender (RFC 9234), by its code: codes without a meaning are no fault of the OPEN.
    Role(u8),
    /// AS number of the sender in four octets (RFC 6793).
    FourOctetAs(u32),
    /// RFC 4724.
    GracefulRestart(GracefulRestart),
    /// AFI, SAFI and what the sender does with several paths per prefix (RFC 7911): 1 receives, 2 sends, 3 both.
    AddPath(Vec<(u16, u8, u8)>),
    /// RFC 7313.
    EnhancedRefresh,
    /// Anything else.
    Unknown {
        /// Its code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

/// The graceful-restart capability (RFC 4724 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R: the sender's process restarted; the receiver need not wait for its End-of-RIB.
    pub restarting: bool,
    /// N (RFC 8538).
    pub notification: bool,
    /// Seconds the receiver shall wait for the session to come back, at most 4095.
    pub time: u16,
    /// AFI, SAFI and F: forwarding state of that family was preserved.
    pub families: Vec<(u16, u8, bool)>,
}

impl Capability {
    /// Appends code, length and value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (code, value) = match self {
            Capability::Multiprotocol(afi, safi) => {
                let [high, low] = afi.to_be_bytes();
                (MULTIPROTOCOL, vec![high, low, 0, *safi])
            }
            Capability::RouteRefresh => (ROUTE_REFRESH, vec![]),
            Capability::ExtendedNextHop(families) => {
                let entry = |(afi, safi, next_hop): &(u16, u8, u16)| {
                    [afi.to_be_bytes(), [0, *safi], next_hop.to_be_bytes()].concat()
                };
                (EXTENDED_NEXT_HOP, families.iter().flat_map(entry).collect())
            }
            Capability::ExtendedMessage => (EXTENDED_MESSAGE, vec![]),
            Capability::Role(role) => (ROLE, vec![*role]),
            Capability::AddPath(families) => {
                let entry =
                    |(afi, safi, mode): &(u16, u8, u8)| [&afi.to_be_bytes()[..], &[*safi, *mode]].concat();
                (ADD_PATH, families.iter().flat_map(entry).collect())
            }
            Capability::EnhancedRefresh => (ENHANCED_REFRESH, vec![]),
            Capability::FourOctetAs(asn) => (FOUR_OCTET_AS, asn.to_be_bytes().to_vec()),
            Capability::GracefulRestart(graceful) => (GRACEFUL_RESTART, graceful.value()),
            Capability::Unknown { code, value } => (*code, value.clone()),
        };
        out.extend([code, u8::try_from(value.len()).expect("capability values are short")]);
        out.extend(value);
    }

    /// All capabilities of one optional parameter.
    ///
    /// # Errors
    /// Lengths that contradict each other, or a known capability of the wrong length.
    pub fn decode_all(mut input: &[u8]) -> Result<Vec<Capability>, WireError> {
        let mut all = Vec::new();
        while !input.is_empty() {
            let ([code, length], rest) = take::<2>(input).ok_or(WireError::Open("capability header cut"))?;
            let (value, rest) =
                take_slice(rest, usize::from(length)).ok_or(WireError::Open("capability value cut"))?;
            all.push(Capability::decode(code, value)?);
            input = rest;
        }
        Ok(all)
    }

    fn decode(code: u8, value: &[u8]) -> Result<Capability, WireError> {
        Ok(match (code, value) {
            (MULTIPROTOCOL, [high, low, _, safi]) => {
                Capability::Multiprotocol(u16::from_be_bytes([*high, *low]), *safi)
            }
            (MULTIPROTOCOL, _) => return Err(WireError::Open("multiprotocol capability is not 4 octets")),
            (ROUTE_REFRESH, []) => Capability::RouteRefresh,
            (EXTENDED_NEXT_HOP, value) if value.len() % 6 == 0 => Capability::ExtendedNextHop(
                value.chunks_exact(6).map(|e| (word(e, 0), e[3], word(e, 4))).collect(),
            ),
            (EXTENDED_NEXT_HOP, _) => {
                return Err(WireError::Open("extended next hop capability has a bad length"));
            }
            (EXTENDED_MESSAGE, []) => Capability::ExtendedMessage,
            (ROLE, [role]) => Capability::Role(*role),
            (ROLE, _) => return Err(WireError::Open("role capability is not 1 octet")),
            (ADD_PATH, value) if value.len() % 4 == 0 => {
                Capability::AddPath(value.chunks_exact(4).map(|e| (word(e, 0), e[2], e[3])).collect())
            }
            (ADD_PATH, _) => return Err(WireError::Open("add-path capability has a bad length")),
            (ENHANCED_REFRESH, []) => Capability::EnhancedRefresh,
            (FOUR_OCTET_AS, [a, b, c, d]) => Capability::FourOctetAs(u32::from_be_bytes([*a, *b, *c, *d])),
            (FOUR_OCTET_AS, _) => return Err(WireError::Open("four-octet AS capability is not 4 octets")),
            (GRACEFUL_RESTART, [high, low, families @ ..]) if families.len() % 4 == 0 => {
                Capability::GracefulRestart(GracefulRestart::decode([*high, *low], families))
            }
            (GRACEFUL_RESTART, _) => {
                return Err(WireError::Open("graceful-restart capability has a bad length"));
            }
            (code, value) => Capability::Unknown { code, value: value.to_vec() },
        })
    }
}

fn word(entry: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([entry[at], entry[at + 1]])
}

impl Role {
    /// Its code (RFC 9234 4.1).
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
        }
    }

    /// The role of a code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Role> {
        [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer]
            .into_iter()
            .find(|role| role.code() == code)
    }

    /// What the other end has to be (RFC 9234 4.2).
    #[must_use]
    pub fn counterpart(self) -> Role {
        match self {
            Role::Provider => Role::Customer,
            Role::Customer => Role::Provider,
            Role::RouteServer => Role::RouteServerClient,
            Role::RouteServerClient => Role::RouteServer,
            Role::Peer => Role::Peer,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Provider => "provider",
            Role::RouteServer => "route server",
            Role::RouteServerClient => "route server client",
            Role::Customer => "customer",
            Role::Peer => "peer",
        })
    }
}

impl GracefulRestart {
    fn value(&self) -> Vec<u8> {
        let flags = u16::from(self.restarting) << 15 | u16::from(self.notification) << 14;
        let mut out = (flags | self.time & 0x0fff).to_be_bytes().to_vec();
        for (afi, safi, forwarding) in &self.families {
            out.extend(afi.to_be_bytes());
            out.extend([*safi, u8::from(*forwarding) << 7]);
        }
        out
    }

    fn decode(flags: [u8; 2], families: &[u8]) -> GracefulRestart {
        let word = u16::from_be_bytes(flags);
        GracefulRestart {
            restarting: word & 0x8000 != 0,
            notification: word & 0x4000 != 0,
            time: word & 0x0fff,
            families: families
                .chunks_exact(4)
                .map(|f| (u16::from_be_bytes([f[0], f[1]]), f[2], f[3] & 0x80 != 0))
                .collect(),
        }
    }
}
