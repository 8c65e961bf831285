//! One cycle: read what is dirty, plan, write in order, say what is in place.
//!
//! ```text
//! read links, routes, neighbours, settings (dirty ones only)
//! rules ─▶ tunnel ─▶ settings ─▶ addresses, neighbours ─▶ nexthop objects ─▶ routes    what opens, policy first
//! routes ─▶ connections ─▶ nexthop objects ─▶ addresses, neighbours                    what goes, last
//! ```
//!
//! Whatever fails stays pending, is named in `Applied.failures` and is tried again in the next cycle. Without the rules
//! in place nothing that opens a workload is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnetwork::IpNetwork;
use tokio::sync::watch;
use tortie_bgp::table::LearnedRoute;
use tortie_policy::Ruleset;

use super::delta::Delta;
use super::forwarding::Forwarding;
use super::owner;
use super::reevaluation::InForce;
use super::report::Report;
use super::ruleset::Loaded;
use super::{addresses, neighbours, reevaluation, routes, sysctls, tunnel};
use crate::desired::{Applied, Desired, LearnedChanges, Wired, WorkloadInterface};
use crate::fib::{Fib, Resolver};
use crate::kernel::monitor::Dirty;
use crate::kernel::{Kernel, KernelError, Link, NeighbourKey, Route};

mod forward;
mod plan;
mod write;

/// The actual state as far as known, and the way to change it.
pub struct Engine<K> {
    kernel: K,
    /// What must be read before it is planned with.
    dirty: Dirty,
    links: BTreeMap<String, Link>,
    loaded: Loaded,
    tunnel: Delta<tunnel::Part, u32>,
    sysctls: Delta<String, String>,
    neighbours: Delta<NeighbourKey, [u8; 6]>,
    addresses: Delta<(u32, IpNetwork), ()>,
    forwarding: Forwarding,
    /// The machine's own reverse-path check, read once, and whether there is IPv6.
    machine: Option<(String, bool)>,
    /// The kernel said it has no IPIP; asked again with every full reading.
    no_ipip: bool,
    fib: Fib,
    /// Freed addresses whose connections are still to be forgotten, and how often that failed.
    unforgotten: BTreeMap<IpAddr, u32>,
    report: Report,
    ready: bool,
    /// Who wants to know which rules the kernel holds.
    in_force: Option<watch::Sender<Option<Arc<InForce>>>>,
}

/// What a cycle came to.
#[derive(Debug)]
pub struct Outcome {
    /// What is in place now.
    pub applied: Applied,
    /// Something is left to be done that no new input will announce: run again, after a pause.
    pub retry: bool,
    /// Something is to be done by then without any other news.
    pub wake: Option<Instant>,
}

impl<K: Kernel> Engine<K> {
    /// Knows nothing yet and writes nothing before the first cycle.
    pub fn new(kernel: K) -> Engine<K> {
        Engine {
            kernel,
            dirty: Dirty::ALL,
            links: BTreeMap::new(),
            loaded: Loaded::default(),
            tunnel: Delta::default(),
            sysctls: Delta::default(),
            neighbours: Delta::default(),
            addresses: Delta::default(),
            forwarding: Forwarding::default(),
            machine: None,
            no_ipip: false,
            fib: Fib::default(),
            unforgotten: BTreeMap::new(),
            report: Report::default(),
            ready: false,
            in_force: None,
        }
    }

    /// The rules the kernel holds, told when other ones are loaded.
    pub(super) fn rules_in_force(&mut self) -> watch::Receiver<Option<Arc<InForce>>> {
        let (told, reader) = watch::channel(None);
        self.in_force = Some(told);
        reader
    }

    /// Brings the kernel to what is desired and, with what changed in it, to what was learned, as far as it goes.
    pub fn cycle(
        &mut self,
        desired: &Desired,
        learned: LearnedChanges,
        dirty: Dirty,
        now: Instant,
    ) -> Outcome {
        self.report = Report::default();
        self.dirty.merge(dirty);
        self.fib.learn(learned);
        if dirty == Dirty::ALL {
            self.no_ipip = false;
        }
        self.load_ruleset(&desired.ruleset, now);
        if self.read(now) {
            let open = self.loaded.is(&desired.ruleset);
            if open {
                self.write_tunnel(desired, now);
            }
            self.plan(desired, now);
            if open {
                self.write_sysctls();
                self.add_addresses();
                self.set_neighbours();
            }
            self.set_groups();
            self.write_routes(open);
            self.remove_groups();
            self.remove_addresses();
            self.remove_neighbours();
            self.tell_rules(desired);
        }
        self.outcome(desired)
    }

    /// All that was learned.
    pub fn learned(&self) -> &BTreeMap<IpNetwork, LearnedRoute> {
        self.fib.learned()
    }

    pub(super) fn fib(&self) -> &Fib {
        &self.fib
    }

    pub(super) fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }

    fn load_ruleset(&mut self, wanted: &Arc<Ruleset>, now: Instant) {
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
        if let Some(reason) = self.loaded.waits(wanted, now) {
            self.report.failed_before("ruleset", reason);
            return;
        }
        if let Err(error) = self.loaded.load(&mut self.kernel, wanted, now) {
            self.report.failed("ruleset", &error);
        }
    }

    /// Reads what is dirty. False when that failed: then nothing is planned with what may be wrong.
    fn read(&mut self, now: Instant) -> bool {
        let read =
            self.read_links().and_then(|()| self.read_routes(now)).and_then(|()| self.read_neighbours());
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
        self.addresses.set_actual(addresses::actual(&self.links));
        Ok(())
    }

    fn read_routes(&mut self, now: Instant) -> Result<(), KernelError> {
        if !self.dirty.routes && !self.dirty.foreign_routes {
            return Ok(());
        }
        let found = self.kernel.routes()?;
        self.forwarding.groups.read(self.kernel.nexthops()?);
        self.forwarding.routes.set_actual(routes::ours(&found, &self.links));
        self.fib.set_resolver(Resolver::new(&found, &self.links), now);
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

    fn tell_rules(&self, desired: &Desired) {
        let Some(told) = self.in_force.as_ref().filter(|_| self.loaded.is(&desired.ruleset)) else { return };
        let before = told.borrow().clone();
        if before.is_none_or(|before| reevaluation::may_refuse(&before.ruleset, &desired.ruleset)) {
            told.send_replace(Some(Arc::new(InForce::new(desired, &self.links))));
        }
    }

    fn outcome(&mut self, desired: &Desired) -> Outcome {
        let unread = self.dirty != Dirty::default();
        let retry = self.report.has_failures() || unread || !self.unforgotten.is_empty();
        self.ready |= !retry;
        if self.report.has_failures() {
            // What the kernel refused we may have misread.
            self.dirty = Dirty { ruleset: self.dirty.ruleset, ..Dirty::ALL };
        }
        let applied = Applied {
            ready: self.ready,
            guarded: self.loaded.is_any(),
            interfaces: desired
                .interfaces
                .iter()
                .filter_map(|(name, workload)| Some((name.clone(), self.wired(desired, name, workload)?)))
                .collect(),
            routes: self.forwarding.local_in_kernel(),
            failures: self.report.texts(),
        };
        let wake = [self.fib.deadline(), self.loaded.next_attempt()].into_iter().flatten().min();
        Outcome { applied, retry, wake }
    }

    /// An interface whose settings, neighbours, routes and rules are all in place.
    fn wired(&self, desired: &Desired, name: &str, workload: &WorkloadInterface) -> Option<Wired> {
        let link = self.links.get(name).filter(|link| link.up && owner::is_workload_interface(name))?;
        let (rp_filter, ipv6) = self.machine.as_ref()?;
        let settings = sysctls::of_interface(name, rp_filter, *ipv6);
        let mut addresses = workload.addresses.iter();
        let in_place = self.loaded.is(&desired.ruleset)
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
                self.forwarding.routes.in_place(&route)
                    && self.forwarding.routes.actual().get(&route).is_some_and(leads_here)
                    && neighbour.is_none_or(|key| self.neighbours.in_place(&key))
            });
        in_place.then(|| Wired { index: link.index, addresses: workload.addresses.clone() })
    }
}

/// Whether a setting is one of these interfaces'.
fn concerns(path: &str, interfaces: &BTreeSet<String>) -> bool {
    path.split('/').nth(3).is_some_and(|name| interfaces.contains(name))
}

#[cfg(test)]
pub(super) mod tests;
