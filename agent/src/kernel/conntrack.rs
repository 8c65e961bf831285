//! Forgetting connections of an address whose owner is gone, so that the next owner does not inherit what was allowed
//! to the last (felix-dataplane 1.6). The kernel walks its table once per address and direction (kernel-programming 5).

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::linux::Linux;
use super::socket::{NetlinkSocket, Refusal, Request, push_attribute};
use super::{Conntrack, KernelError};

/// Subsystem ctnetlink, message DELETE (`linux/netfilter/nfnetlink_conntrack.h`).
const CT_DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
/// Attribute of the address inside CTA_TUPLE_IP, by [`Side`]: IPv4 1 and 2, IPv6 3 and 4. The flags are 1 and 2.
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;

impl Conntrack for Linux {
    fn forget_connections(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), KernelError> {
        if self.netfilter.is_none() {
            let socket = NetlinkSocket::open(NETLINK_NETFILTER);
            self.netfilter =
                Some(socket.map_err(|error| KernelError::refused("open a netfilter socket", error))?);
        }
        let Some(socket) = &mut self.netfilter else { return Ok(()) };
        for address in addresses {
            // Opened by the workload; opened towards it; and, through address translation, answered by it.
            for (tuple, side) in
                [(CTA_TUPLE_ORIG, SOURCE), (CTA_TUPLE_ORIG, DESTINATION), (CTA_TUPLE_REPLY, SOURCE)]
            {
                let answer = socket.acknowledged(delete(*address, tuple, side));
                answer.or_else(harmless).map_err(|refusal| {
                    KernelError::refused(format!("forget the connections of {address}"), refusal.source)
                })?;
            }
        }
        Ok(())
    }
}

/// No connection matched, or the kernel tracks none at all.
fn harmless(refusal: Refusal) -> Result<(), Refusal> {
    match refusal.source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(()),
        _ => Err(refusal),
    }
}

fn delete(address: IpAddr, tuple: u16, side: u16) -> Request {
    let (family, kind, octets) = match address {
        IpAddr::V4(ip) => (libc::AF_INET, side, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, side + 2, ip.octets().to_vec()),
    };
    let mut ip = Vec::new();
    push_attribute(&mut ip, kind, &octets);
    let mut inner = Vec::new();
    push_attribute(&mut inner, CTA_TUPLE_IP | NLA_F_NESTED, &ip);
    let (original, reply) = if tuple == CTA_TUPLE_ORIG { (side, 0) } else { (0, side) };
    let mut filter = Vec::new();
    push_attribute(&mut filter, CTA_FILTER_ORIG_FLAGS, &u32::from(original).to_ne_bytes());
    push_attribute(&mut filter, CTA_FILTER_REPLY_FLAGS, &u32::from(reply).to_ne_bytes());
    let mut body = vec![family as u8, 0, 0, 0];
    push_attribute(&mut body, tuple | NLA_F_NESTED, &inner);
    push_attribute(&mut body, CTA_FILTER | NLA_F_NESTED, &filter);
    Request { kind: CT_DELETE, flags: 0, body }
}
