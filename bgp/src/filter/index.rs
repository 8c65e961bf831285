//! Which rules can match a prefix, found without a walk over all of them.
//!
//! The networks of all rules form a forest. Which prefix criteria a prefix meets depends only on the smallest network
//! around it, on whether it is that very network, and on its length where a rule asks for that. So there is a list of
//! rules for the inside of each network, one for the network itself, and one for what lies outside of all.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::rule::{PrefixMatch, Rule};
use crate::family::Prefix;

/// Lists of rule numbers by prefix.
#[derive(Default)]
pub(super) struct Index {
    ipv4: Forest,
    ipv6: Forest,
    lists: Vec<List>,
}

/// Numbers of the rules that can match, in order; nothing behind a rule that always decides.
struct List {
    rules: Box<[usize]>,
    /// One of them asks for the length of the prefix.
    asks_length: bool,
}

/// The networks of one family in order of address, shorter ones first.
#[derive(Default)]
struct Forest {
    nodes: Vec<Node>,
    /// For prefixes outside of all networks.
    outside: Option<u32>,
}

struct Node {
    address: u128,
    length: u8,
    /// The next larger network around it.
    parent: Option<usize>,
    /// List for the network itself.
    exact: u32,
    /// List for what is inside.
    inside: u32,
}

/// The number of a rule, and whether the length of a prefix decides if the prefix meets its criterion.
type Candidate = (usize, bool);

/// Lists under construction; equal ones are one.
#[derive(Default)]
struct Lists {
    numbers: BTreeMap<Vec<Candidate>, u32>,
    all: Vec<List>,
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Index {
        let mut lists = Lists::default();
        let ipv4 = Forest::new(rules, true, &mut lists);
        let ipv6 = Forest::new(rules, false, &mut lists);
        Index { ipv4, ipv6, lists: lists.all }
    }

    /// The list for a prefix.
    pub(super) fn find(&self, prefix: Prefix) -> u32 {
        let (forest, address) = match prefix.address() {
            std::net::IpAddr::V4(a) => (&self.ipv4, u128::from(u32::from(a)) << 96),
            std::net::IpAddr::V6(a) => (&self.ipv6, u128::from(a)),
        };
        forest.find(address, prefix.length())
    }

    pub(super) fn list(&self, list: u32) -> &[usize] {
        self.get(list).map_or(&[], |list| &list.rules)
    }

    pub(super) fn asks_length(&self, list: u32) -> bool {
        self.get(list).is_some_and(|list| list.asks_length)
    }

    fn get(&self, list: u32) -> Option<&List> {
        self.lists.get(usize::try_from(list).ok()?)
    }
}

impl Lists {
    fn add(&mut self, mut candidates: Vec<Candidate>, rules: &[Rule]) -> u32 {
        if let Some(last) = candidates.iter().position(|(number, _)| rules[*number].is_final()) {
            candidates.truncate(last + 1);
        }
        if let Some(known) = self.numbers.get(&candidates) {
            return *known;
        }
        let list = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let asks_length = candidates.iter().any(|(_, by_length)| *by_length);
        let rules = candidates.iter().map(|(number, _)| *number).collect();
        self.all.push(List { rules, asks_length });
        self.numbers.insert(candidates, list);
        list
    }
}

fn key(network: IpNetwork) -> (u128, u8) {
    let prefix = Prefix::from(network);
    match prefix.address() {
        std::net::IpAddr::V4(a) => (u128::from(u32::from(a)) << 96, prefix.length()),
        std::net::IpAddr::V6(a) => (u128::from(a), prefix.length()),
    }
}

fn contains((address, length): (u128, u8), inner: u128, inner_length: u8) -> bool {
    length <= inner_length && (length == 0 || (address ^ inner) >> (128 - u32::from(length)) == 0)
}

impl Forest {
    fn new(rules: &[Rule], ipv4: bool, lists: &mut Lists) -> Forest {
        // Rules that a network around a prefix, or the prefix itself, calls for; and those that most prefixes meet.
        let mut named: BTreeMap<(u128, u8), Vec<usize>> = BTreeMap::new();
        let mut common = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let Some(criterion) = rule.prefix else {
                common.push(number);
                continue;
            };
            let network = criterion.network();
            if network.is_ipv4() != ipv4 {
                continue;
            }
            let at = named.entry(key(network)).or_default();
            match criterion {
                PrefixMatch::Equal(_) | PrefixMatch::In(_) => at.push(number),
                PrefixMatch::NotEqual(_) | PrefixMatch::NotIn(_) => common.push(number),
            }
        }
        let mut forest = Forest::default();
        let mut chain: Vec<usize> = Vec::new();
        for (address, length) in named.keys().copied() {
            let around = |node: usize| forest.nodes.get(node).map(|n| (n.address, n.length));
            while chain
                .last()
                .is_some_and(|last| !around(*last).is_some_and(|network| contains(network, address, length)))
            {
                chain.pop();
            }
            let parent = chain.last().copied();
            chain.push(forest.nodes.len());
            forest.nodes.push(Node { address, length, parent, exact: 0, inside: 0 });
        }
        for node in 0..forest.nodes.len() {
            let exact = forest.candidates(node, true, rules, &named, &common);
            let inside = forest.candidates(node, false, rules, &named, &common);
            forest.nodes[node].exact = lists.add(exact, rules);
            forest.nodes[node].inside = lists.add(inside, rules);
        }
        let outside = common.iter().map(|number| (*number, false)).collect();
        forest.outside = Some(lists.add(outside, rules));
        forest
    }

    /// Rules that can match a node's network itself, or what is inside it and inside no smaller network.
    fn candidates(
        &self,
        node: usize,
        exact: bool,
        rules: &[Rule],
        named: &BTreeMap<(u128, u8), Vec<usize>>,
        common: &[usize],
    ) -> Vec<Candidate> {
        let own = (self.nodes[node].address, self.nodes[node].length);
        let mut candidates = Vec::new();
        let mut next = Some(node);
        while let Some(index) = next {
            let around = (self.nodes[index].address, self.nodes[index].length);
            candidates.extend(named[&around].iter().filter_map(|number| match rules[*number].prefix {
                Some(PrefixMatch::Equal(_)) => (exact && around == own).then_some((*number, false)),
                _ => Some((*number, rules[*number].lengths.is_some())),
            }));
            next = self.nodes[index].parent;
        }
        candidates.extend(common.iter().filter_map(|number| {
            let (matches, by_length) = match rules[*number].prefix {
                Some(PrefixMatch::NotEqual(network)) => (!(exact && key(network) == own), false),
                Some(PrefixMatch::NotIn(network)) => {
                    let inside = contains(key(network), own.0, own.1);
                    let by_length = inside && rules[*number].lengths.is_some();
                    (!inside || by_length, by_length)
                }
                _ => (true, false),
            };
            matches.then_some((*number, by_length))
        }));
        candidates.sort_unstable();
        candidates
    }

    fn find(&self, address: u128, length: u8) -> u32 {
        let after = self.nodes.partition_point(|node| (node.address, node.length) <= (address, length));
        // What contains a prefix comes before it, and what lies between the two is inside the former.
        let mut next = after.checked_sub(1);
        while let Some(node) = next.and_then(|index| self.nodes.get(index)) {
            if contains((node.address, node.length), address, length) {
                return if (node.address, node.length) == (address, length) {
                    node.exact
                } else {
                    node.inside
                };
            }
            next = node.parent;
        }
        self.outside.unwrap_or(u32::MAX)
    }
}
