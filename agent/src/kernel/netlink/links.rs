//! Interfaces and their addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{decode, never, refused, request, unless};
use crate::kernel::linux::Linux;
use crate::kernel::socket::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkSocket};
use crate::kernel::{KernelError, Link, LinkChange, Links};

impl Links for Linux {
    fn links(&mut self) -> Result<BTreeMap<String, Link>, KernelError> {
        read_links(&mut self.route)
    }

    fn change_link(&mut self, change: &LinkChange) -> Result<(), KernelError> {
        let socket = &mut self.route;
        match change {
            LinkChange::CreateIpip { name } => {
                let mut link = LinkMessage::default();
                let kind = LinkInfo::Kind(InfoKind::IpIp);
                link.attributes =
                    vec![LinkAttribute::IfName(name.clone()), LinkAttribute::LinkInfo(vec![kind])];
                let message = RouteNetlinkMessage::NewLink(link);
                let answer = socket.acknowledged(request(&message, NLM_F_CREATE | NLM_F_EXCL));
                // Loading the module makes the kernel put a `tunl0` into the namespace by itself.
                unless(answer, KernelError::exists, || format!("create IPIP device {name}"))
            }
            LinkChange::Mtu { index, mtu } => {
                let mut link = LinkMessage::default();
                link.header.index = *index;
                link.attributes = vec![LinkAttribute::Mtu(*mtu)];
                let answer = socket.acknowledged(request(&RouteNetlinkMessage::SetLink(link), 0));
                unless(answer, never, || format!("set MTU {mtu} on interface {index}"))
            }
            LinkChange::Up { index } => {
                let mut link = LinkMessage::default();
                link.header.index = *index;
                link.header.flags = LinkFlags::Up;
                link.header.change_mask = LinkFlags::Up;
                let answer = socket.acknowledged(request(&RouteNetlinkMessage::SetLink(link), 0));
                unless(answer, never, || format!("set interface {index} up"))
            }
            LinkChange::AddAddress { index, address } => {
                let message = RouteNetlinkMessage::NewAddress(address_message(*index, *address));
                let answer = socket.acknowledged(request(&message, NLM_F_CREATE | NLM_F_REPLACE));
                unless(answer, KernelError::exists, || format!("add address {address} to interface {index}"))
            }
            LinkChange::RemoveAddress { index, address } => {
                let message = RouteNetlinkMessage::DelAddress(address_message(*index, *address));
                let answer = socket.acknowledged(request(&message, 0));
                unless(answer, KernelError::is_gone, || {
                    format!("remove address {address} from interface {index}")
                })
            }
        }
    }
}

/// All links with their addresses.
pub(in crate::kernel) fn read_links(
    socket: &mut NetlinkSocket,
) -> Result<BTreeMap<String, Link>, KernelError> {
    let get_links = request(&RouteNetlinkMessage::GetLink(LinkMessage::default()), 0);
    let links = socket
        .dump(&get_links, |message| match decode(message)? {
            RouteNetlinkMessage::NewLink(link) => Some(read_link(&link)),
            _ => None,
        })
        .map_err(|refusal| refused("read the interfaces", refusal))?;
    let get_addresses = request(&RouteNetlinkMessage::GetAddress(AddressMessage::default()), 0);
    let addresses = socket
        .dump(&get_addresses, |message| match decode(message)? {
            RouteNetlinkMessage::NewAddress(address) => read_address(&address),
            _ => None,
        })
        .map_err(|refusal| refused("read the addresses", refusal))?;
    let mut by_index: BTreeMap<u32, Link> = links.into_iter().map(|link| (link.index, link)).collect();
    for (index, address) in addresses {
        if let Some(link) = by_index.get_mut(&index) {
            link.addresses.insert(address);
        }
    }
    Ok(by_index.into_values().map(|link| (link.name.clone(), link)).collect())
}

fn read_link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let up = flags.contains(LinkFlags::Up);
    let no_carrier = up && !flags.contains(LinkFlags::LowerUp);
    let mut link = Link { index: message.header.index, up, no_carrier, ..Link::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    link
}

/// The interface's own address: of a point-to-point link LOCAL is ours and ADDRESS the other end's; IPv6 has no LOCAL
/// otherwise.
fn read_address(message: &AddressMessage) -> Option<(u32, IpNetwork)> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    let network = IpNetwork::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some((message.header.index, network))
}

fn address_message(index: u32, address: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.ip());
    message.header.prefix_len = address.prefix();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address.ip()), AddressAttribute::Address(address.ip())];
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
