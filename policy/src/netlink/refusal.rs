//! Expressions that turn packets away: with an answer, or from the rest of a rule.

use super::attributes::Writer;
use super::expr::expression;
use crate::ir::{Limit, Period};

/// `NFT_REJECT_ICMPX_UNREACH`: the ICMP of the packet's family.
const REJECT_BY_FAMILY: u32 = 2;
/// `NFT_REJECT_ICMPX_PORT_UNREACH`.
const PORT_UNREACHABLE: u8 = 1;
/// `NFT_LIMIT_PKTS`.
const LIMIT_OF_PACKETS: u32 = 0;

/// Drops the packet and tells its sender.
pub(super) fn reject(w: &mut Writer) {
    expression(w, "reject", |w| {
        w.number(1, REJECT_BY_FAMILY);
        w.bytes(2, &[PORT_UNREACHABLE]);
    });
}

/// Ends the rule for what is over the limit.
pub(super) fn limit(w: &mut Writer, limit: &Limit) {
    let seconds: u64 = match limit.period {
        Period::Second => 1,
        Period::Minute => 60,
        Period::Hour => 60 * 60,
        Period::Day => 24 * 60 * 60,
    };
    expression(w, "limit", |w| {
        w.bytes(1, &u64::from(limit.packets).to_be_bytes());
        w.bytes(2, &seconds.to_be_bytes());
        w.number(3, limit.burst);
        w.number(4, LIMIT_OF_PACKETS);
        w.number(5, 0);
    });
}
