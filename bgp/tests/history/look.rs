//! What announced routes look like: small numbers, each of which chooses one of a few values that matter to some rule.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use crate::route::{Route, SEQUENCE, SET};
use crate::rules::{CLUSTER, OTHER_AS, OUR_AS, PEERS, ROUTER_ID, address, asn, router_id};

/// A choice of each kind; 0 is what most routes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) next_hop: u8,
    pub(crate) path: u8,
    pub(crate) med: u8,
    pub(crate) local_pref: u8,
    pub(crate) community: u8,
    /// What only reflectors write.
    pub(crate) reflected: u8,
    /// Any other attribute.
    pub(crate) other: u8,
    /// Each prefix has attributes of its own.
    pub(crate) unique: bool,
}

pub(crate) fn look() -> impl Strategy<Value = Look> {
    let choice = |most: u8| prop_oneof![2 => Just(0), 3 => 0..most];
    let rare = |most: u8| prop_oneof![5 => Just(0), 2 => 0..most];
    let all = (rare(8), choice(10), choice(4), choice(4), rare(6), rare(6), rare(9), any::<bool>());
    all.prop_map(|(next_hop, path, med, local_pref, community, reflected, other, unique)| Look {
        next_hop,
        path,
        med,
        local_pref,
        community,
        reflected,
        other,
        unique,
    })
}

impl Look {
    /// The route a peer announces of a block.
    pub(crate) fn route(self, peer: usize, number: u32) -> Route {
        let internal = asn(peer) == OUR_AS;
        let mut route = Route::new(self.next_hop(peer));
        route.path = self.path(peer);
        route.med = [None, Some(0), Some(10), Some(20)][usize::from(self.med)];
        route.local_pref = [Some(100), Some(101), Some(99), None][usize::from(self.local_pref)];
        let known =
            [&[][..], &[NO_EXPORT], &[NO_ADVERTISE], &[NO_EXPORT_SUBCONFED], &[0x1_0001], &[7, NO_EXPORT]];
        route.communities = known[usize::from(self.community)].to_vec();
        if self.unique {
            route.communities.push(0xfde8_0000 + number);
        }
        self.other(&mut route);
        if internal {
            self.reflected(&mut route);
        } else {
            route.local_pref = None;
        }
        route
    }

    fn next_hop(self, peer: usize) -> Ipv4Addr {
        match self.next_hop {
            // Another peer, which is not told then if it stays so.
            1..=4 => address((peer + usize::from(self.next_hop)) % PEERS + 1),
            5 => Ipv4Addr::new(10, 9, 9, 9),
            // Ours.
            6 => address(0),
            _ => address(peer + 1),
        }
    }

    fn path(self, peer: usize) -> Vec<(u8, Vec<u32>)> {
        let first = match asn(peer) {
            OUR_AS if self.path == 9 => asn(2),
            OUR_AS => 65100,
            external => external,
        };
        let sequence = |numbers: &[u32]| vec![(SEQUENCE, numbers.to_vec())];
        match self.path {
            0 if asn(peer) == OUR_AS => vec![],
            2 => sequence(&[first, 64701]),
            3 => sequence(&[first, 70_000]),
            4 => sequence(&[first, OUR_AS]),
            5 => sequence(&[first, OUR_AS, OUR_AS]),
            6 => vec![(SEQUENCE, vec![first, 64701]), (SET, vec![64703, OUR_AS + 1])],
            7 => sequence(&[first, OTHER_AS]),
            8 => sequence(&[first, first]),
            _ => sequence(&[first]),
        }
    }

    fn other(self, route: &mut Route) {
        match self.other {
            1 => route.large = vec![[65000, 1, 2], [1, 2, 3]],
            // The second is not for other ASes (RFC 4360 6).
            2 => route.extended = vec![[0, 2, 0xfd, 0xe8, 0, 0, 0, 1], [0x40, 2, 0, 0, 0, 0, 0, 1]],
            3 => route.others.push((0xc0, 120, vec![1, 2, 3])),
            4 => route.others.push((0x80, 121, vec![4])),
            5 => route.only_to_customer = Some(asn(2)),
            6 => route.only_to_customer = Some(64999),
            7 => (route.atomic, route.aggregator) = (true, Some((70_001, Ipv4Addr::new(7, 7, 7, 7)))),
            8 => route.origin = 2,
            _ => {}
        }
    }

    fn reflected(self, route: &mut Route) {
        let other = Ipv4Addr::new(3, 3, 3, 3);
        match self.reflected {
            1 => route.originator = Some(ROUTER_ID),
            2 => route.originator = Some(Ipv4Addr::new(9, 9, 9, 9)),
            3 => (route.originator, route.clusters) = (Some(router_id(0)), vec![other]),
            4 => route.clusters = vec![other, CLUSTER],
            5 => {
                (route.originator, route.clusters) =
                    (Some(router_id(1)), vec![other, Ipv4Addr::new(4, 4, 4, 4)])
            }
            _ => {}
        }
    }
}

const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;
const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
