//! Blocking rtnetlink requests in the calling thread's network namespace. Every request has a deadline.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's messages and attributes are many and grow; we read those we asked for"
)]

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::workload::wiring::{Mac, WiringError};

/// The kernel answers at once; only a lost answer takes so long.
const ANSWER_WITHIN_SECONDS: i64 = 10;

/// A socket for requests.
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
}

/// A link as far as it matters here.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
    /// Up at both ends, and ready to send: what is sent before is lost.
    pub(super) running: bool,
    pub(super) alias: Option<String>,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
}

/// A route over a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Destination; `None` for the default route.
    pub(super) to: Option<IpAddr>,
    /// Gateway.
    pub(super) via: Option<IpAddr>,
}

fn failed(action: impl Into<String>) -> impl FnOnce(io::Error) -> WiringError {
    let action = action.into();
    move |source| WiringError::Kernel { action, source }
}

impl Requests {
    /// A socket in the calling thread's namespace.
    pub(super) fn open() -> Result<Requests, WiringError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_WITHIN_SECONDS, 0))?;
            Ok(socket)
        };
        Ok(Requests { socket: open().map_err(failed("open a netlink socket"))?, sequence: 0 })
    }

    /// The link of a name.
    pub(super) fn link(&mut self, name: &str) -> Result<Option<Link>, WiringError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = match self.send(Message::GetLink(message), 0) {
            Err(error) if is_gone(&error) => return Ok(None),
            answers => answers.map_err(failed(format!("look up interface {name}")))?,
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            Message::NewLink(message) => Some(link_of(message)),
            _ => None,
        }))
    }

    /// Creates a link.
    pub(super) fn create_link(&mut self, message: LinkMessage, name: &str) -> Result<(), WiringError> {
        let sent = self.send(Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
        sent.map(drop).map_err(failed(format!("create interface {name}")))
    }

    /// Removes a link; succeeds when there is none.
    pub(super) fn remove_link(&mut self, name: &str) -> Result<(), WiringError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.send(Message::DelLink(message), 0) {
            Err(error) if is_gone(&error) => Ok(()),
            sent => sent.map(drop).map_err(failed(format!("remove interface {name}"))),
        }
    }

    /// Brings a link up, and gives it an alias where there is one to give.
    pub(super) fn bring_up(&mut self, index: u32, alias: Option<&str>) -> Result<(), WiringError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend(alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())));
        let sent = self.send(Message::SetLink(message), 0);
        sent.map(drop).map_err(failed(format!("bring up interface number {index}")))
    }

    /// Adds an address without duplicate detection: IPAM knows that nobody else has it.
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), WiringError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.header.scope = AddressScope::Universe;
        if address.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        let sent = self.send(Message::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE);
        sent.map(drop).map_err(failed(format!("add address {address}/{prefix}")))
    }

    /// Adds a neighbour that never ages.
    pub(super) fn add_neighbour(&mut self, index: u32, address: IpAddr, mac: Mac) -> Result<(), WiringError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        let to = match address {
            IpAddr::V4(a) => netlink_packet_route::neighbour::NeighbourAddress::Inet(a),
            IpAddr::V6(a) => netlink_packet_route::neighbour::NeighbourAddress::Inet6(a),
        };
        message.attributes =
            vec![NeighbourAttribute::Destination(to), NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
        let sent = self.send(Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE);
        sent.map(drop).map_err(failed(format!("add neighbour {address}")))
    }

    /// Adds a route to one address on a link, without gateway.
    pub(super) fn add_link_route(&mut self, index: u32, to: IpAddr) -> Result<(), WiringError> {
        let mut message = route_message(family(to), index);
        message.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
        message.header.scope = RouteScope::Link;
        message.attributes.push(RouteAttribute::Destination(route_address(to)));
        let sent = self.send(Message::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE);
        sent.map(drop).map_err(failed(format!("add route to {to}")))
    }

    /// Adds the default route of a family.
    pub(super) fn add_default_route(&mut self, index: u32, via: IpAddr) -> Result<(), WiringError> {
        let mut message = route_message(family(via), index);
        message.attributes.push(RouteAttribute::Gateway(route_address(via)));
        let sent = self.send(Message::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE);
        sent.map(drop).map_err(failed(format!("add the default route via {via}")))
    }

    /// Addresses of a link, without IPv6 link-local ones.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<(IpAddr, u8)>, WiringError> {
        let answers = self
            .send(Message::GetAddress(AddressMessage::default()), NLM_F_DUMP)
            .map_err(failed("list addresses"))?;
        let mut found = Vec::new();
        for answer in answers {
            let Message::NewAddress(message) = answer else { continue };
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            let local = matches!(address, Some(IpAddr::V6(a)) if a.is_unicast_link_local());
            if let Some(address) = address.filter(|_| message.header.index == index && !local) {
                found.push((address, message.header.prefix_len));
            }
        }
        Ok(found)
    }

    /// Routes of the main table of a family over a link.
    pub(super) fn routes(&mut self, index: u32, ipv6: bool) -> Result<Vec<Route>, WiringError> {
        let mut request = RouteMessage::default();
        request.header.address_family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let answers = self.send(Message::GetRoute(request), NLM_F_DUMP).map_err(failed("list routes"))?;
        let mut found = Vec::new();
        for answer in answers {
            let Message::NewRoute(route) = answer else { continue };
            let over_link = route.attributes.contains(&RouteAttribute::Oif(index));
            if route.header.table != RouteHeader::RT_TABLE_MAIN || !over_link {
                continue;
            }
            let mut found_route = Route { to: None, via: None };
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(address) => found_route.to = ip_address(address),
                    RouteAttribute::Gateway(address) => found_route.via = ip_address(address),
                    _ => {}
                }
            }
            found.push(found_route);
        }
        Ok(found)
    }

    /// Sends a request and collects the answers until it is acknowledged or the dump is complete.
    fn send(&mut self, message: Message, flags: u16) -> io::Result<Vec<Message>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | flags | if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (received, _) = self.socket.recv_from_full()?;
            if self.read(&received, &mut answers)? {
                return Ok(answers);
            }
        }
    }

    /// Reads one datagram; whether it ends the answer.
    fn read(&self, mut received: &[u8], answers: &mut Vec<Message>) -> io::Result<bool> {
        while received.len() >= 16 {
            let decoded = NetlinkMessage::<RouteNetlinkMessage>::deserialize(received);
            let packet =
                decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (packet.header.length as usize).next_multiple_of(4).max(16);
            received = received.get(length..).unwrap_or_default();
            if packet.header.sequence_number != self.sequence {
                continue;
            }
            match packet.payload {
                NetlinkPayload::InnerMessage(message) => answers.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => {}
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The interface, or a route to it, is not there.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

fn link_of(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        running: false,
        alias: None,
        mac: None,
        mtu: 0,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Address(mac) => link.mac = mac.try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.running = state == State::Up,
            _ => {}
        }
    }
    link
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route_message(family: AddressFamily, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn ip_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
