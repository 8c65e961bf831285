//! Files to documents: where they are cut, which lines they start at, what is taken apart (calico-datamodel 6.1).

use tortie_model::strict::documents;

/// A text, and the documents in it as `line: JSON`, with the place inside a list in front.
const SPLIT: &[(&str, &[&str])] = &[
    ("", &[]),
    ("\n\n", &[]),
    ("# only a comment\n", &[]),
    ("---\n", &[]),
    ("---\n---\n---\n", &[]),
    ("...\n", &[]),
    ("a: 1", &["1: {\"a\":1}"]),
    ("a: 1\n", &["1: {\"a\":1}"]),
    ("\u{feff}a: 1\n", &["1: {\"a\":1}"]),
    ("---\na: 1\n", &["1: {\"a\":1}"]),
    ("\n---\na: 1\n", &["2: {\"a\":1}"]),
    ("# c\n---\n# d\na: 1\n", &["2: {\"a\":1}"]),
    ("a: 1\n---\nb: 2\n", &["1: {\"a\":1}", "2: {\"b\":2}"]),
    ("a: 1\n---\n", &["1: {\"a\":1}"]),
    ("a: 1\n---", &["1: {\"a\":1}"]),
    ("a: 1\n---\n---\nb: 2\n", &["1: {\"a\":1}", "3: {\"b\":2}"]),
    ("a: 1\n---\n# none\n---\nb: 2\n", &["1: {\"a\":1}", "4: {\"b\":2}"]),
    ("a: 1\r\n---\r\nb: 2\r\n", &["1: {\"a\":1}", "2: {\"b\":2}"]),
    ("a: 1\n--- \t\nb: 2\n", &["1: {\"a\":1}", "2: {\"b\":2}"]),
    ("a: 1\n---\t# comment\nb: 2\n", &["1: {\"a\":1}", "2: {\"b\":2}"]),
    ("a: 1\n--- # comment\nb: 2\n", &["1: {\"a\":1}", "2: {\"b\":2}"]),
    ("--- {\"a\": 1}\n--- {\"b\": 2}\n", &["1: {\"a\":1}", "2: {\"b\":2}"]),
    ("a: 1\n...\nb: 2\n", &["1: {\"a\":1}", "2: {\"b\":2}"]),
    ("a: 1\n...\n---\nb: 2\n", &["1: {\"a\":1}", "3: {\"b\":2}"]),
    // Not at the start of a line, or more than dashes: part of the text.
    ("a: |\n  x\n  ---\n  y\n", &["1: {\"a\":\"x\\n---\\ny\\n\"}"]),
    ("a: ---\n", &["1: {\"a\":\"---\"}"]),
    ("---a: 1\n", &["1: {\"---a\":1}"]),
    ("a: '--- b'\n", &["1: {\"a\":\"--- b\"}"]),
    // JSON.
    ("{\"a\": 1}", &["1: {\"a\":1}"]),
    ("{\"a\": 1}\n---\n{\"b\": 2}\n", &["1: {\"a\":1}", "2: {\"b\":2}"]),
    ("{\n  \"a\": [\n    1\n  ]\n}\n", &["1: {\"a\":[1]}"]),
    ("\t{\"a\":\t1}", &["1: {\"a\":1}"]),
    // Arrays and lists are taken apart, also inside each other.
    ("[]", &[]),
    ("- {a: 1}\n- {b: 2}\n", &["1[0]: {\"a\":1}", "1[1]: {\"b\":2}"]),
    ("[[{a: 1}], {b: 2}]", &["1[0].[0]: {\"a\":1}", "1[1]: {\"b\":2}"]),
    ("kind: List\nitems: []\n", &[]),
    ("kind: List\nitems: [{a: 1}, {b: 2}]\n", &["1items[0]: {\"a\":1}", "1items[1]: {\"b\":2}"]),
    (
        "kind: NodeList\napiVersion: x\nitems: [{a: 1}, {kind: Tier}]\n",
        &[
            "1items[0]: {\"a\":1,\"kind\":\"Node\",\"apiVersion\":\"x\"}",
            "1items[1]: {\"kind\":\"Tier\",\"apiVersion\":\"x\"}",
        ],
    ),
    ("- kind: List\n  items: [{a: 1}]\n", &["1[0].items[0]: {\"a\":1}"]),
    ("kind: Listing\nitems: [{a: 1}]\n", &["1: {\"kind\":\"Listing\",\"items\":[{\"a\":1}]}"]),
    ("kind: List\nitems: 1\n", &["1: {\"kind\":\"List\",\"items\":1}"]),
    // YAML's own spellings.
    ("a: &x {b: 1}\nc: *x\n", &["1: {\"a\":{\"b\":1},\"c\":{\"b\":1}}"]),
    ("a: &x {b: 1}\nc: {<<: *x, d: 2}\n", &["1: {\"a\":{\"b\":1},\"c\":{\"d\":2,\"b\":1}}"]),
    ("a: yes\nb: 0x10\nc: ~\nd: '1'\n", &["1: {\"a\":\"yes\",\"b\":16,\"c\":null,\"d\":\"1\"}"]),
    ("1: a\ntrue: b\n", &["1: {\"1\":\"a\",\"true\":\"b\"}"]),
    ("a: >\n  b\n  c\n", &["1: {\"a\":\"b c\\n\"}"]),
    ("just words\n", &["1: \"just words\""]),
];

#[test]
fn texts_are_cut_into_documents() {
    for (text, expected) in SPLIT {
        let found = documents("f", text).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"));
        let found: Vec<String> =
            found.iter().map(|d| format!("{}{}: {}", d.origin.line, d.origin.item, d.value)).collect();
        assert_eq!(&found, expected, "{text:?}");
    }
}

/// A text, and line and column of each mistake in it.
const BROKEN: &[(&str, &[(usize, usize)])] = &[
    ("a: 1\na: 2\n", &[(1, 1)]),
    ("a: 'b\n", &[(2, 1)]),
    ("a: [1\n---\nb: {\n---\nc: 1\n", &[(2, 1), (4, 1)]),
    ("{\"a\": 1\n", &[(2, 1)]),
    ("\ta: 1\n", &[(1, 1)]),
    ("a: *none\n", &[(1, 4)]),
    ("a: !tag b\n", &[(1, 1)]),
    ("a: .inf\n", &[(1, 1)]),
    ("? [a]\n: b\n", &[(1, 1)]),
    // A mistake at a line's end has a column too.
    ("{\"a\": \"b\nc\"\n\u{1}: 1}", &[(2, 1)]),
];

#[test]
fn mistakes_have_line_and_column_of_the_file() {
    for (text, places) in BROKEN {
        let errors = documents("f", text).expect_err(text);
        let found: Vec<(usize, usize)> = errors.iter().map(|e| (e.line, e.column)).collect();
        assert_eq!(&found, places, "{text:?}: {errors:?}");
    }
}
