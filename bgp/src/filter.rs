//! Route filters: ordered rules, the first that decides wins. Called *filter*, since *policy* means network policy.

use ipnetwork::IpNetwork;

use crate::family::Prefix;
use crate::wire::PathAttributes;

/// Ordered rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// First match decides; [`Verdict::Continue`] applies its changes and goes on.
    pub rules: Vec<Rule>,
}

/// All given criteria match, then the changes are made and the verdict holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Why the rule is there, for operators: `own block`, `pool default-ipv4-ippool`, …
    pub reason: String,
    /// On the route's prefix.
    pub prefix: Option<PrefixMatch>,
    /// Where the route comes from.
    pub source: Option<Source>,
    /// Kind of the session it is filtered for.
    pub peer_type: Option<PeerType>,
    /// Accept, reject or go on.
    pub verdict: Verdict,
    /// What changes when the rule matches and does not reject.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Originated by this speaker.
    Originated,
    /// Learned from a peer.
    Learned,
}

/// Kind of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerType {
    /// Same AS.
    Internal,
    /// Another AS.
    External,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// LOCAL_PREF.
    LocalPref(u32),
    /// MULTI_EXIT_DISC.
    Med(u32),
    /// Adds a standard community.
    AddCommunity(u32),
    /// Adds a large community.
    AddLargeCommunity([u32; 3]),
}

impl Filter {
    /// Runs the rules over a route and makes their changes; `None` when no rule decides.
    pub fn judge(
        &self,
        prefix: Prefix,
        source: Source,
        peer_type: PeerType,
        attributes: &mut PathAttributes<'_>,
    ) -> Option<Verdict> {
        for rule in self.rules.iter().filter(|rule| rule.matches(prefix, source, peer_type)) {
            if rule.verdict == Verdict::Reject {
                return Some(Verdict::Reject);
            }
            rule.set.iter().for_each(|change| change.apply(attributes));
            if rule.verdict == Verdict::Accept {
                return Some(Verdict::Accept);
            }
        }
        None
    }
}

impl Rule {
    fn matches(&self, prefix: Prefix, source: Source, peer_type: PeerType) -> bool {
        self.prefix.is_none_or(|criterion| criterion.matches(prefix))
            && self.source.is_none_or(|wanted| wanted == source)
            && self.peer_type.is_none_or(|wanted| wanted == peer_type)
    }
}

impl PrefixMatch {
    /// Whether a prefix meets the criterion. A criterion of one family never matches the other, not even a negated
    /// one: the rules of a `BGPFilter` are written for one family each (bgp-behaviour 5).
    #[must_use]
    pub fn matches(self, prefix: Prefix) -> bool {
        let (PrefixMatch::Equal(net)
        | PrefixMatch::In(net)
        | PrefixMatch::NotEqual(net)
        | PrefixMatch::NotIn(net)) = self;
        let same_family = net.is_ipv4() == prefix.network().is_ipv4();
        same_family
            && match self {
                PrefixMatch::Equal(net) => prefix == Prefix::from(net),
                PrefixMatch::In(net) => prefix.is_within(net),
                PrefixMatch::NotEqual(net) => prefix != Prefix::from(net),
                PrefixMatch::NotIn(net) => !prefix.is_within(net),
            }
    }
}

impl Change {
    fn apply(self, attributes: &mut PathAttributes<'_>) {
        match self {
            Change::LocalPref(value) => attributes.local_pref = Some(value),
            Change::Med(value) => attributes.med = Some(value),
            Change::AddCommunity(community) => attributes.add_community(community),
            Change::AddLargeCommunity(community) => attributes.add_large_community(community),
        }
    }
}

#[cfg(test)]
mod tests;
