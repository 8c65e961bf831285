//! Who is in what was asked for: the members of each **roster**, kept up change by change. A member is there as long as
//! anything gives it: an address may belong to an endpoint and to a network set.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use slab::Slab;
use tortie_model::resource::WorkloadEndpointPort;
use tortie_model::selector::Selector;

#[cfg(test)]
use crate::index::Effective;
use crate::index::{ClassId, ClassKey, Flip, Index, Numbers, QueryId};
use crate::snapshot::{Endpoint, EndpointId, HostEndpoint, LabelSet, NetworkSet};

/// Something selectors can match.
#[derive(Clone, Debug)]
pub(crate) enum Thing {
    Endpoint(Arc<Endpoint>),
    HostEndpoint(Arc<HostEndpoint>),
    NetworkSet(Arc<NetworkSet>),
}

/// Its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ThingId {
    Endpoint(Arc<EndpointId>),
    HostEndpoint(Arc<EndpointId>),
    NetworkSet(Arc<EndpointId>),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// The addresses and networks of what a selector matches.
    Networks(Selector),
    /// Addresses, protocols and ports under one of these names, of what a selector matches.
    Services(BTreeSet<String>, Selector),
}

/// A member of a roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Member {
    Network(IpNetwork),
    Service(IpAddr, u8, u16),
}

/// A profile that endpoints have and that does not exist.
pub(crate) struct MissingProfile<'a> {
    pub(crate) name: &'a str,
    /// One that has it: the first by name, of workloads if there are any.
    pub(crate) first: &'a ThingId,
    /// How many have it.
    pub(crate) count: usize,
}

/// Number of a roster; numbers are used again.
pub(crate) type RosterId = usize;

/// A member came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Delta {
    pub(crate) roster: RosterId,
    pub(crate) member: Member,
    pub(crate) present: bool,
}

#[derive(Debug)]
struct Roster {
    wanted: Wanted,
    query: QueryId,
    users: usize,
    /// By how many things each member is given.
    members: HashMap<Member, u32>,
}

/// A thing and where it belongs.
#[derive(Debug)]
struct Known {
    id: ThingId,
    class: ClassId,
    thing: Thing,
}

/// Everything selectors can match, and all rosters.
#[derive(Debug, Default)]
pub(crate) struct Members {
    index: Index,
    things: Slab<Known>,
    by_id: HashMap<ThingId, usize>,
    of_class: HashMap<ClassId, Numbers>,
    rosters: Slab<Roster>,
    by_wanted: HashMap<Wanted, RosterId>,
    of_query: HashMap<QueryId, Vec<RosterId>>,
    /// Other things than before have profiles that do not exist.
    missing_touched: bool,
}

impl Members {
    /// A thing is new, other than before, or gone. What the old and the new one both give stays.
    pub(crate) fn set(&mut self, id: &ThingId, thing: Option<Thing>) -> Vec<Delta> {
        let mut deltas = Vec::new();
        let old = self.by_id.get(id).copied();
        match thing {
            Some(thing) => {
                let class = self.index.join(thing.class());
                self.missing_touched |= self.index.misses_profile(class);
                self.count(class, &thing, true, &mut deltas);
                let place = self.things.insert(Known { id: id.clone(), class, thing });
                self.of_class.entry(class).or_default().insert(place);
                self.by_id.insert(id.clone(), place);
            }
            None => {
                self.by_id.remove(id);
            }
        }
        if let Some(place) = old {
            let Known { class, thing, .. } = self.things.remove(place);
            self.count(class, &thing, false, &mut deltas);
            self.missing_touched |= self.index.misses_profile(class);
            if let Some(places) = self.of_class.get_mut(&class) {
                places.remove(place);
                if places.is_empty() {
                    self.of_class.remove(&class);
                }
            }
            self.index.leave(class);
        }
        deltas
    }

    /// The labels a profile gives are others; `None` when there is no such profile.
    pub(crate) fn set_profile(&mut self, name: &Arc<str>, labels: Option<LabelSet>) -> Vec<Delta> {
        self.missing_touched |= self.index.is_missing(name) != labels.is_none();
        let mut flips = self.index.set_profile(name, labels);
        flips.sort_by_key(|flip| !flip.matches);
        let mut deltas = Vec::new();
        for Flip { query, class, matches } in flips {
            for roster in self.of_query.get(&query).into_iter().flatten() {
                let Some(state) = self.rosters.get_mut(*roster) else { continue };
                for thing in things(&self.things, &self.of_class, class) {
                    state.count(*roster, thing, matches, &mut deltas);
                }
            }
        }
        deltas
    }

    /// Whether other things have profiles that do not exist than when this was called last.
    pub(crate) fn take_missing_touched(&mut self) -> bool {
        std::mem::take(&mut self.missing_touched)
    }

    /// The roster of what is wanted, with one more user; true when it is new.
    pub(crate) fn ask(&mut self, wanted: &Wanted) -> (RosterId, bool) {
        if let Some(id) = self.by_wanted.get(wanted) {
            if let Some(roster) = self.rosters.get_mut(*id) {
                roster.users += 1;
            }
            return (*id, false);
        }
        let query = self.index.ask(wanted.selector());
        let mut roster = Roster { wanted: wanted.clone(), query, users: 1, members: HashMap::new() };
        let mut known = Vec::new();
        for class in self.index.classes_of(query) {
            for thing in things(&self.things, &self.of_class, class) {
                roster.count(0, thing, true, &mut known);
            }
        }
        let id = self.rosters.insert(roster);
        self.by_wanted.insert(wanted.clone(), id);
        self.of_query.entry(query).or_default().push(id);
        (id, true)
    }

    /// One user of a roster less; true when it was the last.
    pub(crate) fn forget(&mut self, id: RosterId) -> bool {
        let Some(roster) = self.rosters.get_mut(id) else { return false };
        roster.users -= 1;
        if roster.users > 0 {
            return false;
        }
        let roster = self.rosters.remove(id);
        self.by_wanted.remove(&roster.wanted);
        if let Some(others) = self.of_query.get_mut(&roster.query) {
            others.retain(|other| *other != id);
            if others.is_empty() {
                self.of_query.remove(&roster.query);
            }
        }
        self.index.forget(roster.query);
        true
    }

    /// The members of a roster, in no order.
    pub(crate) fn of(&self, id: RosterId) -> impl Iterator<Item = Member> + '_ {
        self.rosters.get(id).into_iter().flat_map(|roster| roster.members.keys().copied())
    }

    /// Profiles that endpoints have and that do not exist.
    pub(crate) fn missing_profiles(&self) -> impl Iterator<Item = MissingProfile<'_>> {
        self.index.missing_profiles().filter_map(|(name, classes)| {
            let places = classes.iter().filter_map(|class| self.of_class.get(class));
            let places = places.flat_map(Numbers::iter);
            let ids = places.filter_map(|place| match &self.things.get(place)?.id {
                ThingId::NetworkSet(_) => None,
                id @ (ThingId::Endpoint(_) | ThingId::HostEndpoint(_)) => Some(id),
            });
            let (first, count) =
                ids.fold((None, 0), |(first, count), id| (first.into_iter().chain([id]).min(), count + 1));
            Some(MissingProfile { name, first: first?, count })
        })
    }

    /// The labels selectors see of a thing.
    #[cfg(test)]
    pub(crate) fn labels(&self, id: &ThingId) -> Option<Effective<'_>> {
        let known = self.things.get(*self.by_id.get(id)?)?;
        Some(self.index.labels(known.class))
    }

    fn count(&mut self, class: ClassId, thing: &Thing, present: bool, deltas: &mut Vec<Delta>) {
        for query in self.index.queries_of(class) {
            for id in self.of_query.get(query).into_iter().flatten() {
                if let Some(roster) = self.rosters.get_mut(*id) {
                    roster.count(*id, thing, present, deltas);
                }
            }
        }
    }
}

/// Apart from the rest, so that rosters can change meanwhile.
fn things<'a>(
    all: &'a Slab<Known>,
    of_class: &'a HashMap<ClassId, Numbers>,
    class: ClassId,
) -> impl Iterator<Item = &'a Thing> {
    let places = of_class.get(&class).into_iter().flat_map(Numbers::iter);
    places.filter_map(|place| Some(&all.get(place)?.thing))
}

impl Wanted {
    fn selector(&self) -> &Selector {
        match self {
            Wanted::Networks(selector) | Wanted::Services(_, selector) => selector,
        }
    }

    /// What a thing gives, things given twice twice.
    fn of<'a>(&'a self, thing: &'a Thing) -> Box<dyn Iterator<Item = Member> + 'a> {
        match self {
            Wanted::Networks(_) => Box::new(thing.networks().map(Member::Network)),
            Wanted::Services(names, _) => Box::new(thing.ports().iter().flat_map(move |port| {
                let wanted = names.contains(&port.name) && port.protocol.has_ports();
                let networks = wanted.then(|| thing.networks()).into_iter().flatten();
                networks.map(|net| Member::Service(net.network(), port.protocol.number(), port.port))
            })),
        }
    }
}

impl Roster {
    fn count(&mut self, id: RosterId, thing: &Thing, present: bool, deltas: &mut Vec<Delta>) {
        for member in self.wanted.of(thing) {
            let count = self.members.entry(member).or_default();
            let was = *count;
            *count = if present { was.saturating_add(1) } else { was.saturating_sub(1) };
            let is = *count;
            if is == 0 {
                self.members.remove(&member);
            }
            if (was == 0) != (is == 0) {
                deltas.push(Delta { roster: id, member, present });
            }
        }
    }
}

impl Thing {
    fn class(&self) -> ClassKey {
        let (labels, profiles) = match self {
            Thing::Endpoint(endpoint) => (&endpoint.labels, &endpoint.profiles),
            Thing::HostEndpoint(host) => (&host.endpoint.labels, &host.endpoint.profiles),
            Thing::NetworkSet(set) => (&set.labels, &set.profiles),
        };
        ClassKey { labels: labels.clone(), profiles: profiles.as_slice().into() }
    }

    /// Its addresses as networks of full length, and its networks.
    fn networks(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        let (addresses, nets): (&[IpAddr], &[IpNetwork]) = match self {
            Thing::Endpoint(endpoint) => (&endpoint.addresses, &[]),
            Thing::HostEndpoint(host) => (&host.endpoint.addresses, &[]),
            Thing::NetworkSet(set) => (&[], &set.nets),
        };
        addresses.iter().map(|address| IpNetwork::from(*address)).chain(nets.iter().copied())
    }

    fn ports(&self) -> &[WorkloadEndpointPort] {
        match self {
            Thing::Endpoint(endpoint) => &endpoint.ports,
            Thing::HostEndpoint(host) => &host.endpoint.ports,
            Thing::NetworkSet(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests;
