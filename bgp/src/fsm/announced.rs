//! What an OPEN's capabilities say, put together. Pure; what comes of it is decided by `negotiate`.

use crate::config::AddPath;
use crate::family::Family;
use crate::wire::{Capability, GracefulRestart, Open};

/// The capabilities of an OPEN that matter. One that stands several times adds up, except graceful restart, whose last
/// instance counts (RFC 4724 3).
#[derive(Debug, Default)]
pub(super) struct Announced {
    families: Option<Vec<Family>>,
    pub(super) refresh: bool,
    pub(super) enhanced_refresh: bool,
    pub(super) four_octet: bool,
    pub(super) extended_messages: bool,
    /// IPv4 prefixes may have IPv6 next hops.
    pub(super) extended_next_hop: bool,
    /// Codes of roles as they came.
    pub(super) roles: Vec<u8>,
    pub(super) restart: Option<GracefulRestart>,
    add_path: Vec<(Family, AddPath)>,
}

impl Announced {
    pub(super) fn of(open: &Open) -> Announced {
        let mut found = Announced::default();
        for capability in &open.capabilities {
            match capability {
                Capability::Multiprotocol(afi, safi) => {
                    found.families.get_or_insert_default().extend(Family::from_code(*afi, *safi));
                }
                Capability::RouteRefresh => found.refresh = true,
                Capability::ExtendedNextHop(entries) => {
                    found.extended_next_hop |= entries.contains(&(Family::Ipv4.afi(), 1, Family::Ipv6.afi()));
                }
                Capability::ExtendedMessage => found.extended_messages = true,
                Capability::Role(code) => found.roles.push(*code),
                Capability::FourOctetAs(_) => found.four_octet = true,
                Capability::GracefulRestart(graceful) => found.restart = Some(graceful.clone()),
                Capability::AddPath(entries) => found.add_path.extend(entries.iter().filter_map(add_path)),
                Capability::EnhancedRefresh => found.enhanced_refresh = true,
                Capability::Unknown { .. } => {}
            }
        }
        found
    }

    /// Without the multiprotocol capability a speaker carries IPv4 unicast (RFC 4760 8).
    pub(super) fn carries(&self, family: Family) -> bool {
        self.families.as_ref().map_or(family == Family::Ipv4, |families| families.contains(&family))
    }

    pub(super) fn add_path(&self, family: Family) -> AddPath {
        let entry = self.add_path.iter().find(|(listed, _)| *listed == family);
        entry.map(|(_, modes)| *modes).unwrap_or_default()
    }
}

/// Other modes than 1 to 3 mean nothing (RFC 7911 4).
fn add_path((afi, safi, mode): &(u16, u8, u8)) -> Option<(Family, AddPath)> {
    let family = Family::from_code(*afi, *safi)?;
    (1..=3).contains(mode).then_some((family, AddPath { receive: mode & 1 != 0, send: mode & 2 != 0 }))
}
