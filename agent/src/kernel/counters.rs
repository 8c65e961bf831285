//! What the rules have counted: one dump, over a socket of its own, which disturbs nobody.

use netlink_sys::protocols::NETLINK_NETFILTER;
use tortie_policy::counters::{Counters, of_rule};
use tortie_policy::netlink::read::Query;

use super::KernelError;
use super::socket::{NetlinkSocket, Request};

/// Reads what the rules of our table have counted; nothing when there is no such table.
///
/// # Errors
/// When the kernel refuses, or the rules change faster than they can be read.
pub fn read_counters() -> Result<Counters, KernelError> {
    let failed = |error| KernelError::refused("open a netfilter socket", error);
    let mut socket = NetlinkSocket::open(NETLINK_NETFILTER).map_err(failed)?;
    let Query { kind, body } = Query::rules();
    let found = socket.dump(&Request { kind, flags: 0, body }, |message| of_rule(message.body));
    let found = found.map_err(|refusal| KernelError::refused("read the rules", refusal.source))?;
    Ok(found.into_iter().collect())
}
