//! Rules one by one.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::*;
use crate::wire::as_path;

fn route() -> PathAttributes<'static> {
    PathAttributes::originated(IpAddr::from([10, 0, 0, 1]))
}

fn prefix(text: &str) -> Prefix {
    Prefix::from(text.parse::<IpNetwork>().unwrap())
}

fn rule(verdict: Verdict, set: Vec<Change>) -> Rule {
    Rule { set, ..Rule::new("test", verdict) }
}

fn judge(rules: Vec<Rule>, net: &str, attributes: &mut PathAttributes<'_>) -> Option<Verdict> {
    Filter::new(rules).judge(prefix(net), Source::Learned, PeerType::Internal, attributes)
}

#[test]
fn prefix_criteria() {
    let net: IpNetwork = "10.1.0.0/16".parse().unwrap();
    let cases = [
        ("10.1.0.0/16", [true, true, false, false]),
        ("10.1.2.0/24", [false, true, true, false]),
        ("10.0.0.0/8", [false, false, true, true]),
        ("10.2.0.0/16", [false, false, true, true]),
        ("fd00::/64", [false, false, false, false]),
    ];
    for (text, expected) in cases {
        let criteria = [
            PrefixMatch::Equal(net),
            PrefixMatch::In(net),
            PrefixMatch::NotEqual(net),
            PrefixMatch::NotIn(net),
        ];
        assert_eq!(criteria.map(|criterion| criterion.matches(prefix(text))), expected, "{text}");
    }
    let sloppy: IpNetwork = "10.1.7.7/16".parse().unwrap();
    assert!(PrefixMatch::Equal(sloppy).matches(prefix("10.1.0.0/16")), "host bits do not count");
}

#[test]
fn the_first_rule_that_decides_wins_and_continue_leaves_its_changes() {
    let mut attributes = route();
    let rules = vec![
        rule(Verdict::Continue, vec![Change::AddCommunity(7), Change::AddCommunity(7)]),
        Rule { source: Some(Source::Originated), ..rule(Verdict::Reject, vec![]) },
        Rule { peer_type: Some(PeerType::External), ..rule(Verdict::Reject, vec![]) },
        Rule {
            prefix: Some(PrefixMatch::In("10.0.0.0/8".parse().unwrap())),
            ..rule(Verdict::Accept, vec![Change::Med(5)])
        },
        rule(Verdict::Reject, vec![]),
    ];
    assert_eq!(judge(rules.clone(), "10.9.0.0/16", &mut attributes), Some(Verdict::Accept));
    assert_eq!((attributes.med, &*attributes.communities), (Some(5), &[0, 0, 0, 7][..]));
    assert_eq!(judge(rules, "11.0.0.0/16", &mut route()), Some(Verdict::Reject));
}

#[test]
fn a_filter_may_run_out() {
    assert_eq!(judge(vec![rule(Verdict::Continue, vec![])], "10.0.0.0/8", &mut route()), None);
}

#[test]
fn changes() {
    let mut attributes = route();
    let set = vec![
        Change::LocalPref(200),
        Change::AddLargeCommunity([1, 2, 3]),
        Change::AddLargeCommunity([1, 2, 3]),
        Change::AddCommunity(0xffff_ff01),
    ];
    judge(vec![rule(Verdict::Accept, set)], "10.0.0.0/8", &mut attributes);
    assert_eq!(attributes.local_pref, Some(200));
    assert_eq!(*attributes.large_communities, [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    assert!(attributes.has_community(0xffff_ff01));
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn path(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().rev().fold(Vec::new(), |path, number| as_path::prepend(&path, *number))
}

/// Whether a rule with one criterion takes a route.
fn takes(rule: Rule, net: &str, change: impl FnOnce(&mut PathAttributes<'static>)) -> bool {
    let mut attributes = route();
    change(&mut attributes);
    judge(vec![rule], net, &mut attributes) == Some(Verdict::Accept)
}

#[test]
fn lengths_narrow_in_and_what_not_in_excludes() {
    let of = |criterion: fn(IpNetwork) -> PrefixMatch| Rule {
        prefix: Some(criterion(net("10.1.0.0/16"))),
        lengths: Some((20, 24)),
        ..rule(Verdict::Accept, vec![])
    };
    for (text, inside) in
        [("10.1.0.0/16", false), ("10.1.0.0/20", true), ("10.1.2.0/24", true), ("10.1.2.0/25", false)]
    {
        assert_eq!(takes(of(PrefixMatch::In), text, |_| ()), inside, "{text}");
        assert_eq!(takes(of(PrefixMatch::NotIn), text, |_| ()), !inside, "{text}");
    }
    assert!(takes(of(PrefixMatch::NotIn), "10.2.0.0/22", |_| ()));
    assert!(!takes(of(PrefixMatch::In), "10.2.0.0/22", |_| ()));
}

#[test]
fn community_criteria() {
    let with = |community| Rule { community: Some(community), ..rule(Verdict::Accept, vec![]) };
    let standard = || with(Community::Standard(65000 << 16 | 100));
    let large = || with(Community::Large([1, 2, 3]));
    assert!(takes(standard(), "10.0.0.0/8", |a| a.add_community(65000 << 16 | 100)));
    assert!(!takes(standard(), "10.0.0.0/8", |a| a.add_community(65000 << 16 | 101)));
    assert!(takes(large(), "10.0.0.0/8", |a| {
        a.add_large_community([3, 2, 1]);
        a.add_large_community([1, 2, 3]);
    }));
    assert!(!takes(large(), "10.0.0.0/8", |a| a.add_large_community([2, 3, 1])));
}

#[test]
fn paths_are_compared_from_their_beginning() {
    let with = |numbers: &[u32]| Rule { as_path_prefix: numbers.to_vec(), ..rule(Verdict::Accept, vec![]) };
    let set = |mut path: Vec<u8>| {
        path.extend([1, 1, 0, 0, 0, 9]);
        path
    };
    let two_segments = [path(&[65000]), path(&[65001, 65002])].concat();
    for (route, wanted, matches) in [
        (path(&[65000, 65001]), &[65000][..], true),
        (path(&[65000, 65001]), &[65000, 65001], true),
        (path(&[65000, 65001]), &[65001], false),
        (path(&[65000]), &[65000, 65001], false),
        (path(&[]), &[65000], false),
        (two_segments, &[65000, 65001], true),
        (set(path(&[65000])), &[65000, 9], false),
        (set(Vec::new()), &[9], false),
    ] {
        assert_eq!(takes(with(wanted), "10.0.0.0/8", |a| a.as_path = route.into()), matches, "{wanted:?}");
    }
}

#[test]
fn preferences_are_compared_and_100_when_absent() {
    let with = |wanted| Rule { local_pref: Some(wanted), ..rule(Verdict::Accept, vec![]) };
    assert!(takes(with(LocalPref::Equal(100)), "10.0.0.0/8", |_| ()));
    assert!(takes(with(LocalPref::Equal(7)), "10.0.0.0/8", |a| a.local_pref = Some(7)));
    assert!(!takes(with(LocalPref::Above(7)), "10.0.0.0/8", |a| a.local_pref = Some(7)));
    assert!(takes(with(LocalPref::Above(7)), "10.0.0.0/8", |a| a.local_pref = Some(8)));
}

#[test]
fn interfaces_are_compared_with_stars_and_a_route_without_one_never_matches() {
    for (pattern, name, matches) in [
        ("*.cali", "wg.cali", true),
        ("*.cali", "wg.calico", false),
        ("bpf*.cali", "bpfout.cali", true),
        ("tunl0", "tunl0", true),
        ("tunl0", "tunl00", false),
        ("*", "eth0", true),
        ("e*h*0", "eth10", true),
        ("e*h*0", "eth1", false),
        ("**", "", true),
    ] {
        let pattern = Rule { interface: Some(pattern.into()), ..rule(Verdict::Accept, vec![]) };
        let context =
            |interface| Context { source: Source::Learned, peer_type: PeerType::Internal, interface };
        let filter = Filter::new(vec![pattern]);
        let verdict = filter.decide(prefix("10.0.0.0/8"), &context(Some(name)), &mut route()).verdict;
        assert_eq!(verdict.is_some(), matches, "{:?} {name}", filter.rules()[0].interface);
        assert_eq!(filter.decide(prefix("10.0.0.0/8"), &context(None), &mut route()).verdict, None);
    }
}

#[test]
fn prepended_numbers_stand_in_the_order_given() {
    let mut attributes = route();
    attributes.as_path = path(&[64999]).into();
    judge(
        vec![rule(Verdict::Accept, vec![Change::Prepend(vec![65000, 65001])])],
        "10.0.0.0/8",
        &mut attributes,
    );
    assert_eq!(*attributes.as_path, path(&[65000, 65001, 64999]));
}

#[test]
fn a_decision_names_its_rule() {
    let block = |reason: &str, verdict, criterion: fn(IpNetwork) -> PrefixMatch| Rule {
        prefix: Some(criterion(net("10.0.0.0/26"))),
        ..Rule::new(reason, verdict)
    };
    let filter = Filter::new(vec![
        Rule::new("marks everything", Verdict::Continue),
        block("own block 10.0.0.0/26", Verdict::Accept, PrefixMatch::Equal),
        block("inside own block 10.0.0.0/26", Verdict::Reject, PrefixMatch::In),
    ]);
    let context = Context { source: Source::Originated, peer_type: PeerType::External, interface: None };
    let decide = |text: &str| {
        let decision = filter.decide(prefix(text), &context, &mut route());
        (decision.verdict, decision.rule, decision.reason.to_owned())
    };
    assert_eq!(decide("10.0.0.0/26"), (Some(Verdict::Accept), Some(1), "own block 10.0.0.0/26".into()));
    assert_eq!(
        decide("10.0.0.1/32"),
        (Some(Verdict::Reject), Some(2), "inside own block 10.0.0.0/26".into())
    );
    assert_eq!(decide("10.0.0.0/25"), (None, None, "no rule decides".into()));
}

/// The rules as they are written, one after the other.
fn in_order(rules: &[Rule], prefix: Prefix, context: &Context<'_>) -> Option<usize> {
    let mut attributes = route();
    for (number, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.matches(prefix, context, &route()))
    {
        rule.set.iter().for_each(|change| change.apply(&mut attributes));
        if rule.verdict != Verdict::Continue {
            return Some(number);
        }
    }
    None
}

/// Networks close together, of both families, so that they nest and repeat.
fn network() -> impl Strategy<Value = IpNetwork> {
    let short = || prop_oneof![Just(0_u8), 6..=12_u8, 32..=32_u8];
    prop_oneof![
        (0_u32..16, short()).prop_map(|(bits, length)| {
            Prefix::new(IpAddr::V4((bits << 24 | bits).into()), length).unwrap().network()
        }),
        (0_u128..8, 4..=12_u8).prop_map(|(bits, length)| {
            Prefix::new(IpAddr::V6((bits << 116).into()), length).unwrap().network()
        }),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let criterion = (0..5_u8, network()).prop_map(|(kind, network)| match kind {
        0 => None,
        1 => Some(PrefixMatch::Equal(network)),
        2 => Some(PrefixMatch::In(network)),
        3 => Some(PrefixMatch::NotEqual(network)),
        _ => Some(PrefixMatch::NotIn(network)),
    });
    let verdict = prop_oneof![Just(Verdict::Accept), Just(Verdict::Reject), Just(Verdict::Continue)];
    let lengths = proptest::option::weighted(0.3, (4..9_u8, 8..12_u8));
    let source =
        proptest::option::weighted(0.5, prop_oneof![Just(Source::Originated), Just(Source::Learned)]);
    (criterion, verdict, lengths, source).prop_map(|(prefix, verdict, lengths, source)| Rule {
        prefix,
        lengths,
        source,
        ..Rule::new("any", verdict)
    })
}

proptest! {
    #[test]
    fn the_index_decides_as_a_walk_over_all_rules(
        rules in proptest::collection::vec(any_rule(), 0..12),
        prefixes in proptest::collection::vec(network(), 1..40),
    ) {
        let filter = Filter::new(rules.clone());
        let mut by_class = std::collections::BTreeMap::new();
        for prefix in prefixes.into_iter().map(Prefix::from) {
            for source in [Source::Originated, Source::Learned] {
                let context = Context { source, peer_type: PeerType::Internal, interface: None };
                let rule = filter.decide(prefix, &context, &mut route()).rule;
                prop_assert_eq!(rule, in_order(&rules, prefix, &context), "{}", prefix);
                // Whatever is known of one prefix of a class holds for all of them.
                let class = (filter.prefix_class(prefix), source == Source::Learned);
                let known = *by_class.entry(class).or_insert(rule);
                prop_assert_eq!(known, rule, "{} in class {:?}", prefix, class);
            }
        }
    }
}

#[test]
fn a_thousand_blocks_leave_a_prefix_few_rules() {
    let mut rules = Vec::new();
    for number in 0..1000_u32 {
        let block = Prefix::new(IpAddr::V4((10 << 24 | number << 6).into()), 26).unwrap().network();
        for (criterion, verdict) in
            [(PrefixMatch::Equal(block), Verdict::Accept), (PrefixMatch::In(block), Verdict::Reject)]
        {
            rules.push(Rule { prefix: Some(criterion), ..rule(verdict, vec![]) });
        }
    }
    let pool = PrefixMatch::In(net("10.0.0.0/8"));
    rules.push(Rule { prefix: Some(pool), ..rule(Verdict::Accept, vec![]) });
    let filter = Filter::new(rules);
    let candidates = |text: &str| filter.0.index.list(filter.0.index.find(prefix(text))).len();
    assert_eq!((candidates("10.0.0.0/26"), candidates("10.0.0.64/32")), (1, 1));
    assert_eq!((candidates("10.255.0.0/26"), candidates("11.0.0.0/8")), (1, 0));
    // All blocks of other nodes are one class.
    assert_eq!(filter.prefix_class(prefix("10.255.0.0/26")), filter.prefix_class(prefix("10.254.0.0/24")));
    assert_ne!(filter.prefix_class(prefix("10.0.0.0/26")), filter.prefix_class(prefix("10.0.0.64/26")));
}
