//! Properties of selectors against a second model of the language, made from the table of meanings alone
//! (calico-datamodel 3.2): it writes each operation in every spelling the grammar has, and answers for itself.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use tortie_model::selector::Selector;

/// One operation, or a combination.
#[derive(Clone, Debug)]
enum Model {
    All,
    Has(&'static str),
    /// Operator of [`OPERATORS`], label, values; only sets have more than one, or none.
    Compare(&'static str, &'static str, Vec<&'static str>),
    Not(Box<Model>),
    Both(Box<Model>, Box<Model>),
    Either(Box<Model>, Box<Model>),
}

const OPERATORS: [&str; 7] = ["==", "!=", "contains", "starts with", "ends with", "in", "not in"];
const NAMES: [&str; 5] = ["a", "b", "in", "not", "k8s.io/x-y_z"];
const VALUES: [&str; 7] = ["", "a", "ab", "ba", "B", "it's", "say \""];

/// Spellings are taken from the bits of `style`, one decision at a time.
struct Style(u64);

impl Style {
    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        let choice = self.0 % of.len() as u64;
        self.0 = (self.0 / of.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ 0x51;
        of[choice as usize]
    }

    fn quoted(&mut self, value: &str) -> String {
        let quote = match (value.contains('"'), value.contains('\'')) {
            (true, _) => "'",
            (_, true) => "\"",
            _ => self.pick(&["'", "\""]),
        };
        format!("{quote}{value}{quote}")
    }
}

impl Model {
    fn text(&self, style: &mut Style) -> String {
        match self {
            Model::All => style.pick(&["all()", "all( )", "all(\t )"]).to_owned(),
            Model::Has(label) => format!("has({}{label}{})", style.pick(&["", " "]), style.pick(&["", "\t"])),
            Model::Compare(operator @ ("in" | "not in"), label, values) => {
                let word =
                    if *operator == "in" { "in" } else { style.pick(&["not in", "notin", "not \t in"]) };
                let values: Vec<String> = values.iter().map(|v| style.quoted(v)).collect();
                let comma = if values.is_empty() { "" } else { style.pick(&["", ","]) };
                let gap = style.pick(&["", " ", "\t"]);
                format!("{label} {word}{gap}{{{gap}{}{comma}{gap}}}", values.join(style.pick(&[",", ", "])))
            }
            Model::Compare(operator, label, values) => {
                let word = match *operator {
                    "starts with" => style.pick(&["starts with", "startswith", "starts  with"]),
                    "ends with" => style.pick(&["ends with", "endswith", "ends\twith"]),
                    other => other,
                };
                let before = if word.starts_with(['=', '!']) { style.pick(&["", " "]) } else { " " };
                format!("{label}{before}{word}{}{}", style.pick(&["", " "]), style.quoted(values[0]))
            }
            Model::Not(inner) => {
                let inner = inner.within(style);
                format!("!{}{inner}", style.pick(&["", " "]))
            }
            Model::Both(a, b) => {
                let (a, b) = (a.within(style), b.within(style));
                format!("{a}{}{b}", style.pick(&["&&", " && "]))
            }
            Model::Either(a, b) => {
                let (a, b) = (a.within(style), b.within(style));
                format!("{a}{}{b}", style.pick(&["||", " || "]))
            }
        }
    }

    /// The text as a part of another: in parentheses, unless it binds tighter than everything.
    fn within(&self, style: &mut Style) -> String {
        let text = self.text(style);
        if matches!(self, Model::Both(..) | Model::Either(..)) {
            format!("({text})")
        } else if style.pick(&["bare", "wrapped"]) == "wrapped" {
            format!("( {text})")
        } else {
            text
        }
    }

    /// The table of meanings, row by row.
    fn answer(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Model::All => true,
            Model::Has(label) => labels.contains_key(*label),
            Model::Compare(operator, label, values) => {
                match (*operator, labels.get(*label).map(String::as_str)) {
                    ("!=" | "not in", None) => true,
                    (_, None) => false,
                    ("==" | "in", Some(found)) => values.contains(&found),
                    ("!=" | "not in", Some(found)) => !values.contains(&found),
                    ("contains", Some(found)) => found.split(values[0]).count() > 1,
                    ("starts with", Some(found)) => found.get(..values[0].len()) == Some(values[0]),
                    (_, Some(found)) => {
                        found.len() >= values[0].len()
                            && found.get(found.len() - values[0].len()..) == Some(values[0])
                    }
                }
            }
            Model::Not(inner) => !inner.answer(labels),
            Model::Both(a, b) => a.answer(labels) & b.answer(labels),
            Model::Either(a, b) => a.answer(labels) | b.answer(labels),
        }
    }
}

fn model() -> impl Strategy<Value = Model> {
    let single = (select(&OPERATORS[..5]), select(&NAMES[..]), select(&VALUES[..]))
        .prop_map(|(operator, label, value)| Model::Compare(operator, label, vec![value]));
    let set = (select(&OPERATORS[5..]), select(&NAMES[..]), prop::collection::vec(select(&VALUES[..]), 0..4))
        .prop_map(|(operator, label, values)| Model::Compare(operator, label, values));
    let leaf = prop_oneof![1 => Just(Model::All), 2 => select(&NAMES[..]).prop_map(Model::Has), 4 => single, 4 => set];
    leaf.prop_recursive(6, 48, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|m| Model::Not(Box::new(m))),
            pair.clone().prop_map(|(a, b)| Model::Both(Box::new(a), Box::new(b))),
            pair.prop_map(|(a, b)| Model::Either(Box::new(a), Box::new(b))),
        ]
    })
}

fn label_sets() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = select(&NAMES[..]).prop_map(str::to_owned);
    let value = select(&VALUES[..]).prop_map(str::to_owned);
    prop::collection::btree_map(name, value, 0..5)
}

fn parse(text: &str) -> Selector {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn evaluation_agrees_with_the_table(m in model(), labels in label_sets(), style in any::<u64>()) {
        let selector = parse(&m.text(&mut Style(style)));
        prop_assert_eq!(selector.matches(&labels), m.answer(&labels), "{} on {:?}", selector, labels);
        prop_assert_eq!(parse(&selector.to_string()).matches(&labels), m.answer(&labels));
        prop_assert_eq!(selector.clone().negated().matches(&labels), !m.answer(&labels));
    }

    #[test]
    fn printing_and_reading_are_inverse(m in model(), style in any::<u64>(), other in any::<u64>()) {
        let selector = parse(&m.text(&mut Style(style)));
        let printed = selector.to_string();
        prop_assert_eq!(&parse(&printed), &selector, "the tree");
        prop_assert_eq!(&parse(&printed).to_string(), &printed, "the text");
        let spelt_otherwise = parse(&m.text(&mut Style(other)));
        prop_assert_eq!(spelt_otherwise.unique_id(), selector.unique_id());
    }

    #[test]
    fn what_breaks_a_restriction_never_matches(m in model(), labels in label_sets(), style in any::<u64>()) {
        let selector = parse(&m.text(&mut Style(style)));
        let kept = selector.restrictions().is_some_and(|restrictions| {
            restrictions.iter().all(|(label, r)| r.allows(labels.get(*label).map(String::as_str)))
        });
        prop_assert!(kept || !m.answer(&labels), "{} on {:?}", selector, labels);
        let opposite = selector.negated();
        let kept = opposite.restrictions().is_some_and(|restrictions| {
            restrictions.iter().all(|(label, r)| r.allows(labels.get(*label).map(String::as_str)))
        });
        prop_assert!(kept || m.answer(&labels), "{} on {:?}", opposite, labels);
    }
}
