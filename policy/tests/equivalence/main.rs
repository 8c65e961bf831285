//! Random policies and packets: what the compiled rules do must be what the resources say, as read by an oracle that
//! shares no code with the compiler.

mod generate;
mod history;
mod oracle;
#[path = "../support/mod.rs"]
mod support;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::flows::{Flow, Places, judge};
use tortie_policy::ir::{Action, Verdict};
use tortie_policy::{Snapshot, compile, eval, nft};

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rules_do_what_the_resources_say(
        snapshot in generate::snapshot(),
        packets in prop::collection::vec(generate::packet(), 50),
    ) {
        judged_alike(&snapshot, &packets)?;
    }

    #[test]
    fn host_endpoints_do_what_the_resources_say(
        snapshot in generate::host_snapshot(),
        packets in prop::collection::vec(generate::host_packet(), 50),
    ) {
        judged_alike(&snapshot, &packets)?;
    }

    #[test]
    fn peers_are_who_the_resources_say(
        snapshot in generate::peer_snapshot(),
        packets in prop::collection::vec(generate::peer_packet(), 50),
    ) {
        judged_alike(&snapshot, &packets)?;
    }

    #[test]
    fn merged_rules_do_what_the_resources_say(
        snapshot in generate::run_snapshot(),
        packets in prop::collection::vec(generate::run_packet(), 50),
    ) {
        judged_alike(&snapshot, &packets)?;
        merged_as_apart(&snapshot, &packets)?;
    }
}

/// Merging changes no verdict, and says of each packet one of the rules that match it.
fn merged_as_apart(snapshot: &Snapshot, packets: &[Packet]) -> Result<(), TestCaseError> {
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
        let known: std::collections::BTreeSet<String> = comments(&apart.ruleset);
        let unknown = one.trail.iter().find(|step| !known.contains(&step.comment));
        prop_assert!(unknown.is_none(), "{unknown:?}");
    }
    Ok(())
}

fn comments(ruleset: &tortie_policy::Ruleset) -> std::collections::BTreeSet<String> {
    ruleset.chains.values().flat_map(|chain| &chain.rules).map(|rule| rule.comment.to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A flow that goes on is judged as its first packet would be, but for what no flow begins with (forged sources, tunnels),
    /// and for the policy of hosts.
    #[test]
    fn flows_are_judged_as_their_first_packets(
        snapshot in generate::snapshot(),
        packets in prop::collection::vec(generate::packet(), 50),
    ) {
        let snapshot = Snapshot { host_endpoints: Default::default(), ..snapshot };
        let ruleset = compile(&snapshot).ruleset;
        for packet in packets {
            let packet = Packet { state: CtState::New, ..packet };
            let outcome = eval::eval(&ruleset, &packet);
            let before = outcome
                .rule()
                .is_some_and(|step| ["workload-source", "tunnel"].contains(&step.chain.as_str()));
            let Some((flow, places)) = flow_of(&packet).filter(|_| !before) else { continue };
            if let Some(judged) = judge(&ruleset, &places, &flow) {
                prop_assert_eq!(judged.allowed, outcome.allowed, "{:?}\n{:#?}", packet, judged.trail);
            } else {
                let workloads = [&packet.input, &packet.output].into_iter().flatten();
                let asked = packet.input.is_some() && workloads.clone().any(|name| name.starts_with("cali"));
                prop_assert!(!asked, "{:?}", packet);
            }
        }
    }
}

/// The flow a packet begins, and where its ends are; `None` when both have one address.
fn flow_of(packet: &Packet) -> Option<(Flow, Places)> {
    let Packet { source, destination, original, protocol, ports, icmp, .. } = packet.clone();
    let mut places = Places::default();
    for (address, interface) in [(source, &packet.input), (destination, &packet.output)] {
        match interface {
            None => drop(places.own.insert(address)),
            Some(name) if name.starts_with("cali") => {
                places.workloads.insert(address, name.clone());
            }
            Some(_) => {}
        }
    }
    let flow = Flow { source, destination, original, protocol, ports, icmp };
    (source != destination).then_some((flow, places))
}

fn judged_alike(snapshot: &Snapshot, packets: &[Packet]) -> Result<(), TestCaseError> {
    let ruleset = compile(snapshot).ruleset;
    prop_assert_eq!(&ruleset, &compile(&snapshot.clone()).ruleset);
    for packet in packets {
        let outcome = eval::eval(&ruleset, packet);
        let expected = oracle::judge(snapshot, packet);
        prop_assert_eq!(
            (outcome.allowed, outcome.allowed && outcome.masqueraded, outcome.allowed && outcome.untracked),
            (
                expected.allowed,
                expected.allowed && expected.masqueraded,
                expected.allowed && expected.untracked
            ),
            "{:?}\n{:#?}\n{}",
            packet,
            outcome.trail,
            nft::render_table(&ruleset)
        );
    }
    Ok(())
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

/// Runs of rules are merged in every way there is.
#[test]
fn generators_reach_every_merged_set() {
    let mut runner = TestRunner::deterministic();
    let mut decided: std::collections::BTreeMap<String, usize> = Default::default();
    for _ in 0..200 {
        let snapshot = generate::run_snapshot().new_tree(&mut runner).unwrap().current();
        let ruleset = compile(&snapshot).ruleset;
        for _ in 0..40 {
            let packet = generate::run_packet().new_tree(&mut runner).unwrap().current();
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
        let runs = generate::run_snapshot().new_tree(&mut runner).unwrap().current();
        [snapshot, host, runs].map(|snapshot| nft::render(&compile(&snapshot).ruleset))
    };
    for _ in 0..4 {
        let texts: Vec<String> = (0..10).flat_map(|_| next()).collect();
        let listed = support::load(&texts);
        assert!(listed.starts_with("table inet tortie {"), "{listed}");
    }
}
