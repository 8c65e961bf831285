//! Who gets which route, and with which attributes.

use std::net::IpAddr;

use super::*;
use crate::family::Family;
use crate::filter::{Change, Rule};
use crate::wire::update::Layout;

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

fn rule(verdict: Verdict, set: Vec<Change>) -> Rule {
    Rule { set, ..Rule::new("test", verdict) }
}

fn rules(peer_type: PeerType) -> ExportRules {
    ExportRules {
        form: Form { layout: Layout::plain(Family::Ipv4), four_octet: true },
        peer_type,
        local_as: 64512,
        own_address: Some(OWN),
        extended_next_hop: false,
        next_hop: NextHopMode::Auto,
        client: false,
        cluster_id: None,
        role: None,
        closed: false,
        filter: Filter::new(vec![rule(Verdict::Accept, vec![])]),
    }
}

fn source(internal: bool, client: bool) -> Source {
    Source { internal, client, router_id: Ipv4Addr::new(7, 7, 7, 7), address: REMOTE }
}

fn attrs(change: impl FnOnce(&mut PathAttributes<'static>)) -> PathAttributes<'static> {
    let mut attributes = PathAttributes::originated(REMOTE);
    change(&mut attributes);
    attributes
}

fn net() -> Prefix {
    Prefix::new([172, 16, 0, 0].into(), 26).unwrap()
}

fn learned<'a>(
    rules: &ExportRules,
    attrs: &PathAttributes<'a>,
    source: Source,
) -> Option<PathAttributes<'a>> {
    rules.decide(net(), attrs.clone(), Some(source)).ok().map(|(attributes, _)| attributes)
}

#[test]
fn originated_routes() {
    let own = attrs(|a| a.local_pref = Some(2147482623));
    let inside = rules(PeerType::Internal).decide(net(), own.clone(), None).unwrap().0;
    assert_eq!((inside.next_hop, inside.local_pref, inside.med), (OWN, Some(2147482623), None));
    assert!(inside.as_path.is_empty());
    let outside = rules(PeerType::External).decide(net(), own.clone(), None).unwrap().0;
    assert_eq!((outside.next_hop, outside.local_pref, outside.med), (OWN, None, None));
    assert_eq!(*outside.as_path, as_path::prepend(&[], 64512));
    let keep = ExportRules { next_hop: NextHopMode::Keep, ..rules(PeerType::External) };
    assert_eq!(keep.decide(net(), own.clone(), None).unwrap().0.next_hop, OWN, "there is none to keep");
}

/// bgp-behaviour 6.1.
#[test]
fn next_hops_of_learned_routes() {
    use NextHopMode::{Auto, Keep, OwnAddress};
    let route = attrs(|_| ());
    for (peer_type, mode, expected) in [
        (PeerType::Internal, Auto, REMOTE),
        (PeerType::Internal, OwnAddress, OWN),
        (PeerType::Internal, Keep, REMOTE),
        (PeerType::External, Auto, OWN),
        (PeerType::External, OwnAddress, OWN),
        (PeerType::External, Keep, REMOTE),
    ] {
        let rules = ExportRules { next_hop: mode, ..rules(peer_type) };
        assert_eq!(learned(&rules, &route, source(false, false)).unwrap().next_hop, expected, "{rules:?}");
    }
}

#[test]
fn med_tells_the_owner_from_those_who_pass_a_route_on() {
    let route = attrs(|a| a.med = Some(50));
    let med = |rules: &ExportRules, internal| learned(rules, &route, source(internal, false)).unwrap().med;
    assert_eq!(med(&rules(PeerType::External), true), Some(1), "relayed");
    assert_eq!(med(&rules(PeerType::External), false), None, "a MED never crosses an AS");
    assert_eq!(med(&rules(PeerType::Internal), false), Some(50), "but stays inside one");
    let filter = Filter::new(vec![rule(Verdict::Accept, vec![Change::Med(9)])]);
    assert_eq!(
        med(&ExportRules { filter, ..rules(PeerType::External) }, true),
        Some(9),
        "a filter has the last word"
    );
}

#[test]
fn local_pref_is_for_internal_peers() {
    let route = attrs(|_| ());
    let pref = |peer_type| learned(&rules(peer_type), &route, source(false, false)).unwrap().local_pref;
    assert_eq!((pref(PeerType::Internal), pref(PeerType::External)), (Some(100), None));
}

#[test]
fn internal_routes_are_reflected_only() {
    let route = attrs(|_| ());
    let reflector = |client| ExportRules {
        cluster_id: Some(Ipv4Addr::new(9, 9, 9, 9)),
        client,
        ..rules(PeerType::Internal)
    };
    let passes =
        |rules: &ExportRules, from_client| learned(rules, &route, source(true, from_client)).is_some();
    assert!(!passes(&rules(PeerType::Internal), false), "no reflector");
    assert!(!passes(&rules(PeerType::Internal), true), "a client is one of a reflector");
    assert!(!passes(&reflector(false), false), "between ordinary peers");
    assert!(
        passes(&reflector(true), false) && passes(&reflector(false), true) && passes(&reflector(true), true)
    );
    assert!(
        learned(&rules(PeerType::Internal), &route, source(false, false)).is_some(),
        "external ones always"
    );

    let first = learned(&reflector(true), &route, source(true, true)).unwrap();
    assert_eq!(first.originator_id, Some(Ipv4Addr::new(7, 7, 7, 7)));
    assert_eq!(*first.cluster_list, [9, 9, 9, 9]);
    let reflected = attrs(|a| {
        a.originator_id = Some(Ipv4Addr::new(3, 3, 3, 3));
        a.cluster_list = vec![8, 8, 8, 8].into();
    });
    let second = learned(&reflector(true), &reflected, source(true, false)).unwrap();
    assert_eq!(second.originator_id, Some(Ipv4Addr::new(3, 3, 3, 3)), "stays");
    assert_eq!(*second.cluster_list, [9, 9, 9, 9, 8, 8, 8, 8]);
    assert_eq!(second.next_hop, REMOTE);
    let outside = ExportRules { cluster_id: Some(Ipv4Addr::new(9, 9, 9, 9)), ..rules(PeerType::External) };
    let outside = learned(&outside, &reflected, source(true, true)).unwrap();
    assert_eq!((outside.originator_id, outside.cluster_list.len()), (None, 0));
}

#[test]
fn well_known_communities() {
    for (community, internal, external) in [
        (0xffff_ff01, true, false),
        (0xffff_ff02, false, false),
        (0xffff_ff03, true, false),
        (0x0001_0001, true, true),
    ] {
        let route = attrs(|a| a.add_community(community));
        let passes = |peer_type| learned(&rules(peer_type), &route, source(false, false)).is_some();
        assert_eq!(
            (passes(PeerType::Internal), passes(PeerType::External)),
            (internal, external),
            "{community:x}"
        );
    }
    let route = attrs(|_| ());
    let filter = Filter::new(vec![rule(Verdict::Accept, vec![Change::AddCommunity(0xffff_ff01)])]);
    let added = ExportRules { filter, ..rules(PeerType::External) };
    let sent = learned(&added, &route, source(false, false)).unwrap();
    assert!(sent.has_community(0xffff_ff01), "one for the peer to obey");
}

#[test]
fn a_filter_that_runs_out_rejects() {
    let route = attrs(|_| ());
    for filter in [Filter::default(), Filter::new(vec![rule(Verdict::Continue, vec![])])] {
        let rules = ExportRules { filter, ..rules(PeerType::Internal) };
        assert!(learned(&rules, &route, source(false, false)).is_none());
    }
}

#[test]
fn non_transitive_extended_communities_stay_inside() {
    let route = attrs(|a| {
        a.extended_communities = [[0x40, 1, 0, 0, 0, 0, 0, 1], [0, 2, 0, 0, 0, 0, 0, 2]].concat().into()
    });
    let sent = |peer_type| learned(&rules(peer_type), &route, source(false, false)).unwrap();
    assert_eq!(sent(PeerType::Internal).extended_communities.len(), 16);
    assert_eq!(*sent(PeerType::External).extended_communities, [0, 2, 0, 0, 0, 0, 0, 2]);
}

/// Each reason, with a route and rules that have it and nothing else in the way.
#[test]
fn what_is_withheld_has_a_reason() {
    let inside = || rules(PeerType::Internal);
    let outside = || rules(PeerType::External);
    let reflector = || ExportRules { cluster_id: Some(Ipv4Addr::new(9, 9, 9, 9)), ..inside() };
    let empty = Filter::default();
    let rejecting = Filter::new(vec![rule(Verdict::Continue, vec![]), Rule::new("no", Verdict::Reject)]);
    let customer = ExportRules { role: Some(Role::Customer), ..outside() };
    let other_family = Form { layout: Layout::plain(Family::Ipv6), four_octet: true };
    let community = |value: u32| attrs(|a| a.communities = value.to_be_bytes().to_vec().into());
    let plain = || attrs(|_| ());
    let cases = [
        (inside(), community(NO_ADVERTISE), Withheld::Community("NO_ADVERTISE")),
        (outside(), community(NO_EXPORT), Withheld::Community("NO_EXPORT")),
        (inside(), plain(), Withheld::NotReflected),
        (reflector(), plain(), Withheld::NeitherClient),
        (customer, attrs(|a| a.only_to_customer = Some(1)), Withheld::Role(Role::Customer)),
        (ExportRules { closed: true, filter: empty.clone(), ..outside() }, plain(), Withheld::NoPolicy),
        (ExportRules { filter: empty, ..outside() }, plain(), Withheld::Filter(None)),
        (ExportRules { filter: rejecting, ..outside() }, plain(), Withheld::Filter(Some(1))),
        (ExportRules { own_address: None, ..outside() }, plain(), Withheld::NoNextHop(Family::Ipv4)),
        (
            ExportRules { form: other_family, next_hop: NextHopMode::Keep, ..outside() },
            plain(),
            Withheld::NextHopFamily(REMOTE),
        ),
    ];
    for (rules, attributes, reason) in cases {
        let decided = rules.decide(net(), attributes, Some(source(true, false)));
        assert_eq!(decided.map(|(_, rule)| rule), Err(reason), "{}", rules.words(reason));
    }
    let no = ExportRules { filter: Filter::new(vec![Rule::new("no", Verdict::Reject)]), ..outside() };
    assert_eq!(no.words(Withheld::Filter(Some(0))), "the export filter rejects it: no");
    assert_eq!(no.words(Withheld::Filter(None)), "the export filter rejects it: no rule decides");
}
