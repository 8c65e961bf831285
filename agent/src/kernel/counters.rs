//! What the rules have counted: a dump of them and one of each merged set, over a socket of its own, which disturbs nobody.

use std::io::ErrorKind;

use netlink_sys::protocols::NETLINK_NETFILTER;
use tortie_policy::Ruleset;
use tortie_policy::counters::{Reading, merged_sets, of_rule};
use tortie_policy::netlink::read::Query;

use super::KernelError;
use super::socket::{NetlinkSocket, Request};

/// Reads what the rules of our table and the elements of these rules' merged sets have counted; nothing when there is no such
/// table. A set that is not there yet, or no more, has counted nothing.
///
/// # Errors
/// When the kernel refuses, or the rules change faster than they can be read.
pub fn read_counters(ruleset: Option<&Ruleset>) -> Result<Vec<Reading>, KernelError> {
    let failed = |error| KernelError::refused("open a netfilter socket", error);
    let mut socket = NetlinkSocket::open(NETLINK_NETFILTER).map_err(failed)?;
    let request = |Query { kind, body }| Request { kind, flags: 0, body };
    let found = socket.dump(&request(Query::rules()), |message| of_rule(message.body));
    let mut readings = found.map_err(|refusal| KernelError::refused("read the rules", refusal.source))?;
    for set in ruleset.map(merged_sets).unwrap_or_default() {
        let found =
            socket.dump(&request(Query::elements(set.name())), |message| Some(set.readings(message.body)));
        match found {
            Ok(found) => readings.extend(found.into_iter().flatten()),
            Err(refusal) if refusal.source.kind() == ErrorKind::NotFound => continue,
            Err(refusal) => return Err(KernelError::refused("read the elements of a set", refusal.source)),
        }
        readings.extend(set.rules());
    }
    Ok(readings)
}
