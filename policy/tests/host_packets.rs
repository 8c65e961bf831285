//! Real packets at a host endpoint: that the kernel reads marks, translation and tracking as `eval` does.

mod support;

use support::node::{answers, run};
use tortie_policy::{compile, nft};

/// The node has `up0` to the outside, a workload behind `calia`, and services translated by another table.
const WORLD: &str = r#"
tiers: { default: {} }
endpointToHost: Accept
policies:
  - { name: normal, spec: { selector: host == 'h', order: 10, ingress: [{ action: Allow, protocol: TCP, destination: { ports: [8080] } }], egress: [{ action: Allow, protocol: TCP, destination: { nets: [192.0.2.9/32], ports: [8443] } }] } }
  - { name: before-translation, spec: { selector: host == 'h', preDNAT: true, applyOnForward: true, ingress: [{ action: Deny, protocol: TCP, destination: { ports: [30080] } }, { action: Allow, protocol: TCP, destination: { ports: [30082] } }] } }
  - { name: untracked, spec: { selector: host == 'h', doNotTrack: true, applyOnForward: true, ingress: [{ action: Allow, protocol: TCP, destination: { ports: [7777, 7778] } }], egress: [{ action: Allow, protocol: TCP, source: { ports: [7777] } }, { action: Deny, protocol: TCP, source: { ports: [7778] } }] } }
  - { name: forwarded, spec: { selector: host == 'h', order: 5, applyOnForward: true, types: [Ingress], ingress: [{ action: Deny, protocol: TCP, destination: { nets: [10.0.0.1/32], ports: [81] } }, { action: Allow, destination: { nets: [10.0.0.0/24] } }] } }
staged:
  - { name: s, namespace: n, spec: { ingress: [{ action: Deny, protocol: TCP, destination: { ports: [82] } }] } }
profiles: { open: { ingress: [{ action: Allow }], egress: [{ action: Allow }] } }
hostEndpoints: [{ name: h, labels: { host: h }, interface: up0 }]
endpoints: [{ name: a, namespace: n, labels: { app: a }, profiles: [open], addresses: [10.0.0.1], interface: calia }]
"#;

/// A workload, the outside and the services; what is tried by TCP is tried all at once.
const SCRIPT: &str = r#"
workload a calia 10.0.0.1 fd00::1
outside
ip -n out route add default via 192.0.2.1
ip route add 10.96.0.0/16 via 192.0.2.9
nft -f - <<END
table ip services {
    chain received {
        type nat hook prerouting priority -100
        tcp dport 30080 dnat to 10.0.0.1:80
        tcp dport 30081 dnat to 10.0.0.1:80
        tcp dport 30082 dnat to 10.0.0.1:81
    }
    chain sent {
        type nat hook output priority -100
        ip daddr 10.96.0.1 tcp dport 443 dnat to 192.0.2.9:8443
        ip daddr 10.96.0.2 tcp dport 443 dnat to 192.0.2.9:9443
    }
}
END
nft -f "$RULES"
{
try failsafe connect_from out 192.0.2.1 22 &
try allowed connect_from out 192.0.2.1 8080 &
try not-allowed connect_from out 192.0.2.1 8081 &
try untracked-both-ways connect_from out 192.0.2.1 7777 &
try untracked-one-way connect_from out 192.0.2.1 7778 &
try node-port-denied connect_from out 192.0.2.1 30080 &
try node-port connect_from out 192.0.2.1 30081 &
try node-port-allowed-before-translation connect_from out 192.0.2.1 30082 &
try forwarded-denied connect_from out 10.0.0.1 81 &
try forwarded connect_from out 10.0.0.1 82 &
try workload-to-node connect_from a 192.0.2.1 8081 &
try workload-to-outside connect_from a 192.0.2.9 80 &
try node-to-workload connect_from node 10.0.0.1 80 &
try node-out connect_from node 192.0.2.9 8443 &
try node-out-denied connect_from node 192.0.2.9 8444 &
try node-to-service connect_from node 10.96.0.1 443 &
try node-to-service-denied connect_from node 10.96.0.2 443 &
try node-to-itself connect_from node 127.0.0.1 80 &
wait
}
nft list table inet tortie | sed -n 's/.*counter packets [1-9].*staged policy n\/s would deny ingress\[0\].*/staged-counted yes/p'
"#;

#[test]
fn the_kernel_reads_the_rules_of_hosts_as_meant() {
    let compiled = compile(&support::snapshot(WORLD));
    assert_eq!(compiled.problems, []);
    let wanted = answers(
        "failsafe allowed untracked-both-ways node-port node-port-allowed-before-translation forwarded \
         workload-to-node workload-to-outside node-to-workload node-out node-to-service node-to-itself staged-counted",
        "not-allowed untracked-one-way node-port-denied forwarded-denied node-out-denied node-to-service-denied",
    );
    assert_eq!(run(SCRIPT, &nft::render(&compiled.ruleset)), wanted);
}

/// What is not answered above is the doing of the rules.
#[test]
fn without_rules_the_same_connections_are_answered() {
    let found = run(SCRIPT, "table inet tortie {\n}\n");
    assert!(found.len() == 18 && found.values().all(|answered| *answered), "{found:?}");
}
