//! A node with workloads and an outside, in namespaces: tests write in shell what there is and what is tried, and learn of
//! each attempt whether it was answered.

use std::collections::BTreeMap;

use super::unshare;

/// What scripts begin with, and the words they have.
///
/// Nobody listens anywhere: what arrives is refused at once by the host it arrives at, if no rule rejects it before. Only
/// what is lost makes whoever connects wait.
const WORDS: &str = r#"
set -e
mount -t tmpfs none /run
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
ip link set lo up

# NAME INTERFACE IPV4 IPV6: a workload in the namespace NAME.
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

# A neighbour 192.0.2.9 of the node, in the namespace `out` behind up0. It knows the way to the node only.
outside() {
    ip netns add out
    ip link add up0 type veth peer name eth0 netns out
    ip address add 192.0.2.1/24 dev up0
    ip link set up0 up
    ip -n out link set lo up
    ip -n out link set eth0 up
    ip -n out address add 192.0.2.9/24 dev eth0
}

# NAME COMMAND...: tells whether the command succeeds.
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name yes"; else echo "$name no"; fi; }

# PLACE COMMAND...: in a namespace, or on the `node`.
within() { place=$1; shift; if [ $place = node ]; then "$@"; else ip netns exec $place "$@"; fi; }

# PLACE [OPTION...] ADDRESS: whether a ping is answered. The first may be lost to a busy machine.
ping_from() { for attempt in 1 2 3; do if within $1 ping -c 1 -W 0.4 "${@:2}"; then return 0; fi; done; return 1; }

# PLACE ADDRESS PORT: whether an attempt to connect is answered, be it by a refusal.
connect_from() {
    code=0
    within $1 timeout 2 bash -c "echo > /dev/tcp/$2/$3" || code=$?
    [ $code -le 1 ]
}
"#;

/// Runs a script with these rules in the file `$RULES`: what was answered, by name.
pub(crate) fn run(script: &str, rules: &str) -> BTreeMap<String, bool> {
    let file = tempfile::NamedTempFile::new().expect("a file for the rules");
    std::fs::write(file.path(), rules).expect("rules written");
    let output = unshare(&["--mount", "bash", "-c", &format!("{WORDS}{script}")])
        .env("RULES", file.path())
        .output()
        .expect("unshare(1) of util-linux is needed");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "needs bash, ip, nft, ping, sysctl:\n{errors}\n{text}");
    let answer = |line: &str| match line.split_once(' ') {
        Some((name, "yes")) => (name.to_owned(), true),
        Some((name, "no")) => (name.to_owned(), false),
        _ => panic!("the script printed {line}"),
    };
    text.lines().map(answer).collect()
}

/// What [`run`] should find: names of what is answered, and of what is not, with blanks between.
pub(crate) fn answers(yes: &str, no: &str) -> BTreeMap<String, bool> {
    let all = [(yes, true), (no, false)].into_iter();
    all.flat_map(|(names, answered)| names.split(' ').map(move |name| (name.to_owned(), answered))).collect()
}
