//! What an UPDATE says of routes, as both can tell it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::nlri::{Ipv4UnicastAddress, Ipv6UnicastAddress};
use netgauze_bgp_pkt::path_attribute::{Aggregator, MpReach, MpUnreach, PathAttributeValue};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use tortie_bgp::family::Prefix;
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::update::RawUpdate;
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Capability, Context, Open, PathAttributes, Reading, frame};

use super::parse;
use super::path::{self, Path};

const AS_TRANS: u32 = 23456;
const AS4_AGGREGATOR: u8 = 18;

/// What was agreed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) four_octet: bool,
    pub(super) add_path: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Routes {
    withdrawn: Vec<Nlri>,
    announced: Vec<Nlri>,
    next_hop: Option<IpAddr>,
    origin: u8,
    path: Path,
    med: Option<u32>,
    local_pref: Option<u32>,
    atomic_aggregate: bool,
    aggregator: Option<(u32, Ipv4Addr)>,
    communities: Vec<u32>,
    originator_id: Option<Ipv4Addr>,
    clusters: Vec<Ipv4Addr>,
    large_communities: Vec<[u32; 3]>,
}

impl Session {
    /// Netgauze learns of add-path from the capability in an OPEN.
    fn context(self) -> BgpParsingContext {
        let new = |four_octet| {
            BgpParsingContext::new(four_octet, HashMap::new(), HashMap::new(), true, true, true, true)
        };
        let mut context = new(self.four_octet);
        if self.add_path {
            let capabilities = vec![Capability::AddPath(vec![(1, 1, 3), (2, 1, 3)])];
            let open = Open { asn: 1, hold_time: 0, router_id: Ipv4Addr::LOCALHOST, capabilities };
            let Some(BgpMessage::Open(open)) = parse(&open.encode(), &mut new(true)) else {
                panic!("an OPEN with add-path")
            };
            open.capabilities().into_iter().for_each(|one| context.update_capabilities(one, true));
        }
        context
    }

    pub(super) fn theirs(self, message: &[u8]) -> Option<BgpUpdateMessage> {
        match parse(message, &mut self.context())? {
            BgpMessage::Update(update) => Some(update),
            _ => None,
        }
    }

    /// `None` when we find a fault.
    pub(super) fn ours(self, message: &[u8]) -> Option<Routes> {
        let reading = Some(Reading { add_path: self.add_path, extended_next_hop: false });
        let context = Context { internal: true, four_octet: self.four_octet, ipv4: reading, ipv6: reading };
        let (frame, _) = frame::split(message).ok()??;
        let update = judge(RawUpdate::decode(frame.body).ok()?, context).ok()?;
        if !update.faults.is_empty() || update.also.is_some() {
            return None;
        }
        Some(match &update.attributes {
            Some(attributes) => {
                Routes { withdrawn: update.withdrawn, ..Routes::announced(attributes, update.announced) }
            }
            None => Routes::withdrawn(update.withdrawn),
        })
    }
}

fn nlri(address: impl Into<IpAddr>, length: u8, path_id: Option<u32>) -> Nlri {
    Nlri { prefix: Prefix::new(address.into(), length).unwrap(), path_id: path_id.unwrap_or(0) }
}

fn v4(one: &Ipv4UnicastAddress) -> Nlri {
    let network = one.network().address();
    nlri(network.addr(), network.prefix_len(), one.path_id())
}

fn v6(one: &Ipv6UnicastAddress) -> Nlri {
    let network = one.network().address();
    nlri(network.addr(), network.prefix_len(), one.path_id())
}

impl Routes {
    /// Nothing but withdrawals.
    pub(super) fn withdrawn(withdrawn: Vec<Nlri>) -> Routes {
        Routes { withdrawn, ..Routes::default() }
    }

    pub(super) fn announced(attributes: &PathAttributes<'_>, announced: Vec<Nlri>) -> Routes {
        let words = |octets: &[u8]| -> Vec<u32> {
            octets.chunks_exact(4).map(|w| u32::from_be_bytes(w.try_into().unwrap())).collect()
        };
        let large = words(&attributes.large_communities);
        Routes {
            withdrawn: vec![],
            announced,
            next_hop: Some(attributes.next_hop),
            origin: attributes.origin,
            path: path::ours(&attributes.as_path),
            med: attributes.med,
            local_pref: attributes.local_pref,
            atomic_aggregate: attributes.atomic_aggregate,
            aggregator: attributes.aggregator,
            communities: words(&attributes.communities),
            originator_id: attributes.originator_id,
            clusters: words(&attributes.cluster_list).into_iter().map(Ipv4Addr::from).collect(),
            large_communities: large.chunks_exact(3).map(|c| c.try_into().unwrap()).collect(),
        }
    }

    pub(super) fn of_theirs(update: &BgpUpdateMessage) -> Routes {
        let mut routes = Routes::default();
        routes.withdrawn.extend(update.withdraw_routes().iter().map(v4));
        routes.announced.extend(update.nlri().iter().map(v4));
        let (mut as4_path, mut as4_aggregator) = (None, None);
        for attribute in update.path_attributes() {
            match attribute.value() {
                PathAttributeValue::As4Path(path) => as4_path = Some(path::wide(path.segments())),
                // Not known to netgauze.
                PathAttributeValue::UnknownAttribute(one) if one.code() == AS4_AGGREGATOR => {
                    let word = |at: usize| u32::from_be_bytes(one.value()[at..at + 4].try_into().unwrap());
                    as4_aggregator = (one.value().len() == 8).then(|| (word(0), word(4).into()));
                }
                value => routes.read(value),
            }
        }
        // Multicast and what is reserved: we ignore it as netgauze does all multicast, it takes it as half unicast.
        let reserved = nlri(Ipv4Addr::new(224, 0, 0, 0), 3, None).prefix;
        routes.announced.retain(|nlri| nlri.prefix != reserved);
        if routes.announced.is_empty() {
            // Attributes of nothing say nothing.
            return Routes::withdrawn(routes.withdrawn);
        }
        // An AGGREGATOR with a number of its own was set by an old speaker after the AS4 attributes, which are void then (RFC 6793
        // 4.2.3).
        let is_void = as4_aggregator.is_some() && routes.aggregator.is_some_and(|(asn, _)| asn != AS_TRANS);
        if !is_void {
            routes.path = path::whole(routes.path, as4_path);
            routes.aggregator = as4_aggregator.or(routes.aggregator);
        }
        routes
    }

    fn read(&mut self, value: &PathAttributeValue) {
        match value {
            PathAttributeValue::NextHop(next_hop) => self.next_hop = Some(next_hop.next_hop().into()),
            PathAttributeValue::Origin(origin) => self.origin = *origin as u8,
            PathAttributeValue::AsPath(path) => self.path = path::theirs(path),
            PathAttributeValue::MultiExitDiscriminator(med) => self.med = Some(med.metric()),
            PathAttributeValue::LocalPreference(preference) => self.local_pref = Some(preference.metric()),
            PathAttributeValue::AtomicAggregate(_) => self.atomic_aggregate = true,
            PathAttributeValue::Aggregator(Aggregator::As4Aggregator(one)) => {
                self.aggregator = Some((*one.asn(), one.origin()));
            }
            PathAttributeValue::Aggregator(Aggregator::As2Aggregator(one)) => {
                self.aggregator = Some(((*one.asn()).into(), one.origin()));
            }
            PathAttributeValue::Communities(all) => {
                self.communities = all.communities().iter().map(|one| one.value()).collect();
            }
            PathAttributeValue::Originator(id) => self.originator_id = Some(id.id()),
            PathAttributeValue::ClusterList(all) => {
                self.clusters = all.cluster_list().iter().map(|one| one.id()).collect();
            }
            PathAttributeValue::LargeCommunities(all) => {
                let words = all.communities().iter();
                self.large_communities =
                    words.map(|c| [c.global_admin(), c.local_data1(), c.local_data2()]).collect();
            }
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast { next_hop_global, nlri, .. }) => {
                self.next_hop = Some((*next_hop_global).into());
                self.announced.extend(nlri.iter().map(v6));
            }
            PathAttributeValue::MpReach(MpReach::Ipv4Unicast { next_hop, nlri, .. }) => {
                self.next_hop = Some(*next_hop);
                self.announced.extend(nlri.iter().map(v4));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv4Unicast { nlri }) => {
                self.withdrawn.extend(nlri.iter().map(v4));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                self.withdrawn.extend(nlri.iter().map(v6));
            }
            _ => {}
        }
    }
}
