//! Policies of Kubernetes, in its own shape, as `knp.default.*`: what its documentation says about them.

mod support;

use support::packet;
use tortie_model::kubernetes_policy::{PREFIX, network_policy};
use tortie_policy::compile;
use tortie_policy::eval::eval;
use tortie_policy::snapshot::{PolicyBody, PolicyId};

/// Pods `web`, `db` and `api` of namespace `shop` (labels `tier: front`), `web` also of `other`; `vm` is no pod.
const WORLD: &str = r#"
tiers: { default: { order: 1000000 } }
profiles:
  kns.shop: { ingress: [{ action: Allow }], egress: [{ action: Allow }], labelsToApply: { pcns.team: front, pcns.projectcalico.org/name: shop } }
  kns.other: { ingress: [{ action: Allow }], egress: [{ action: Allow }], labelsToApply: { pcns.team: back, pcns.projectcalico.org/name: other } }
endpoints:
  - { name: db, namespace: shop, labels: { app: db, projectcalico.org/orchestrator: k8s }, profiles: [kns.shop], addresses: [10.0.0.1, "fd00::1"], interface: calidb, ports: [{ name: sql, protocol: TCP, port: 5432 }] }
  - { name: web, namespace: shop, labels: { app: web, v: "2", projectcalico.org/orchestrator: k8s }, profiles: [kns.shop], addresses: [10.0.0.2, "fd00::2"], interface: caliweb }
  - { name: oweb, namespace: other, labels: { app: web, projectcalico.org/orchestrator: k8s }, profiles: [kns.other], addresses: [10.0.0.3] }
  - { name: oapi, namespace: other, labels: { app: api, projectcalico.org/orchestrator: k8s }, profiles: [kns.other], addresses: [10.0.0.4] }
  - { name: vm, namespace: shop, labels: { app: web, projectcalico.org/orchestrator: openstack }, profiles: [kns.shop], addresses: [10.0.0.5] }
networkSets: [{ name: s, labels: { app: web }, nets: [10.9.0.0/16] }]
"#;

/// Judges packets with one policy of namespace `shop`.
fn allowed(spec: &str, packets: &[&str]) -> Vec<bool> {
    let mut snapshot = support::snapshot(WORLD);
    let spec = network_policy(&serde_yaml::from_str(spec).expect("a policy")).expect("one without a mistake");
    assert_eq!((spec.order, spec.tier.as_deref()), (Some(1000.0), None));
    let id = PolicyId { name: format!("{PREFIX}p"), namespace: "shop".into() };
    snapshot.policies.insert(id, PolicyBody::Network(Box::new(spec)));
    let compiled = compile(&snapshot);
    assert_eq!(compiled.problems, []);
    packets.iter().map(|text| eval(&compiled.ruleset, &packet(text)).allowed).collect()
}

/// The sources that reach `db`, by TCP port 5432.
fn sources(from: &str) -> Vec<&'static str> {
    let all = [
        ("web", "10.0.0.2"),
        ("oweb", "10.0.0.3"),
        ("oapi", "10.0.0.4"),
        ("vm", "10.0.0.5"),
        ("set", "10.9.0.1"),
        ("outside", "192.0.2.9"),
    ];
    let spec = format!("{{ podSelector: {{ matchLabels: {{ app: db }} }}, ingress: [{from}] }}");
    let packets = all.map(|(_, address)| format!("eth0 > calidb {address} > 10.0.0.1 tcp 5432"));
    let packets: Vec<&str> = packets.iter().map(String::as_str).collect();
    let verdicts = allowed(&spec, &packets);
    all.into_iter().zip(verdicts).filter(|(_, yes)| *yes).map(|((name, _), _)| name).collect()
}

#[test]
fn peers() {
    let everybody = ["web", "oweb", "oapi", "vm", "set", "outside"];
    assert_eq!(sources("{}"), everybody, "no from: all sources");
    assert_eq!(sources("{ from: [] }"), everybody);
    // An empty selector of pods is all pods of the policy's namespace, one of namespaces all pods of all namespaces.
    assert_eq!(sources("{ from: [{ podSelector: {} }] }"), ["web"]);
    assert_eq!(sources("{ from: [{ namespaceSelector: {} }] }"), ["web", "oweb", "oapi"]);
    assert_eq!(sources("{ from: [{ podSelector: { matchLabels: { app: web } } }] }"), ["web"]);
    let team = "namespaceSelector: { matchLabels: { team: back } }";
    assert_eq!(sources(&format!("{{ from: [{{ {team} }}] }}")), ["oweb", "oapi"]);
    // In one item both must hold; two items are an "or".
    let web = "podSelector: { matchLabels: { app: web } }";
    assert_eq!(sources(&format!("{{ from: [{{ {team}, {web} }}] }}")), ["oweb"]);
    assert_eq!(sources(&format!("{{ from: [{{ {team} }}, {{ {web} }}] }}")), ["web", "oweb", "oapi"]);
    assert_eq!(sources(&format!("{{ from: [{{ namespaceSelector: {{}}, {web} }}] }}")), ["web", "oweb"]);
}

#[test]
fn expressions() {
    let pods = |expression: &str| {
        sources(&format!(
            "{{ from: [{{ namespaceSelector: {{}}, podSelector: {{ matchExpressions: [{expression}] }} }}] }}"
        ))
    };
    assert_eq!(pods("{ key: app, operator: In, values: [web, x] }"), ["web", "oweb"]);
    assert_eq!(pods("{ key: app, operator: NotIn, values: [web] }"), ["oapi"]);
    assert_eq!(
        pods("{ key: v, operator: NotIn, values: ['1'] }"),
        ["web", "oweb", "oapi"],
        "absent is not in"
    );
    assert_eq!(pods("{ key: v, operator: Exists }"), ["web"]);
    assert_eq!(pods("{ key: v, operator: DoesNotExist }"), ["oweb", "oapi"]);
    let both = "{ key: v, operator: Exists }, { key: app, operator: In, values: [api] }";
    assert_eq!(pods(both), Vec::<&str>::new());
}

#[test]
fn ip_blocks_with_holes() {
    let block = "{ from: [{ ipBlock: { cidr: 10.0.0.0/8, except: [10.0.0.0/30, 10.9.0.0/24] } }] }";
    assert_eq!(sources(block), ["oapi", "vm"]);
    assert_eq!(sources("{ from: [{ ipBlock: { cidr: 192.0.2.0/24 } }] }"), ["outside"]);
    let any = "{ from: [{ ipBlock: { cidr: 0.0.0.0/0 } }] }";
    assert_eq!(sources(any).len(), 6);
    let spec = format!("{{ podSelector: {{}}, ingress: [{any}] }}");
    assert_eq!(allowed(&spec, &["eth0 > calidb fd00::9 > fd00::1 tcp 80"]), [false], "it is IPv4 only");
}

#[test]
fn ports() {
    let open = |ports: &str| -> Vec<bool> {
        let spec = format!("{{ podSelector: {{}}, ingress: [{{ ports: [{ports}] }}] }}");
        let packets = ["tcp 80", "tcp 85", "udp 80", "tcp 5432", "udp 5432"];
        let packets = packets.map(|p| format!("eth0 > calidb 192.0.2.9 > 10.0.0.1 {p}"));
        allowed(&spec, &packets.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(open("{ port: 80 }"), [true, false, false, false, false], "TCP unless said otherwise");
    assert_eq!(open("{ port: 80, protocol: UDP }"), [false, false, true, false, false]);
    assert_eq!(open("{ port: 80, endPort: 90 }"), [true, true, false, false, false]);
    assert_eq!(open("{ port: sql }"), [false, false, false, true, false]);
    assert_eq!(open("{ port: sql, protocol: UDP }"), [false; 5], "a name is one of its protocol");
    assert_eq!(open("{ protocol: UDP }"), [false, false, true, false, true], "all ports of the protocol");
    assert_eq!(open("{ protocol: UDP }, { port: 80 }"), [true, false, true, false, true]);
    assert_eq!(
        open("{ port: 80 }, { port: sql }, { port: 84, endPort: 86 }"),
        [true, true, false, true, false]
    );
    let icmp = ["eth0 > calidb 192.0.2.9 > 10.0.0.1 icmp 8 0"];
    assert_eq!(allowed("{ podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] }", &icmp), [false]);
    assert_eq!(allowed("{ podSelector: {}, ingress: [{}] }", &icmp), [true]);
    // The port is the peer's in egress.
    let egress = "{ podSelector: {}, policyTypes: [Egress], egress: [{ to: [{ podSelector: {} }], ports: [{ port: sql }] }] }";
    let out = |to: &str, port: u16| format!("caliweb > calidb 10.0.0.2 > {to} tcp {port}");
    let verdicts = allowed(egress, &[&out("10.0.0.1", 5432), &out("10.0.0.1", 80), &out("10.0.0.4", 5432)]);
    assert_eq!(verdicts, [true, false, false]);
}

#[test]
fn policy_types_and_isolation() {
    let verdicts = |spec: &str| {
        allowed(
            spec,
            &["eth0 > calidb 192.0.2.9 > 10.0.0.1 tcp 80", "calidb > eth0 10.0.0.1 > 192.0.2.9 tcp 80"],
        )
    };
    assert_eq!(verdicts("{ podSelector: { matchLabels: { app: x } } }"), [true, true], "it selects nobody");
    assert_eq!(verdicts("{ podSelector: {} }"), [false, true], "isolated for ingress");
    assert_eq!(verdicts("{ podSelector: {}, policyTypes: [Egress] }"), [true, false]);
    assert_eq!(verdicts("{ podSelector: {}, policyTypes: [Ingress, Egress] }"), [false, false]);
    assert_eq!(verdicts("{ podSelector: {}, egress: [{}] }"), [false, true], "with egress rules both");
    assert_eq!(
        verdicts("{ podSelector: {}, policyTypes: [Ingress], egress: [{ ports: [{ port: 1 }] }] }"),
        [false, true]
    );
    assert_eq!(verdicts("{ podSelector: {}, ingress: [{}] }"), [true, true]);
    // Nothing outside the namespace, and nothing that is no pod.
    let vm = ["eth0 > calidb 10.0.0.5 > 10.0.0.1 tcp 80"];
    assert_eq!(allowed("{ podSelector: { matchLabels: { app: web } } }", &vm), [true]);
}

#[test]
fn mistakes_are_named() {
    for (spec, wanted) in [
        (
            "{ ingress: [{ ports: [{ port: 70000 }] }] }",
            "ingress[0].ports[0].port 70000 is no number from 1 to 65535",
        ),
        ("{ ingress: [{ ports: [{ endPort: 7 }] }] }", "ingress[0].ports[0].endPort needs a port by number"),
        (
            "{ ingress: [{ ports: [{ port: http, endPort: 7 }] }] }",
            "ingress[0].ports[0].port \"http\" is no number from 1 to 65535",
        ),
        (
            "{ egress: [{ ports: [{ protocol: ICMP }] }] }",
            "egress[0].ports[0].protocol 'ICMP' is none of TCP, UDP and SCTP",
        ),
        ("{ egress: [{ to: [{}] }] }", "egress[0].peers[0].names no peer"),
        (
            "{ egress: [{ to: [{ ipBlock: { cidr: x } }] }] }",
            "egress[0].peers[0].ipBlock: 'x' is no network such as 10.0.0.0/8",
        ),
        (
            "{ podSelector: { matchExpressions: [{ key: a, operator: Is }] } }",
            "podSelector.matchExpressions: operator 'Is' is not known",
        ),
        (
            "{ podSelector: { matchLabels: { a: \"x' || all() || a == 'x\" } } }",
            "podSelector.value \"x' || all() || a == 'x\" is none of a label",
        ),
    ] {
        let policy = network_policy(&serde_yaml::from_str(spec).expect("YAML"));
        assert_eq!(policy, Err(wanted.to_owned()), "{spec}");
    }
}
