//! Nexthop objects. The message library knows none, so theirs are written and read here: `struct nhmsg` (family, scope,
//! protocol, reserved, flags of 32 bits) and attributes, as in `linux/nexthop.h`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{never, refused, unless};
use crate::kernel::linux::Linux;
use crate::kernel::socket::{Message, NLM_F_CREATE, NLM_F_REPLACE, Request, attributes, push_attribute};
use crate::kernel::{Hop, KernelError, Nexthop, NexthopChange, NexthopObject, Nexthops};

pub(in crate::kernel) const RTM_NEWNEXTHOP: u16 = 104;
pub(in crate::kernel) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_FDB: u16 = 11;
/// Members are used alike, by flow.
const GROUP_TYPE_MULTIPATH: u16 = 0;
const RTNH_F_ONLINK: u32 = 4;
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Length of `struct nhmsg`.
const HEADER: usize = 8;
/// Length of `struct nexthop_grp`: number, weight less one in two parts, reserved.
const MEMBER: usize = 8;

impl Nexthops for Linux {
    fn nexthops(&mut self) -> Result<Option<BTreeMap<u32, NexthopObject>>, KernelError> {
        let get = Request { kind: RTM_GETNEXTHOP, flags: 0, body: vec![0; HEADER] };
        let found = self
            .route
            .dump(&get, |message| (message.kind == RTM_NEWNEXTHOP).then(|| read_nexthop(message)).flatten());
        match found.map_err(|refusal| refused("read the nexthop objects", refusal)) {
            Ok(found) => Ok(Some(found.into_iter().collect())),
            Err(error) if error.unsupported() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn change_nexthops(&mut self, changes: &[NexthopChange]) -> Vec<Result<(), KernelError>> {
        let requests: Vec<Request> = changes.iter().map(change_request).collect();
        let answers = self.route.batch(&requests);
        let named = changes.iter().zip(answers).map(|(change, answer)| match change {
            NexthopChange::Set(id, _) => unless(answer, never, || format!("set nexthop object {id}")),
            NexthopChange::Remove(id) => {
                unless(answer, KernelError::is_gone, || format!("remove nexthop object {id}"))
            }
        });
        named.collect()
    }
}

fn change_request(change: &NexthopChange) -> Request {
    match change {
        NexthopChange::Set(id, object) => {
            let mut body = header(&object.nexthop, object.protocol);
            push_attribute(&mut body, NHA_ID, &id.to_ne_bytes());
            push_nexthop(&mut body, &object.nexthop);
            Request { kind: RTM_NEWNEXTHOP, flags: NLM_F_CREATE | NLM_F_REPLACE, body }
        }
        NexthopChange::Remove(id) => {
            let mut body = vec![0; HEADER];
            push_attribute(&mut body, NHA_ID, &id.to_ne_bytes());
            Request { kind: RTM_DELNEXTHOP, flags: 0, body }
        }
    }
}

fn header(nexthop: &Nexthop, protocol: u8) -> Vec<u8> {
    let (family, flags) = match nexthop {
        Nexthop::Hop(hop) => {
            let family =
                if hop.gateway.is_some_and(|gateway| gateway.is_ipv6()) { AF_INET6 } else { AF_INET };
            (family, if hop.onlink { RTNH_F_ONLINK } else { 0 })
        }
        Nexthop::Group(_) | Nexthop::Other => (AF_UNSPEC, 0),
    };
    let mut body = vec![family, 0, protocol, 0];
    body.extend_from_slice(&flags.to_ne_bytes());
    body
}

fn push_nexthop(body: &mut Vec<u8>, nexthop: &Nexthop) {
    match nexthop {
        Nexthop::Hop(hop) => {
            push_attribute(body, NHA_OIF, &hop.interface.to_ne_bytes());
            match hop.gateway {
                Some(IpAddr::V4(gateway)) => push_attribute(body, NHA_GATEWAY, &gateway.octets()),
                Some(IpAddr::V6(gateway)) => push_attribute(body, NHA_GATEWAY, &gateway.octets()),
                None => {}
            }
        }
        Nexthop::Group(members) => {
            let mut value = Vec::with_capacity(members.len() * MEMBER);
            for member in members {
                value.extend_from_slice(&member.to_ne_bytes());
                value.extend_from_slice(&[0; 4]);
            }
            push_attribute(body, NHA_GROUP, &value);
        }
        Nexthop::Other => {}
    }
}

fn read_nexthop(message: &Message<'_>) -> Option<(u32, NexthopObject)> {
    let &[family, _, protocol, _, f0, f1, f2, f3, ..] = message.body else { return None };
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let (mut id, mut interface, mut gateway, mut group, mut other) = (None, None, None, None, false);
    for (kind, value) in attributes(message.body.get(HEADER..)?) {
        match kind {
            NHA_ID => id = number(value),
            NHA_OIF => interface = number(value),
            NHA_GATEWAY => gateway = address(family, value),
            NHA_GROUP => group = Some(read_members(value)),
            NHA_GROUP_TYPE => other |= value != GROUP_TYPE_MULTIPATH.to_ne_bytes(),
            NHA_BLACKHOLE | NHA_ENCAP_TYPE | NHA_FDB => other = true,
            _ => {}
        }
    }
    let nexthop = match (group, interface) {
        _ if other => Nexthop::Other,
        (Some(members), _) => members.map_or(Nexthop::Other, Nexthop::Group),
        (None, Some(interface)) => {
            Nexthop::Hop(Hop { gateway, interface, onlink: flags & RTNH_F_ONLINK != 0 })
        }
        (None, None) => Nexthop::Other,
    };
    Some((id?, NexthopObject { protocol, nexthop }))
}

/// `None` when they are not used alike.
fn read_members(value: &[u8]) -> Option<Vec<u32>> {
    let mut members = Vec::with_capacity(value.len() / MEMBER);
    for member in value.chunks_exact(MEMBER) {
        if member.get(4..6) != Some(&[0, 0]) {
            return None;
        }
        members.push(number(member.get(..4)?)?);
    }
    members.sort_unstable();
    Some(members)
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn address(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into()),
        AF_INET6 => <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}
