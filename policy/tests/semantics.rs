//! Worked outcomes (felix-dataplane 3.11, 3.4, 4): each case says what the resources are and what becomes of packets.
//! Rows 6 and 13 to 16 of that table are in `staged.rs` and `host_endpoints.rs`; 19 is decided before a snapshot exists.

mod support;

use support::packet;
use tortie_policy::eval::{Outcome, eval};
use tortie_policy::{compile, nft};

/// `a` (10.0.0.1, fd00::1) on `calia` and `b` (10.0.0.2, fd00::2) on `calib` are on this node, `c` (10.0.1.3) is on
/// another. Each test adds what it is about; profile `kns` allows all.
const WORLD: &str = r#"
tiers:
  default: { order: 1000000 }
  admin: { order: 1000 }
  baseline: { order: 10000000, defaultAction: Pass }
  zz: {}
profiles:
  kns: { ingress: [{ action: Allow }], egress: [{ action: Allow }], labelsToApply: { pcns.env: prod } }
pools: [{ cidr: 10.0.0.0/16, natOutgoing: true }]
tunnelPeers: [192.0.2.2]
endpoints:
  - { name: a, namespace: ns1, labels: { app: a }, profiles: [PROFILE], addresses: [10.0.0.1, "fd00::1"], interface: calia, ports: [{ name: http, protocol: TCP, port: 8080 }] }
  - { name: b, namespace: ns2, labels: { app: b }, profiles: [kns], addresses: [10.0.0.2, "fd00::2"], interface: calib }
  - { name: c, namespace: ns1, labels: { app: c }, profiles: [kns], addresses: [10.0.1.3] }
"#;

/// Judges packets in the world with these policies; `a` has this profile.
fn outcomes(profile: &str, policies: &str, packets: &[&str]) -> Vec<Outcome> {
    let yaml = format!("{}\n{policies}", WORLD.replace("PROFILE", profile));
    let ruleset = compile(&support::snapshot(&yaml)).ruleset;
    packets.iter().map(|p| eval(&ruleset, &packet(p))).collect()
}

/// Checks packets; each line is `yes` or `no` and a packet.
#[track_caller]
fn check(profile: &str, policies: &str, lines: &[&str]) {
    for line in lines {
        let (wanted, text) = line.split_once(' ').expect("a verdict and a packet");
        let outcome = outcomes(profile, policies, &[text]).remove(0);
        assert_eq!(outcome.allowed, wanted == "yes", "{line}: {:#?}", outcome.trail);
    }
}

const A_OUT: &str = "calia > eth0 10.0.0.1 > 192.0.2.50 tcp 80";
const A_IN: &str = "eth0 > calia 192.0.2.50 > 10.0.0.1 tcp 80";

#[track_caller]
fn both(profile: &str, policies: &str, ingress: bool, egress: bool) {
    let word = |allowed| if allowed { "yes" } else { "no" };
    check(profile, policies, &[&format!("{} {A_IN}", word(ingress)), &format!("{} {A_OUT}", word(egress))]);
}

#[test]
fn rows_1_to_3_and_9_profiles_decide_where_no_policy_applies() {
    both("kns", "", true, true);
    both("none", "", false, false);
    let ingress_only = "policies: [{ name: p, spec: { selector: app == 'a', types: [Ingress], ingress: [{ action: Allow, protocol: TCP, destination: { ports: [443] } }] } }]";
    both("kns", ingress_only, false, true);
    both("kns", "policies: [{ name: p, spec: { selector: app == 'a', types: [Ingress] } }]", false, true);
    both("kns", "policies: [{ name: p, spec: { selector: app == 'a' } }]", false, true);
    both(
        "kns",
        "policies: [{ name: p, spec: { selector: app == 'a', egress: [{ action: Deny }] } }]",
        true,
        false,
    );
}

#[test]
fn row_4_log_goes_on_to_the_end_of_the_tier() {
    let log = "policies: [{ name: p, spec: { selector: app == 'a', ingress: [{ action: Log }] } }]";
    let outcome = outcomes("kns", log, &[A_IN]).remove(0);
    assert!(!outcome.allowed);
    let comments: Vec<_> = outcome.trail.iter().map(|s| s.comment.as_str()).collect();
    let log_then_end = ["tier default policy p ingress[0]", "tier default end"];
    assert!(comments.ends_with(&log_then_end), "{comments:?}");
}

#[test]
fn rows_5_to_8_pass_and_tiers() {
    let admin = "{ name: x, spec: { tier: admin, selector: all(), types: [Ingress], ingress: [{ action: Pass, protocol: TCP }] } }";
    let allow = "{ name: p, spec: { selector: app == 'a', types: [Ingress], ingress: [{ action: Allow }] } }";
    both("none", &format!("policies: [{admin}, {allow}]"), true, false);
    check(
        "none",
        &format!("policies: [{admin}, {allow}]"),
        &["no eth0 > calia 192.0.2.50 > 10.0.0.1 udp 80"],
    );
    // 7: the tier has no policy for egress. 8: passed on to the profile.
    both("kns", &format!("policies: [{admin}]"), true, true);
    // A tier that passes by default goes on to the profile, one that denies does not.
    let nothing =
        |tier: &str| format!("policies: [{{ name: p, spec: {{ tier: {tier}, selector: all() }} }}]");
    both("kns", &nothing("baseline"), true, true);
    both("kns", &nothing("default"), false, true);
    both("kns", &nothing("missing"), false, true);
    // A tier that does not exist comes after one without an order.
    let in_tier = |tier: &str, action: &str| {
        format!(
            "{{ name: {tier}, spec: {{ tier: {tier}, selector: all(), types: [Ingress], ingress: [{{ action: {action} }}] }} }}"
        )
    };
    both(
        "kns",
        &format!("policies: [{}, {}]", in_tier("missing", "Deny"), in_tier("zz", "Allow")),
        true,
        true,
    );
    // Passed in the last tier, without a profile.
    both(
        "none",
        "policies: [{ name: p, spec: { tier: baseline, selector: all(), ingress: [{ action: Pass }] } }]",
        false,
        false,
    );
}

#[test]
fn rows_10_to_12_and_17_18_hosts_flows_and_spoofing() {
    let deny = "policies: [{ name: p, spec: { selector: all(), types: [Ingress, Egress] } }]";
    check("kns", "", &["no calia > - 10.0.0.1 > 192.0.2.1 tcp 22"]);
    check("kns", "endpointToHost: Accept", &["yes calia > - 10.0.0.1 > 192.0.2.1 tcp 22"]);
    check("kns", "endpointToHost: Return", &["yes calia > - 10.0.0.1 > 192.0.2.1 tcp 22"]);
    check(
        "kns",
        &format!("endpointToHost: Accept\n{deny}"),
        &[
            "no calia > - 10.0.0.1 > 192.0.2.1 tcp 22",
            "yes calia > - 10.0.0.1 > 192.0.2.1 tcp 22 established",
            "yes calia > - fd00::1 > fe80::1 icmp 135 0",
            "yes calia > - fd00::1 > ff02::2 icmp 133 0",
            "no calia > - fd00::1 > fe80::1 icmp 128 0",
            "yes - > calia 192.0.2.1 > 10.0.0.1 tcp 80",
            "no tunl0 > calia 192.0.2.2 > 10.0.0.1 tcp 80",
            "yes tunl0 > calia 192.0.2.2 > 10.0.0.1 tcp 80 established",
            "yes eth0 > calia 192.0.2.2 > 10.0.0.1 icmp 3 4 related",
            "no calia > eth0 10.0.0.2 > 192.0.2.9 tcp 80 spoofed",
            "no calia > eth0 10.0.0.2 > 192.0.2.9 tcp 80 spoofed established",
        ],
    );
    check(
        "kns",
        "",
        &[
            "no calia > eth0 10.0.0.1 > 192.0.2.9 tcp 80 invalid",
            "no eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 80 invalid",
            "yes eth0 > eth1 192.0.2.9 > 198.51.100.1 tcp 80 invalid",
            "no calix > eth0 10.0.0.9 > 192.0.2.9 tcp 80",
            "no eth0 > calix 192.0.2.9 > 10.0.0.9 tcp 80",
            "no calix > - 10.0.0.9 > 192.0.2.1 tcp 80",
            "yes docker0 > eth0 172.17.0.2 > 192.0.2.9 tcp 80",
            "yes eth0 > - 192.0.2.9 > 192.0.2.1 tcp 22",
            "no calia > eth0 10.0.0.1 > 192.0.2.9 4",
            "no calia > eth0 10.0.0.1 > 192.0.2.9 udp 4789",
            "yes eth0 > - 192.0.2.2 > 192.0.2.1 4",
            "no eth0 > - 192.0.2.3 > 192.0.2.1 4",
            "no eth0 > - 192.0.2.3 > 192.0.2.1 4 established",
        ],
    );
}

#[test]
fn rows_20_and_21_order() {
    let policy = |name: &str, ns: &str, order: &str, action: &str| {
        format!(
            "{{ name: {name}, namespace: '{ns}', spec: {{ {order} selector: all(), types: [Ingress], ingress: [{{ action: {action} }}] }} }}"
        )
    };
    let list = |policies: &[String]| format!("policies: [{}]", policies.join(", "));
    let deny_first = [policy("z", "", "order: 10,", "Deny"), policy("a", "", "", "Allow")];
    both("kns", &list(&deny_first), false, true);
    both("kns", &list(&[policy("z", "", "order: 10,", "Allow"), policy("a", "", "", "Deny")]), true, true);
    // Zero has no sign.
    both(
        "kns",
        &list(&[policy("a", "", "order: 0.0,", "Allow"), policy("b", "", "order: -0.0,", "Deny")]),
        true,
        true,
    );
    // Equal orders: by name, then by namespace; a global policy has none.
    both("kns", &list(&[policy("a", "ns1", "", "Allow"), policy("b", "", "", "Deny")]), true, true);
    both("kns", &list(&[policy("b", "ns1", "", "Allow"), policy("a", "", "", "Deny")]), false, true);
    both("kns", &list(&[policy("a", "ns1", "", "Allow"), policy("a", "", "", "Deny")]), false, true);
}

#[test]
fn rows_22_to_24_matches() {
    let rule = |rule: &str| {
        format!(
            "policies: [{{ name: p, spec: {{ selector: app == 'a', types: [Ingress], ingress: [{rule}] }} }}]"
        )
    };
    check(
        "kns",
        &rule("{ action: Allow, protocol: TCP, destination: { notPorts: [80] } }"),
        &[
            "no eth0 > calia 192.0.2.5 > 10.0.0.1 tcp 80",
            "yes eth0 > calia fd00::9 > fd00::1 tcp 81",
            "no eth0 > calia 192.0.2.5 > 10.0.0.1 udp 81",
        ],
    );
    check(
        "kns",
        &rule("{ action: Allow, source: { notSelector: app == 'b' } }"),
        &[
            "yes eth0 > calia 192.0.2.5 > 10.0.0.1 tcp 80",
            "no calib > calia 10.0.0.2 > 10.0.0.1 tcp 80",
            "yes eth0 > calia 10.0.1.3 > 10.0.0.1 tcp 80",
        ],
    );
    check(
        "kns",
        &rule("{ action: Allow, source: { nets: [10.0.0.0/8] } }"),
        &["yes eth0 > calia 10.9.9.9 > 10.0.0.1 tcp 80", "no eth0 > calia fd00::9 > fd00::1 tcp 80"],
    );
    check(
        "kns",
        &rule("{ action: Allow, protocol: ICMP, notICMP: { type: 3, code: 4 } }"),
        &[
            "no eth0 > calia 10.9.9.9 > 10.0.0.1 icmp 3 4",
            "yes eth0 > calia 10.9.9.9 > 10.0.0.1 icmp 3 1",
            "yes eth0 > calia 10.9.9.9 > 10.0.0.1 icmp 8 4",
        ],
    );
    check(
        "kns",
        &rule("{ action: Allow, protocol: TCP, destination: { ports: [http, '90:99'] } }"),
        &[
            "yes eth0 > calia 10.9.9.9 > 10.0.0.1 tcp 8080",
            "yes eth0 > calia fd00::9 > fd00::1 tcp 95",
            "no eth0 > calia 10.9.9.9 > 10.0.0.1 tcp 80",
        ],
    );
    // A catch-all that must not match never matches; the other family's lists do not match either.
    check(
        "kns",
        &rule("{ action: Allow, source: { notNets: [0.0.0.0/0] } }"),
        &["no eth0 > calia 10.9.9.9 > 10.0.0.1 tcp 8080"],
    );
}

#[test]
fn peers_are_confined_to_the_policys_namespace_unless_it_says_otherwise() {
    let rule = |rule: &str| {
        format!(
            "policies: [{{ name: p, namespace: ns1, spec: {{ selector: app == 'a', ingress: [{{ action: Allow, source: {rule} }}] }} }}]"
        )
    };
    let (b, c, outside) = (
        "calib > calia 10.0.0.2 > 10.0.0.1 tcp 80",
        "eth0 > calia 10.0.1.3 > 10.0.0.1 tcp 80",
        "eth0 > calia 192.0.2.5 > 10.0.0.1 tcp 80",
    );
    for (source, wanted) in [
        ("{}", [true, true, true]),
        ("{ selector: has(app) }", [false, true, false]),
        ("{ notSelector: app == 'x' }", [false, true, false]),
        ("{ namespaceSelector: env == 'prod' }", [true, true, false]),
        ("{ namespaceSelector: all(), selector: app == 'b' }", [true, false, false]),
        ("{ namespaceSelector: global() }", [false, false, false]),
        ("{ nets: [0.0.0.0/0] }", [true, true, true]),
    ] {
        let got: Vec<bool> =
            outcomes("kns", &rule(source), &[b, c, outside]).into_iter().map(|o| o.allowed).collect();
        assert_eq!(got, wanted, "{source}");
    }
}

#[test]
fn service_accounts_name_peers_of_the_policys_namespace() {
    let rule = |namespace: &str, peer: &str| {
        let endpoint = |name: &str, ns: &str, account: &str, address: &str| {
            format!(
                "  - {{ name: {name}, namespace: {ns}, addresses: [{address}], profiles: [sa.{account}], \
                 labels: {{ projectcalico.org/serviceaccount: {account} }}, interface: cali{name} }}\n"
            )
        };
        format!(
            "profiles: {{ sa.admin: {{ labelsToApply: {{ pcsa.team: x }} }} }}\npolicies: [{{ name: p, namespace: \
             '{namespace}', spec: {{ selector: all(), types: [Ingress], ingress: [{{ action: Allow, source: {{ \
             serviceAccounts: {peer} }} }}] }} }}]\nendpoints:\n{}{}{}",
            endpoint("a", "ns1", "user", "10.0.0.1"),
            endpoint("b", "ns1", "admin", "10.0.0.2"),
            endpoint("c", "ns2", "admin", "10.0.0.3"),
        )
    };
    for (namespace, peer, wanted) in [
        ("ns1", "{ names: [admin] }", [false, true, false, false]),
        ("", "{ names: [admin] }", [false, true, true, false]),
        ("", "{ selector: team == 'x' }", [false, true, true, false]),
        ("", "{ selector: all() }", [true, true, true, false]),
        ("", "{ names: [user], selector: team == 'x' }", [false, false, false, false]),
    ] {
        let ruleset = compile(&support::snapshot(&rule(namespace, peer))).ruleset;
        let got = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|source| {
            eval(&ruleset, &packet(&format!("eth0 > calia {source} > 10.0.0.1 tcp 80"))).allowed
        });
        assert_eq!(got, wanted, "{namespace} {peer}");
    }
}

/// While an address moves from one endpoint to another, both have it; what each of them alone would give must hold.
#[test]
fn peers_with_one_address_are_judged_one_by_one() {
    let world = |rule: &str| {
        let shared = "addresses: [10.0.0.9]";
        format!(
            "tiers: {{ default: {{}} }}\npolicies: [{{ name: p, spec: {{ selector: app == 'a', types: [Egress], egress: [{rule}] }} }}]\n\
             endpoints:\n  - {{ name: a, namespace: n, labels: {{ app: a }}, addresses: [10.0.0.1], interface: calia }}\n  \
             - {{ name: old, namespace: n, labels: {{ app: x, v: old }}, {shared}, ports: [{{ name: http, protocol: TCP, port: 80 }}] }}\n  \
             - {{ name: new, namespace: n, labels: {{ app: x, v: new }}, {shared} }}\n"
        )
    };
    for (rule, wanted) in [
        ("{ action: Allow, destination: { selector: app == 'x', notSelector: v == 'old' } }", true),
        ("{ action: Allow, destination: { notSelector: v == 'old' } }", false),
        ("{ action: Allow, destination: { selector: v == 'old', ports: [http] } }", true),
        ("{ action: Allow, destination: { selector: v == 'new', ports: [http] } }", false),
        ("{ action: Allow, destination: { ports: [http] } }", true),
    ] {
        let ruleset = compile(&support::snapshot(&world(rule))).ruleset;
        let outcome = eval(&ruleset, &packet("calia > eth0 10.0.0.1 > 10.0.0.9 tcp 80"));
        assert_eq!(outcome.allowed, wanted, "{rule}");
    }
}

#[test]
fn what_cannot_be_enforced_denies() {
    let policy = |rules: &str| {
        format!(
            "policies: [{{ name: p, spec: {{ selector: app == 'a', types: [Egress], egress: [{rules}] }} }}]"
        )
    };
    let service = "destination: { services: { name: s, namespace: n } }";
    for (rules, wanted) in [
        (format!("{{ action: Allow, {service} }}"), false),
        (format!("{{ action: Allow, {service} }}, {{ action: Allow }}"), true),
        (format!("{{ action: Deny, {service} }}, {{ action: Allow }}"), false),
        (format!("{{ action: Pass, {service} }}, {{ action: Allow }}"), false),
        (format!("{{ action: Log, {service} }}, {{ action: Allow }}"), true),
        ("{ action: Allow, http: { methods: [GET] } }".to_owned(), false),
        ("{ action: Allow }, { action: Allow, destination: { selector: '(' } }".to_owned(), false),
    ] {
        both("kns", &policy(&rules), true, wanted);
    }
    let invalid = |ns: &str| format!("policies: [{{ name: p, namespace: '{ns}', invalid: reason }}]");
    both("kns", &invalid("ns1"), false, false);
    both("kns", &invalid("ns2"), true, true);
    both("kns", &invalid(""), false, false);
    let bad = |ns: &str| {
        format!(
            "policies: [{{ name: p, namespace: '{ns}', spec: {{ selector: '(', types: [Ingress], ingress: [{{ action: Allow }}] }} }}]"
        )
    };
    both("kns", &bad("ns1"), false, true);
    both("kns", &bad("ns2"), true, true);
    both("kns", &bad(""), false, true);
}

#[test]
fn both_ends_on_one_node_must_agree() {
    let (to_b, to_remote) =
        ("calia > calib 10.0.0.1 > 10.0.0.2 tcp 80", "calia > eth0 10.0.0.1 > 10.0.1.3 tcp 80");
    let deny_in = "policies: [{ name: p, spec: { selector: app == 'b', types: [Ingress] } }]";
    check("kns", deny_in, &[&format!("no {to_b}"), &format!("yes {to_remote}")]);
    let deny_out = "policies: [{ name: p, spec: { selector: app == 'a', types: [Egress] } }]";
    check("kns", deny_out, &[&format!("no {to_b}"), &format!("no {to_remote}")]);
    check("kns", "", &[&format!("yes {to_b}")]);
}

#[test]
fn only_what_leaves_all_pools_is_masqueraded() {
    let flags: Vec<bool> = outcomes(
        "kns",
        "",
        &[
            A_OUT,
            "calia > eth0 10.0.0.1 > 10.0.1.3 tcp 80",
            "eth1 > eth0 10.9.0.1 > 192.0.2.1 tcp 80",
            "calia > eth0 fd00::1 > 2001:db8::1 tcp 80",
        ],
    )
    .into_iter()
    .map(|o| o.masqueraded)
    .collect();
    assert_eq!(flags, [true, false, false, false]);
}

/// The kernel refuses paths of more than 16 chains, and would then keep the old rules for ever.
#[test]
fn any_number_of_tiers_and_profiles_that_pass_can_be_loaded() {
    let mut yaml = String::from("tiers:\n");
    for i in 0..20 {
        yaml += &format!("  t{i}: {{ order: {i}, defaultAction: Pass }}\n");
    }
    yaml += "policies:\n";
    for i in 0..20 {
        let rules = "[{ action: Pass, protocol: TCP }, { action: Deny, protocol: SCTP }]";
        yaml += &format!(
            "  - {{ name: p{i}, spec: {{ tier: t{i}, types: [Ingress, Egress], ingress: {rules}, egress: {rules} }} }}\n"
        );
    }
    let profile = "{ ingress: [{ action: Pass, protocol: TCP }], egress: [{ action: Allow }] }";
    let names: Vec<String> = (0..30).map(|i| format!("x{i}")).collect();
    yaml += "profiles:\n";
    yaml.extend(names.iter().map(|name| format!("  {name}: {profile}\n")));
    yaml += &format!(
        "endpoints: [{{ name: e, namespace: n, profiles: [{}], addresses: [10.0.0.1], interface: cali1 }}]\n",
        names.join(", ")
    );
    let compiled = compile(&support::snapshot(&yaml));
    support::load(&[nft::render(&compiled.ruleset)]);
    let verdict = |text: &str| eval(&compiled.ruleset, &packet(text)).allowed;
    assert!(verdict("cali1 > eth0 10.0.0.1 > 192.0.2.1 udp 53"));
    assert!(!verdict("cali1 > eth0 10.0.0.1 > 192.0.2.1 tcp 80"), "passed too often, so it denies");
    let told = compiled.problems.iter().filter(|p| p.reason.contains("Pass comes after 10")).count();
    assert!(told >= 10, "{:?}", compiled.problems);
}

#[test]
fn a_missing_profile_is_one_problem_however_many_have_it() {
    let lines = |have: usize| {
        let endpoint = |n| format!("  - {{ name: e{n}, namespace: ns, profiles: [gone, gone2] }}\n");
        let yaml: String = (0..have).map(endpoint).collect();
        let problems = compile(&support::snapshot(&format!("endpoints:\n{yaml}"))).problems;
        problems.into_iter().map(|p| format!("{}: {}", p.subject, p.reason)).collect::<Vec<_>>()
    };
    let of = |name: &str, who: &str| {
        format!("Profile {name}: does not exist, so it matches nothing; WorkloadEndpoint ns/e0{who} it")
    };
    for (have, who) in [(1, " has"), (2, " and one more have"), (5, " and 4 more have")] {
        assert_eq!(lines(have), [of("gone", who), of("gone2", who)]);
    }
}
