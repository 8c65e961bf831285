//! All routes of ours, desired against actual, with the nexthop objects they use; pure. A change costs what it concerns.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

use super::delta::Delta;
use super::groups::Groups;
use super::owner::{self, LEARNED_PROTOCOL, LOCAL_PROTOCOL};
use super::routes::{self, Wish};
use crate::desired::RouteTarget;
use crate::fib::Fib;
use crate::kernel::{Link, Route, RouteKey};

/// Routes and groups.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    pub(super) routes: Delta<RouteKey, Route>,
    pub(super) groups: Groups,
    local: BTreeSet<RouteKey>,
    /// What learned routes were written for: they are looked at again when it changes.
    underlay: Underlay,
}

/// Interfaces learned routes can lead to, with index, whether up and with carrier; and whether there are groups.
#[derive(Debug, Default, PartialEq)]
struct Underlay {
    links: BTreeMap<String, (u32, bool, bool)>,
    groups: bool,
}

impl Forwarding {
    /// Learned routes as decided, `changed` naming those that were decided otherwise since the last time, and local
    /// ones, all of them. `peers` are interfaces of workloads that learned routes may lead to.
    pub(super) fn plan(
        &mut self,
        fib: &Fib,
        changed: BTreeSet<IpNetwork>,
        local: BTreeMap<RouteKey, Route>,
        links: &BTreeMap<String, Link>,
        peers: &BTreeSet<&str>,
    ) {
        let underlay = Underlay { links: underlay(links, peers), groups: self.groups.supported() };
        let mut learned: BTreeSet<RouteKey> = changed.into_iter().map(routes::key).collect();
        if underlay != self.underlay {
            learned.extend(fib.routes().keys().map(|prefix| routes::key(*prefix)));
        }
        self.underlay = underlay;
        let mut wishes: BTreeMap<RouteKey, Option<Wish>> = BTreeMap::new();
        wishes.extend(self.local.iter().map(|key| (*key, None)));
        for key in learned {
            let wish = fib.routes().get(&key.prefix).and_then(|target| {
                let mut wish = routes::route(LEARNED_PROTOCOL, key, target, links)?;
                // A group changes in place, at once for all its routes. What leads to a workload waits for the rules.
                wish.multipath &= !leads_to_workload(target);
                Some(wish)
            });
            wishes.insert(key, wish);
        }
        self.local = local.keys().copied().collect();
        wishes.extend(local.into_iter().map(|(key, route)| (key, Some(Wish { route, multipath: false }))));
        self.want(wishes);
    }

    fn want(&mut self, mut wishes: BTreeMap<RouteKey, Option<Wish>>) {
        for wish in wishes.values_mut().flatten() {
            wish.multipath &= self.groups.supported();
        }
        wishes.retain(|key, wish| !self.is_wanted(key, wish.as_ref()));
        let moves = wishes.iter().map(|(key, wish)| {
            let hops = wish.as_ref().filter(|wish| wish.multipath).map(|wish| wish.route.hops.as_slice());
            (self.routes.desired().get(key).and_then(|route| route.group), hops)
        });
        self.groups.follow(moves);
        for (key, wish) in wishes {
            let before = self.routes.desired().get(&key).and_then(|route| route.group);
            let route = wish.map(|wish| match wish.multipath {
                true => {
                    let group = Some(self.groups.acquire(&wish.route.hops));
                    Route { hops: Vec::new(), group, ..wish.route }
                }
                false => wish.route,
            });
            if let Some(before) = before {
                self.groups.release(before);
            }
            self.routes.set_desired_of(key, route);
        }
    }

    /// Whether this is wanted already.
    fn is_wanted(&self, key: &RouteKey, wish: Option<&Wish>) -> bool {
        match (self.routes.desired().get(key), wish) {
            (None, None) => true,
            (Some(route), Some(wish)) => match route.group {
                Some(group) => {
                    wish.multipath
                        && route.protocol == wish.route.protocol
                        && self.groups.hops(group) == Some(&wish.route.hops)
                }
                None => !wish.multipath && *route == wish.route,
            },
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    /// Groups that routes in the kernel are over.
    pub(super) fn groups_in_use(&self) -> BTreeSet<u32> {
        self.routes.actual().values().filter_map(|route| route.group).collect()
    }

    /// Prefixes of local routes in the kernel.
    pub(super) fn local_in_kernel(&self) -> BTreeSet<IpNetwork> {
        let actual = self.routes.actual();
        let held = self
            .local
            .iter()
            .filter(|key| actual.get(key).is_some_and(|route| route.protocol == LOCAL_PROTOCOL));
        held.map(|key| key.prefix).collect()
    }
}

/// Workload interfaces come and go all the time, and only to those of peers a learned route leads.
fn underlay(links: &BTreeMap<String, Link>, peers: &BTreeSet<&str>) -> BTreeMap<String, (u32, bool, bool)> {
    let underlay = links
        .values()
        .filter(|link| !owner::is_workload_interface(&link.name) || peers.contains(link.name.as_str()));
    underlay.map(|link| (link.name.clone(), (link.index, link.up, link.no_carrier))).collect()
}

fn leads_to_workload(target: &RouteTarget) -> bool {
    match target {
        RouteTarget::Gateways(gateways) => {
            gateways.iter().any(|gateway| owner::is_workload_interface(&gateway.interface))
        }
        RouteTarget::Device(interface) => owner::is_workload_interface(interface),
        RouteTarget::Blackhole => false,
    }
}
