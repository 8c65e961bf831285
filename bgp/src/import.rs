//! What happens to a received route before it counts: loop checks and the peer's import filter. Pure; the received
//! attributes stay, so a changed rule is applied by running this again.

use std::net::Ipv4Addr;

use crate::config::Role;
use crate::family::Prefix;
use crate::filter::{Filter, PeerType, Source, Verdict};
use crate::roles;
use crate::wire::PathAttributes;
use crate::wire::as_path;

/// The rules of a session for what it receives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImportRules {
    pub(crate) local_as: u32,
    pub(crate) allow_own_as: u32,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) cluster_id: Option<Ipv4Addr>,
    pub(crate) peer_type: PeerType,
    /// Our role and the AS number of the other end, on external sessions that have one.
    pub(crate) role: Option<(Role, u32)>,
    pub(crate) filter: Filter,
}

impl ImportRules {
    /// What an accepted route becomes.
    pub(crate) fn import<'a>(
        &self,
        prefix: Prefix,
        mut attributes: PathAttributes<'a>,
    ) -> Option<PathAttributes<'a>> {
        if let Some((role, remote_as)) = self.role {
            roles::ingress(role, remote_as, &mut attributes).ok()?;
        }
        let verdict = self.filter.judge(prefix, Source::Learned, self.peer_type, &mut attributes);
        (verdict != Some(Verdict::Reject)).then_some(attributes)
    }

    /// Whether the filter changes nothing and lets everything pass.
    pub(crate) fn is_open(&self) -> bool {
        self.filter.is_empty() && self.role.is_none()
    }

    /// Whether the route came back to us, whatever its prefix (RFC 4271 9.1.2, RFC 4456 8).
    pub(crate) fn is_loop(&self, attributes: &PathAttributes<'_>) -> bool {
        let allowed = usize::try_from(self.allow_own_as).unwrap_or(usize::MAX);
        let own_cluster = |id: &[u8]| self.cluster_id.is_some_and(|own| own.octets() == id);
        as_path::count(&attributes.as_path, self.local_as) > allowed
            || attributes.originator_id == Some(self.router_id)
            || attributes.cluster_list.chunks_exact(4).any(own_cluster)
    }
}

#[cfg(test)]
mod tests;
