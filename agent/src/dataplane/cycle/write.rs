//! Writing: each kind's pending changes to the kernel, and what came of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::Engine;
use crate::dataplane::delta::Pending;
use crate::dataplane::owner::IPIP_DEVICE;
use crate::dataplane::{sysctls, tunnel};
use crate::desired::Desired;
use crate::kernel::{Kernel, KernelError, LinkChange, NeighbourChange, NeighbourKey, chain};

/// How often forgetting the connections of an address is tried.
const CONNTRACK_ATTEMPTS: u32 = 3;

impl<K: Kernel> Engine<K> {
    pub(super) fn write_tunnel(&mut self, desired: &Desired, now: Instant) {
        let wanted = desired.ipip.as_ref();
        if wanted.is_some() && !self.links.contains_key(IPIP_DEVICE) && !self.no_ipip {
            let create = LinkChange::CreateIpip { name: IPIP_DEVICE.to_string() };
            match self.kernel.change_link(&create) {
                Ok(()) => self.reread_links(now),
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
            self.reread_links(now);
        }
    }

    fn reread_links(&mut self, now: Instant) {
        self.dirty.links = true;
        let read =
            self.read_links().and_then(|()| self.read_routes(now)).and_then(|()| self.read_neighbours());
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

    pub(super) fn add_addresses(&mut self) {
        let missing = self.addresses.pending().filter(|(_, pending)| !matches!(pending, Pending::Remove(())));
        let missing = missing.map(|(key, _)| *key).collect();
        self.change_addresses(missing, |index, address| LinkChange::AddAddress { index, address });
    }

    pub(super) fn remove_addresses(&mut self) {
        let left = self.addresses.pending().filter(|(_, pending)| matches!(pending, Pending::Remove(())));
        let left = left.map(|(key, _)| *key).collect();
        self.change_addresses(left, |index, address| LinkChange::RemoveAddress { index, address });
    }

    fn change_addresses(
        &mut self,
        keys: Vec<(u32, IpNetwork)>,
        change: impl Fn(u32, IpNetwork) -> LinkChange,
    ) {
        for (index, address) in keys {
            let answer = self.kernel.change_link(&change(index, address));
            if self.settled(&format!("address {address} of interface {index}"), answer) {
                self.addresses.done(&(index, address));
            }
        }
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

    /// Forgets the connections of freed addresses, and of those where that failed before. A kernel that cannot do it at all
    /// is not asked for ever.
    pub(super) fn forget_connections(&mut self, freed: BTreeSet<IpAddr>) {
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

    /// Whether it is done. An interface that vanished meanwhile is no failure: the links are read again. Nor is a gateway that
    /// is on no link for now.
    pub(super) fn settled(&mut self, object: &str, answer: Result<(), KernelError>) -> bool {
        let Err(error) = answer else { return true };
        match error.errno() {
            Some(Errno::ENODEV | Errno::ENETDOWN | Errno::ENXIO | Errno::ENOENT) => {
                self.dirty.links = true;
                self.report.note(object, chain(&error));
            }
            // The way to a gateway is held although the kernel has lost it. What brings it back brings a cycle.
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => self.report.note(object, chain(&error)),
            _ => self.report.failed(object, &error),
        }
        false
    }
}
