//! The running kernel, in the network namespace of the thread that opens it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::monitor::Ports;
use super::netlink::read_links;
use super::rules::{Ownership, Rules};
use super::socket::NetlinkSocket;
use super::{KernelError, Link};

/// The kernel of this machine. Its sockets belong to the namespace they were opened in, `/proc/sys` to that of the calling
/// thread.
pub struct Linux {
    pub(super) route: NetlinkSocket,
    /// For connections; opened at first use: not every kernel has netfilter's netlink built in.
    pub(super) netfilter: Option<NetlinkSocket>,
    /// For rules.
    pub(super) rules: Option<Rules>,
    pub(super) ownership: Ownership,
    /// Connections can be deleted by a filter, as far as we know yet.
    pub(super) conntrack_filter: bool,
}

impl Linux {
    /// Opens it.
    ///
    /// # Errors
    /// When no netlink socket can be had.
    pub fn open() -> Result<Linux, KernelError> {
        Linux::with(Ownership::default())
    }

    /// The same, where the table of rules is ours alone or everybody's.
    ///
    /// # Errors
    /// When no netlink socket can be had.
    pub fn with(ownership: Ownership) -> Result<Linux, KernelError> {
        let route = open_route()?;
        Ok(Linux { route, netfilter: None, rules: None, ownership, conntrack_filter: true })
    }

    /// The ports routes and rules are written from: how the monitor tells our own changes from others'. There is none for
    /// rules in a kernel without any.
    pub fn ports(&mut self) -> Ports {
        Ports { routes: self.route.port(), rules: self.rules().ok().map(|rules| rules.port()) }
    }
}

/// All interfaces with their addresses, by name: what address autodetection chooses from.
///
/// # Errors
/// When they cannot be read.
pub fn interfaces() -> Result<BTreeMap<String, Link>, KernelError> {
    read_links(&mut open_route()?)
}

/// The MTU of the interface that holds `address`; `None` when there is none.
///
/// # Errors
/// When the interfaces cannot be read.
pub fn mtu_of(address: IpAddr) -> Result<Option<u32>, KernelError> {
    let holder =
        interfaces()?.into_values().find(|link| link.addresses.iter().any(|own| own.ip() == address));
    Ok(holder.map(|link| link.mtu))
}

fn open_route() -> Result<NetlinkSocket, KernelError> {
    NetlinkSocket::open(NETLINK_ROUTE).map_err(|error| KernelError::refused("open a netlink socket", error))
}
