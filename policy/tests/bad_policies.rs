//! Policies with mistakes, and odd ones without: what they do, and the line an operator reads about it.

mod support;

use support::packet;
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_model::scalar::{Port, Protocol};
use tortie_policy::eval::eval;
use tortie_policy::snapshot::PolicyBody;
use tortie_policy::{Snapshot, compile, ir, nft};

const WORLD: &str = r#"
tiers: { default: {} }
profiles: { kns: { ingress: [{ action: Allow }], egress: [{ action: Allow }] } }
endpoints:
  - { name: a, namespace: ns1, labels: { app: a }, profiles: [kns], addresses: [10.0.0.1, "fd00::1"], interface: calia }
  - { name: b, namespace: ns2, labels: { app: b }, profiles: [kns], addresses: [10.0.0.2], interface: calib }
"#;

const IN: &str = "eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 80";
const OUT: &str = "calia > eth0 10.0.0.1 > 192.0.2.9 tcp 80";

fn world(policies: &str) -> Snapshot {
    support::snapshot(&format!("{WORLD}\npolicies: [{policies}]"))
}

/// Whether packets to and from `a` pass, and the problems.
fn judged(snapshot: &Snapshot) -> ([bool; 2], Vec<String>) {
    let compiled = compile(snapshot);
    let verdicts = [IN, OUT].map(|text| eval(&compiled.ruleset, &packet(text)).allowed);
    (verdicts, compiled.problems.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn check(policies: &str, verdicts: [bool; 2], problem: &str) {
    let (got, problems) = judged(&world(policies));
    assert_eq!(got, verdicts, "{policies}: {problems:?}");
    match problem {
        "" => assert_eq!(problems, Vec::<String>::new(), "{policies}"),
        wanted => assert!(problems.len() == 1 && problems[0].starts_with(wanted), "{policies}: {problems:?}"),
    }
}

#[test]
fn a_mistake_denies_in_the_directions_of_the_policy_and_is_named_with_its_field() {
    let rule = |rule: &str| {
        format!(
            "{{ name: p, spec: {{ selector: app == 'a', ingress: [{{ action: Allow }}, {{ action: Allow, {rule} }}] }} }}"
        )
    };
    for (text, field) in [
        ("source: { selector: 'app = 1' }", "source.selector: "),
        ("source: { notSelector: 'app ==' }", "source.notSelector: "),
        ("source: { namespaceSelector: 'has(' }", "source.namespaceSelector: "),
        ("source: { selector: 'global()' }", "source.selector: global() is allowed only as"),
        ("source: { serviceAccounts: { selector: '&&' } }", "source.serviceAccounts.selector: "),
        ("destination: { ports: [80] }", "destination.ports: needs protocol TCP, UDP or SCTP"),
        ("protocol: ICMP, destination: { notPorts: [80] }", "destination.notPorts: needs protocol TCP"),
        ("protocol: TCP, icmp: { type: 8 }", "icmp: needs protocol ICMP or ICMPv6"),
        ("protocol: ICMP, notICMP: { code: 8 }", "notICMP: code needs a type"),
        ("ipVersion: 5", "ipVersion: must be 4 or 6"),
    ] {
        let wanted = format!("GlobalNetworkPolicy p: denies everything it applies to: ingress[1].{field}");
        check(&rule(text), [false, true], &wanted);
    }
}

#[test]
fn a_selector_of_the_policy_that_is_none_denies_its_whole_scope() {
    let bad = |namespace: &str, field: &str| {
        format!(
            "{{ name: p, namespace: '{namespace}', spec: {{ types: [Egress], egress: [{{ action: Allow }}], {field} }} }}"
        )
    };
    check(
        &bad("", "selector: 'app is a'"),
        [true, false],
        "GlobalNetworkPolicy p: denies everything it could apply to: selector: ",
    );
    check(
        &bad("", "namespaceSelector: '('"),
        [true, false],
        "GlobalNetworkPolicy p: denies everything it could apply to: namespaceSelector: ",
    );
    check(
        &bad("ns1", "serviceAccountSelector: '('"),
        [true, false],
        "NetworkPolicy ns1/p: denies everything it could apply to: serviceAccountSelector: ",
    );
    check(&bad("ns2", "selector: '('"), [true, true], "NetworkPolicy ns2/p: denies");
}

/// A store may hold what our own reader of texts refuses.
#[test]
fn a_range_of_ports_that_ends_before_it_begins_is_a_mistake() {
    let mut snapshot = world("{ name: p, spec: { selector: app == 'a', types: [Ingress] } }");
    let reversed = EntityRule { not_ports: vec![Port::Range(90, 80)], ..EntityRule::default() };
    let rule = Rule { protocol: Some(Protocol::Tcp), destination: reversed, ..Rule::default() };
    for body in snapshot.policies.values_mut() {
        if let PolicyBody::Global(spec) = body {
            spec.ingress = vec![rule.clone()];
        }
    }
    let wanted = "GlobalNetworkPolicy p: denies everything it applies to: ingress[0].destination.notPorts: has a range that \
                  ends before it begins";
    assert_eq!(judged(&snapshot), ([false, true], vec![wanted.to_owned()]));
}

#[test]
fn nets_of_both_families_in_one_rule_match_each_in_its_own() {
    let policy = "{ name: p, spec: { selector: app == 'a', ingress: [{ action: Allow, source: { nets: [192.0.2.0/24, \
                  '2001:db8::/32'] } }] } }";
    check(policy, [true, true], "");
    let ruleset = compile(&world(policy)).ruleset;
    for (text, wanted) in [
        ("eth0 > calia 2001:db8::9 > fd00::1 tcp 80", true),
        ("eth0 > calia 2001:db9::9 > fd00::1 tcp 80", false),
        ("eth0 > calia 198.51.100.9 > 10.0.0.1 tcp 80", false),
    ] {
        assert_eq!(eval(&ruleset, &packet(text)).allowed, wanted, "{text}");
    }
    // Source of one family, destination of the other: no packet is like that.
    check(
        "{ name: p, spec: { selector: app == 'a', ingress: [{ action: Allow, source: { nets: [192.0.2.0/24] }, destination: \
         { nets: ['fd00::/8'] } }] } }",
        [false, true],
        "",
    );
}

#[test]
fn a_label_nobody_has() {
    let policy = |selector: &str| {
        format!("{{ name: p, spec: {{ selector: \"{selector}\", types: [Ingress, Egress] }} }}")
    };
    for (selector, applies) in [
        ("nothing == 'x'", false),
        ("has(nothing)", false),
        ("nothing in {'x', 'y'}", false),
        ("nothing != 'x'", true),
        ("!has(nothing)", true),
        ("nothing not in {'x'}", true),
    ] {
        check(&policy(selector), [!applies, !applies], "");
    }
    let peer = |entity: &str| {
        format!(
            "{{ name: p, spec: {{ selector: app == 'a', ingress: [{{ action: Allow, source: {entity} }}] }} }}"
        )
    };
    check(&peer("{ selector: nothing == 'x' }"), [false, true], "");
    check(&peer("{ notSelector: nothing == 'x' }"), [true, true], "");
    check(&peer("{ namespaceSelector: nothing == 'x' }"), [false, true], "");
}

/// A policy of 5000 rules: all of them count, in order.
#[test]
fn a_policy_of_many_rules() {
    let mut snapshot = world("{ name: p, spec: { selector: app == 'a', types: [Ingress] } }");
    let rule = |n: u16| Rule {
        action: if n.is_multiple_of(2) { Action::Deny } else { Action::Allow },
        protocol: Some(Protocol::Tcp),
        source: EntityRule {
            nets: vec![format!("10.{}.{}.0/24", n / 256, n % 256).parse().expect("a network")],
            ..EntityRule::default()
        },
        destination: EntityRule { ports: vec![Port::Range(n, n)], ..EntityRule::default() },
        ..Rule::default()
    };
    for body in snapshot.policies.values_mut() {
        if let PolicyBody::Global(spec) = body {
            spec.ingress = (1..=5000).map(rule).collect();
        }
    }
    let compiled = compile(&snapshot);
    assert_eq!(compiled.problems, []);
    for n in [1u16, 2, 2500, 2501, 4999, 5000, 5001] {
        let text = format!("eth0 > calia 10.{}.{}.7 > 10.0.0.1 tcp {n}", n / 256, n % 256);
        let outcome = eval(&compiled.ruleset, &packet(&text));
        assert_eq!(outcome.allowed, n % 2 == 1 && n <= 5000, "{n}");
        let by = outcome.rule().map_or("", |step| step.comment.as_str());
        let wanted = if n <= 5000 { format!("ingress[{}]", n - 1) } else { "tier default end".to_owned() };
        assert!(by.ends_with(&wanted), "{n}: {by}");
    }
    let longest = compiled.ruleset.chains.values().map(|chain| chain.rules.len()).max();
    assert_eq!(longest, Some(5001));
    // Too much for a socket's buffer in a user namespace, so nft of a test cannot load it; its text is one line a rule.
    assert_eq!(nft::render(&compiled.ruleset).matches("policy p ingress[").count(), 5000);
}

#[test]
fn lines_of_the_log_tell_where_they_are_from_as_configured() {
    let prefixes = |options: &str, namespace: &str| -> Vec<(String, Option<u16>)> {
        let yaml = format!(
            "{WORLD}\noptions: {{ {options} }}\npolicies: [{{ name: p, namespace: '{namespace}', spec: {{ selector: app == \
             'a', types: [Ingress], ingress: [{{ action: Log }}] }} }}]"
        );
        let ruleset = compile(&support::snapshot(&yaml)).ruleset;
        support::load(&[nft::render(&ruleset)]);
        let rules = ruleset.chains.values().flat_map(|chain| chain.rules.clone());
        let logs = rules.filter_map(|rule| {
            if let ir::Action::Log { prefix, group, .. } = rule.action { Some((prefix, group)) } else { None }
        });
        logs.collect()
    };
    let line = |text: &str, group| vec![(text.to_owned(), group)];
    assert_eq!(prefixes("", ""), line("calico-packet: ", None));
    assert_eq!(prefixes("logPrefix: '%t/%k/%n'", ""), line("default/gnp/p: ", None));
    assert_eq!(
        prefixes("logPrefix: '%t/%k/%n (%p)', logGroup: 7", "ns1"),
        line("default/np/ns1/p (p): ", Some(7))
    );
    // What is special to nft or too long is harmless.
    let odd = format!("logPrefix: '$x \"%p\" {}'", "é".repeat(100));
    let found = prefixes(&odd, "");
    assert!(found[0].0.starts_with("_x 'p' é") && found[0].0.len() <= 127, "{found:?}");
}
