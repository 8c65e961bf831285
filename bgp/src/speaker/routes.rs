//! The routes of both families and the groups of peers that are told about them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::DefaultHashBuilder;
use ipnetwork::IpNetwork;

use crate::export::ExportRules;
use crate::family::{Family, Prefix};
use crate::filter::PrefixClass;
use crate::import::ImportRules;
use crate::rib::PeerKey;
use crate::rib::adj_out::{AdjOut, Change, Member, Told};
use crate::rib::attrs::{AttrId, Interner};
use crate::rib::batch::Batch;
use crate::rib::loc::{Best, Slot, Table};
use crate::table::{LearnedRoute, OriginatedRoute, TableChange};
use crate::wire::nlri::Nlri;
use crate::wire::{PathAttributes, Update};

/// Peers with the same export rules.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rules: ExportRules,
    pub(super) out: AdjOut,
    pub(super) members: BTreeSet<Member>,
    /// What changed in the present decision.
    pending: Vec<Change>,
    exports: Exports,
}

/// What the export rules made of attributes, remembered for the time of one decision.
#[derive(Debug, Default)]
struct Exports {
    known: HashMap<(AttrId, PeerKey, PrefixClass), Option<AttrId>, DefaultHashBuilder>,
}

#[derive(Debug, Default)]
pub(super) struct Routes {
    ipv4: Table,
    ipv6: Table,
    groups: BTreeMap<u32, Group>,
    next_group: u32,
    originated: BTreeMap<Prefix, OriginatedRoute>,
    own_addresses: BTreeSet<IpAddr>,
    /// Learned routes are announced; not so at the beginning of a restart.
    relay: bool,
}

impl Routes {
    /// `relay`: learned routes may be announced at once. `silent`: nobody wants to know them.
    pub(super) fn new(relay: bool, silent: bool) -> Routes {
        let mut routes = Routes { relay, ..Routes::default() };
        if silent {
            routes.both().into_iter().for_each(Table::silence);
        }
        routes
    }

    pub(super) fn table(&self, family: Family) -> &Table {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    pub(super) fn table_mut(&mut self, family: Family) -> &mut Table {
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

    pub(super) fn set_own_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.both().into_iter().for_each(|table| table.set_own_addresses(&addresses));
        self.own_addresses = addresses;
    }

    /// One more address that is ours.
    pub(super) fn add_own_address(&mut self, address: IpAddr) {
        if !self.own_addresses.contains(&address) {
            let mut addresses = std::mem::take(&mut self.own_addresses);
            addresses.insert(address);
            self.set_own_addresses(addresses);
        }
    }

    /// Forgets everything a peer announced.
    pub(super) fn drop_peer(&mut self, peer: PeerKey) {
        self.both().into_iter().for_each(|table| table.drop_peer(peer));
    }

    /// Replaces the set of originated routes.
    pub(super) fn originate(&mut self, routes: &BTreeMap<IpNetwork, OriginatedRoute>) {
        let new: BTreeMap<Prefix, OriginatedRoute> =
            routes.iter().map(|(network, route)| (Prefix::from(*network), route.clone())).collect();
        let old = std::mem::replace(&mut self.originated, new.clone());
        for prefix in old.keys().filter(|prefix| !new.contains_key(prefix)) {
            self.table_mut(prefix.family()).originate(*prefix, None);
        }
        for (prefix, route) in new.iter().filter(|(prefix, route)| old.get(prefix) != Some(route)) {
            // Export puts the session's own address in its place.
            let unset = match prefix.family() {
                Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let attributes =
                PathAttributes { local_pref: Some(route.local_pref), ..PathAttributes::originated(unset) };
            let table = self.table_mut(prefix.family());
            let attrs = table.interner.intern(&attributes);
            table.originate(*prefix, Some(attrs));
        }
    }

    /// A peer's UPDATE.
    pub(super) fn update(&mut self, peer: PeerKey, update: &Update<'_>, rules: &ImportRules) {
        for nlri in &update.withdrawn {
            self.table_mut(nlri.prefix.family()).withdraw(peer, *nlri);
        }
        let Some(attributes) = &update.attributes else { return };
        self.announced(peer, attributes, &update.announced, rules);
        if let Some((next_hop, nlri)) = &update.also {
            let attributes = PathAttributes { next_hop: *next_hop, ..attributes.clone() };
            self.announced(peer, &attributes, nlri, rules);
        }
    }

    /// `announced` are of one family.
    fn announced(
        &mut self,
        peer: PeerKey,
        attributes: &PathAttributes<'_>,
        announced: &[Nlri],
        rules: &ImportRules,
    ) {
        let Some(first) = announced.first() else { return };
        let table = self.table_mut(first.prefix.family());
        let received = table.interner.intern(attributes);
        // Prefixes of one class fare alike, and those of one UPDATE are mostly of one.
        let mut class = rules.filter.prefix_class(first.prefix);
        let mut accepted = import(&mut table.interner, first.prefix, received, rules);
        for nlri in announced {
            let other = rules.filter.prefix_class(nlri.prefix);
            if other != class {
                (class, accepted) = (other, import(&mut table.interner, nlri.prefix, received, rules));
            }
            table.announce(peer, *nlri, received, accepted);
        }
    }

    /// Judges what a peer announced by new rules.
    pub(super) fn review(&mut self, peer: PeerKey, rules: &ImportRules) {
        for table in self.both() {
            table.review(peer, |interner, prefix, received| import(interner, prefix, received, rules));
        }
    }

    /// Decides what changed, at most so many prefixes of a family. Returns the changed learned routes, and per group what
    /// its members are told; both empty when nothing had changed or all changes came to nothing.
    pub(super) fn settle(&mut self, most: usize) -> (Vec<TableChange>, Vec<(u32, Vec<Change>)>) {
        let mut changes = Vec::new();
        let Routes { ipv4, ipv6, groups, relay, .. } = self;
        for (family, table) in [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)] {
            let dirty = table.take_dirty(most);
            if dirty.is_empty() {
                continue;
            }
            let mut of_family: Vec<&mut Group> =
                groups.values_mut().filter(|group| group.family() == family).collect();
            for slot in dirty {
                let settled = table.settle(slot);
                for group in &mut of_family {
                    group.update(slot, settled.prefix, settled.best, table, *relay);
                }
                if let Some(route) = settled.learned {
                    changes.push(TableChange { prefix: settled.prefix.network(), route });
                }
                table.release(slot);
            }
            of_family.iter_mut().for_each(|group| group.exports.known.clear());
        }
        let pending = groups.iter_mut().filter(|(_, group)| !group.pending.is_empty());
        (changes, pending.map(|(id, group)| (*id, std::mem::take(&mut group.pending))).collect())
    }

    /// Something has changed and is not decided.
    pub(super) fn is_unsettled(&self) -> bool {
        self.ipv4.is_dirty() || self.ipv6.is_dirty()
    }

    /// Prefixes that are gone make room for others, unless a peer `is_behind` and has yet to be told.
    pub(super) fn recycle(&mut self, is_behind: impl FnOnce() -> bool) {
        if (self.ipv4.has_released() || self.ipv6.has_released()) && !is_behind() {
            self.both().into_iter().for_each(Table::recycle);
        }
    }

    /// Forgets attributes nobody holds, each time they have doubled in number.
    pub(super) fn sweep(&mut self) {
        let Routes { ipv4, ipv6, groups, .. } = self;
        for (family, table) in [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)] {
            if table.interner.wants_sweep() {
                let mut marks = table.interner.marks();
                table.mark(&mut marks);
                groups.values().filter(|group| group.family() == family).for_each(|g| g.out.mark(&mut marks));
                table.interner.sweep(&marks);
            }
        }
    }

    /// The group of these rules, with its table complete.
    pub(super) fn group_for(&mut self, rules: &ExportRules) -> u32 {
        if let Some((id, _)) = self.groups.iter().find(|(_, group)| group.rules == *rules) {
            return *id;
        }
        let id = self.next_group;
        self.next_group += 1;
        let mut group = Group {
            rules: rules.clone(),
            out: AdjOut::new(rules.form.layout.add_path),
            members: BTreeSet::new(),
            pending: Vec::new(),
            exports: Exports::default(),
        };
        let relay = self.relay;
        let table = self.table_mut(group.family());
        for slot in table.slots() {
            group.update(slot, table.prefix(slot), table.best(slot), table, relay);
            group.pending.clear();
        }
        group.exports.known.clear();
        self.groups.insert(id, group);
        id
    }

    pub(super) fn group(&self, id: u32) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// The table of a group and the group.
    pub(super) fn group_and_table(&self, id: u32) -> Option<(&Group, &Table)> {
        let group = self.groups.get(&id)?;
        Some((group, self.table(group.family())))
    }

    /// Whether learned routes are announced.
    pub(super) fn relays(&self) -> bool {
        self.relay
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
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

    /// Paths a peer announced, and how many of them were accepted.
    pub(super) fn received(&self, peer: PeerKey) -> (usize, usize) {
        let (ipv4, ipv6) = (self.ipv4.received(peer), self.ipv6.received(peer));
        (ipv4.0 + ipv6.0, ipv4.1 + ipv6.1)
    }

    pub(super) fn learned(&self) -> BTreeMap<IpNetwork, LearnedRoute> {
        let all = self.ipv4.learned().chain(self.ipv6.learned());
        all.map(|(prefix, route)| (prefix.network(), route)).collect()
    }

    pub(super) fn originated(&self) -> Vec<IpNetwork> {
        self.originated.keys().map(|prefix| prefix.network()).collect()
    }
}

impl Group {
    pub(super) fn family(&self) -> Family {
        self.rules.form.layout.family
    }

    /// A prefix may have other routes than before.
    fn update(&mut self, slot: Slot, prefix: Prefix, best: Option<Best>, table: &mut Table, relay: bool) {
        match self.out {
            AdjOut::Best(_) => {
                let told = best.and_then(|best| self.export(prefix, best, table, relay));
                let told = told.map(|told| (0, told));
                self.out.set(slot, prefix, told.as_slice(), &mut self.pending);
            }
            AdjOut::All(_) => {
                let mut routes: Vec<(u16, Told)> = table
                    .all(slot)
                    .into_iter()
                    .filter_map(|route| Some((route.local_id, self.export(prefix, route, table, relay)?)))
                    .collect();
                routes.sort_unstable_by_key(|(id, _)| *id);
                self.out.set(slot, prefix, &routes, &mut self.pending);
            }
        }
    }

    fn export(&mut self, prefix: Prefix, route: Best, table: &mut Table, relay: bool) -> Option<Told> {
        if is_deferred(route, relay) {
            return None;
        }
        let told = |attrs| Told { attrs, source: route.peer };
        let key = (route.attrs, route.peer, self.rules.filter.prefix_class(prefix));
        let known = self.exports.known.entry(key);
        known.or_insert_with(|| export(&mut table.interner, prefix, route, &self.rules)).map(told)
    }

    pub(super) fn batch(&self, changes: &[Change], table: &Table) -> Batch {
        Batch::new(changes, &table.interner, self.rules.form)
    }
}

/// Whether a route waits for the start to be complete: learned routes do (RFC 4724 4.1).
pub(super) fn is_deferred(route: Best, relay: bool) -> bool {
    route.source.is_some() && !relay
}

/// What import makes of a received route.
fn import(interner: &mut Interner, prefix: Prefix, received: AttrId, rules: &ImportRules) -> Option<AttrId> {
    if rules.admit(&interner.get(received).view()).is_err() {
        None
    } else if rules.is_open() {
        Some(received)
    } else {
        interner.derive(received, |attributes| Some(rules.judge(prefix, attributes).ok()?.0))
    }
}

fn export(interner: &mut Interner, prefix: Prefix, route: Best, rules: &ExportRules) -> Option<AttrId> {
    interner.derive(route.attrs, |attributes| Some(rules.decide(prefix, attributes, route.source).ok()?.0))
}
