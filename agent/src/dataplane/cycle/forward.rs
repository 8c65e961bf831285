//! Writing routes and the nexthop objects they are over.

use std::collections::BTreeSet;

use super::Engine;
use crate::dataplane::delta::Pending;
use crate::dataplane::owner::{self, LEARNED_PROTOCOL, LOCAL_PROTOCOL};
use crate::kernel::{Kernel, KernelError, NexthopChange, Route, RouteChange, RouteKey, RouteKind};

impl<K: Kernel> Engine<K> {
    /// An address that changes hands is taken from the old workload, its connections are forgotten, and only then does the
    /// new one get it: else it would inherit what was allowed to the other (felix-dataplane 1.6).
    pub(super) fn write_routes(&mut self, open: bool) {
        let (mut moved, mut set, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let mut freed = BTreeSet::new();
        let workloads = self.workload_interfaces();
        for (key, pending) in self.forwarding.routes.pending() {
            match pending {
                Pending::Add(route)
                    if (open || !self.opens(route, &workloads)) && self.leads_somewhere(route) =>
                {
                    set.push((*key, RouteChange::Add(*key, route.clone())))
                }
                Pending::Change { from, to }
                    if (open || !self.opens(to, &workloads)) && self.leads_somewhere(to) =>
                {
                    if workload(key, from) != workload(key, to) && workload(key, from).is_some() {
                        moved.push((*key, RouteChange::Remove(*key, from.clone())));
                        freed.insert(key.prefix.network());
                        set.push((*key, RouteChange::Add(*key, to.clone())));
                    } else {
                        set.push((*key, RouteChange::Replace(*key, to.clone())));
                    }
                }
                Pending::Remove(route) if self.may_go(key, route) => {
                    gone.push((*key, RouteChange::Remove(*key, route.clone())));
                }
                Pending::Add(_) | Pending::Change { .. } | Pending::Remove(_) => {}
            }
        }
        self.take_away(moved);
        self.forget_connections(freed);
        self.change_routes(set);
        let freed = gone.iter().filter_map(|(key, change)| match change {
            RouteChange::Remove(_, route) => workload(key, route).map(|_| key.prefix.network()),
            RouteChange::Add(..) | RouteChange::Replace(..) => None,
        });
        let freed = freed.collect();
        self.change_routes(gone);
        self.forget_connections(freed);
    }

    /// Lets packets reach a workload, or what is behind one of these.
    fn opens(&self, route: &Route, workloads: &BTreeSet<u32>) -> bool {
        let local = route.protocol == LOCAL_PROTOCOL && route.kind == RouteKind::Unicast;
        let group = route.group.and_then(|group| self.forwarding.groups.hops(group)).unwrap_or_default();
        local || route.hops.iter().chain(group).any(|hop| workloads.contains(&hop.interface))
    }

    fn workload_interfaces(&self) -> BTreeSet<u32> {
        let workloads = self.links.values().filter(|link| owner::is_workload_interface(&link.name));
        workloads.map(|link| link.index).collect()
    }

    /// A route over a group has to wait for the group.
    fn leads_somewhere(&self, route: &Route) -> bool {
        route.group.is_none_or(|group| self.forwarding.groups.in_place(group))
    }

    /// Nexthop objects that routes are about to need, or that lead elsewhere now.
    pub(super) fn set_groups(&mut self) {
        let changes = self.forwarding.groups.to_set();
        self.change_groups(changes);
    }

    /// Nexthop objects nothing in the kernel uses any more. The kernel would take routes down with them.
    pub(super) fn remove_groups(&mut self) {
        if !self.forwarding.groups.has_leftovers() {
            return;
        }
        let changes = self.forwarding.groups.to_remove(&self.forwarding.groups_in_use());
        self.change_groups(changes);
    }

    fn change_groups(&mut self, changes: Vec<(u32, NexthopChange)>) {
        let (ids, changes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        if changes.is_empty() {
            return;
        }
        let answers = self.kernel.change_nexthops(&changes);
        for ((id, change), answer) in ids.into_iter().zip(&changes).zip(answers) {
            let settled = self.settled(&format!("nexthop object {id}"), answer);
            if matches!(change, NexthopChange::Remove(_)) && self.forwarding.groups.is_wanted(id) {
                // It made way for an object of another kind, and the routes over it went with it.
                self.dirty.routes = true;
            } else if settled {
                self.forwarding.groups.done(id);
            }
        }
    }

    /// Until BGP has converged, a learned route stays although nobody has announced it yet, unless it must not be.
    fn may_go(&self, key: &RouteKey, route: &Route) -> bool {
        self.fib.converged()
            || route.protocol != LEARNED_PROTOCOL
            || self.fib.reason(&key.prefix).is_some_and(crate::fib::Reason::forbids)
    }

    /// Removes routes that are about to be made anew elsewhere.
    fn take_away(&mut self, moved: Vec<(RouteKey, RouteChange)>) {
        let (keys, changes): (Vec<_>, Vec<_>) = moved.into_iter().unzip();
        if changes.is_empty() {
            return;
        }
        for (key, answer) in keys.iter().zip(self.kernel.change_routes(&changes)) {
            if self.settled(&format!("route {}", key.prefix), answer) {
                self.forwarding.routes.set_actual_of(*key, None);
            }
        }
    }

    fn change_routes(&mut self, changes: Vec<(RouteKey, RouteChange)>) {
        let (keys, changes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        if changes.is_empty() {
            return;
        }
        for (key, answer) in keys.iter().zip(self.kernel.change_routes(&changes)) {
            // What we know of the table is out of date, or a foreign route is in the way.
            self.dirty.routes |= answer.as_ref().is_err_and(KernelError::exists);
            if self.settled(&format!("route {}", key.prefix), answer) {
                self.forwarding.routes.done(key);
            }
        }
    }
}

/// The interface of the workload whose single address this is.
fn workload(key: &RouteKey, route: &Route) -> Option<u32> {
    let whole = if key.prefix.is_ipv4() { 32 } else { 128 };
    match route.hops.as_slice() {
        [hop] if key.prefix.prefix() == whole && hop.gateway.is_none() => Some(hop.interface),
        _ => None,
    }
}
