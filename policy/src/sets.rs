//! Selectors, nets and ports as named sets, shared by all rules that ask for the same.
//!
//! A set is named after what it is asked for, never after its members: a new peer adds an element and changes no rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sha2::{Digest as _, Sha256};
use tortie_model::selector::{LabelRestriction, Selector};

use crate::ir::{Comment, Elements, Family, Set};
use crate::select::Labelled;

/// What a rule asks a set for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Definition {
    /// Addresses of the endpoints a selector matches.
    Peers(Family, Selector),
    /// Prefixes; see [`maximal`].
    Nets(Family, BTreeSet<IpNetwork>),
    /// Ports; see [`merged`].
    Ports(BTreeSet<(u16, u16)>),
    /// Addresses, protocols and ports that endpoints matching a selector have under one of these names.
    NamedPorts(Family, BTreeSet<String>, Selector),
}

/// The sets asked for so far.
pub(crate) struct Sets<'a> {
    endpoints: &'a [Labelled<'a>],
    /// Places of endpoints by name and value of a label.
    by_label: BTreeMap<&'a str, BTreeMap<&'a str, Vec<usize>>>,
    names: Names,
    /// `None` for a set without members.
    asked: BTreeMap<Definition, Option<String>>,
    sets: BTreeMap<String, Set>,
}

impl<'a> Sets<'a> {
    pub(crate) fn new(endpoints: &'a [Labelled<'a>]) -> Sets<'a> {
        let mut by_label: BTreeMap<_, BTreeMap<_, Vec<usize>>> = BTreeMap::new();
        for (place, endpoint) in endpoints.iter().enumerate() {
            for (name, value) in endpoint.labels.pairs() {
                by_label.entry(name).or_default().entry(value).or_default().push(place);
            }
        }
        Sets { endpoints, by_label, names: Names::default(), asked: BTreeMap::new(), sets: BTreeMap::new() }
    }

    /// Name of the set, `None` when it has no members and is not made.
    pub(crate) fn name(&mut self, definition: Definition) -> Option<String> {
        if let Some(name) = self.asked.get(&definition) {
            return name.clone();
        }
        let (prefix, comment, elements) = self.build(&definition);
        let name = elements.map(|elements| {
            let name = self.names.unique(prefix, &definition);
            self.sets.insert(name.clone(), Set { comment: Comment::new(&comment), elements, counter: false });
            name
        });
        self.asked.insert(definition, name.clone());
        name
    }

    /// All sets with members that were asked for.
    pub(crate) fn into_sets(self) -> BTreeMap<String, Set> {
        self.sets
    }

    fn build(&self, definition: &Definition) -> (&'static str, String, Option<Elements>) {
        match definition {
            Definition::Peers(family, selector) => {
                let members: BTreeSet<IpAddr> =
                    self.matching(selector).into_iter().flat_map(|e| addresses(e, *family)).collect();
                let members = (!members.is_empty()).then_some(Elements::Addresses(*family, members));
                (["peers4-", "peers6-"][index(*family)], selector.to_string(), members)
            }
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

    /// Endpoints a selector matches, sought where the rarest label is that it asks for.
    fn matching(&self, selector: &Selector) -> Vec<&'a Labelled<'a>> {
        let Some(restrictions) = selector.restrictions() else { return Vec::new() };
        let matches = |e: &&'a Labelled<'a>| selector.matches(&e.labels);
        let candidates =
            restrictions.iter().filter_map(|(label, restriction)| self.candidates(label, restriction));
        let number = |places: &Vec<&[usize]>| places.iter().map(|places| places.len()).sum::<usize>();
        match candidates.min_by_key(number) {
            Some(places) => {
                let places = places.into_iter().flatten();
                places.filter_map(|place| self.endpoints.get(*place)).filter(matches).collect()
            }
            None => self.endpoints.iter().filter(matches).collect(),
        }
    }

    /// Places of the endpoints that have the label as it must be, by value; `None` when it must be absent.
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

fn addresses<'a>(endpoint: &'a Labelled<'a>, family: Family) -> impl Iterator<Item = IpAddr> {
    endpoint.endpoint.addresses.iter().copied().filter(move |a| Family::of(*a) == family)
}

fn named_ports<'a>(
    endpoint: &'a Labelled<'a>,
    family: Family,
    names: &BTreeSet<String>,
) -> impl Iterator<Item = (IpAddr, u8, u16)> {
    let ports = endpoint.endpoint.ports.iter();
    let ports = ports.filter(|port| names.contains(&port.name) && port.protocol.has_ports());
    ports.flat_map(move |port| {
        addresses(endpoint, family).map(move |a| (a, port.protocol.number(), port.port))
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
