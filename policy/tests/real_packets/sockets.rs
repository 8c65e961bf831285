//! Sockets in the namespaces: they send packets as they are, and tell which arrived.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::wire::{self, Arrived};

/// `IPPROTO_RAW`: packets have their IP header with them, and any source.
const WITH_HEADER: i32 = 255;
/// `ETH_P_IP` and `ETH_P_IPV6`: what is received, not what is sent.
const FRAMES: [u16; 2] = [0x0800, 0x86dd];
/// Protocols of the packets.
pub(crate) const PROTOCOLS: [u8; 8] = [1, 4, 6, 17, 47, 58, 132, 136];

/// Runs an action in a thread in a namespace of `ip netns`, or here. Sockets stay where they were made.
pub(crate) fn within<T: Send>(netns: Option<&str>, action: impl FnOnce() -> T + Send) -> T {
    let Some(netns) = netns else { return action() };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{netns}")).expect("a namespace");
            setns(file, CloneFlags::CLONE_NEWNET).expect("entered the namespace");
            action()
        });
        thread.join().expect("a thread in a namespace")
    })
}

/// Sends packets from a namespace.
pub(crate) struct Sender([Socket; 2]);

impl Sender {
    pub(crate) fn open() -> Sender {
        let socket = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(WITH_HEADER)));
        Sender([Domain::IPV4, Domain::IPV6].map(|domain| socket(domain).expect("a raw socket")))
    }

    /// Sends a packet by the route to its destination. The rules may forbid a node's own at once.
    pub(crate) fn send(&self, destination: IpAddr, bytes: &[u8]) {
        let socket = &self.0[usize::from(destination.is_ipv6())];
        match socket.send_to(bytes, &SockAddr::from(SocketAddr::new(destination, 0))) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            sent => assert_eq!(sent.expect("sent"), bytes.len()),
        }
    }
}

/// Sees the packets that reach a namespace.
pub(crate) struct Receiver {
    /// With the protocol where nothing else tells.
    sockets: Vec<(Option<u8>, Socket)>,
}

impl Receiver {
    /// Sees all that comes in by an interface, before any rules.
    pub(crate) fn of_frames() -> Receiver {
        let socket = |kind: u16| {
            let kind = Protocol::from(i32::from(kind.to_be()));
            (None, Socket::new(Domain::PACKET, Type::DGRAM, Some(kind)).expect("a packet socket"))
        };
        Receiver { sockets: FRAMES.map(socket).into() }.ready()
    }

    /// Sees what rules let through to this host itself.
    pub(crate) fn of_host() -> Receiver {
        let socket = |(domain, number): (Domain, u8)| {
            let protocol = Protocol::from(i32::from(number));
            (Some(number), Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket"))
        };
        let both = PROTOCOLS.into_iter().flat_map(|number| [(Domain::IPV4, number), (Domain::IPV6, number)]);
        Receiver { sockets: both.map(socket).collect() }.ready()
    }

    fn ready(self) -> Receiver {
        for (_, socket) in &self.sockets {
            // The kernel gives as much as it allows.
            socket.set_recv_buffer_size(1 << 24).expect("a buffer");
            socket.set_nonblocking(true).expect("no waiting");
        }
        self
    }

    /// What arrived since the last time.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        let mut found = Vec::new();
        let mut buffer = [0; 2048];
        for (protocol, socket) in &self.sockets {
            let mut socket = socket;
            while let Ok(length) = socket.read(&mut buffer) {
                let bytes = &buffer[..length];
                found.extend(match protocol {
                    None => wire::read(bytes),
                    Some(protocol) => wire::read_payload(*protocol, bytes),
                });
            }
        }
        found
    }
}

/// A wire that no rule is about. Packets wait for nothing on their way but for their turn on this processor, in the order they
/// were sent; so once one has come through here, all sent before have gone as far over their first wire, and so on.
pub(crate) struct Bell {
    sender: Sender,
    receiver: Socket,
    rung: u32,
}

impl Bell {
    pub(crate) fn open() -> Bell {
        let kind = Protocol::from(i32::from(FRAMES[0].to_be()));
        let receiver = Socket::new(Domain::PACKET, Type::DGRAM, Some(kind)).expect("a packet socket");
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a deadline");
        Bell { sender: Sender::open(), receiver, rung: 0 }
    }

    /// Returns when the packet sent here has come out again.
    pub(crate) fn ring(&mut self) {
        self.rung += 1;
        let packet = super::ping();
        self.sender.send(packet.destination, &wire::packet(&packet, self.rung));
        let mut buffer = [0; 2048];
        loop {
            let length = (&self.receiver).read(&mut buffer).expect("the bell rings within its deadline");
            if wire::read(&buffer[..length]).is_some_and(|arrived| arrived.id == self.rung) {
                return;
            }
        }
    }
}
