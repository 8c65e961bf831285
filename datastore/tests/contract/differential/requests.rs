//! Random requests, and how a client sends them.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, TxnOp, WatchFilterType,
};
use proptest::prelude::*;

/// One request. Revisions are counted back from the present one, so that most of them can be read.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Get(String, Get),
    Put {
        key: String,
        value: String,
        lease: i64,
        previous: bool,
        ignore_value: bool,
        ignore_lease: bool,
    },
    Delete {
        key: String,
        end: Option<String>,
        previous: bool,
    },
    Txn {
        compares: Vec<Test>,
        then: Vec<Request>,
        otherwise: Vec<Request>,
    },
    Compact {
        back: i64,
    },
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
    KeysOfLease {
        id: i64,
    },
    Leases,
    /// From now on, or from a revision back.
    Watch {
        end: String,
        back: Option<i64>,
        previous: bool,
        filter: Option<WatchFilterType>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Get {
    end: Option<String>,
    limit: i64,
    back: Option<i64>,
    pub(super) sort: Option<(SortTarget, SortOrder)>,
    keys_only: bool,
    count_only: bool,
    serializable: bool,
    /// Least and largest revision of the last change, and of the creation.
    bounds: [Option<i64>; 4],
}

#[derive(Clone, Debug)]
pub(super) struct Test {
    key: String,
    end: Option<String>,
    target: u8,
    operator: u8,
    back: i64,
    value: String,
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![20 => (0..8u8).prop_map(|i| format!("k/{i}")), 1 => Just(String::new())]
}

fn end() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        (0..9u8).prop_map(|i| Some(format!("k/{i}"))),
        Just(Some("k0".to_owned())),
        Just(Some("\0".to_owned())),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), (0..4u8).prop_map(|i| format!("v{i}"))]
}

/// Few leases, some of which exist; long enough not to end during the test.
fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 2 => 1..4i64]
}

fn sort() -> impl Strategy<Value = Option<(SortTarget, SortOrder)>> {
    let target = prop_oneof![
        3 => Just(SortTarget::Key),
        1 => Just(SortTarget::Version),
        1 => Just(SortTarget::Create),
        1 => Just(SortTarget::Mod),
        1 => Just(SortTarget::Value),
    ];
    let order = prop_oneof![Just(SortOrder::None), Just(SortOrder::Ascend), Just(SortOrder::Descend)];
    prop_oneof![2 => Just(None), 1 => (target, order).prop_map(Some)]
}

fn get() -> impl Strategy<Value = Request> {
    let back = prop_oneof![3 => Just(None), 2 => (-1..12i64).prop_map(Some)];
    let bound = || prop_oneof![6 => Just(None), 1 => (0..10i64).prop_map(Some)];
    let bounds = [bound(), bound(), bound(), bound()];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (key(), end(), 0..4i64, back, sort(), flags, bounds).prop_map(
        |(key, end, limit, back, sort, (keys_only, count_only, serializable), bounds)| {
            // etcd's sort keeps no order among equals, so a limit would cut anywhere.
            let unique = sort.is_none_or(|(target, _)| matches!(target, SortTarget::Key));
            let limit = if unique { limit } else { 0 };
            Request::Get(key, Get { end, limit, back, sort, keys_only, count_only, serializable, bounds })
        },
    )
}

fn watch() -> impl Strategy<Value = Request> {
    let end = prop_oneof![Just("k0".to_owned()), (1..8u8).prop_map(|i| format!("k/{i}"))];
    let back = prop_oneof![1 => Just(None), 2 => (0..30i64).prop_map(Some)];
    let filter = prop_oneof![
        4 => Just(None),
        1 => Just(Some(WatchFilterType::NoPut)),
        1 => Just(Some(WatchFilterType::NoDelete)),
    ];
    (end, back, any::<bool>(), filter).prop_map(|(end, back, previous, filter)| Request::Watch {
        end,
        back,
        previous,
        filter,
    })
}

/// `open`: whether deletes may reach to the last key. In a transaction etcd overlooks that such a delete covers a put;
/// the embedded server refuses that as it refuses other overlaps.
fn write(open: bool) -> impl Strategy<Value = Request> {
    let put =
        (key(), value(), lease(), any::<bool>(), 0..8u8).prop_map(|(key, value, lease, previous, ignore)| {
            Request::Put { key, value, lease, previous, ignore_value: ignore == 0, ignore_lease: ignore == 1 }
        });
    let delete = (key(), end(), any::<bool>()).prop_map(move |(key, end, previous)| {
        let end = end.filter(|end| open || end != "\0");
        Request::Delete { key, end, previous }
    });
    prop_oneof![3 => put, 1 => delete]
}

fn test() -> impl Strategy<Value = Test> {
    (key(), end(), 0..5u8, 0..4u8, 0..8i64, value()).prop_map(|(key, end, target, operator, back, value)| {
        Test { key, end: end.filter(|_| back % 3 == 0), target, operator, back, value }
    })
}

pub(super) fn request() -> impl Strategy<Value = Request> {
    let branch = || prop::collection::vec(prop_oneof![2 => write(false), 1 => get()], 0..4);
    let txn = (prop::collection::vec(test(), 0..3), branch(), branch())
        .prop_map(|(compares, then, otherwise)| Request::Txn { compares, then, otherwise });
    prop_oneof![
        6 => write(true),
        4 => get(),
        6 => txn,
        1 => (1..4i64, 100..200i64).prop_map(|(id, ttl)| Request::Grant { id, ttl }),
        1 => (1..4i64).prop_map(|id| Request::Revoke { id }),
        1 => (1..4i64).prop_map(|id| Request::KeysOfLease { id }),
        1 => Just(Request::Leases),
        1 => watch(),
        1 => (-1..20i64).prop_map(|back| Request::Compact { back }),
    ]
}

pub(super) fn get_options(get: &Get, now: i64) -> GetOptions {
    let mut options = GetOptions::new().with_limit(get.limit);
    if let Some(end) = &get.end {
        options = options.with_range(end.as_str());
    }
    if let Some(back) = get.back {
        options = options.with_revision(now - back);
    }
    if let Some((target, order)) = get.sort {
        options = options.with_sort(target, order);
    }
    let [min_mod, max_mod, min_create, max_create] =
        get.bounds.map(|back| back.map(|back| (now - back).max(0)));
    if let Some(revision) = min_mod {
        options = options.with_min_mod_revision(revision);
    }
    if let Some(revision) = max_mod {
        options = options.with_max_mod_revision(revision);
    }
    if let Some(revision) = min_create {
        options = options.with_min_create_revision(revision);
    }
    if let Some(revision) = max_create {
        options = options.with_max_create_revision(revision);
    }
    if get.serializable {
        options = options.with_serializable();
    }
    if get.keys_only {
        options = options.with_keys_only();
    }
    if get.count_only { options.with_count_only() } else { options }
}

pub(super) fn put_options(lease: i64, previous: bool, ignore_value: bool, ignore_lease: bool) -> PutOptions {
    let mut options = PutOptions::new().with_lease(lease);
    if previous {
        options = options.with_prev_key();
    }
    if ignore_value {
        options = options.with_ignore_value();
    }
    if ignore_lease { options.with_ignore_lease() } else { options }
}

pub(super) fn delete_options(end: Option<&str>, previous: bool) -> DeleteOptions {
    let mut options = DeleteOptions::new();
    if let Some(end) = end {
        options = options.with_range(end);
    }
    if previous { options.with_prev_key() } else { options }
}

pub(super) fn operation(request: &Request, now: i64) -> TxnOp {
    match request {
        Request::Get(key, get) => TxnOp::get(key.as_str(), Some(get_options(get, now))),
        Request::Put { key, value, lease, previous, ignore_value, ignore_lease } => TxnOp::put(
            key.as_str(),
            value.as_str(),
            Some(put_options(*lease, *previous, *ignore_value, *ignore_lease)),
        ),
        Request::Delete { key, end, previous } => {
            TxnOp::delete(key.as_str(), Some(delete_options(end.as_deref(), *previous)))
        }
        Request::Txn { .. }
        | Request::Compact { .. }
        | Request::Grant { .. }
        | Request::Revoke { .. }
        | Request::KeysOfLease { .. }
        | Request::Leases
        | Request::Watch { .. } => panic!("no operation of a transaction: {request:?}"),
    }
}

pub(super) fn compare(test: &Test, now: i64) -> Compare {
    let operators = [CompareOp::Equal, CompareOp::Greater, CompareOp::Less, CompareOp::NotEqual];
    let operator = operators[usize::from(test.operator)];
    let key = test.key.as_str();
    let compare = match test.target {
        0 => Compare::version(key, operator, test.back),
        1 => Compare::create_revision(key, operator, (now - test.back).max(0)),
        2 => Compare::mod_revision(key, operator, (now - test.back).max(0)),
        3 => Compare::lease(key, operator, test.back % 4),
        _ => Compare::value(key, operator, test.value.as_str()),
    };
    match &test.end {
        Some(end) => compare.with_range(end.as_str()),
        None => compare,
    }
}
