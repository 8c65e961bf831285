//! The keyspace: every key with its versions since the last compaction, and what changed at which revision.
//!
//! Pure: no clock, no file, no lock. Writes happen inside a [`Change`], which becomes one revision; what must be
//! stored to survive is returned as [`Record`]s. Semantics are etcd's (`server/storage/mvcc`).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use etcd_client::proto::{PbEvent, PbKeyValue};

use super::error::Refusal;

/// Keys and values read for a watch at once, beyond which the next revision waits for the next read: what is under way
/// to a slow client is bounded by bytes, not only by events.
const EVENT_BYTES: usize = 256 << 10;

/// A set of keys, as `key` and `range_end` of etcd's requests give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    start: Vec<u8>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The start alone.
    Single,
    /// Up to, but without, this key.
    Before(Vec<u8>),
    /// Everything from the start on.
    Open,
}

impl Interval {
    /// An empty `range_end` means the key alone, `\0` all keys from it on.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Interval {
        let end = match range_end {
            [] => End::Single,
            [0] => End::Open,
            end => End::Before(end.to_vec()),
        };
        Interval { start: key.to_vec(), end }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Before(end) => key >= self.start.as_slice() && key < end.as_slice(),
            End::Open => key >= self.start.as_slice(),
        }
    }

    /// Whether no key can be in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let start = self.start.as_slice();
        match &self.end {
            End::Single => (Bound::Included(start), Bound::Included(start)),
            // Ordered bounds, whatever was asked: the map panics on others.
            End::Before(end) => (Bound::Included(start), Bound::Excluded(end.as_slice().max(start))),
            End::Open => (Bound::Included(start), Bound::Unbounded),
        }
    }
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Revision of this version.
    pub(super) revision: i64,
    /// Its place among the changes of that revision.
    pub(super) sub: u32,
    /// Revision at which the key was created.
    pub(super) created: i64,
    /// 1 for the version that created the key; 0 for a delete.
    pub(super) count: i64,
    /// The lease it dies with; 0 for none.
    pub(super) lease: i64,
    /// `None` for a delete.
    pub(super) value: Option<Bytes>,
}

/// A version together with its key: what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Bytes,
    pub(super) version: Version,
}

/// Writes under way that will become one revision.
#[derive(Debug, Default)]
pub(super) struct Change {
    records: Vec<Record>,
}

impl Change {
    /// Whether something was written.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// Place of a version on disk: its revision and its place in it.
pub(super) type Place = (i64, u32);

/// All keys and their history.
#[derive(Debug)]
pub(super) struct Keyspace {
    revision: i64,
    /// Reads and watches before it are refused; -1 when there was no compaction.
    compacted: i64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Keys changed at each revision from `compacted` on, in the order of their change.
    log: BTreeMap<i64, Vec<Bytes>>,
    /// What all versions take, roughly.
    bytes: u64,
}

impl Default for Keyspace {
    /// As etcd's: the empty store is at revision 1.
    fn default() -> Keyspace {
        Keyspace { revision: 1, compacted: -1, keys: BTreeMap::new(), log: BTreeMap::new(), bytes: 0 }
    }
}

impl Keyspace {
    /// An empty keyspace at a revision, to be filled by [`Keyspace::restore`].
    pub(super) fn at(revision: i64, compacted: i64) -> Keyspace {
        Keyspace { revision, compacted, ..Keyspace::default() }
    }

    /// Takes a stored record back; records come in the order of their places.
    pub(super) fn restore(&mut self, record: Record) {
        if record.version.revision >= self.compacted {
            self.log.entry(record.version.revision).or_default().push(record.key.clone());
        }
        self.bytes += size(&record.key, &record.version);
        self.keys.entry(record.key).or_default().push(record.version);
    }

    /// Whether what was restored fits together; what does not.
    pub(super) fn check(&self) -> Result<(), String> {
        let newest = self.log.last_key_value().map_or(0, |(revision, _)| *revision);
        if self.revision < 1 || newest > self.revision || self.compacted > self.revision {
            return Err(format!(
                "the last revision is {}, but there are changes of {newest} and a compaction at {}",
                self.revision, self.compacted
            ));
        }
        Ok(())
    }

    /// What the keys and values of all versions take in memory, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last revision.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// The oldest revision that can be read; -1 when there was no compaction.
    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Checks that a revision can be read.
    pub(super) fn check_readable(&self, revision: i64) -> Result<(), Refusal> {
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        if revision > 0 && revision < self.compacted { Err(Refusal::Compacted) } else { Ok(()) }
    }

    /// Key-values of an interval in key order: at a revision, or now when it is 0, writes of an unfinished
    /// change included.
    pub(super) fn range(&self, interval: &Interval, revision: i64) -> impl Iterator<Item = PbKeyValue> {
        let at = if revision <= 0 { i64::MAX } else { revision };
        self.keys.range::<[u8], _>(interval.bounds()).filter_map(move |(key, versions)| {
            let version = version_at(versions, at)?;
            key_value(key, version)
        })
    }

    /// One key now.
    pub(super) fn get(&self, key: &[u8]) -> Option<PbKeyValue> {
        self.range(&Interval::new(key, b""), 0).next()
    }

    /// Writes a key. Returns what it was before.
    pub(super) fn put(
        &mut self,
        change: &mut Change,
        key: Bytes,
        value: Bytes,
        lease: i64,
    ) -> Option<PbKeyValue> {
        let before = self.get(&key);
        let revision = self.revision + 1;
        let version = Version {
            revision,
            sub: next_sub(change),
            created: before.as_ref().map_or(revision, |kv| kv.create_revision),
            count: before.as_ref().map_or(1, |kv| kv.version + 1),
            lease,
            value: Some(value),
        };
        self.append(change, key, version);
        before
    }

    /// Deletes a key. Returns what it was; `None` when it was not there, which changes nothing.
    pub(super) fn delete(&mut self, change: &mut Change, key: &[u8]) -> Option<PbKeyValue> {
        let before = self.get(key)?;
        let version = Version {
            revision: self.revision + 1,
            sub: next_sub(change),
            created: 0,
            count: 0,
            lease: 0,
            value: None,
        };
        self.append(change, Bytes::copy_from_slice(key), version);
        Some(before)
    }

    fn append(&mut self, change: &mut Change, key: Bytes, version: Version) {
        self.bytes += size(&key, &version);
        change.records.push(Record { key: key.clone(), version: version.clone() });
        self.keys.entry(key).or_default().push(version);
    }

    /// Ends a change: if it wrote anything it becomes the next revision.
    pub(super) fn commit(&mut self, change: Change) -> Vec<Record> {
        if !change.is_empty() {
            self.revision += 1;
            self.log.insert(self.revision, change.records.iter().map(|r| r.key.clone()).collect());
        }
        change.records
    }

    /// Forgets what is older than a revision: superseded versions, and deletes before it. Unlike etcd before 3.6 a delete
    /// at the revision itself is kept, so that a watch from there has no gap.
    pub(super) fn compact(&mut self, revision: i64) -> Result<Vec<Place>, Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        self.compacted = revision;
        self.log = self.log.split_off(&revision);
        let (mut removed, mut freed) = (Vec::new(), 0);
        self.keys.retain(|key, versions| {
            let later = versions.partition_point(|v| v.revision <= revision);
            let mut keep = later.saturating_sub(1);
            if versions.get(keep).is_some_and(|v| v.value.is_none() && v.revision < revision) {
                keep += 1;
            }
            for version in versions.drain(..keep) {
                freed += size(key, &version);
                removed.push((version.revision, version.sub));
            }
            !versions.is_empty()
        });
        self.bytes -= freed;
        Ok(removed)
    }

    /// Events of an interval from a revision on: whole revisions until at least `limit` events or [`EVENT_BYTES`] are
    /// there. Returns them and the revision to go on from.
    pub(super) fn events(
        &self,
        interval: &Interval,
        from: i64,
        limit: usize,
        with_previous: bool,
    ) -> Result<(Vec<PbEvent>, i64), Refusal> {
        if from < self.compacted {
            return Err(Refusal::Compacted);
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        for (revision, keys) in self.log.range(from..) {
            for key in keys.iter().filter(|key| interval.contains(key)) {
                let event = self.event(key, *revision, with_previous);
                bytes += event.as_ref().map_or(0, event_bytes);
                events.extend(event);
            }
            if events.len() >= limit || bytes >= EVENT_BYTES {
                return Ok((events, revision + 1));
            }
        }
        Ok((events, from.max(self.revision + 1)))
    }

    /// The change of a key at a revision.
    fn event(&self, key: &Bytes, revision: i64, with_previous: bool) -> Option<PbEvent> {
        let versions = self.keys.get(key)?;
        let version = version_at(versions, revision)?;
        let kv = key_value(key, version).unwrap_or_else(|| PbKeyValue {
            key: key.to_vec(),
            mod_revision: revision,
            ..PbKeyValue::default()
        });
        let before = || key_value(key, version_at(versions, revision - 1)?);
        // Reading before the compaction would answer with what happens to be left.
        let prev_kv = (with_previous && revision > self.compacted).then(before).flatten();
        Some(PbEvent { r#type: i32::from(version.value.is_none()), kv: Some(kv), prev_kv })
    }
}

/// What a version takes; keys are shared, so this is too much rather than too little.
fn size(key: &Bytes, version: &Version) -> u64 {
    const OVERHEAD: usize = 128;
    let bytes = OVERHEAD + key.len() + version.value.as_ref().map_or(0, Bytes::len);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Bytes of keys and values in an event.
pub(super) fn event_bytes(event: &PbEvent) -> usize {
    let kvs = [event.kv.as_ref(), event.prev_kv.as_ref()];
    kvs.into_iter().flatten().map(|kv| kv.key.len() + kv.value.len()).sum()
}

fn next_sub(change: &Change) -> u32 {
    u32::try_from(change.records.len()).unwrap_or(u32::MAX)
}

/// The version that held at a revision, which may be a delete.
fn version_at(versions: &[Version], revision: i64) -> Option<&Version> {
    versions[..versions.partition_point(|v| v.revision <= revision)].last()
}

fn key_value(key: &Bytes, version: &Version) -> Option<PbKeyValue> {
    Some(PbKeyValue {
        key: key.to_vec(),
        value: version.value.as_ref()?.to_vec(),
        create_revision: version.created,
        mod_revision: version.revision,
        version: version.count,
        lease: version.lease,
    })
}

#[cfg(test)]
mod tests;
