//! Parameters of the node: denied packets that are answered, where, and that senders notice; flows that stop.

mod support;

use std::collections::BTreeSet;

use support::node::{answers, run};
use support::packet;
use tortie_policy::eval::eval;
use tortie_policy::ir::{Action, Verdict};
use tortie_policy::{compile, nft};

/// `b` takes nothing but port 80, `a` reaches everything; the node takes nothing on `up0`. `OPTIONS` is replaced.
const WORLD: &str = r#"
OPTIONS
tiers: { default: {} }
endpointToHost: Accept
policies:
  - { name: b, namespace: n, spec: { selector: app == 'b', types: [Ingress], ingress: [{ action: Deny, protocol: UDP }, { action: Allow, protocol: TCP, destination: { ports: [80] } }] } }
  - { name: host, spec: { selector: host == 'h', types: [Ingress, Egress] } }
  - { name: early, spec: { selector: host == 'h', applyOnForward: true, preDNAT: true, types: [Ingress], ingress: [{ action: Deny, protocol: TCP, destination: { ports: [81] } }] } }
  - { name: raw, spec: { selector: host == 'h', applyOnForward: true, doNotTrack: true, types: [Ingress], ingress: [{ action: Deny, protocol: TCP, destination: { ports: [82] } }] } }
  - { name: forwarded, spec: { selector: host == 'h', applyOnForward: true, types: [Ingress], ingress: [{ action: Deny, protocol: TCP, destination: { ports: [83] } }, { action: Allow, destination: { nets: [10.0.0.0/24] } }] } }
profiles: { open: { ingress: [{ action: Allow }], egress: [{ action: Allow }] } }
hostEndpoints: [{ name: h, labels: { host: h }, interface: up0 }]
endpoints:
  - { name: a, namespace: n, labels: { app: a }, profiles: [open], addresses: [10.0.0.1, "fd00::1"], interface: calia }
  - { name: b, namespace: n, labels: { app: b }, profiles: [open], addresses: [10.0.0.2, "fd00::2"], interface: calib }
"#;

const REJECT: &str = "options: { reject: true }";

fn world(options: &str) -> tortie_policy::Ruleset {
    let compiled = compile(&support::snapshot(&WORLD.replace("OPTIONS", options)));
    assert_eq!(compiled.problems, []);
    compiled.ruleset
}

/// Beginnings of the names of chains with a rule that rejects, and of those where policy drops.
fn places(ruleset: &tortie_policy::Ruleset) -> [BTreeSet<&str>; 2] {
    [Action::Reject, Action::Verdict(Verdict::Drop)].map(|action| {
        let of_policy = |rule: &&tortie_policy::ir::Rule| {
            rule.action == action
                && ["tier", "nothing"].iter().any(|w| rule.comment.to_string().starts_with(w))
        };
        let found = ruleset.chains.iter().filter(|(_, chain)| chain.rules.iter().any(|r| of_policy(&r)));
        found.filter_map(|(name, _)| Some(name.rsplit_once('-')?.0)).collect()
    })
}

#[test]
fn filters_reject_and_what_comes_before_them_drops() {
    let [rejects, drops] =
        places(&world(REJECT)).map(|names| names.into_iter().collect::<Vec<_>>().join(" "));
    assert_eq!((rejects.as_str(), drops.as_str()), ("forward-in host-in in", "dnat-in host-out raw-in"));
    let [rejects, drops] = places(&world("")).map(|names| names.len());
    assert_eq!((rejects, drops), (0, 6));
}

#[test]
fn what_is_rejected_is_denied() {
    let ruleset = world(REJECT);
    for (allowed, text) in [
        (true, "calia > calib 10.0.0.1 > 10.0.0.2 tcp 80"),
        (false, "calia > calib 10.0.0.1 > 10.0.0.2 tcp 81"),
        (false, "calia > calib fd00::1 > fd00::2 udp 53"),
        (false, "up0 > - 192.0.2.9 > 192.0.2.1 tcp 8081"),
        (false, "up0 > calia 192.0.2.9 > 10.0.0.1 tcp 83"),
    ] {
        let outcome = eval(&ruleset, &packet(text));
        assert_eq!(outcome.allowed, allowed, "{text}: {:#?}", outcome.trail);
        let rejects = outcome.rule().is_some_and(|step| step.action == Action::Reject);
        assert_eq!(rejects, !allowed, "{text}: {:#?}", outcome.trail);
    }
}

#[test]
fn a_refused_flow_stops_where_that_is_wanted() {
    let known = ["calia > calib 10.0.0.1 > 10.0.0.2 tcp 80", "calia > - 10.0.0.1 > 192.0.2.1 tcp 8081"];
    for (options, passes) in [("", true), ("options: { stopRefused: true }", false)] {
        let ruleset = world(options);
        for text in known {
            assert!(eval(&ruleset, &packet(&format!("{text} established"))).allowed, "{text}");
            let refused = eval(&ruleset, &packet(&format!("{text} refused")));
            assert_eq!(refused.allowed, passes, "{options} {text}: {:#?}", refused.trail);
        }
    }
}

/// Two workloads and the outside; what is tried by TCP is tried all at once.
const SCRIPT: &str = r#"
# An error for each packet: by default the kernel sends one a second to a host.
sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
workload a calia 10.0.0.1 fd00::1
workload b calib 10.0.0.2 fd00::2
outside
ip -n out route add 10.0.0.0/24 via 192.0.2.1
nft -f "$RULES"
{
try allowed connect_from a 10.0.0.2 80 &
try denied connect_from a 10.0.0.2 81 &
try denied-v6 connect_from a fd00::2 81 &
try to-node connect_from out 192.0.2.1 8081 &
try from-node connect_from node 192.0.2.9 8081 &
try before-translation connect_from out 10.0.0.1 81 &
try before-tracking connect_from out 10.0.0.1 82 &
try forwarded connect_from out 10.0.0.1 83 &
wait
}
"#;

#[test]
fn senders_notice_at_once() {
    let found = |options: &str| run(SCRIPT, &nft::render(&world(options)));
    let noticed =
        answers("allowed denied denied-v6 to-node forwarded", "from-node before-translation before-tracking");
    assert_eq!(found(REJECT), noticed);
    let lost = "denied denied-v6 to-node from-node before-translation before-tracking forwarded";
    assert_eq!(found(""), answers("allowed", lost));
}
