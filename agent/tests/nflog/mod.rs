//! What rules write to a group of nflog.

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// A group of nflog, of the namespace.
pub(crate) struct LogGroup(Socket);

impl LogGroup {
    const CONFIGURE: u16 = 4 << 8 | 1;
    const PACKET: u16 = 4 << 8;
    const PREFIX: u16 = 10;

    /// Listens from now on.
    pub(crate) fn listen(group: u16) -> LogGroup {
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind_auto().unwrap();
        socket.connect(&SocketAddr::new(0, 0)).unwrap();
        socket.set_non_blocking(true).unwrap();
        let mut body = vec![0, 0];
        body.extend(group.to_be_bytes());
        // Bind; whole packets; tell each at once.
        for (kind, value) in [(1u16, &[1u8][..]), (2, &[0, 0, 0xff, 0xff, 2, 0][..]), (5, &[0, 0, 0, 1][..])]
        {
            body.extend((4 + value.len() as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(LogGroup::CONFIGURE.to_ne_bytes());
        bytes.extend([5, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(body);
        socket.send(&bytes, 0).unwrap();
        let mut answer = Vec::with_capacity(1 << 12);
        socket.recv(&mut answer, 0).unwrap();
        assert_eq!(answer[16..20], [0; 4], "listening to the group");
        LogGroup(socket)
    }

    /// Prefixes of what has arrived since the last time.
    pub(crate) fn prefixes(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut buffer = Vec::with_capacity(1 << 16);
        while self.0.recv(&mut buffer, 0).is_ok() {
            let mut rest = &buffer[..];
            while rest.len() >= 20 {
                let length = u32::from_ne_bytes(*rest.first_chunk().unwrap()) as usize;
                if u16::from_ne_bytes([rest[4], rest[5]]) == LogGroup::PACKET {
                    found.push(prefix(&rest[20..length]));
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            buffer.clear();
        }
        found
    }
}

fn prefix(mut attributes: &[u8]) -> String {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        if u16::from_ne_bytes([attributes[2], attributes[3]]) == LogGroup::PREFIX {
            return String::from_utf8_lossy(&attributes[4..length - 1]).into_owned();
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    panic!("a packet without a prefix")
}
