//! A watch on etcd: one gRPC stream, turned into batches of one whole revision each.
//!
//! Ends with an error whenever the stream does; it never reconnects by itself, so it cannot lose events unnoticed.

use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{Error, WatchOptions, WatchStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::endpoints::{Endpoints, Repeat};
use super::error::{Failure, asks_for_login, classify};
use super::{MAX_ANSWER, prefix_end, range_start};
use crate::StoreError;
use crate::store::{Event, EventBatch, KeyValue, Watch};

/// Batches between the stream and its reader; a slow reader holds the server back by HTTP/2's flow control.
const BUFFER: usize = 64;

/// etcd's number for a delete in an event.
const DELETE: i32 = 1;

/// Opens a watch. The first endpoint that accepts it serves it.
pub(super) async fn start(
    endpoints: &Endpoints,
    prefix: &str,
    start_revision: i64,
) -> Result<Watch, StoreError> {
    // etcd before 3.6 forgets deletes at the compacted revision itself while it still allows a watch from there.
    // Asking for one revision more turns that gap into the compaction error it is.
    let from = if start_revision > 1 { start_revision - 1 } else { start_revision };
    let request = |client: etcd_client::Client| async move {
        let options = WatchOptions::new()
            .with_range(prefix_end(prefix.as_bytes()))
            .with_start_revision(from)
            .with_fragment();
        let mut watches = client.watch_client().max_decoding_message_size(MAX_ANSWER);
        let mut stream = watches.watch(range_start(prefix), Some(options)).await?;
        let created = stream.next().await.transpose()?;
        let Some(created) = created else {
            return Err(Error::WatchError("the watch ended before it began".to_owned()));
        };
        refused_login(&created.0)?;
        Ok((stream, created.0))
    };
    let (stream, created) = endpoints.call(Repeat::Harmless, start_revision, request).await?;
    let (sender, batches) = mpsc::channel(BUFFER);
    let task = Forward {
        endpoints: endpoints.names(),
        start_revision,
        revisions: Revisions::new(start_revision),
        sender,
    };
    tokio::spawn(task.run(stream, created));
    Ok(Watch { batches })
}

/// A watch is refused inside its stream, and etcd 3.4 says "permission denied" of an expired token too. As the error it
/// would be of any other request it makes the client log in anew.
fn refused_login(created: &PbWatchResponse) -> Result<(), Error> {
    let reason = &created.cancel_reason;
    if created.canceled && (reason.contains("permission denied") || asks_for_login(reason)) {
        return Err(Error::GRpcStatus(tonic::Status::unauthenticated(reason.as_str())));
    }
    Ok(())
}

/// Passes a stream on until it, or its reader, ends.
struct Forward {
    endpoints: String,
    start_revision: i64,
    revisions: Revisions,
    sender: mpsc::Sender<Result<EventBatch, StoreError>>,
}

impl Forward {
    async fn run(mut self, mut stream: WatchStream, created: PbWatchResponse) {
        let mut response = created;
        loop {
            if let Some(error) = self.cancellation(&response) {
                let _ = self.sender.send(Err(error)).await;
                return;
            }
            for batch in self.revisions.push(response.events, response.fragment) {
                if self.sender.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
            let next = tokio::select! {
                next = stream.next() => next,
                () = self.sender.closed() => return,
            };
            response = match next {
                Some(Ok(next)) => next.0,
                Some(Err(error)) => {
                    let error = match classify(&error, self.start_revision) {
                        Failure::Answered(error) => error,
                        Failure::Lost { reason, .. } => self.unavailable(reason),
                    };
                    let _ = self.sender.send(Err(error)).await;
                    return;
                }
                None => {
                    let error = self.unavailable("the server ended the watch".to_owned());
                    let _ = self.sender.send(Err(error)).await;
                    return;
                }
            };
        }
    }

    /// Why the server cancelled the watch, if it did.
    fn cancellation(&self, response: &PbWatchResponse) -> Option<StoreError> {
        if response.compact_revision > 0 {
            let oldest = response.compact_revision;
            return Some(StoreError::Compacted { requested: self.start_revision, oldest });
        }
        response.canceled.then(|| match response.cancel_reason.as_str() {
            "" => self.unavailable("the server cancelled the watch".to_owned()),
            reason if reason.contains("permission denied") => {
                StoreError::Refused { reason: reason.to_owned() }
            }
            reason => self.unavailable(reason.to_owned()),
        })
    }

    fn unavailable(&self, reason: String) -> StoreError {
        StoreError::Unavailable { endpoints: self.endpoints.clone(), reason }
    }
}

/// Puts the events of responses and their fragments together into whole revisions.
#[derive(Debug)]
struct Revisions {
    start: i64,
    pending: Vec<PbEvent>,
}

impl Revisions {
    fn new(start: i64) -> Revisions {
        Revisions { start, pending: Vec::new() }
    }

    /// A response that is no fragment, or the last of its fragments, ends with a whole revision.
    fn push(&mut self, events: Vec<PbEvent>, fragment: bool) -> Vec<EventBatch> {
        self.pending.extend(events);
        if fragment {
            return Vec::new();
        }
        let mut batches: Vec<EventBatch> = Vec::new();
        for event in std::mem::take(&mut self.pending) {
            let Some((revision, event)) = convert(event) else { continue };
            if revision < self.start {
                continue;
            }
            match batches.last_mut() {
                Some(batch) if batch.revision == revision => batch.events.push(event),
                _ => batches.push(EventBatch { revision, events: vec![event] }),
            }
        }
        batches
    }
}

/// Keys that are not UTF-8 are none of ours.
fn convert(event: PbEvent) -> Option<(i64, Event)> {
    let kv = event.kv?;
    let key = String::from_utf8(kv.key).ok()?;
    let mod_revision = kv.mod_revision;
    let event = if event.r#type == DELETE {
        Event::Delete { key, mod_revision }
    } else {
        Event::Put(KeyValue { key, value: kv.value, create_revision: kv.create_revision, mod_revision })
    };
    Some((mod_revision, event))
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbKeyValue;

    use super::*;

    fn put(key: &str, revision: i64) -> PbEvent {
        let kv = PbKeyValue {
            key: key.as_bytes().to_vec(),
            mod_revision: revision,
            create_revision: revision,
            ..PbKeyValue::default()
        };
        PbEvent { kv: Some(kv), ..PbEvent::default() }
    }

    #[test]
    fn fragments_are_put_together_and_revisions_kept_whole() {
        let mut revisions = Revisions::new(5);
        assert!(revisions.push(vec![put("early", 4), put("a", 5)], true).is_empty());
        let batches = revisions.push(vec![put("b", 5), put("c", 6)], false);
        let seen: Vec<(i64, usize)> = batches.iter().map(|b| (b.revision, b.events.len())).collect();
        assert_eq!(seen, [(5, 2), (6, 1)]);
        assert!(revisions.push(Vec::new(), false).is_empty());
    }
}
