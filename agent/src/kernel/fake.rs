//! A kernel made of maps, for tests: it counts calls, fails the n-th, and lets the test change things behind the data
//! plane's back. A handle; clones share the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;
use tortie_policy::Ruleset;
use tortie_policy::change::Change;

use super::{
    Conntrack, Hop, KernelError, Link, LinkChange, Links, NeighbourChange, NeighbourKey, Neighbours, Nexthop,
    NexthopChange, NexthopObject, Nexthops, Route, RouteChange, RouteKey, Routes, Rulesets, Sysctls,
};

/// Index of the IPIP device it makes.
const IPIP_INDEX: u32 = 90;

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) links: BTreeMap<String, Link>,
    pub(crate) routes: BTreeMap<RouteKey, Route>,
    /// Nexthop objects; it has none at all when `no_objects` is set.
    pub(crate) nexthops: BTreeMap<u32, NexthopObject>,
    pub(crate) no_objects: bool,
    pub(crate) neighbours: BTreeMap<NeighbourKey, [u8; 6]>,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) table: Option<Ruleset>,
    /// Takes no changes to the rules but a table made anew.
    pub(crate) refuse_all_but_reset: bool,
    /// Takes no changes to the rules at all.
    pub(crate) refuse_rules: bool,
    pub(crate) generation: u32,
    /// Whether IPIP devices can be created.
    pub(crate) ipip: bool,
}

impl State {
    /// The interface, if something can be sent over it.
    fn usable(&self, index: u32) -> Result<&Link, Errno> {
        let link = self.links.values().find(|link| link.index == index).ok_or(Errno::ENODEV)?;
        if link.up { Ok(link) } else { Err(Errno::ENETDOWN) }
    }

    /// What the kernel does with an object: members leave their groups, an empty group goes too, and with each object the
    /// routes over it.
    pub(crate) fn remove_nexthop(&mut self, id: u32) {
        self.nexthops.remove(&id);
        self.routes.retain(|_, route| route.group != Some(id));
        let mut empty = Vec::new();
        for (group, object) in &mut self.nexthops {
            if let Nexthop::Group(members) = &mut object.nexthop {
                members.retain(|member| *member != id);
                empty.extend(members.is_empty().then_some(*group));
            }
        }
        empty.into_iter().for_each(|group| self.remove_nexthop(group));
    }

    /// An interface loses or finds the other end.
    pub(crate) fn set_carrier(&mut self, name: &str, carrier: bool) {
        let Some(link) = self.links.get_mut(name) else { return };
        link.no_carrier = !carrier;
        let index = link.index;
        let on =
            |object: &NexthopObject| matches!(object.nexthop, Nexthop::Hop(hop) if hop.interface == index);
        let lost: Vec<u32> =
            self.nexthops.iter().filter(|(_, o)| !carrier && on(o)).map(|(id, _)| *id).collect();
        lost.into_iter().for_each(|id| self.remove_nexthop(id));
    }

    fn set_nexthop(&mut self, id: u32, object: &NexthopObject) -> Result<(), Errno> {
        let is_group = |object: &NexthopObject| matches!(object.nexthop, Nexthop::Group(_));
        if self.nexthops.get(&id).is_some_and(|old| is_group(old) != is_group(object)) {
            return Err(Errno::EINVAL);
        }
        match &object.nexthop {
            Nexthop::Hop(hop) => {
                if self.usable(hop.interface)?.no_carrier {
                    return Err(Errno::ENETDOWN);
                }
            }
            Nexthop::Group(members) => {
                let is_hop = |id: &u32| self.nexthops.get(id).is_some_and(|object| !is_group(object));
                if members.is_empty() || !members.iter().all(is_hop) {
                    return Err(Errno::EINVAL);
                }
            }
            Nexthop::Other => return Err(Errno::EINVAL),
        }
        self.nexthops.insert(id, object.clone());
        Ok(())
    }

    pub(crate) fn hops_of(&self, id: u32) -> Vec<Hop> {
        let hop = |id: &u32| match self.nexthops.get(id)?.nexthop {
            Nexthop::Hop(hop) => Some(hop),
            Nexthop::Group(_) | Nexthop::Other => None,
        };
        let mut hops: Vec<Hop> = match self.nexthops.get(&id).map(|object| &object.nexthop) {
            Some(Nexthop::Group(members)) => members.iter().filter_map(hop).collect(),
            _ => hop(&id).into_iter().collect(),
        };
        hops.sort();
        hops
    }

    /// Routes as the kernel tells them: with what the object of each leads to.
    pub(crate) fn told_routes(&self) -> Vec<(RouteKey, Route)> {
        let told = |(key, route): (&RouteKey, &Route)| {
            let hops = route.group.map_or_else(|| route.hops.clone(), |id| self.hops_of(id));
            (*key, Route { hops, ..route.clone() })
        };
        self.routes.iter().map(told).collect()
    }
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    calls: usize,
    fail_at: Option<(usize, Errno)>,
    writes: Vec<String>,
    /// Generation up to which the rules were last read or written.
    seen_generation: Option<u32>,
}

/// The kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeKernel(Arc<Mutex<Inner>>);

impl FakeKernel {
    pub(crate) fn new(state: State) -> FakeKernel {
        let kernel = FakeKernel::default();
        kernel.inner().state = state;
        kernel
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state.clone()
    }

    /// Changes things as somebody else would.
    pub(crate) fn drift(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.inner().state);
    }

    /// The n-th call from now, counted from 0, fails once.
    pub(crate) fn fail_at(&self, n: usize, errno: Errno) {
        let mut inner = self.inner();
        inner.fail_at = Some((inner.calls + n, errno));
    }

    /// Calls so far; each change of a batch is one.
    pub(crate) fn calls(&self) -> usize {
        self.inner().calls
    }

    /// Changes asked for since the last time, in order.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().writes)
    }

    fn call<T>(&self, run: impl FnOnce(&mut State) -> Result<T, Errno>) -> Result<T, KernelError> {
        let mut inner = self.inner();
        let number = inner.calls;
        inner.calls += 1;
        let answer = match inner.fail_at {
            Some((at, errno)) if at == number => Err(errno),
            _ => run(&mut inner.state),
        };
        answer.map_err(|errno| KernelError::refused("do it", io::Error::from_raw_os_error(errno as i32)))
    }

    fn write<T>(
        &self,
        what: String,
        run: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> Result<T, KernelError> {
        self.inner().writes.push(what);
        self.call(run)
    }
}

impl Links for FakeKernel {
    fn links(&mut self) -> Result<BTreeMap<String, Link>, KernelError> {
        self.call(|state| Ok(state.links.clone()))
    }

    fn change_link(&mut self, change: &LinkChange) -> Result<(), KernelError> {
        self.write(format!("{change:?}"), |state| {
            if let LinkChange::CreateIpip { name } = change {
                if !state.ipip {
                    return Err(Errno::EOPNOTSUPP);
                }
                let link = Link {
                    name: name.clone(),
                    index: IPIP_INDEX,
                    mtu: 1480,
                    kind: "ipip".into(),
                    ..Link::default()
                };
                state.links.entry(name.clone()).or_insert(link);
                return Ok(());
            }
            let (LinkChange::Mtu { index, .. }
            | LinkChange::Up { index }
            | LinkChange::AddAddress { index, .. }
            | LinkChange::RemoveAddress { index, .. }) = change
            else {
                return Ok(());
            };
            let link = state.links.values_mut().find(|link| link.index == *index).ok_or(Errno::ENODEV)?;
            match change {
                LinkChange::Mtu { mtu, .. } => link.mtu = *mtu,
                LinkChange::AddAddress { address, .. } => drop(link.addresses.insert(*address)),
                LinkChange::RemoveAddress { address, .. } => drop(link.addresses.remove(address)),
                LinkChange::Up { .. } | LinkChange::CreateIpip { .. } => link.up = true,
            }
            Ok(())
        })
    }
}

impl Routes for FakeKernel {
    fn routes(&mut self) -> Result<Vec<(RouteKey, Route)>, KernelError> {
        self.call(|state| Ok(state.told_routes()))
    }

    fn change_routes(&mut self, changes: &[RouteChange]) -> Vec<Result<(), KernelError>> {
        let change = |change: &RouteChange| {
            self.write(format!("{change:?}"), |state| {
                let (RouteChange::Add(key, route)
                | RouteChange::Replace(key, route)
                | RouteChange::Remove(key, route)) = change;
                if let RouteChange::Remove(..) = change {
                    // Only the one of this protocol; gone is success.
                    if state.routes.get(key).is_some_and(|there| there.protocol == route.protocol) {
                        state.routes.remove(key);
                    }
                    return Ok(());
                }
                match route.group {
                    Some(id) if !state.nexthops.contains_key(&id) => return Err(Errno::EINVAL),
                    Some(_) => {}
                    None => {
                        for hop in &route.hops {
                            state.usable(hop.interface)?;
                        }
                    }
                }
                if matches!(change, RouteChange::Add(..)) && state.routes.contains_key(key) {
                    return Err(Errno::EEXIST);
                }
                state.routes.insert(*key, route.clone());
                Ok(())
            })
        };
        changes.iter().map(change).collect()
    }
}

impl Nexthops for FakeKernel {
    fn nexthops(&mut self) -> Result<Option<BTreeMap<u32, NexthopObject>>, KernelError> {
        self.call(|state| Ok((!state.no_objects).then(|| state.nexthops.clone())))
    }

    fn change_nexthops(&mut self, changes: &[NexthopChange]) -> Vec<Result<(), KernelError>> {
        let change = |change: &NexthopChange| {
            self.write(format!("{change:?}"), |state| match change {
                NexthopChange::Set(id, object) => state.set_nexthop(*id, object),
                NexthopChange::Remove(id) => {
                    state.remove_nexthop(*id);
                    Ok(())
                }
            })
        };
        changes.iter().map(change).collect()
    }
}

impl Neighbours for FakeKernel {
    fn neighbours(&mut self) -> Result<BTreeMap<NeighbourKey, [u8; 6]>, KernelError> {
        self.call(|state| Ok(state.neighbours.clone()))
    }

    fn change_neighbours(&mut self, changes: &[NeighbourChange]) -> Vec<Result<(), KernelError>> {
        let change = |change: &NeighbourChange| {
            self.write(format!("{change:?}"), |state| {
                match change {
                    NeighbourChange::Set(key, mac) => {
                        if !state.links.values().any(|link| link.index == key.interface) {
                            return Err(Errno::ENODEV);
                        }
                        state.neighbours.insert(*key, *mac)
                    }
                    NeighbourChange::Remove(key) => state.neighbours.remove(key),
                };
                Ok(())
            })
        };
        changes.iter().map(change).collect()
    }
}

impl Sysctls for FakeKernel {
    fn read_sysctl(&mut self, name: &str) -> Result<Option<String>, KernelError> {
        self.call(|state| Ok(state.sysctls.get(name).cloned()))
    }

    fn write_sysctl(&mut self, name: &str, value: &str) -> Result<(), KernelError> {
        self.write(format!("{name} = {value}"), |state| {
            let setting = state.sysctls.get_mut(name).ok_or(Errno::ENOENT)?;
            *setting = value.to_string();
            Ok(())
        })
    }
}

impl Rulesets for FakeKernel {
    fn ruleset(&mut self, _expected: &Ruleset) -> Result<Option<Ruleset>, KernelError> {
        let found = self.call(|state| Ok((state.table.clone(), state.generation)));
        self.inner().seen_generation = found.as_ref().ok().map(|(_, generation)| *generation);
        found.map(|(table, _)| table)
    }

    fn change_ruleset(&mut self, changes: &[Change]) -> Result<(), KernelError> {
        let seen = self.inner().seen_generation.take();
        let now = self.write("change ruleset".to_string(), |state| {
            let reset = changes.first() == Some(&Change::Reset);
            if state.refuse_rules || state.refuse_all_but_reset && !reset {
                return Err(Errno::EINVAL);
            }
            let mut table = state.table.clone();
            for change in changes {
                let made = matches!(change, Change::Reset).then(Ruleset::empty);
                table = made.or(table);
                let refused = table.as_mut().ok_or(Errno::ENOENT)?.apply(change);
                refused.map_err(|_| Errno::EBUSY)?;
            }
            state.table = table;
            state.generation += 1;
            Ok(state.generation)
        })?;
        self.inner().seen_generation = seen.map(|seen| seen + 1).filter(|next| *next == now);
        Ok(())
    }

    fn ruleset_untouched(&mut self) -> Result<bool, KernelError> {
        let seen = self.inner().seen_generation;
        self.call(|state| Ok(seen == Some(state.generation)))
    }
}

impl Conntrack for FakeKernel {
    fn forget_connections(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), KernelError> {
        self.write(format!("forget {addresses:?}"), |_| Ok(()))
    }
}
