//! The order of storing and answering, with a storage that waits or fails when told.

use std::sync::{Arc, Mutex};

use etcd_client::proto::{PbPutRequest, PbRangeRequest};

use super::*;
use crate::server::mvcc::Keyspace;

/// Entries of each commit and the revision after it.
type Stored = Arc<Mutex<Vec<(Vec<Entry>, i64)>>>;

/// What a commit does next.
enum Step {
    Store,
    Fail,
}

/// Storage in memory. Every commit waits for a step.
struct Scripted {
    steps: mpsc::Receiver<Step>,
    /// Revisions asked for, as they reach the storage.
    reached: tokio::sync::mpsc::UnboundedSender<i64>,
    stored: Stored,
}

impl Storage for Scripted {
    fn load(&self, _: Duration) -> Result<State, ServerError> {
        let stored = self.stored.lock().unwrap();
        let revision = stored.last().map_or(1, |(_, revision)| *revision);
        let mut state = State { keyspace: Keyspace::at(revision, -1), ..State::default() };
        for entry in stored.iter().flat_map(|(entries, _)| entries) {
            let Entry::Version(record) = entry else { panic!("unexpected {entry:?}") };
            state.keyspace.restore(record.clone());
        }
        Ok(state)
    }

    fn commit(&mut self, entries: &[Entry], revision: i64) -> Result<(), String> {
        self.reached.send(revision).unwrap();
        match self.steps.recv().unwrap() {
            Step::Store => {
                self.stored.lock().unwrap().push((entries.to_vec(), revision));
                Ok(())
            }
            Step::Fail => Err("no space left".to_owned()),
        }
    }

    fn reopen(&mut self) -> Result<(), ServerError> {
        Ok(())
    }

    fn shrink(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }

    fn image(&self) -> Result<Image, String> {
        Err("nothing to copy".to_owned())
    }
}

async fn put(handle: Handle, key: &str) -> Result<i64, Refusal> {
    let request = PbPutRequest { key: key.into(), ..PbPutRequest::default() };
    handle.call(move |work| work.state.put(request, work.log)).await.map(|a| a.header.unwrap().revision)
}

async fn get(handle: Handle, key: &str) -> Result<usize, Refusal> {
    let request = PbRangeRequest { key: key.into(), ..PbRangeRequest::default() };
    handle.call(move |work| work.state.range(&request)).await.map(|answer| answer.kvs.len())
}

struct Fixture {
    engine: Engine,
    steps: mpsc::Sender<Step>,
    reached: tokio::sync::mpsc::UnboundedReceiver<i64>,
    stored: Stored,
}

fn fixture() -> Fixture {
    let (steps, script) = mpsc::channel();
    let (reach, reached) = tokio::sync::mpsc::unbounded_channel();
    let stored = Arc::new(Mutex::new(Vec::new()));
    let storage = Scripted { steps: script, reached: reach, stored: stored.clone() };
    Fixture { engine: Engine::start(storage, 1000).unwrap(), steps, reached, stored }
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_stored_and_what_gathers_meanwhile_is_stored_at_once() {
    let Fixture { engine, steps, mut reached, stored } = fixture();
    let revisions = engine.handle().revisions();
    let first = tokio::spawn(put(engine.handle(), "a"));
    assert_eq!(reached.recv().await, Some(2));
    // The commit hangs. These queue up behind it, the read too: it would tell of what a crash could undo.
    let mut others: Vec<_> = ["b", "c", "d"].map(|key| tokio::spawn(put(engine.handle(), key))).into();
    let read = tokio::spawn(get(engine.handle(), "a"));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!first.is_finished() && !read.is_finished());
    assert_eq!(*revisions.borrow(), 1, "watches must not see it either");

    steps.send(Step::Store).unwrap();
    assert_eq!(first.await.unwrap(), Ok(2));
    assert_eq!(reached.recv().await, Some(5), "one commit for all that waited");
    assert!(!others[0].is_finished() && !read.is_finished());
    steps.send(Step::Store).unwrap();
    for (other, revision) in others.drain(..).zip(3..) {
        assert_eq!(other.await.unwrap(), Ok(revision));
    }
    assert_eq!(read.await.unwrap(), Ok(1));
    assert_eq!(*revisions.borrow(), 5);
    assert_eq!(stored.lock().unwrap().iter().map(|(entries, _)| entries.len()).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn a_write_that_cannot_be_stored_is_refused_and_has_not_happened() {
    let Fixture { engine, steps, mut reached, .. } = fixture();
    steps.send(Step::Store).unwrap();
    assert_eq!(put(engine.handle(), "a").await, Ok(2));
    steps.send(Step::Fail).unwrap();
    assert_eq!(put(engine.handle(), "b").await, Err(Refusal::NotStored("no space left".to_owned())));
    assert_eq!(get(engine.handle(), "b").await, Ok(0));
    assert_eq!(get(engine.handle(), "a").await, Ok(1));
    assert_eq!(*engine.handle().revisions().borrow(), 2);
    steps.send(Step::Store).unwrap();
    assert_eq!(put(engine.handle(), "c").await, Ok(3));
    assert_eq!(
        [reached.recv().await, reached.recv().await, reached.recv().await],
        [Some(2), Some(3), Some(3)]
    );
}

#[tokio::test]
async fn a_stopped_engine_answers_that_it_is() {
    let Fixture { engine, .. } = fixture();
    let handle = engine.handle();
    drop(engine);
    assert_eq!(get(handle, "a").await, Err(Refusal::Stopped));
}
