//! Real packets at a host endpoint: that the kernel reads marks, translation and tracking as `eval` does.

mod support;

use std::collections::BTreeMap;

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

/// Builds the node, loads the rules, and prints `name yes|no` for each connection. A port nobody listens on refuses at
/// once; only a packet that was dropped makes a connection wait.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs none /run
sysctl -qw net.ipv4.ip_forward=1
ip link set lo up
ip netns add a
ip link add calia type veth peer name eth0 netns a
ip link set calia up
sysctl -qw net.ipv4.conf.calia.proxy_arp=1 net.ipv4.neigh.calia.proxy_delay=0
ip -n a link set lo up
ip -n a link set eth0 up
ip -n a address add 10.0.0.1/32 dev eth0
ip -n a route add 169.254.1.1 dev eth0
ip -n a route add default via 169.254.1.1 dev eth0
ip address add 169.254.1.1/32 dev calia
ip route add 10.0.0.1/32 dev calia
ip netns add out
ip link add up0 type veth peer name eth0 netns out
ip address add 192.0.2.1/24 dev up0
ip link set up0 up
ip -n out link set lo up
ip -n out link set eth0 up
ip -n out address add 192.0.2.9/24 dev eth0
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
try() {
    code=0
    if [ "$2" = node ]; then enter=; else enter="ip netns exec $2"; fi
    timeout 2 $enter bash -c "echo > /dev/tcp/$3/$4" 2>/dev/null || code=$?
    if [ $code = 124 ]; then echo "$1 no"; else echo "$1 yes"; fi
}
{
try failsafe out 192.0.2.1 22 &
try allowed out 192.0.2.1 8080 &
try not-allowed out 192.0.2.1 8081 &
try untracked-both-ways out 192.0.2.1 7777 &
try untracked-one-way out 192.0.2.1 7778 &
try node-port-denied out 192.0.2.1 30080 &
try node-port out 192.0.2.1 30081 &
try node-port-allowed-before-translation out 192.0.2.1 30082 &
try forwarded-denied out 10.0.0.1 81 &
try forwarded out 10.0.0.1 82 &
try workload-to-node a 192.0.2.1 8081 &
try workload-to-outside a 192.0.2.9 80 &
try node-to-workload node 10.0.0.1 80 &
try node-out node 192.0.2.9 8443 &
try node-out-denied node 192.0.2.9 8444 &
try node-to-service node 10.96.0.1 443 &
try node-to-service-denied node 10.96.0.2 443 &
try node-to-itself node 127.0.0.1 80 &
wait
}
nft list table inet tortie | sed -n 's/.*counter packets [1-9].*staged policy n\/s would deny ingress\[0\].*/staged-counted yes/p'
"#;

#[test]
fn the_kernel_reads_the_rules_of_hosts_as_meant() {
    let compiled = compile(&support::snapshot(WORLD));
    assert_eq!(compiled.problems, []);
    let found = support::run(SCRIPT, &nft::render(&compiled.ruleset));
    let wanted = [
        ("failsafe", "yes"),
        ("allowed", "yes"),
        ("not-allowed", "no"),
        ("untracked-both-ways", "yes"),
        ("untracked-one-way", "no"),
        ("node-port-denied", "no"),
        ("node-port", "yes"),
        ("node-port-allowed-before-translation", "yes"),
        ("forwarded-denied", "no"),
        ("forwarded", "yes"),
        ("workload-to-node", "yes"),
        ("workload-to-outside", "yes"),
        ("node-to-workload", "yes"),
        ("node-out", "yes"),
        ("node-out-denied", "no"),
        ("node-to-service", "yes"),
        ("node-to-service-denied", "no"),
        ("node-to-itself", "yes"),
        ("staged-counted", "yes"),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found, BTreeMap::from(wanted));
}

/// Every "no" above is the doing of the rules.
#[test]
fn without_rules_the_same_connections_are_answered() {
    let found = support::run(SCRIPT, "table inet tortie {\n}\n");
    assert!(found.len() == 18 && found.values().all(|value| value == "yes"), "{found:?}");
}
