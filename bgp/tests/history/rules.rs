//! Who the peers are, and the settings that change while their sessions live.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network};
use tortie_bgp::config::{AddPath, NextHopMode, Role};
use tortie_bgp::family::Prefix;
use tortie_bgp::filter::{Change, Community, Filter, PeerType, PrefixMatch, Rule, Source, Verdict};
use tortie_bgp::table::OriginatedRoute;
use tortie_bgp::{PeerConfig, SpeakerConfig};

pub(crate) const OUR_AS: u32 = 64512;
/// What we call ourselves to some external peers.
pub(crate) const OTHER_AS: u32 = 64900;
/// Internal ones, one of them with add-path, then external ones, likewise.
pub(crate) const PEERS: usize = 5;
pub(crate) const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
pub(crate) const CLUSTER: Ipv4Addr = Ipv4Addr::new(5, 5, 5, 5);

/// By peer or for all, and by number where there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) export: [u8; PEERS],
    pub(crate) import: [u8; PEERS],
    pub(crate) client: [bool; PEERS],
    pub(crate) next_hop: [u8; PEERS],
    pub(crate) own_as: [u8; PEERS],
    pub(crate) other_as: [bool; PEERS],
    pub(crate) role: [u8; PEERS],
    pub(crate) policy: [bool; PEERS],
    pub(crate) cluster: bool,
    pub(crate) originated: u8,
}

/// Two external ones are of one AS.
pub(crate) fn asn(peer: usize) -> u32 {
    match peer {
        0 | 1 => OUR_AS,
        3 => 65003,
        _ => 65002,
    }
}

pub(crate) fn add_path(peer: usize) -> bool {
    peer == 1 || peer == 3
}

/// Ours is that of host 0.
pub(crate) fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001 + u32::try_from(host).unwrap())
}

pub(crate) fn id(peer: usize) -> SocketAddr {
    SocketAddr::new(address(peer + 1).into(), 179)
}

pub(crate) fn router_id(peer: usize) -> Ipv4Addr {
    Ipv4Addr::new(2, 2, 2, u8::try_from(peer).unwrap() + 1)
}

pub(crate) fn prefix(number: u32) -> Prefix {
    Prefix::new(Ipv4Addr::from(0x1400_0000 + number * 64).into(), 26).unwrap()
}

/// Of every 128 blocks 32.
fn quarter(number: u32) -> IpNetwork {
    Ipv4Network::new(Ipv4Addr::from(0x1400_0000 + number * 0x0800), 21).unwrap().into()
}

fn rule(reason: &str, verdict: Verdict, with: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule::new(reason, verdict);
    with(&mut rule);
    rule
}

/// Filters by number; 0 accepts everything, 8 has no rules.
pub(crate) const FILTERS: u8 = 16;

fn filter(number: u8) -> Filter {
    let mut all = Vec::new();
    if number & 1 != 0 {
        all.push(rule("refused", Verdict::Reject, |rule| rule.prefix = Some(PrefixMatch::In(quarter(0)))));
    }
    if number & 2 != 0 {
        all.push(rule("changed", Verdict::Continue, |rule| rule.set = vec![Change::Med(77)]));
    }
    if number & 4 != 0 {
        all.push(rule("refused, too", Verdict::Reject, |rule| {
            rule.prefix = Some(PrefixMatch::In(quarter(1)))
        }));
    }
    if number & 8 != 0 && number != 8 {
        all.extend(others());
    }
    if ![7, 8].contains(&number) {
        all.push(Rule::new("everything", Verdict::Accept));
    }
    Filter::new(all)
}

/// Rules that look at something else than the prefix, and other changes.
fn others() -> [Rule; 5] {
    [
        rule("marked", Verdict::Reject, |rule| rule.community = Some(Community::Standard(0x1_0001))),
        rule("relayed to others", Verdict::Continue, |rule| {
            (rule.source, rule.peer_type) = (Some(Source::Learned), Some(PeerType::External));
            rule.set = vec![Change::Prepend(vec![64801, 64802]), Change::AddLargeCommunity([1, 2, 3])];
        }),
        rule("those of one AS", Verdict::Continue, |rule| {
            rule.as_path_prefix = vec![asn(2)];
            rule.set = vec![Change::AddCommunity(7), Change::LocalPref(120)];
        }),
        rule("all but a few", Verdict::Accept, |rule| {
            (rule.prefix, rule.lengths) = (Some(PrefixMatch::NotIn(quarter(0))), Some((26, 32)));
            rule.set = vec![Change::AddCommunity(0xffff_ff01)];
        }),
        rule("one", Verdict::Reject, |rule| rule.prefix = Some(PrefixMatch::Equal(prefix(3).network()))),
    ]
}

impl Rules {
    pub(crate) fn config(&self) -> SpeakerConfig {
        let peers = (0..PEERS).map(|peer| (id(peer), self.peer(peer))).collect();
        let cluster_id = self.cluster.then_some(CLUSTER);
        SpeakerConfig { router_id: ROUTER_ID, local_as: OUR_AS, listen: vec![], cluster_id, peers }
    }

    fn peer(&self, peer: usize) -> PeerConfig {
        let internal = asn(peer) == OUR_AS;
        let mut config = PeerConfig::new(format!("Peer_{peer}"), asn(peer));
        (config.passive, config.hold_time) = (true, Duration::ZERO);
        config.local_address = Some(IpAddr::V4(address(0)));
        config.add_path = AddPath { send: add_path(peer), receive: add_path(peer) };
        config.extended_messages = false;
        config.export = filter(self.export[peer]);
        config.import = filter(self.import[peer]);
        config.reflector_client = self.client[peer] && internal;
        config.next_hop = match self.next_hop[peer] {
            1 => NextHopMode::OwnAddress,
            2 => NextHopMode::Keep,
            _ => NextHopMode::Auto,
        };
        config.allow_own_as = self.own_as[peer].into();
        config.local_as = (self.other_as[peer] && !internal).then_some(OTHER_AS);
        let roles = [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];
        config.role = usize::from(self.role[peer]).checked_sub(1).map(|role| roles[role]);
        config.require_policy = self.policy[peer];
        config
    }

    pub(crate) fn originated(&self) -> BTreeMap<IpNetwork, OriginatedRoute> {
        let wanted = |number: &u32| self.originated >> (number % 8) & 1 != 0;
        let route = |number| (prefix(number).network(), OriginatedRoute { local_pref: 100 + number % 2 });
        (0..16).filter(wanted).map(route).collect()
    }
}
