//! The keyspace: history, compaction and events.

use super::*;

fn put(space: &mut Keyspace, key: &str, value: &str) -> i64 {
    let mut change = Change::default();
    space.put(
        &mut change,
        Bytes::copy_from_slice(key.as_bytes()),
        Bytes::copy_from_slice(value.as_bytes()),
        0,
    );
    space.commit(change);
    space.revision()
}

fn delete(space: &mut Keyspace, key: &str) -> i64 {
    let mut change = Change::default();
    space.delete(&mut change, key.as_bytes());
    space.commit(change);
    space.revision()
}

fn all() -> Interval {
    Interval::new(&[0], &[0])
}

fn values(space: &Keyspace, revision: i64) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    space.range(&all(), revision).map(|kv| (text(kv.key), text(kv.value))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Revisions 2 to 6: a=1, b=1, a=2, b deleted, c=1.
fn sample() -> Keyspace {
    let mut space = Keyspace::default();
    put(&mut space, "a", "1");
    put(&mut space, "b", "1");
    put(&mut space, "a", "2");
    delete(&mut space, "b");
    put(&mut space, "c", "1");
    space
}

#[test]
fn history_can_be_read_back_to_the_compaction() {
    let mut space = sample();
    assert_eq!(values(&space, 3), pairs(&[("a", "1"), ("b", "1")]));
    assert_eq!(values(&space, 4), pairs(&[("a", "2"), ("b", "1")]));
    assert_eq!(values(&space, 0), pairs(&[("a", "2"), ("c", "1")]));
    let a = space.get(b"a").unwrap();
    assert_eq!((a.create_revision, a.mod_revision, a.version), (2, 4, 2));

    assert_eq!(space.compact(4).unwrap(), [(2, 0)]);
    assert_eq!(values(&space, 4), pairs(&[("a", "2"), ("b", "1")]));
    assert_eq!(space.check_readable(3), Err(Refusal::Compacted));
    assert_eq!(space.check_readable(7), Err(Refusal::FutureRevision));
    assert_eq!(space.compact(4), Err(Refusal::Compacted));
    assert_eq!(space.compact(7), Err(Refusal::FutureRevision));
}

#[test]
fn a_delete_at_the_compacted_revision_is_still_an_event() {
    let mut space = sample();
    space.compact(5).unwrap();
    let (events, next) = space.events(&all(), 5, 100, true).unwrap();
    let seen: Vec<(i32, i64)> =
        events.iter().map(|e| (e.r#type, e.kv.as_ref().unwrap().mod_revision)).collect();
    assert_eq!((seen, next), (vec![(1, 5), (0, 6)], 7));
    assert!(events[0].prev_kv.is_none(), "what was before the compaction is not known");
    assert_eq!(space.events(&all(), 4, 100, false), Err(Refusal::Compacted));
    // The next compaction forgets it.
    assert_eq!(space.compact(6).unwrap(), [(5, 0)]);
    assert!(space.get(b"b").is_none());
}

#[test]
fn events_come_in_whole_revisions() {
    let mut space = Keyspace::default();
    let mut change = Change::default();
    for key in ["a", "b", "c"] {
        space.put(&mut change, Bytes::copy_from_slice(key.as_bytes()), Bytes::new(), 0);
    }
    space.commit(change);
    put(&mut space, "a", "2");
    let (events, next) = space.events(&all(), 1, 1, true).unwrap();
    assert_eq!((events.len(), next), (3, 3));
    let (events, next) = space.events(&all(), next, 1, true).unwrap();
    assert_eq!((events.len(), next), (1, 4));
    assert_eq!(events[0].prev_kv.as_ref().unwrap().mod_revision, 2);
    // A revision still to come is waited for, not forgotten.
    assert_eq!(space.events(&all(), 9, 1, false).unwrap(), (vec![], 9));
}

#[test]
fn an_interval_that_runs_backwards_is_empty() {
    let space = sample();
    let backwards = Interval::new(b"c", b"a");
    assert!(backwards.is_empty());
    assert_eq!(space.range(&backwards, 0).count(), 0);
    assert_eq!(space.range(&Interval::new(b"b", &[0]), 0).count(), 1);
    assert_eq!(space.range(&Interval::new(b"a", b"c"), 0).count(), 1);
}

#[test]
fn large_values_are_read_for_watches_in_parts_of_bounded_size() {
    let mut space = Keyspace::default();
    let large = "x".repeat(EVENT_BYTES * 2 / 3);
    for key in ["a", "b", "c"] {
        put(&mut space, key, &large);
    }
    let (events, next) = space.events(&all(), 2, 1000, false).unwrap();
    assert_eq!((events.len(), next), (2, 4));
    let (events, next) = space.events(&all(), next, 1000, false).unwrap();
    assert_eq!((events.len(), next), (1, 5));
}
