//! Changes from any rule-set to any other: in an order the kernel takes, nothing more than what differs, and the same in
//! the kernel as a load of the whole.

#![allow(clippy::unwrap_used, reason = "a test")]

mod build;
#[path = "../equivalence/generate.rs"]
#[allow(dead_code, unused_imports, reason = "packets are for the other test")]
mod generate;
mod kernel;

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tortie_policy::change::{Change, diff, from_nothing};
use tortie_policy::ir::{Action, Comment, Elements, Family, Match, Op, PortSet, Side, Verdict};
use tortie_policy::netlink::read::Held;
use tortie_policy::netlink::transaction::{Table, Transaction};
use tortie_policy::{Ruleset, compile};

use build::{Random, ruleset, touched};
use kernel::{Kernel, inside, listing, load_by_nft, nft};

fn any_ruleset() -> impl Strategy<Value = Ruleset> {
    prop_oneof![
        any::<u64>().prop_map(|seed| ruleset(&mut Random::new(seed))),
        generate::snapshot().prop_map(|snapshot| compile(&snapshot).ruleset),
    ]
}

/// Parts that are equal on both sides: kind and name.
fn equal_parts(old: &Ruleset, new: &Ruleset) -> BTreeSet<String> {
    let chains = old.chains.iter().filter(|(name, chain)| new.chains.get(*name) == Some(chain));
    let maps = old.maps.iter().filter(|(name, map)| new.maps.get(*name) == Some(map));
    let sets = old.sets.iter().filter(|(name, set)| new.sets.get(*name) == Some(set));
    let chains = chains.map(|(name, _)| format!("chain {name}"));
    let maps = maps.map(|(name, _)| format!("map {name}"));
    chains.chain(maps).chain(sets.map(|(name, _)| format!("set {name}"))).collect()
}

/// Names of objects that are removed and created.
fn made_anew(changes: &[Change]) -> bool {
    let of = |made: bool| -> BTreeSet<String> {
        let fits = |change: &&Change| {
            let creates =
                matches!(change, Change::CreateChain(..) | Change::CreateMap(..) | Change::CreateSet(..));
            let removes =
                matches!(change, Change::RemoveChain(_) | Change::RemoveMap(_) | Change::RemoveSet(_));
            if made { creates } else { removes }
        };
        changes.iter().filter(fits).map(ToString::to_string).collect()
    };
    !of(true).is_disjoint(&of(false))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_diff_leads_from_one_to_the_other(old in any_ruleset(), new in any_ruleset()) {
        for changes in [diff(&old, &new), from_nothing(&new)] {
            let mut made = old.clone();
            for change in &changes {
                made.apply(change).map_err(|refusal| TestCaseError::fail(format!("{refusal} in {changes:#?}")))?;
            }
            prop_assert_eq!(&made, &new);
        }
        prop_assert_eq!(diff(&new, &new), vec![]);
    }

    #[test]
    fn what_is_equal_is_not_mentioned(old in any_ruleset(), new in any_ruleset()) {
        let changes = diff(&old, &new);
        // Rules and rows that name what is made anew are written again.
        if made_anew(&changes) {
            return Ok(());
        }
        let equal = equal_parts(&old, &new);
        for change in &changes {
            let subject = change.to_string();
            let subject = subject.split(':').next().unwrap_or_default();
            prop_assert!(!equal.contains(subject), "{} is equal on both sides", subject);
        }
    }
}

proptest! {
    /// What we send reads like what the kernel dumps; and whatever a dump holds, reading it ends.
    #[test]
    fn dumps_are_read_and_may_hold_anything(
        wanted in any_ruleset(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let made = Transaction::new(&from_nothing(&wanted), Table::default(), 1);
        let found = read(made.bytes()).ruleset(&wanted);
        prop_assert_eq!(found.as_ref(), Some(&wanted));
        let mut damaged = made.bytes().to_vec();
        for (place, byte) in damage {
            // Not the lengths of messages: those are the socket's affair.
            let place = place.index(damaged.len());
            let in_header = messages(made.bytes()).any(|(at, _)| (at..at + 8).contains(&place));
            if !in_header {
                damaged[place] = byte;
            }
        }
        read(&damaged).ruleset(&wanted);
    }
}

/// Where each message begins, and how long it is.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
        at += length;
        Some((at - length, length))
    })
}

/// A transaction taken for a dump.
fn read(bytes: &[u8]) -> Held {
    let mut held = Held::default();
    for (at, length) in messages(bytes) {
        let body = &bytes[at + 16..at + length];
        match u16::from_ne_bytes([bytes[at + 4], bytes[at + 5]]) & 0xff {
            3 => held.chain(body),
            6 => held.rule(body),
            9 => held.set(body),
            12 => held.elements(body),
            _ => {}
        }
    }
    held
}

/// Rule-sets of both kinds, the same ones in each run: about one in a thousand has neighbouring conditions that nft itself
/// puts in another order.
fn some_rulesets(count: usize) -> Vec<Ruleset> {
    let mut runner = TestRunner::deterministic();
    let compiled =
        |runner: &mut TestRunner| compile(&generate::snapshot().new_tree(runner).unwrap().current()).ruleset;
    (0..count)
        .map(|n| if n % 4 == 3 { compiled(&mut runner) } else { ruleset(&mut Random::new(n as u64)) })
        .collect()
}

#[test]
fn the_kernel_holds_what_nft_would_have_loaded() {
    inside("the_kernel_holds_what_nft_would_have_loaded", || {
        let wanted = some_rulesets(120);
        let by_nft = |ruleset: &Ruleset| {
            load_by_nft(ruleset);
            listing()
        };
        let expected: Vec<_> = wanted.iter().map(by_nft).collect();
        let mut kernel = Kernel::open();
        kernel.exists = true;
        kernel.commit(&from_nothing(&Ruleset::empty())).unwrap();
        let mut last = &Ruleset::empty();
        for (number, (wanted, expected)) in wanted.iter().zip(&expected).enumerate() {
            let changes = diff(last, wanted);
            kernel.commit(&changes).unwrap_or_else(|refused| panic!("{number}: {refused:#?} {changes:#?}"));
            assert_eq!(&listing(), expected, "changed, {number}");
            assert_eq!(kernel.read(wanted).as_ref(), Some(wanted), "read back, {number}");
            kernel.commit(&from_nothing(wanted)).unwrap();
            assert_eq!(&listing(), expected, "loaded anew, {number}");
            last = wanted;
        }
    });
}

/// nft 1.0.6 makes one comparison of two neighbouring fields, also of two that must both differ: then either does.
#[test]
fn two_ports_that_must_differ_are_compared_one_by_one() {
    inside("two_ports_that_must_differ_are_compared_one_by_one", || {
        let mut wanted = touched();
        let differs = |side| Match::Port(side, Op::IsNot, PortSet::Range(80, 80));
        let rule = &mut wanted.chains.get_mut("one").unwrap().rules[0];
        rule.matches = vec![Match::Protocol(Op::Is, 6), differs(Side::Source), differs(Side::Destination)];
        Kernel::open().commit(&from_nothing(&wanted)).unwrap();
        let listed = nft(&["--debug=netlink", "list", "chain", "inet", "tortie", "one"], "");
        assert_eq!(listed.matches("[ cmp neq reg 1 0x00005000 ]").count(), 2, "{listed}");
    });
}

#[test]
fn a_refusal_names_the_object_and_changes_nothing() {
    inside("a_refusal_names_the_object_and_changes_nothing", || {
        let mut kernel = Kernel::open();
        kernel.commit(&from_nothing(&touched())).unwrap();
        let before = listing();
        let mut rules = touched().chains["one"].rules.clone();
        rules[1].action = Action::Verdict(Verdict::Jump("nowhere".into()));
        let rows = touched().maps["rows"].elements.keys().map(|name| (name.clone(), Verdict::Drop)).collect();
        let wrong = [
            Change::CreateChain("new".into(), None, Comment::default()),
            Change::AddRows("rows".into(), rows),
            Change::SetRules("one".into(), rules),
            Change::RemoveSet("peers4-1".into()),
        ];
        let refused = kernel.commit(&wrong).unwrap_err();
        let expected = [
            "map rows: elements: File exists",
            "chain one: rule 1 (a rule): No such file or directory",
            "set peers4-1: No such file or directory",
        ];
        let refused: Vec<&str> = refused.iter().map(|text| text.split(" (os").next().unwrap()).collect();
        assert_eq!(refused, expected);
        assert_eq!(listing(), before);
    });
}

/// A list longer than one attribute holds goes in several messages.
#[test]
fn long_lists_are_cut() {
    inside("long_lists_are_cut", || {
        let mut kernel = Kernel::open();
        let mut wanted = touched();
        kernel.commit(&from_nothing(&wanted)).unwrap();
        let addresses = (0..5000u32).map(|n| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n)));
        wanted.sets.get_mut("peers").unwrap().elements = Elements::Addresses(Family::V4, addresses.collect());
        let ports = (0..4000).map(|n| (16 * n, 16 * n + 7));
        wanted.sets.get_mut("ranges").unwrap().elements = Elements::Ports(ports.collect());
        kernel.commit(&diff(&touched(), &wanted)).unwrap();
        assert_eq!(kernel.read(&wanted).as_ref(), Some(&wanted));
        kernel.commit(&diff(&wanted, &touched())).unwrap();
        assert_eq!(kernel.read(&touched()), Some(touched()));
    });
}

/// What others do to the table is found, and only that is made good.
#[test]
fn foreign_changes_are_found_and_made_good() {
    let edits = [
        "add rule inet tortie one accept",
        "insert rule inet tortie one index 0 tcp dport 1 drop",
        "flush chain inet tortie one",
        "add chain inet tortie more; add rule inet tortie one jump more",
        "add element inet tortie peers { 10.0.0.9 }",
        "delete element inet tortie peers { 10.0.0.1 }",
        "flush set inet tortie peers",
        "add element inet tortie ranges { 90-95 }; add element inet tortie nets { 11.0.0.0/8 }",
        "flush set inet tortie ranges",
        "add element inet tortie rows { \"cali9\" : accept }",
        "delete element inet tortie rows { \"cali1\" }; add element inet tortie rows { \"cali1\" : accept }",
        "delete element inet tortie rows { \"cali1\" }; add element inet tortie rows { \"cali1\" : jump one }",
        "chain inet tortie forward { policy drop; }",
        "add set inet tortie other { type mark; flags timeout; }; add rule inet tortie one mark @other drop",
        "add map inet tortie others { type mark : mark; }",
        "add rule inet tortie one tcp dport { 1, 2 } drop",
        "add chain inet tortie hooked { type filter hook output priority 0; policy drop; }",
        "delete table inet tortie",
        "delete table inet tortie; add table inet tortie { flags dormant; }",
        "",
    ];
    inside("foreign_changes_are_found_and_made_good", || {
        let wanted = touched();
        let mut kernel = Kernel::open();
        kernel.commit(&from_nothing(&wanted)).unwrap();
        let good = listing();
        for edit in edits {
            nft(&["-f", "-"], edit);
            let before = listing();
            let changes = match kernel.read(&wanted) {
                Some(found) => diff(&found, &wanted),
                None => {
                    kernel.exists = !edit.ends_with("table inet tortie");
                    from_nothing(&wanted)
                }
            };
            assert_eq!(changes.is_empty(), before == good, "{edit}");
            if !changes.is_empty() {
                kernel.commit(&changes).unwrap_or_else(|refused| panic!("{edit}: {refused:?} {changes:#?}"));
            }
            assert_eq!(listing(), good, "{edit}");
            assert!(changes.len() < 8 || changes.contains(&Change::Reset), "{edit}: {changes:#?}");
        }
    });
}
