//! What happens to a received route before it counts: loop checks and the peer's import filter. Pure; the received
//! attributes stay, so a changed rule is applied by running this again.

use std::fmt;
use std::net::Ipv4Addr;

use crate::config::Role;
use crate::family::Prefix;
use crate::filter::{Context, Filter, PeerType, Source, Verdict};
use crate::roles::{self, Leak};
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
    /// An external session without a filter that has to have one (RFC 8212).
    pub(crate) closed: bool,
    pub(crate) filter: Filter,
}

/// Why a received route does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The own AS number stands in the path more often than allowed.
    OwnAs {
        /// How often.
        found: usize,
        /// How often it may.
        allowed: u32,
    },
    /// This speaker brought it into the AS.
    OwnOriginator,
    /// It passed this cluster.
    OwnCluster(Ipv4Addr),
    /// The session has no import filter (RFC 8212).
    NoPolicy,
    /// It should not have come from there (RFC 9234).
    Leak(Leak),
    /// This rule of the filter rejects it.
    Filter(Option<usize>),
}

impl ImportRules {
    /// What an accepted route becomes, and the rule that let it pass where one did.
    ///
    /// # Errors
    /// Why it does not count.
    pub(crate) fn decide<'a>(
        &self,
        prefix: Prefix,
        attributes: PathAttributes<'a>,
    ) -> Result<(PathAttributes<'a>, Option<usize>), Rejected> {
        self.admit(&attributes)?;
        self.judge(prefix, attributes)
    }

    /// The first half of [`ImportRules::decide`], which looks at no prefix: whether the route came back to us (RFC 4271
    /// 9.1.2, RFC 4456 8), and whether the session may bring any.
    ///
    /// # Errors
    /// Why it does not count.
    pub(crate) fn admit(&self, attributes: &PathAttributes<'_>) -> Result<(), Rejected> {
        let found = as_path::count(&attributes.as_path, self.local_as);
        if found > usize::try_from(self.allow_own_as).unwrap_or(usize::MAX) {
            return Err(Rejected::OwnAs { found, allowed: self.allow_own_as });
        }
        if attributes.originator_id == Some(self.router_id) {
            return Err(Rejected::OwnOriginator);
        }
        if let Some(own) = self.cluster_id
            && attributes.cluster_list.chunks_exact(4).any(|id| own.octets() == id)
        {
            return Err(Rejected::OwnCluster(own));
        }
        if self.closed { Err(Rejected::NoPolicy) } else { Ok(()) }
    }

    /// The second half: role and filter.
    ///
    /// # Errors
    /// Why it does not count.
    pub(crate) fn judge<'a>(
        &self,
        prefix: Prefix,
        mut attributes: PathAttributes<'a>,
    ) -> Result<(PathAttributes<'a>, Option<usize>), Rejected> {
        if let Some((role, remote_as)) = self.role {
            roles::ingress(role, remote_as, &mut attributes).map_err(Rejected::Leak)?;
        }
        let context = Context { source: Source::Learned, peer_type: self.peer_type, interface: None };
        let decision = self.filter.decide(prefix, &context, &mut attributes);
        if decision.verdict == Some(Verdict::Reject) {
            return Err(Rejected::Filter(decision.rule));
        }
        Ok((attributes, decision.rule))
    }

    /// Whether [`ImportRules::judge`] changes nothing and lets everything pass.
    pub(crate) fn is_open(&self) -> bool {
        self.filter.is_empty() && self.role.is_none()
    }

    /// A reason in an operator's words.
    pub(crate) fn words(&self, reason: Rejected) -> String {
        match reason {
            Rejected::Filter(rule) => format!("the import filter rejects it: {}", self.filter.reason(rule)),
            Rejected::OwnAs { .. }
            | Rejected::OwnOriginator
            | Rejected::OwnCluster(_)
            | Rejected::NoPolicy
            | Rejected::Leak(_) => reason.to_string(),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::OwnAs { found, allowed } => {
                write!(f, "the own AS number stands {found} times in the AS path, {allowed} allowed")
            }
            Rejected::OwnOriginator => f.write_str("a loop: ORIGINATOR_ID is this speaker"),
            Rejected::OwnCluster(id) => {
                write!(f, "a loop: the cluster {id} of this speaker is in CLUSTER_LIST")
            }
            Rejected::NoPolicy => {
                f.write_str("the session has no import filter, and must have one (RFC 8212)")
            }
            Rejected::Leak(leak) => leak.fmt(f),
            Rejected::Filter(_) => f.write_str("the import filter rejects it"),
        }
    }
}

#[cfg(test)]
mod tests;
