//! Staged policies: they count what they would do, and do nothing.

mod support;

use support::packet;
use tortie_policy::eval::eval;
use tortie_policy::{Compiled, Engine, compile, nft};

const WORLD: &str = r#"
tiers: { default: {}, tryout: { order: 5 } }
profiles: { kns: { ingress: [{ action: Allow }], egress: [{ action: Allow }] } }
endpoints:
  - { name: a, namespace: ns1, labels: { app: a, projectcalico.org/orchestrator: k8s }, profiles: [kns], addresses: [10.0.0.1], interface: calia }
  - { name: b, namespace: ns1, labels: { app: b, projectcalico.org/orchestrator: k8s }, profiles: [kns], addresses: [10.0.0.2], interface: calib }
"#;

const IN: &str = "eth0 > calia 192.0.2.9 > 10.0.0.1 tcp 80";
const OUT: &str = "calia > eth0 10.0.0.1 > 192.0.2.9 tcp 80";

fn compiled(more: &str) -> Compiled {
    let compiled = compile(&support::snapshot(&format!("{WORLD}\n{more}")));
    support::load(&[nft::render(&compiled.ruleset)]);
    compiled
}

/// Whether a packet passes, and the comments of the staged rules that counted it.
fn counted(more: &str, text: &str) -> (bool, Vec<String>) {
    let compiled = compiled(more);
    assert_eq!(compiled.problems, []);
    let outcome = eval(&compiled.ruleset, &packet(text));
    let steps = outcome.trail.iter().filter(|step| step.comment.starts_with("staged policy"));
    (outcome.allowed, steps.map(|step| step.comment.clone()).collect())
}

fn staged(name: &str, spec: &str) -> String {
    format!("{{ name: {name}, namespace: ns1, spec: {{ selector: app == 'a', {spec} }} }}")
}

#[test]
fn a_staged_policy_counts_the_first_rule_that_matches_and_decides_nothing() {
    let rules = "ingress: [{ action: Allow, protocol: UDP }, { action: Log }, { action: Deny, protocol: TCP }, { action: Allow }]";
    let list = format!("staged: [{}]", staged("p", rules));
    let denied = "staged policy ns1/p would deny ingress[2]".to_owned();
    assert_eq!(counted(&list, IN), (true, vec![denied]));
    let allowed = "staged policy ns1/p would allow ingress[0]".to_owned();
    assert_eq!(counted(&list, "eth0 > calia 192.0.2.9 > 10.0.0.1 udp 80"), (true, vec![allowed]));
    assert_eq!(counted(&list, OUT), (true, vec![]), "it is about ingress only");
    assert_eq!(counted(&list, "eth0 > calib 192.0.2.9 > 10.0.0.2 tcp 80"), (true, vec![]));
    let nothing = format!("staged: [{}]", staged("p", "types: [Ingress]"));
    assert_eq!(counted(&nothing, IN), (true, vec!["staged policy ns1/p matches nothing".to_owned()]));
}

/// A group that is about to go, with the policy as it was, must not bring that back.
#[test]
fn a_changed_staged_policy_stays_changed_when_a_group_with_the_old_one_goes() {
    let world = |staged_rules: &str, enforced: &str, peer: &str| {
        support::snapshot(&format!("{WORLD}{peer}\nstaged: [{}]\n{enforced}", staged("s", staged_rules)))
    };
    let peer =
        "  - { name: c, namespace: ns1, labels: { role: peer }, profiles: [kns], addresses: [10.0.0.3] }";
    let allow = "ingress: [{ action: Allow, source: { selector: role == 'peer' } }]";
    let enforced =
        format!("policies: [{{ name: p, namespace: ns1, spec: {{ selector: app == 'a', {allow} }} }}]");
    let before = world("ingress: [{ action: Deny }]", &enforced, "");
    let after = world("ingress: [{ action: Allow }]", "", peer);
    let mut engine = Engine::default();
    engine.set_all(&before);
    engine.flush();
    after.staged.iter().for_each(|(id, body)| engine.set_staged(id, Some(body)));
    before.policies.keys().for_each(|id| engine.set_policy(id, None));
    after.endpoints.iter().for_each(|(id, endpoint)| engine.set_endpoint(id, Some(endpoint)));
    assert_eq!(engine.flush(), compile(&after));
}

#[test]
fn row_6_a_tier_with_staged_policies_only_is_as_if_absent() {
    let deny = "tier: tryout, types: [Ingress, Egress]";
    let list = format!("staged: [{}]", staged("p", deny));
    assert!(counted(&list, IN).0 && counted(&list, OUT).0);
    let enforced = "policies: [{ name: q, spec: { selector: app == 'a', ingress: [{ action: Allow }] } }]";
    assert!(counted(&format!("{list}\n{enforced}"), IN).0);
    // And an enforced policy beside it keeps its default action.
    let beside = "policies: [{ name: q, spec: { tier: tryout, selector: app == 'a', types: [Ingress] } }]";
    let (allowed, steps) = counted(&format!("{list}\n{beside}"), IN);
    assert!(!allowed && steps.len() == 1, "{steps:?}");
}

#[test]
fn each_staged_policy_counts_on_its_own_in_order_and_before_enforced_ones() {
    let list = format!(
        "staged: [{}, {}, {}]\npolicies: [{{ name: q, spec: {{ selector: all(), types: [Ingress] }} }}]",
        staged("z", "tier: tryout, ingress: [{ action: Pass }]"),
        staged("a", "order: 5, ingress: [{ action: Deny }]"),
        staged("b", "order: 1, ingress: [{ action: Allow }]"),
    );
    let expected = [
        "staged policy ns1/z would pass ingress[0]",
        "staged policy ns1/b would allow ingress[0]",
        "staged policy ns1/a would deny ingress[0]",
    ];
    assert_eq!(counted(&list, IN), (false, expected.map(str::to_owned).into()));
}

#[test]
fn the_staged_action_says_whether_there_is_anything_to_count() {
    for (action, counts) in [("Set", true), ("Learn", true), ("Delete", false), ("Ignore", false)] {
        let spec = format!("stagedAction: {action}, ingress: [{{ action: Deny }}]");
        let (allowed, steps) = counted(&format!("staged: [{}]", staged("p", &spec)), IN);
        assert_eq!((allowed, steps.len() == 1), (true, counts), "{action}");
    }
}

#[test]
fn all_endpoints_with_a_staged_policy_share_its_chain() {
    let list = "staged: [{ name: p, spec: { ingress: [{ action: Deny }] } }]\npolicies: [{ name: q, spec: { selector: app == 'a' } }]";
    let chains = compiled(list).ruleset.chains;
    assert_eq!(chains.keys().filter(|name| name.starts_with("staged-")).count(), 1);
    assert_eq!(chains.keys().filter(|name| name.starts_with("in-")).count(), 2);
}

#[test]
fn one_in_the_shape_of_kubernetes_is_staged_at_its_order() {
    let kubernetes = "{ name: k, namespace: ns1, kubernetes: true, spec: { podSelector: { matchLabels: { app: a } }, \
                      ingress: [{ from: [{ podSelector: { matchLabels: { app: b } } }], ports: [{ port: 80 }] }] } }";
    let list = format!("staged: [{kubernetes}, {}]", staged("last", "ingress: [{ action: Deny }]"));
    let from_b = counted(&list, "calib > calia 10.0.0.2 > 10.0.0.1 tcp 80");
    let expected = [
        "staged policy ns1/knp.default.k would allow ingress[0]",
        "staged policy ns1/last would deny ingress[0]",
    ];
    assert_eq!(from_b, (true, expected.map(str::to_owned).into()));
    let other = counted(&list, IN).1;
    assert_eq!(other.first().map(String::as_str), Some("staged policy ns1/knp.default.k matches nothing"));
}

#[test]
fn mistakes_in_staged_policies_are_reported_and_nothing_else() {
    let list = format!(
        "staged: [{}, {}, {{ name: u, invalid: 'not JSON' }}, {{ name: k, namespace: ns1, kubernetes: true, spec: {{ \
         ingress: [{{ ports: [{{ port: 9, endPort: 8 }}] }}] }} }}]",
        staged("s", "ingress: [{ action: Deny, source: { selector: '(' } }]"),
        staged("t", "ingress: [{ action: Deny, destination: { ports: [80] } }]"),
    );
    let compiled = compiled(&list);
    assert!(eval(&compiled.ruleset, &packet(IN)).allowed);
    let lines: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
    let starts = [
        "StagedGlobalNetworkPolicy u: is not counted: not JSON",
        "StagedKubernetesNetworkPolicy ns1/k: is not counted: ingress[0].ports[0].endPort 8 is below port 9",
        "StagedNetworkPolicy ns1/s: is not counted: ingress[0].source.selector: ",
        "StagedNetworkPolicy ns1/t: is not counted: ingress[0].destination.ports: needs",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    assert!(compiled.ruleset.chains.keys().all(|name| !name.starts_with("staged-")));
}
