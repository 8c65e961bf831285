//! OPEN messages. Extended parameters (RFC 9072) are not compared: netgauze refuses them.

use std::net::Ipv4Addr;

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::capabilities::{
    AddPathCapability, BgpCapability, ExtendedNextHopEncodingCapability, GracefulRestartCapability,
};
use netgauze_bgp_pkt::open::BgpOpenMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use proptest::collection::vec;
use proptest::prelude::*;
use tortie_bgp::wire::{Capability, GracefulRestart, Open, frame};

const AS_TRANS: u16 = 23456;

use super::{bend, bends, parse, write};

fn theirs(message: &[u8]) -> Option<BgpOpenMessage> {
    match parse(message, &mut BgpParsingContext::default())? {
        BgpMessage::Open(open) => Some(open),
        _ => None,
    }
}

fn ours(message: &[u8]) -> Option<Open> {
    let (frame, _) = frame::split(message).ok()??;
    Open::decode(frame.body).ok()
}

/// In our words; `None` where it has a capability that we keep as octets only, or no one AS number: of two capabilities that give
/// one netgauze believes the last, we the first, and no standard says which.
fn in_our_words(open: &BgpOpenMessage) -> Option<Open> {
    let capabilities: Option<Vec<Capability>> = open.capabilities().into_iter().map(capability).collect();
    let is_asn = |c: &&Capability| matches!(c, Capability::FourOctetAs(_));
    let capabilities = capabilities.filter(|all| all.iter().filter(is_asn).count() < 2)?;
    let (hold_time, router_id) = (open.hold_time(), open.bgp_id());
    Some(Open { asn: open.my_asn4(), hold_time, router_id, capabilities })
}

fn capability(capability: &BgpCapability) -> Option<Capability> {
    Some(match capability {
        BgpCapability::MultiProtocolExtensions(one) => {
            let family = one.address_type();
            Capability::Multiprotocol(
                family.address_family().into(),
                family.subsequent_address_family().into(),
            )
        }
        BgpCapability::RouteRefresh => Capability::RouteRefresh,
        BgpCapability::EnhancedRouteRefresh => Capability::EnhancedRefresh,
        BgpCapability::ExtendedMessage => Capability::ExtendedMessage,
        // By its code: the names netgauze gives to 1, 2 and 3 are not those of RFC 9234 4.1.
        BgpCapability::BgpRole(role) => Capability::Role(role.role() as u8),
        BgpCapability::FourOctetAs(asn) => Capability::FourOctetAs(asn.asn4()),
        BgpCapability::GracefulRestartCapability(one) => Capability::GracefulRestart(graceful_restart(one)),
        BgpCapability::AddPath(one) => Capability::AddPath(add_path(one)),
        BgpCapability::ExtendedNextHopEncoding(one) => Capability::ExtendedNextHop(next_hops(one)),
        BgpCapability::Experimental(one) => {
            Capability::Unknown { code: one.code() as u8, value: one.value().to_vec() }
        }
        BgpCapability::Unrecognized(one) => {
            Capability::Unknown { code: *one.code(), value: one.value().to_vec() }
        }
        _ => return None,
    })
}

fn graceful_restart(theirs: &GracefulRestartCapability) -> GracefulRestart {
    let families = theirs.address_families().iter().map(|one| {
        let kind = one.address_type();
        let (afi, safi) = (kind.address_family(), kind.subsequent_address_family());
        (afi.into(), safi.into(), one.forwarding_state())
    });
    GracefulRestart {
        restarting: theirs.restart(),
        notification: theirs.graceful_notification(),
        time: theirs.time(),
        families: families.collect(),
    }
}

fn add_path(theirs: &AddPathCapability) -> Vec<(u16, u8, u8)> {
    let families = theirs.address_families().iter().map(|one| {
        let kind = one.address_type();
        let (afi, safi) = (kind.address_family(), kind.subsequent_address_family());
        (afi.into(), safi.into(), u8::from(one.receive()) | u8::from(one.send()) << 1)
    });
    families.collect()
}

fn next_hops(theirs: &ExtendedNextHopEncodingCapability) -> Vec<(u16, u8, u16)> {
    let families = theirs.encodings().iter().map(|one| {
        let kind = one.address_type();
        let (afi, safi) = (kind.address_family(), kind.subsequent_address_family());
        (afi.into(), safi.into(), one.next_hop_afi().into())
    });
    families.collect()
}

/// Capabilities that both know. Netgauze refuses an OPEN for a family, a role or an add-path mode it does not know, which RFC 5492 3
/// would have it ignore.
fn known() -> impl Strategy<Value = Capability> {
    let family =
        || prop::sample::select(vec![(1_u16, 1_u8), (1, 2), (1, 4), (1, 128), (2, 1), (2, 2), (2, 128)]);
    let graceful = (any::<bool>(), any::<bool>(), 0..4096_u16, vec((family(), any::<bool>()), 0..4))
        .prop_map(|(restarting, notification, time, families)| {
            let families = families.into_iter().map(|((afi, safi), forwarding)| (afi, safi, forwarding));
            let families = families.collect();
            Capability::GracefulRestart(GracefulRestart { restarting, notification, time, families })
        });
    let add_path = vec((family(), 0..4_u8), 0..4);
    let next_hops = vec((family(), 1..3_u16), 0..4);
    prop_oneof![
        family().prop_map(|(afi, safi)| Capability::Multiprotocol(afi, safi)),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRefresh),
        Just(Capability::ExtendedMessage),
        (0..5_u8).prop_map(Capability::Role),
        add_path.prop_map(|all| Capability::AddPath(all.into_iter().map(|((a, s), m)| (a, s, m)).collect())),
        next_hops.prop_map(|all| Capability::ExtendedNextHop(
            all.into_iter().map(|((a, s), n)| (a, s, n)).collect()
        )),
        graceful,
        (132..=255_u8, vec(any::<u8>(), 0..10)).prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

/// Netgauze also refuses what RFC 4271 6.2 does: short hold times, identifiers that are no addresses of hosts; we do that later.
fn open() -> impl Strategy<Value = Open> {
    let hold_time = prop_oneof![Just(0), 3..=u16::MAX];
    let router_id = (1..0xe000_0000_u32).prop_map(Ipv4Addr::from);
    let parts = (any::<u32>(), hold_time, router_id, vec(known(), 0..8), any::<bool>());
    parts.prop_map(|(asn, hold_time, router_id, mut capabilities, four_octet)| {
        if four_octet {
            capabilities.insert(capabilities.len() / 2, Capability::FourOctetAs(asn));
        }
        let asn = if four_octet { asn } else { asn & 0xffff };
        Open { asn, hold_time, router_id, capabilities }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_we_write_reads_as_it_was_meant(open in open()) {
        let read = theirs(&open.encode());
        let short = read.as_ref().map(BgpOpenMessage::my_as);
        prop_assert_eq!(short, Some(u16::try_from(open.asn).unwrap_or(AS_TRANS)));
        prop_assert_eq!(read.as_ref().and_then(in_our_words), Some(open));
    }

    #[test]
    fn what_they_write_reads_the_same(open in open()) {
        let read = theirs(&open.encode()).unwrap();
        prop_assert_eq!(ours(&write(&BgpMessage::Open(read))), Some(open));
    }

    #[test]
    fn what_is_bent_reads_the_same_if_it_reads_at_all(open in open(), bends in bends()) {
        let mut message = open.encode();
        bend(&mut message, bends);
        if let (Some(ours), Some(theirs)) = (ours(&message), theirs(&message).as_ref().and_then(in_our_words)) {
            prop_assert_eq!(ours, theirs);
        }
    }
}
