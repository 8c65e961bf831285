//! Two OPENs make a session, or a reason why not. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::family::Family;
use crate::filter::PeerType;
use crate::speaker::ConnId;
use crate::wire::{Capability, GracefulRestart, Open, WireError};

/// What a peer's state machine is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) router_id: Ipv4Addr,
    pub(crate) local_as: u32,
    pub(crate) remote_as: u32,
    pub(crate) family: Family,
    pub(crate) passive: bool,
    pub(crate) hold_time: Duration,
    pub(crate) keepalive_time: Option<Duration>,
    pub(crate) connect_retry: Duration,
    pub(crate) restart_time: Duration,
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
    /// Present when both ends announced graceful restart.
    pub(crate) restart: Option<PeerRestart>,
}

/// The peer's side of graceful restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerRestart {
    /// It has just restarted (R).
    pub(crate) restarting: bool,
    /// The family is listed: should the session be lost, keep its routes.
    pub(crate) listed: bool,
    /// Its forwarding state survived (F).
    pub(crate) forwarding: bool,
    /// How long to wait for it.
    pub(crate) time: Duration,
}

impl Settings {
    pub(crate) fn peer_type(&self) -> PeerType {
        if self.local_as == self.remote_as { PeerType::Internal } else { PeerType::External }
    }

    /// Our OPEN. F is always 1 since the kernel's routes outlive this process; R only after a real restart of it
    /// (bgp-behaviour 8).
    pub(crate) fn open(&self, restarting: bool) -> Open {
        let mut capabilities = vec![
            Capability::Multiprotocol(self.family.afi(), 1),
            Capability::RouteRefresh,
            Capability::FourOctetAs(self.local_as),
        ];
        if !self.restart_time.is_zero() {
            capabilities.push(Capability::GracefulRestart(GracefulRestart {
                restarting,
                notification: false,
                time: u16::try_from(self.restart_time.as_secs()).unwrap_or(u16::MAX).min(0x0fff),
                families: vec![(self.family.afi(), 1, true)],
            }));
        }
        Open {
            asn: self.local_as,
            hold_time: u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX),
            router_id: self.router_id,
            capabilities,
        }
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
        let peer = Announced::of(open, self.family);
        // Without the multiprotocol capability a speaker carries IPv4 unicast (RFC 4760 8).
        if !peer.family && (peer.multiprotocol || self.family != Family::Ipv4) {
            return Err(WireError::Family(self.family));
        }
        let hold_time = self.hold_time.min(Duration::from_secs(open.hold_time.into()));
        let third = hold_time / 3;
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
            restart: peer.restart.filter(|_| !self.restart_time.is_zero()),
        })
    }
}

/// The capabilities of an OPEN that matter.
#[derive(Default)]
struct Announced {
    multiprotocol: bool,
    family: bool,
    four_octet: bool,
    restart: Option<PeerRestart>,
}

impl Announced {
    fn of(open: &Open, family: Family) -> Announced {
        let mut found = Announced::default();
        for capability in &open.capabilities {
            match capability {
                Capability::Multiprotocol(afi, safi) => {
                    found.multiprotocol = true;
                    found.family |= Family::from_code(*afi, *safi) == Some(family);
                }
                Capability::FourOctetAs(_) => found.four_octet = true,
                Capability::GracefulRestart(graceful) => found.restart = Some(peer_restart(graceful, family)),
                Capability::RouteRefresh | Capability::Unknown { .. } => {}
            }
        }
        found
    }
}

fn peer_restart(graceful: &GracefulRestart, family: Family) -> PeerRestart {
    let entry =
        graceful.families.iter().find(|(afi, safi, _)| Family::from_code(*afi, *safi) == Some(family));
    PeerRestart {
        restarting: graceful.restarting,
        listed: entry.is_some(),
        forwarding: entry.is_some_and(|(_, _, forwarding)| *forwarding),
        time: Duration::from_secs(graceful.time.into()),
    }
}
