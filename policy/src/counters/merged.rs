//! Elements of merged sets: for which rules they count.

use std::collections::BTreeMap;

use super::{Count, Counter, Reading, key};
use crate::ir::{Action, Element, Ruleset, SetKind};
use crate::netlink::read;

/// A set of merged rules, and one of the rules that look into it. Others are of the same policies in other groups.
#[derive(Clone, Copy, Debug)]
pub struct MergedSet<'r> {
    ruleset: &'r Ruleset,
    name: &'r str,
    kind: SetKind,
    chain: &'r str,
    action: &'r Action,
}

/// The merged sets of a rule-set whose elements count.
pub fn merged_sets(ruleset: &Ruleset) -> Vec<MergedSet<'_>> {
    let mut found = BTreeMap::new();
    for (chain, content) in &ruleset.chains {
        for rule in &content.rules {
            let Some(name) = ruleset.merged_set(rule) else { continue };
            let set = ruleset.sets.get(name).filter(|set| set.counter);
            let Some(kind) = set.map(|set| set.elements.kind()) else { continue };
            found.entry(name).or_insert(MergedSet { ruleset, name, kind, chain, action: &rule.action });
        }
    }
    found.into_values().collect()
}

impl MergedSet<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// A reading of nothing for each rule that was merged, so that it is known.
    pub fn rules(&self) -> impl Iterator<Item = Reading> + '_ {
        let origins =
            self.ruleset.origins.merged.get(self.name).into_iter().flat_map(|origins| origins.iter());
        let keys = origins.filter_map(|origin| key(self.chain, &origin.comment.to_string(), self.action));
        keys.map(|key| Reading { counter: Counter::Merged, key, count: Count::default() })
    }

    /// What the elements in a message of its dump have counted.
    pub fn readings(&self, body: &[u8]) -> Vec<Reading> {
        let reading = |(element, packets, bytes): (Element, u64, u64)| {
            let origin = self.ruleset.origin(self.name, self.of_protocol(element))?;
            let key = key(self.chain, &origin.to_string(), self.action)?;
            let counter = Counter::Element(self.name.to_owned(), element);
            Some(Reading { counter, key, count: Count { packets, bytes } })
        };
        read::counted_elements(self.kind, body).into_iter().filter_map(reading).collect()
    }

    /// Of ranges of ports the rule says the protocol.
    fn of_protocol(&self, element: Element) -> Element {
        let origins = self.ruleset.origins.merged.get(self.name);
        let protocol =
            origins.and_then(|origins| origins.first()?.services.first()).map(|service| service.protocol);
        match (element.service, protocol) {
            (Some((0, port)), Some(protocol)) => Element { service: Some((protocol, port)), ..element },
            _ => element,
        }
    }
}
