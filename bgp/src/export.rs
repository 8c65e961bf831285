//! What a route becomes on its way to a group of peers: who may have it, and with which attributes. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::{NextHopMode, Role};
use crate::family::{Family, Prefix};
use crate::filter::{Context, Filter, PeerType, Source as FilterSource, Verdict};
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
    /// An external session without a filter that has to have one (RFC 8212).
    pub(crate) closed: bool,
    pub(crate) filter: Filter,
}

/// Why a route is not announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// A well-known community keeps it here (RFC 1997).
    Community(&'static str),
    /// From an internal peer, for an internal peer, and this is no reflector.
    NotReflected,
    /// The same on a reflector, where neither is a client (RFC 4456 6).
    NeitherClient,
    /// Only for customers (RFC 9234).
    Role(Role),
    /// The session has no export filter (RFC 8212).
    NoPolicy,
    /// This rule of the filter rejects it; none decides.
    Filter(Option<usize>),
    /// Our end of the session cannot be the next hop.
    NoNextHop(Family),
    /// The next hop is of the other family, which the peers cannot have.
    NextHopFamily(IpAddr),
}

impl ExportRules {
    /// The attributes the route leaves with, and the rule that let it pass. `source` is `None` for routes of our own.
    ///
    /// # Errors
    /// Why it stays.
    pub(crate) fn decide<'a>(
        &self,
        prefix: Prefix,
        mut attributes: PathAttributes<'a>,
        source: Option<Source>,
    ) -> Result<(PathAttributes<'a>, Option<usize>), Withheld> {
        self.may_pass(&attributes, source)?;
        if let Some(role) = self.role
            && !roles::egress(role, self.local_as, &mut attributes)
        {
            return Err(Withheld::Role(role));
        }
        if self.closed {
            return Err(Withheld::NoPolicy);
        }
        self.prepare(&mut attributes, source);
        let origin = if source.is_some() { FilterSource::Learned } else { FilterSource::Originated };
        let context = Context { source: origin, peer_type: self.peer_type, interface: None };
        let decision = self.filter.decide(prefix, &context, &mut attributes);
        if decision.verdict != Some(Verdict::Accept) {
            return Err(Withheld::Filter(decision.rule));
        }
        self.finish(&mut attributes, source)?;
        Ok((attributes, decision.rule))
    }

    /// A reason in an operator's words.
    pub(crate) fn words(&self, reason: Withheld) -> String {
        match reason {
            Withheld::Filter(rule) => format!("the export filter rejects it: {}", self.filter.reason(rule)),
            Withheld::Community(_)
            | Withheld::NotReflected
            | Withheld::NeitherClient
            | Withheld::Role(_)
            | Withheld::NoPolicy
            | Withheld::NoNextHop(_)
            | Withheld::NextHopFamily(_) => reason.to_string(),
        }
    }

    /// Well-known communities (RFC 1997), and the rule that internal routes do not go to internal peers, except by
    /// reflection: from a client to everyone, from others to clients (RFC 4456 6).
    ///
    /// Communities the export filter adds are meant for the peer and do not count here.
    fn may_pass(&self, attributes: &PathAttributes<'_>, source: Option<Source>) -> Result<(), Withheld> {
        let carries = |community, name| {
            if attributes.has_community(community) { Err(Withheld::Community(name)) } else { Ok(()) }
        };
        carries(NO_ADVERTISE, "NO_ADVERTISE")?;
        match self.peer_type {
            PeerType::External => {
                carries(NO_EXPORT, "NO_EXPORT")?;
                carries(NO_EXPORT_SUBCONFED, "NO_EXPORT_SUBCONFED")
            }
            PeerType::Internal => match source.filter(|source| source.internal) {
                None => Ok(()),
                Some(_) if self.cluster_id.is_none() => Err(Withheld::NotReflected),
                Some(source) if source.client || self.client => Ok(()),
                Some(_) => Err(Withheld::NeitherClient),
            },
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

    /// The next hop, and what belongs to the kind of session.
    fn finish(&self, attributes: &mut PathAttributes<'_>, source: Option<Source>) -> Result<(), Withheld> {
        let family = self.form.layout.family;
        if self.uses_own_address(source) {
            attributes.next_hop = self.own_address.ok_or(Withheld::NoNextHop(family))?;
        } else if Family::of(attributes.next_hop) != family && !self.extended_next_hop {
            return Err(Withheld::NextHopFamily(attributes.next_hop));
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
        Ok(())
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

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Withheld::Community(name) => write!(f, "the community {name} keeps it from this peer"),
            Withheld::NotReflected => f.write_str(
                "from an internal peer to an internal peer, and this speaker is no route reflector",
            ),
            Withheld::NeitherClient => {
                f.write_str("reflected only from or to a client, and neither peer is one")
            }
            Withheld::Role(role) => {
                write!(f, "only for customers (RFC 9234), and the role of this speaker is {role}")
            }
            Withheld::NoPolicy => {
                f.write_str("the session has no export filter, and must have one (RFC 8212)")
            }
            Withheld::Filter(_) => f.write_str("the export filter rejects it"),
            Withheld::NoNextHop(family) => {
                write!(f, "this end of the session cannot be a next hop for {family}")
            }
            Withheld::NextHopFamily(next_hop) => {
                write!(
                    f,
                    "the peer cannot have the next hop {next_hop}, which is of the other family (RFC 8950)"
                )
            }
        }
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
