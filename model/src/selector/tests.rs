use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Labels, Selector};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn parse(text: &str) -> Selector {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn operators_on_labels() {
    let l =
        labels(&[("a", "b"), ("e", ""), ("in", "x"), ("has", "x"), ("startswith", "vv"), ("a.b/c-d_e", "1")]);
    let yes = [
        "",
        " \t",
        "all()",
        "all( )",
        "global()",
        "a == 'b'",
        "a==\"b\"",
        "a in {'b'}",
        "a in {'x','b',}",
        "a not in {}",
        "a notin{\"c\"}",
        "a not  in {'c'}",
        "z not in {'b'}",
        "z != 'b'",
        "a != 'c'",
        "has(a)",
        "has( a\t)",
        "has(e)",
        "e == ''",
        "!has(z)",
        "! a == 'c'",
        "!!has(a)",
        "a contains 'b'",
        "a contains ''",
        "startswith starts with \"v\"",
        "startswith startswith 'v'",
        "startswith ends with 'v'",
        "startswith starts  with 'v'",
        "startswith endswith'vv'",
        "in == \"x\"",
        "in in {'x'}",
        "has == 'x'",
        "a.b/c-d_e == '1'",
        "z == 'q' || a == 'b' && has(e)",
        "(z == 'q' || a == 'b') && has(e)",
        "a!='x'&&!has(b)||c in{\"d\"}",
        "a == 'b' && !(a == 'c')",
    ];
    for text in yes {
        assert!(parse(text).matches(&l), "{text}");
    }
    let no = [
        "a == 'B'",
        "a == 'bb'",
        "a in {}",
        "z in {'b'}",
        "z == ''",
        "has(z)",
        "z contains ''",
        "z starts with ''",
        "z ends with ''",
        "a != 'b'",
        "a not in {'b'}",
        "!all()",
        "! has(a)",
        "all() && has(z)",
        "z == 'q' && a == 'b' || has(z)",
        "!(has(a) && all())",
        "!has(z) && !!has(z)",
        "a contains 'ab'",
    ];
    for text in no {
        assert!(!parse(text).matches(&l), "{text}");
    }
}

#[test]
fn mistakes_are_named_with_their_column() {
    let cases = [
        ("a", 2, "operator"),
        ("a = 'b'", 3, "operator"),
        ("a == b", 6, "string"),
        ("a == 'b", 6, "closed"),
        ("a == 'b\"", 6, "closed"),
        ("a inb", 3, "operator"),
        ("a in", 5, "'{'"),
        ("a in\"c\"", 5, "'{'"),
        ("a in {", 7, "set"),
        ("a in {,}", 7, "set"),
        ("a in {'b',,}", 11, "set"),
        ("a in {'b' 'c'}", 11, "set"),
        ("a in {b}", 7, "string"),
        ("has (a)", 5, "operator"),
        ("has()", 1, "unexpected"),
        ("has(a b)", 1, "')'"),
        ("all(a)", 4, "operator"),
        ("all() all()", 7, "end"),
        ("(a == 'b'", 10, "')'"),
        ("a == 'b')", 9, "end"),
        ("()", 2, "label"),
        ("&& a == 'b'", 1, "label"),
        ("a == 'b' &&", 12, "label"),
        ("a == 'b' & a == 'c'", 10, "unexpected"),
        ("a == 'b'\n", 9, "unexpected"),
        ("!", 2, "label"),
        ("\u{e9} == 'b'", 1, "unexpected"),
        ("a == '\u{e9}' \u{e9}", 10, "unexpected"),
        ("'a' == 'b'", 1, "label"),
        ("a starts 'b'", 3, "operator"),
    ];
    for (text, column, word) in cases {
        let error = text.parse::<Selector>().expect_err(text);
        assert_eq!(error.column, column, "{error}");
        assert!(error.reason.contains(word), "{error}");
    }
    assert!(format!("{} == 'x'", "a".repeat(512)).parse::<Selector>().is_ok());
    assert!(format!("{} == 'x'", "a".repeat(513)).parse::<Selector>().is_err());
}

#[test]
fn canonical_text_and_identifier_are_felixs() {
    let cases = [
        ("", "all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("! (has( b)||! has(a ))", "!(has(b) || !has(a))", "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q"),
        (
            "! (a == \"b\"&&! c != \"d\")",
            "!(a == \"b\" && !c != \"d\")",
            "s:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w",
        ),
    ];
    for (text, canonical, id) in cases {
        assert_eq!(parse(text).to_string(), canonical);
        assert_eq!(parse(text).unique_id(), id);
    }
    let more = [
        ("((a == 'b'))", "a == \"b\""),
        ("a == 'b\"c'", "a == 'b\"c'"),
        ("a in {'c','b','c',}", "a in {\"b\", \"c\"}"),
        ("a notin {}", "a not in {}"),
        ("a startswith 'b' && c endswith 'd'", "(a starts with \"b\" && c ends with \"d\")"),
        ("has(a) && has(b) || has(c)", "((has(a) && has(b)) || has(c))"),
        ("has(a) && (has(b) && has(c))", "(has(a) && (has(b) && has(c)))"),
        ("!!!has(a)", "!has(a)"),
        ("!(!has(a))", "has(a)"),
    ];
    for (text, canonical) in more {
        assert_eq!(parse(text).to_string(), canonical);
    }
}

#[test]
fn combinations() {
    let s = parse("a == 'b' && !has(c) || all() || global()").prefixed("pcns.");
    assert_eq!(s.to_string(), "((pcns.a == \"b\" && !has(pcns.c)) || all() || global())");
    assert!(s.mentions_global() && !s.is_global() && parse("(global())").is_global() && parse("").is_all());
    assert_eq!(
        Selector::has("a").and(Selector::equal("b", "c").negated()).to_string(),
        "(has(a) && !b == \"c\")"
    );
    assert_eq!(Selector::one_of("a", ["y".to_owned(), "x".to_owned()]).to_string(), "a in {\"x\", \"y\"}");
}

#[test]
fn hostile_depth_is_refused() {
    for text in [
        "(".repeat(1_000_000),
        format!("{}all(){}", "(".repeat(100_000), ")".repeat(100_000)),
        "!(".repeat(1_000_000),
        format!("{}all(){}", "(all() || all() && ".repeat(100), ")".repeat(100)),
    ] {
        assert!(text.parse::<Selector>().expect_err("deep").reason.contains("deeper"));
    }
    assert!(format!("{}all()", "!".repeat(1_000_000)).parse::<Selector>().is_ok());
    assert!(format!("{}all(){}", "(".repeat(128), ")".repeat(128)).parse::<Selector>().is_ok());
    assert!(format!("all(){}", " && all()".repeat(100_000)).parse::<Selector>().is_ok());
}

/// A second model of the language for the properties: builds the text and the answer side by side.
#[derive(Clone, Debug)]
enum Model {
    Leaf(&'static str, &'static str, Vec<&'static str>),
    Not(Box<Model>),
    Join(bool, Vec<Model>),
}

impl Model {
    fn text(&self, spaced: bool) -> String {
        let gap = if spaced { "  " } else { "" };
        match self {
            Model::Leaf("all", ..) => format!("all({gap})"),
            Model::Leaf("has", label, _) => format!("has({gap}{label}{gap})"),
            Model::Leaf(op @ ("in" | "not in"), label, values) => {
                let list: Vec<_> = values.iter().map(|v| format!("'{v}'")).collect();
                format!("{label} {op}{gap}{{{}}}", list.join(","))
            }
            Model::Leaf(op, label, values) => format!("{label} {op} \"{}\"", values[0]),
            Model::Not(inner) => format!("!{gap}({})", inner.text(spaced)),
            Model::Join(all, parts) => {
                let parts: Vec<_> = parts.iter().map(|p| format!("({})", p.text(spaced))).collect();
                parts.join(if *all { "&&" } else { " || " })
            }
        }
    }

    fn answer(&self, labels: &[(&str, &str)]) -> bool {
        match self {
            Model::Leaf(op, label, values) => {
                let found = labels.iter().find(|(k, _)| k == label).map(|(_, v)| *v);
                match (*op, found) {
                    ("all", _) => true,
                    ("has", v) => v.is_some(),
                    ("!=" | "not in", None) => true,
                    (_, None) => false,
                    ("==", Some(v)) => v == values[0],
                    ("!=", Some(v)) => v != values[0],
                    ("in", Some(v)) => values.contains(&v),
                    ("not in", Some(v)) => !values.contains(&v),
                    ("contains", Some(v)) => v.contains(values[0]),
                    ("starts with", Some(v)) => v.starts_with(values[0]),
                    (_, Some(v)) => v.ends_with(values[0]),
                }
            }
            Model::Not(inner) => !inner.answer(labels),
            Model::Join(true, parts) => parts.iter().all(|p| p.answer(labels)),
            Model::Join(false, parts) => parts.iter().any(|p| p.answer(labels)),
        }
    }
}

const NAMES: [&str; 4] = ["a", "in", "not", "k8s.io/x-y_z"];
const VALUES: [&str; 5] = ["", "a", "ab", "ba", "B"];

fn model() -> impl Strategy<Value = Model> {
    let op = prop::sample::select(
        &["all", "has", "==", "!=", "in", "not in", "contains", "starts with", "ends with"][..],
    );
    let values = prop::collection::vec(prop::sample::select(&VALUES[..]), 1..4);
    let leaf = (op, prop::sample::select(&NAMES[..]), values).prop_map(|(o, l, v)| Model::Leaf(o, l, v));
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|m| Model::Not(Box::new(m))),
            (any::<bool>(), prop::collection::vec(inner, 1..4)).prop_map(|(all, p)| Model::Join(all, p)),
        ]
    })
}

fn label_sets() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    prop::collection::btree_map(prop::sample::select(&NAMES[..]), prop::sample::select(&VALUES[..]), 0..4)
        .prop_map(|m| m.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn evaluation_agrees_with_a_naive_one(m in model(), l in label_sets(), spaced in any::<bool>()) {
        let parsed = parse(&m.text(spaced));
        prop_assert_eq!(parsed.matches(&labels(&l)), m.answer(&l), "{}", parsed);
    }

    #[test]
    fn printing_reads_back(m in model()) {
        let parsed = parse(&m.text(false));
        prop_assert_eq!(&parse(&parsed.to_string()), &parsed);
        prop_assert_eq!(parsed.negated().negated(), parse(&m.text(true)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-c!&|(){}'\"=, \t\\néinthas.]{0,40}") {
        match text.parse::<Selector>() {
            Ok(s) => prop_assert_eq!(&parse(&s.to_string()), &s),
            Err(e) => prop_assert!(e.column >= 1 && e.column <= text.chars().count() + 1),
        }
    }
}

#[test]
fn labels_of_any_source() {
    struct Upper;
    impl Labels for Upper {
        fn get(&self, name: &str) -> Option<&str> {
            (name == "x").then_some("y")
        }
    }
    assert!(parse("x == 'y' && !has(z)").matches(&Upper));
}
