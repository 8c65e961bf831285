//! A node with workloads and a far end behind each of its interfaces, in namespaces.
//!
//! Far ends answer to no address: they send whatever they are told to, and what comes is only seen. Which addresses are behind
//! which interface is a matter of the node's routes, and is another for each rule-set.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use tortie_policy::Ruleset;
use tortie_policy::change::{diff, from_nothing};

use super::kernel::Kernel;
use super::sockets::{Bell, Receiver, Sender, within};
use super::wire::Arrived;

/// The node's interfaces: workloads', one of them unknown to policy, and two to the outside.
pub(crate) const WIRES: [&str; 6] = ["cali0", "cali1", "cali2", "cali9", "eth0", "eth1"];
/// The unknown one.
pub(crate) const UNKNOWN: &str = "cali9";
/// Addresses of the node itself, on `eth1`.
pub(crate) const NODE: [&str; 2] = [crate::generate::HOST, "2001:db8::1"];

/// Both ends of a wire have one hardware address and never ask for others', so that no packet waits for an answer. No kernel
/// answers pings, since an answer carries the number of what it answers.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs none /run
quiet() { sysctl -qw net.ipv6.conf.default.addr_gen_mode=1 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.router_solicitations=0; }
quiet
sysctl -qw net.ipv4.conf.{all,default}.rp_filter=0 net.ipv4.conf.{all,default}.send_redirects=0
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
sysctl -qw net.ipv4.icmp_echo_ignore_all=1 net.ipv6.icmp.echo_ignore_all=1
ip link set lo up
far() { # namespace, interface
    ip -n $1 link set $2 address 02:00:00:00:00:01 arp off up
    # Nobody sends to this one. Without any the kernel would send nothing.
    ip -n $1 address add 2001:db8:ffff::1 dev $2
    ip -n $1 route add default dev $2
    ip -n $1 -6 route add default dev $2
}
for wire in $WIRES; do
    ip netns add $wire
    ip netns exec $wire bash -c "$(declare -f quiet); quiet"
    ip link add $wire type veth peer name far netns $wire
    ip link set $wire address 02:00:00:00:00:01 arp off up
    far $wire far
done
ip netns add bell
ip netns exec bell bash -c "$(declare -f quiet); quiet"
ip -n bell link add in type veth peer name out
ip -n bell link set out address 02:00:00:00:00:01 arp off up
far bell in
"#;

pub(crate) struct World {
    senders: BTreeMap<Option<&'static str>, Sender>,
    receivers: BTreeMap<Option<&'static str>, Receiver>,
    bell: Bell,
    kernel: Kernel,
    loaded: Option<Ruleset>,
}

impl World {
    /// Builds it in the namespaces of this thread, which stays on one processor from now on.
    pub(crate) fn build() -> World {
        let mut one = CpuSet::new();
        one.set(sched_getcpu().expect("a processor")).expect("its number");
        sched_setaffinity(Pid::from_raw(0), &one).expect("one processor");
        let status = Command::new("bash").args(["-c", SCRIPT]).env("WIRES", WIRES.join(" ")).status();
        assert!(status.expect("bash is needed").success(), "bash, ip, mount and sysctl are needed");
        ip(&NODE.map(|address| format!("address add {address} dev eth1\n")).concat());
        let places = WIRES.map(Some).into_iter().chain([None]);
        World {
            senders: places.clone().map(|place| (place, within(place, Sender::open))).collect(),
            receivers: places.map(|place| (place, within(place, || receiver(place)))).collect(),
            bell: within(Some("bell"), Bell::open),
            kernel: Kernel::open(),
            loaded: None,
        }
    }

    /// Puts addresses behind interfaces.
    pub(crate) fn place<'a>(&mut self, places: impl IntoIterator<Item = (&'a IpAddr, &'a str)>) {
        let line = |(address, wire): (&IpAddr, &str)| format!("route replace {address} dev {wire}\n");
        ip(&places.into_iter().map(line).collect::<String>());
    }

    /// Loads a rule-set as the agent does, and forgets all connections.
    pub(crate) fn load(&mut self, ruleset: &Ruleset) {
        let changes = match &self.loaded {
            Some(loaded) => diff(loaded, ruleset),
            None => from_nothing(ruleset),
        };
        if !changes.is_empty() {
            self.kernel.commit(&changes).expect("the kernel takes the rules");
        }
        self.loaded = Some(ruleset.clone());
        forget_connections();
    }

    /// Sends a packet from behind an interface, or from the node.
    pub(crate) fn send(&self, from: Option<&str>, destination: IpAddr, bytes: &[u8]) {
        self.senders[&from].send(destination, bytes);
    }

    /// What arrived where since the last time, once everything sent has gone as far as it may: that is two wires.
    pub(crate) fn arrived(&mut self) -> Vec<(Option<&'static str>, Arrived)> {
        self.bell.ring();
        self.bell.ring();
        let of = |(place, receiver): (&Option<&'static str>, &Receiver)| {
            let place = *place;
            receiver.arrived().into_iter().map(move |arrived| (place, arrived))
        };
        self.receivers.iter().flat_map(of).collect()
    }
}

fn receiver(place: Option<&str>) -> Receiver {
    if place.is_some() { Receiver::of_frames() } else { Receiver::of_host() }
}

fn ip(batch: &str) {
    let file = tempfile::NamedTempFile::new().expect("a file for ip");
    std::fs::write(file.path(), batch).expect("written");
    let status = Command::new("ip").arg("-batch").arg(file.path()).status().expect("ip is needed");
    assert!(status.success(), "ip refuses\n{batch}");
}

/// A message of ctnetlink without an attribute: delete all.
fn forget_connections() {
    const DELETE: u16 = 1 << 8 | 2;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 5;
    let mut socket = Socket::new(NETLINK_NETFILTER).expect("a netlink socket");
    socket.bind_auto().expect("a port");
    socket.connect(&SocketAddr::new(0, 0)).expect("the kernel");
    let mut bytes = 20u32.to_ne_bytes().to_vec();
    bytes.extend([DELETE, REQUEST_AND_ACKNOWLEDGE].map(u16::to_ne_bytes).concat());
    bytes.extend([0; 12]);
    socket.send(&bytes, 0).expect("sent");
    let (answer, _) = socket.recv_from_full().expect("an answer");
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    assert_eq!(code, Some(0), "connections are forgotten");
}
