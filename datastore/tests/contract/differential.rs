//! The same random requests to the embedded server and to a real etcd: same answers, same refusals, same events.
//!
//! `TORTIE_DIFFERENTIAL_CASES` asks for more cases than `make test` has time for, `TORTIE_DIFFERENTIAL_SEED` (a number) for others.

use std::time::Duration;

use etcd_client::proto::{PbKeyValue, PbRangeResponse, PbResponseHeader, PbTxnOpResponse, PbWatchResponse};
use etcd_client::{
    Client, Compare, Error, LeaseGrantOptions, LeaseTimeToLiveOptions, SortOrder, SortTarget, Txn,
    WatchFilterType, WatchOptions, WatchStream,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::backend::Backend;

mod requests;

use requests::{Request, compare, delete_options, get_options, operation, put_options, request};

/// Unless the environment asks for more.
const CASES: u64 = 6;
const REQUESTS: usize = 250;
/// Written and deleted, so that a watch knows that it has seen everything; every watch covers it.
const MARK: &str = "k/!mark";

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
        Request::Watch { .. } | Request::Compact { .. } => panic!("a side's affair: {request:?}"),
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
        if let Request::Watch { end, back, previous, filter } = request {
            // Before 3.6 etcd forgets deletes at the compacted revision and yet lets a watch start there.
            let start = back.map_or(0, |back| (now - back).max(1));
            let start = if start == self.compacted { start + 1 } else { start };
            self.watch(end, start, *previous, *filter).await;
            return String::new();
        }
        let Request::Compact { back } = request else { return send(&self.client, request, now).await };
        // A watch that is behind may be overtaken, or not.
        self.drain().await;
        let mut kv = self.client.kv_client();
        let answer = kv.compact(now - back, None).await;
        if answer.is_ok() {
            self.compacted = now - back;
        }
        answer.map_or_else(|error| refused(&error), |answer| answer.header().unwrap().revision().to_string())
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
