//! The Watch service: one task a stream, any number of watches on it (etcd `server/etcdserver/api/v3rpc/watch.go`).
//!
//! A watch is a position in history. When the revision grows, the task reads from the engine what came after each
//! position, so a slow client costs no memory: it reads later, and is told when compaction overtook it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use etcd_client::proto::{
    PbEvent, PbResponseHeader, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService,
};
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::engine::Handle;
use super::limits::{Gates, TOO_MANY};
use super::mvcc::{Interval, event_bytes};
use super::services::Services;

/// Events read at once; a revision is never split by it.
const EVENTS: usize = 1000;
/// Responses under way to a client.
const BUFFER: usize = 2;
/// How often a quiet watch that asked for it hears the revision, as in etcd.
const PROGRESS: Duration = Duration::from_secs(600);
/// Bytes of events in one response of a watch that allows fragments: as in etcd what a request may have.
const FRAGMENT: usize = super::MAX_REQUEST;
/// The id of responses that belong to no watch or to all of them.
const NO_WATCH: i64 = -1;

#[async_trait]
impl PbWatchService for Services {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<PbWatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let place = self.gates.stream()?;
        let (responses, receiver) = mpsc::channel(BUFFER);
        let (engine, gates) = (self.engine.clone(), self.gates.clone());
        let session = Session { engine, gates, responses, watches: BTreeMap::new(), next_id: 0 };
        let mut stopping = self.stopping.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                _ = session.run(request.into_inner()) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// One watch.
#[derive(Debug)]
struct Watching {
    interval: Interval,
    /// The next revision to read.
    position: i64,
    with_previous: bool,
    progress: bool,
    fragment: bool,
    no_puts: bool,
    no_deletes: bool,
    /// Whether nothing was sent since the last round of progress notices.
    quiet: bool,
    /// Its place among all watches, from its creation on.
    place: Option<OwnedSemaphorePermit>,
}

/// The client has gone, or the server stops.
struct Ended;

/// The watches of one stream.
struct Session {
    engine: Handle,
    gates: Gates,
    responses: mpsc::Sender<Result<PbWatchResponse, Status>>,
    watches: BTreeMap<i64, Watching>,
    next_id: i64,
}

impl Session {
    async fn run(mut self, mut requests: Streaming<PbWatchRequest>) -> Result<(), Ended> {
        let mut revisions = self.engine.revisions();
        let mut progress = tokio::time::interval(PROGRESS);
        progress.reset();
        loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request).await?,
                    Ok(None) | Err(_) => return Err(Ended),
                },
                changed = revisions.changed() => {
                    changed.map_err(|_| Ended)?;
                    self.pump().await?;
                }
                _ = progress.tick() => self.notify_progress().await?,
            }
        }
    }

    async fn request(&mut self, request: PbWatchRequest) -> Result<(), Ended> {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                // etcd reads an empty key as the first of all keys.
                let key = if create.key.is_empty() { vec![0] } else { create.key };
                let watching = Watching {
                    interval: Interval::new(&key, &create.range_end),
                    position: create.start_revision,
                    with_previous: create.prev_kv,
                    progress: create.progress_notify,
                    fragment: create.fragment,
                    no_puts: create.filters.contains(&0),
                    no_deletes: create.filters.contains(&1),
                    quiet: true,
                    place: None,
                };
                self.create(create.watch_id, watching).await
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => match self.watches.remove(&cancel.watch_id) {
                Some(_) => {
                    let header = self.header().await?;
                    let watch_id = cancel.watch_id;
                    self.send(PbWatchResponse { header, watch_id, canceled: true, ..Default::default() })
                        .await
                }
                None => Ok(()),
            },
            Some(PbWatchRequestUnion::ProgressRequest(_)) => {
                // All watches must have seen what the answer says.
                self.pump().await?;
                let position = self.watches.values().map(|w| w.position - 1).min();
                let mut header = self.header().await?;
                if let (Some(header), Some(position)) = (&mut header, position) {
                    header.revision = header.revision.min(position);
                }
                self.send(PbWatchResponse { header, watch_id: NO_WATCH, ..Default::default() }).await
            }
            None => Ok(()),
        }
    }

    /// Starts a watch: at a revision, or after the present one.
    async fn create(&mut self, wanted: i64, mut watching: Watching) -> Result<(), Ended> {
        let header = self.header().await?;
        watching.place = self.gates.watch();
        let problem = if watching.interval.is_empty() {
            Some("mvcc: watcher range is empty")
        } else if wanted != 0 && self.watches.contains_key(&wanted) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else if watching.place.is_none() {
            Some(TOO_MANY)
        } else {
            None
        };
        if let Some(problem) = problem {
            let refused = PbWatchResponse {
                header,
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason: problem.to_owned(),
                ..Default::default()
            };
            return self.send(refused).await;
        }
        let id = if wanted == 0 { self.free_id() } else { wanted };
        if watching.position <= 0 {
            watching.position = header.map_or(0, |h| h.revision) + 1;
        }
        self.watches.insert(id, watching);
        self.send(PbWatchResponse { header, watch_id: id, created: true, ..Default::default() }).await?;
        self.pump_one(id).await
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    async fn pump(&mut self) -> Result<(), Ended> {
        let ids: Vec<i64> = self.watches.keys().copied().collect();
        for id in ids {
            self.pump_one(id).await?;
        }
        Ok(())
    }

    /// Sends a watch everything after its position.
    async fn pump_one(&mut self, id: i64) -> Result<(), Ended> {
        loop {
            let Some(watching) = self.watches.get(&id) else { return Ok(()) };
            let (interval, position) = (watching.interval.clone(), watching.position);
            let with_previous = watching.with_previous;
            let read = self.engine.call(move |work| {
                let events = work.state.keyspace.events(&interval, position, EVENTS, with_previous);
                Ok((work.state.header(), work.state.keyspace.compacted(), events))
            });
            let (header, compacted, events) = read.await.map_err(|_| Ended)?;
            match events {
                Ok((events, next)) => {
                    let caught_up = next > header.map_or(0, |h| h.revision);
                    self.deliver(id, header, events, next).await?;
                    if caught_up {
                        return Ok(());
                    }
                }
                Err(_) => return self.give_up(id, header, compacted).await,
            }
        }
    }

    async fn deliver(
        &mut self,
        id: i64,
        header: Option<PbResponseHeader>,
        mut events: Vec<PbEvent>,
        next: i64,
    ) -> Result<(), Ended> {
        let Some(watching) = self.watches.get_mut(&id) else { return Ok(()) };
        watching.position = next;
        let (no_puts, no_deletes) = (watching.no_puts, watching.no_deletes);
        events.retain(|event| if event.r#type == 0 { !no_puts } else { !no_deletes });
        if events.is_empty() {
            return Ok(());
        }
        watching.quiet = false;
        let parts = if watching.fragment { fragments(events) } else { vec![events] };
        let last = parts.len() - 1;
        for (i, events) in parts.into_iter().enumerate() {
            let fragment = i < last;
            self.send(PbWatchResponse { header, watch_id: id, fragment, events, ..Default::default() })
                .await?;
        }
        Ok(())
    }

    /// Cancels a watch whose position was compacted. As in etcd the revision says why, and no reason is given.
    async fn give_up(
        &mut self,
        id: i64,
        header: Option<PbResponseHeader>,
        compacted: i64,
    ) -> Result<(), Ended> {
        self.watches.remove(&id);
        let cancelled = PbWatchResponse {
            header,
            watch_id: id,
            canceled: true,
            compact_revision: compacted,
            ..Default::default()
        };
        self.send(cancelled).await
    }

    async fn notify_progress(&mut self) -> Result<(), Ended> {
        self.pump().await?;
        let header = self.header().await?;
        let mut due = Vec::new();
        for (id, watching) in &mut self.watches {
            if watching.progress && std::mem::replace(&mut watching.quiet, true) {
                due.push((*id, watching.position - 1));
            }
        }
        for (watch_id, seen) in due {
            let header = header.map(|h| PbResponseHeader { revision: h.revision.min(seen), ..h });
            self.send(PbWatchResponse { header, watch_id, ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn header(&self) -> Result<Option<PbResponseHeader>, Ended> {
        self.engine.call(|work| Ok(work.state.header())).await.map_err(|_| Ended)
    }

    async fn send(&self, response: PbWatchResponse) -> Result<(), Ended> {
        self.responses.send(Ok(response)).await.map_err(|_| Ended)
    }
}

/// Cuts events into parts of bounded size, each with at least one event.
fn fragments(events: Vec<PbEvent>) -> Vec<Vec<PbEvent>> {
    // Numbers and lengths of an event take no more.
    let size = |event: &PbEvent| event_bytes(event) + 64;
    let mut parts: Vec<Vec<PbEvent>> = vec![Vec::new()];
    let mut filled = 0;
    for event in events {
        let bytes = size(&event);
        if filled > 0 && filled + bytes > FRAGMENT {
            parts.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        parts.last_mut().expect("there is one from the start").push(event);
    }
    parts
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbKeyValue;

    use super::*;

    #[test]
    fn fragments_hold_all_events_in_order_and_stay_small() {
        let event = |size: usize| PbEvent {
            kv: Some(PbKeyValue { value: vec![0; size], ..PbKeyValue::default() }),
            ..PbEvent::default()
        };
        let sizes = [FRAGMENT / 2, FRAGMENT / 3, FRAGMENT, 10, 2 * FRAGMENT, 1];
        let parts = fragments(sizes.iter().map(|size| event(*size)).collect());
        let lengths: Vec<Vec<usize>> = parts
            .iter()
            .map(|part| part.iter().map(|e| e.kv.as_ref().map_or(0, |kv| kv.value.len())).collect())
            .collect();
        assert_eq!(lengths.concat(), sizes);
        assert_eq!(lengths.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1, 1]);
    }
}
