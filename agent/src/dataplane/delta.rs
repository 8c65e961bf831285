//! Desired against actual, for every kind of object: what is to be added, changed and removed.
//!
//! Both sides are kept, with the set of keys on which they differ. A new desired value costs a comparison per object and
//! no read from the kernel; what was done is recorded with [`Delta::done`], and what failed stays pending by itself.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Desired and actual state of one kind of object.
#[derive(Clone, Debug)]
pub struct Delta<K, V> {
    desired: BTreeMap<K, V>,
    actual: BTreeMap<K, V>,
    pending: BTreeSet<K>,
}

impl<K, V> Default for Delta<K, V> {
    fn default() -> Delta<K, V> {
        Delta { desired: BTreeMap::new(), actual: BTreeMap::new(), pending: BTreeSet::new() }
    }
}

/// An object that is not yet as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending<'a, V> {
    /// Not there.
    Add(&'a V),
    /// There, but otherwise.
    Change {
        /// As it is.
        from: &'a V,
        /// As it should be.
        to: &'a V,
    },
    /// There, and should not.
    Remove(&'a V),
}

impl<K: Ord + Clone, V: PartialEq> Delta<K, V> {
    /// All that should be.
    pub fn set_desired(&mut self, desired: BTreeMap<K, V>) {
        for key in differing(&self.desired, &desired) {
            mark(&mut self.pending, &key, desired.get(&key), self.actual.get(&key));
        }
        self.desired = desired;
    }

    /// One object as it should be; `None` when it should not be.
    pub fn set_desired_of(&mut self, key: K, desired: Option<V>) {
        mark(&mut self.pending, &key, desired.as_ref(), self.actual.get(&key));
        match desired {
            Some(value) => self.desired.insert(key, value),
            None => self.desired.remove(&key),
        };
    }

    /// All that is, as just read.
    pub fn set_actual(&mut self, actual: BTreeMap<K, V>) {
        for key in differing(&self.actual, &actual) {
            mark(&mut self.pending, &key, self.desired.get(&key), actual.get(&key));
        }
        self.actual = actual;
    }

    /// One object as it is now; `None` when it is not there.
    pub fn set_actual_of(&mut self, key: K, actual: Option<V>) {
        mark(&mut self.pending, &key, self.desired.get(&key), actual.as_ref());
        match actual {
            Some(value) => self.actual.insert(key, value),
            None => self.actual.remove(&key),
        };
    }

    /// All that should be.
    pub fn desired(&self) -> &BTreeMap<K, V> {
        &self.desired
    }

    /// All that is, as far as we know.
    pub fn actual(&self) -> &BTreeMap<K, V> {
        &self.actual
    }

    /// What differs, in the order of keys.
    pub fn pending(&self) -> impl Iterator<Item = (&K, Pending<'_, V>)> {
        self.pending.iter().filter_map(|key| {
            let pending = match (self.desired.get(key), self.actual.get(key)) {
                (Some(to), None) => Pending::Add(to),
                (Some(to), Some(from)) => Pending::Change { from, to },
                (None, Some(from)) => Pending::Remove(from),
                (None, None) => return None,
            };
            Some((key, pending))
        })
    }

    /// Whether this object is desired and is as it should be.
    pub fn in_place(&self, key: &K) -> bool {
        self.desired.contains_key(key) && !self.pending.contains(key)
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> Delta<K, V> {
    /// The object has been made what it should be.
    pub fn done(&mut self, key: &K) {
        match self.desired.get(key) {
            Some(value) => self.actual.insert(key.clone(), value.clone()),
            None => self.actual.remove(key),
        };
        self.pending.remove(key);
    }
}

fn mark<K: Ord + Clone, V: PartialEq>(
    pending: &mut BTreeSet<K>,
    key: &K,
    desired: Option<&V>,
    actual: Option<&V>,
) {
    if desired == actual {
        pending.remove(key);
    } else if !pending.contains(key) {
        pending.insert(key.clone());
    }
}

/// Keys whose values differ between two maps, in one walk over both.
fn differing<K: Ord + Clone, V: PartialEq>(left: &BTreeMap<K, V>, right: &BTreeMap<K, V>) -> Vec<K> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut keys = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return keys,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let one = if order.is_le() { left.next() } else { None };
        let other = if order.is_ge() { right.next() } else { None };
        if one.map(|(_, value)| value) != other.map(|(_, value)| value) {
            keys.extend(one.or(other).map(|(key, _)| key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Map = BTreeMap<u8, u8>;

    fn maps() -> impl Strategy<Value = Map> {
        prop::collection::btree_map(0u8..12, 0u8..3, 0..10)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Desire(Map),
        DesireOne(u8, Option<u8>),
        Read(Map),
        ReadOne(u8, Option<u8>),
        Do(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            maps().prop_map(Step::Desire),
            (0u8..12, prop::option::of(0u8..3)).prop_map(|(key, value)| Step::DesireOne(key, value)),
            maps().prop_map(Step::Read),
            (0u8..12, prop::option::of(0u8..3)).prop_map(|(key, value)| Step::ReadOne(key, value)),
            (0u8..12).prop_map(Step::Do),
        ];
        prop::collection::vec(step, 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pending_is_exactly_the_difference(steps in steps()) {
            let mut delta = Delta::default();
            let (mut desired, mut actual) = (Map::new(), Map::new());
            for step in steps {
                match step {
                    Step::Desire(map) => {
                        delta.set_desired(map.clone());
                        desired = map;
                    }
                    Step::DesireOne(key, value) => {
                        delta.set_desired_of(key, value);
                        desired.remove(&key);
                        desired.extend(value.map(|value| (key, value)));
                    }
                    Step::Read(map) => {
                        delta.set_actual(map.clone());
                        actual = map;
                    }
                    Step::ReadOne(key, value) => {
                        delta.set_actual_of(key, value);
                        actual.remove(&key);
                        actual.extend(value.map(|value| (key, value)));
                    }
                    Step::Do(key) => {
                        delta.done(&key);
                        actual.remove(&key);
                        actual.extend(desired.get(&key).map(|value| (key, *value)));
                    }
                }
                prop_assert_eq!(delta.actual(), &actual);
                let expected: Vec<u8> = (0..12).filter(|key| desired.get(key) != actual.get(key)).collect();
                let pending: Vec<u8> = delta.pending().map(|(key, _)| *key).collect();
                prop_assert_eq!(&pending, &expected);
                for key in 0..12 {
                    let in_place = desired.contains_key(&key) && !expected.contains(&key);
                    prop_assert_eq!(delta.in_place(&key), in_place);
                }
            }
        }
    }

    #[test]
    fn says_what_kind_of_difference_it_is() {
        let mut delta = Delta::default();
        delta.set_desired(Map::from([(1, 1), (2, 2), (3, 3)]));
        delta.set_actual(Map::from([(2, 0), (3, 3), (4, 4)]));
        let pending: Vec<_> = delta.pending().collect();
        let expected =
            [(&1, Pending::Add(&1)), (&2, Pending::Change { from: &0, to: &2 }), (&4, Pending::Remove(&4))];
        assert_eq!(pending, expected);
    }
}
