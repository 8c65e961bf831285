//! What the parts of a rule-set are to each other: the types of sets, and who names whom.

use imbl::OrdSet;

use super::{Action, AddressSet, Comment, Elements, Family, Match, PortSet, Rule, Set, Verdict};

impl Elements {
    /// The type of a set with these members.
    pub fn kind(&self) -> SetKind {
        let (key, interval) = match self {
            Elements::Addresses(family, _) => (SetKey::Address(*family), false),
            Elements::Prefixes(family, _) => (SetKey::Address(*family), true),
            Elements::Ports(members) => (SetKey::Port, members.iter().any(|(low, high)| low != high)),
            Elements::Services(family, _) => (SetKey::Service(*family), false),
            Elements::ProtocolPorts(_) => (SetKey::ProtocolPort, false),
        };
        SetKind { key, interval }
    }

    /// How many members.
    pub fn len(&self) -> usize {
        match self {
            Elements::Addresses(_, members) => members.len(),
            Elements::Prefixes(_, members) => members.len(),
            Elements::Ports(members) => members.len(),
            Elements::Services(_, members) => members.len(),
            Elements::ProtocolPorts(members) => members.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The type of a set in the kernel's terms. It cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetKind {
    /// What it holds.
    pub key: SetKey,
    /// Ranges, in a tree, instead of single values in a hash.
    pub interval: bool,
}

/// A set without its members; none of it can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetHead {
    /// Its type.
    pub kind: SetKind,
    /// What it holds, for people.
    pub comment: Comment,
    /// Whether packets and bytes are counted for each member.
    pub counter: bool,
    /// How many members it has room for; see [`Set::size`].
    pub size: Option<u32>,
}

impl Set {
    /// It without its members.
    pub fn head(&self) -> SetHead {
        SetHead {
            kind: self.elements.kind(),
            comment: self.comment.clone(),
            counter: self.counter,
            size: self.size,
        }
    }
}

impl SetHead {
    /// A set without members.
    pub fn empty(&self) -> Set {
        let SetHead { kind, comment, counter, size } = self.clone();
        Set { comment, elements: kind.none(), counter, size }
    }
}

impl SetKind {
    /// No members, of this type.
    pub fn none(self) -> Elements {
        match self.key {
            SetKey::Address(family) if self.interval => Elements::Prefixes(family, OrdSet::new()),
            SetKey::Address(family) => Elements::Addresses(family, OrdSet::new()),
            SetKey::Port => Elements::Ports(OrdSet::new()),
            SetKey::Service(family) => Elements::Services(family, OrdSet::new()),
            SetKey::ProtocolPort => Elements::ProtocolPorts(OrdSet::new()),
        }
    }
}

/// What a member of a set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKey {
    /// An address or a range of them.
    Address(Family),
    /// A port or a range of them.
    Port,
    /// Address, protocol number, port.
    Service(Family),
    /// Protocol number, port.
    ProtocolPort,
}

impl Rule {
    /// The chain, map and sets it names.
    pub fn references(&self) -> impl Iterator<Item = Reference<'_>> {
        let target = match &self.action {
            Action::Verdict(verdict) => verdict.target().map(Reference::Chain),
            Action::Lookup(_, map) => Some(Reference::Map(map)),
            Action::Reject | Action::Log { .. } | Action::Mark(_) | Action::NoTrack | Action::Masquerade => {
                None
            }
        };
        let sets = self.matches.iter().filter_map(|condition| match condition {
            Match::Address(_, _, _, AddressSet::Named(name) | AddressSet::Masked(_, name))
            | Match::Port(_, _, PortSet::Named(name))
            | Match::Service(_, _, _, name)
            | Match::Row(_, _, _, name)
            | Match::ProtocolPort(_, _, name) => Some(Reference::Set(name)),
            Match::Address(_, _, _, AddressSet::Prefix(_))
            | Match::Port(_, _, PortSet::Range(..))
            | Match::Family(_)
            | Match::WorkloadInterface(_)
            | Match::Established
            | Match::Refused
            | Match::Invalid
            | Match::Protocol(..)
            | Match::Icmp(..)
            | Match::NoReverseRoute
            | Match::LocalDestination
            | Match::LocalSource
            | Match::Mark(_)
            | Match::Translated => None,
        });
        target.into_iter().chain(sets)
    }
}

/// The name of another part of the rule-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference<'a> {
    /// A chain.
    Chain(&'a str),
    /// A map.
    Map(&'a str),
    /// A set.
    Set(&'a str),
}

impl Verdict {
    /// The chain it leads to.
    pub fn target(&self) -> Option<&str> {
        match self {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
            Verdict::Accept | Verdict::Drop | Verdict::Return => None,
        }
    }
}
