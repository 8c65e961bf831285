//! The endpoints of this node, workloads and hosts, and which policies each is subject to.
//!
//! Endpoints alike in labels, namespace and profiles form a class: what follows is worked out once for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::group::{GroupId, Groups};
use crate::index::{ClassId, ClassKey, Flip, Index, QueryId};
use crate::ir::Direction;
use crate::order::{Orders, Stage, Subject};
use crate::phase::Phase;
use crate::select::{OWN_NAMESPACE, Policy};
use crate::sets::Sets;
use crate::snapshot::{Endpoint, EndpointId, LabelSet, Options, PolicyId};

/// A policy with the query for the endpoints it is about.
#[derive(Debug)]
struct Asked {
    policy: Arc<Policy>,
    query: QueryId,
}

/// Whether a policy is enforced or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Force {
    Enforced,
    Staged,
}

/// A workload of this node.
#[derive(Debug)]
struct Workload {
    interface: String,
    class: ClassId,
}

/// All endpoints of this node, and all policies.
#[derive(Debug, Default)]
pub(super) struct Locals {
    index: Index,
    policies: BTreeMap<(Force, PolicyId), Asked>,
    of_query: BTreeMap<QueryId, BTreeSet<(Force, PolicyId)>>,
    /// How many enforced policies a tier has.
    tiers: BTreeMap<String, usize>,
    tiers_touched: bool,
    workloads: BTreeMap<Arc<EndpointId>, Workload>,
    by_interface: BTreeMap<String, BTreeSet<Arc<EndpointId>>>,
    hosts: BTreeMap<Arc<EndpointId>, ClassId>,
    hosts_touched: bool,
    /// Whose way has to be found anew.
    interfaces: BTreeSet<String>,
    in_class: BTreeMap<ClassId, BTreeSet<String>>,
    /// What was worked out for each class in this flush.
    ways: BTreeMap<(ClassId, Phase, Direction), Option<GroupId>>,
    /// Groups in use, by the interface of a workload, and by host endpoints.
    in_use: BTreeMap<Option<String>, Vec<GroupId>>,
    /// Groups with a user too many.
    old: Vec<GroupId>,
}

impl Locals {
    /// A workload of this node is new, other than before, or gone.
    pub(super) fn set_workload(&mut self, id: &Arc<EndpointId>, endpoint: Option<&Arc<Endpoint>>) {
        let new = endpoint.map(|endpoint| {
            let interface = endpoint.interface.clone().unwrap_or_default();
            Workload { interface, class: self.index.join(class(id, endpoint)) }
        });
        if let Some(old) = self.workloads.remove(id) {
            self.interfaces.insert(old.interface.clone());
            remove(&mut self.by_interface, &old.interface, id);
            let others = self.by_interface.get(&old.interface).into_iter().flatten();
            let alike = others.filter_map(|other| self.workloads.get(other)).any(|w| w.class == old.class);
            if !alike {
                remove(&mut self.in_class, &old.class, &old.interface);
            }
            self.leave(old.class);
        }
        if let Some(new) = new {
            self.interfaces.insert(new.interface.clone());
            self.by_interface.entry(new.interface.clone()).or_default().insert(Arc::clone(id));
            self.in_class.entry(new.class).or_default().insert(new.interface.clone());
            self.workloads.insert(Arc::clone(id), new);
        }
    }

    /// A host endpoint of this node is new, other than before, or gone.
    pub(super) fn set_host(&mut self, id: &Arc<EndpointId>, endpoint: Option<&Endpoint>) {
        let new = endpoint.map(|endpoint| self.index.join(class(id, endpoint)));
        if let Some(old) = self.hosts.remove(id) {
            self.leave(old);
        }
        if let Some(new) = new {
            self.hosts.insert(Arc::clone(id), new);
        }
    }

    fn leave(&mut self, class: ClassId) {
        if self.index.leave(class) {
            self.touch(class);
        }
    }

    /// The labels a profile gives or its rules are others.
    pub(super) fn set_profile(&mut self, name: &Arc<str>, labels: Option<LabelSet>) {
        for Flip { class, .. } in self.index.set_profile(name, labels) {
            self.touch(class);
        }
        let classes: Vec<ClassId> = self.index.with_profile(name).collect();
        classes.into_iter().for_each(|class| self.touch(class));
    }

    pub(super) fn set_policy(&mut self, id: &PolicyId, policy: Option<Arc<Policy>>) {
        self.set(Force::Enforced, id, policy);
    }

    pub(super) fn set_staged(&mut self, id: &PolicyId, policy: Option<Arc<Policy>>) {
        self.set(Force::Staged, id, policy);
    }

    fn set(&mut self, force: Force, id: &PolicyId, policy: Option<Arc<Policy>>) {
        let key = (force, id.clone());
        let new = policy.map(|policy| Asked { query: self.index.ask(&policy.scope), policy });
        if let Some(old) = self.policies.remove(&key) {
            self.touch_matching(old.query);
            remove(&mut self.of_query, &old.query, &key);
            self.index.forget(old.query);
            self.count_tier(force, &old.policy.tier, false);
        }
        if let Some(new) = new {
            self.touch_matching(new.query);
            self.of_query.entry(new.query).or_default().insert(key.clone());
            self.count_tier(force, &new.policy.tier, true);
            self.policies.insert(key, new);
        }
    }

    fn count_tier(&mut self, force: Force, tier: &str, present: bool) {
        // A policy that cannot be read has none.
        if force == Force::Staged || tier.is_empty() {
            return;
        }
        self.tiers_touched = true;
        let count = self.tiers.entry(tier.to_owned()).or_default();
        *count = if present { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.tiers.remove(tier);
        }
    }

    /// Names of the tiers of enforced policies.
    pub(super) fn tiers(&self) -> impl Iterator<Item = &String> {
        self.tiers.keys()
    }

    /// Whether those were touched since this was called last.
    pub(super) fn take_tiers_touched(&mut self) -> bool {
        std::mem::take(&mut self.tiers_touched)
    }

    fn touch_matching(&mut self, query: QueryId) {
        let classes: Vec<ClassId> = self.index.classes_of(query).collect();
        classes.into_iter().for_each(|class| self.touch(class));
    }

    /// What was worked out for a class may be wrong now.
    fn touch(&mut self, class: ClassId) {
        self.interfaces.extend(self.in_class.get(&class).into_iter().flatten().cloned());
        self.hosts_touched |= self.hosts.values().any(|host| *host == class);
    }

    /// Everything worked out may be wrong now.
    pub(super) fn touch_all(&mut self) {
        self.interfaces.extend(self.by_interface.keys().cloned());
        self.hosts_touched = true;
        self.tiers_touched = true;
    }

    /// Interfaces whose way has to be found.
    pub(super) fn take_interfaces(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.interfaces)
    }

    /// Whether the ways of host endpoints have to be found.
    pub(super) fn take_hosts_touched(&mut self) -> bool {
        std::mem::take(&mut self.hosts_touched)
    }

    /// The workloads that say an interface is theirs.
    pub(super) fn owners(&self, interface: &str) -> Option<&BTreeSet<Arc<EndpointId>>> {
        self.by_interface.get(interface)
    }

    pub(super) fn class_of_workload(&self, id: &EndpointId) -> Option<ClassId> {
        self.workloads.get(id).map(|workload| workload.class)
    }

    pub(super) fn class_of_host(&self, id: &EndpointId) -> Option<ClassId> {
        self.hosts.get(id).copied()
    }

    /// The interface of a workload, or `None` for all host endpoints, is led to its groups anew.
    pub(super) fn begin(&mut self, place: Option<&str>) {
        self.old.extend(self.in_use.remove(&place.map(str::to_owned)).into_iter().flatten());
    }

    /// Name of the chain that decides about traffic of a class, which is in use at a place from now on; `None` when it would
    /// let everything on in a phase that is open anyway.
    pub(super) fn chain(
        &mut self,
        place: Option<&str>,
        (class, direction, phase): (ClassId, Direction, Phase),
        orders: &Orders<'_>,
        writing: &mut Writing<'_>,
    ) -> Option<String> {
        let key = (class, phase, direction);
        let id = match self.ways.get(&key) {
            Some(id) => *id,
            None => {
                let stages = self.stages(class, direction, phase, orders);
                let id = writing.groups.ask(direction, phase, stages, writing.sets, writing.options);
                self.ways.insert(key, id);
                id
            }
        }?;
        writing.groups.hold(id);
        self.in_use.entry(place.map(str::to_owned)).or_default().push(id);
        writing.groups.name(id).map(str::to_owned)
    }

    /// The stages a packet of a class passes.
    pub(super) fn stages(
        &self,
        class: ClassId,
        direction: Direction,
        phase: Phase,
        orders: &Orders<'_>,
    ) -> Vec<Stage> {
        orders.stages(&self.subject(class), direction, phase)
    }

    fn subject(&self, class: ClassId) -> Subject<'_> {
        let mut subject = Subject {
            policies: Vec::new(),
            staged: Vec::new(),
            profiles: self.index.key(class).map_or(&[], |key| &key.profiles),
        };
        let keys = self.index.queries_of(class).iter().filter_map(|query| self.of_query.get(query)).flatten();
        for key in keys {
            let Some(asked) = self.policies.get(key) else { continue };
            match key.0 {
                Force::Enforced => subject.policies.push(&asked.policy),
                Force::Staged => subject.staged.push(&asked.policy),
            }
        }
        subject
    }

    /// What was in use before is so no more, as far as this goes.
    pub(super) fn finish(&mut self, groups: &mut Groups) {
        let asked = std::mem::take(&mut self.ways).into_values().flatten();
        self.old.drain(..).chain(asked).for_each(|id| groups.release(id));
    }
}

/// What it takes to write a group.
pub(super) struct Writing<'w> {
    pub(super) groups: &'w mut Groups,
    pub(super) sets: &'w mut Sets,
    pub(super) options: &'w Options,
}

/// What endpoints of a class have in common: labels, and with them the namespace of the name, and profiles.
fn class(id: &EndpointId, endpoint: &Endpoint) -> ClassKey {
    let own = endpoint.labels.iter().chain([(OWN_NAMESPACE, id.namespace.as_str())]);
    ClassKey { labels: own.collect(), profiles: endpoint.profiles.as_slice().into() }
}

/// Removes a value, and the list it was in when that is empty then.
fn remove<K: Ord, V: Ord>(lists: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(list) = lists.get_mut(key) {
        list.remove(value);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}
