//! Rules on a real kernel: replaced at once under traffic, kept when the new ones are refused, others' left alone.

#![allow(clippy::unwrap_used, reason = "a test")]

mod netns;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use netns::{Learned, PODS, engine, inside, interfaces, learn, names, owning_engine, run, settle, wired};
use tortie_agent::desired::Desired;
use tortie_agent::kernel::monitor::Dirty;
use tortie_agent::kernel::{Linux, Ownership, Rulesets as _, chain};
use tortie_model::resource::ProfileSpec;
use tortie_model::rule::{Action, Rule as PolicyRule};
use tortie_policy::change::{Change, from_nothing};
use tortie_policy::ir::{self, Rule};
use tortie_policy::snapshot::{Endpoint, EndpointId};
use tortie_policy::{Ruleset, Snapshot};

fn converged() -> Learned {
    Learned { converged: true, ..Learned::default() }
}

/// Both pods under profiles with these actions; `None` is a pod without a profile, to which everything is denied.
fn desired(actions: [Option<Action>; 2]) -> Desired {
    let mut snapshot = Snapshot::default();
    for (place, action) in actions.into_iter().enumerate() {
        let pod = place + 1;
        let rules =
            action.map(|action| vec![PolicyRule { action, ..PolicyRule::default() }]).unwrap_or_default();
        let profile = ProfileSpec { ingress: rules.clone(), egress: rules, ..ProfileSpec::default() };
        snapshot.profiles.insert(format!("p{pod}"), Some(profile));
        let endpoint = Endpoint {
            profiles: vec![format!("p{pod}").into()],
            addresses: [format!("192.168.1.{pod}").parse().unwrap()].into(),
            interface: Some(format!("cali{pod}")),
            ..Endpoint::default()
        };
        let id = EndpointId { namespace: "default".into(), name: format!("pod{pod}") };
        snapshot.endpoints.insert(Arc::new(id), Arc::new(endpoint));
    }
    Desired {
        interfaces: interfaces(&[("cali1", &["192.168.1.1"]), ("cali2", &["192.168.1.2"])]),
        ruleset: Arc::new(tortie_policy::compile(&snapshot).ruleset),
        ..Desired::default()
    }
}

fn pings(from: u8, to: u8) -> bool {
    let to = format!("192.168.1.{to}");
    let ping = Command::new("ip")
        .args(["netns", "exec", &format!("pod{from}"), "ping", "-c", "1", "-W", "1", &to])
        .output()
        .unwrap();
    ping.status.success()
}

#[test]
fn workloads_reach_each_other_as_the_rules_say_and_replacing_them_cuts_nothing() {
    inside("workloads_reach_each_other_as_the_rules_say_and_replacing_them_cuts_nothing", || {
        run(PODS);
        run("nft add table inet other; nft add chain inet other mine");
        let mut engine = owning_engine();
        let open = desired([Some(Action::Allow), Some(Action::Allow)]);
        let applied = settle(&mut engine, &open, &converged());
        assert_eq!(wired(&applied), names(&["cali1", "cali2"]));
        assert!(pings(1, 2) && pings(2, 1));

        // 200 pings, 5 ms apart, while the table is replaced again and again by rules that would not let the flow begin but
        // let it go on: nothing is dropped in between.
        let mut ping = Command::new("ip")
            .args(["netns", "exec", "pod1", "ping", "-i", "0.005", "-c", "200", "-W", "2", "192.168.1.2"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(ping.stdout.take().unwrap()).lines();
        let begun = answers.by_ref().map_while(Result::ok).any(|line| line.contains("icmp_seq=1 "));
        assert!(begun, "the flow begins");
        let mut replaced = 0;
        let half = desired([Some(Action::Allow), None]);
        while ping.try_wait().unwrap().is_none() {
            for wanted in [&half, &open] {
                let outcome = learn(&mut engine, wanted, &converged(), Dirty::default());
                assert!(!outcome.retry, "{outcome:?}");
                replaced += 1;
            }
        }
        let summary: Vec<String> =
            answers.map_while(Result::ok).filter(|line| line.contains("received")).collect();
        assert!(summary[0].contains("200 received"), "{summary:?}");
        assert!(replaced >= 2, "replaced {replaced} times");
        println!("200 pings answered while the rules were replaced {replaced} times");

        settle(&mut engine, &half, &converged());
        assert!(!pings(1, 2));
        assert!(run("nft list tables").contains("inet other"));
        assert!(run("nft list chain inet other mine").contains("mine"));
        // A workload nobody knows drops, whatever routes there are.
        let mut unknown = desired([Some(Action::Allow), None]);
        unknown.ruleset = Arc::default();
        settle(&mut engine, &unknown, &converged());
        assert!(!pings(1, 2) && !pings(2, 1));
    });
}

#[test]
fn refused_rules_leave_the_old_ones_and_say_why() {
    inside("refused_rules_leave_the_old_ones_and_say_why", || {
        let mut kernel = Linux::with(Ownership::Shared).unwrap();
        let closed = Ruleset::default();
        assert_eq!(kernel.ruleset(&closed).unwrap(), None);
        kernel.change_ruleset(&from_nothing(&closed)).unwrap();
        assert_eq!(kernel.ruleset(&closed).unwrap().as_ref(), Some(&closed));
        let before = run("nft list ruleset");
        let jump = Rule {
            matches: Vec::new(),
            counter: false,
            action: ir::Action::Verdict(ir::Verdict::Jump("nowhere".into())),
            comment: ir::Comment::new("a rule"),
        };
        let broken = [
            Change::CreateChain("new".into(), None, ir::Comment::default()),
            Change::SetRules("new".into(), vec![jump]),
        ];
        let error = chain(&kernel.change_ruleset(&broken).unwrap_err());
        let expected = "cannot change the rules: chain new: rule 0 (a rule): No such file or directory";
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(run("nft list ruleset"), before);
        // Counters and other tables do not count, the rules of ours do.
        kernel.ruleset(&closed).unwrap();
        assert!(kernel.ruleset_untouched().unwrap());
        run("nft add table ip other");
        assert!(!kernel.ruleset_untouched().unwrap());
        assert_eq!(kernel.ruleset(&closed).unwrap().as_ref(), Some(&closed));
        assert!(kernel.ruleset_untouched().unwrap());
        run("nft add chain inet tortie intruder");
        assert_ne!(kernel.ruleset(&closed).unwrap().as_ref(), Some(&closed));
        run("nft delete table inet tortie");
        assert_eq!(kernel.ruleset(&closed).unwrap(), None);
    });
}

#[test]
fn nft_is_not_needed() {
    inside("nft_is_not_needed", || {
        run("ip link add cali1 type veth peer name pod1; ip link set cali1 up");
        let hidden = run("dirname $(readlink -f $(command -v nft))");
        run(&format!("mount -t tmpfs tmpfs {hidden}"));
        let mut engine = owning_engine();
        let wanted = Desired { interfaces: interfaces(&[("cali1", &["192.168.1.1"])]), ..Desired::default() };
        let applied = settle(&mut engine, &wanted, &converged());
        assert_eq!(wired(&applied), names(&["cali1"]));
    });
}

/// All objects with their handles: one that was written again has another. Without the line that tells of the owner.
fn handles() -> String {
    let listed = run("nft -a list table inet tortie");
    listed.lines().skip(1).filter(|line| !line.starts_with("\tflags")).collect::<Vec<_>>().join("\n")
}

fn is_owned() -> bool {
    run("nft list table inet tortie").contains("flags owner")
}

#[test]
fn a_restart_writes_nothing_and_a_change_only_what_differs() {
    inside("a_restart_writes_nothing_and_a_change_only_what_differs", || {
        run(PODS);
        let open = desired([Some(Action::Allow), Some(Action::Allow)]);
        let half = desired([Some(Action::Allow), None]);
        for (start, exclusive) in [(owning_engine as fn() -> _, true), (engine, false)] {
            run("nft delete table inet tortie || true");
            settle(&mut start(), &open, &converged());
            let before = handles();
            let mut again = start();
            settle(&mut again, &open, &converged());
            assert_eq!(handles(), before, "exclusive: {exclusive}");
            // One with other rules in mind starts from what is there: chains that both have stay.
            drop(again);
            let mut changed = start();
            settle(&mut changed, &half, &converged());
            let rule = |text: &str, what: &str| {
                text.lines().find(|line| line.contains(what)).unwrap_or_default().to_owned()
            };
            let after = handles();
            assert_ne!(after, before);
            assert_eq!(rule(&after, "known flows"), rule(&before, "known flows"));
        }
    });
}

#[test]
fn while_the_agent_runs_nobody_else_changes_its_table() {
    inside("while_the_agent_runs_nobody_else_changes_its_table", || {
        run("nft 'add table inet tortie; add chain inet tortie old'");
        let mut owner = owning_engine();
        settle(&mut owner, &Desired::default(), &converged());
        let before = handles();
        if !is_owned() {
            println!("not before Linux 6.9");
            return;
        }
        assert!(!before.contains("chain old"), "a table without an owner is made anew");
        for wrong in ["nft delete table inet tortie", "nft flush chain inet tortie forward"] {
            let output = Command::new("sh").args(["-c", wrong]).output().unwrap();
            assert!(!output.status.success(), "{wrong}");
        }
        run("nft flush ruleset");
        assert_eq!(handles(), before);
        settle(&mut owner, &Desired::default(), &converged());
        assert_eq!(handles(), before);
        // Without an owner it stays, and can be removed.
        drop(owner);
        assert!(handles() == before && !is_owned());
        let mut next = owning_engine();
        settle(&mut next, &Desired::default(), &converged());
        assert!(handles() == before && is_owned());
        drop(next);
        run("nft delete table inet tortie");
    });
}

#[test]
fn what_others_change_is_put_right_and_the_rest_stays() {
    inside("what_others_change_is_put_right_and_the_rest_stays", || {
        let mut engine = engine();
        let wanted = Desired::default();
        settle(&mut engine, &wanted, &converged());
        let good = run("nft -s list table inet tortie");
        let kept =
            |text: &str| text.lines().find(|line| line.contains("IPIP from a workload")).unwrap().to_owned();
        let before = kept(&handles());
        let hint = Dirty { ruleset: true, ..Dirty::default() };
        for edit in [
            "flush chain inet tortie forward",
            "insert rule inet tortie forward accept",
            "add element inet tortie from-endpoint { cali7 : accept }",
            "add chain inet tortie extra { type filter hook forward priority -1; }",
        ] {
            run(&format!("nft '{edit}'"));
            assert_ne!(run("nft -s list table inet tortie"), good, "{edit}");
            let outcome = learn(&mut engine, &wanted, &converged(), hint);
            assert!(!outcome.retry, "{edit}: {outcome:?}");
            assert_eq!(run("nft -s list table inet tortie"), good, "{edit}");
            assert_eq!(kept(&handles()), before, "{edit}");
        }
        run("nft delete table inet tortie");
        learn(&mut engine, &wanted, &converged(), hint);
        assert_eq!(run("nft -s list table inet tortie"), good);
    });
}
