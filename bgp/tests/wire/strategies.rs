//! Random messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::wire::{Capability, GracefulRestart, Open, PathAttributes};

pub(crate) fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

/// No multicast, which is ignored on purpose.
pub(crate) fn prefix(family: Family) -> impl Strategy<Value = Prefix> {
    let address = any::<[u8; 16]>().prop_map(move |mut octets| match family {
        Family::Ipv4 => IpAddr::from([octets[0] % 224, octets[1], octets[2], octets[3]]),
        Family::Ipv6 => {
            octets[0] %= 0xff;
            IpAddr::from(octets)
        }
    });
    (address, 4..=family.bits()).prop_map(|(address, length)| Prefix::new(address, length).unwrap())
}

fn next_hop(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::Ipv4 => (1..224_u8, any::<[u8; 3]>())
            .prop_map(|(first, rest)| IpAddr::from([first, rest[0], rest[1], rest[2]]))
            .boxed(),
        Family::Ipv6 => any::<u64>()
            .prop_map(|low| IpAddr::from(Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(low))))
            .boxed(),
    }
}

/// A well-formed path of sequences, with a set at the end now and then.
pub(crate) fn as_path() -> impl Strategy<Value = Vec<u8>> {
    let asn = prop_oneof![1..65535_u32, 65536..=u32::MAX];
    (vec(vec(asn.clone(), 1..6), 0..3), option::of(vec(asn, 1..4))).prop_map(|(sequences, set)| {
        let segments = sequences.into_iter().map(|s| (2_u8, s)).chain(set.map(|s| (1_u8, s)));
        let mut path = Vec::new();
        for (kind, numbers) in segments {
            path.extend([kind, u8::try_from(numbers.len()).unwrap()]);
            numbers.iter().for_each(|number| path.extend(number.to_be_bytes()));
        }
        path
    })
}

fn words(unit: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..6 * unit).prop_map(move |mut octets| {
        octets.truncate(octets.len() / unit * unit);
        octets
    })
}

/// Attributes as they may stand on an internal session.
pub(crate) fn attributes(family: Family) -> impl Strategy<Value = PathAttributes<'static>> {
    let scalars = (0..3_u8, option::of(any::<u32>()), option::of(any::<u32>()), any::<bool>());
    let ids = (option::of((1..=u32::MAX, any::<u32>())), option::of(any::<u32>()), option::of(any::<u32>()));
    let lists = (words(4), words(4), words(8), words(12), vec((100..200_u8, vec(any::<u8>(), 0..300)), 0..3));
    (next_hop(family), as_path(), scalars, ids, lists).prop_map(|(next_hop, as_path, scalars, ids, lists)| {
        let (origin, med, local_pref, atomic_aggregate) = scalars;
        let mut unknown = Vec::new();
        let mut codes = Vec::new();
        for (code, value) in lists.4 {
            if !codes.contains(&code) {
                codes.push(code);
                tortie_bgp::wire::attribute::push(&mut unknown, 0xe0, code, &value);
            }
        }
        PathAttributes {
            next_hop,
            origin,
            as_path: as_path.into(),
            med,
            local_pref,
            atomic_aggregate,
            aggregator: ids.0.map(|(asn, id)| (asn, Ipv4Addr::from(id))),
            communities: lists.0.into(),
            originator_id: ids.1.map(Ipv4Addr::from),
            cluster_list: lists.1.into(),
            extended_communities: lists.2.into(),
            large_communities: lists.3.into(),
            only_to_customer: ids.2,
            unknown: unknown.into(),
        }
    })
}

fn capability() -> impl Strategy<Value = Capability> {
    let families = vec((any::<u16>(), any::<u8>(), any::<bool>()), 0..4);
    let graceful = (any::<bool>(), any::<bool>(), 0..4096_u16, families).prop_map(
        |(restarting, notification, time, families)| {
            Capability::GracefulRestart(GracefulRestart { restarting, notification, time, families })
        },
    );
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Capability::Multiprotocol(afi, safi)),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRefresh),
        Just(Capability::ExtendedMessage),
        any::<u8>().prop_map(Capability::Role),
        vec((any::<u16>(), any::<u8>(), any::<u16>()), 0..4).prop_map(Capability::ExtendedNextHop),
        vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..4).prop_map(Capability::AddPath),
        graceful,
        (128..=255_u8, vec(any::<u8>(), 0..10)).prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

pub(crate) fn open() -> impl Strategy<Value = Open> {
    (any::<u32>(), any::<u16>(), any::<u32>(), vec(capability(), 0..8), any::<bool>()).prop_map(
        |(asn, hold_time, id, mut capabilities, four_octet)| {
            if four_octet {
                capabilities.push(Capability::FourOctetAs(asn));
            }
            let asn = if four_octet { asn } else { asn & 0xffff };
            Open { asn, hold_time, router_id: Ipv4Addr::from(id), capabilities }
        },
    )
}
