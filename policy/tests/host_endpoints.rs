//! Host endpoints: what their policy decides, where, and what it never touches (felix-dataplane 3.5, 3.8, 3.11, 3.12).

mod support;

use support::packet;
use tortie_policy::eval::{Outcome, eval};
use tortie_policy::{Compiled, compile, nft};

/// Workload `a` on `calia`; a remote one, `c`. Profile `kns` allows all.
const WORLD: &str = r#"
tiers: { default: {}, admin: { order: 10, defaultAction: Pass } }
profiles: { kns: { ingress: [{ action: Allow }], egress: [{ action: Allow }] } }
pools: [{ cidr: 10.0.0.0/16, natOutgoing: false }]
tunnelPeers: [192.0.2.2, "2001:db8::2"]
hostInterfaces: { eth0: [192.0.2.1, "2001:db8::1"], eth1: [198.51.100.1] }
endpoints:
  - { name: a, namespace: ns1, labels: { app: a }, profiles: [kns], addresses: [10.0.0.1, "fd00::1"], interface: calia }
  - { name: c, namespace: ns1, labels: { app: c }, profiles: [kns], addresses: [10.0.1.3] }
"#;

const ETH0: &str = "hostEndpoints: [{ name: h, labels: { host: h }, interface: eth0 }]";
const ALL: &str = "hostEndpoints: [{ name: h, labels: { host: h }, interface: '*' }]";

fn compiled(more: &str) -> Compiled {
    let compiled = compile(&support::snapshot(&format!("{WORLD}\n{more}")));
    support::load(&[nft::render(&compiled.ruleset)]);
    compiled
}

fn outcome(more: &str, text: &str) -> Outcome {
    eval(&compiled(more).ruleset, &packet(text))
}

/// Checks packets; each line is `yes` or `no` and a packet.
#[track_caller]
fn check(more: &str, lines: &[&str]) {
    let ruleset = compiled(more).ruleset;
    for line in lines {
        let (wanted, text) = line.split_once(' ').expect("a verdict and a packet");
        let outcome = eval(&ruleset, &packet(text));
        assert_eq!(outcome.allowed, wanted == "yes", "{line}: {:#?}", outcome.trail);
    }
}

/// A policy of host `h`.
fn policy(name: &str, more: &str) -> String {
    format!("{{ name: {name}, spec: {{ selector: host == 'h', {more} }} }}")
}

fn with(hosts: &str, policies: &[String]) -> String {
    format!("{hosts}\npolicies: [{}]", policies.join(", "))
}

const FAILSAFES: [&str; 8] = [
    "yes eth0 > - 192.0.2.9 > 192.0.2.1 tcp 22",
    "yes eth0 > - 192.0.2.9 > 192.0.2.1 udp 68",
    "yes eth0 > - 2001:db8::9 > 2001:db8::1 tcp 179",
    "yes eth0 > - 192.0.2.9 > 192.0.2.1 tcp 2380",
    "yes - > eth0 192.0.2.1 > 192.0.2.9 udp 53",
    "yes - > eth0 192.0.2.1 > 192.0.2.9 udp 67",
    "yes - > eth0 192.0.2.1 > 192.0.2.9 tcp 6443",
    "yes - > eth0 2001:db8::1 > 2001:db8::9 tcp 2379",
];

#[test]
fn row_13_a_host_endpoint_without_policy_is_closed_but_for_failsafes() {
    for hosts in [ETH0, ALL] {
        check(hosts, &FAILSAFES);
        check(
            hosts,
            &[
                "no eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80",
                "no eth0 > - 192.0.2.9 > 192.0.2.1 udp 22",
                "no eth0 > - 192.0.2.9 > 192.0.2.1 icmp 8 0",
                "no - > eth0 192.0.2.1 > 192.0.2.9 tcp 80",
                "no - > eth0 192.0.2.1 > 192.0.2.9 tcp 22",
                "yes eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80 established",
                "no eth0 > - 192.0.2.9 > 192.0.2.1 tcp 22 invalid",
                "yes eth0 > - fe80::9 > fe80::1 icmp 135 0",
                "yes - > eth0 fe80::1 > ff02::2 icmp 133 0",
                "no eth0 > - fe80::9 > fe80::1 icmp 128 0",
            ],
        );
    }
    // Only the interface it is about.
    check(ETH0, &["yes eth1 > - 192.0.2.9 > 192.0.2.1 tcp 80", "yes - > lo 127.0.0.1 > 127.0.0.1 tcp 80"]);
    check(ALL, &["no eth1 > - 192.0.2.9 > 192.0.2.1 tcp 80", "yes - > lo 127.0.0.1 > 127.0.0.1 tcp 80"]);
    check(ALL, &["yes lo > - 127.0.0.1 > 127.0.0.1 tcp 80", "no docker0 > - 172.17.0.2 > 172.17.0.1 tcp 80"]);
}

#[test]
fn nothing_is_allowed_early_while_a_policy_cannot_be_read() {
    let web = "eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80";
    for early in ["doNotTrack: true", "preDNAT: true"] {
        let allow = policy("p", &format!("{early}, applyOnForward: true, ingress: [{{ action: Allow }}]"));
        let unreadable = "{ name: q, invalid: reason }".to_owned();
        check(&with(ETH0, std::slice::from_ref(&allow)), &[&format!("yes {web}")]);
        check(&with(ETH0, &[allow, unreadable]), &[&format!("no {web}")]);
    }
}

#[test]
fn a_node_without_host_endpoints_has_no_more_base_chains() {
    let base = |more: &str| {
        let chains = compiled(more).ruleset.chains;
        chains.into_iter().filter(|(_, chain)| chain.base.is_some()).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let plain = ["forward", "input", "prerouting"];
    assert_eq!(base(""), plain);
    assert_eq!(base("hostEndpoints: [{ name: h, elsewhere: true, interface: eth0 }]"), plain);
    assert_eq!(base(ETH0), ["forward", "input", "output", "postrouting-host", "prerouting"]);
    let raw = policy("p", "doNotTrack: true, applyOnForward: true, egress: [{ action: Allow }]");
    let both = base(&with(ETH0, &[raw, policy("q", "preDNAT: true, applyOnForward: true")]));
    let all =
        ["forward", "input", "output", "output-raw", "postrouting-host", "prerouting", "prerouting-host"];
    assert_eq!(both, all);
}

#[test]
fn normal_policy_and_profiles_decide_about_the_node_itself() {
    let web = policy("p", "ingress: [{ action: Allow, protocol: TCP, destination: { ports: [80] } }]");
    check(
        &with(ETH0, &[web]),
        &[
            "yes eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80",
            "no eth0 > - 192.0.2.9 > 192.0.2.1 tcp 81",
            "no - > eth0 192.0.2.1 > 192.0.2.9 tcp 80",
        ],
    );
    let open = "hostEndpoints: [{ name: h, labels: { host: h }, interface: eth0, profiles: [kns] }]";
    check(open, &["yes eth0 > - 192.0.2.9 > 192.0.2.1 tcp 81", "yes - > eth0 192.0.2.1 > 192.0.2.9 tcp 80"]);
    let egress = policy("p", "types: [Egress], egress: [{ action: Pass, protocol: UDP }]");
    check(
        &with(open, &[egress]),
        &["yes eth0 > - 192.0.2.9 > 192.0.2.1 tcp 81", "no - > eth0 192.0.2.1 > 192.0.2.9 tcp 80"],
    );
}

#[test]
fn rows_14_and_15_forwarded_traffic_meets_only_policy_that_says_so() {
    let to_a = "eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 80";
    let from_a = "calia > eth0 10.0.0.1 > 192.0.2.9 tcp 80";
    let through = "eth0 > eth1 192.0.2.9 > 198.51.100.9 tcp 80";
    // 15: no such policy. A normal one does not count, and neither do failsafes matter.
    for hosts in [ETH0, ALL] {
        let deny = policy("p", "types: [Ingress, Egress]");
        for more in [hosts.to_owned(), with(hosts, &[deny])] {
            check(&more, &[&format!("yes {to_a}"), &format!("yes {from_a}"), &format!("yes {through}")]);
        }
        // 14: denied at the host although the workload's policy allows. The other direction is not restricted.
        let ingress = policy("p", "applyOnForward: true, types: [Ingress]");
        check(
            &with(hosts, &[ingress]),
            &[
                &format!("no {to_a}"),
                &format!("yes {from_a}"),
                &format!("no {through}"),
                &format!("yes {to_a} established"),
                "no eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 22",
            ],
        );
        let egress = policy("p", "applyOnForward: true, types: [Egress]");
        let lines = [format!("yes {to_a}"), format!("no {from_a}")];
        check(&with(hosts, &[egress]), &[&lines[0], &lines[1]]);
    }
    // Allowed at the host, the workload still has its say.
    let allow = policy("p", "applyOnForward: true, types: [Ingress], ingress: [{ action: Allow }]");
    let closed = "{ name: q, spec: { selector: app == 'a', types: [Ingress] } }".to_owned();
    check(&with(ETH0, &[allow, closed]), &[&format!("no {to_a}"), &format!("yes {through}")]);
    // A tier that passes leads on to nothing, which is open.
    let pass =
        policy("p", "tier: admin, applyOnForward: true, types: [Ingress], ingress: [{ action: Pass }]");
    check(&with(ETH0, &[pass]), &[&format!("yes {to_a}")]);
}

#[test]
fn all_interfaces_include_tunnels_a_named_one_sees_the_outer_packet_only() {
    let deny = [policy("p", "applyOnForward: true, types: [Ingress, Egress]")];
    let inner = "tunl0 > calia 10.0.1.3 > 10.0.0.1 tcp 80";
    check(&with(ALL, &deny), &[&format!("no {inner}")]);
    check(&with(ETH0, &deny), &[&format!("yes {inner}")]);
    for hosts in [ETH0, ALL] {
        check(
            &format!("{}\noptions: {{ vxlanPort: 4790 }}", with(hosts, &deny)),
            &[
                "yes eth0 > - 192.0.2.2 > 192.0.2.1 4",
                "yes - > eth0 192.0.2.1 > 192.0.2.2 4",
                "no eth0 > - 192.0.2.3 > 192.0.2.1 4",
                "no - > eth0 192.0.2.1 > 192.0.2.3 4",
                "yes eth0 > - 192.0.2.2 > 192.0.2.1 udp 4790",
                "yes - > eth0 2001:db8::1 > 2001:db8::2 udp 4790",
                "no eth0 > - 192.0.2.3 > 192.0.2.1 udp 4790",
                "no - > eth0 192.0.2.1 > 192.0.2.3 udp 4790",
                "no - > eth0 192.0.2.1 > 192.0.2.2 udp 4789",
            ],
        );
    }
    // Between workloads of one node no interface of the host is passed.
    check(
        &with(ALL, &deny),
        &["no calia > eth0 10.0.0.1 > 192.0.2.9 tcp 80", "yes calia > calia 10.0.0.1 > 10.0.0.1 tcp 80"],
    );
}

#[test]
fn row_16_before_translation_the_original_destination_counts() {
    let node_port = "eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 8080 for 192.0.2.1 30080";
    let deny = policy("p", "preDNAT: true, applyOnForward: true, ingress: [{ action: Deny }]");
    check(&with(ETH0, std::slice::from_ref(&deny)), &[&format!("no {node_port}")]);
    check(&with(ALL, &[deny]), &[&format!("no {node_port}")]);
    let only = |port: u16| {
        policy(
            "p",
            &format!(
                "preDNAT: true, applyOnForward: true, ingress: [{{ action: Deny, protocol: TCP, destination: {{ ports: \
                 [{port}] }} }}]"
            ),
        )
    };
    check(
        &with(ETH0, &[only(30080)]),
        &[&format!("no {node_port}"), &format!("yes {node_port} established")],
    );
    check(&with(ETH0, &[only(8080)]), &[&format!("yes {node_port}")]);
    // Normal policy sees the port of the service's endpoint, which is the usual mistake.
    let normal = |port: u16| {
        policy(
            "p",
            &format!(
                "applyOnForward: true, ingress: [{{ action: Allow, protocol: TCP, destination: {{ ports: [{port}] }} }}]"
            ),
        )
    };
    check(&with(ETH0, &[normal(30080)]), &[&format!("no {node_port}")]);
    check(&with(ETH0, &[normal(8080)]), &[&format!("yes {node_port}")]);
}

/// What was allowed before translation is not asked again at the host; failsafes hold; nothing is closed by default.
#[test]
fn pre_dnat_policy_allows_for_good_and_has_no_default_deny() {
    let pre = |rules: &str| policy("p", &format!("preDNAT: true, applyOnForward: true, ingress: [{rules}]"));
    let (web, other) = ("eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80", "eth0 > - 192.0.2.9 > 192.0.2.1 tcp 81");
    let allow = pre("{ action: Allow, protocol: TCP, destination: { ports: [80] } }");
    check(&with(ETH0, std::slice::from_ref(&allow)), &[&format!("yes {web}"), &format!("no {other}")]);
    let forward_deny = policy("q", "applyOnForward: true, types: [Ingress]");
    check(
        &with(ETH0, &[allow.clone(), forward_deny]),
        &[
            "yes eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 80",
            "no eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 81",
            "no eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 81 marked",
        ],
    );
    // No rule matches: the default action of the tier does not count here.
    let open = "hostEndpoints: [{ name: h, labels: { host: h }, interface: eth0, profiles: [kns] }]";
    check(&with(open, &[allow]), &[&format!("yes {other}")]);
    check(&with(open, &[pre("{ action: Deny }")]), &FAILSAFES);
    check(&with(open, &[pre("{ action: Deny }")]), &["yes eth0 > - fe80::9 > fe80::1 icmp 136 0"]);
    check(&with(open, &[pre("{ action: Deny }")]), &[&format!("no {web}")]);
}

#[test]
fn what_is_not_tracked_needs_a_rule_for_each_way_and_is_not_asked_again() {
    let raw = |more: &str| policy("p", &format!("doNotTrack: true, applyOnForward: true, {more}"));
    let port = |side: &str| format!("[{{ action: Allow, protocol: UDP, {side}: {{ ports: [123] }} }}]");
    let one_way = raw(&format!("types: [Ingress], ingress: {}", port("destination")));
    let (there, back) = ("eth0 > - 192.0.2.9 > 192.0.2.1 udp 123", "- > eth0 192.0.2.1 > 192.0.2.9 udp 123");
    check(&with(ETH0, std::slice::from_ref(&one_way)), &[&format!("yes {there}"), &format!("no {back}")]);
    assert!(outcome(&with(ETH0, &[one_way]), there).untracked);
    let both_ways = raw(&format!("ingress: {}, egress: {}", port("destination"), port("destination")));
    check(&with(ETH0, std::slice::from_ref(&both_ways)), &[&format!("yes {there}"), &format!("yes {back}")]);
    assert!(outcome(&with(ETH0, std::slice::from_ref(&both_ways)), back).untracked);
    // Not for what no rule allowed: that stays tracked, and the tier does not deny it.
    let other = "eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80";
    let open = "hostEndpoints: [{ name: h, labels: { host: h }, interface: eth0, profiles: [kns] }]";
    check(&with(open, std::slice::from_ref(&both_ways)), &[&format!("yes {other}")]);
    assert!(!outcome(&with(open, &[both_ways]), other).untracked);
    // Denied for good, known flow or not; but never the failsafes, nor answers to them.
    let deny = with(open, &[raw("ingress: [{ action: Deny }], egress: [{ action: Deny }]")]);
    check(&deny, &FAILSAFES);
    check(
        &deny,
        &[
            "no eth0 > - 192.0.2.9 > 192.0.2.1 tcp 80 established",
            "no eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 80 established",
            "yes eth0 > - fe80::9 > fe80::1 icmp 135 0",
        ],
    );
    let ruleset = compiled(&deny).ruleset;
    for (input, output, ports) in [(Some("eth0"), None, (53, 40000)), (None, Some("eth0"), (22, 40000))] {
        let mut answer = packet("eth0 > - 192.0.2.9 > 192.0.2.1 tcp 1");
        answer.protocol = if ports.0 == 53 { 17 } else { 6 };
        (answer.input, answer.output, answer.ports) =
            (input.map(str::to_owned), output.map(str::to_owned), Some(ports));
        assert!(eval(&ruleset, &answer).allowed, "{ports:?}");
        answer.ports = Some((80, 40000));
        assert!(!eval(&ruleset, &answer).allowed);
    }
    // All interfaces and no tracking do not go together.
    check(
        &with(&ALL.replace("'*'", "'*', profiles: [kns]"), &[raw("ingress: [{ action: Deny }]")]),
        &[&format!("yes {other}")],
    );
}

#[test]
fn what_does_not_apply_to_a_host_endpoint_is_told() {
    let hosts = "hostEndpoints: [{ name: h, labels: { host: h }, interface: '*', profiles: [gone] }]";
    let raw = policy("p", "doNotTrack: true, applyOnForward: true, ingress: [{ action: Deny }]");
    let told: Vec<_> = compiled(&with(hosts, &[raw])).problems.iter().map(ToString::to_string).collect();
    let expected = [
        "HostEndpoint h: policies with doNotTrack are not applied to it, since its interfaceName is '*'",
        "Profile gone: does not exist, so it matches nothing; HostEndpoint h has it",
    ];
    assert_eq!(told, expected);
}

/// Only after routing is it known by which interface a translated packet leaves.
#[test]
fn what_the_node_sends_to_a_service_is_judged_after_translation() {
    let only_8080 = policy(
        "p",
        "types: [Egress], egress: [{ action: Allow, protocol: TCP, destination: { nets: [10.0.1.3/32], ports: [8080] } }]",
    );
    let yaml = with(ETH0, &[only_8080]);
    check(
        &yaml,
        &[
            "yes - > eth0 192.0.2.1 > 10.0.1.3 tcp 8080 for 10.96.0.1 443",
            "no - > eth0 192.0.2.1 > 10.0.1.4 tcp 8080 for 10.96.0.1 443",
            "yes - > calia 192.0.2.1 > 10.0.0.1 tcp 80 for 10.96.0.1 443",
            "yes calia > eth0 10.0.0.1 > 10.0.1.4 tcp 8080 for 10.96.0.1 443",
        ],
    );
    let trail = outcome(&yaml, "- > eth0 192.0.2.1 > 10.0.1.3 tcp 8080 for 10.96.0.1 443").trail;
    assert!(trail.iter().any(|step| step.chain == "postrouting-host"), "{trail:#?}");
}

#[test]
fn row_11_a_node_reaches_its_workloads_whatever_host_policy_says() {
    let deny = [
        policy("p", "types: [Ingress, Egress], applyOnForward: true"),
        policy("q", "doNotTrack: true, applyOnForward: true, egress: [{ action: Deny }]"),
    ];
    for hosts in [ETH0, ALL] {
        check(&with(hosts, &deny), &["yes - > calia 192.0.2.1 > 10.0.0.1 tcp 80"]);
    }
}

#[test]
fn interfaces_go_to_the_lowest_name_and_the_specific_one_first() {
    let allow = |name: &str, port: u16| {
        format!(
            "{{ name: {name}, spec: {{ selector: host == '{name}', ingress: [{{ action: Allow, protocol: TCP, destination: \
             {{ ports: [{port}] }} }}] }} }}"
        )
    };
    let policies: Vec<_> = [("a", 1001), ("b", 1002), ("c", 1003)].map(|(n, p)| allow(n, p)).into();
    let open = |hosts: &str, interface: &str| -> Vec<u16> {
        let ruleset = compiled(&with(hosts, &policies)).ruleset;
        let allowed = |port: &u16| {
            eval(&ruleset, &packet(&format!("{interface} > - 192.0.2.9 > 192.0.2.1 tcp {port}"))).allowed
        };
        [1001, 1002, 1003].into_iter().filter(allowed).collect()
    };
    let host = |name: &str, at: &str| format!("{{ name: {name}, labels: {{ host: {name} }}, {at} }}");
    let list = |hosts: &[String]| format!("hostEndpoints: [{}]", hosts.join(", "));
    let by_address = list(&[host("c", "addresses: [192.0.2.1]"), host("b", "interface: eth0")]);
    assert_eq!(open(&by_address, "eth0"), [1002]);
    let lower = list(&[host("a", "addresses: [192.0.2.1]"), host("b", "interface: eth0")]);
    assert_eq!(open(&lower, "eth0"), [1001]);
    let rest = list(&[
        host("a", "interface: '*'"),
        host("b", "addresses: ['2001:db8::1']"),
        host("c", "interface: '*'"),
    ]);
    assert_eq!(open(&rest, "eth0"), [1002]);
    assert_eq!(open(&rest, "eth1"), [1001]);
    let told: Vec<_> = compiled(&format!(
        "{}\n",
        list(&[
            host("a", "interface: eth0"),
            host("b", "interface: eth0"),
            host("c", "addresses: [203.0.113.1]"),
            host("d", "interface: calia"),
        ])
    ))
    .problems
    .into_iter()
    .map(|problem| problem.to_string())
    .collect();
    let expected = [
        "HostEndpoint b: does nothing at eth0: HostEndpoint a has it",
        "HostEndpoint c: no interface of this node has one of its expectedIPs, so it does nothing",
        "HostEndpoint d: \"calia\" is no name of an interface of the node, so it does nothing",
    ];
    assert_eq!(told, expected);
}

/// Host endpoints of the whole cluster are peers, by the addresses they expect, with their named ports.
#[test]
fn host_endpoints_are_peers() {
    let hosts = "hostEndpoints: [{ name: far, elsewhere: true, interface: eth0, labels: { role: far }, addresses: \
                 [198.51.100.7], ports: [{ name: api, protocol: TCP, port: 8443 }] }]";
    let rule = |entity: &str| {
        format!(
            "{hosts}\npolicies: [{{ name: p, spec: {{ selector: app == 'a', types: [Egress], egress: [{{ action: Allow, \
             protocol: TCP, destination: {entity} }}] }} }}]"
        )
    };
    let (there, other) =
        ("calia > eth0 10.0.0.1 > 198.51.100.7 tcp 8443", "calia > eth0 10.0.0.1 > 198.51.100.8 tcp 8443");
    check(&rule("{ selector: role == 'far' }"), &[&format!("yes {there}"), &format!("no {other}")]);
    check(&rule("{ ports: [api] }"), &[&format!("yes {there}"), &format!("no {other}")]);
    check(&rule("{ selector: role == 'far', namespaceSelector: global() }"), &[&format!("yes {there}")]);
}

#[test]
fn failsafes_can_be_confined_or_left_out() {
    let options = "options: { failsafeInbound: [{ protocol: 6, port: 22, net: 192.0.2.0/24 }, { protocol: 6, port: 2222, \
                   net: '::/0' }], failsafeOutbound: [] }";
    check(
        &format!("{ETH0}\n{options}"),
        &[
            "yes eth0 > - 192.0.2.9 > 192.0.2.1 tcp 22",
            "no eth0 > - 198.51.100.9 > 192.0.2.1 tcp 22",
            "no eth0 > - 2001:db8::9 > 2001:db8::1 tcp 22",
            "yes eth0 > - 2001:db8::9 > 2001:db8::1 tcp 2222",
            "no eth0 > - 192.0.2.9 > 192.0.2.1 tcp 179",
            "no - > eth0 192.0.2.1 > 192.0.2.9 udp 53",
        ],
    );
}

#[test]
fn workloads_may_send_what_they_are_allowed_to() {
    let (ipip, vxlan) = ("calia > eth0 10.0.0.1 > 192.0.2.9 4", "calia > eth0 10.0.0.1 > 192.0.2.9 udp 4789");
    let odd = "calia > eth0 10.0.0.1 > 192.0.2.9 udp 4790";
    check("", &[&format!("no {ipip}"), &format!("no {vxlan}"), &format!("yes {odd}")]);
    check("options: { ipipFromWorkloads: true }", &[&format!("yes {ipip}"), &format!("no {vxlan}")]);
    check("options: { vxlanFromWorkloads: true }", &[&format!("no {ipip}"), &format!("yes {vxlan}")]);
    check("options: { vxlanPort: 4790 }", &[&format!("no {odd}"), &format!("yes {vxlan}")]);
    let invalid = "eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 80 invalid";
    check("", &[&format!("no {invalid}")]);
    check("options: { acceptInvalid: true }", &[&format!("yes {invalid}")]);
}

/// Section 3.12: from a workload to its own node. The last column is what upstream has with iptables; with nftables our
/// accept cannot open what the host's own firewall closes, so the rows "DROP, Accept" are closed too.
#[test]
fn pod_to_own_host_outcome_table() {
    let eth0_deny = with(ETH0, &[policy("p", "types: [Ingress]")]);
    let pre = |action: &str| {
        let rule = format!("{{ action: {action}, destination: {{ nets: [192.0.2.1/32] }} }}");
        with(ALL, &[policy("p", &format!("preDNAT: true, applyOnForward: true, ingress: [{rule}]"))])
    };
    let normal = |action: &str| {
        with(ALL, &[policy("p", &format!("types: [Ingress], ingress: [{{ action: {action} }}]"))])
    };
    let cases: [(bool, &str, String, [Option<bool>; 3]); 9] = [
        (false, "none", String::new(), [Some(true), Some(false), Some(false)]),
        (true, "none", String::new(), [Some(true), Some(true), Some(false)]),
        (true, "eth0: deny", eth0_deny.clone(), [None, Some(true), None]),
        (false, "eth0: deny", eth0_deny, [None, Some(false), None]),
        (false, "*: preDNAT allow", pre("Allow"), [Some(true), Some(false), Some(false)]),
        (false, "*: preDNAT deny", pre("Deny"), [Some(false); 3]),
        (true, "*: preDNAT deny", pre("Deny"), [Some(false); 3]),
        (false, "*: normal allow", normal("Allow"), [Some(true), Some(false), Some(false)]),
        (false, "*: normal deny", normal("Deny"), [Some(true), Some(false), Some(false)]),
    ];
    let last = (true, "*: normal deny", normal("Deny"), [Some(true), Some(true), Some(false)]);
    let mut rows = 0;
    for (host_accepts, name, hosts, expected) in cases.into_iter().chain([last]) {
        for (action, wanted) in ["Accept", "Return", "Drop"].into_iter().zip(expected) {
            let Some(wanted) = wanted else { continue };
            rows += 1;
            let yaml = format!("{hosts}\nendpointToHost: {action}");
            let ours = outcome(&yaml, "calia > - 10.0.0.1 > 192.0.2.1 tcp 8080").allowed;
            let with_nftables = wanted && (host_accepts || action != "Accept");
            assert_eq!(ours && host_accepts, with_nftables, "{name}, {action}");
            assert!(ours || !wanted, "{name}, {action}: more closed than upstream");
            // Workloads of other nodes are reached in every row.
            assert!(outcome(&yaml, "calia > tunl0 10.0.0.1 > 10.0.1.3 tcp 8080").allowed, "{name}");
        }
    }
    assert_eq!(rows, 26);
}
