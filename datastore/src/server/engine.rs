//! The one thread that owns the state and the file.
//!
//! Requests queue up as jobs. The thread takes all that wait, applies them in order, stores what they wrote in one
//! durable commit, and only then answers any of them: no answer, not even to a read, tells of something a crash could
//! undo. While one commit runs the next batch gathers, so throughput grows with load.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::error::{Refusal, ServerError};
use super::state::{Entry, State};

/// Requests answered by one commit at most.
const BATCH: usize = 1024;

/// Where the state is kept.
pub(super) trait Storage: Send + 'static {
    /// Everything stored. `now` is when leases start anew.
    fn load(&self, now: Duration) -> Result<State, ServerError>;

    /// Stores entries and the revision they lead to: all or nothing, and durably when it returns.
    fn commit(&mut self, entries: &[Entry], revision: i64) -> Result<(), String>;

    /// Makes it usable again after a failed commit.
    fn reopen(&mut self) -> Result<(), ServerError>;

    /// Gives space of removed versions back to the file system.
    fn shrink(&mut self) -> Result<(), String>;

    /// Bytes used.
    fn size(&self) -> u64;

    /// What is stored now, to be copied while other things are stored.
    fn image(&self) -> Result<Image, String>;
}

/// Writes what was stored when it was made as a file of its own.
pub(super) type Image = Box<dyn FnOnce(&Path) -> Result<(), String> + Send>;

/// What a job may use.
pub(super) struct Work<'a> {
    pub(super) state: &'a mut State,
    /// Since the server started.
    pub(super) now: Duration,
    /// What must be stored before the answer goes out.
    pub(super) log: &'a mut Vec<Entry>,
    /// Size of the file in bytes.
    pub(super) size: u64,
}

/// Applies a request; the returned function sends its answer once the commit's outcome is known.
type Job = Box<dyn FnOnce(&mut Work<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(&Result<(), Refusal>) + Send>;

enum Message {
    Job(Job),
    Shrink(oneshot::Sender<Result<(), String>>),
    Image(oneshot::Sender<Result<Image, String>>),
    Stop,
}

/// The running thread. Dropping it stops the thread, after what is under way is stored.
#[derive(Debug)]
pub(super) struct Engine {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Access to a running engine.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    messages: mpsc::Sender<Message>,
    revision: watch::Receiver<i64>,
}

impl Engine {
    /// Loads the state and starts the thread. `keep` revisions stay readable when nobody compacts.
    pub(super) fn start(storage: impl Storage, keep: i64) -> Result<Engine, ServerError> {
        let state = storage.load(Duration::ZERO)?;
        let (messages, queue) = mpsc::channel();
        let (publish, revision) = watch::channel(state.keyspace.revision());
        let mut owner = Owner { started: Instant::now(), keep, storage, state, publish };
        let thread = std::thread::Builder::new()
            .name("datastore".to_owned())
            .spawn(move || owner.run(&queue))
            .map_err(ServerError::Thread)?;
        Ok(Engine { handle: Handle { messages, revision }, thread: Some(thread) })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The thread may have ended already.
        let _ = self.handle.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the embedded datastore panicked");
        }
    }
}

impl Handle {
    /// Does work on the state; returns its result once everything it wrote is stored.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut Work<'_>) -> Result<T, Refusal> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |context| {
            let result = work(context);
            Box::new(move |stored| {
                // Nobody waits when the client has gone.
                let _ = sender.send(stored.clone().and(result));
            })
        });
        self.messages.send(Message::Job(job)).map_err(|_| Refusal::Stopped)?;
        receiver.await.map_err(|_| Refusal::Stopped)?
    }

    /// Shrinks the file.
    pub(super) async fn shrink(&self) -> Result<(), Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.messages.send(Message::Shrink(sender)).map_err(|_| Refusal::Stopped)?;
        receiver.await.map_err(|_| Refusal::Stopped)?.map_err(Refusal::NotStored)
    }

    /// Everything acknowledged so far, to be copied.
    pub(super) async fn image(&self) -> Result<Image, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.messages.send(Message::Image(sender)).map_err(|_| Refusal::Stopped)?;
        receiver.await.map_err(|_| Refusal::Stopped)?.map_err(Refusal::NoSnapshot)
    }

    /// The last stored revision, as it grows.
    pub(super) fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.clone()
    }
}

/// What the thread owns.
struct Owner<S> {
    started: Instant,
    keep: i64,
    storage: S,
    state: State,
    publish: watch::Sender<i64>,
}

impl<S: Storage> Owner<S> {
    fn run(&mut self, queue: &mpsc::Receiver<Message>) {
        loop {
            let first = match self.next(queue) {
                Ok(message) => message,
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let mut jobs = Vec::new();
            let mut other = None;
            let mut next = first;
            while let Some(message) = next {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Shrink(_) | Message::Image(_) | Message::Stop => {
                        other = Some(message);
                        break;
                    }
                }
                next = if jobs.len() < BATCH { queue.try_recv().ok() } else { None };
            }
            if !self.batch(jobs) {
                return;
            }
            match other {
                Some(Message::Stop) => return,
                Some(Message::Shrink(answer)) => {
                    let _ = answer.send(self.storage.shrink());
                }
                Some(Message::Image(answer)) => {
                    let _ = answer.send(self.storage.image());
                }
                Some(Message::Job(_)) | None => {}
            }
        }
    }

    /// Waits for a message, but no longer than until the next lease ends.
    fn next(&self, queue: &mpsc::Receiver<Message>) -> Result<Option<Message>, mpsc::RecvTimeoutError> {
        match self.state.leases.next_end() {
            None => queue.recv().map(Some).map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(end) => queue.recv_timeout(end.saturating_sub(self.started.elapsed())).map(Some),
        }
    }

    /// Applies, stores, answers. False when the file is lost for good.
    fn batch(&mut self, jobs: Vec<Job>) -> bool {
        let now = self.started.elapsed();
        let size = self.storage.size();
        let mut log = Vec::new();
        self.state.expire(now, &mut log);
        let answers: Vec<Answer> = jobs
            .into_iter()
            .map(|job| job(&mut Work { state: &mut self.state, now, log: &mut log, size }))
            .collect();
        self.state.compact_beyond(self.keep, &mut log);
        let stored = self.store(&log);
        let usable = stored.is_ok() || self.go_back();
        if stored.is_ok() {
            let revision = self.state.keyspace.revision();
            self.publish.send_if_modified(|last| std::mem::replace(last, revision) != revision);
        }
        for answer in answers {
            answer(&stored);
        }
        usable
    }

    fn store(&mut self, log: &[Entry]) -> Result<(), Refusal> {
        if log.is_empty() {
            return Ok(());
        }
        self.storage.commit(log, self.state.keyspace.revision()).map_err(|reason| {
            tracing::error!(%reason, "the embedded datastore could not store a change; it was refused");
            Refusal::NotStored(reason)
        })
    }

    /// After a failed commit: the state is again what the storage holds. A failed write may leave its handle
    /// unusable, so it is opened anew.
    fn go_back(&mut self) -> bool {
        let loaded = self.storage.reopen().and_then(|()| self.storage.load(self.started.elapsed()));
        match loaded {
            Ok(state) => {
                self.state = state;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the embedded datastore lost its file and stops");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
