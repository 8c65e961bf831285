//! Routes of the main tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{decode, never, refused, request, unless};
use crate::kernel::linux::Linux;
use crate::kernel::socket::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request};
use crate::kernel::{
    Hop, KernelError, Nexthop, Nexthops as _, Route, RouteChange, RouteKey, RouteKind, Routes,
};

impl Routes for Linux {
    fn routes(&mut self) -> Result<Vec<(RouteKey, Route)>, KernelError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut get = RouteMessage::default();
            get.header.address_family = family;
            get.header.table = RouteHeader::RT_TABLE_MAIN;
            get.attributes = vec![RouteAttribute::Table(u32::from(RouteHeader::RT_TABLE_MAIN))];
            let get = request(&RouteNetlinkMessage::GetRoute(get), 0);
            let routes = self.route.dump(&get, |message| match decode(message)? {
                RouteNetlinkMessage::NewRoute(route) => read_route(&route),
                _ => None,
            });
            match routes {
                Ok(routes) => found.extend(routes),
                // Kernels say ENOENT for a table that was never used.
                Err(refusal) => {
                    let error = refused("read the routes", refusal);
                    if !error.is_gone() && !error.unsupported() {
                        return Err(error);
                    }
                }
            }
        }
        self.add_hops_of_objects(&mut found)?;
        Ok(found)
    }

    fn change_routes(&mut self, changes: &[RouteChange]) -> Vec<Result<(), KernelError>> {
        let requests: Vec<Request> = changes.iter().map(change_request).collect();
        let answers = self.route.batch(&requests);
        let named = changes.iter().zip(answers).map(|(change, answer)| match change {
            RouteChange::Add(key, _) => unless(answer, never, || format!("add route {}", key.prefix)),
            RouteChange::Replace(key, _) => unless(answer, never, || format!("replace route {}", key.prefix)),
            RouteChange::Remove(key, _) => {
                unless(answer, KernelError::is_gone, || format!("remove route {}", key.prefix))
            }
        });
        named.collect()
    }
}

impl Linux {
    /// With `net.ipv4.nexthop_compat_mode` off the kernel names the object of a route, and no longer what it leads to.
    fn add_hops_of_objects(&mut self, found: &mut [(RouteKey, Route)]) -> Result<(), KernelError> {
        let bare =
            |route: &Route| route.group.filter(|_| route.hops.is_empty() && route.kind == RouteKind::Unicast);
        if !found.iter().any(|(_, route)| bare(route).is_some()) {
            return Ok(());
        }
        let objects = self.nexthops()?.unwrap_or_default();
        for (_, route) in found {
            let Some(id) = bare(route) else { continue };
            let members = match objects.get(&id).map(|object| &object.nexthop) {
                Some(Nexthop::Group(members)) => members.clone(),
                _ => vec![id],
            };
            let hops = members.iter().filter_map(|id| match objects.get(id)?.nexthop {
                Nexthop::Hop(hop) => Some(hop),
                Nexthop::Group(_) | Nexthop::Other => None,
            });
            route.hops = hops.collect();
            route.hops.sort();
        }
        Ok(())
    }
}

fn change_request(change: &RouteChange) -> Request {
    match change {
        RouteChange::Add(key, route) => {
            request(&RouteNetlinkMessage::NewRoute(route_message(key, route)), NLM_F_CREATE | NLM_F_EXCL)
        }
        RouteChange::Replace(key, route) => {
            request(&RouteNetlinkMessage::NewRoute(route_message(key, route)), NLM_F_CREATE | NLM_F_REPLACE)
        }
        RouteChange::Remove(key, route) => {
            let mut message = route_message(key, route);
            // Protocol and metric say which one; scope nowhere means any.
            message.header.scope = RouteScope::NoWhere;
            // An IPv6 route goes as a whole only when no gateway is named; one over a nexthop object may lead elsewhere by now.
            if key.prefix.is_ipv6() || route.group.is_some() {
                message.attributes.retain(|attribute| {
                    !matches!(
                        attribute,
                        RouteAttribute::MultiPath(_)
                            | RouteAttribute::Gateway(_)
                            | RouteAttribute::Oif(_)
                            | RouteAttribute::NhId(_)
                    )
                });
            }
            request(&RouteNetlinkMessage::DelRoute(message), 0)
        }
    }
}

fn route_message(key: &RouteKey, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = if key.prefix.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    header.destination_prefix_length = key.prefix.prefix();
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::from(route.protocol);
    header.scope = if route.link_scope { RouteScope::Link } else { RouteScope::Universe };
    header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Other => RouteType::Unspec,
    };
    message.attributes.push(RouteAttribute::Table(u32::from(RouteHeader::RT_TABLE_MAIN)));
    message.attributes.push(RouteAttribute::Destination(key.prefix.network().into()));
    if key.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(key.metric));
    }
    if let Some(group) = route.group {
        message.attributes.push(RouteAttribute::NhId(group));
        return message;
    }
    match route.hops.as_slice() {
        [] => {}
        [hop] => {
            if hop.onlink {
                message.header.flags = RouteFlags::Onlink;
            }
            message.attributes.push(RouteAttribute::Oif(hop.interface));
            message.attributes.extend(hop.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        }
        hops => message.attributes.push(RouteAttribute::MultiPath(hops.iter().map(next_hop).collect())),
    }
    message
}

fn next_hop(hop: &Hop) -> RouteNextHop {
    let mut next = RouteNextHop::default();
    next.interface_index = hop.interface;
    if hop.onlink {
        next.flags = RouteNextHopFlags::Onlink;
    }
    next.attributes =
        hop.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())).into_iter().collect();
    next
}

/// `None` for what is no plain route of the main table.
fn read_route(message: &RouteMessage) -> Option<(RouteKey, Route)> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut prefix: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut metric, mut interface, mut gateway, mut hops) = (0, None, None, Vec::new());
    let mut group = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => prefix = ip(address)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(via) => gateway = via_ip(via),
            RouteAttribute::NhId(id) => group = Some(*id),
            RouteAttribute::MultiPath(paths) => hops = paths.iter().filter_map(read_next_hop).collect(),
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN)
        || header.tos != 0
        || header.flags.contains(RouteFlags::Cloned)
    {
        return None;
    }
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        _ => RouteKind::Other,
    };
    if let Some(interface) = interface {
        let dead = header.flags.contains(RouteFlags::Dead);
        hops.extend((!dead).then_some(Hop {
            gateway,
            interface,
            onlink: header.flags.contains(RouteFlags::Onlink),
        }));
    }
    if kind != RouteKind::Unicast {
        // IPv6 hangs a blackhole on `lo`.
        hops.clear();
    }
    hops.sort();
    let ipv4 = header.address_family == AddressFamily::Inet;
    let link_scope = ipv4 && matches!(header.scope, RouteScope::Link | RouteScope::Host);
    let prefix = IpNetwork::new(prefix, header.destination_prefix_length).ok()?;
    let route = Route { protocol: header.protocol.into(), kind, link_scope, hops, group };
    Some((RouteKey { prefix, metric }, route))
}

fn read_next_hop(path: &RouteNextHop) -> Option<Hop> {
    if path.flags.contains(RouteNextHopFlags::Dead) {
        return None;
    }
    let gateway = path.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(via) => via_ip(via),
        _ => None,
    });
    let onlink = path.flags.contains(RouteNextHopFlags::Onlink);
    Some(Hop { gateway, interface: path.interface_index, onlink })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn via_ip(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(ip) => Some((*ip).into()),
        RouteVia::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
