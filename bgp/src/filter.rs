//! Route filters: ordered rules, the first that decides wins. Called *filter*, since *policy* means network policy.

use ipnetwork::IpNetwork;

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
