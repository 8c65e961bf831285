//! What a route becomes on its way to a group of peers: who may have it, and with which attributes. Pure.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::{NextHopMode, Role};
use crate::family::{Family, Prefix};
use crate::filter::{Filter, PeerType, Source as FilterSource, Verdict};
use crate::rib::attrs::DEFAULT_LOCAL_PREF;
use crate::rib::batch::Form;
use crate::rib::decision::Source;
use crate::roles;
use crate::wire::PathAttributes;
use crate::wire::as_path;

/// MED of a route learned from an internal peer when it is announced to an external one. The node that owns the
/// block announces it without MED, which counts as 0, so a router that hears both goes straight to the owner.
const RELAYED_MED: u32 = 1;

const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;
const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;

/// The rules peers of one group share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExportRules {
    /// How the peers want their UPDATEs, and of which family.
    pub(crate) form: Form,
    pub(crate) peer_type: PeerType,
    pub(crate) local_as: u32,
    /// Our end of the sessions; `None` where it cannot be a next hop of the family.
    pub(crate) own_address: Option<IpAddr>,
    /// Next hops may be of the other family (RFC 8950).
    pub(crate) extended_next_hop: bool,
    pub(crate) next_hop: NextHopMode,
    /// The peers are clients of this reflector.
    pub(crate) client: bool,
    pub(crate) cluster_id: Option<Ipv4Addr>,
    /// Our role, on external sessions that have one.
    pub(crate) role: Option<Role>,
    pub(crate) filter: Filter,
}

impl ExportRules {
    /// The attributes the route leaves with; `None` when it stays. `source` is `None` for routes of our own.
    pub(crate) fn export<'a>(
        &self,
        prefix: Prefix,
        mut attributes: PathAttributes<'a>,
        source: Option<Source>,
    ) -> Option<PathAttributes<'a>> {
        if !self.may_pass(&attributes, source) {
            return None;
        }
        if self.role.is_some_and(|role| !roles::egress(role, self.local_as, &mut attributes)) {
            return None;
        }
        self.prepare(&mut attributes, source);
        let origin = if source.is_some() { FilterSource::Learned } else { FilterSource::Originated };
        if self.filter.judge(prefix, origin, self.peer_type, &mut attributes) != Some(Verdict::Accept) {
            return None;
        }
        self.finish(&mut attributes, source)?;
        Some(attributes)
    }

    /// Well-known communities (RFC 1997), and the rule that internal routes do not go to internal peers, except by
    /// reflection: from a client to everyone, from others to clients (RFC 4456 6).
    ///
    /// Communities the export filter adds are meant for the peer and do not count here.
    fn may_pass(&self, attributes: &PathAttributes<'_>, source: Option<Source>) -> bool {
        if attributes.has_community(NO_ADVERTISE) {
            return false;
        }
        match self.peer_type {
            PeerType::External => {
                !attributes.has_community(NO_EXPORT) && !attributes.has_community(NO_EXPORT_SUBCONFED)
            }
            PeerType::Internal => source.is_none_or(|source| {
                !source.internal || self.cluster_id.is_some() && (source.client || self.client)
            }),
        }
    }

    /// What the filter may still change: MED and LOCAL_PREF.
    fn prepare(&self, attributes: &mut PathAttributes<'_>, source: Option<Source>) {
        match self.peer_type {
            PeerType::Internal => {
                attributes.local_pref.get_or_insert(DEFAULT_LOCAL_PREF);
            }
            PeerType::External => {
                attributes.med = source.filter(|source| source.internal).map(|_| RELAYED_MED);
            }
        }
    }

    /// `None` when the peers cannot have the next hop.
    fn finish(&self, attributes: &mut PathAttributes<'_>, source: Option<Source>) -> Option<()> {
        if self.uses_own_address(source) {
            attributes.next_hop = self.own_address?;
        } else if Family::of(attributes.next_hop) != self.form.layout.family && !self.extended_next_hop {
            return None;
        }
        match self.peer_type {
            PeerType::External => {
                attributes.as_path = as_path::prepend(&attributes.as_path, self.local_as).into();
                attributes.local_pref = None;
                attributes.originator_id = None;
                attributes.cluster_list = (&[]).into();
                drop_non_transitive(attributes);
            }
            PeerType::Internal => self.reflect(attributes, source),
        }
        Some(())
    }

    /// bgp-behaviour 6.1.
    fn uses_own_address(&self, source: Option<Source>) -> bool {
        match (self.next_hop, source) {
            (_, None) | (NextHopMode::OwnAddress, _) => true,
            (NextHopMode::Keep, Some(_)) => false,
            (NextHopMode::Auto, Some(_)) => self.peer_type == PeerType::External,
        }
    }

    /// ORIGINATOR_ID and CLUSTER_LIST of a reflected route (RFC 4456 8).
    fn reflect(&self, attributes: &mut PathAttributes<'_>, source: Option<Source>) {
        let (Some(source), Some(cluster_id)) = (source.filter(|source| source.internal), self.cluster_id)
        else {
            return;
        };
        attributes.originator_id.get_or_insert(source.router_id);
        attributes.cluster_list = [&cluster_id.octets()[..], &attributes.cluster_list].concat().into();
    }
}

/// Extended communities of a non-transitive type stay inside the AS (RFC 4360 6).
fn drop_non_transitive(attributes: &mut PathAttributes<'_>) {
    let all = &attributes.extended_communities;
    if all.chunks_exact(8).any(|community| community[0] & 0x40 != 0) {
        let kept: Vec<u8> =
            all.chunks_exact(8).filter(|community| community[0] & 0x40 == 0).flatten().copied().collect();
        attributes.extended_communities = kept.into();
    }
}

#[cfg(test)]
mod tests;
