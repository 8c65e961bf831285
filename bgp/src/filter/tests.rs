//! Rules one by one.

use std::net::IpAddr;

use super::*;

fn route() -> PathAttributes<'static> {
    PathAttributes::originated(IpAddr::from([10, 0, 0, 1]))
}

fn prefix(text: &str) -> Prefix {
    Prefix::from(text.parse::<IpNetwork>().unwrap())
}

fn rule(verdict: Verdict, set: Vec<Change>) -> Rule {
    Rule { reason: "test".into(), prefix: None, source: None, peer_type: None, verdict, set }
}

fn judge(rules: Vec<Rule>, net: &str, attributes: &mut PathAttributes<'_>) -> Option<Verdict> {
    Filter { rules }.judge(prefix(net), Source::Learned, PeerType::Internal, attributes)
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
