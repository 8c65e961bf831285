//! Sums that only grow, whatever becomes of the counters.

use std::collections::HashMap;

use super::{Count, Counters, Key};
use crate::ir::Element;

/// Something in the kernel that counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// A rule, by its handle.
    Rule(u64),
    /// An element of a merged set.
    Element(String, Element),
    /// A rule that is merged: its elements count.
    Merged,
}

/// What was read of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which.
    pub counter: Counter,
    /// For whom it counts now.
    pub key: Key,
    /// Everything since it began.
    pub count: Count,
}

/// What was counted since the first reading and before it. What is counted between a reading and the end of a counter is lost.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    last: HashMap<Counter, Count>,
    sums: Counters,
}

impl Tally {
    /// Takes all readings of one time. What nothing counts for any more is forgotten.
    pub fn take(&mut self, readings: impl IntoIterator<Item = Reading>) {
        let mut last = HashMap::new();
        let mut sums = Counters::default();
        for Reading { counter, key, count } in readings {
            let before = self.last.get(&counter).copied().unwrap_or_default();
            let sum =
                sums.0.entry(key).or_insert_with_key(|key| self.sums.0.get(key).copied().unwrap_or_default());
            // Less than before: it began anew.
            let began = count.packets < before.packets || count.bytes < before.bytes;
            let before = if began { Count::default() } else { before };
            sum.packets += count.packets - before.packets;
            sum.bytes += count.bytes - before.bytes;
            if counter != Counter::Merged {
                last.insert(counter, count);
            }
        }
        (self.last, self.sums) = (last, sums);
    }

    /// The sums.
    pub fn counters(&self) -> &Counters {
        &self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Fate, Part};
    use crate::ir::Direction;

    fn reading(counter: u64, policy: &str, packets: u64) -> Reading {
        let part = Part::Profile(policy.to_owned());
        let count = Count { packets, bytes: 40 * packets };
        Reading { counter: Counter::Rule(counter), key: (part, Some(Direction::Ingress), Fate::Allow), count }
    }

    #[test]
    fn sums_only_grow() {
        let mut tally = Tally::default();
        let mut after = |readings: Vec<Reading>| -> Vec<u64> {
            tally.take(readings);
            tally.counters().iter().map(|(_, count)| count.packets).collect()
        };
        assert_eq!(after(vec![reading(1, "a", 3), reading(2, "a", 4)]), [7]);
        assert_eq!(after(vec![reading(1, "a", 5), reading(2, "a", 4)]), [9]);
        // One is gone, one began anew, one is new.
        assert_eq!(after(vec![reading(2, "a", 1), reading(3, "a", 2)]), [12]);
        // It counts for another from now on: what it counted before stays where it was.
        assert_eq!(after(vec![reading(2, "a", 1), reading(3, "b", 5)]), [12, 3]);
        // Nobody counts for the first any more.
        assert_eq!(after(vec![reading(3, "b", 5)]), [3]);
    }
}
