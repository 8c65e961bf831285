//! Transactions: what is refused before anything happens, compares, and the chosen branch
//! (etcd `server/etcdserver/api/v3rpc/key.go` and `server/etcdserver/txn/txn.go`). Pure.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use etcd_client::proto::{
    PbCompare, PbCompareTarget, PbDeleteRequest, PbKeyValue, PbPutRequest, PbRangeResponse, PbResponseOp,
    PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};

use super::error::Refusal;
use super::mvcc::{Change, Interval};
use super::range;
use super::state::{State, inner_header};

/// etcd's default of `--max-txn-ops`.
const MAX_OPERATIONS: usize = 128;

/// Numbers of `Compare.CompareResult` in the protocol.
const GREATER: i32 = 1;
const LESS: i32 = 2;
const NOT_EQUAL: i32 = 3;

/// What is wrong with a transaction whatever the store holds.
pub(super) fn check(request: &PbTxnRequest) -> Result<(), Refusal> {
    let branches = [&request.success, &request.failure];
    if request.compare.len() > MAX_OPERATIONS || branches.iter().any(|b| b.len() > MAX_OPERATIONS) {
        return Err(Refusal::TooManyOperations);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    for operation in branches.iter().flat_map(|branch| branch.iter()) {
        check_operation(operation)?;
    }
    branches.iter().try_for_each(|branch| check_disjoint(branch))
}

/// Whether one of its branches puts something, as etcd asks before it lets a transaction in over its quota.
pub(super) fn puts(request: &PbTxnRequest) -> bool {
    let mut operations = request.success.iter().chain(&request.failure);
    operations.any(|operation| matches!(operation.request, Some(PbTxnOpRequest::RequestPut(_))))
}

fn check_operation(operation: &PbTxnRequestOp) -> Result<(), Refusal> {
    match &operation.request {
        Some(PbTxnOpRequest::RequestRange(request)) => range::check(request),
        Some(PbTxnOpRequest::RequestPut(request)) => check_put(request),
        Some(PbTxnOpRequest::RequestDeleteRange(request)) => check_delete(request),
        Some(PbTxnOpRequest::RequestTxn(_)) => Err(Refusal::NestedTransaction),
        None => Err(Refusal::KeyNotFound),
    }
}

pub(super) fn check_put(request: &PbPutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 { Err(Refusal::LeaseProvided) } else { Ok(()) }
}

pub(super) fn check_delete(request: &PbDeleteRequest) -> Result<(), Refusal> {
    if request.key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

/// A branch may write each key once: no two puts of it, and no put of what a delete covers.
fn check_disjoint(branch: &[PbTxnRequestOp]) -> Result<(), Refusal> {
    let mut puts: BTreeSet<&[u8]> = BTreeSet::new();
    let mut deletes = Vec::new();
    for operation in branch {
        match &operation.request {
            Some(PbTxnOpRequest::RequestPut(put)) if !puts.insert(&put.key) => {
                return Err(Refusal::DuplicateKey);
            }
            Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                deletes.push(Interval::new(&delete.key, &delete.range_end));
            }
            _ => {}
        }
    }
    let overlap = puts.iter().any(|key| deletes.iter().any(|delete| delete.contains(key)));
    if overlap { Err(Refusal::DuplicateKey) } else { Ok(()) }
}

/// Does a checked transaction; the answer lacks its header. On a refusal nothing was written.
pub(super) fn apply(
    state: &mut State,
    change: &mut Change,
    request: PbTxnRequest,
) -> Result<PbTxnResponse, Refusal> {
    let succeeded = request.compare.iter().all(|compare| holds(state, compare));
    let branch = if succeeded { request.success } else { request.failure };
    check_branch(state, &branch)?;
    let responses = branch.into_iter().filter_map(|operation| respond(state, change, operation)).collect();
    Ok(PbTxnResponse { header: None, succeeded, responses })
}

/// What the operations of a branch need from the present state: puts first, then ranges, as etcd looks at them.
fn check_branch(state: &State, branch: &[PbTxnRequestOp]) -> Result<(), Refusal> {
    for operation in branch {
        if let Some(PbTxnOpRequest::RequestPut(put)) = &operation.request {
            state.check_kept(put)?;
            state.check_lease(put)?;
        }
    }
    for operation in branch {
        if let Some(PbTxnOpRequest::RequestRange(range)) = &operation.request {
            // Alone, a negative revision means the present one; inside a transaction etcd finds it too old.
            if range.revision < state.keyspace.compacted().min(0) {
                return Err(Refusal::Compacted);
            }
            state.keyspace.check_readable(range.revision)?;
        }
    }
    Ok(())
}

fn respond(state: &mut State, change: &mut Change, operation: PbTxnRequestOp) -> Option<PbResponseOp> {
    let response = match operation.request? {
        PbTxnOpRequest::RequestRange(request) => {
            let header = Some(inner_header(state.revision_within(change)));
            let answer = range::answer(&state.keyspace, &request);
            PbTxnOpResponse::ResponseRange(PbRangeResponse { header, ..answer })
        }
        PbTxnOpRequest::RequestPut(request) => PbTxnOpResponse::ResponsePut(state.apply_put(change, request)),
        PbTxnOpRequest::RequestDeleteRange(request) => {
            PbTxnOpResponse::ResponseDeleteRange(state.apply_delete(change, &request))
        }
        // Refused by `check`.
        PbTxnOpRequest::RequestTxn(_) => return None,
    };
    Some(PbResponseOp { response: Some(response) })
}

/// Whether a compare holds, for all keys of its range. An absent key compares as one of version, revisions and
/// lease 0, but never by its value.
fn holds(state: &State, compare: &PbCompare) -> bool {
    let interval = Interval::new(&compare.key, &compare.range_end);
    let mut found = state.keyspace.range(&interval, 0).peekable();
    if found.peek().is_none() {
        return compare.target != PbCompareTarget::Value as i32 && holds_for(compare, &PbKeyValue::default());
    }
    found.all(|kv| holds_for(compare, &kv))
}

fn holds_for(compare: &PbCompare, kv: &PbKeyValue) -> bool {
    let operand = compare.target_union.as_ref();
    let order = match PbCompareTarget::try_from(compare.target) {
        Ok(PbCompareTarget::Version) => kv.version.cmp(&number(operand)),
        Ok(PbCompareTarget::Create) => kv.create_revision.cmp(&number(operand)),
        Ok(PbCompareTarget::Mod) => kv.mod_revision.cmp(&number(operand)),
        Ok(PbCompareTarget::Lease) => kv.lease.cmp(&number(operand)),
        Ok(PbCompareTarget::Value) => match operand {
            Some(PbTargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.as_slice().cmp(&[]),
        },
        Err(_) => Ordering::Equal,
    };
    match compare.result {
        GREATER => order == Ordering::Greater,
        LESS => order == Ordering::Less,
        NOT_EQUAL => order != Ordering::Equal,
        _ => order == Ordering::Equal,
    }
}

/// A compare's number; 0 when there is none.
fn number(operand: Option<&PbTargetUnion>) -> i64 {
    match operand {
        Some(
            PbTargetUnion::Version(number)
            | PbTargetUnion::CreateRevision(number)
            | PbTargetUnion::ModRevision(number)
            | PbTargetUnion::Lease(number),
        ) => *number,
        Some(PbTargetUnion::Value(_)) | None => 0,
    }
}
