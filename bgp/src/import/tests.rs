//! Loops and the import filter.

use std::net::IpAddr;

use super::*;
use crate::filter::{Change, Rule};

fn rules() -> ImportRules {
    ImportRules {
        local_as: 64512,
        allow_own_as: 0,
        router_id: Ipv4Addr::new(1, 1, 1, 1),
        cluster_id: Some(Ipv4Addr::new(9, 9, 9, 9)),
        peer_type: PeerType::Internal,
        role: None,
        closed: false,
        filter: Filter::default(),
    }
}

fn accepts(rules: &ImportRules, change: impl FnOnce(&mut PathAttributes<'static>)) -> bool {
    let mut attributes = PathAttributes::originated(IpAddr::from([10, 0, 0, 1]));
    change(&mut attributes);
    let prefix = Prefix::new([10, 0, 0, 0].into(), 8).unwrap();
    rules.decide(prefix, attributes).is_ok()
}

#[test]
fn everything_is_accepted_unless_it_loops_or_a_rule_rejects() {
    assert!(accepts(&rules(), |_| ()));
    let once = as_path::prepend(&[], 64512);
    let twice = as_path::prepend(&once, 64512);
    assert!(!accepts(&rules(), |a| a.as_path = once.clone().into()));
    let one_allowed = ImportRules { allow_own_as: 1, ..rules() };
    assert!(accepts(&one_allowed, |a| a.as_path = once.into()));
    assert!(!accepts(&one_allowed, |a| a.as_path = twice.into()));
    assert!(!accepts(&rules(), |a| a.originator_id = Some(Ipv4Addr::new(1, 1, 1, 1))));
    assert!(!accepts(&rules(), |a| a.cluster_list = vec![8, 8, 8, 8, 9, 9, 9, 9].into()));
    assert!(
        accepts(&ImportRules { cluster_id: None, ..rules() }, |a| a.cluster_list = vec![9, 9, 9, 9].into())
    );
    let reject = Rule { set: vec![Change::Med(1)], ..Rule::new("test", Verdict::Reject) };
    assert!(!accepts(&ImportRules { filter: Filter::new(vec![reject]), ..rules() }, |_| ()));
}

#[test]
fn what_is_rejected_has_a_reason() {
    let prefix = Prefix::new([10, 0, 0, 0].into(), 8).unwrap();
    let plain = || PathAttributes::originated(IpAddr::from([10, 0, 0, 1]));
    let path = as_path::prepend(&[], 64512);
    let looped = PathAttributes { as_path: path.into(), ..plain() };
    let own = PathAttributes { originator_id: Some(rules().router_id), ..plain() };
    let cluster = PathAttributes { cluster_list: vec![9, 9, 9, 9].into(), ..plain() };
    let leaked = PathAttributes { only_to_customer: Some(7), ..plain() };
    let provider = ImportRules { role: Some((Role::Provider, 5)), ..rules() };
    let filtered = ImportRules { filter: Filter::new(vec![Rule::new("no", Verdict::Reject)]), ..rules() };
    let cases = [
        (rules(), looped, Rejected::OwnAs { found: 1, allowed: 0 }),
        (rules(), own, Rejected::OwnOriginator),
        (rules(), cluster, Rejected::OwnCluster(Ipv4Addr::new(9, 9, 9, 9))),
        (ImportRules { closed: true, ..rules() }, plain(), Rejected::NoPolicy),
        (provider, leaked, Rejected::Leak(Leak::FromBelow { otc: 7 })),
        (filtered.clone(), plain(), Rejected::Filter(Some(0))),
    ];
    for (rules, attributes, reason) in cases {
        assert_eq!(rules.decide(prefix, attributes).map(|(_, rule)| rule), Err(reason));
    }
    assert_eq!(filtered.words(Rejected::Filter(Some(0))), "the import filter rejects it: no");
}
