//! Changes from any rule-set to any other: in an order the kernel takes, nothing more than what differs, and the same in
//! the kernel as a load of the whole.

mod build;
#[path = "../equivalence/generate.rs"]
#[allow(dead_code, reason = "packets are for the other test")]
mod generate;
mod kernel;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tortie_policy::change::{Change, diff, from_nothing};
use tortie_policy::{Ruleset, compile};

use build::{Random, ruleset};
use kernel::{Kernel, inside, listing, load_by_nft};

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
        let fits = |change: &&Change| match change {
            Change::CreateChain(..) | Change::CreateMap(..) | Change::CreateSet(..) => made,
            Change::RemoveChain(_) | Change::RemoveMap(_) | Change::RemoveSet(_) => !made,
            _ => false,
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

/// Rule-sets of both kinds, the same ones in each run.
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
        let mut kernel = Kernel::open();
        let mut last = Ruleset::empty();
        for (number, wanted) in some_rulesets(120).into_iter().enumerate() {
            load_by_nft(&wanted);
            kernel.exists = true;
            let expected = listing();
            kernel.commit(&from_nothing(&last)).unwrap();
            kernel.commit(&diff(&last, &wanted)).unwrap_or_else(|refused| panic!("{number}: {refused:#?}"));
            assert_eq!(listing(), expected, "changed, {number}");
            kernel.commit(&from_nothing(&wanted)).unwrap();
            assert_eq!(listing(), expected, "loaded anew, {number}");
            last = wanted;
        }
    });
}
