//! Rules on a real kernel: replaced at once under traffic, kept when the new ones are refused, others' left alone.

#![allow(clippy::unwrap_used, reason = "a test")]

mod netns;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use netns::{Learned, cycle, engine, inside, interfaces, learn, names, run, settle, wired};
use tortie_agent::desired::Desired;
use tortie_agent::kernel::monitor::Dirty;
use tortie_agent::kernel::{Linux, Rulesets as _};
use tortie_model::resource::ProfileSpec;
use tortie_model::rule::{Action, Rule};
use tortie_policy::Snapshot;
use tortie_policy::snapshot::{Endpoint, EndpointId};

/// Two pods in namespaces of their own, wired as the CNI plugin does.
const PODS: &str = "
    mount -t tmpfs tmpfs /run
    for pod in 1 2; do ip netns add pod$pod; ip link add cali$pod address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns pod$pod address 02:00:00:00:00:01; done
    for pod in 1 2; do ip -n pod$pod link set lo up; ip -n pod$pod addr add 192.168.1.$pod/32 dev eth0; ip -n pod$pod link set eth0 up; ip link set cali$pod up; done
    for pod in 1 2; do ip -n pod$pod route add 169.254.1.1 dev eth0 scope link; ip -n pod$pod neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0; ip -n pod$pod route add default via 169.254.1.1 dev eth0; done";

fn converged() -> Learned {
    Learned { converged: true, ..Learned::default() }
}

/// Both pods under profiles with these actions; `None` is a pod without a profile, to which everything is denied.
fn desired(actions: [Option<Action>; 2]) -> Desired {
    let mut snapshot = Snapshot::default();
    for (place, action) in actions.into_iter().enumerate() {
        let pod = place + 1;
        let rules = action.map(|action| vec![Rule { action, ..Rule::default() }]).unwrap_or_default();
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
        let mut engine = engine();
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
        let mut kernel = Linux::open().unwrap();
        kernel.load_ruleset(&tortie_policy::nft::render(&Arc::default())).unwrap();
        let before = run("nft list ruleset");
        let digest = kernel.ruleset_digest().unwrap();
        assert!(digest.is_some());
        let generation = kernel.ruleset_generation().unwrap();
        let broken =
            "add table inet tortie\ndelete table inet tortie\ntable inet tortie { chain a { jump nowhere } }";
        let error = kernel.load_ruleset(broken).unwrap_err().to_string();
        assert!(error.starts_with("nft refused the rules: ") && error.contains("nowhere"), "{error}");
        assert_eq!(run("nft list ruleset"), before);
        assert_eq!(kernel.ruleset_generation().unwrap(), generation);
        // Counters and other tables do not count, the rules of ours do.
        run("nft add table ip other");
        assert_ne!(kernel.ruleset_generation().unwrap(), generation);
        assert_eq!(kernel.ruleset_digest().unwrap(), digest);
        run("nft add chain inet tortie intruder");
        assert_ne!(kernel.ruleset_digest().unwrap(), digest);
        run("nft delete table inet tortie");
        assert_eq!(kernel.ruleset_digest().unwrap(), None);
    });
}

#[test]
fn without_nft_the_failure_says_what_to_install_and_no_workload_is_opened() {
    inside("without_nft_the_failure_says_what_to_install_and_no_workload_is_opened", || {
        run("ip link add cali1 type veth peer name pod1; ip link set cali1 up");
        run("mount -t tmpfs tmpfs $(dirname $(readlink -f $(command -v nft)))");
        let mut engine = engine();
        let wanted = Desired { interfaces: interfaces(&[("cali1", &["192.168.1.1"])]), ..Desired::default() };
        let outcome = cycle(&mut engine, &wanted, &converged());
        assert!(outcome.retry && !outcome.applied.ready);
        let text = &outcome.applied.failures["ruleset"];
        assert!(text.starts_with("nft is not in PATH: install nftables"), "{text}");
        assert_eq!(wired(&outcome.applied), names(&[]));
        assert_eq!(run("ip route show proto 80"), "");
    });
}
