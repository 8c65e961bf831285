//! The file behind the server: a redb database with every version, every lease and the revision.
//!
//! One [`Disk::commit`] is one transaction, on the disk when it returns. The file is locked: one process at a time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::engine::Storage;
use super::error::ServerError;
use super::mvcc::{Keyspace, Record, Version};
use super::state::{Entry, Identity, State};

/// Name of the file in the data directory.
const FILE: &str = "datastore.redb";
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
    directory: PathBuf,
    path: PathBuf,
    /// `None` only while it is opened anew.
    database: Option<Database>,
}

impl Disk {
    /// Opens the file of a directory, making both if needed. `fresh` names a new store.
    pub(super) fn open(directory: &Path, fresh: Identity) -> Result<Disk, ServerError> {
        let io = |source| ServerError::Directory { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(io)?;
        restrict(directory).map_err(io)?;
        let path = directory.join(FILE);
        let is_new = !path.exists();
        let mut disk = Disk { directory: directory.to_owned(), path, database: None };
        disk.reopen()?;
        if is_new {
            // Without this a crash of the machine could lose the file's name.
            std::fs::File::open(directory).and_then(|d| d.sync_all()).map_err(io)?;
        }
        disk.initialise(fresh).map_err(|error| disk.error(&error))?;
        Ok(disk)
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::PreviousIo)
    }

    fn error(&self, error: &dyn std::error::Error) -> ServerError {
        ServerError::File { path: self.path.clone(), reason: error.to_string() }
    }

    /// Makes the tables of a new file.
    fn initialise(&self, fresh: Identity) -> Result<(), redb::Error> {
        let write = self.database()?.begin_write()?;
        {
            write.open_table(HISTORY)?;
            write.open_table(LEASES)?;
            let mut meta = write.open_table(META)?;
            if meta.get("format")?.is_none() {
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
        }
        write.commit()?;
        Ok(())
    }

    /// The state, or the format found when it is not ours.
    fn read(&self, now: Duration) -> Result<Result<State, i64>, redb::Error> {
        let read = self.database()?.begin_read()?;
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
}

impl Storage for Disk {
    fn reopen(&mut self) -> Result<(), ServerError> {
        // The lock of the old handle must go first.
        self.database = None;
        let opened = Database::builder().set_cache_size(CACHE).create(&self.path);
        self.database = Some(opened.map_err(|error| {
            if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
                ServerError::InUse(self.directory.clone())
            } else {
                self.error(&error)
            }
        })?);
        Ok(())
    }

    fn load(&self, now: Duration) -> Result<State, ServerError> {
        self.read(now).map_err(|error| self.error(&error))?.map_err(|format| ServerError::File {
            path: self.path.clone(),
            reason: format!(
                "has format {format}; this version reads {FORMAT}: use the version that wrote it"
            ),
        })
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
