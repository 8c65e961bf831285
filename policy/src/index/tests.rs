//! Whatever happens, the index says what a walk over everything says.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What is done to an index.
#[derive(Clone, Debug)]
enum Step {
    Join(usize, BTreeMap<usize, usize>, Vec<usize>),
    Leave(usize),
    Profile(usize, Option<BTreeMap<usize, usize>>),
    Ask(usize),
    Forget(usize),
}

const NAMES: [&str; 4] = ["a", "b", "pcns.c", "pcsa.d"];
const VALUES: [&str; 3] = ["x", "y", "z"];
const SELECTORS: [&str; 12] = [
    "all()",
    "has(a)",
    "!has(a)",
    "a == 'x'",
    "a != 'x'",
    "a in {'x', 'y'} && b == 'z'",
    "a == 'x' || b == 'y'",
    "pcns.c == 'x'",
    "has(pcsa.d) && a == 'y'",
    "a == 'x' && a == 'y'",
    "b contains 'y'",
    "!(a == 'x' && b == 'y')",
];

fn labels(pairs: &BTreeMap<usize, usize>) -> LabelSet {
    pairs.iter().map(|(name, value)| (NAMES[*name], VALUES[*value])).collect()
}

fn profile(number: usize) -> Arc<str> {
    Arc::from(format!("p{number}"))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pairs = || prop::collection::btree_map(0..NAMES.len(), 0..VALUES.len(), 0..4);
    let step = prop_oneof![
        4 => (0..8_usize, pairs(), prop::collection::vec(0..3_usize, 0..3)).prop_map(|(t, l, p)| Step::Join(t, l, p)),
        2 => (0..8_usize).prop_map(Step::Leave),
        2 => (0..3_usize, prop::option::of(pairs())).prop_map(|(p, l)| Step::Profile(p, l)),
        3 => (0..SELECTORS.len()).prop_map(Step::Ask),
        1 => (0..SELECTORS.len()).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..60)
}

/// The plain truth.
#[derive(Default)]
struct Model {
    things: BTreeMap<usize, (ClassKey, ClassId)>,
    profiles: BTreeMap<Arc<str>, LabelSet>,
    asked: BTreeMap<usize, QueryId>,
    /// What an observer of flips believes.
    matching: BTreeSet<(QueryId, ClassId)>,
}

impl Model {
    /// The labels of a thing, worked out anew.
    fn labels(&self, key: &ClassKey) -> BTreeMap<String, String> {
        let own =
            key.labels.iter().filter(|(name, _)| !name.starts_with("pcns.") && !name.starts_with("pcsa."));
        let mut all: BTreeMap<String, String> = own.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        for given in key.profiles.iter().filter_map(|name| self.profiles.get(name)) {
            for (name, value) in given.iter() {
                all.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        all
    }

    fn run(&mut self, index: &mut Index, step: Step) {
        match step {
            Step::Join(thing, pairs, profiles) => {
                let key = ClassKey {
                    labels: labels(&pairs),
                    profiles: profiles.into_iter().map(profile).collect(),
                };
                let class = index.join(key.clone());
                self.matching.extend(index.queries_of(class).iter().map(|query| (*query, class)));
                if let Some((_, old)) = self.things.insert(thing, (key, class)) {
                    self.left(index, old);
                }
            }
            Step::Leave(thing) => {
                if let Some((_, class)) = self.things.remove(&thing) {
                    self.left(index, class);
                }
            }
            Step::Profile(number, pairs) => {
                let (name, given) = (profile(number), pairs.as_ref().map(labels));
                for flip in index.set_profile(&name, given.clone()) {
                    let pair = (flip.query, flip.class);
                    assert!(if flip.matches {
                        self.matching.insert(pair)
                    } else {
                        self.matching.remove(&pair)
                    });
                }
                match given {
                    Some(given) => self.profiles.insert(name, given),
                    None => self.profiles.remove(&name),
                };
            }
            Step::Ask(number) => {
                let query = index.ask(&SELECTORS[number].parse().unwrap());
                if let Some(old) = self.asked.insert(number, query) {
                    assert_eq!(old, query);
                    assert!(!index.forget(query));
                }
                self.matching.extend(index.classes_of(query).map(|class| (query, class)));
            }
            Step::Forget(number) => {
                if let Some(query) = self.asked.remove(&number) {
                    assert!(index.forget(query));
                    self.matching.retain(|(known, _)| *known != query);
                }
            }
        }
    }

    fn left(&mut self, index: &mut Index, class: ClassId) {
        let used = self.things.values().any(|(_, other)| *other == class);
        assert_eq!(index.leave(class), !used);
        if !used {
            self.matching.retain(|(_, known)| *known != class);
        }
    }

    fn check(&self, index: &Index) {
        let mut expected = BTreeSet::new();
        for (key, class) in self.things.values() {
            assert_eq!(index.key(*class), Some(key));
            let labels = self.labels(key);
            let seen = index.labels(*class);
            let pairs: BTreeMap<_, _> = seen.pairs().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            assert_eq!(pairs, labels);
            for (number, query) in &self.asked {
                let selector: Selector = SELECTORS[*number].parse().unwrap();
                if selector.matches(&labels) {
                    expected.insert((*query, *class));
                }
            }
        }
        assert_eq!(self.matching, expected);
        let by_query: BTreeSet<_> = self
            .asked
            .values()
            .flat_map(|query| index.classes_of(*query).map(|class| (*query, class)))
            .collect();
        assert_eq!(by_query, expected);
        let by_class: BTreeSet<_> = self
            .things
            .values()
            .flat_map(|(_, class)| index.queries_of(*class).iter().map(|query| (*query, *class)))
            .collect();
        assert_eq!(by_class, expected);
    }
}

proptest! {
    #[test]
    fn the_index_says_what_a_walk_over_everything_says(steps in steps()) {
        let (mut index, mut model) = (Index::default(), Model::default());
        for step in steps {
            model.run(&mut index, step);
            model.check(&index);
        }
    }

    /// Nothing stays behind when all is gone.
    #[test]
    fn an_index_of_nothing_holds_nothing(steps in steps()) {
        let (mut index, mut model) = (Index::default(), Model::default());
        for step in steps {
            model.run(&mut index, step);
        }
        for thing in 0..8 {
            model.run(&mut index, Step::Leave(thing));
        }
        for number in 0..SELECTORS.len() {
            model.run(&mut index, Step::Forget(number));
        }
        for number in 0..3 {
            model.run(&mut index, Step::Profile(number, None));
        }
        // Room once needed is kept, that is all.
        let holds = format!("{index:?}").split("cap: ").map(|part| part.trim_start_matches(char::is_numeric)).collect::<String>();
        prop_assert_eq!(holds, format!("{:?}", Index::default()).replace("cap: 0", ""));
    }
}
