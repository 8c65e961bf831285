//! The same random requests to the embedded server and to a real etcd: same answers, same refusals, same events.

use std::time::Duration;

use etcd_client::proto::{PbResponseHeader, PbTxnOpResponse, PbWatchResponse};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions, WatchStream,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::backend::Backend;

/// Unless `PROPTEST_CASES` asks for more.
const CASES: usize = 6;
const REQUESTS: usize = 250;
/// Written last, so that a watch knows that it has seen everything; every watch covers it.
const END: &str = "k/!end";

/// One request. Revisions are counted back from the present one, so that most of them can be read.
#[derive(Clone, Debug)]
enum Request {
    Get(String, Get),
    Put { key: String, value: String, lease: i64, previous: bool, ignore_value: bool, ignore_lease: bool },
    Delete { key: String, end: Option<String>, previous: bool },
    Txn { compares: Vec<Test>, then: Vec<Request>, otherwise: Vec<Request> },
    Compact { back: i64 },
    Grant { id: i64, ttl: i64 },
    Revoke { id: i64 },
    KeysOfLease { id: i64 },
}

#[derive(Clone, Debug)]
struct Get {
    end: Option<String>,
    limit: i64,
    back: Option<i64>,
    sort: Option<(SortTarget, SortOrder)>,
    keys_only: bool,
    count_only: bool,
    min_mod_back: Option<i64>,
}

#[derive(Clone, Debug)]
struct Test {
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
    // Targets with ties are left out: etcd's sort keeps no order among equals.
    let target = prop_oneof![Just(SortTarget::Key)];
    let order = prop_oneof![Just(SortOrder::Ascend), Just(SortOrder::Descend)];
    prop_oneof![3 => Just(None), 1 => (target, order).prop_map(Some)]
}

fn get() -> impl Strategy<Value = Request> {
    let back = prop_oneof![3 => Just(None), 2 => (-1..12i64).prop_map(Some)];
    let min_mod = prop_oneof![4 => Just(None), 1 => (0..10i64).prop_map(Some)];
    (key(), end(), 0..4i64, back, sort(), any::<bool>(), any::<bool>(), min_mod).prop_map(
        |(key, end, limit, back, sort, keys_only, count_only, min_mod_back)| {
            let get = Get { end, limit, back, sort, keys_only, count_only, min_mod_back };
            Request::Get(key, get)
        },
    )
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

fn request() -> impl Strategy<Value = Request> {
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
        1 => (-1..20i64).prop_map(|back| Request::Compact { back }),
    ]
}

fn get_options(get: &Get, now: i64) -> GetOptions {
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
    if let Some(back) = get.min_mod_back {
        options = options.with_min_mod_revision(now - back);
    }
    if get.keys_only {
        options = options.with_keys_only();
    }
    if get.count_only { options.with_count_only() } else { options }
}

fn put_options(lease: i64, previous: bool, ignore_value: bool, ignore_lease: bool) -> PutOptions {
    let mut options = PutOptions::new().with_lease(lease);
    if previous {
        options = options.with_prev_key();
    }
    if ignore_value {
        options = options.with_ignore_value();
    }
    if ignore_lease { options.with_ignore_lease() } else { options }
}

fn delete_options(end: Option<&str>, previous: bool) -> DeleteOptions {
    let mut options = DeleteOptions::new();
    if let Some(end) = end {
        options = options.with_range(end);
    }
    if previous { options.with_prev_key() } else { options }
}

fn operation(request: &Request, now: i64) -> TxnOp {
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
        | Request::KeysOfLease { .. } => panic!("no operation of a transaction: {request:?}"),
    }
}

fn compare(test: &Test, now: i64) -> Compare {
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

/// What depends on the server and not on the request.
fn anonymous(header: &mut Option<PbResponseHeader>) {
    if let Some(header) = header {
        *header = PbResponseHeader { revision: header.revision, ..PbResponseHeader::default() };
    }
}

fn refused(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else { panic!("no answer: {error}") };
    format!("{:?}: {}", status.code(), status.message())
}

/// Sends a request; the answer as comparable text.
async fn send(client: &Client, request: &Request, now: i64) -> String {
    let kv = client.kv_client();
    let mut leases = client.lease_client();
    macro_rules! text {
        ($answer:expr) => {
            match $answer {
                Ok(mut answer) => {
                    anonymous(&mut answer.0.header);
                    format!("{:?}", answer.0)
                }
                Err(error) => refused(&error),
            }
        };
    }
    let mut kv = kv;
    match request {
        Request::Get(key, get) => text!(kv.get(key.as_str(), Some(get_options(get, now))).await),
        Request::Put { key, value, lease, previous, ignore_value, ignore_lease } => {
            let options = put_options(*lease, *previous, *ignore_value, *ignore_lease);
            text!(kv.put(key.as_str(), value.as_str(), Some(options)).await)
        }
        Request::Delete { key, end, previous } => {
            text!(kv.delete(key.as_str(), Some(delete_options(end.as_deref(), *previous))).await)
        }
        Request::Txn { compares, then, otherwise } => {
            let operations =
                |branch: &[Request]| branch.iter().map(|r| operation(r, now)).collect::<Vec<_>>();
            let when: Vec<Compare> = compares.iter().map(|test| compare(test, now)).collect();
            let txn = Txn::new().when(when).and_then(operations(then)).or_else(operations(otherwise));
            text!(kv.txn(txn).await.map(|mut answer| {
                for response in &mut answer.0.responses {
                    match &mut response.response {
                        Some(PbTxnOpResponse::ResponseRange(r)) => anonymous(&mut r.header),
                        Some(PbTxnOpResponse::ResponsePut(r)) => anonymous(&mut r.header),
                        Some(PbTxnOpResponse::ResponseDeleteRange(r)) => anonymous(&mut r.header),
                        Some(PbTxnOpResponse::ResponseTxn(_)) | None => {}
                    }
                }
                answer
            }))
        }
        Request::Compact { back } => text!(kv.compact(now - back, None).await),
        Request::Grant { id, ttl } => {
            text!(leases.grant(*ttl, Some(LeaseGrantOptions::new().with_id(*id))).await)
        }
        Request::Revoke { id } => text!(leases.revoke(*id).await),
        Request::KeysOfLease { id } => {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            text!(leases.time_to_live(*id, Some(options)).await.map(|mut answer| {
                answer.0.keys.sort();
                // Seconds left depend on when one asks.
                answer.0.ttl = answer.0.ttl.min(1);
                answer
            }))
        }
    }
}

/// A server under comparison, with its watches.
struct Side {
    _backend: Backend,
    client: Client,
    watches: Vec<WatchStream>,
}

impl Side {
    async fn new(backend: Backend) -> Side {
        let client = Client::connect([backend.url()], None).await.unwrap();
        let mut watches = Vec::new();
        for options in [
            WatchOptions::new().with_prefix(),
            WatchOptions::new().with_range("k/4"),
            WatchOptions::new().with_prefix().with_filters([etcd_client::WatchFilterType::NoDelete]),
            WatchOptions::new().with_prefix().with_start_revision(1),
        ] {
            watches.push(client.watch_client().watch("k/", Some(options)).await.unwrap());
        }
        Side { _backend: backend, client, watches }
    }

    async fn revision(&self) -> i64 {
        let answer = self.client.kv_client().get("nothing", None).await.unwrap();
        answer.header().unwrap().revision()
    }

    /// Every event of every watch up to the last write.
    async fn events(&mut self) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for watch in &mut self.watches {
            all.push(read_to_end(watch).await);
        }
        all
    }
}

async fn read_to_end(watch: &mut WatchStream) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), watch.message()).await;
        let PbWatchResponse { canceled, cancel_reason, events, .. } =
            next.expect("events within twenty seconds").unwrap().expect("the watch goes on").0;
        assert!(!canceled, "cancelled: {cancel_reason}");
        for event in events {
            let end = event.kv.as_ref().is_some_and(|kv| kv.key == END.as_bytes() && kv.value == b"end");
            seen.push(format!("{event:?}"));
            if end {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_get_the_same_answers_and_events() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let cases = std::env::var("PROPTEST_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    for case in 0..cases {
        let requests = prop::collection::vec(request(), REQUESTS).new_tree(&mut runner).unwrap().current();
        // A compaction may overtake a watch in either server; cases without one compare the events.
        let with_compaction = case % 2 == 1;
        let mut ours = Side::new(Backend::embedded().await).await;
        let mut theirs = Side::new(Backend::etcd().await).await;
        for (i, request) in requests.iter().enumerate() {
            if !with_compaction && matches!(request, Request::Compact { .. }) {
                continue;
            }
            let now = ours.revision().await;
            assert_eq!(now, theirs.revision().await, "case {case}: revisions part before request {i}");
            let (mine, other) =
                (send(&ours.client, request, now).await, send(&theirs.client, request, now).await);
            assert_eq!(mine, other, "case {case}, request {i} at revision {now}: {request:?}");
        }
        if !with_compaction {
            for side in [&ours, &theirs] {
                side.client.kv_client().put(END, "end", None).await.unwrap();
            }
            let events = ours.events().await;
            assert_eq!(events, theirs.events().await, "case {case}");
            assert!(events.iter().all(|seen| seen.len() > 20), "case {case} shows little");
        }
    }
}
