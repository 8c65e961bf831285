//! Change hints: what the kernel multicasts about links, addresses, routes and rules marks a kind of object dirty, and
//! the data plane reads it again. A notification is never taken for data.
//!
//! Notifications of what our own sockets did are left out by the sender's port. When the socket overflows, everything is
//! dirty.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tortie_policy::netlink::read::is_ours;

use super::KernelError;
use super::netlink::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP};
use super::socket::{Message, messages};

/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
const ROUTE_GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// RTNLGRP_NEXTHOP; missing before Linux 5.3.
const NEXTHOP_GROUP: u32 = 32;
/// NFNLGRP_NFTABLES.
const NFTABLES_GROUP: u32 = 7;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
/// Subsystem nf_tables.
const NF_TABLES: u16 = 10;
const RT_TABLE_MAIN: u8 = 254;
const RTM_F_CLONED: u32 = 0x200;
/// Asked for; without privileges in the first user namespace the kernel grants less.
const RECEIVE_BUFFER: usize = 8 << 20;

/// What may have changed since it was last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Interfaces or addresses.
    pub links: bool,
    /// Routes of our protocols, or nexthop objects: somebody else changed or removed them.
    pub routes: bool,
    /// Other routes of the main table, over which next hops are resolved.
    pub foreign_routes: bool,
    /// Permanent neighbours. Never hinted at: read with the links they are on, and on a timer.
    pub neighbours: bool,
    /// Settings. Never hinted at either.
    pub sysctls: bool,
    /// Our table of rules: somebody else changed it.
    pub ruleset: bool,
}

impl Dirty {
    /// Everything.
    pub const ALL: Dirty = Dirty {
        links: true,
        routes: true,
        foreign_routes: true,
        neighbours: true,
        sysctls: true,
        ruleset: true,
    };

    /// Adds what `other` says.
    pub fn merge(&mut self, other: Dirty) {
        self.links |= other.links;
        self.routes |= other.routes;
        self.foreign_routes |= other.foreign_routes;
        self.neighbours |= other.neighbours;
        self.sysctls |= other.sysctls;
        self.ruleset |= other.ruleset;
    }
}

/// Dirty flags on their way from the monitor to the data plane: they merge while nobody looks.
#[derive(Debug, Default)]
pub struct Hints {
    dirty: Mutex<Dirty>,
    changed: Notify,
}

impl Hints {
    /// Marks something dirty.
    pub fn mark(&self, dirty: Dirty) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).merge(dirty);
        self.changed.notify_one();
    }

    /// Takes the flags.
    pub fn take(&self) -> Dirty {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a mark since the last wait. Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Ports of the sockets we write from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// Links, addresses, routes, neighbours.
    pub routes: u32,
    /// Rules.
    pub rules: Option<u32>,
}

/// Listens until dropped.
#[derive(Debug)]
pub struct Monitor {
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Monitor {
    /// Starts listening in the network namespace of the calling thread. Routes and rules written from our
    /// own ports are no news; `protocols` are ours.
    ///
    /// # Errors
    /// When the sockets cannot be had. A kernel without nf_tables is no error: it has no rules to watch either.
    pub fn start(hints: Arc<Hints>, own: Ports, protocols: [u8; 2]) -> Result<Monitor, KernelError> {
        let failed = |error| KernelError::refused("listen for changes of links and routes", error);
        let socket = listen(NETLINK_ROUTE, &ROUTE_GROUPS).map_err(failed)?;
        if let Err(error) = socket.socket_ref().add_membership(NEXTHOP_GROUP) {
            tracing::debug!(%error, "no notifications of nexthop objects");
        }
        let route_hints = Arc::clone(&hints);
        let mut tasks = vec![tokio::spawn(async move {
            follow(socket, &route_hints, |message| route_hint(message, own.routes, protocols)).await;
        })];
        match listen(NETLINK_NETFILTER, &[NFTABLES_GROUP]) {
            Ok(socket) => tasks.push(tokio::spawn(async move {
                follow(socket, &hints, |message| ruleset_hint(message, own.rules)).await
            })),
            Err(error) => tracing::warn!(%error, "changes of rules are noticed late: cannot listen for them"),
        }
        Ok(Monitor { tasks })
    }
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    let raw = socket.socket_ref();
    if setsockopt(&raw.as_fd(), sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&raw.as_fd(), sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    for group in groups {
        raw.add_membership(*group)?;
    }
    Ok(socket)
}

/// Reads until the socket is of no use any more.
async fn follow(socket: TokioSocket, hints: &Hints, hint: impl Fn(&Message<'_>) -> Dirty) {
    let mut buffer = Vec::with_capacity(1 << 16);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer).await {
            Ok(()) => {
                let mut dirty = Dirty::default();
                for message in messages(&buffer) {
                    dirty.merge(hint(&message));
                }
                if dirty != Dirty::default() {
                    hints.mark(dirty);
                }
            }
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                tracing::debug!("missed notifications of the kernel, reading everything again");
                hints.mark(Dirty::ALL);
            }
            Err(error) => {
                tracing::error!(%error, "no more notifications from the kernel, changes are noticed late");
                return;
            }
        }
    }
}

fn route_hint(message: &Message<'_>, own_port: u32, protocols: [u8; 2]) -> Dirty {
    match message.kind {
        RTM_NEWLINK | RTM_DELLINK | RTM_NEWADDR | RTM_DELADDR => Dirty { links: true, ..Dirty::default() },
        RTM_NEWROUTE | RTM_DELROUTE if message.port != own_port => {
            // struct rtmsg: table at 4, protocol at 5, flags at 8.
            let &[_, _, _, _, table, protocol, _, _, f0, f1, f2, f3, ..] = message.body else {
                return Dirty::default();
            };
            if table != RT_TABLE_MAIN || u32::from_ne_bytes([f0, f1, f2, f3]) & RTM_F_CLONED != 0 {
                return Dirty::default();
            }
            let ours = protocols.contains(&protocol);
            Dirty { routes: ours, foreign_routes: !ours, ..Dirty::default() }
        }
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP if message.port != own_port => {
            // struct nhmsg: protocol at 2.
            let ours = message.body.get(2).is_some_and(|protocol| protocols.contains(protocol));
            Dirty { routes: ours, foreign_routes: !ours, ..Dirty::default() }
        }
        _ => Dirty::default(),
    }
}

/// Others' tables change all day where a service proxy runs.
fn ruleset_hint(message: &Message<'_>, own_port: Option<u32>) -> Dirty {
    let foreign = message.kind >> 8 == NF_TABLES && own_port != Some(message.port);
    Dirty { ruleset: foreign && is_ours(message.body), ..Dirty::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::socket::push_attribute;

    #[test]
    fn only_what_others_do_to_our_table_is_a_hint() {
        let body = |family, table: &[u8]| {
            let mut body = vec![family, 0, 0, 0];
            push_attribute(&mut body, 1, table);
            body
        };
        let hint = |port, body: &[u8]| {
            let message = Message { kind: NF_TABLES << 8 | 6, flags: 0, sequence: 0, port, body };
            ruleset_hint(&message, Some(7)).ruleset
        };
        assert!(hint(8, &body(1, b"tortie\0")));
        assert!(!hint(7, &body(1, b"tortie\0")));
        assert!(!hint(8, &body(2, b"tortie\0")) && !hint(8, &body(1, b"kube-proxy\0")));
        // The end of a commit names no table.
        assert!(!hint(8, &[0; 12]));
    }
}
