//! Many watches on one stream, the same script to the embedded server and to a real etcd.

use std::time::Duration;

use etcd_client::proto::{PbEvent, PbKeyValue, PbWatchResponse};
use etcd_client::{Client, KvClient, Txn, TxnOp, WatchOptions, WatchStream};

use crate::backend::Backend;

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
    let stream = client.watch_client().watch("a/", Some(with_id(7))).await.unwrap();
    let mut script = Script { kv, stream, told: Vec::new() };
    script.hear().await;
    script.creations().await;
    script.events_progress_and_cancelling().await;
    script.fragments().await;
    script.told
}

fn with_id(id: i64) -> WatchOptions {
    WatchOptions::new().with_prefix().with_watch_id(id)
}

/// A stream, and what it has told.
struct Script {
    kv: KvClient,
    stream: WatchStream,
    told: Vec<String>,
}

impl Script {
    /// The same id again, an id of the server's, the past, an empty range.
    async fn creations(&mut self) {
        self.stream.watch("a/", Some(with_id(7))).await.unwrap();
        self.hear().await;
        self.stream.watch("b/", Some(WatchOptions::new().with_prefix().with_prev_key())).await.unwrap();
        self.hear().await;
        self.stream.watch("a/", Some(with_id(9).with_start_revision(2))).await.unwrap();
        self.hear().await;
        self.hear().await;
        self.stream.watch("z", Some(WatchOptions::new().with_range("a"))).await.unwrap();
        self.hear().await;
    }

    async fn events_progress_and_cancelling(&mut self) {
        for value in ["first", "second"] {
            self.kv.put("b/1", value, None).await.unwrap();
            self.hear().await;
        }
        self.stream.request_progress().await.unwrap();
        self.hear().await;
        self.stream.cancel(9).await.unwrap();
        self.hear().await;
        // A second time nobody answers.
        self.stream.cancel(9).await.unwrap();
        self.stream.cancel(7).await.unwrap();
        self.hear().await;
        self.kv.delete("b/1", None).await.unwrap();
        self.hear().await;
    }

    /// What fits a message is not parted; with the values before it, it no longer fits.
    async fn fragments(&mut self) {
        let options = with_id(20).with_fragment().with_prev_key();
        self.stream.watch("c/", Some(options)).await.unwrap();
        self.hear().await;
        for _ in 0..2 {
            let large = |i: u8| TxnOp::put(format!("c/{i}"), vec![b'x'; 700 << 10], None);
            self.kv.txn(Txn::new().and_then([large(0), large(1)])).await.unwrap();
            self.hear().await;
        }
        self.hear().await;
    }

    /// Waits for the next message and notes everything in it.
    async fn hear(&mut self) {
        let answer = tokio::time::timeout(Duration::from_secs(60), self.stream.message()).await;
        let answer = answer.expect("an answer within a minute").unwrap().expect("the stream goes on").0;
        let PbWatchResponse { header, watch_id, created, canceled, fragment, events, .. } = &answer;
        let (compacted, reason) = (answer.compact_revision, &answer.cancel_reason);
        let revision = header.as_ref().map_or(0, |header| header.revision);
        let kind = if *fragment { "fragment" } else { "whole" };
        let events: Vec<String> = events.iter().map(words).collect();
        self.told.push(format!(
            "{kind} id {watch_id} at {revision}: {created} {canceled} {compacted} '{reason}' {events:?}"
        ));
    }
}

/// An event; of values the beginning.
fn words(event: &PbEvent) -> String {
    let of = |kv: &Option<PbKeyValue>| {
        let kv = kv.as_ref()?;
        let start = kv.value.get(..4).unwrap_or(&kv.value).to_vec();
        Some((String::from_utf8(kv.key.clone()).ok()?, start, kv.mod_revision))
    };
    format!("{} {:?} {:?}", event.r#type, of(&event.kv), of(&event.prev_kv))
}
