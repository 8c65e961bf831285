//! The file behind the server: a redb database with every version, every lease and the revision.
//!
//! One [`Disk::commit`] is one transaction, on the disk when it returns. The directory is locked: one process at a time. A
//! file appears under its name only once it is whole, so one that cannot be read is damaged and never taken for new.

use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use super::engine::{Image, Storage};
use super::error::ServerError;
use super::mvcc::{Keyspace, Record, Version};
use super::state::{Entry, Identity, State};

/// Name of the file in the data directory.
const FILE: &str = "datastore.redb";
/// Name of a file that is not whole yet.
const UNFINISHED: &str = "datastore.redb.new";
/// Locked by the process that has the directory.
const LOCK: &str = "lock";
/// Layout of the tables; a file of another layout is refused, not guessed at.
const FORMAT: i64 = 1;
/// The file is read once, at start; the cache serves writes.
const CACHE: usize = 4 << 20;

/// Key, created, count, lease, value (`None` for a delete).
type StoredVersion<'a> = (&'a [u8], i64, i64, i64, Option<&'a [u8]>);

/// Versions by their place.
const HISTORY: TableDefinition<(i64, u32), StoredVersion<'static>> = TableDefinition::new("history");
/// Seconds of each lease. After a restart every lease starts anew, as in etcd.
const LEASES: TableDefinition<i64, i64> = TableDefinition::new("leases");
/// Numbers by name.
const META: TableDefinition<&str, i64> = TableDefinition::new("meta");

/// The file.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    /// `None` only while it is opened anew.
    database: Option<Database>,
    /// Held as long as the file is used.
    _lock: File,
}

impl Disk {
    /// Opens the file of a directory, making both if needed. `fresh` names a new store.
    pub(super) fn open(directory: &Path, fresh: Identity) -> Result<Disk, ServerError> {
        let io = |source| ServerError::Directory { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(io)?;
        restrict(directory).map_err(io)?;
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        super::snapshot::remove_leftovers(directory).map_err(io)?;
        if !path.try_exists().map_err(io)? {
            make(directory, fresh)?;
        }
        Disk::locked(path, lock)
    }

    /// Opens the file of a directory that has one.
    pub(super) fn existing(directory: &Path) -> Result<Disk, ServerError> {
        let path = directory.join(FILE);
        if let Err(source) = std::fs::metadata(&path) {
            return Err(ServerError::Directory { path: path.clone(), source });
        }
        Disk::locked(path, lock(directory)?)
    }

    fn locked(path: PathBuf, lock: File) -> Result<Disk, ServerError> {
        let mut disk = Disk { path, database: None, _lock: lock };
        disk.reopen()?;
        Ok(disk)
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::PreviousIo)
    }
}

impl Storage for Disk {
    fn reopen(&mut self) -> Result<(), ServerError> {
        // The lock of the old handle must go first.
        self.database = None;
        let damaged = |error: DatabaseError| damaged(&self.path, &error);
        distrust(&self.path).map_err(|error| damaged(error.into()))?;
        let open = || Database::builder().set_cache_size(CACHE).open(&self.path);
        let opened = patiently(open, |error| matches!(error, DatabaseError::DatabaseAlreadyOpen));
        self.database = Some(opened.map_err(damaged)?);
        Ok(())
    }

    fn load(&self, now: Duration) -> Result<State, ServerError> {
        let database = self.database().map_err(|error| damaged(&self.path, &error))?;
        read(database, now).map_err(|reason| ServerError::File { path: self.path.clone(), reason })
    }

    fn commit(&mut self, entries: &[Entry], revision: i64) -> Result<(), String> {
        let commit = || -> Result<(), redb::Error> {
            let write = self.database()?.begin_write()?;
            store(&write, entries, revision)?;
            write.commit()?;
            Ok(())
        };
        commit().map_err(|error| error.to_string())
    }

    fn shrink(&mut self) -> Result<(), String> {
        self.database
            .as_mut()
            .map_or(Ok(()), |database| database.compact().map(|_| ()).map_err(|error| error.to_string()))
    }

    fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn image(&self) -> Result<Image, String> {
        let read = self.database().and_then(|database| Ok(database.begin_read()?));
        let read = read.map_err(|error| error.to_string())?;
        Ok(Box::new(move |path| copy(&read, path).map_err(|error| error.to_string())))
    }
}

/// Makes redb open a file as after a crash, however well it was closed: then it verifies the checksum of every page before
/// it follows it, where it would otherwise trust the file and panic on a damaged page. The file is read whole anyway.
///
/// The byte after the magic number has a bit that says "closed well, trust me" (redb `docs/design.md`, "Database header").
/// Without it the file is as a crash leaves it.
fn distrust(path: &Path) -> std::io::Result<()> {
    const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
    const RECOVERY_REQUIRED: u8 = 2;
    const TWO_PHASE_COMMIT: u8 = 4;
    let file = File::options().read(true).write(true).open(path)?;
    let mut header = [0; MAGIC.len() + 1];
    file.read_exact_at(&mut header, 0)?;
    let (magic, flags) = (&header[..MAGIC.len()], header[MAGIC.len()]);
    if magic == MAGIC && flags & TWO_PHASE_COMMIT != 0 {
        let flags = flags & !TWO_PHASE_COMMIT | RECOVERY_REQUIRED;
        file.write_all_at(&[flags], u64::try_from(MAGIC.len()).unwrap_or_default())?;
    }
    Ok(())
}

/// Takes the directory, for as long as the file returned is open.
fn lock(directory: &Path) -> Result<File, ServerError> {
    let io = |source| ServerError::Directory { path: directory.to_owned(), source };
    let options = File::options().write(true).create(true).truncate(false).open(directory.join(LOCK));
    let file = options.map_err(io)?;
    match patiently(|| file.try_lock(), |error| matches!(error, TryLockError::WouldBlock)) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Tries again for a second while `taken`: a process that has just ended, or one that was forked by the holder and has not
/// yet become another program, keeps a lock a moment longer.
fn patiently<T, E>(mut attempt: impl FnMut() -> Result<T, E>, taken: impl Fn(&E) -> bool) -> Result<T, E> {
    const ATTEMPTS: u32 = 20;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if taken(&error) => std::thread::sleep(Duration::from_millis(50)),
            done => return done,
        }
    }
    attempt()
}

/// Makes an empty store under another name and gives it its own once it is on the disk.
fn make(directory: &Path, fresh: Identity) -> Result<(), ServerError> {
    let io = |source| ServerError::Directory { path: directory.to_owned(), source };
    let unfinished = directory.join(UNFINISHED);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        Ok(()) | Err(_) => {}
    }
    initialise(&unfinished, fresh).map_err(|error| damaged(&unfinished, &error))?;
    std::fs::rename(&unfinished, directory.join(FILE)).map_err(io)?;
    // Without this a crash of the machine could lose the file's name.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

/// A file with empty tables.
fn initialise(path: &Path, fresh: Identity) -> Result<(), redb::Error> {
    let database = Database::create(path)?;
    let write = database.begin_write()?;
    {
        write.open_table(HISTORY)?;
        write.open_table(LEASES)?;
        let mut meta = write.open_table(META)?;
        let values = [
            ("format", FORMAT),
            ("cluster", fresh.cluster.cast_signed()),
            ("member", fresh.member.cast_signed()),
            ("revision", Keyspace::default().revision()),
            ("compacted", Keyspace::default().compacted()),
        ];
        for (name, value) in values {
            meta.insert(name, value)?;
        }
    }
    write.commit()?;
    Ok(())
}

/// What the database says, with what to do about it.
fn damaged(path: &Path, error: &dyn std::error::Error) -> ServerError {
    let reason = format!(
        "{error}: the file is damaged or not ours; put a backup in its place, or move it away to begin anew"
    );
    ServerError::File { path: path.to_owned(), reason }
}

/// The state in a database, or why it is none of ours.
pub(super) fn read(database: &Database, now: Duration) -> Result<State, String> {
    let state = read_tables(database, now).map_err(|error| error.to_string())?;
    let state = state.map_err(|format| {
        format!("has format {format}; this version reads {FORMAT}: use the version that wrote it")
    })?;
    state.keyspace.check().map_err(|reason| format!("makes no sense: {reason}"))?;
    Ok(state)
}

/// The state, or the format found when it is not ours.
fn read_tables(database: &Database, now: Duration) -> Result<Result<State, i64>, redb::Error> {
    let read = database.begin_read()?;
    let meta = read.open_table(META)?;
    let number = |name: &str| -> Result<i64, redb::Error> {
        Ok(meta.get(name)?.map(|value| value.value()).unwrap_or_default())
    };
    let format = number("format")?;
    if format != FORMAT {
        return Ok(Err(format));
    }
    let mut state = State {
        identity: Identity {
            cluster: number("cluster")?.cast_unsigned(),
            member: number("member")?.cast_unsigned(),
        },
        keyspace: Keyspace::at(number("revision")?, number("compacted")?),
        ..State::default()
    };
    for entry in read.open_table(LEASES)?.iter()? {
        let (id, ttl) = entry?;
        // Each id is in the table once.
        let _ = state.leases.grant(id.value(), ttl.value(), now);
    }
    for entry in read.open_table(HISTORY)?.iter()? {
        let (place, stored) = entry?;
        state.keyspace.restore(record(place.value(), stored.value()));
    }
    state.attach_leases();
    Ok(Ok(state))
}

/// Everything of a revision as a file of its own, which must not be there yet.
fn copy(read: &ReadTransaction, path: &Path) -> Result<(), redb::Error> {
    let mut database = Database::builder().set_cache_size(CACHE).create(path)?;
    let write = database.begin_write()?;
    {
        let mut history = write.open_table(HISTORY)?;
        for entry in read.open_table(HISTORY)?.iter()? {
            let (place, version) = entry?;
            history.insert(place.value(), version.value())?;
        }
        let mut leases = write.open_table(LEASES)?;
        for entry in read.open_table(LEASES)?.iter()? {
            let (id, ttl) = entry?;
            leases.insert(id.value(), ttl.value())?;
        }
        let mut meta = write.open_table(META)?;
        for entry in read.open_table(META)?.iter()? {
            let (name, value) = entry?;
            meta.insert(name.value(), value.value())?;
        }
    }
    write.commit()?;
    database.compact()?;
    Ok(())
}

fn store(write: &WriteTransaction, entries: &[Entry], revision: i64) -> Result<(), redb::Error> {
    let mut history = write.open_table(HISTORY)?;
    let mut leases = write.open_table(LEASES)?;
    let mut meta = write.open_table(META)?;
    for entry in entries {
        match entry {
            Entry::Version(Record { key, version }) => {
                let stored =
                    (&key[..], version.created, version.count, version.lease, version.value.as_deref());
                history.insert((version.revision, version.sub), stored)?;
            }
            Entry::LeaseGranted { id, ttl } => {
                leases.insert(id, ttl)?;
            }
            Entry::LeaseEnded(id) => {
                leases.remove(id)?;
            }
            Entry::Compacted { revision, removed } => {
                for place in removed {
                    history.remove(place)?;
                }
                meta.insert("compacted", revision)?;
            }
        }
    }
    meta.insert("revision", revision)?;
    Ok(())
}

fn record((revision, sub): (i64, u32), (key, created, count, lease, value): StoredVersion<'_>) -> Record {
    let value = value.map(Bytes::copy_from_slice);
    let version = Version { revision, sub, created, count, lease, value };
    Record { key: Bytes::copy_from_slice(key), version }
}

/// The store holds what decides about the network, and passwords of BGP peers.
fn restrict(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}
