//! The mistakes that are easily made (felix-dataplane 10), as far as they are policy's: a test for each, by its number.
//! Traps 1 to 3, 13, 15 and 17 to 19 are about routes, interfaces, CNI and Docker.

mod support;

use support::packet;
use tortie_policy::eval::{Outcome, eval};
use tortie_policy::ir::Elements;
use tortie_policy::{Ruleset, compile, nft};

const WORLD: &str = r#"
tiers: { default: { order: 1000000 }, first: { order: 1 }, last: { order: 10000000, defaultAction: Pass } }
profiles: { kns: { ingress: [{ action: Allow }], egress: [{ action: Allow }] } }
pools: [{ cidr: 10.0.0.0/16, natOutgoing: true }, { cidr: 10.7.0.0/16 }]
tunnelPeers: [192.0.2.2]
endpoints:
  - { name: a, namespace: ns1, labels: { app: a }, profiles: [kns], addresses: [10.0.0.1, "fd00::1"], interface: calia }
  - { name: b, namespace: ns2, labels: { app: b }, profiles: [kns], addresses: [10.0.0.2, "fd00::2"], interface: calib }
"#;

const HOST: &str = "hostEndpoints: [{ name: h, labels: { host: h }, interface: '*' }]";

fn ruleset(more: &str) -> Ruleset {
    let ruleset = compile(&support::snapshot(&format!("{WORLD}\n{more}"))).ruleset;
    support::load(&[nft::render(&ruleset)]);
    ruleset
}

fn outcome(more: &str, text: &str) -> Outcome {
    eval(&ruleset(more), &packet(text))
}

/// Checks packets; each line is `yes` or `no` and a packet.
#[track_caller]
fn check(policies: &[&str], lines: &[&str]) {
    check_with("", policies, lines);
}

#[track_caller]
fn check_with(more: &str, policies: &[&str], lines: &[&str]) {
    let ruleset = ruleset(&format!("{more}\npolicies: [{}]", policies.join(", ")));
    for line in lines {
        let (wanted, text) = line.split_once(' ').expect("a verdict and a packet");
        let outcome = eval(&ruleset, &packet(text));
        assert_eq!(outcome.allowed, wanted == "yes", "{line}: {:#?}", outcome.trail);
    }
}

const DENY_B: &str = "{ name: deny-b, spec: { selector: app == 'b', types: [Ingress] } }";

#[test]
fn trap_4_allow_is_not_final_between_local_workloads_and_hosts_do_not_judge_pod_to_host() {
    let allow_out =
        "{ name: p, spec: { selector: app == 'a', types: [Egress], egress: [{ action: Allow }] } }";
    check(&[allow_out, DENY_B], &["no calia > calib 10.0.0.1 > 10.0.0.2 tcp 80"]);
    let deny = "{ name: h, spec: { selector: host == 'h', types: [Ingress, Egress] } }";
    let accept = format!("{HOST}\nendpointToHost: Accept");
    check_with(
        &accept,
        &[deny],
        &["yes calia > - 10.0.0.1 > 192.0.2.1 tcp 80", "no eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80"],
    );
}

#[test]
fn trap_5_a_host_reaches_its_own_workloads() {
    let deny = "{ name: h, spec: { types: [Ingress, Egress], applyOnForward: true } }";
    check_with(
        HOST,
        &[deny],
        &["yes - > calib 192.0.2.1 > 10.0.0.2 tcp 80", "no calia > calib 10.0.0.1 > 10.0.0.2 tcp 80"],
    );
}

#[test]
fn trap_6_the_end_of_a_tier_the_missing_order_and_ties() {
    // Only staged, or none in this direction: the tier does not end anything.
    let staged = "staged: [{ name: s, spec: { tier: first, selector: app == 'b' } }]";
    check_with(staged, &[], &["yes calia > calib 10.0.0.1 > 10.0.0.2 tcp 80"]);
    check(
        &["{ name: p, spec: { tier: first, selector: app == 'b', types: [Ingress] } }"],
        &["yes calib > calia 10.0.0.2 > 10.0.0.1 tcp 80", "no calia > calib 10.0.0.1 > 10.0.0.2 tcp 80"],
    );
    // No order is after every order, not 0.
    let with = |name: &str, order: &str, action: &str| {
        format!(
            "{{ name: {name}, spec: {{ {order} selector: app == 'b', types: [Ingress], ingress: [{{ action: {action} }}] }} }}"
        )
    };
    let b = "calia > calib 10.0.0.1 > 10.0.0.2 tcp 80";
    check(&[&with("a", "", "Deny"), &with("b", "order: 5,", "Allow")], &[&format!("yes {b}")]);
    check(&[&with("a", "", "Deny"), &with("b", "order: -5,", "Allow")], &[&format!("yes {b}")]);
    // Ties go by the name first, then by the namespace.
    let namespaced = with("a", "order: 5,", "Allow").replace("name: a", "name: a, namespace: ns2");
    check(&[&namespaced, &with("b", "order: 5,", "Deny")], &[&format!("yes {b}")]);
    check(&[&namespaced, &with("a", "order: 5,", "Deny")], &[&format!("no {b}")]);
}

#[test]
fn trap_7_profiles_are_asked_when_nothing_decided_and_only_then() {
    let rule = |tier: &str, rules: &str| {
        format!(
            "{{ name: p, spec: {{ tier: {tier}, selector: app == 'b', types: [Ingress], ingress: [{rules}] }} }}"
        )
    };
    let b = "calia > calib 10.0.0.1 > 10.0.0.2 tcp 80";
    check(&[&rule("default", "")], &[&format!("no {b}")]);
    check(&[&rule("default", "{ action: Allow, protocol: UDP }")], &[&format!("no {b}")]);
    check(&[&rule("default", "{ action: Pass }")], &[&format!("yes {b}")]);
    check(&[&rule("last", "{ action: Pass }")], &[&format!("yes {b}")]);
    check(&[&rule("last", "")], &[&format!("yes {b}")]);
}

#[test]
fn trap_8_what_untracked_untranslated_and_forwarded_packets_meet() {
    let host = |more: &str| {
        format!("{{ name: p, spec: {{ selector: host == 'h', applyOnForward: true, {more} }} }}")
    };
    let eth0 = HOST.replace("'*'", "eth0, profiles: [kns]");
    let (in_, through) =
        ("eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80", "eth0 > eth1 192.0.2.9 > 198.51.100.9 tcp 80");
    // No default deny before tracking and translation, and none for what is forwarded where no policy says so.
    for more in ["doNotTrack: true, types: [Ingress]", "preDNAT: true, types: [Ingress]"] {
        check_with(&eth0, &[&host(more)], &[&format!("yes {in_}"), &format!("yes {through}")]);
    }
    check_with(&eth0, &[], &[&format!("yes {through}")]);
    check_with(&eth0, &[&host("types: [Egress]")], &[&format!("yes {through}")]);
    // Answers to failsafes pass without tracking: here those of a name server asked by the node.
    let deny = host("doNotTrack: true, types: [Ingress], ingress: [{ action: Deny }]");
    let ruleset = ruleset(&format!("{eth0}\npolicies: [{deny}]"));
    let mut answer = packet("eth0 > - 192.0.2.9 > 192.0.2.1 udp 40000");
    answer.ports = Some((53, 40000));
    assert!(eval(&ruleset, &answer).allowed);
}

#[test]
fn trap_9_families_and_negations() {
    let rule = |rule: &str| {
        format!(
            "{{ name: p, spec: {{ selector: app == 'a', types: [Ingress], ingress: [{{ action: Allow, {rule} }}] }} }}"
        )
    };
    let (v4, v6) = ("eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 80", "eth0 > calia 2001:db8::9 > fd00::1 tcp 80");
    // Lists of the other family do not match, not even negated; mixed ones are split.
    for (text, verdicts) in [
        ("source: { nets: [192.0.2.0/24] }", ["yes", "no"]),
        ("source: { notNets: [198.51.100.0/24] }", ["yes", "no"]),
        ("source: { nets: [192.0.2.0/24, '2001:db8::/32'] }", ["yes", "yes"]),
        ("source: { notNets: [198.51.100.0/24, 'fd00::/8'] }", ["yes", "yes"]),
        // A negated catch-all never matches.
        ("source: { notNets: [0.0.0.0/0] }", ["no", "no"]),
        ("source: { notNets: [0.0.0.0/0, '::/0'] }", ["no", "no"]),
        ("source: { notNets: ['::/0'] }", ["no", "no"]),
        ("source: { nets: [0.0.0.0/0] }", ["yes", "no"]),
        ("ipVersion: 6", ["no", "yes"]),
        // A negation alone matches the outside world.
        ("source: { notSelector: app == 'b' }", ["yes", "yes"]),
        ("source: { selector: '!has(app)' }", ["no", "no"]),
    ] {
        check(&[&rule(text)], &[&format!("{} {v4}", verdicts[0]), &format!("{} {v6}", verdicts[1])]);
    }
    check(
        &[&rule("protocol: ICMP, notICMP: { type: 8, code: 0 }")],
        &[
            "no eth0 > calia 192.0.2.9 > 10.0.0.1 icmp 8 0",
            "yes eth0 > calia 192.0.2.9 > 10.0.0.1 icmp 8 1",
            "yes eth0 > calia 192.0.2.9 > 10.0.0.1 icmp 3 0",
        ],
    );
    check(
        &[&rule("source: { notSelector: app == 'b' }")],
        &["no calib > calia 10.0.0.2 > 10.0.0.1 tcp 80", "no calib > calia fd00::2 > fd00::1 tcp 80"],
    );
}

#[test]
fn trap_10_overlaps_and_members_with_several_owners() {
    let nets = "nets: [10.0.0.0/8, 10.0.0.0/16, 10.0.0.0/16, 10.1.2.3/32, 192.0.2.0/25, 192.0.2.0/24]";
    let policy = format!(
        "{{ name: p, spec: {{ selector: app == 'a', types: [Ingress], ingress: [{{ action: Allow, source: {{ {nets} }} }}] }} }}"
    );
    check(
        &[&policy],
        &["yes eth0 > calia 192.0.2.200 > 10.0.0.1 tcp 80", "yes eth0 > calia 10.200.0.1 > 10.0.0.1 tcp 80"],
    );
    // Two endpoints and a network set with one address.
    let more = |endpoint: bool| {
        let twin = if endpoint { WORLD.replace("[10.0.0.1,", "[10.0.0.2,") } else { WORLD.to_owned() };
        let sets = "networkSets: [{ name: s, labels: { app: b }, nets: [10.0.0.2/32, 10.0.0.2] }]";
        let policy = "policies: [{ name: p, spec: { selector: app == 'a', types: [Ingress], ingress: [{ action: Allow, source: { selector: has(app) } }] } }]";
        compile(&support::snapshot(&format!("{twin}\n{sets}\n{policy}"))).ruleset
    };
    for ruleset in [more(true), more(false)] {
        let held = ruleset.sets.values().any(|set| {
            matches!(&set.elements, Elements::Addresses(_, all) if all.contains(&"10.0.0.2".parse::<std::net::IpAddr>().expect("an address")))
        });
        assert!(held, "{:?}", ruleset.sets);
        support::load(&[nft::render(&ruleset)]);
    }
}

/// One transaction that names sets before the chains that use them.
#[test]
fn trap_11_sets_come_before_rules_in_one_transaction() {
    let policy = "{ name: p, spec: { selector: app == 'a', ingress: [{ action: Allow, source: { selector: app == 'b' } }] } }";
    let text = nft::render(&ruleset(&format!("policies: [{policy}]")));
    let first_chain = text.find("\tchain ").expect("a chain");
    assert!(text.rfind("\tset ").is_some_and(|last_set| last_set < first_chain), "{text}");
    assert!(text.starts_with("add table inet tortie\ndelete table inet tortie\ntable inet tortie {\n"));
}

#[test]
fn trap_12_nat_outgoing_leaves_out_every_pool() {
    let masqueraded = |text: &str| outcome("", text).masqueraded;
    assert!(masqueraded("calia > eth0 10.0.0.1 > 192.0.2.9 tcp 80"));
    assert!(!masqueraded("calia > eth0 10.0.0.1 > 10.7.0.1 tcp 80"), "a pool without NAT is inside too");
    assert!(!masqueraded("eth1 > eth0 10.7.0.1 > 192.0.2.9 tcp 80"));
}

#[test]
fn trap_14_tunnels_are_for_nodes_only() {
    for more in ["", HOST] {
        check_with(
            &format!("{more}\noptions: {{ vxlanPort: 4789 }}\nendpointToHost: Accept"),
            &[],
            &[
                "no calia > eth0 10.0.0.1 > 192.0.2.2 4",
                "no calia > - 10.0.0.1 > 192.0.2.1 4",
                "no calia > eth0 10.0.0.1 > 192.0.2.2 udp 4789",
                "no eth0 > - 192.0.2.9 > 192.0.2.1 4",
                "no eth0 > - 192.0.2.9 > 192.0.2.1 udp 4789",
                "no eth0 > - 192.0.2.9 > 192.0.2.1 udp 4789 established",
                "yes eth0 > - 192.0.2.2 > 192.0.2.1 4",
                "yes eth0 > - 192.0.2.2 > 192.0.2.1 udp 4789",
            ],
        );
    }
}

/// Nothing of ours relies on an accept that another table must respect: what we allow ends our chain only, and no chain of
/// ours leaves a drop to one that comes later at the same hook.
#[test]
fn trap_16_accept_is_not_final_across_tables() {
    let policy = "{ name: p, spec: { selector: host == 'h', preDNAT: true, applyOnForward: true, ingress: [{ action: Allow }] } }";
    let yaml = format!("{HOST}\npolicies: [{policy}, {DENY_B}]");
    let trail = outcome(&yaml, "eth0 > calib 192.0.2.9 > 10.0.0.2 tcp 80");
    assert!(!trail.allowed, "accepted before translation, denied at the workload: {:#?}", trail.trail);
}
