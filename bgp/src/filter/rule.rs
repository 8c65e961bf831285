//! One rule: criteria that must all match, a verdict, and changes.

use ipnetwork::IpNetwork;

use super::Context;
use crate::family::Prefix;
use crate::wire::{PathAttributes, as_path};

/// LOCAL_PREF of a route that carries none (bgp-behaviour 6.2).
const DEFAULT_LOCAL_PREF: u32 = 100;

/// `AS_SEQUENCE` (RFC 4271 4.3).
const SEQUENCE: u8 = 2;

/// All given criteria match, then the changes are made and the verdict holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Why the rule is there, for operators: `own block 10.0.0.0/26`, `BGPFilter tor rule 3 (exportV4)`, …
    pub reason: String,
    /// On the route's prefix.
    pub prefix: Option<PrefixMatch>,
    /// Least and greatest prefix length; narrows [`PrefixMatch::In`] and what [`PrefixMatch::NotIn`] excludes.
    pub lengths: Option<(u8, u8)>,
    /// Where the route comes from.
    pub source: Option<Source>,
    /// Interface the route leads to, `*` for any characters. A route without interface never matches.
    pub interface: Option<String>,
    /// Kind of the session it is filtered for.
    pub peer_type: Option<PeerType>,
    /// A community the route carries.
    pub community: Option<Community>,
    /// AS numbers the path begins with; empty for any path.
    pub as_path_prefix: Vec<u32>,
    /// On LOCAL_PREF, 100 when absent.
    pub local_pref: Option<LocalPref>,
    /// Accept, reject or go on.
    pub verdict: Verdict,
    /// What changes when the rule matches and does not reject, in order.
    pub set: Vec<Change>,
}

/// A match on a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixMatch {
    /// The very prefix.
    Equal(IpNetwork),
    /// Equal or more specific.
    In(IpNetwork),
    /// Not the very prefix.
    NotEqual(IpNetwork),
    /// Neither equal nor more specific.
    NotIn(IpNetwork),
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Originated by this speaker.
    Originated,
    /// Learned from a peer.
    Learned,
}

/// Kind of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerType {
    /// Same AS.
    Internal,
    /// Another AS.
    External,
}

/// A community.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large([u32; 3]),
}

/// A match on LOCAL_PREF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalPref {
    /// This value.
    Equal(u32),
    /// A greater one.
    Above(u32),
}

/// What a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let through.
    Accept,
    /// Keep out.
    Reject,
    /// Next rule.
    Continue,
}

/// A change to a route that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// LOCAL_PREF.
    LocalPref(u32),
    /// MULTI_EXIT_DISC.
    Med(u32),
    /// Adds a standard community.
    AddCommunity(u32),
    /// Adds a large community.
    AddLargeCommunity([u32; 3]),
    /// Puts AS numbers before the path; the first of them comes first.
    Prepend(Vec<u32>),
}

impl Rule {
    /// A rule that matches every route and changes nothing.
    #[must_use]
    pub fn new(reason: impl Into<String>, verdict: Verdict) -> Rule {
        Rule {
            reason: reason.into(),
            prefix: None,
            lengths: None,
            source: None,
            interface: None,
            peer_type: None,
            community: None,
            as_path_prefix: Vec::new(),
            local_pref: None,
            verdict,
            set: Vec::new(),
        }
    }

    /// Whether it ends every list it stands in: whatever the attributes are, it matches and decides.
    pub(super) fn is_final(&self) -> bool {
        self.verdict != Verdict::Continue
            && self.lengths.is_none()
            && self.source.is_none()
            && self.interface.is_none()
            && self.peer_type.is_none()
            && self.community.is_none()
            && self.as_path_prefix.is_empty()
            && self.local_pref.is_none()
    }

    pub(super) fn matches(
        &self,
        prefix: Prefix,
        context: &Context<'_>,
        attributes: &PathAttributes<'_>,
    ) -> bool {
        self.prefix.is_none_or(|criterion| criterion.matches_within(prefix, self.lengths))
            && self.source.is_none_or(|wanted| wanted == context.source)
            && self.peer_type.is_none_or(|wanted| wanted == context.peer_type)
            && self.interface.as_deref().is_none_or(|pattern| {
                context.interface.is_some_and(|name| is_like(pattern.as_bytes(), name.as_bytes()))
            })
            && self.community.is_none_or(|community| community.is_in(attributes))
            && self.local_pref.is_none_or(|wanted| wanted.matches(attributes.local_pref))
            && begins_with(&attributes.as_path, &self.as_path_prefix)
    }
}

impl PrefixMatch {
    /// The network compared with.
    pub(super) fn network(self) -> IpNetwork {
        let (PrefixMatch::Equal(net)
        | PrefixMatch::In(net)
        | PrefixMatch::NotEqual(net)
        | PrefixMatch::NotIn(net)) = self;
        net
    }

    /// Whether a prefix meets the criterion. A criterion of one family never matches the other, not even a negated
    /// one: the rules of a `BGPFilter` are written for one family each (bgp-behaviour 5).
    #[must_use]
    pub fn matches(self, prefix: Prefix) -> bool {
        self.matches_within(prefix, None)
    }

    /// As [`PrefixMatch::matches`], where only lengths in a range count as inside.
    fn matches_within(self, prefix: Prefix, lengths: Option<(u8, u8)>) -> bool {
        let of_length = || lengths.is_none_or(|(min, max)| (min..=max).contains(&prefix.length()));
        self.network().is_ipv4() == prefix.network().is_ipv4()
            && match self {
                PrefixMatch::Equal(net) => prefix == Prefix::from(net),
                PrefixMatch::In(net) => prefix.is_within(net) && of_length(),
                PrefixMatch::NotEqual(net) => prefix != Prefix::from(net),
                PrefixMatch::NotIn(net) => !(prefix.is_within(net) && of_length()),
            }
    }
}

impl Community {
    fn is_in(self, attributes: &PathAttributes<'_>) -> bool {
        match self {
            Community::Standard(value) => attributes.has_community(value),
            Community::Large(parts) => {
                let same =
                    |octets: &[u8]| octets.chunks_exact(4).zip(parts).all(|(o, p)| o == p.to_be_bytes());
                attributes.large_communities.chunks_exact(12).any(same)
            }
        }
    }
}

impl LocalPref {
    fn matches(self, value: Option<u32>) -> bool {
        let value = value.unwrap_or(DEFAULT_LOCAL_PREF);
        match self {
            LocalPref::Equal(wanted) => value == wanted,
            LocalPref::Above(bound) => value > bound,
        }
    }
}

impl Change {
    pub(super) fn apply(&self, attributes: &mut PathAttributes<'_>) {
        match self {
            Change::LocalPref(value) => attributes.local_pref = Some(*value),
            Change::Med(value) => attributes.med = Some(*value),
            Change::AddCommunity(community) => attributes.add_community(*community),
            Change::AddLargeCommunity(community) => attributes.add_large_community(*community),
            Change::Prepend(numbers) => {
                for number in numbers.iter().rev() {
                    attributes.as_path = as_path::prepend(&attributes.as_path, *number).into();
                }
            }
        }
    }
}

/// Whether a path of four-octet numbers begins with this sequence, which may span segments.
fn begins_with(path: &[u8], wanted: &[u32]) -> bool {
    let (mut path, mut wanted) = (path, wanted.iter());
    while wanted.len() > 0 {
        let [SEQUENCE, count, rest @ ..] = path else { return false };
        let Some((numbers, tail)) = rest.split_at_checked(usize::from(*count) * 4) else { return false };
        for number in numbers.chunks_exact(4) {
            match wanted.next() {
                Some(one) if number == one.to_be_bytes() => {}
                Some(_) => return false,
                None => return true,
            }
        }
        path = tail;
    }
    true
}

/// Whether a name fits a pattern in which `*` stands for any characters.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // After the last star, and how much of the name it has swallowed.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, n));
        } else if pattern.get(p) == Some(&name[n]) {
            p += 1;
            n += 1;
        } else if let Some((after, swallowed)) = retry {
            p = after;
            n = swallowed + 1;
            retry = Some((after, n));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|octet| *octet == b'*')
}
