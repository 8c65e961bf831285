//! Runs of rules as lookups: how many there are, how large they get, and that they follow their peers.

mod support;

use std::fmt::Write as _;
use std::sync::Arc;

use support::packet;
use tortie_policy::change::diff;
use tortie_policy::ir::{Direction, Match};
use tortie_policy::snapshot::{EndpointId, NetworkSet};
use tortie_policy::{Engine, Ruleset, Snapshot, compile, eval};

/// `a` takes connections from three kinds of peers.
const THREE: &str = r#"
tiers: { default: {} }
policies:
  - name: p
    namespace: ns
    spec:
      selector: app == 'a'
      ingress:
        - { action: Allow, protocol: TCP, source: { selector: role == 's', namespaceSelector: global() }, destination: { ports: [80] } }
        - { action: Allow, protocol: TCP, source: { nets: [198.51.100.1/32] }, destination: { ports: [80] } }
        - { action: Allow, protocol: TCP, source: { nets: [198.51.100.2/32] }, destination: { ports: [81] } }
endpoints:
  - { name: a, namespace: ns, labels: { app: a }, addresses: [10.0.0.1], interface: calia }
"#;

fn allowed(ruleset: &Ruleset, from: &str, port: u16) -> bool {
    eval::eval(ruleset, &packet(&format!("eth0 > calia {from} > 10.0.0.1 tcp {port}"))).allowed
}

/// The rules of the one group of a direction.
fn lookups(ruleset: &Ruleset, direction: Direction) -> usize {
    let prefix = match direction {
        Direction::Ingress => "in-",
        Direction::Egress => "out-",
    };
    ruleset
        .chains
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(_, chain)| chain.rules.len())
        .sum()
}

fn rows(ruleset: &Ruleset) -> usize {
    ruleset.sets.iter().filter(|(name, _)| name.starts_with("rows")).map(|(_, set)| set.elements.len()).sum()
}

fn set_nets(engine: &mut Engine, name: &str, nets: &[&str]) {
    let id = Arc::new(EndpointId { namespace: String::new(), name: name.to_owned() });
    let labels = [("role", "s")].into_iter().collect();
    let nets = nets.iter().map(|net| net.parse().expect("a network")).collect::<Vec<_>>();
    let set = NetworkSet { labels, profiles: Vec::new(), nets: nets.clone().into() };
    engine.set_network_set(&id, (!nets.is_empty()).then(|| Arc::new(set)).as_ref());
}

#[test]
fn a_peer_that_leaves_while_everything_is_a_peer_is_gone() {
    let mut engine = Engine::default();
    engine.set_all(&support::snapshot(THREE));
    set_nets(&mut engine, "few", &["192.0.2.1/32", "192.0.2.2/32"]);
    let before = engine.flush().ruleset;
    assert!(before.sets.keys().any(|name| name.starts_with("rows4-")) && allowed(&before, "192.0.2.1", 80));
    set_nets(&mut engine, "all", &["0.0.0.0/0"]);
    set_nets(&mut engine, "few", &["192.0.2.2/32"]);
    set_nets(&mut engine, "all", &[]);
    let after = engine.flush().ruleset;
    assert!(!allowed(&after, "192.0.2.1", 80) && allowed(&after, "192.0.2.2", 80));
}

/// Peer `n` of those that `s` selects comes or goes.
fn set_peer(engine: &mut Engine, n: u32, present: bool) {
    let address = std::net::Ipv4Addr::from(0xc612_0000 + n);
    let nets = [format!("{address}/32")];
    let nets: Vec<&str> = nets.iter().map(String::as_str).filter(|_| present).collect();
    set_nets(engine, &format!("h{n}"), &nets);
}

#[test]
fn sets_have_room_for_what_comes() {
    let mut engine = Engine::default();
    engine.set_all(&support::snapshot(THREE));
    let mut held = engine.flush().ruleset;
    let mut sizes = Vec::new();
    for (n, present) in (0..600).map(|n| (n, true)).chain((0..600).map(|n| (n, false))) {
        set_peer(&mut engine, n, present);
        let ruleset = engine.flush().ruleset;
        // The kernel takes each change of it: nowhere are more members than there is room for.
        for change in diff(&held, &ruleset) {
            held.apply(&change).expect("a change");
        }
        assert!(held.sets == ruleset.sets && held.chains == ruleset.chains, "after {n}");
        held = ruleset;
        sizes.extend(held.sets.iter().filter(|(name, _)| name.starts_with("rows4")).map(|(_, set)| set.size));
    }
    sizes.dedup();
    assert_eq!(sizes, [None, Some(512), Some(1024), Some(2048), Some(1024), Some(512), None]);
}

#[test]
fn a_selector_with_many_peers_has_a_set_of_its_own() {
    let mut engine = Engine::default();
    let snapshot = support::snapshot(THREE);
    engine.set_all(&snapshot);
    (0..1023).for_each(|n| set_peer(&mut engine, n, true));
    let mut merged = Vec::new();
    for (n, present) in [(1023, true), (1024, true), (1025, true), (1025, false), (1024, false), (0, false)] {
        set_peer(&mut engine, n, present);
        let ruleset = engine.flush().ruleset;
        merged.push(rows(&ruleset) > 1000);
        assert_eq!(allowed(&ruleset, &std::net::Ipv4Addr::from(0xc612_0000 + n).to_string(), 80), present);
        assert!(allowed(&ruleset, "198.51.100.1", 80) && allowed(&ruleset, "198.18.3.232", 80));
    }
    assert_eq!(merged, [true, false, false, false, true, true]);
}

/// So many rules of one policy, for peers of their own.
fn policy_of(rules: usize, name: &str, selector: &str) -> String {
    let mut text =
        format!("  - {{ name: {name}, namespace: ns, spec: {{ selector: \"{selector}\", ingress: [");
    for n in 0..rules {
        let source = match n % 2 {
            0 => format!("selector: \"peer == 'p{}'\"", n % 40),
            _ => format!("nets: [10.{}.{}.0/24]", n / 200 % 200, n % 200),
        };
        let destination = format!("ports: [{}]", 1000 + n / 2);
        let _ = write!(
            text,
            "{{ action: Allow, protocol: TCP, source: {{ {source} }}, destination: {{ {destination} }} }}, "
        );
    }
    text + "] } }\n"
}

fn peers() -> String {
    let endpoint = |n| {
        format!("  - {{ name: p{n}, namespace: ns, labels: {{ peer: p{n} }}, addresses: [10.65.0.{n}] }}\n")
    };
    (0..40).map(endpoint).collect()
}

#[test]
fn thousands_of_rules_are_a_few_lookups() {
    let text = format!(
        "tiers: {{ default: {{}} }}\npolicies:\n{}endpoints:\n  - {{ name: a, namespace: ns, labels: {{ app: a }}, addresses: \
         [10.0.0.1], interface: calia }}\n{}",
        policy_of(5000, "p", "app == 'a'"),
        peers()
    );
    let compiled = compile(&support::snapshot(&text));
    assert!(compiled.problems.is_empty(), "{:?}", compiled.problems);
    assert_eq!(lookups(&compiled.ruleset, Direction::Ingress), 3, "two lookups, and the end");
    assert!(allowed(&compiled.ruleset, "10.65.0.2", 1001) && !allowed(&compiled.ruleset, "10.65.0.2", 1002));
    assert!(
        allowed(&compiled.ruleset, "10.24.199.7", 3499) && !allowed(&compiled.ruleset, "10.24.199.7", 3498)
    );
}

/// Groups that have a large policy in common share its rows when they are many; each would have all of them otherwise.
#[test]
fn many_groups_share_the_rows_of_a_policy() {
    let world = |groups: usize, rows: usize| -> Snapshot {
        let mut text =
            format!("tiers: {{ default: {{}} }}\npolicies:\n{}", policy_of(200, "large", "has(app)"));
        (0..groups).for_each(|n| text += &policy_of(8, &format!("own{n}"), &format!("app == 'a{n}'")));
        text += "endpoints:\n";
        for n in 0..groups {
            let _ = writeln!(
                text,
                "  - {{ name: a{n}, namespace: ns, labels: {{ app: a{n} }}, addresses: [10.0.0.{n}], interface: cali{n} }}"
            );
        }
        let mut snapshot = support::snapshot(&(text + &peers()));
        snapshot.options.merged_rows = rows;
        snapshot
    };
    let alone = rows(&compile(&world(1, 2_000)).ruleset);
    assert!(alone >= 200, "{alone}");
    let roomy = rows(&compile(&world(30, 1 << 20)).ruleset);
    assert!(roomy > 25 * alone, "{roomy}");
    let tight = rows(&compile(&world(30, 2_000)).ruleset);
    assert!(tight < 3 * alone, "{tight}");
    // However it came to be so many.
    let mut engine = Engine::default();
    let (few, many) = (world(2, 2_000), world(30, 2_000));
    engine.set_all(&few);
    engine.flush();
    engine.set_all(&many);
    assert!(engine.flush() == compile(&many));
    for (id, endpoint) in &many.endpoints {
        let stays = few.endpoints.contains_key(id);
        engine.set_endpoint(id, Some(endpoint).filter(|_| stays));
    }
    for id in many.policies.keys().filter(|id| !few.policies.contains_key(*id)) {
        engine.set_policy(id, None);
    }
    assert!(engine.flush() == compile(&few));
}

#[test]
fn networks_of_many_lengths_stay_together() {
    let scattered: Vec<String> = (8..32u32).map(|n| format!("{}.0.0.0/{n}", 2 * n)).collect();
    let rule = |port: u16| {
        format!(
            "{{ action: Allow, protocol: TCP, source: {{ nets: [{}] }}, destination: {{ ports: [{port}] }} }}",
            scattered.join(", ")
        )
    };
    let text = format!(
        "tiers: {{ default: {{}} }}\npolicies: [{{ name: p, namespace: ns, spec: {{ selector: all(), ingress: [{}, {}, {}] }} }}]\n\
         endpoints: [{{ name: a, namespace: ns, addresses: [10.0.0.1], interface: calia }}]",
        rule(80),
        rule(81),
        rule(82)
    );
    let ruleset = compile(&support::snapshot(&text)).ruleset;
    assert!(lookups(&ruleset, Direction::Ingress) <= 4, "{:?}", ruleset.chains.keys().collect::<Vec<_>>());
    let uses_rows = |chain: &tortie_policy::ir::Chain| {
        chain.rules.iter().flat_map(|rule| &rule.matches).any(|condition| matches!(condition, Match::Row(..)))
    };
    assert!(!ruleset.chains.values().any(uses_rows));
}
