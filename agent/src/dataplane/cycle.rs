//! One cycle: read what is dirty, plan, write in order, say what is in place.
//!
//! ```text
//! read links, routes, neighbours, settings (dirty ones only)
//! rules ─▶ tunnel ─▶ settings ─▶ neighbours ─▶ routes        what opens, policy first
//! routes ─▶ neighbours ─▶ connections                        what goes, last
//! ```
//!
//! Whatever fails stays pending, is named in `Applied.failures` and is tried again in the next cycle. Without the rules
//! in place nothing that opens a workload is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nix::errno::Errno;
use tortie_policy::Ruleset;

use super::delta::{Delta, Pending};
use super::owner::{self, IPIP_DEVICE, LEARNED_PROTOCOL, LOCAL_PROTOCOL};
use super::report::Report;
use super::ruleset::Loaded;
use super::{neighbours, routes, sysctls, tunnel};
use crate::desired::{Applied, Desired, Learned};
use crate::fib::{Fib, Resolver, fib};
use crate::kernel::monitor::Dirty;
use crate::kernel::{
    Kernel, KernelError, Link, LinkChange, NeighbourChange, NeighbourKey, Route, RouteChange, RouteKey,
    RouteKind, chain,
};

/// How often forgetting the connections of an address is tried.
const CONNTRACK_ATTEMPTS: u32 = 3;

/// Turns compiled rules into a script that replaces the whole table at once.
pub type Render = Box<dyn Fn(&Ruleset) -> String + Send>;

/// The actual state as far as known, and the way to change it.
pub struct Engine<K> {
    kernel: K,
    render: Render,
    /// What must be read before it is planned with.
    dirty: Dirty,
    links: BTreeMap<String, Link>,
    resolver: Resolver,
    loaded: Loaded,
    tunnel: Delta<tunnel::Part, u32>,
    sysctls: Delta<String, String>,
    neighbours: Delta<NeighbourKey, [u8; 6]>,
    routes: Delta<RouteKey, Route>,
    /// The machine's own reverse-path check, read once, and whether there is IPv6.
    machine: Option<(String, bool)>,
    /// The kernel said it has no IPIP; asked again with every full reading.
    no_ipip: bool,
    fib: Fib,
    fib_inputs: Option<FibInputs>,
    /// Freed addresses whose connections are still to be forgotten, and how often that failed.
    unforgotten: BTreeMap<IpAddr, u32>,
    report: Report,
    ready: bool,
}

/// What a cycle came to.
#[derive(Debug)]
pub struct Outcome {
    /// What is in place now.
    pub applied: Applied,
    /// Something is left to be done that no new input will announce: run again, after a pause.
    pub retry: bool,
}

#[derive(PartialEq)]
struct FibInputs {
    learned: Arc<Learned>,
    context: crate::desired::RouteContext,
    local: BTreeSet<ipnetwork::IpNetwork>,
    tunnel: bool,
}

impl<K: Kernel> Engine<K> {
    /// Knows nothing yet and writes nothing before the first cycle.
    pub fn new(kernel: K, render: Render) -> Engine<K> {
        Engine {
            kernel,
            render,
            dirty: Dirty::ALL,
            links: BTreeMap::new(),
            resolver: Resolver::default(),
            loaded: Loaded::default(),
            tunnel: Delta::default(),
            sysctls: Delta::default(),
            neighbours: Delta::default(),
            routes: Delta::default(),
            machine: None,
            no_ipip: false,
            fib: Fib::default(),
            fib_inputs: None,
            unforgotten: BTreeMap::new(),
            report: Report::default(),
            ready: false,
        }
    }

    /// Brings the kernel to what is desired, as far as it goes.
    pub fn cycle(&mut self, desired: &Desired, learned: &Arc<Learned>, dirty: Dirty) -> Outcome {
        self.report = Report::default();
        self.dirty.merge(dirty);
        if dirty == Dirty::ALL {
            self.no_ipip = false;
        }
        self.load_ruleset(&desired.ruleset);
        if self.read() {
            let open = self.loaded.is(&desired.ruleset);
            if open {
                self.write_tunnel(desired);
            }
            self.plan(desired, learned);
            if open {
                self.write_sysctls();
                self.set_neighbours();
            }
            self.write_routes(open, learned);
            self.remove_neighbours();
        }
        self.outcome(desired)
    }

    fn load_ruleset(&mut self, wanted: &Arc<Ruleset>) {
        if std::mem::take(&mut self.dirty.ruleset)
            && let Err(error) = self.loaded.check(&mut self.kernel)
        {
            // Not knowing is no reason to load again and again; the next check may know.
            self.dirty.ruleset = true;
            self.report.failed("ruleset", &error);
        }
        if self.loaded.is(wanted) {
            return;
        }
        let script = (self.render)(wanted);
        let loaded = self.kernel.load_ruleset(&script).and_then(|()| self.kernel.ruleset_generation());
        match loaded {
            Ok(generation) => self.loaded.loaded(Arc::clone(wanted), generation),
            Err(error) => {
                self.loaded.forget();
                self.report.failed("ruleset", &error);
            }
        }
    }

    /// Reads what is dirty. False when that failed: then nothing is planned with what may be wrong.
    fn read(&mut self) -> bool {
        let read = self.read_links().and_then(|()| self.read_routes()).and_then(|()| self.read_neighbours());
        if let Err(error) = read.and_then(|()| self.read_machine()) {
            self.report.failed("kernel", &error);
            return false;
        }
        true
    }

    fn read_links(&mut self) -> Result<(), KernelError> {
        if !self.dirty.links {
            return Ok(());
        }
        let links = self.kernel.links()?;
        self.dirty.links = false;
        if links == self.links {
            return Ok(());
        }
        // With a link, IPv4 routes and neighbours come and go without a word.
        self.dirty.routes = true;
        self.dirty.neighbours = true;
        let same = |link: &Link| {
            links.get(&link.name).is_some_and(|now| now.index == link.index && now.up == link.up)
        };
        let changed: BTreeSet<String> =
            self.links.values().filter(|link| !same(link)).map(|link| link.name.clone()).collect();
        let stale: Vec<String> =
            self.sysctls.actual().keys().filter(|path| concerns(path, &changed)).cloned().collect();
        for path in stale {
            self.sysctls.set_actual_of(path, None);
        }
        self.links = links;
        Ok(())
    }

    fn read_routes(&mut self) -> Result<(), KernelError> {
        if !self.dirty.routes && !self.dirty.foreign_routes {
            return Ok(());
        }
        let found = self.kernel.routes()?;
        self.routes.set_actual(routes::ours(&found, &self.links));
        let resolver = Resolver::new(&found, &self.links);
        if resolver != self.resolver {
            self.resolver = resolver;
            self.fib_inputs = None;
        }
        (self.dirty.routes, self.dirty.foreign_routes) = (false, false);
        Ok(())
    }

    fn read_neighbours(&mut self) -> Result<(), KernelError> {
        if self.dirty.neighbours {
            let found = self.kernel.neighbours()?;
            self.neighbours.set_actual(neighbours::ours(found, &self.links));
            self.dirty.neighbours = false;
        }
        Ok(())
    }

    fn read_machine(&mut self) -> Result<(), KernelError> {
        if std::mem::take(&mut self.dirty.sysctls) {
            self.sysctls.set_actual(BTreeMap::new());
        }
        if self.machine.is_none() {
            let ipv6 = self.kernel.read_sysctl(sysctls::IPV6_FORWARDING)?.is_some();
            let rp_filter = self.kernel.read_sysctl(sysctls::DEFAULT_RP_FILTER)?;
            self.machine = Some((rp_filter.unwrap_or_else(|| "1".to_string()), ipv6));
        }
        Ok(())
    }

    fn write_tunnel(&mut self, desired: &Desired) {
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

    /// `tunl0` can carry packets.
    fn tunnel_up(&self, desired: &Desired) -> bool {
        desired.ipip.is_some() && self.links.get(IPIP_DEVICE).is_some_and(|link| link.up)
    }

    fn plan(&mut self, desired: &Desired, learned: &Arc<Learned>) {
        let inputs = FibInputs {
            learned: Arc::clone(learned),
            context: desired.route_context.clone(),
            local: routes::local_prefixes(desired),
            tunnel: self.tunnel_up(desired),
        };
        if self.fib_inputs.as_ref() != Some(&inputs) {
            self.fib = fib(learned, &inputs.context, &self.resolver, &inputs.local, inputs.tunnel);
            self.fib_inputs = Some(inputs);
        }
        let (rp_filter, ipv6) = self.machine.clone().unwrap_or_default();
        let mut settings = sysctls::of_machine(ipv6);
        for name in desired.interfaces.keys() {
            if !owner::is_workload_interface(name) {
                self.report.note(
                    name,
                    format!("{name:?} is no name of a workload interface: it must begin with cali"),
                );
            } else if self.links.contains_key(name) {
                settings.extend(sysctls::of_interface(name, &rp_filter, ipv6));
            }
        }
        self.sysctls.set_desired(settings);
        self.neighbours.set_desired(neighbours::desired(desired, &self.links));
        let wanted = routes::wanted(desired, &self.fib, &self.links);
        self.routes.set_desired(wanted.routes);
        for (address, holder, loser) in wanted.contested {
            self.report.note(
                &loser,
                format!("its address {address} is also that of {holder}, which is newer and has it"),
            );
        }
        self.report.left_out(&self.fib.left_out, self.no_ipip);
        if desired.ipip.is_some() && self.no_ipip {
            self.report.note_first(IPIP_DEVICE, "kernel has no IPIP (ipip module)".to_string());
        }
    }

    /// Settings are read when first wanted, and written when they differ.
    fn write_sysctls(&mut self) {
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

    fn set_neighbours(&mut self) {
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

    fn remove_neighbours(&mut self) {
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
    fn write_routes(&mut self, open: bool, learned: &Learned) {
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

    fn outcome(&mut self, desired: &Desired) -> Outcome {
        let unread = self.dirty != Dirty::default();
        let retry = self.report.has_failures() || unread || !self.unforgotten.is_empty();
        self.ready |= !retry;
        if self.report.has_failures() {
            // What the kernel refused we may have misread.
            self.dirty = Dirty { ruleset: self.dirty.ruleset, ..Dirty::ALL };
        }
        let ours = self.routes.actual().iter().filter(|(_, route)| route.protocol == LOCAL_PROTOCOL);
        let applied = Applied {
            ready: self.ready,
            interfaces: desired
                .interfaces
                .keys()
                .filter(|name| self.is_wired(desired, name))
                .cloned()
                .collect(),
            routes: ours.map(|(key, _)| key.prefix).collect(),
            failures: self.report.texts(),
        };
        Outcome { applied, retry }
    }

    /// Settings, neighbours, routes and rules of an interface are all in place.
    fn is_wired(&self, desired: &Desired, name: &str) -> bool {
        let Some(link) = self.links.get(name).filter(|link| link.up && owner::is_workload_interface(name))
        else {
            return false;
        };
        let Some((workload, (rp_filter, ipv6))) = desired.interfaces.get(name).zip(self.machine.as_ref())
        else {
            return false;
        };
        let settings = sysctls::of_interface(name, rp_filter, *ipv6);
        let mut addresses = workload.addresses.iter();
        self.loaded.is(&desired.ruleset)
            && !self.dirty.links
            && settings.iter().all(|(path, _)| self.sysctls.in_place(path))
            && addresses.all(|address| {
                let route = routes::key((*address).into());
                let leads_here = |to: &Route| to.hops.iter().any(|hop| hop.interface == link.index);
                let neighbour = match *address {
                    IpAddr::V4(address) => {
                        workload.mac.map(|_| NeighbourKey { interface: link.index, address })
                    }
                    IpAddr::V6(_) => None,
                };
                self.routes.in_place(&route)
                    && self.routes.actual().get(&route).is_some_and(leads_here)
                    && neighbour.is_none_or(|key| self.neighbours.in_place(&key))
            })
    }
}

/// Whether a setting is one of these interfaces'.
fn concerns(path: &str, interfaces: &BTreeSet<String>) -> bool {
    path.split('/').nth(3).is_some_and(|name| interfaces.contains(name))
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

#[cfg(test)]
mod tests;
