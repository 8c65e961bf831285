//! The same random requests to the embedded server and to a real etcd: same answers, same refusals, same events.
//!
//! `TORTIE_DIFFERENTIAL_CASES` asks for more cases than `make test` has time for, `TORTIE_DIFFERENTIAL_SEED` (a number) for others.

use std::time::Duration;

use etcd_client::proto::{PbKeyValue, PbRangeResponse, PbResponseHeader, PbTxnOpResponse, PbWatchResponse};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchFilterType, WatchOptions, WatchStream,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::backend::Backend;

/// Unless the environment asks for more.
const CASES: u64 = 6;
const REQUESTS: usize = 250;
/// Written and deleted, so that a watch knows that it has seen everything; every watch covers it.
const MARK: &str = "k/!mark";

/// One request. Revisions are counted back from the present one, so that most of them can be read.
#[derive(Clone, Debug)]
enum Request {
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
struct Get {
    end: Option<String>,
    limit: i64,
    back: Option<i64>,
    sort: Option<(SortTarget, SortOrder)>,
    keys_only: bool,
    count_only: bool,
    serializable: bool,
    /// Least and largest revision of the last change, and of the creation.
    bounds: [Option<i64>; 4],
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
        1 => Just(Request::Leases),
        1 => watch(),
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
        | Request::KeysOfLease { .. }
        | Request::Leases
        | Request::Watch { .. } => panic!("no operation of a transaction: {request:?}"),
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
        Request::Get(key, get) => {
            text!(kv.get(key.as_str(), Some(get_options(get, now))).await.map(|mut answer| {
                canonical(&mut answer.0, get.sort);
                answer
            }))
        }
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
                let branch = if answer.0.succeeded { then } else { otherwise };
                for (response, request) in answer.0.responses.iter_mut().zip(branch) {
                    match &mut response.response {
                        Some(PbTxnOpResponse::ResponseRange(r)) => {
                            anonymous(&mut r.header);
                            if let Request::Get(_, get) = request {
                                canonical(r, get.sort);
                            }
                        }
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
        Request::Leases => text!(leases.leases().await.map(|mut answer| {
            answer.0.leases.sort_by_key(|lease| lease.id);
            answer
        })),
        Request::Watch { .. } => panic!("a side's affair: {request:?}"),
    }
}

/// Checks the order that was asked for, and puts equals into the order of their keys.
fn canonical(answer: &mut PbRangeResponse, sort: Option<(SortTarget, SortOrder)>) {
    let Some((target, order)) = sort else { return };
    let by = |kv: &PbKeyValue| match target {
        SortTarget::Key => (0, kv.key.clone()),
        SortTarget::Version => (kv.version, Vec::new()),
        SortTarget::Create => (kv.create_revision, Vec::new()),
        SortTarget::Mod => (kv.mod_revision, Vec::new()),
        SortTarget::Value => (0, kv.value.clone()),
    };
    // Values are sorted by before they are left out.
    let shown = !matches!(target, SortTarget::Value) || answer.kvs.iter().any(|kv| !kv.value.is_empty());
    if shown {
        match order {
            SortOrder::Descend => assert!(answer.kvs.is_sorted_by(|a, b| by(a) >= by(b)), "{answer:?}"),
            SortOrder::None | SortOrder::Ascend => assert!(answer.kvs.is_sorted_by_key(by), "{answer:?}"),
        }
    }
    if !matches!(target, SortTarget::Key) {
        answer.kvs.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

/// A server under comparison, with its watches.
struct Side {
    _backend: Backend,
    client: Client,
    watches: Vec<Watching>,
    compacted: i64,
}

/// A watch and what it has told.
struct Watching {
    stream: WatchStream,
    filter: Option<WatchFilterType>,
    seen: Vec<String>,
    ended: bool,
}

impl Side {
    async fn new(backend: Backend) -> Side {
        let client = Client::connect([backend.url()], None).await.unwrap();
        let mut side = Side { _backend: backend, client, watches: Vec::new(), compacted: 0 };
        for (end, start) in [("k0", 0), ("k/4", 0), ("k0", 1)] {
            side.watch(end, start, false, None).await;
        }
        side
    }

    async fn revision(&self) -> i64 {
        let answer = self.client.kv_client().get("nothing", None).await.unwrap();
        answer.header().unwrap().revision()
    }

    async fn watch(&mut self, end: &str, start: i64, previous: bool, filter: Option<WatchFilterType>) {
        let mut options = WatchOptions::new().with_range(end).with_start_revision(start);
        if previous {
            options = options.with_prev_key();
        }
        if let Some(filter) = filter {
            options = options.with_filters([filter]);
        }
        let stream = self.client.watch_client().watch("k/", Some(options)).await.unwrap();
        self.watches.push(Watching { stream, filter, seen: Vec::new(), ended: false });
    }

    /// The answer to a request, of whatever kind.
    async fn ask(&mut self, request: &Request, now: i64) -> String {
        match request {
            Request::Watch { end, back, previous, filter } => {
                // Before 3.6 etcd forgets deletes at the compacted revision and yet lets a watch start there.
                let start = back.map_or(0, |back| (now - back).max(1));
                let start = if start == self.compacted { start + 1 } else { start };
                self.watch(end, start, *previous, *filter).await;
                String::new()
            }
            Request::Compact { back } => {
                // A watch that is behind may be overtaken, or not.
                self.drain().await;
                let answer = send(&self.client, request, now).await;
                if answer.starts_with("PbCompaction") || answer.starts_with("Compaction") {
                    self.compacted = now - back;
                }
                answer
            }
            other => send(&self.client, other, now).await,
        }
    }

    /// Lets every watch tell everything up to now.
    async fn drain(&mut self) {
        let mut kv = self.client.kv_client();
        let put = kv.put(MARK, "mark", None).await.unwrap().header().unwrap().revision();
        let deleted = kv.delete(MARK, None).await.unwrap().header().unwrap().revision();
        for watch in self.watches.iter_mut().filter(|watch| !watch.ended) {
            let last = if matches!(watch.filter, Some(WatchFilterType::NoDelete)) { put } else { deleted };
            watch.read_to(last).await;
        }
    }

    /// What each watch has told.
    async fn events(mut self) -> Vec<Vec<String>> {
        self.drain().await;
        self.watches.into_iter().map(|watch| watch.seen).collect()
    }
}

impl Watching {
    async fn read_to(&mut self, last: i64) {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(60), self.stream.message()).await;
            let next = next.expect("events within a minute").unwrap().expect("the stream goes on");
            let PbWatchResponse { canceled, cancel_reason, compact_revision, events, .. } = next.0;
            if canceled {
                self.ended = true;
                self.seen.push(format!("cancelled, compacted at {compact_revision}: {cancel_reason}"));
                return;
            }
            let newest = events.last().and_then(|event| Some(event.kv.as_ref()?.mod_revision));
            self.seen.extend(events.iter().map(|event| format!("{event:?}")));
            if newest.is_some_and(|newest| newest >= last) {
                return;
            }
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_get_the_same_answers_and_events() {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("TORTIE_DIFFERENTIAL_SEED", 0).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for case in 0..number("TORTIE_DIFFERENTIAL_CASES", CASES) {
        let requests = prop::collection::vec(request(), REQUESTS).new_tree(&mut runner).unwrap().current();
        let mut ours = Side::new(Backend::embedded().await).await;
        let mut theirs = Side::new(Backend::etcd().await).await;
        for (i, request) in requests.iter().enumerate() {
            // Without compactions in every other case: there history grows long.
            if case % 2 == 0 && matches!(request, Request::Compact { .. }) {
                continue;
            }
            let now = ours.revision().await;
            assert_eq!(now, theirs.revision().await, "case {case}: revisions part before request {i}");
            let (mine, other) = (ours.ask(request, now).await, theirs.ask(request, now).await);
            assert_eq!(mine, other, "case {case}, request {i} at revision {now}: {request:?}");
        }
        let events = ours.events().await;
        let expected = theirs.events().await;
        for (i, (mine, other)) in events.iter().zip(&expected).enumerate() {
            assert_eq!(mine, other, "case {case}, watch {i}");
        }
        assert!(events.iter().map(Vec::len).sum::<usize>() > 200, "case {case} shows little");
    }
}

/// Many watches on one stream, ids of the client's choice, cancelling, progress: the same script to both servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_stream_is_told_the_same() {
    let ours = watch_script(Backend::embedded().await).await;
    let theirs = watch_script(Backend::etcd().await).await;
    assert_eq!(ours, theirs);
    assert_eq!(ours.iter().filter(|line| line.starts_with("fragment")).count(), 1, "{ours:?}");
}

async fn watch_script(backend: Backend) -> Vec<String> {
    let client = Client::connect([backend.url()], None).await.unwrap();
    let mut kv = client.kv_client();
    kv.put("a/1", "1", None).await.unwrap();
    let with_id = |id| WatchOptions::new().with_prefix().with_watch_id(id);
    let mut told = Vec::new();
    let mut stream = client.watch_client().watch("a/", Some(with_id(7))).await.unwrap();
    let mut next = async |stream: &mut WatchStream| {
        let answer = tokio::time::timeout(Duration::from_secs(60), stream.message()).await;
        let PbWatchResponse {
            header,
            watch_id,
            created,
            canceled,
            fragment,
            compact_revision,
            cancel_reason,
            events,
        } = answer.expect("an answer within a minute").unwrap().expect("the stream goes on").0;
        let revision = header.map_or(0, |header| header.revision);
        let events: Vec<String> = events
            .iter()
            .map(|event| {
                let of = |kv: &Option<PbKeyValue>| {
                    let kv = kv.as_ref()?;
                    let start = kv.value.get(..4).unwrap_or(&kv.value).to_vec();
                    Some((String::from_utf8(kv.key.clone()).ok()?, start, kv.mod_revision))
                };
                format!("{} {:?} {:?}", event.r#type, of(&event.kv), of(&event.prev_kv))
            })
            .collect();
        let kind = if fragment { "fragment" } else { "whole" };
        told.push(format!(
            "{kind} id {watch_id} at {revision}: {created} {canceled} {compact_revision} '{cancel_reason}' {events:?}"
        ));
    };
    next(&mut stream).await;
    // The same id again, an id of the server's, the past, an empty range.
    stream.watch("a/", Some(with_id(7))).await.unwrap();
    next(&mut stream).await;
    stream.watch("b/", Some(WatchOptions::new().with_prefix().with_prev_key())).await.unwrap();
    next(&mut stream).await;
    stream.watch("a/", Some(with_id(9).with_start_revision(2))).await.unwrap();
    next(&mut stream).await;
    next(&mut stream).await;
    stream.watch("z", Some(WatchOptions::new().with_range("a"))).await.unwrap();
    next(&mut stream).await;
    kv.put("b/1", "first", None).await.unwrap();
    next(&mut stream).await;
    kv.put("b/1", "second", None).await.unwrap();
    next(&mut stream).await;
    stream.request_progress().await.unwrap();
    next(&mut stream).await;
    stream.cancel(9).await.unwrap();
    next(&mut stream).await;
    // A second time nobody answers.
    stream.cancel(9).await.unwrap();
    stream.cancel(7).await.unwrap();
    next(&mut stream).await;
    kv.delete("b/1", None).await.unwrap();
    next(&mut stream).await;
    // What fits a message is not parted; with the values before it, it no longer fits.
    let parts = WatchOptions::new().with_prefix().with_fragment().with_prev_key().with_watch_id(20);
    stream.watch("c/", Some(parts)).await.unwrap();
    next(&mut stream).await;
    for _ in 0..2 {
        let large = |i: u8| TxnOp::put(format!("c/{i}"), vec![b'x'; 700 << 10], None);
        kv.txn(Txn::new().and_then([large(0), large(1)])).await.unwrap();
        next(&mut stream).await;
    }
    next(&mut stream).await;
    told
}
