//! Real packets through the compiled rules: three workloads behind veths of one node, in namespaces of their own. Shows that
//! the kernel reads the rules as `eval` does, above all where only the kernel knows: reverse routes, connection tracking,
//! neighbour discovery, NAT.

mod support;

use std::collections::BTreeMap;

use tortie_policy::{compile, nft};

/// `a` may reach `b` and the node, `b` may not reach `a`; `x` is unknown to policy. The outside is in a network that may
/// reach `a`, and beside one that may reach `b`.
const WORLD: &str = r#"
tiers: { default: {} }
endpointToHost: Accept
policies:
  - name: b-takes-pings-of-a
    namespace: n
    spec: { selector: app == 'b', types: [Ingress], ingress: [{ action: Allow, protocol: ICMP, source: { selector: app == 'a' } }, { action: Allow, protocol: ICMPv6, icmp: { type: 128 }, source: { selector: app == 'a' } }] }
  - name: a-takes-pings-of-near
    spec: { selector: app == 'a', types: [Ingress], ingress: [{ action: Allow, protocol: ICMP, source: { selector: zone == 'near' } }, { action: Allow, protocol: ICMPv6, source: { selector: zone == 'near' } }] }
  - name: b-takes-pings-of-far
    spec: { selector: app == 'b', types: [Ingress], ingress: [{ action: Allow, source: { selector: zone == 'far' } }] }
profiles:
  open: { ingress: [{ action: Allow }], egress: [{ action: Allow }] }
networkSets:
  - { name: near, labels: { zone: near }, nets: [192.0.2.8/29, 192.0.2.8/30, "2001:db8::/61"] }
  - { name: far, labels: { zone: far }, nets: [192.0.2.0/29, "2001:db8:0:8::/61"] }
pools: [{ cidr: 10.0.0.0/24, natOutgoing: true }]
endpoints:
  - { name: a, namespace: n, labels: { app: a }, profiles: [open], addresses: [10.0.0.1, "fd00::1"], interface: calia }
  - { name: b, namespace: n, labels: { app: b }, profiles: [open], addresses: [10.0.0.2, "fd00::2"], interface: calib }
"#;

/// Builds the node, loads the rules named first, and prints `name yes|no` for each ping.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs none /run
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
ip link set lo up
workload() {
    ip netns add $1
    ip link add $2 type veth peer name eth0 netns $1
    ip link set $2 up
    sysctl -qw net.ipv4.conf.$2.proxy_arp=1 net.ipv4.neigh.$2.proxy_delay=0
    ip -n $1 link set lo up
    ip -n $1 link set eth0 up
    ip -n $1 address add $3/32 dev eth0
    ip -n $1 -6 address add $4/128 dev eth0 nodad
    ip -n $1 route add 169.254.1.1 dev eth0
    ip -n $1 route add default via 169.254.1.1 dev eth0
    ip address add 169.254.1.1/32 dev $2
    ip -6 address add fe80::1/64 dev $2 nodad
    ip -n $1 -6 route add default via fe80::1 dev eth0
    ip route add $3/32 dev $2
    ip -6 route add $4/128 dev $2
}
workload a calia 10.0.0.1 fd00::1
workload b calib 10.0.0.2 fd00::2
workload x calix 10.0.0.3 fd00::3
# The outside: a neighbour that knows the way to the node only, not to the pool.
ip netns add out
ip link add up0 type veth peer name eth0 netns out
ip address add 192.0.2.1/24 dev up0
ip link set up0 up
ip -n out link set lo up
ip -n out link set eth0 up
ip -n out address add 192.0.2.9/24 dev eth0
ip address add 2001:db8::1/64 dev up0 nodad
ip -n out -6 address add 2001:db8::9/64 dev eth0 nodad
ip -n out -6 route add fd00::/64 via 2001:db8::1
nft -f "$RULES"
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name yes"; else echo "$name no"; fi; }
# The first may be lost to a busy machine.
thrice() { "$@" || "$@" || "$@"; }
ping1() { ns=$1; shift; thrice ip netns exec $ns ping -c 1 -W 0.4 "$@"; }
try a-to-b ping1 a 10.0.0.2
try a-to-b-v6 ping1 a fd00::2
try b-to-a ping1 b 10.0.0.1
try b-to-a-v6 ping1 b fd00::1
try a-to-node ping1 a 192.0.2.1
try node-to-a thrice ping -c 1 -W 0.4 10.0.0.1
try a-to-outside ping1 a 192.0.2.9
try x-to-b ping1 x 10.0.0.2
try x-to-node ping1 x 192.0.2.1
try x-to-outside ping1 x 192.0.2.9
ip -n out route add 10.0.0.0/24 via 192.0.2.1
try outside-to-b ping1 out 10.0.0.2
try outside-to-b-v6 ping1 out fd00::2
try outside-to-a ping1 out 10.0.0.1
try outside-to-a-v6 ping1 out fd00::1
ip -n x address add 10.0.0.1/32 dev eth0
try x-as-a ping1 x -I 10.0.0.1 10.0.0.2
nft list chain inet tortie prerouting | sed -n 's/.*fib.*packets [1-9].*/spoofed yes/p'
"#;

#[test]
fn the_kernel_reads_the_rules_as_meant() {
    let compiled = compile(&support::snapshot(WORLD));
    assert_eq!(compiled.problems, []);
    let found = support::run(SCRIPT, &nft::render(&compiled.ruleset));
    let wanted = [
        ("a-to-b", "yes"),
        ("a-to-b-v6", "yes"),
        ("b-to-a", "no"),
        ("b-to-a-v6", "no"),
        ("a-to-node", "yes"),
        ("node-to-a", "yes"),
        ("a-to-outside", "yes"),
        ("x-to-b", "no"),
        ("x-to-node", "no"),
        ("x-to-outside", "no"),
        ("outside-to-b", "no"),
        ("outside-to-b-v6", "no"),
        ("outside-to-a", "yes"),
        ("outside-to-a-v6", "yes"),
        ("x-as-a", "no"),
        ("spoofed", "yes"),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found, BTreeMap::from(wanted));
}

/// Every "no" above is the doing of the rules: without them the same pings arrive.
#[test]
fn without_rules_the_same_pings_arrive() {
    let found = support::run(SCRIPT, "table inet tortie {\n\tchain prerouting {\n\t}\n}\n");
    let unanswered: Vec<_> = found.iter().filter(|(_, v)| *v == "no").map(|(k, _)| k.as_str()).collect();
    // No address translation, and the answer to a forged source goes to its owner.
    assert_eq!(unanswered, ["a-to-outside", "x-as-a", "x-to-outside"]);
}
