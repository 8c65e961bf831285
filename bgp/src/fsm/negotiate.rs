//! Two OPENs make a session, or a reason why not. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::announced::Announced;
use crate::config::{AddPath, Role};
use crate::family::Family;
use crate::filter::PeerType;
use crate::speaker::ConnId;
use crate::wire::frame::{EXTENDED_MESSAGE, MAX_MESSAGE};
use crate::wire::{Capability, Context, GracefulRestart, Open, Reading, WireError};

/// What a peer's state machine is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) router_id: Ipv4Addr,
    pub(crate) local_as: u32,
    pub(crate) remote_as: u32,
    /// The family of the transport.
    pub(crate) family: Family,
    /// What the session shall carry; never empty.
    pub(crate) families: Vec<Family>,
    pub(crate) passive: bool,
    pub(crate) hold_time: Duration,
    pub(crate) keepalive_time: Option<Duration>,
    pub(crate) connect_retry: Duration,
    pub(crate) restart_time: Duration,
    pub(crate) add_path: AddPath,
    pub(crate) extended_next_hop: bool,
    pub(crate) extended_messages: bool,
    pub(crate) role: Option<Role>,
    pub(crate) strict_role: bool,
    /// Administratively down, with these words.
    pub(crate) shutdown: Option<String>,
}

/// What both ends agreed on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Session {
    pub(crate) conn: ConnId,
    pub(crate) local: IpAddr,
    pub(crate) remote_id: Ipv4Addr,
    pub(crate) four_octet: bool,
    /// Zero switches the timers off.
    pub(crate) hold_time: Duration,
    pub(crate) keepalive_time: Duration,
    /// What is carried, in their order; never empty.
    pub(crate) families: Vec<FamilySession>,
    /// Octets of the longest UPDATE, ROUTE-REFRESH or NOTIFICATION the peer takes: 4096 or 65535 (RFC 8654).
    pub(crate) max_message: usize,
    /// The peer answers route refresh (RFC 2918).
    pub(crate) refresh: bool,
    /// Both ends mark where a refresh begins and ends (RFC 7313).
    pub(crate) enhanced_refresh: bool,
    /// The peer's role, when both ends announced one and they fit (RFC 9234).
    pub(crate) remote_role: Option<Role>,
    /// Present when both ends announced graceful restart.
    pub(crate) restart: Option<PeerRestart>,
}

/// What both ends agreed on for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FamilySession {
    pub(crate) family: Family,
    /// We announce prefixes with path identifiers (RFC 7911).
    pub(crate) add_path_send: bool,
    /// The peer announces prefixes with path identifiers.
    pub(crate) add_path_receive: bool,
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub(crate) extended_next_hop: bool,
}

/// The peer's side of graceful restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerRestart {
    /// It has just restarted (R).
    pub(crate) restarting: bool,
    /// Both ends keep routes over a NOTIFICATION, too (N, RFC 8538).
    pub(crate) notification: bool,
    /// How long to wait for it.
    pub(crate) time: Duration,
    /// Families of the session whose routes are kept should it be lost, and whether the peer's forwarding state of
    /// them survived its last restart (F).
    pub(crate) families: Vec<(Family, bool)>,
}

impl PeerRestart {
    /// Should the session be lost, routes of the family are kept.
    pub(crate) fn keeps(&self, family: Family) -> bool {
        !self.time.is_zero() && self.families.iter().any(|(listed, _)| *listed == family)
    }

    /// The forwarding state of the family survived.
    pub(crate) fn forwarding(&self, family: Family) -> bool {
        self.families.contains(&(family, true))
    }
}

impl Session {
    /// What was agreed on for a family, if it is carried.
    pub(crate) fn family(&self, family: Family) -> Option<FamilySession> {
        self.families.iter().copied().find(|carried| carried.family == family)
    }

    /// How UPDATEs of the peer are read.
    pub(crate) fn context(&self, internal: bool) -> Context {
        let reading = |family| {
            self.family(family).map(|carried| Reading {
                add_path: carried.add_path_receive,
                extended_next_hop: carried.extended_next_hop,
            })
        };
        let (ipv4, ipv6) = (reading(Family::Ipv4), reading(Family::Ipv6));
        Context { internal, four_octet: self.four_octet, ipv4, ipv6 }
    }
}

impl Settings {
    pub(crate) fn peer_type(&self) -> PeerType {
        if self.local_as == self.remote_as { PeerType::Internal } else { PeerType::External }
    }

    /// Our role, which only external sessions have.
    pub(crate) fn role(&self) -> Option<Role> {
        self.role.filter(|_| self.peer_type() == PeerType::External)
    }

    /// Our OPEN. F is always 1 since the kernel's routes outlive this process; R only after a real restart of it
    /// (bgp-behaviour 8).
    pub(crate) fn open(&self, restarting: bool) -> Open {
        let families = || self.families.iter().copied();
        let mut capabilities: Vec<Capability> =
            families().map(|family| Capability::Multiprotocol(family.afi(), 1)).collect();
        capabilities.push(Capability::RouteRefresh);
        if self.offers_extended_next_hop() {
            capabilities.push(Capability::ExtendedNextHop(vec![(Family::Ipv4.afi(), 1, Family::Ipv6.afi())]));
        }
        if self.extended_messages {
            capabilities.push(Capability::ExtendedMessage);
        }
        capabilities.extend(self.role().map(|role| Capability::Role(role.code())));
        if !self.restart_time.is_zero() {
            capabilities.push(Capability::GracefulRestart(GracefulRestart {
                restarting,
                notification: true,
                time: u16::try_from(self.restart_time.as_secs()).unwrap_or(u16::MAX).min(0x0fff),
                families: families().map(|family| (family.afi(), 1, true)).collect(),
            }));
        }
        capabilities.push(Capability::FourOctetAs(self.local_as));
        let mode = u8::from(self.add_path.receive) | u8::from(self.add_path.send) << 1;
        if mode != 0 {
            capabilities
                .push(Capability::AddPath(families().map(|family| (family.afi(), 1, mode)).collect()));
        }
        capabilities.push(Capability::EnhancedRefresh);
        Open {
            asn: self.local_as,
            hold_time: u16::try_from(self.proposed_hold_time().as_secs()).unwrap_or(u16::MAX),
            router_id: self.router_id,
            capabilities,
        }
    }

    /// Nothing between zero and three seconds is allowed (RFC 4271 4.2).
    fn proposed_hold_time(&self) -> Duration {
        if self.hold_time.is_zero() { self.hold_time } else { self.hold_time.max(Duration::from_secs(3)) }
    }

    fn offers_extended_next_hop(&self) -> bool {
        self.extended_next_hop && self.families.contains(&Family::Ipv4)
    }

    /// Judges the peer's OPEN (RFC 4271 6.2).
    pub(crate) fn negotiate(&self, conn: ConnId, local: IpAddr, open: &Open) -> Result<Session, WireError> {
        if open.asn != self.remote_as {
            return Err(WireError::PeerAs { expected: self.remote_as, received: open.asn });
        }
        let same_id = self.peer_type() == PeerType::Internal && open.router_id == self.router_id;
        if open.router_id.is_unspecified() || same_id {
            return Err(WireError::RouterId(open.router_id));
        }
        if open.hold_time == 1 || open.hold_time == 2 {
            return Err(WireError::HoldTime(open.hold_time));
        }
        let peer = Announced::of(open);
        let families: Vec<FamilySession> =
            self.families.iter().filter_map(|family| self.family(&peer, *family)).collect();
        if families.is_empty() {
            return Err(WireError::Family(self.families.first().copied().unwrap_or(self.family)));
        }
        let hold_time = self.proposed_hold_time().min(Duration::from_secs(open.hold_time.into()));
        let third = hold_time / 3;
        let restart = peer.restart.as_ref().filter(|_| !self.restart_time.is_zero());
        Ok(Session {
            conn,
            local,
            remote_id: open.router_id,
            four_octet: peer.four_octet,
            hold_time,
            keepalive_time: self
                .keepalive_time
                .filter(|time| !time.is_zero())
                .map_or(third, |time| time.min(third)),
            max_message: if self.extended_messages && peer.extended_messages {
                EXTENDED_MESSAGE
            } else {
                MAX_MESSAGE
            },
            refresh: peer.refresh,
            enhanced_refresh: peer.refresh && peer.enhanced_refresh,
            remote_role: self.remote_role(&peer.roles)?,
            restart: restart.map(|graceful| peer_restart(graceful, &families)),
            families,
        })
    }

    fn family(&self, peer: &Announced, family: Family) -> Option<FamilySession> {
        let theirs = peer.add_path(family);
        peer.carries(family).then_some(FamilySession {
            family,
            add_path_send: self.add_path.send && theirs.receive,
            add_path_receive: self.add_path.receive && theirs.send,
            extended_next_hop: family == Family::Ipv4
                && self.offers_extended_next_hop()
                && peer.extended_next_hop,
        })
    }

    /// RFC 9234 4.2.
    fn remote_role(&self, codes: &[u8]) -> Result<Option<Role>, WireError> {
        let Some(own) = self.role() else { return Ok(None) };
        match codes {
            [] if self.strict_role => Err(WireError::Role { own, received: None }),
            [] => Ok(None),
            [first, rest @ ..] => {
                let wanted = own.counterpart();
                if *first != wanted.code() || rest.iter().any(|code| code != first) {
                    return Err(WireError::Role { own, received: Some(*first) });
                }
                Ok(Some(wanted))
            }
        }
    }
}

fn peer_restart(graceful: &GracefulRestart, families: &[FamilySession]) -> PeerRestart {
    let listed = families.iter().filter_map(|carried| {
        let of = |(afi, safi, _): &&(u16, u8, bool)| Family::from_code(*afi, *safi) == Some(carried.family);
        graceful.families.iter().find(of).map(|(_, _, forwarding)| (carried.family, *forwarding))
    });
    PeerRestart {
        restarting: graceful.restarting,
        notification: graceful.notification,
        time: Duration::from_secs(graceful.time.into()),
        families: listed.collect(),
    }
}
