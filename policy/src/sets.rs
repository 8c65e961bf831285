//! Selectors, nets and ports as named sets, shared by all rules that ask for the same, and kept up as peers come and go.
//!
//! A set is named after what it is asked for, never after its members: a new peer adds an element and changes no rule.
//! Only when a definition needs other sets than before, because the first network of a length came or the last went, those
//! who use it have to be written anew.

mod definition;
mod loaded;
mod merged;
mod names;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdSet;
use slab::Slab;
use tortie_model::selector::Selector;

use crate::ir::{AddressSet, Comment, Elements, Family, Set};
use crate::members::{Delta, Member, Members, RosterId, Thing, ThingId, Wanted};
use crate::snapshot::LabelSet;
pub(crate) use definition::{Definition, Shape, Width, maximal, merged};
use merged::Givers;
pub(crate) use names::Names;

/// Where the peers of a selector are to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerSets {
    /// Every address is one.
    Everything,
    /// An address in any of these sets is one; without sets there is none.
    Of(Vec<AddressSet>),
}

/// With more peers than this a selector's set is not merged with others.
pub(crate) const MANY_PEERS: usize = 1024;

/// About how many members a set has: at least as many as there are, and less than twice that. Whether sets are merged
/// depends on it, so those who use one are written anew when it changes; more than [`MANY_PEERS`] is all the same.
pub(crate) fn size(members: usize) -> usize {
    let mut size = 1;
    while size < members && size <= MANY_PEERS {
        size *= 2;
    }
    size
}

/// Number of a definition; numbers are used again.
pub(crate) type DefinitionId = usize;

/// Number of somebody who uses definitions.
pub(crate) type UserId = usize;

#[derive(Debug)]
struct Asked {
    definition: Definition,
    name: String,
    /// Of one that has members by selector.
    roster: Option<RosterId>,
    /// How many members there are by length of network; all the same length when they are no networks.
    lengths: BTreeMap<u8, usize>,
    users: BTreeSet<UserId>,
}

/// All sets somebody asked for.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    members: Members,
    asked: Slab<Asked>,
    by_definition: HashMap<Definition, DefinitionId>,
    of_roster: HashMap<RosterId, Vec<DefinitionId>>,
    names: Names,
    by_name: HashMap<String, DefinitionId>,
    sets: BTreeMap<String, Set>,
    /// Those whose rules name a set.
    namers: HashMap<String, BTreeSet<UserId>>,
    /// Merged sets by what they were made of.
    merged_from: HashMap<String, BTreeSet<DefinitionId>>,
    givers: HashMap<DefinitionId, Givers>,
    /// Asked for since [`Sets::take_used`].
    used: BTreeSet<DefinitionId>,
    /// Definitions that need other sets than before.
    reshaped: BTreeSet<DefinitionId>,
    /// Definitions that may have no users any more.
    idle: BTreeSet<DefinitionId>,
    /// Sets other than before.
    touched: BTreeSet<String>,
}

impl Sets {
    /// A thing selectors can match is new, other than before, or gone.
    pub(crate) fn set_thing(&mut self, id: &ThingId, thing: Option<Thing>) {
        let deltas = self.members.set(id, thing);
        self.apply(deltas);
    }

    /// The labels a profile gives are others; `None` when there is no such profile.
    pub(crate) fn set_profile(&mut self, name: &Arc<str>, labels: Option<LabelSet>) {
        let deltas = self.members.set_profile(name, labels);
        self.apply(deltas);
    }

    /// Whether other things have profiles that do not exist than when this was called last.
    pub(crate) fn take_missing_touched(&mut self) -> bool {
        self.members.take_missing_touched()
    }

    /// Everything selectors can match.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Name of the set, `None` when it has no members and there is none.
    pub(crate) fn name(&mut self, definition: Definition) -> Option<String> {
        let id = self.need(definition);
        let asked = self.asked.get(id).filter(|asked| !asked.lengths.is_empty())?;
        Some(asked.name.clone())
    }

    /// Where to look for the peers of a selector: a hash set of single addresses, and one for each length of network, which
    /// is looked up with the masked address. An interval set would cost more to change the more it holds.
    pub(crate) fn peers(&mut self, family: Family, selector: &Selector) -> PeerSets {
        let id = self.need(Definition::Peers(family, selector.clone()));
        let Some(asked) = self.asked.get(id) else { return PeerSets::Of(Vec::new()) };
        if asked.lengths.contains_key(&0) {
            return PeerSets::Everything;
        }
        // The longest first.
        let sets = asked.lengths.keys().rev().map(|length| match *length == family.bits() {
            true => AddressSet::Named(asked.name.clone()),
            false => AddressSet::Masked(*length, asked.set_name(*length)),
        });
        PeerSets::Of(sets.collect())
    }

    /// The members of a set.
    pub(crate) fn elements(&self, name: &str) -> Option<&Elements> {
        self.sets.get(name).map(|set| &set.elements)
    }

    /// What was asked for since this was called last.
    pub(crate) fn take_used(&mut self) -> BTreeSet<DefinitionId> {
        std::mem::take(&mut self.used)
    }

    /// Somebody uses these definitions instead of those.
    pub(crate) fn set_uses(
        &mut self,
        user: UserId,
        old: &BTreeSet<DefinitionId>,
        new: &BTreeSet<DefinitionId>,
    ) {
        for id in new {
            if let Some(asked) = self.asked.get_mut(*id) {
                asked.users.insert(user);
            }
        }
        for id in old.difference(new) {
            if let Some(asked) = self.asked.get_mut(*id) {
                asked.users.remove(&user);
                self.idle.insert(*id);
            }
        }
    }

    /// Who has to be written anew, because what it uses needs other sets than before.
    pub(crate) fn take_outdated(&mut self) -> BTreeSet<UserId> {
        let reshaped = std::mem::take(&mut self.reshaped);
        reshaped.iter().filter_map(|id| self.asked.get(*id)).flat_map(|asked| &asked.users).copied().collect()
    }

    fn forget(&mut self, id: DefinitionId) {
        let asked = self.asked.remove(id);
        for length in asked.lengths.keys() {
            self.remove(&asked.set_name(*length));
        }
        self.names.release(&asked.name);
        self.by_name.remove(&asked.name);
        self.forget_merged(id, &asked.definition);
        self.by_definition.remove(&asked.definition);
        if let Some(roster) = asked.roster {
            if let Some(others) = self.of_roster.get_mut(&roster) {
                others.retain(|other| *other != id);
                if others.is_empty() {
                    self.of_roster.remove(&roster);
                }
            }
            self.members.forget(roster);
        }
    }

    fn remove(&mut self, name: &str) {
        if self.sets.remove(name).is_some() {
            self.touched.insert(name.to_owned());
        }
    }

    /// The definition, made when nobody asked for it before.
    fn need(&mut self, definition: Definition) -> DefinitionId {
        if let Some(id) = self.by_definition.get(&definition) {
            self.used.insert(*id);
            return *id;
        }
        let wanted = match &definition {
            Definition::Peers(_, selector) => Some(Wanted::Networks(selector.clone())),
            Definition::NamedPorts(_, names, selector) => {
                Some(Wanted::Services(names.clone(), selector.clone()))
            }
            Definition::Nets(..) | Definition::Ports(_) | Definition::Merged(..) => None,
        };
        let roster = wanted.map(|wanted| self.members.ask(&wanted).0);
        let name = self.names.unique(definition.prefix(), &definition);
        let asked = Asked {
            definition: definition.clone(),
            name: name.clone(),
            roster,
            lengths: BTreeMap::new(),
            users: BTreeSet::new(),
        };
        let id = self.asked.insert(asked);
        self.by_name.insert(name, id);
        self.by_definition.insert(definition, id);
        self.used.insert(id);
        // In case nobody says that it is used.
        self.idle.insert(id);
        match roster {
            Some(roster) => {
                self.of_roster.entry(roster).or_default().push(id);
                let members: Vec<Member> = self.members.of(roster).collect();
                members.into_iter().for_each(|member| self.count(id, member, true));
                self.reshaped.remove(&id);
            }
            None => self.fill(id),
        }
        id
    }

    /// Makes the set of a definition that says itself what its members are.
    fn fill(&mut self, id: DefinitionId) {
        let Some(asked) = self.asked.get_mut(id) else { return };
        let elements = match &asked.definition {
            Definition::Nets(family, nets) if !nets.is_empty() => {
                Elements::Prefixes(*family, nets.iter().copied().collect())
            }
            Definition::Ports(ports) if !ports.is_empty() => Elements::Ports(ports.iter().copied().collect()),
            Definition::Merged(..) => return self.fill_merged(id),
            Definition::Peers(..)
            | Definition::Nets(..)
            | Definition::Ports(_)
            | Definition::NamedPorts(..) => return,
        };
        asked.lengths.insert(0, 1);
        let (name, comment) = (asked.name.clone(), asked.definition.comment());
        self.touched.insert(name.clone());
        self.sets.insert(name, Set::new(Comment::new(&comment), elements));
    }

    fn apply(&mut self, deltas: Vec<Delta>) {
        for Delta { roster, member, present } in deltas {
            for id in self.of_roster.get(&roster).cloned().into_iter().flatten() {
                self.count(id, member, present);
            }
        }
    }

    /// A member of a definition came or went.
    fn count(&mut self, id: DefinitionId, member: Member, present: bool) {
        let Some(asked) = self.asked.get_mut(id) else { return };
        let Some(length) = asked.definition.length(member) else { return };
        let was_open = asked.lengths.contains_key(&0);
        let count = asked.lengths.entry(length).or_default();
        *count = if present { *count + 1 } else { count.saturating_sub(1) };
        let reshaped = if present { *count == 1 } else { *count == 0 };
        // The sizes before and after this one came, or went.
        let (less, more) = if present { (*count - 1, *count) } else { (*count, *count + 1) };
        let resized = asked.definition.is_of_networks() && size(less) != size(more);
        if *count == 0 {
            asked.lengths.remove(&length);
        }
        let is_open = asked.lengths.contains_key(&0) && asked.definition.is_of_networks();
        if reshaped || resized {
            self.reshaped.insert(id);
        }
        match (was_open && asked.definition.is_of_networks(), is_open) {
            (false, false) => self.change(id, length, member, present),
            (true, true) => {}
            (false, true) => self.close(id),
            (true, false) => self.reopen(id),
        }
    }

    /// Every address is a member now: no set is needed to tell.
    fn close(&mut self, id: DefinitionId) {
        let Some(asked) = self.asked.get(id) else { return };
        let names: Vec<String> = asked.lengths.keys().map(|length| asked.set_name(*length)).collect();
        for name in names {
            let Some(Set { elements: Elements::Addresses(_, members), .. }) = self.sets.remove(&name) else {
                continue;
            };
            // Until they are made anew, what merged sets have of it is no longer kept up.
            members.iter().for_each(|address| self.pass_on(&name, *address, false));
            self.touched.insert(name);
        }
    }

    /// Not every address is a member any more.
    fn reopen(&mut self, id: DefinitionId) {
        let Some(asked) = self.asked.get(id) else { return };
        let Some(roster) = asked.roster else { return };
        let members: Vec<(u8, Member)> =
            self.members.of(roster).filter_map(|m| Some((asked.definition.length(m)?, m))).collect();
        members.into_iter().for_each(|(length, member)| self.change(id, length, member, true));
    }

    fn change(&mut self, id: DefinitionId, length: u8, member: Member, present: bool) {
        let Some(asked) = self.asked.get(id) else { return };
        let name = asked.set_name(length);
        if !asked.lengths.contains_key(&length) {
            self.remove(&name);
            return self.pass_on_member(&name, member, present);
        }
        let set = self.sets.entry(name.clone()).or_insert_with(|| asked.empty_set(length));
        match (&mut set.elements, member) {
            (Elements::Addresses(_, all), Member::Network(net)) if present => {
                all.insert(net.network());
            }
            (Elements::Addresses(_, all), Member::Network(net)) => {
                all.remove(&net.network());
            }
            (Elements::Services(_, all), Member::Service(address, protocol, port)) if present => {
                all.insert((address, protocol, port));
            }
            (Elements::Services(_, all), Member::Service(address, protocol, port)) => {
                all.remove(&(address, protocol, port));
            }
            _ => {}
        }
        self.pass_on_member(&name, member, present);
        self.touched.insert(name);
    }

    fn pass_on_member(&mut self, source: &str, member: Member, present: bool) {
        if let Member::Network(net) = member {
            self.pass_on(source, net.network(), present);
        }
    }
}

impl Asked {
    /// Name of the set for networks of a length.
    fn set_name(&self, length: u8) -> String {
        match &self.definition {
            Definition::Peers(family, _) if length != family.bits() => format!("{}.{length}", self.name),
            Definition::Peers(..)
            | Definition::Nets(..)
            | Definition::Ports(_)
            | Definition::NamedPorts(..)
            | Definition::Merged(..) => self.name.clone(),
        }
    }

    fn empty_set(&self, length: u8) -> Set {
        let comment = match &self.definition {
            Definition::Peers(family, selector) if length != family.bits() => {
                format!("networks /{length} of {selector}")
            }
            Definition::Peers(..)
            | Definition::Nets(..)
            | Definition::Ports(_)
            | Definition::NamedPorts(..)
            | Definition::Merged(..) => self.definition.comment(),
        };
        let elements = match &self.definition {
            Definition::Peers(family, _) | Definition::Nets(family, _) => {
                Elements::Addresses(*family, OrdSet::new())
            }
            Definition::NamedPorts(family, ..) => Elements::Services(*family, OrdSet::new()),
            Definition::Ports(_) => Elements::Ports(OrdSet::new()),
            Definition::Merged(shape, ..) => shape.none(),
        };
        Set::new(Comment::new(&comment), elements)
    }
}
