//! Random policies and packets: what the compiled rules do must be what the resources say, as read by an oracle that
//! shares no code with the compiler.

mod flows;
mod generate;
mod history;
mod merged;
mod oracle;
#[path = "../support/mod.rs"]
mod support;

use std::fmt;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tortie_policy::eval::Packet;
use tortie_policy::ir::{Action, Verdict};
use tortie_policy::{Snapshot, compile, eval, nft};

use support::words;

/// A cluster, and about ten packets on one of its nodes.
struct Case {
    snapshot: Snapshot,
    packets: Vec<Packet>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a node\n{}", words::snapshot(&self.snapshot))?;
        self.packets.iter().try_for_each(|packet| writeln!(f, "packet {}", words::packet(packet)))
    }
}

fn case(
    snapshot: impl Strategy<Value = Snapshot>,
    packet: impl Strategy<Value = Packet>,
) -> impl Strategy<Value = Case> {
    let packets = prop::collection::vec(packet, 1..20);
    (snapshot, packets).prop_map(|(snapshot, packets)| Case { snapshot, packets })
}

/// Five properties share the cases.
fn config() -> ProptestConfig {
    ProptestConfig { cases: support::cases(0.2), max_shrink_iters: 4000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn compiled_rules_do_what_the_resources_say(case in case(generate::snapshot(), generate::packet())) {
        judged_alike(&case)?;
    }

    #[test]
    fn host_endpoints_do_what_the_resources_say(
        case in case(generate::host_snapshot(), generate::host_packet()),
    ) {
        judged_alike(&case)?;
    }

    #[test]
    fn peers_are_who_the_resources_say(case in case(generate::peer_snapshot(), generate::peer_packet())) {
        judged_alike(&case)?;
    }

    #[test]
    fn runs_of_rules_mean_what_each_rule_says(case in case(generate::run_snapshot(), generate::run_packet())) {
        judged_alike(&case)?;
    }
}

fn judged_alike(case: &Case) -> Result<(), TestCaseError> {
    let ruleset = compile(&case.snapshot).ruleset;
    for packet in &case.packets {
        let found = eval::eval(&ruleset, packet);
        let expected = oracle::judge(&case.snapshot, packet);
        let found_verdict = verdict(found.allowed, found.masqueraded, found.untracked);
        let expected_verdict = verdict(expected.allowed, expected.masqueraded, expected.untracked);
        if found_verdict != expected_verdict {
            let trail: String = found.trail.iter().map(|step| format!("  {}\n", words::step(step))).collect();
            return Err(TestCaseError::fail(format!(
                "{}\nthe resources say: {expected_verdict}\nthe rules say: {found_verdict}, by\n{trail}{}",
                words::packet(packet),
                nft::render_table(&ruleset),
            )));
        }
    }
    Ok(())
}

/// What happens to a packet, in words.
fn verdict(allowed: bool, masqueraded: bool, untracked: bool) -> String {
    let mut words = vec![if allowed { "allowed" } else { "dropped" }];
    words.extend((allowed && masqueraded).then_some("masqueraded"));
    words.extend((allowed && untracked).then_some("untracked"));
    words.join(", ")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: support::cases(0.01).min(1000), ..config() })]

    #[test]
    fn the_same_resources_give_the_same_rules(
        snapshot in prop_oneof![generate::snapshot().boxed(), generate::run_snapshot().boxed()],
    ) {
        prop_assert_eq!(&compile(&snapshot), &compile(&snapshot.clone()));
    }

    /// A finding is told in words that can be copied into a test.
    #[test]
    fn words_are_read_as_what_they_say(snapshot in generate::snapshot(), packet in generate::packet()) {
        prop_assert_eq!(&support::packet(&words::packet(&packet)), &packet);
        let text = words::snapshot(&snapshot);
        // A range that ends before it begins is no port, so it cannot be read.
        let reversed = |(low, high): (&str, &str)| match (low.parse::<u16>(), high.parse::<u16>()) {
            (Ok(low), Ok(high)) => low > high,
            _ => false,
        };
        prop_assume!(!text.split('"').filter_map(|word| word.split_once(':')).any(reversed));
        let read = support::snapshot(&text);
        prop_assert_eq!(read.policies, snapshot.policies);
        prop_assert_eq!((read.tiers, read.staged, read.pools), (snapshot.tiers, snapshot.staged, snapshot.pools));
        prop_assert_eq!(read.endpoints.len(), snapshot.endpoints.len());
    }
}

/// The property above says nothing unless the generators reach both verdicts by many ways.
#[test]
fn generators_reach_every_kind_of_verdict() {
    let mut runner = TestRunner::deterministic();
    let mut decided: std::collections::BTreeMap<(bool, bool), usize> = Default::default();
    let mut comments = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let snapshot = generate::snapshot().new_tree(&mut runner).unwrap().current();
        let ruleset = compile(&snapshot).ruleset;
        for _ in 0..40 {
            let packet = generate::packet().new_tree(&mut runner).unwrap().current();
            let outcome = eval::eval(&ruleset, &packet);
            let by_policy = outcome.trail.iter().any(|s| s.comment.contains("gress["));
            *decided.entry((outcome.allowed, by_policy)).or_default() += 1;
            comments.extend(outcome.trail.iter().map(|s| {
                let word = |w: &str| w.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
                s.comment.split(' ').next_back().map(word).unwrap_or_default()
            }));
        }
    }
    for key in [(false, false), (false, true), (true, false), (true, true)] {
        assert!(decided.get(&key).is_some_and(|n| *n > 300), "{decided:?}");
    }
    for wanted in ["ingress[]", "egress[]", "denies", "read", "end", "follows", "matched", "interface"] {
        assert!(comments.contains(wanted), "{wanted} in {comments:?}");
    }
}

/// Rules far back in a run decide, not only the first ones: without them the verdict is another.
#[test]
fn generators_reach_the_ends_of_runs() {
    let mut runner = TestRunner::deterministic();
    let mut decided: std::collections::BTreeMap<(bool, usize), usize> = Default::default();
    for _ in 0..600 {
        let snapshot = generate::run_snapshot().new_tree(&mut runner).unwrap().current();
        let lengths = [1, 2, 4, 8];
        let cut = lengths.map(|length| (length, first_rules(&snapshot, length)));
        for _ in 0..20 {
            let packet = generate::run_packet().new_tree(&mut runner).unwrap().current();
            let allowed = oracle::judge(&snapshot, &packet).allowed;
            for (length, cut) in &cut {
                if oracle::judge(cut, &packet).allowed != allowed {
                    *decided.entry((allowed, *length)).or_default() += 1;
                }
            }
        }
    }
    assert!(decided.len() == 8 && decided.values().all(|count| *count > 20), "{decided:?}");
}

/// The snapshot with no more than this many rules in a direction of a policy.
fn first_rules(snapshot: &Snapshot, length: usize) -> Snapshot {
    let mut snapshot = snapshot.clone();
    snapshot.policies.values_mut().flat_map(support::rule_lists).for_each(|rules| rules.truncate(length));
    snapshot
}

/// The same for host endpoints: every phase drops by a rule and, where that is another way than to go on, allows.
#[test]
fn generators_reach_every_phase_of_host_endpoints() {
    let mut runner = TestRunner::deterministic();
    let mut decided: std::collections::BTreeMap<String, usize> = Default::default();
    for _ in 0..300 {
        let snapshot = generate::host_snapshot().new_tree(&mut runner).unwrap().current();
        let ruleset = compile(&snapshot).ruleset;
        for _ in 0..40 {
            let packet = generate::host_packet().new_tree(&mut runner).unwrap().current();
            for step in eval::eval(&ruleset, &packet).trail {
                let phase = step.chain.rsplit_once('-').map_or("", |(phase, _)| phase);
                let dropped = [Action::Verdict(Verdict::Drop), Action::Reject].contains(&step.action);
                let verdict = if dropped { "drop" } else { "go" };
                if step.comment.contains("gress[") || step.comment.contains("failsafe") {
                    *decided.entry(format!("{phase} {verdict}")).or_default() += 1;
                }
            }
        }
    }
    for phase in ["raw-in", "raw-out", "dnat-in", "forward-in", "forward-out", "host-in", "host-out"] {
        for verdict in ["drop", "go"] {
            let wanted = format!("{phase} {verdict}");
            assert!(decided.get(&wanted).is_some_and(|n| *n > 10), "{wanted} in {decided:#?}");
        }
    }
    for wanted in ["failsafe go", "failsafe-raw go", "staged-in go", "staged-out go"] {
        assert!(decided.get(wanted).is_some_and(|n| *n > 10), "{wanted} in {decided:#?}");
    }
}

/// The kernel takes whatever the compiler makes, each rule-set replacing the one before.
#[test]
fn random_rulesets_load_and_list() {
    let mut runner = TestRunner::deterministic();
    let mut next = || {
        let snapshot = generate::snapshot().new_tree(&mut runner).unwrap().current();
        let host = generate::host_snapshot().new_tree(&mut runner).unwrap().current();
        let merged = generate::merged_snapshot().new_tree(&mut runner).unwrap().current();
        [snapshot, host, merged].map(|snapshot| nft::render(&compile(&snapshot).ruleset))
    };
    for _ in 0..4 {
        let texts: Vec<String> = (0..10).flat_map(|_| next()).collect();
        let listed = support::load(&texts);
        assert!(listed.starts_with("table inet tortie {"), "{listed}");
    }
}
