//! Real packets through the compiled rules: three workloads behind veths of one node, in namespaces of their own. Shows that
//! the kernel reads the rules as `eval` does, above all where only the kernel knows: reverse routes, connection tracking,
//! neighbour discovery, NAT.

mod support;

use support::node::{answers, run};
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

/// Three workloads and the outside, which pings.
const SCRIPT: &str = r#"
workload a calia 10.0.0.1 fd00::1
workload b calib 10.0.0.2 fd00::2
workload x calix 10.0.0.3 fd00::3
outside
ip address add 2001:db8::1/64 dev up0 nodad
ip -n out -6 address add 2001:db8::9/64 dev eth0 nodad
ip -n out -6 route add fd00::/64 via 2001:db8::1
nft -f "$RULES"
try a-to-b ping_from a 10.0.0.2
try a-to-b-v6 ping_from a fd00::2
try b-to-a ping_from b 10.0.0.1
try b-to-a-v6 ping_from b fd00::1
try a-to-node ping_from a 192.0.2.1
try node-to-a ping_from node 10.0.0.1
try a-to-outside ping_from a 192.0.2.9
try x-to-b ping_from x 10.0.0.2
try x-to-node ping_from x 192.0.2.1
try x-to-outside ping_from x 192.0.2.9
ip -n out route add 10.0.0.0/24 via 192.0.2.1
try outside-to-b ping_from out 10.0.0.2
try outside-to-b-v6 ping_from out fd00::2
try outside-to-a ping_from out 10.0.0.1
try outside-to-a-v6 ping_from out fd00::1
ip -n x address add 10.0.0.1/32 dev eth0
try x-as-a ping_from x -I 10.0.0.1 10.0.0.2
nft list chain inet tortie prerouting | sed -n 's/.*fib.*packets [1-9].*/spoofed yes/p'
"#;

#[test]
fn the_kernel_reads_the_rules_as_meant() {
    let compiled = compile(&support::snapshot(WORLD));
    assert_eq!(compiled.problems, []);
    let wanted = answers(
        "a-to-b a-to-b-v6 a-to-node node-to-a a-to-outside outside-to-a outside-to-a-v6 spoofed",
        "b-to-a b-to-a-v6 x-to-b x-to-node x-to-outside outside-to-b outside-to-b-v6 x-as-a",
    );
    assert_eq!(run(SCRIPT, &nft::render(&compiled.ruleset)), wanted);
}

/// What is not answered above is the doing of the rules: without them the same pings arrive.
#[test]
fn without_rules_the_same_pings_arrive() {
    let found = run(SCRIPT, "table inet tortie {\n\tchain prerouting {\n\t}\n}\n");
    let unanswered: Vec<_> = found.iter().filter(|(_, yes)| !**yes).map(|(name, _)| name.as_str()).collect();
    // No address translation, and the answer to a forged source goes to its owner.
    assert_eq!(unanswered, ["a-to-outside", "x-as-a", "x-to-outside"]);
}
