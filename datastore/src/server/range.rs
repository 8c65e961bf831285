//! Answers to range requests: limits, orders and filters over the keyspace (etcd `server/etcdserver/txn/range.go`). Pure.

use std::cmp::Ordering;

use etcd_client::proto::{PbKeyValue, PbRangeRequest, PbRangeResponse};

use super::error::Refusal;
use super::mvcc::{Interval, Keyspace};

/// Numbers of `RangeRequest.SortOrder` and `.SortTarget` in the protocol.
const NO_ORDER: i32 = 0;
const DESCEND: i32 = 2;
const BY_KEY: i32 = 0;
const BY_VALUE: i32 = 4;

/// What is wrong with a request whatever the store holds.
pub(super) fn check(request: &PbRangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    let known = (NO_ORDER..=DESCEND).contains(&request.sort_order)
        && (BY_KEY..=BY_VALUE).contains(&request.sort_target);
    if known { Ok(()) } else { Err(Refusal::InvalidSort) }
}

/// The answer to a checked request, without a header. `count` is of all keys of the interval, whatever the limit and
/// the filters leave.
pub(super) fn answer(keyspace: &Keyspace, request: &PbRangeRequest) -> PbRangeResponse {
    let interval = Interval::new(&request.key, &request.range_end);
    let mut found = keyspace.range(&interval, request.revision);
    if request.count_only {
        return PbRangeResponse { count: length(found.count()), ..PbRangeResponse::default() };
    }
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let everything = limit == 0 || request.sort_order != NO_ORDER || has_filters(request);
    let mut kvs: Vec<PbKeyValue> = if everything {
        found.by_ref().collect()
    } else {
        // One more than the limit tells whether there are more.
        found.by_ref().take(limit + 1).collect()
    };
    let count = length(kvs.len() + found.count());
    kvs.retain(|kv| passes(kv, request));
    sort(&mut kvs, request);
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    PbRangeResponse { header: None, kvs, more, count }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn has_filters(request: &PbRangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// A bound of 0 is none.
fn passes(kv: &PbKeyValue, request: &PbRangeRequest) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Ties keep key order. A target other than the key without an order means ascending.
fn sort(kvs: &mut [PbKeyValue], request: &PbRangeRequest) {
    let by: fn(&PbKeyValue, &PbKeyValue) -> Ordering = match request.sort_target {
        BY_KEY => |a, b| a.key.cmp(&b.key),
        1 => |a, b| a.version.cmp(&b.version),
        2 => |a, b| a.create_revision.cmp(&b.create_revision),
        3 => |a, b| a.mod_revision.cmp(&b.mod_revision),
        _ => |a, b| a.value.cmp(&b.value),
    };
    match (request.sort_order, request.sort_target) {
        (NO_ORDER, BY_KEY) => {}
        (DESCEND, _) => kvs.sort_by(|a, b| by(b, a)),
        _ => kvs.sort_by(by),
    }
}
