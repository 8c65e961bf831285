//! Permanent IPv4 neighbours.

use std::collections::BTreeMap;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{decode, never, refused, request, unless};
use crate::kernel::linux::Linux;
use crate::kernel::socket::{NLM_F_CREATE, NLM_F_REPLACE, Request};
use crate::kernel::{KernelError, NeighbourChange, NeighbourKey, Neighbours};

impl Neighbours for Linux {
    fn neighbours(&mut self) -> Result<BTreeMap<NeighbourKey, [u8; 6]>, KernelError> {
        let mut get = NeighbourMessage::default();
        get.header.family = AddressFamily::Inet;
        let get = request(&RouteNetlinkMessage::GetNeighbour(get), 0);
        let found = self.route.dump(&get, |message| match decode(message)? {
            RouteNetlinkMessage::NewNeighbour(neighbour) => read_neighbour(&neighbour),
            _ => None,
        });
        Ok(found.map_err(|refusal| refused("read the neighbours", refusal))?.into_iter().collect())
    }

    fn change_neighbours(&mut self, changes: &[NeighbourChange]) -> Vec<Result<(), KernelError>> {
        let requests: Vec<Request> = changes.iter().map(change_request).collect();
        let answers = self.route.batch(&requests);
        let named = changes.iter().zip(answers).map(|(change, answer)| match change {
            NeighbourChange::Set(key, _) => unless(answer, never, || {
                format!("set neighbour {} on interface {}", key.address, key.interface)
            }),
            NeighbourChange::Remove(key) => unless(answer, KernelError::is_gone, || {
                format!("remove neighbour {} from interface {}", key.address, key.interface)
            }),
        });
        named.collect()
    }
}

fn change_request(change: &NeighbourChange) -> Request {
    let (key, mac) = match change {
        NeighbourChange::Set(key, mac) => (key, Some(mac)),
        NeighbourChange::Remove(key) => (key, None),
    };
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = key.interface;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(key.address))];
    match mac {
        Some(mac) => {
            message.header.state = NeighbourState::Permanent;
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
            request(&RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
        }
        None => request(&RouteNetlinkMessage::DelNeighbour(message), 0),
    }
}

fn read_neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, [u8; 6])> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(*ip),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some((NeighbourKey { interface: message.header.ifindex, address: address? }, mac?))
}
