//! Forgetting connections of an address whose owner is gone, so that the next owner does not inherit what was allowed
//! to the last (felix-dataplane 1.6).
//!
//! Recent kernels delete by a filter: a walk over the table inside the kernel for each address and direction
//! (kernel-programming 5). Older ones, Debian 12's 6.1 among them, refuse the filter; there the table is dumped once for
//! all addresses and what matches is deleted one by one. So it is for IPv6 everywhere: the kernel compares IPv6 addresses
//! of a filter the wrong way round (seen on 6.18) and would delete all connections but the ones meant.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::linux::Linux;
use super::socket::{Message, NetlinkSocket, Refusal, Request, attributes, push_attribute};
use super::{Conntrack, KernelError};

/// Subsystem ctnetlink, messages GET and DELETE (`linux/netfilter/nfnetlink_conntrack.h`).
pub(super) const CT_GET: u16 = 1 << 8 | 1;
const CT_DELETE: u16 = 1 << 8 | 2;
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_ID: u16 = 12;
pub(super) const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
pub(super) const NLA_F_NESTED: u16 = 0x8000;
/// Attributes of the addresses inside CTA_TUPLE_IP for IPv4, and flags of the filter; for IPv6 the attributes are 3 and 4.
pub(super) const SOURCE: u16 = 1;
pub(super) const DESTINATION: u16 = 2;
/// Where an address shows that a connection is its: opened by it; opened towards it; and, through address translation,
/// answered by it.
const PLACES: [(u16, u16); 3] =
    [(CTA_TUPLE_ORIG, SOURCE), (CTA_TUPLE_ORIG, DESTINATION), (CTA_TUPLE_REPLY, SOURCE)];

impl Conntrack for Linux {
    fn forget_connections(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), KernelError> {
        if self.netfilter.is_none() {
            let socket = NetlinkSocket::open(NETLINK_NETFILTER);
            self.netfilter =
                Some(socket.map_err(|error| KernelError::refused("open a netfilter socket", error))?);
        }
        let Some(socket) = &mut self.netfilter else { return Ok(()) };
        let failed = |refusal: Refusal| {
            KernelError::refused("forget the connections of freed addresses", refusal.source)
        };
        let (mut ipv4, mut by_dump) = (BTreeSet::new(), BTreeSet::new());
        for address in addresses {
            match *address {
                IpAddr::V4(ip) => ipv4.insert(ip),
                IpAddr::V6(_) => by_dump.insert(*address),
            };
        }
        if self.conntrack_filter {
            match forget_filtered(socket, &ipv4) {
                Err(refusal) if is(&refusal, &[Errno::EINVAL, Errno::EOPNOTSUPP]) => {
                    self.conntrack_filter = false
                }
                answer => answer.map_err(failed)?,
            }
        }
        if !self.conntrack_filter {
            by_dump.extend(ipv4.into_iter().map(IpAddr::V4));
        }
        if by_dump.is_empty() {
            return Ok(());
        }
        forget_dumped(socket, &by_dump).map_err(failed)
    }
}

fn forget_filtered(socket: &mut NetlinkSocket, addresses: &BTreeSet<Ipv4Addr>) -> Result<(), Refusal> {
    for address in addresses {
        for (tuple, side) in PLACES {
            socket.acknowledged(delete_by_filter(*address, tuple, side)).or_else(nothing_there)?;
        }
    }
    Ok(())
}

fn forget_dumped(socket: &mut NetlinkSocket, addresses: &BTreeSet<IpAddr>) -> Result<(), Refusal> {
    let everything = Request { kind: CT_GET, flags: 0, body: vec![0; 4] };
    let deletes = socket.dump(&everything, |message| delete_if_of(message, addresses))?;
    socket.batch(&deletes).into_iter().try_for_each(|answer| answer.or_else(nothing_there))
}

/// No connection matched, or it ended by itself.
fn nothing_there(refusal: Refusal) -> Result<(), Refusal> {
    if is(&refusal, &[Errno::ENOENT]) { Ok(()) } else { Err(refusal) }
}

pub(super) fn is(refusal: &Refusal, errnos: &[Errno]) -> bool {
    refusal.source.raw_os_error().is_some_and(|code| errnos.contains(&Errno::from_raw(code)))
}

fn delete_by_filter(address: Ipv4Addr, tuple: u16, side: u16) -> Request {
    let mut ip = Vec::new();
    push_attribute(&mut ip, side, &address.octets());
    let mut inner = Vec::new();
    push_attribute(&mut inner, CTA_TUPLE_IP | NLA_F_NESTED, &ip);
    let (original, reply) = if tuple == CTA_TUPLE_ORIG { (side, 0) } else { (0, side) };
    let mut filter = Vec::new();
    push_attribute(&mut filter, CTA_FILTER_ORIG_FLAGS, &u32::from(original).to_ne_bytes());
    push_attribute(&mut filter, CTA_FILTER_REPLY_FLAGS, &u32::from(reply).to_ne_bytes());
    let mut body = vec![libc::AF_INET as u8, 0, 0, 0];
    push_attribute(&mut body, tuple | NLA_F_NESTED, &inner);
    push_attribute(&mut body, CTA_FILTER | NLA_F_NESTED, &filter);
    Request { kind: CT_DELETE, flags: 0, body }
}

/// The request that deletes the connection in a message of a dump, when it is one of these addresses'.
fn delete_if_of(message: &Message<'_>, addresses: &BTreeSet<IpAddr>) -> Option<Request> {
    let family = *message.body.first()?;
    let found: Vec<(u16, &[u8])> = attributes(message.body.get(4..)?).collect();
    let value = |kind| found.iter().find(|(of, _)| *of == kind).map(|(_, value)| *value);
    let held = |(tuple, side)| {
        value(tuple).and_then(|tuple| address(tuple, side)).is_some_and(|ip| addresses.contains(&ip))
    };
    if !PLACES.into_iter().any(held) {
        return None;
    }
    let mut body = vec![family, 0, 0, 0];
    push_attribute(&mut body, CTA_TUPLE_ORIG | NLA_F_NESTED, value(CTA_TUPLE_ORIG)?);
    // The very one that was seen, not a later one with the same ports.
    for kind in [CTA_ZONE, CTA_ID] {
        if let Some(value) = value(kind) {
            push_attribute(&mut body, kind, value);
        }
    }
    Some(Request { kind: CT_DELETE, flags: 0, body })
}

pub(super) fn address(tuple: &[u8], side: u16) -> Option<IpAddr> {
    let (_, ip) = attributes(tuple).find(|(kind, _)| *kind == CTA_TUPLE_IP)?;
    attributes(ip).find_map(|(kind, octets)| match octets.len() {
        4 if kind == side => Some(Ipv4Addr::from(*octets.first_chunk::<4>()?).into()),
        16 if kind == side + 2 => Some(Ipv6Addr::from(*octets.first_chunk::<16>()?).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    fn run(line: &str) {
        assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
    }

    fn connections() -> u32 {
        let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
        text.trim().parse().unwrap()
    }

    /// Both ways, each on the same connections; where the kernel refuses the filter the first is the second.
    #[test]
    fn connections_of_the_addresses_go_and_others_stay() {
        const MARK: &str = "TORTIE_TEST_NAMESPACE";
        if std::env::var_os(MARK).is_none() {
            let status = Command::new("unshare")
                .args(["--user", "--map-root-user", "--net"])
                .arg(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "kernel::conntrack::tests::connections_of_the_addresses_go_and_others_stay",
                    "--nocapture",
                ])
                .env(MARK, "1")
                .status()
                .unwrap();
            assert!(status.success());
            return;
        }
        run(
            "ip link set lo up && ip addr add fd01::1/128 dev lo nodad && ip addr add fd01::2/128 dev lo nodad",
        );
        run(
            "nft 'table inet test { chain out { type filter hook output priority 0; ct state new accept; }; \
             chain nat { type nat hook output priority -100; ip daddr 127.0.0.9 dnat to 127.0.0.1; }; }'",
        );
        let mut kernel = Linux::open().unwrap();
        // Somebody takes the packets, of both families: no ICMP errors come in between.
        let _sink = UdpSocket::bind("[::]:9").unwrap();
        for filter in [true, false] {
            let senders = [
                ("127.0.0.1", "127.0.0.2"),
                ("127.0.0.2", "127.0.0.1"),
                // Translated to 127.0.0.1: only the answer shows it.
                ("127.0.0.3", "127.0.0.9"),
                ("127.0.0.3", "127.0.0.4"),
                ("fd01::1", "fd01::2"),
                ("fd01::2", "fd01::2"),
                ("fd01::2", "fd01::1"),
            ]
            .map(|(from, to)| (UdpSocket::bind((from, 0)).unwrap(), to));
            // On a busy machine the first packets of a new namespace may pass untracked.
            let end = Instant::now() + Duration::from_secs(10);
            while connections() != 7 {
                assert!(Instant::now() < end, "{} of 7 connections, filter: {filter}", connections());
                for (socket, to) in &senders {
                    socket.send_to(b"x", (*to, 9)).unwrap();
                }
            }
            kernel.conntrack_filter &= filter;
            let freed = ["127.0.0.1", "fd01::1"].map(|text| text.parse().unwrap());
            kernel.forget_connections(&freed.into()).unwrap();
            assert_eq!(connections(), 2, "filter: {filter}");
            let rest = ["127.0.0.4", "fd01::2", "127.0.0.77"].map(|text| text.parse().unwrap());
            kernel.forget_connections(&rest.into()).unwrap();
            assert_eq!(connections(), 0, "filter: {filter}");
        }
    }
}
