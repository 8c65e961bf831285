//! What a member has to be told yet, because it does not drain its queue or is being told the whole table.
//!
//! A bit a prefix, so that a peer that stands still while a large table changes costs next to nothing. Where several
//! paths of a prefix are announced their identifiers have to be remembered, too.

use std::collections::BTreeSet;

use super::adj_out::Change;
use super::loc::{Slot, Table};
use crate::wire::nlri::Nlri;

/// Paths that changed.
#[derive(Debug)]
pub(crate) enum Missed {
    /// Prefixes by slot; their slots are not used for others meanwhile ([`Table::recycle`]).
    Slots(Vec<u64>),
    /// Of sessions with add-path.
    Paths(BTreeSet<Nlri>),
}

impl Missed {
    pub(crate) fn new(add_path: bool) -> Missed {
        if add_path { Missed::Paths(BTreeSet::new()) } else { Missed::Slots(Vec::new()) }
    }

    pub(crate) fn add(&mut self, change: &Change) {
        match self {
            Missed::Slots(bits) => {
                let (word, bit) = place(change.slot);
                if word >= bits.len() {
                    bits.resize(word + 1, 0);
                }
                bits[word] |= bit;
            }
            Missed::Paths(paths) => drop(paths.insert(change.nlri)),
        }
    }

    pub(crate) fn contains(&self, slot: Slot, nlri: &Nlri) -> bool {
        match self {
            Missed::Slots(bits) => {
                let (word, bit) = place(slot);
                bits.get(word).is_some_and(|word| word & bit != 0)
            }
            Missed::Paths(paths) => paths.contains(nlri),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Missed::Slots(bits) => bits.iter().all(|word| *word == 0),
            Missed::Paths(paths) => paths.is_empty(),
        }
    }

    /// Takes about so many out, each with the slot of its prefix if that is still known.
    pub(crate) fn take(&mut self, most: usize, table: &Table) -> Vec<(Option<Slot>, Nlri)> {
        let mut taken = Vec::new();
        match self {
            Missed::Slots(bits) => {
                for (first, word) in (0..).step_by(64).zip(bits.iter_mut()).filter(|(_, word)| **word != 0) {
                    let word = std::mem::take(word);
                    let slots = (0..64).filter(|bit| word >> bit & 1 != 0).map(|bit: Slot| first + bit);
                    taken.extend(slots.map(|slot| (Some(slot), table.prefix(slot).into())));
                    if taken.len() >= most {
                        break;
                    }
                }
            }
            Missed::Paths(paths) => {
                while taken.len() < most
                    && let Some(nlri) = paths.pop_first()
                {
                    taken.push((table.find(nlri.prefix), nlri));
                }
            }
        }
        taken
    }
}

fn place(slot: Slot) -> (usize, u64) {
    (slot as usize / 64, 1 << (slot % 64))
}
