//! Selectors, nets and ports as named sets, shared by all rules that ask for the same.
//!
//! A set is named after what it is asked for, never after its members: a new peer adds an element and changes no rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sha2::{Digest as _, Sha256};
use tortie_model::selector::{LabelRestriction, Selector};

use crate::ir::{AddressSet, Comment, Elements, Family, Set};
use crate::peers::Peer;

/// What a rule asks a set for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Definition {
    /// Addresses and networks of the peers a selector matches; see [`Sets::peers`].
    Peers(Family, Selector),
    /// Prefixes; see [`maximal`].
    Nets(Family, BTreeSet<IpNetwork>),
    /// Ports; see [`merged`].
    Ports(BTreeSet<(u16, u16)>),
    /// Addresses, protocols and ports that endpoints matching a selector have under one of these names.
    NamedPorts(Family, BTreeSet<String>, Selector),
}

/// Where the peers of a selector are to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerSets {
    /// Every address is one.
    Everything,
    /// An address in any of these sets is one; without sets there is none.
    Of(Vec<AddressSet>),
}

/// The sets asked for so far.
pub(crate) struct Sets<'a> {
    peers: &'a [Peer<'a>],
    /// Places of peers by name and value of a label.
    by_label: BTreeMap<&'a str, BTreeMap<&'a str, Vec<usize>>>,
    names: Names,
    /// `None` for a set without members.
    asked: BTreeMap<Definition, Option<String>>,
    asked_peers: BTreeMap<Definition, PeerSets>,
    sets: BTreeMap<String, Set>,
}

impl<'a> Sets<'a> {
    pub(crate) fn new(peers: &'a [Peer<'a>]) -> Sets<'a> {
        let mut by_label: BTreeMap<_, BTreeMap<_, Vec<usize>>> = BTreeMap::new();
        for (place, peer) in peers.iter().enumerate() {
            for (name, value) in peer.labels.pairs() {
                by_label.entry(name).or_default().entry(value).or_default().push(place);
            }
        }
        let (names, asked, asked_peers, sets) = Default::default();
        Sets { peers, by_label, names, asked, asked_peers, sets }
    }

    /// Name of the set, `None` when it has no members and is not made.
    pub(crate) fn name(&mut self, definition: Definition) -> Option<String> {
        if let Some(name) = self.asked.get(&definition) {
            return name.clone();
        }
        let (prefix, comment, elements) = self.build(&definition);
        let name = elements.map(|elements| {
            let name = self.names.unique(prefix, &definition);
            self.add(name.clone(), &comment, elements);
            name
        });
        self.asked.insert(definition, name.clone());
        name
    }

    /// Where to look for the peers of a selector: a hash set of single addresses, and one for each length of network, which
    /// is looked up with the masked address. An interval set would cost more to change the more it holds.
    pub(crate) fn peers(&mut self, family: Family, selector: &Selector) -> PeerSets {
        let definition = Definition::Peers(family, selector.clone());
        if let Some(found) = self.asked_peers.get(&definition) {
            return found.clone();
        }
        let mut by_length: BTreeMap<u8, BTreeSet<IpAddr>> = BTreeMap::new();
        for net in self.matching(selector).into_iter().flat_map(|peer| peer.networks(family)) {
            by_length.entry(net.prefix()).or_default().insert(net.network());
        }
        let found = if by_length.contains_key(&0) {
            PeerSets::Everything
        } else {
            PeerSets::Of(self.by_length(&definition, family, selector, by_length))
        };
        self.asked_peers.insert(definition, found.clone());
        found
    }

    /// One set for each length, the longest first.
    fn by_length(
        &mut self,
        definition: &Definition,
        family: Family,
        selector: &Selector,
        by_length: BTreeMap<u8, BTreeSet<IpAddr>>,
    ) -> Vec<AddressSet> {
        if by_length.is_empty() {
            return Vec::new();
        }
        let base = self.names.unique(["peers4-", "peers6-"][index(family)], definition);
        let mut found = Vec::new();
        for (length, members) in by_length.into_iter().rev() {
            let (name, comment) = match length == family.bits() {
                true => (base.clone(), selector.to_string()),
                false => (format!("{base}.{length}"), format!("networks /{length} of {selector}")),
            };
            self.add(name.clone(), &comment, Elements::Addresses(family, members));
            found.push(match length == family.bits() {
                true => AddressSet::Named(name),
                false => AddressSet::Masked(length, name),
            });
        }
        found
    }

    fn add(&mut self, name: String, comment: &str, elements: Elements) {
        self.sets.insert(name, Set { comment: Comment::new(comment), elements, counter: false });
    }

    /// All sets with members that were asked for.
    pub(crate) fn into_sets(self) -> BTreeMap<String, Set> {
        self.sets
    }

    fn build(&self, definition: &Definition) -> (&'static str, String, Option<Elements>) {
        match definition {
            // Made by `peers`: one definition, several sets.
            Definition::Peers(..) => ("", String::new(), None),
            Definition::Nets(family, nets) => {
                let members = (!nets.is_empty()).then(|| Elements::Prefixes(*family, nets.clone()));
                (["nets4-", "nets6-"][index(*family)], String::new(), members)
            }
            Definition::Ports(ports) => {
                let members = (!ports.is_empty()).then(|| Elements::Ports(ports.clone()));
                ("ports-", String::new(), members)
            }
            Definition::NamedPorts(family, names, selector) => {
                let members: BTreeSet<_> = self
                    .matching(selector)
                    .into_iter()
                    .flat_map(|e| named_ports(e, *family, names))
                    .collect();
                let members = (!members.is_empty()).then_some(Elements::Services(*family, members));
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let comment = format!("ports {} of {selector}", names.join(", "));
                (["named4-", "named6-"][index(*family)], comment, members)
            }
        }
    }

    /// Peers a selector matches, sought where the rarest label is that it asks for.
    fn matching(&self, selector: &Selector) -> Vec<&'a Peer<'a>> {
        let Some(restrictions) = selector.restrictions() else { return Vec::new() };
        let matches = |peer: &&'a Peer<'a>| selector.matches(peer.labels);
        let candidates =
            restrictions.iter().filter_map(|(label, restriction)| self.candidates(label, restriction));
        let number = |places: &Vec<&[usize]>| places.iter().map(|places| places.len()).sum::<usize>();
        match candidates.min_by_key(number) {
            Some(places) => {
                let places = places.into_iter().flatten();
                places.filter_map(|place| self.peers.get(*place)).filter(matches).collect()
            }
            None => self.peers.iter().filter(matches).collect(),
        }
    }

    /// Places of the peers that have the label as it must be, by value; `None` when it must be absent.
    fn candidates(&self, label: &str, restriction: &LabelRestriction<'_>) -> Option<Vec<&[usize]>> {
        let Some(values) = self.by_label.get(label) else {
            return (*restriction != LabelRestriction::MustBeAbsent).then(Vec::new);
        };
        match restriction {
            LabelRestriction::MustBePresent => Some(values.values().map(Vec::as_slice).collect()),
            LabelRestriction::MustHaveOneOfValues(wanted) => {
                Some(wanted.iter().filter_map(|value| values.get(*value)).map(Vec::as_slice).collect())
            }
            LabelRestriction::MustBeAbsent => None,
        }
    }
}

fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

fn named_ports<'a>(
    peer: &'a Peer<'a>,
    family: Family,
    names: &BTreeSet<String>,
) -> impl Iterator<Item = (IpAddr, u8, u16)> {
    let ports = peer.ports.iter().filter(|port| names.contains(&port.name) && port.protocol.has_ports());
    ports.flat_map(move |port| {
        peer.networks(family).map(move |net| (net.network(), port.protocol.number(), port.port))
    })
}

/// The prefixes without those inside another one; interval sets refuse overlaps.
pub(crate) fn maximal(nets: impl IntoIterator<Item = IpNetwork>) -> BTreeSet<IpNetwork> {
    let mut sorted: Vec<IpNetwork> = nets.into_iter().collect();
    // A shorter prefix sorts before what it holds, and everything it holds follows at once.
    sorted.sort_by_key(|net| (net.network(), net.prefix()));
    let mut kept: Vec<IpNetwork> = Vec::new();
    for net in sorted {
        let covered = kept.last().is_some_and(|last| {
            last.is_ipv4() == net.is_ipv4() && last.prefix() <= net.prefix() && last.contains(net.network())
        });
        if !covered {
            kept.push(net);
        }
    }
    kept.into_iter().collect()
}

/// The same ports as ranges that neither overlap nor touch.
pub(crate) fn merged(ranges: &[(u16, u16)]) -> BTreeSet<(u16, u16)> {
    let mut sorted: Vec<_> = ranges.iter().copied().filter(|(low, high)| low <= high).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (low, high) in sorted {
        match merged.last_mut() {
            Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged.into_iter().collect()
}

/// Short names that stay the same as long as the meaning does.
#[derive(Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// `prefix` and as many digits of a hash of `meaning` as make it unique, at least 12.
    pub(crate) fn unique(&mut self, prefix: &str, meaning: &impl Debug) -> String {
        let digest = Sha256::digest(format!("{meaning:?}"));
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut length = 12;
        loop {
            let name = format!("{prefix}{}", digits.get(..length).unwrap_or(&digits));
            if self.taken.insert(name.clone()) || length >= digits.len() {
                return name;
            }
            length += 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> BTreeSet<IpNetwork> {
        maximal(texts.iter().map(|t| t.parse().unwrap()))
    }

    #[test]
    fn only_maximal_prefixes_stay() {
        let found =
            nets(&["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "11.0.0.0/8", "10.255.255.255/32", "fd00::/8"]);
        let expected: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(expected, ["10.0.0.0/8", "11.0.0.0/8", "fd00::/8"]);
        assert_eq!(nets(&["0.0.0.0/0", "1.0.0.0/8"]).len(), 1);
    }

    #[test]
    fn port_ranges_merge() {
        let found =
            merged(&[(80, 80), (81, 90), (85, 85), (100, 100), (65535, 65535), (65530, 65535), (9, 1)]);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(80, 90), (100, 100), (65530, 65535)]);
    }

    #[test]
    fn names_are_stable_and_never_shared() {
        let mut names = Names::default();
        let first = names.unique("x-", &"a");
        assert_eq!(first.len(), 14);
        assert_eq!(names.unique("x-", &"a").len(), 18);
        assert_eq!(Names::default().unique("x-", &"a"), first);
    }
}
