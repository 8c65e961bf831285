//! Writing: each kind's pending changes to the kernel, and what came of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::errno::Errno;

use super::Engine;
use crate::dataplane::delta::Pending;
use crate::dataplane::owner::{IPIP_DEVICE, LEARNED_PROTOCOL, LOCAL_PROTOCOL};
use crate::dataplane::{sysctls, tunnel};
use crate::desired::{Desired, Learned};
use crate::kernel::{
    Kernel, KernelError, LinkChange, NeighbourChange, NeighbourKey, Route, RouteChange, RouteKey, RouteKind,
    chain,
};

/// How often forgetting the connections of an address is tried.
const CONNTRACK_ATTEMPTS: u32 = 3;

impl<K: Kernel> Engine<K> {
    pub(super) fn write_tunnel(&mut self, desired: &Desired) {
        let wanted = desired.ipip.as_ref();
        if wanted.is_some() && !self.links.contains_key(IPIP_DEVICE) && !self.no_ipip {
            let create = LinkChange::CreateIpip { name: IPIP_DEVICE.to_string() };
            match self.kernel.change_link(&create) {
                Ok(()) => self.reread_links(),
                Err(error) if error.unsupported() => self.no_ipip = true,
                Err(error) => self.report.failed(IPIP_DEVICE, &error),
            }
        }
        let link = self.links.get(IPIP_DEVICE);
        self.tunnel.set_actual(link.map(|link| tunnel::actual(link, wanted.is_some())).unwrap_or_default());
        self.tunnel.set_desired(tunnel::desired(wanted));
        let Some(index) = link.map(|link| link.index) else { return };
        let changes: Vec<LinkChange> = self
            .tunnel
            .pending()
            .filter_map(|(part, pending)| match pending {
                Pending::Add(value) | Pending::Change { to: value, .. } => {
                    tunnel::change(index, *part, Some(*value))
                }
                Pending::Remove(_) => tunnel::change(index, *part, None),
            })
            .collect();
        for change in &changes {
            if let Err(error) = self.kernel.change_link(change) {
                self.report.failed(IPIP_DEVICE, &error);
            }
        }
        if !changes.is_empty() {
            self.reread_links();
        }
    }

    fn reread_links(&mut self) {
        self.dirty.links = true;
        let read = self.read_links().and_then(|()| self.read_routes()).and_then(|()| self.read_neighbours());
        if let Err(error) = read {
            self.report.failed("kernel", &error);
        }
    }

    /// Settings are read when first wanted, and written when they differ.
    pub(super) fn write_sysctls(&mut self) {
        let unread: Vec<String> = self
            .sysctls
            .desired()
            .keys()
            .filter(|path| !self.sysctls.actual().contains_key(*path))
            .cloned()
            .collect();
        for path in unread {
            match self.kernel.read_sysctl(&path) {
                Ok(Some(value)) => self.sysctls.set_actual_of(path, Some(value)),
                // Nothing to set where there is no such setting.
                Ok(None) if sysctls::is_optional(&path) => self.sysctls.done(&path),
                Ok(None) => {
                    self.dirty.links = true;
                    self.report.note(&path, "the kernel has no such setting".to_string());
                }
                Err(error) => self.report.failed(&path, &error),
            }
        }
        let changes: Vec<(String, String)> = self
            .sysctls
            .pending()
            .filter_map(|(path, pending)| match pending {
                Pending::Change { to, .. } => Some((path.clone(), to.clone())),
                Pending::Add(_) | Pending::Remove(_) => None,
            })
            .collect();
        for (path, value) in changes {
            let written = self.kernel.write_sysctl(&path, &value);
            if self.settled(&path, written) {
                self.sysctls.done(&path);
            }
        }
    }

    pub(super) fn set_neighbours(&mut self) {
        let changes: Vec<(NeighbourKey, NeighbourChange)> = self
            .neighbours
            .pending()
            .filter_map(|(key, pending)| match pending {
                Pending::Add(mac) | Pending::Change { to: mac, .. } => {
                    Some((*key, NeighbourChange::Set(*key, *mac)))
                }
                Pending::Remove(_) => None,
            })
            .collect();
        self.change_neighbours(changes);
    }

    pub(super) fn remove_neighbours(&mut self) {
        let gone = self.neighbours.pending().filter(|(_, pending)| matches!(pending, Pending::Remove(_)));
        let changes = gone.map(|(key, _)| (*key, NeighbourChange::Remove(*key))).collect();
        self.change_neighbours(changes);
    }

    fn change_neighbours(&mut self, changes: Vec<(NeighbourKey, NeighbourChange)>) {
        let (keys, changes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        if changes.is_empty() {
            return;
        }
        for (key, answer) in keys.iter().zip(self.kernel.change_neighbours(&changes)) {
            if self.settled(&format!("neighbour {}", key.address), answer) {
                self.neighbours.done(key);
            }
        }
    }

    /// An address that changes hands is taken from the old workload, its connections are forgotten, and only then does the
    /// new one get it: else it would inherit what was allowed to the other (felix-dataplane 1.6).
    pub(super) fn write_routes(&mut self, open: bool, learned: &Learned) {
        let (mut moved, mut set, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let mut freed = BTreeSet::new();
        for (key, pending) in self.routes.pending() {
            match pending {
                Pending::Add(route) if open || !opens(route) => {
                    set.push((*key, RouteChange::Add(*key, route.clone())))
                }
                Pending::Change { from, to } if open || !opens(to) => {
                    if workload(key, from) != workload(key, to) && workload(key, from).is_some() {
                        moved.push((*key, RouteChange::Remove(*key, from.clone())));
                        freed.insert(key.prefix.network());
                        set.push((*key, RouteChange::Add(*key, to.clone())));
                    } else {
                        set.push((*key, RouteChange::Replace(*key, to.clone())));
                    }
                }
                Pending::Remove(route) if self.may_go(key, route, learned) => {
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

    /// Until BGP has converged, a learned route stays although nobody has announced it yet, unless it must not be.
    fn may_go(&self, key: &RouteKey, route: &Route, learned: &Learned) -> bool {
        learned.converged
            || route.protocol != LEARNED_PROTOCOL
            || self.fib.left_out.get(&key.prefix).is_some_and(crate::fib::Reason::forbids)
    }

    /// Removes routes that are about to be made anew elsewhere.
    fn take_away(&mut self, moved: Vec<(RouteKey, RouteChange)>) {
        let (keys, changes): (Vec<_>, Vec<_>) = moved.into_iter().unzip();
        if changes.is_empty() {
            return;
        }
        for (key, answer) in keys.iter().zip(self.kernel.change_routes(&changes)) {
            if self.settled(&format!("route {}", key.prefix), answer) {
                self.routes.set_actual_of(*key, None);
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
                self.routes.done(key);
            }
        }
    }

    /// Forgets the connections of freed addresses, and of those where that failed before. A kernel that cannot do it at all
    /// is not asked for ever.
    fn forget_connections(&mut self, freed: BTreeSet<IpAddr>) {
        self.unforgotten.extend(freed.into_iter().map(|address| (address, 0)));
        if self.unforgotten.is_empty() {
            return;
        }
        let addresses = self.unforgotten.keys().copied().collect();
        match self.kernel.forget_connections(&addresses) {
            Ok(()) => {
                self.unforgotten.clear();
                self.report.withdraw("conntrack");
            }
            Err(error) => {
                self.report.note(
                    "conntrack",
                    format!("connections of a freed address may live on: {}", chain(&error)),
                );
                self.unforgotten.retain(|_, attempts| {
                    *attempts += 1;
                    *attempts < CONNTRACK_ATTEMPTS
                });
            }
        }
    }

    /// Whether it is done. An interface that vanished meanwhile is no failure: the links are read again.
    fn settled(&mut self, object: &str, answer: Result<(), KernelError>) -> bool {
        let Err(error) = answer else { return true };
        match error.errno() {
            Some(Errno::ENODEV | Errno::ENETDOWN | Errno::ENXIO | Errno::ENOENT) => {
                self.dirty.links = true;
                self.report.note(object, chain(&error));
            }
            _ => self.report.failed(object, &error),
        }
        false
    }
}

/// Lets packets reach a workload.
fn opens(route: &Route) -> bool {
    route.protocol == LOCAL_PROTOCOL && route.kind == RouteKind::Unicast
}

/// The interface of the workload whose single address this is.
fn workload(key: &RouteKey, route: &Route) -> Option<u32> {
    let whole = if key.prefix.is_ipv4() { 32 } else { 128 };
    match route.hops.as_slice() {
        [hop] if key.prefix.prefix() == whole && hop.gateway.is_none() => Some(hop.interface),
        _ => None,
    }
}
