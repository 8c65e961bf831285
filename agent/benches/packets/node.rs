//! A node with two workloads, all of them network namespaces: routes of /32 over veths, as the agent makes them. And what
//! goes from the first workload to the second.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, send, setsockopt, socket,
    sockopt,
};
use nix::unistd::Pid;
use tortie_agent::kernel::{Linux, Ownership, Rulesets as _};
use tortie_policy::Ruleset;
use tortie_policy::change::from_nothing;

use crate::world::{OPEN_PORT, address, interface};

/// Makes a node and its two workloads: NODE FIRST FIRST-INTERFACE FIRST-ADDRESS SECOND SECOND-INTERFACE SECOND-ADDRESS.
const SCRIPT: &str = r#"
set -e
host=$1; shift
space() {
    ip netns add $1
    ip netns exec $1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 2>/dev/null || true
    ip -n $1 link set lo up
}
workload() {
    space $2
    ip -n $1 link add $3 type veth peer name eth0 netns $2
    ip -n $1 link set $3 address ee:ee:ee:ee:ee:ee up
    ip -n $2 link set eth0 address $5 up
    ip -n $2 address add $4/32 dev eth0
    ip -n $2 route add 169.254.1.1 dev eth0 scope link
    ip -n $2 route add default via 169.254.1.1 dev eth0
    ip -n $2 neighbour replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
    ip -n $1 route add $4/32 dev $3 scope link
    ip -n $1 neighbour replace $4 lladdr $5 dev $3 nud permanent
}
space $host
ip netns exec $host sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
workload $host $1 $2 $3 02:00:00:00:00:01
workload $host $4 $5 $6 02:00:00:00:00:02
"#;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(10);
/// The port of the flow that is established.
const KNOWN_PORT: u16 = 7000;
/// Ports of flows nobody has seen count from here.
const NEW_PORTS: u16 = 10_000;
/// Packets of 46 octets, the least Ethernet sends.
const LENGTH: usize = 46;
/// How long connections are counted.
const COUNTED: Duration = Duration::from_millis(100);

/// Whether packets belong to a flow that is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Established,
    /// Each packet is the first of its own.
    New,
}

/// The node.
pub(crate) struct Node {
    host: String,
    workloads: [String; 2],
    /// Sends packets as they are.
    raw: OwnedFd,
    source: UdpSocket,
    sink: UdpSocket,
    tracking: Socket,
    answers_on: usize,
}

/// Runs `action` in a thread inside a namespace.
fn inside<T: Send>(name: &str, action: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{name}")).expect("a namespace");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET).expect("the way into a namespace");
            action()
        });
        thread.join().expect("a thread inside a namespace")
    })
}

/// Keeps this thread on one processor.
pub(crate) fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).expect("a processor");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a processor of its own");
}

fn endpoint(n: u32, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address(n), port)
}

impl Node {
    /// Makes it; `/run` belongs to this process. The second workload answers connections on this processor.
    pub(crate) fn new(number: u32, answers_on: usize) -> Node {
        let (host, workloads) = (format!("node{number}"), [0, 1].map(|n| format!("pod{number}-{n}")));
        let mut script = Command::new("sh");
        script.args(["-c", SCRIPT, "sh", &host]);
        for (n, workload) in (0..).zip(&workloads) {
            script.args([workload, &interface(n), &address(n).to_string()]);
        }
        assert!(script.status().expect("sh").success(), "no node");
        let socket_of = |n: usize, port| {
            let own = endpoint(n as u32, port);
            let socket = inside(&workloads[n], || UdpSocket::bind(own)).expect("a socket");
            socket.set_read_timeout(Some(LIMIT)).expect("a deadline");
            socket
        };
        let (source, sink) = (socket_of(0, KNOWN_PORT), socket_of(1, OPEN_PORT));
        let raw = inside(&workloads[0], raw_socket);
        let tracking = inside(&host, || {
            let mut socket = Socket::new(NETLINK_NETFILTER).expect("a netlink socket");
            socket.bind_auto().expect("its address");
            socket.connect(&SocketAddr::new(0, 0)).expect("a way to the kernel");
            socket
        });
        Node { host, workloads, raw, source, sink, tracking, answers_on }
    }

    /// The node has these rules and no others.
    pub(crate) fn load(&self, rules: &Ruleset) {
        self.load_text("");
        inside(&self.host, || {
            let mut kernel = Linux::with(Ownership::Shared).expect("a kernel");
            kernel.change_ruleset(&from_nothing(rules)).expect("a load");
        });
    }

    /// The same in the words of nft.
    pub(crate) fn load_text(&self, rules: &str) {
        inside(&self.host, || {
            let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
            let mut input = child.stdin.take().expect("its input");
            input.write_all(format!("flush ruleset\n{rules}\n").as_bytes()).expect("nft reads");
            drop(input);
            assert!(child.wait().expect("nft ends").success(), "nft failed");
        });
    }

    /// Nanoseconds a packet.
    pub(crate) fn send(&mut self, flow: Flow, packets: u16) -> f64 {
        self.forget_flows();
        if flow == Flow::Established {
            self.establish();
        }
        let before = self.delivered();
        let mut packet = packet();
        let begin = Instant::now();
        for n in 0..packets {
            if flow == Flow::New {
                packet[20..22].copy_from_slice(&(NEW_PORTS + n).to_be_bytes());
            }
            send(self.raw.as_raw_fd(), &packet, MsgFlags::empty()).expect("a packet leaves");
        }
        let took = begin.elapsed();
        let deadline = Instant::now() + LIMIT;
        // A few may go missing where the machine is busy.
        while self.delivered() - before < u64::from(packets) * 99 / 100 {
            assert!(Instant::now() < deadline, "packets do not arrive");
        }
        took.as_nanos() as f64 / f64::from(packets)
    }

    /// Packets that arrived so far.
    fn delivered(&self) -> u64 {
        let devices = inside(&self.workloads[1], || std::fs::read_to_string("/proc/thread-self/net/dev"));
        let devices = devices.expect("procfs");
        let line = devices.lines().find(|line| line.trim_start().starts_with("eth0:")).expect("its line");
        line.split_whitespace().nth(2).and_then(|packets| packets.parse().ok()).expect("a number")
    }

    /// The node has seen no flow yet.
    fn forget_flows(&mut self) {
        // Deletes all connections: message 2 of subsystem 1, acknowledged, confined by nothing.
        let mut request = 20u32.to_ne_bytes().to_vec();
        request.extend((1u16 << 8 | 2).to_ne_bytes());
        request.extend(5u16.to_ne_bytes());
        request.resize(20, 0);
        self.tracking.send(&request, 0).expect("a request");
        let answer = self.tracking.recv_from_full().expect("an answer").0;
        assert_eq!(answer.get(16..20), Some(&[0; 4][..]), "flows are not forgotten");
    }

    /// A packet each way.
    fn establish(&self) {
        let mut rest = [0; 64];
        self.sink.set_nonblocking(true).expect("a socket that does not wait");
        // What earlier packets left.
        while self.sink.recv_from(&mut rest).is_ok() {}
        self.sink.set_nonblocking(false).expect("a socket that waits");
        self.source.send_to(b"there", endpoint(1, OPEN_PORT)).expect("a packet leaves");
        let (_, from) = self.sink.recv_from(&mut rest).expect("a packet that is allowed");
        self.sink.send_to(b"back", from).expect("a packet leaves");
        self.source.recv_from(&mut rest).expect("an answer");
    }

    /// TCP connections a second, one after the other, each reset by the one who opened it.
    pub(crate) fn connections(&mut self) -> f64 {
        self.forget_flows();
        let listener =
            inside(&self.workloads[1], || TcpListener::bind(endpoint(1, OPEN_PORT))).expect("a listener");
        let processor = self.answers_on;
        let (ready, is_ready) = channel();
        let server = std::thread::spawn(move || {
            pin(processor);
            ready.send(()).expect("somebody waits");
            let mut octet = [0];
            // Until one says something. The others are waited for: what a reset finds half open policy may drop.
            while let Ok((mut stream, _)) = listener.accept() {
                if stream.read(&mut octet).is_ok_and(|length| length > 0) {
                    break;
                }
            }
        });
        // It begins on the processor of this thread, which lets nobody else have it.
        is_ready.recv().expect("a server");
        let rate = inside(&self.workloads[0], || {
            let open = || TcpStream::connect(endpoint(1, OPEN_PORT)).expect("a connection");
            let (begin, mut count) = (Instant::now(), 0u32);
            while begin.elapsed() < COUNTED {
                let reset = libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&open(), sockopt::Linger, &reset).expect("a reset");
                count += 1;
            }
            let took = begin.elapsed();
            open().write_all(b"q").expect("the last word");
            f64::from(count) / took.as_secs_f64()
        });
        server.join().expect("the server");
        rate
    }
}

fn raw_socket() -> OwnedFd {
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
    let raw = raw.expect("a raw socket");
    connect(raw.as_raw_fd(), &SockaddrIn::from(endpoint(1, 0))).expect("a way to the other workload");
    raw
}

/// A UDP packet of the flow that may be known; the kernel adds the checksum of its header.
fn packet() -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    let (version, ttl, udp) = (0x45, 64, 17);
    packet[0] = version;
    packet[2..4].copy_from_slice(&(LENGTH as u16).to_be_bytes());
    (packet[8], packet[9]) = (ttl, udp);
    let octets = |n| -> [u8; 4] { Ipv4Addr::octets(&address(n)) };
    packet[12..16].copy_from_slice(&octets(0));
    packet[16..20].copy_from_slice(&octets(1));
    packet[20..22].copy_from_slice(&KNOWN_PORT.to_be_bytes());
    packet[22..24].copy_from_slice(&OPEN_PORT.to_be_bytes());
    packet[24..26].copy_from_slice(&(LENGTH as u16 - 20).to_be_bytes());
    packet
}
