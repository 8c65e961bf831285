//! Runs of rules that are merged, beside the same rules one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tortie_policy::{Ruleset, compile, eval};

use crate::{Case, case, config, generate, judged_alike};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn merged_rules_do_what_the_resources_say(
        case in case(generate::merged_snapshot(), generate::merged_packet()),
    ) {
        judged_alike(&case)?;
        merged_as_apart(&case)?;
    }
}

/// Merging changes no verdict, and says of each packet one of the rules that match it.
fn merged_as_apart(Case { snapshot, packets }: &Case) -> Result<(), TestCaseError> {
    let mut apart = snapshot.clone();
    apart.options.merged_rows = 0;
    let (merged, apart) = (compile(snapshot), compile(&apart));
    prop_assert_eq!(&merged.problems, &apart.problems);
    prop_assert!(apart.ruleset.origins == Default::default());
    for packet in packets {
        let (one, other) = (eval::eval(&merged.ruleset, packet), eval::eval(&apart.ruleset, packet));
        prop_assert_eq!(one.allowed, other.allowed, "{:?}", packet);
        let of = |outcome: &eval::Outcome| -> Vec<_> {
            outcome.trail.iter().map(|step| (step.chain.clone(), step.action.clone())).collect()
        };
        prop_assert_eq!(of(&one), of(&other), "{:?}", packet);
        let known: BTreeSet<String> = comments(&apart.ruleset);
        let unknown = one.trail.iter().find(|step| !known.contains(&step.comment));
        prop_assert!(unknown.is_none(), "{unknown:?}");
    }
    Ok(())
}

fn comments(ruleset: &Ruleset) -> BTreeSet<String> {
    ruleset.chains.values().flat_map(|chain| &chain.rules).map(|rule| rule.comment.to_string()).collect()
}

/// Runs of rules are merged in every way there is.
#[test]
fn generators_reach_every_merged_set() {
    let mut runner = TestRunner::deterministic();
    let mut decided: BTreeMap<String, usize> = Default::default();
    for _ in 0..200 {
        let snapshot = generate::merged_snapshot().new_tree(&mut runner).unwrap().current();
        let ruleset = compile(&snapshot).ruleset;
        for _ in 0..40 {
            let packet = generate::merged_packet().new_tree(&mut runner).unwrap().current();
            for step in eval::eval(&ruleset, &packet).trail {
                let rule = &ruleset.chains[&step.chain].rules[step.index];
                let set = ruleset.merged_set(rule).unwrap_or("none-");
                let kind = set.split_once('-').map_or("", |(kind, _)| kind);
                *decided.entry(format!("{kind} {:?}", step.action)).or_default() += 1;
            }
        }
    }
    let reached = |kind: &str, verdicts: &[&str]| {
        let counted = |(way, n): (&String, &usize)| {
            let wanted = way.starts_with(kind) && verdicts.iter().any(|verdict| way.contains(verdict));
            if wanted { *n } else { 0 }
        };
        decided.iter().map(counted).sum::<usize>()
    };
    for kind in ["rows4", "rows6", "any", "services", "ranges"] {
        for verdicts in [&["Accept", "Return"][..], &["Drop"]] {
            assert!(reached(kind, verdicts) > 5, "{kind} {verdicts:?} in {decided:#?}");
        }
    }
}
