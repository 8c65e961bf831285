//! The routes of both families and the groups of peers that are told about them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::export::ExportRules;
use crate::family::{Family, Prefix};
use crate::import::ImportRules;
use crate::rib::PeerKey;
use crate::rib::adj_out::{AdjOut, Change, Exported, Member};
use crate::rib::attrs::{Attrs, Interner};
use crate::rib::decision::Source;
use crate::rib::loc::{Best, Table};
use crate::table::{OriginatedRoute, TableChange};
use crate::wire::{PathAttributes, Update};

/// Peers with the same export rules.
pub(super) struct Group {
    pub(super) rules: ExportRules,
    pub(super) out: AdjOut,
    pub(super) members: BTreeSet<Member>,
}

#[derive(Default)]
pub(super) struct Routes {
    ipv4: Table,
    ipv6: Table,
    groups: BTreeMap<u32, Group>,
    next_group: u32,
    originated: BTreeMap<Prefix, OriginatedRoute>,
    /// Learned routes are announced; not so at the beginning of a restart.
    relay: bool,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

impl Routes {
    pub(super) fn new(relay: bool) -> Routes {
        Routes { relay, ..Routes::default() }
    }

    fn table(&mut self, family: Family) -> &mut Table {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }

    fn both(&mut self) -> [&mut Table; 2] {
        [&mut self.ipv4, &mut self.ipv6]
    }

    /// Learned routes may be announced from now on.
    pub(super) fn begin_relay(&mut self) {
        if !std::mem::replace(&mut self.relay, true) {
            self.both().into_iter().for_each(Table::touch_all);
        }
    }

    pub(super) fn set_own_addresses(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.both().into_iter().for_each(|table| table.set_own_addresses(addresses.clone()));
    }

    pub(super) fn set_source(&mut self, family: Family, peer: PeerKey, source: Source) {
        self.table(family).set_source(peer, source);
    }

    pub(super) fn mark_stale(&mut self, family: Family, peer: PeerKey) {
        self.table(family).mark_stale(peer);
    }

    /// Routes of a peer that is about to send them all once more.
    pub(super) fn mark_unconfirmed(&mut self, family: Family, peer: PeerKey) {
        self.table(family).mark_unconfirmed(peer);
    }

    /// Prefixes a peer announced, accepted or not.
    pub(super) fn known(&self, family: Family, peer: PeerKey) -> usize {
        match family {
            Family::Ipv4 => self.ipv4.known(peer),
            Family::Ipv6 => self.ipv6.known(peer),
        }
    }

    pub(super) fn sweep_stale(&mut self, family: Family, peer: PeerKey) {
        self.table(family).sweep_stale(peer);
    }

    pub(super) fn drop_peer(&mut self, family: Family, peer: PeerKey) {
        self.table(family).drop_peer(peer);
    }

    /// Replaces the set of originated routes.
    pub(super) fn originate(&mut self, routes: &BTreeMap<IpNetwork, OriginatedRoute>) {
        let new: BTreeMap<Prefix, OriginatedRoute> =
            routes.iter().map(|(network, route)| (Prefix::from(*network), route.clone())).collect();
        let old = std::mem::replace(&mut self.originated, new.clone());
        for prefix in old.keys().filter(|prefix| !new.contains_key(prefix)) {
            self.table(prefix.family()).originate(*prefix, None);
        }
        for (prefix, route) in new.iter().filter(|(prefix, route)| old.get(prefix) != Some(route)) {
            // Export puts the session's own address in its place.
            let unset = match prefix.family() {
                Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let attributes =
                PathAttributes { local_pref: Some(route.local_pref), ..PathAttributes::originated(unset) };
            let table = self.table(prefix.family());
            let attrs = table.interner.intern(&attributes);
            table.originate(*prefix, Some(attrs));
        }
    }

    /// A peer's UPDATE.
    pub(super) fn update(&mut self, peer: PeerKey, update: &Update<'_>, rules: &ImportRules) {
        for prefix in &update.withdrawn {
            self.table(prefix.family()).withdraw(peer, *prefix);
        }
        let Some(attributes) = &update.attributes else { return };
        self.announced(peer, attributes, &update.announced, rules);
        if let Some((next_hop, prefixes)) = &update.also {
            self.announced(
                peer,
                &PathAttributes { next_hop: *next_hop, ..attributes.clone() },
                prefixes,
                rules,
            );
        }
    }

    /// `prefixes` are of one family.
    fn announced(
        &mut self,
        peer: PeerKey,
        attributes: &PathAttributes<'_>,
        prefixes: &[Prefix],
        rules: &ImportRules,
    ) {
        let Some(first) = prefixes.first() else { return };
        let table = self.table(first.family());
        let received = table.interner.intern(attributes);
        for prefix in prefixes {
            let accepted = import(&mut table.interner, *prefix, &received, rules);
            table.announce(peer, *prefix, &received, accepted.as_ref());
        }
    }

    /// Judges what a peer announced by new rules.
    pub(super) fn review(&mut self, family: Family, peer: PeerKey, rules: &ImportRules) {
        self.table(family)
            .review(peer, |interner, prefix, received| import(interner, prefix, received, rules));
    }

    /// Decides everything that changed. Returns the changed learned routes, and per group what its members are told.
    pub(super) fn settle(&mut self) -> (Vec<TableChange>, BTreeMap<u32, Vec<Change>>) {
        let mut changes = Vec::new();
        let mut told: BTreeMap<u32, Vec<Change>> = BTreeMap::new();
        let Routes { ipv4, ipv6, groups, relay, .. } = self;
        for (family, table) in [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)] {
            for prefix in table.take_dirty() {
                table.settle(prefix, |interner, settled| {
                    for (id, group) in groups.iter_mut().filter(|(_, group)| group.rules.family == family) {
                        let route = settled
                            .best
                            .and_then(|best| export(interner, prefix, best, &group.rules, *relay));
                        if let Some(change) = group.out.set(prefix, route) {
                            told.entry(*id).or_default().push(change);
                        }
                    }
                    if let Some(route) = settled.learned {
                        changes.push(TableChange { prefix: prefix.network(), route });
                    }
                });
            }
        }
        (changes, told)
    }

    /// The group of these rules, with its table complete.
    pub(super) fn group_for(&mut self, rules: &ExportRules) -> u32 {
        if let Some((id, _)) = self.groups.iter().find(|(_, group)| group.rules == *rules) {
            return *id;
        }
        let id = self.next_group;
        self.next_group += 1;
        let mut out = AdjOut::default();
        let relay = self.relay;
        self.table(rules.family).for_each_best(|interner, prefix, best| {
            out.set(prefix, export(interner, prefix, best, rules, relay));
        });
        self.groups.insert(id, Group { rules: rules.clone(), out, members: BTreeSet::new() });
        id
    }

    pub(super) fn group(&self, id: u32) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(super) fn join(&mut self, id: u32, member: Member) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.members.insert(member);
        }
    }

    pub(super) fn leave(&mut self, id: u32, member: Member) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.members.remove(&member);
        }
    }

    /// Forgets groups without members.
    pub(super) fn forget_empty_groups(&mut self) {
        self.groups.retain(|_, group| !group.members.is_empty());
    }

    /// Accepted prefixes by peer.
    pub(super) fn received(&self) -> BTreeMap<PeerKey, usize> {
        let mut counts = self.ipv4.received();
        counts.extend(self.ipv6.received());
        counts
    }

    pub(super) fn learned(&self) -> BTreeMap<IpNetwork, crate::table::LearnedRoute> {
        let all = self.ipv4.learned().chain(self.ipv6.learned());
        all.map(|(prefix, route)| (prefix.network(), route.clone())).collect()
    }

    pub(super) fn originated(&self) -> Vec<IpNetwork> {
        self.originated.keys().map(|prefix| prefix.network()).collect()
    }
}

fn import(interner: &mut Interner, prefix: Prefix, received: &Attrs, rules: &ImportRules) -> Option<Attrs> {
    let mut attributes = received.view();
    let before = rules.filter.rules.is_empty() && rules.role.is_none();
    if !rules.accept(prefix, &mut attributes) {
        return None;
    }
    Some(if before { received.clone() } else { interner.intern(&attributes) })
}

fn export(
    interner: &mut Interner,
    prefix: Prefix,
    best: Best<'_>,
    rules: &ExportRules,
    relay: bool,
) -> Option<Exported> {
    let source = match best {
        Best::Originated(_) => None,
        Best::Learned(_, peer, _) => Some(peer),
    };
    if source.is_some() && !relay {
        return None;
    }
    let attributes = rules.export(prefix, best)?;
    Some(Exported { attrs: interner.intern(&attributes), source })
}
