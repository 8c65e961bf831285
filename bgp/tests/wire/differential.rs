//! The same messages read by an independent implementation, netgauze-bgp-pkt: what we write it reads as we meant it, what it
//! writes we read the same, and of messages bent at random in which we find no fault it reads the same routes.

#![allow(clippy::wildcard_enum_match_arm, reason = "most of what netgauze knows does not concern us")]

use std::collections::HashMap;
use std::net::IpAddr;

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{AsPath, MpReach, MpUnreach, PathAttributeValue};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::collection::vec;
use proptest::prelude::*;
use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::update::{Encoded, Layout, RawUpdate};
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Context, PathAttributes, frame};

use super::strategies;

/// What a message says of routes, as both can tell it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Routes {
    withdrawn: Vec<Prefix>,
    announced: Vec<Prefix>,
    next_hop: Option<IpAddr>,
    path: Vec<u32>,
    med: Option<u32>,
    local_pref: Option<u32>,
}

fn theirs(message: &[u8]) -> Option<BgpUpdateMessage> {
    let mut context = BgpParsingContext::new(true, HashMap::new(), HashMap::new(), true, true, true, true);
    match BgpMessage::parse(&mut SliceReader::new(message), &mut context).ok()? {
        BgpMessage::Update(update) => Some(update),
        _ => None,
    }
}

fn prefix(address: impl Into<IpAddr>, length: u8) -> Prefix {
    Prefix::new(address.into(), length).unwrap()
}

fn read_theirs(update: &BgpUpdateMessage) -> Routes {
    let mut routes = Routes::default();
    let v4 = |nlri: &netgauze_bgp_pkt::nlri::Ipv4UnicastAddress| {
        let network = nlri.network().address();
        prefix(network.addr(), network.prefix_len())
    };
    let v6 = |nlri: &netgauze_bgp_pkt::nlri::Ipv6UnicastAddress| {
        let network = nlri.network().address();
        prefix(network.addr(), network.prefix_len())
    };
    routes.withdrawn.extend(update.withdraw_routes().iter().map(v4));
    routes.announced.extend(update.nlri().iter().map(v4));
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::NextHop(next_hop) => routes.next_hop = Some(next_hop.next_hop().into()),
            PathAttributeValue::MultiExitDiscriminator(med) => routes.med = Some(med.metric()),
            PathAttributeValue::LocalPreference(preference) => routes.local_pref = Some(preference.metric()),
            PathAttributeValue::AsPath(AsPath::As4PathSegments(segments)) => {
                routes.path = segments.iter().flat_map(|s| s.as_numbers().iter().copied()).collect();
            }
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast { next_hop_global, nlri, .. }) => {
                routes.next_hop = Some((*next_hop_global).into());
                routes.announced.extend(nlri.iter().map(v6));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                routes.withdrawn.extend(nlri.iter().map(v6));
            }
            _ => {}
        }
    }
    if routes.announced.is_empty() {
        // Attributes of nothing say nothing.
        return Routes { withdrawn: routes.withdrawn, ..Routes::default() };
    }
    routes
}

/// `None` when we find a fault.
fn read_ours(message: &[u8]) -> Option<Routes> {
    let context = Context::plain(true, true, &[Family::Ipv4, Family::Ipv6]);
    let (frame, _) = frame::split(message).ok()??;
    let update = judge(RawUpdate::decode(frame.body).ok()?, context).ok()?;
    if !update.faults.is_empty() || update.also.is_some() {
        return None;
    }
    let all = |nlri: Vec<Nlri>| nlri.into_iter().map(|nlri| nlri.prefix).collect();
    let mut routes =
        Routes { withdrawn: all(update.withdrawn), announced: all(update.announced), ..Routes::default() };
    if let Some(attributes) = update.attributes {
        let (mut rest, mut path) = (&*attributes.as_path, Vec::new());
        while let [_, count, numbers @ ..] = rest {
            let (numbers, more) = numbers.split_at(usize::from(*count) * 4);
            path.extend(numbers.chunks_exact(4).map(|n| u32::from_be_bytes([n[0], n[1], n[2], n[3]])));
            rest = more;
        }
        routes.path = path;
        routes.next_hop = Some(attributes.next_hop);
        routes.med = attributes.med;
        routes.local_pref = attributes.local_pref;
    }
    Some(routes)
}

/// Attributes of which both have the same notion: extended communities of unknown types, attributes without a meaning and
/// identifiers that netgauze wants to be addresses are left out.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let parts = strategies::family().prop_flat_map(|f| {
        (strategies::attributes(f), vec(strategies::prefix(f), 1..60), vec(strategies::prefix(f), 0..60))
    });
    parts.prop_map(|(attributes, announced, withdrawn)| {
        let attributes = PathAttributes {
            extended_communities: (&[]).into(),
            unknown: (&[]).into(),
            only_to_customer: None,
            ..attributes
        };
        let layout = Layout::plain(announced[0].family());
        let (mut head, mut tail, mut out) = (vec![], vec![], vec![]);
        attributes.encode_head(&mut head);
        attributes.encode_tail(&mut tail);
        let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
        let nlri = |all: Vec<Prefix>| all.into_iter().map(Nlri::from).collect::<Vec<Nlri>>();
        if withdrawn.len() % 3 == 1 {
            layout.withdraw(&mut out, nlri(withdrawn).iter());
        } else {
            assert!(layout.announce(&mut out, encoded, nlri(announced).iter()));
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_we_write_reads_the_same(message in message()) {
        let read = theirs(&message).map(|update| read_theirs(&update));
        prop_assert!(read.is_some());
        prop_assert_eq!(read, read_ours(&message));
    }

    #[test]
    fn what_they_write_reads_the_same(message in message()) {
        let update = theirs(&message).unwrap();
        let mut written = Vec::new();
        BgpMessage::Update(update.clone()).write(&mut written).unwrap();
        prop_assert_eq!(read_ours(&written), Some(read_theirs(&update)));
    }

    /// Where they find a fault and we do not, it is for them to say; where both find none they agree.
    #[test]
    fn what_is_bent_reads_the_same_if_it_reads_at_all(
        mut message in message(),
        bends in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, octet) in bends {
            let at = 19 + at.index(message.len() - 19);
            message[at] = octet;
        }
        if let (Some(ours), Some(theirs)) = (read_ours(&message), theirs(&message)) {
            prop_assert_eq!(ours, read_theirs(&theirs));
        }
    }
}
