//! The calculation, kept up change by change: what is set here is remembered, and [`Engine::flush`] works out what follows
//! from it, at the cost of what it touches.
//!
//! ```text
//! things ──▶ sets (members by selector)          ◀── definitions ─┐
//! endpoints of this node ─▶ classes ─▶ policies ─▶ stages ─▶ groups (chains) ─▶ Ruleset
//! ```

mod locals;
mod problems;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use tortie_model::resource::{ProfileSpec, TierSpec};

use crate::group::Groups;
use crate::host::{self, Hooks, Hosts};
use crate::ir::{Chain, Direction, Ruleset, Set, Verdict, VerdictMap};
use crate::members::{Thing, ThingId};
use crate::order::Orders;
use crate::phase::Phase;
use crate::select::{self, Rules};
use crate::sets::Sets;
use crate::snapshot::{
    Endpoint, EndpointId, HostEndpoint, LabelSet, NetworkSet, PolicyBody, PolicyId, Snapshot, StagedBody,
    Surroundings,
};
use crate::{Compiled, Problems, dispatch, staged};
use locals::{Locals, Writing};
use problems::{About, Reports};

/// Everything that decides about packets on one node, and what follows from it.
#[derive(Debug)]
pub struct Engine {
    tiers: BTreeMap<String, TierSpec>,
    /// Tiers that cannot be read.
    unreadable: BTreeSet<String>,
    /// Rules of profiles; `None` for one that matches nothing.
    profiles: BTreeMap<Arc<str>, Option<Arc<Rules>>>,
    hosts: Hosts,
    around: Surroundings,
    locals: Locals,
    groups: Groups,
    sets: Sets,
    reports: Reports,
    ruleset: Ruleset,
    /// What of the rule-set is neither of workloads nor of groups.
    frame: Ruleset,
    /// The frame has to be made anew.
    reframe: bool,
    /// All groups have to be written anew.
    rewrite: bool,
}

impl Default for Engine {
    fn default() -> Engine {
        let mut ruleset = Ruleset::empty();
        ruleset.maps = dispatch::maps();
        Engine {
            tiers: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            profiles: BTreeMap::new(),
            hosts: Hosts::new(),
            around: Surroundings::default(),
            locals: Locals::default(),
            groups: Groups::default(),
            sets: Sets::default(),
            reports: Reports::default(),
            ruleset,
            frame: Ruleset::empty(),
            reframe: true,
            rewrite: false,
        }
    }
}

/// What is set; `None` takes it away.
impl Engine {
    /// A tier.
    pub fn set_tier(&mut self, name: &str, tier: Option<TierSpec>) {
        match tier {
            Some(tier) => self.tiers.insert(name.to_owned(), tier),
            None => self.tiers.remove(name),
        };
        self.unreadable.remove(name);
        // There are few, and they change rarely.
        self.locals.touch_all();
    }

    /// A tier that cannot be read: until it can, or is gone, its policies deny before all others.
    pub fn set_unreadable_tier(&mut self, name: &str) {
        self.tiers.remove(name);
        self.unreadable.insert(name.to_owned());
        self.locals.touch_all();
    }

    /// A policy.
    pub fn set_policy(&mut self, id: &PolicyId, body: Option<&PolicyBody>) {
        let mut problems = Problems::default();
        let policy = body.map(|body| Arc::new(select::policy(id, body, &mut problems)));
        self.reports.set(About::Policy(id.clone()), problems);
        self.locals.set_policy(id, policy);
    }

    /// A staged policy.
    pub fn set_staged(&mut self, id: &PolicyId, body: Option<&StagedBody>) {
        let mut problems = Problems::default();
        let policy = body.and_then(|body| staged::policy(id, body, &mut problems)).map(Arc::new);
        self.reports.set(About::Staged(id.clone()), problems);
        self.locals.set_staged(id, policy);
    }

    /// A profile; the inner `None` is one that cannot be read.
    pub fn set_profile(&mut self, name: &str, profile: Option<Option<&ProfileSpec>>) {
        let key: Arc<str> = Arc::from(name);
        let mut problems = Problems::default();
        let rules = profile.map(|profile| select::profile(name, profile, &mut problems));
        self.reports.set(About::Profile(Arc::clone(&key)), problems);
        let labels = profile.map(|profile| {
            let labels = profile.into_iter().flat_map(|profile| &profile.labels_to_apply);
            labels.map(|(name, value)| (name.as_str(), value.as_str())).collect::<LabelSet>()
        });
        self.sets.set_profile(&key, labels.clone());
        self.locals.set_profile(&key, labels);
        match rules {
            Some(rules) => self.profiles.insert(key, rules),
            None => self.profiles.remove(&key),
        };
    }

    /// A workload endpoint of the cluster.
    pub fn set_endpoint(&mut self, id: &Arc<EndpointId>, endpoint: Option<&Arc<Endpoint>>) {
        let thing = endpoint.map(|endpoint| Thing::Endpoint(Arc::clone(endpoint)));
        self.sets.set_thing(&ThingId::Endpoint(Arc::clone(id)), thing);
        let local = endpoint.filter(|endpoint| endpoint.interface.is_some());
        self.locals.set_workload(id, local);
    }

    /// A host endpoint of the cluster.
    pub fn set_host_endpoint(&mut self, id: &Arc<EndpointId>, host: Option<&Arc<HostEndpoint>>) {
        let thing = host.map(|host| Thing::HostEndpoint(Arc::clone(host)));
        self.sets.set_thing(&ThingId::HostEndpoint(Arc::clone(id)), thing);
        let local = host.filter(|host| host.is_local());
        self.reframe |= local.is_some() || self.hosts.contains_key(id);
        self.locals.set_host(id, local.map(|host| &host.endpoint));
        match local {
            Some(host) => self.hosts.insert(Arc::clone(id), Arc::clone(host)),
            None => self.hosts.remove(id),
        };
    }

    /// A network set.
    pub fn set_network_set(&mut self, id: &Arc<EndpointId>, set: Option<&Arc<NetworkSet>>) {
        let thing = set.map(|set| Thing::NetworkSet(Arc::clone(set)));
        self.sets.set_thing(&ThingId::NetworkSet(Arc::clone(id)), thing);
    }

    /// The node itself and what is around it.
    pub fn set_surroundings(&mut self, around: &Surroundings) {
        if self.around != *around {
            self.reframe = true;
            self.rewrite |= self.around.options != around.options;
            self.around = around.clone();
        }
    }

    /// Everything of a snapshot; for an engine that knows nothing yet.
    pub fn set_all(&mut self, snapshot: &Snapshot) {
        snapshot.tiers.iter().for_each(|(name, tier)| self.set_tier(name, Some(tier.clone())));
        snapshot.profiles.iter().for_each(|(name, profile)| self.set_profile(name, Some(profile.as_ref())));
        snapshot.endpoints.iter().for_each(|(id, endpoint)| self.set_endpoint(id, Some(endpoint)));
        snapshot.network_sets.iter().for_each(|(id, set)| self.set_network_set(id, Some(set)));
        snapshot.host_endpoints.iter().for_each(|(id, host)| self.set_host_endpoint(id, Some(host)));
        snapshot.policies.iter().for_each(|(id, policy)| self.set_policy(id, Some(policy)));
        snapshot.staged.iter().for_each(|(id, policy)| self.set_staged(id, Some(policy)));
        self.set_surroundings(&Surroundings {
            host_interfaces: snapshot.host_interfaces.clone(),
            pools: snapshot.pools.clone(),
            endpoint_to_host: snapshot.endpoint_to_host,
            tunnel_peers: snapshot.tunnel_peers.clone(),
            options: snapshot.options.clone(),
        });
    }
}

impl Engine {
    /// Works out what follows from everything set so far.
    pub fn flush(&mut self) -> Compiled {
        if std::mem::take(&mut self.rewrite) {
            self.groups.write_all(&mut self.sets, &self.around.options);
        }
        self.locate();
        let outdated = self.sets.take_outdated();
        outdated.into_iter().for_each(|id| self.groups.write(id, &mut self.sets, &self.around.options));
        self.settle();
        self.report();
        Compiled { ruleset: self.ruleset.clone(), problems: self.reports.all(self.groups.problems()) }
    }

    /// Leads the packets of each interface to its policy.
    fn locate(&mut self) {
        let Engine { locals, groups, sets, around, tiers, unreadable, profiles, reports, .. } = self;
        let orders = Orders { tiers, unreadable, profiles };
        let mut writing = Writing { groups, sets, options: &around.options };
        for interface in locals.take_interfaces() {
            let mut problems = Problems::default();
            let owner = locals
                .owners(&interface)
                .and_then(|owners| dispatch::owner(&interface, owners, &mut problems))
                .and_then(|(name, id)| Some((name, locals.class_of_workload(id)?)));
            reports.set(About::Interface(interface.clone()), problems);
            locals.begin(Some(&interface));
            for direction in [Direction::Ingress, Direction::Egress] {
                let Some(map) = self.ruleset.maps.get_mut(dispatch::map_of(direction)) else { continue };
                match &owner {
                    None => {
                        map.elements.remove(interface.as_str());
                    }
                    Some((name, class)) => {
                        let way = (*class, direction, Phase::Workload);
                        let chain = locals.chain(Some(&interface), way, &orders, &mut writing);
                        map.elements.insert(name.clone(), chain.map_or(Verdict::Drop, Verdict::Goto));
                    }
                }
            }
        }
        if locals.take_hosts_touched() || self.reframe {
            self.reframe = false;
            let mut problems = Problems::default();
            let local = host::local(around, &self.hosts, &mut problems);
            locals.begin(None);
            let mut ask = AskHosts { locals, orders: &orders, writing: &mut writing };
            let hooks = Hooks::new(&local, &mut ask, &mut problems);
            reports.set(About::Hosts, problems);
            let frame = dispatch::frame(around, hooks);
            replace(&mut self.ruleset, &self.frame, &frame);
            self.frame = frame;
        }
        locals.finish(writing.groups);
    }

    /// Drops what nobody needs any more, and takes over what is new.
    fn settle(&mut self) {
        for (name, chain) in self.groups.settle(&mut self.sets, &self.around.options) {
            put(&mut self.ruleset.chains, name, chain);
        }
        self.sets.settle(&mut self.ruleset);
    }

    /// What is wrong besides what was said when it was set.
    fn report(&mut self) {
        if self.locals.take_tiers_touched() {
            let mut problems = Problems::default();
            let known = |name: &&String| self.tiers.contains_key(*name) || self.unreadable.contains(*name);
            for name in self.locals.tiers().filter(|name| !known(name)) {
                let reason = "does not exist; its policies come last, and it denies";
                problems.add(format_args!("Tier {name}"), reason);
            }
            self.reports.set(About::Tiers, problems);
        }
        if self.sets.take_missing_touched() {
            let missing = self.sets.members().missing_profiles();
            self.reports.set(About::MissingProfiles, problems::missing(missing));
        }
    }
}

/// What policy says of host endpoints.
struct AskHosts<'e, 'w> {
    locals: &'e mut Locals,
    orders: &'e Orders<'e>,
    writing: &'e mut Writing<'w>,
}

impl host::Ask for AskHosts<'_, '_> {
    fn chain(&mut self, host: &EndpointId, direction: Direction, phase: Phase) -> Option<String> {
        let class = self.locals.class_of_host(host)?;
        self.locals.chain(None, (class, direction, phase), self.orders, self.writing)
    }

    fn concerns(&mut self, host: &EndpointId, direction: Direction, phase: Phase) -> bool {
        let class = self.locals.class_of_host(host);
        class.is_some_and(|class| !self.locals.stages(class, direction, phase, self.orders).is_empty())
    }
}

fn put<T: Clone>(all: &mut OrdMap<String, T>, name: String, part: Option<T>) {
    match part {
        Some(part) => all.insert(name, part),
        None => all.remove(&name),
    };
}

/// Parts of the old frame are replaced by those of the new one.
fn replace(ruleset: &mut Ruleset, old: &Ruleset, new: &Ruleset) {
    fn part<T: Clone + PartialEq>(
        all: &mut OrdMap<String, T>,
        old: &OrdMap<String, T>,
        new: &OrdMap<String, T>,
    ) {
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            all.remove(name);
        }
        for (name, part) in new.iter().filter(|(name, part)| old.get(*name) != Some(*part)) {
            all.insert(name.clone(), part.clone());
        }
    }
    part::<Chain>(&mut ruleset.chains, &old.chains, &new.chains);
    part::<VerdictMap>(&mut ruleset.maps, &old.maps, &new.maps);
    part::<Set>(&mut ruleset.sets, &old.sets, &new.sets);
}
