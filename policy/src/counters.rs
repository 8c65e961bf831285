//! What rules and elements of merged sets have counted, summed by what they are part of. A rule says that in its comment:
//! many rules, of many groups, are one rule of a policy; of elements [`crate::Ruleset::origin`] does.
//!
//! Whatever counts comes down to [`key`]: a chain, an origin in the words of the comments, and what happens to the packet.
//! Counters begin anew with an object that is written again, and an element may become another rule's; sums only grow
//! ([`Tally`]).

mod merged;
mod tally;

pub use merged::{MergedSet, merged_sets};
pub use tally::{Counter, Reading, Tally};

use std::collections::BTreeMap;

use crate::ir::{Action, Direction, Verdict};
use crate::netlink::read;
use crate::phase::{ALLOWED, ALLOWED_UNTRACKED, Phase};
use crate::staged;

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the network header on.
    pub bytes: u64,
}

/// What a rule of the table is part of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A policy. The end of a name that is too long for a comment is `~`.
    Policy {
        /// Its tier.
        tier: String,
        /// Its namespace; empty for a global one.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A staged policy, which would do it.
    Staged {
        /// Its namespace; empty for a global one.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The default action of a tier.
    TierEnd(String),
    /// A profile.
    Profile(String),
    /// Any other rule, by its comment.
    Other(String),
}

/// What becomes of a packet at a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Allowed here.
    Allow,
    /// Dropped or rejected.
    Deny,
    /// On to the next tier.
    Pass,
    /// Logged, and on to the next rule.
    Log,
    /// Nothing: no rule of a staged policy matched.
    None,
}

/// What is counted together. The direction is absent where a rule is for both.
pub type Key = (Part, Option<Direction>, Fate);

/// Sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<Key, Count>);

/// What a rule in a message of the dump of rules has counted.
pub fn of_rule(body: &[u8]) -> Option<Reading> {
    let found = read::counted(body)?;
    let key = key(found.chain, found.comment, &found.action?)?;
    let count = Count { packets: found.packets, bytes: found.bytes };
    Some(Reading { counter: Counter::Rule(found.handle), key, count })
}

/// What is counted in a chain by something of this origin that does this. `None` for what says nothing of its origin, or does
/// nothing with packets.
pub fn key(chain: &str, origin: &str, action: &Action) -> Option<Key> {
    let part = Part::read(origin);
    let fate = match &part {
        Part::Staged { .. } => would(origin),
        Part::Policy { .. } | Part::TierEnd(_) | Part::Profile(_) | Part::Other(_) => fate(chain, action),
    };
    Some((part, direction(chain), fate.filter(|_| !origin.is_empty())?))
}

impl FromIterator<(Key, Count)> for Counters {
    fn from_iter<T: IntoIterator<Item = (Key, Count)>>(counted: T) -> Counters {
        let mut sums: BTreeMap<Key, Count> = BTreeMap::new();
        for (key, count) in counted {
            let sum = sums.entry(key).or_default();
            sum.packets += count.packets;
            sum.bytes += count.bytes;
        }
        Counters(sums)
    }
}

impl Counters {
    /// All sums, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Count)> {
        self.0.iter()
    }
}

impl Part {
    /// Names have no blanks in them, so words tell.
    fn read(origin: &str) -> Part {
        let words: Vec<&str> = origin.split(' ').collect();
        let split = |name: &str| match name.split_once('/') {
            Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
            None => (String::new(), name.to_owned()),
        };
        match words[..] {
            ["tier", tier, "policy", name, ..] => {
                let (namespace, name) = split(name);
                Part::Policy { tier: tier.to_owned(), namespace, name }
            }
            ["staged", "policy", name, ..] => {
                let (namespace, name) = split(name);
                Part::Staged { namespace, name }
            }
            ["tier", tier, "end"] => Part::TierEnd(tier.to_owned()),
            ["profile", name, ..] => Part::Profile(name.to_owned()),
            _ => Part::Other(origin.to_owned()),
        }
    }
}

/// What a staged policy would do, in its own words.
fn would(origin: &str) -> Option<Fate> {
    let words: Vec<&str> = origin.split(' ').collect();
    match words[..] {
        [.., "would", "allow", _] => Some(Fate::Allow),
        [.., "would", "deny", _] => Some(Fate::Deny),
        [.., "would", "pass", _] => Some(Fate::Pass),
        [.., "matches", "nothing"] => Some(Fate::None),
        _ => None,
    }
}

fn fate(chain: &str, action: &Action) -> Option<Fate> {
    // Before tracking and translation whatever returns was not allowed there, and goes on.
    let early = [Phase::Untracked, Phase::PreDnat].iter().any(|phase| is_of(chain, *phase).is_some());
    Some(match action {
        Action::Reject | Action::Verdict(Verdict::Drop) => Fate::Deny,
        Action::Verdict(Verdict::Return) if early => Fate::Pass,
        Action::Verdict(Verdict::Accept | Verdict::Return) => Fate::Allow,
        Action::Verdict(Verdict::Goto(to)) if [ALLOWED, ALLOWED_UNTRACKED].contains(&to.as_str()) => {
            Fate::Allow
        }
        Action::Verdict(Verdict::Goto(_)) => Fate::Pass,
        Action::Log { .. } => Fate::Log,
        Action::Verdict(Verdict::Jump(_))
        | Action::Mark(_)
        | Action::NoTrack
        | Action::Lookup(..)
        | Action::Masquerade => return None,
    })
}

/// The direction of a group's chain.
fn direction(chain: &str) -> Option<Direction> {
    let phases = [Phase::Workload, Phase::Host, Phase::Forward, Phase::PreDnat, Phase::Untracked];
    let staged = [Direction::Ingress, Direction::Egress]
        .into_iter()
        .find(|direction| chain.starts_with(staged::prefix(*direction)));
    phases.into_iter().find_map(|phase| is_of(chain, phase)).or(staged)
}

/// The direction, when a chain is a group's of this phase.
fn is_of(chain: &str, phase: Phase) -> Option<Direction> {
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .find(|direction| chain.starts_with(phase.prefix(*direction)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_say_what_rules_are_part_of() {
        let drop = Action::Verdict(Verdict::Drop);
        let back = Action::Verdict(Verdict::Return);
        let goto = |name: &str| Action::Verdict(Verdict::Goto(name.to_owned()));
        let log = Action::Log { prefix: String::new(), group: None, limit: None };
        let policy = "tier default policy shop/web ingress[0]";
        let counted = [
            ("in-1", policy, Action::Verdict(Verdict::Accept)),
            ("in-2", policy, Action::Verdict(Verdict::Accept)),
            ("in-1", policy, log),
            ("out-1", "tier admin policy all egress[12]", back.clone()),
            ("out-1", "tier admin policy all egress[13]", goto("out-1.1")),
            ("in-1", "tier admin policy all has a mistake and denies", drop.clone()),
            ("in-1", "tier default end", Action::Reject),
            ("in-1.1", "nothing matched", drop.clone()),
            ("in-1", "on to what follows", goto("in-1.1")),
            ("dnat-in-1", "tier t policy p ingress[0]", goto(ALLOWED)),
            ("dnat-in-1", "tier t policy p ingress[1]", back.clone()),
            ("forward-out-1", "profile kns.shop egress[0]", back.clone()),
            ("staged-out-1", "staged policy shop/new would pass egress[1]", back.clone()),
            ("staged-out-1", "staged policy new matches nothing", back),
            ("to-workload", "unknown workload interface", drop.clone()),
            ("to-workload", "", drop),
        ];
        let one = Count { packets: 1, bytes: 40 };
        let keys = counted.iter().filter_map(|(chain, origin, action)| key(chain, origin, action));
        let counters: Counters = keys.map(|key| (key, one)).collect();
        let name = |(part, direction, fate): &Key| format!("{part:?} {direction:?} {fate:?}");
        let found: Vec<String> =
            counters.iter().map(|(key, count)| format!("{} {}", count.packets, name(key))).collect();
        let of = |tier: &str, namespace: &str, name: &str| {
            format!("Policy {{ tier: {tier:?}, namespace: {namespace:?}, name: {name:?} }}")
        };
        let (web, all, early) = (of("default", "shop", "web"), of("admin", "", "all"), of("t", "", "p"));
        let expected = [
            format!("1 {all} Some(Ingress) Deny"),
            format!("1 {all} Some(Egress) Allow"),
            format!("1 {all} Some(Egress) Pass"),
            format!("2 {web} Some(Ingress) Allow"),
            format!("1 {web} Some(Ingress) Log"),
            format!("1 {early} Some(Ingress) Allow"),
            format!("1 {early} Some(Ingress) Pass"),
            "1 Staged { namespace: \"\", name: \"new\" } Some(Egress) None".to_owned(),
            "1 Staged { namespace: \"shop\", name: \"new\" } Some(Egress) Pass".to_owned(),
            "1 TierEnd(\"default\") Some(Ingress) Deny".to_owned(),
            "1 Profile(\"kns.shop\") Some(Egress) Allow".to_owned(),
            "1 Other(\"nothing matched\") Some(Ingress) Deny".to_owned(),
            "1 Other(\"on to what follows\") Some(Ingress) Pass".to_owned(),
            "1 Other(\"unknown workload interface\") None Deny".to_owned(),
        ];
        assert_eq!(found, expected);
    }
}
