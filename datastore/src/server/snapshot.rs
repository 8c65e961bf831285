//! Copies of the file: the Maintenance service's snapshot, and reading one, or a stopped server's directory.
//!
//! A snapshot is streamed as etcd streams its own: a database file, then the SHA-256 of it. The database is ours, so etcd's
//! tools save and keep it but cannot restore it; `tortiectl datastore export --snapshot` reads it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::proto::PbSnapshotResponse;
use futures::Stream;
use redb::{Database, StorageBackend};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::disk::{self, Disk};
use super::engine::{Image, Storage};
use super::error::{Refusal, ServerError};
use super::mvcc::Interval;
use super::state::State;
use crate::store::{KeyValue, Listing};

/// What a copy under way is called; one that a crash left behind goes at the next start.
const PREFIX: &str = "snapshot-";
/// Bytes in one message, as etcd's.
const CHUNK: usize = 32 << 10;
/// Length of the digest at the end.
const DIGEST: usize = 32;
/// etcdctl tells a file with a digest by its length: this many bytes make a block of etcd's database.
const BLOCK: u64 = 512;

/// Removes copies that a crash left behind.
pub(super) fn remove_leftovers(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Copies an image into the directory and sends it; the copy is gone at the end. `place` is held until then.
pub(super) fn stream(
    image: Image,
    directory: Arc<Path>,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<PbSnapshotResponse, Status>> + Send {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let copy = Copy(directory.join(format!("{PREFIX}{}", uuid::Uuid::new_v4())));
        if let Err(reason) = image(&copy.0).and_then(|()| send(&copy.0, &sender)) {
            tracing::warn!(%reason, "no snapshot");
            // The client may have gone.
            let _ = sender.blocking_send(Err(Refusal::NoSnapshot(reason).into()));
        }
    });
    ReceiverStream::new(receiver)
}

/// A file that is removed when it is no longer needed.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // What remains is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

type Sender = mpsc::Sender<Result<PbSnapshotResponse, Status>>;

/// Sends a file and its digest. A client that goes away ends it.
fn send(path: &Path, sender: &Sender) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length % BLOCK != 0 {
        return Err(format!("the copy has {length} bytes, which is no multiple of {BLOCK}"));
    }
    let mut remaining = length;
    let mut digest = Sha256::new();
    while remaining > 0 {
        let mut blob = vec![0; CHUNK.min(usize::try_from(remaining).unwrap_or(CHUNK))];
        file.read_exact(&mut blob).map_err(failed)?;
        digest.update(&blob);
        remaining -= u64::try_from(blob.len()).unwrap_or(remaining);
        let message =
            PbSnapshotResponse { remaining_bytes: remaining, blob, ..PbSnapshotResponse::default() };
        if sender.blocking_send(Ok(message)).is_err() {
            return Ok(());
        }
    }
    let blob = digest.finalize().to_vec();
    // Nobody waits when the client has gone.
    let _ = sender.blocking_send(Ok(PbSnapshotResponse { blob, ..PbSnapshotResponse::default() }));
    Ok(())
}

/// What a snapshot of the embedded server holds under a prefix.
///
/// # Errors
/// [`ServerError::Snapshot`] when the file cannot be read, is cut short or changed, or is none of ours.
pub fn read_snapshot(path: &Path, prefix: &str) -> Result<Listing, ServerError> {
    let refused = |reason: String| ServerError::Snapshot { path: path.to_owned(), reason };
    let mut bytes = std::fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
    let length = bytes.len().saturating_sub(DIGEST);
    let whole = bytes.len() > DIGEST && Sha256::digest(&bytes[..length])[..] == bytes[length..];
    if !whole {
        return Err(refused(
            "its checksum does not fit: the file is cut short, changed, or no snapshot of a datastore"
                .to_owned(),
        ));
    }
    bytes.truncate(length);
    let database = Database::builder().create_with_backend(InMemory(Mutex::new(bytes))).map_err(|error| {
        refused(format!(
            "{error}: it is no snapshot of the embedded datastore; etcd's are restored by etcd's tools"
        ))
    })?;
    let state = disk::read(&database, Duration::ZERO).map_err(refused)?;
    Ok(listing(&state, prefix))
}

/// What the directory of a stopped server holds under a prefix.
///
/// # Errors
/// [`ServerError::InUse`] while a server has it, [`ServerError::Directory`] when there is none, [`ServerError::File`].
pub fn read_data_dir(directory: &Path, prefix: &str) -> Result<Listing, ServerError> {
    Ok(listing(&Disk::existing(directory)?.load(Duration::ZERO)?, prefix))
}

/// Keys that are no text are none of ours.
fn listing(state: &State, prefix: &str) -> Listing {
    let from_prefix = Interval::new(prefix.as_bytes(), &[0]);
    let found = state.keyspace.range(&from_prefix, 0).take_while(|kv| kv.key.starts_with(prefix.as_bytes()));
    let entries = found.filter_map(|kv| {
        Some(KeyValue {
            key: String::from_utf8(kv.key).ok()?,
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
        })
    });
    Listing { revision: state.keyspace.revision(), entries: entries.collect() }
}

/// A database file in memory.
#[derive(Debug)]
struct InMemory(Mutex<Vec<u8>>);

impl InMemory {
    fn with<T>(&self, access: impl FnOnce(&mut Vec<u8>) -> Option<T>) -> io::Result<T> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        access(&mut bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl StorageBackend for InMemory {
    fn len(&self) -> io::Result<u64> {
        self.with(|bytes| u64::try_from(bytes.len()).ok())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|bytes| {
            let start = usize::try_from(offset).ok()?;
            out.copy_from_slice(bytes.get(start..start.checked_add(out.len())?)?);
            Some(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|bytes| {
            bytes.resize(usize::try_from(len).ok()?, 0);
            Some(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|bytes| {
            let start = usize::try_from(offset).ok()?;
            bytes.get_mut(start..start.checked_add(data.len())?)?.copy_from_slice(data);
            Some(())
        })
    }
}
