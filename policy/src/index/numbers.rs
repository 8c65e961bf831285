//! A set of numbers that is often a single one.

use std::collections::BTreeSet;

/// Numbers in order, each once. Up to one takes no memory of its own: a large cluster has a hundred thousand labels that
/// are of one endpoint each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::box_collection,
    reason = "without it all of them would be twice as large, for the sake of the few"
)]
pub(crate) enum Numbers {
    #[default]
    None,
    One(usize),
    Many(Box<BTreeSet<usize>>),
}

impl Numbers {
    pub(crate) fn insert(&mut self, number: usize) {
        match self {
            Numbers::None => *self = Numbers::One(number),
            Numbers::One(other) if *other == number => {}
            Numbers::One(other) => *self = Numbers::Many(Box::new([*other, number].into())),
            Numbers::Many(numbers) => {
                numbers.insert(number);
            }
        }
    }

    pub(crate) fn remove(&mut self, number: usize) {
        match self {
            Numbers::One(other) if *other == number => *self = Numbers::None,
            Numbers::None | Numbers::One(_) => {}
            Numbers::Many(numbers) => {
                numbers.remove(&number);
                if let (1, Some(last)) = (numbers.len(), numbers.first()) {
                    *self = Numbers::One(*last);
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Numbers::None
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Numbers::None => 0,
            Numbers::One(_) => 1,
            Numbers::Many(numbers) => numbers.len(),
        }
    }

    /// The numbers, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (one, many) = match self {
            Numbers::None => (None, None),
            Numbers::One(number) => (Some(*number), None),
            Numbers::Many(numbers) => (None, Some(numbers)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|numbers| numbers.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_a_set(steps in prop::collection::vec((any::<bool>(), 0..4_usize), 0..30)) {
            let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
            for (is_there, number) in steps {
                if is_there {
                    numbers.insert(number);
                    model.insert(number);
                } else {
                    numbers.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(numbers.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!((numbers.len(), numbers.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(matches!(numbers, Numbers::Many(_)), model.len() > 1);
            }
        }
    }
}
