use super::*;

/// A text, and its tokens as `offset:kind`.
const TOKENS: &[(&str, &str)] = &[
    ("", "0:End"),
    (" \t ", "3:End"),
    ("a", "0:Label(a) 1:End"),
    ("a == 'b'", "0:Label(a) 2:Equal 5:Text(b) 8:End"),
    ("a=='b'", "0:Label(a) 1:Equal 3:Text(b) 6:End"),
    ("a!=\"b\"", "0:Label(a) 1:NotEqual 3:Text(b) 6:End"),
    ("a == ''", "0:Label(a) 2:Equal 5:Text() 7:End"),
    ("a in {'b','c'}", "0:Label(a) 2:In 5:OpenSet 6:Text(b) 9:Comma 10:Text(c) 13:CloseSet 14:End"),
    ("a in{}", "0:Label(a) 2:In 4:OpenSet 5:CloseSet 6:End"),
    ("a in\"c\"", "0:Label(a) 2:In 4:Text(c) 7:End"),
    ("a notin\"b\"", "0:Label(a) 2:NotIn 7:Text(b) 10:End"),
    ("a not in {", "0:Label(a) 2:NotIn 9:OpenSet 10:End"),
    ("a not \t in {", "0:Label(a) 2:NotIn 11:OpenSet 12:End"),
    ("a contains 'b'", "0:Label(a) 2:Contains 11:Text(b) 14:End"),
    ("a starts with 'b'", "0:Label(a) 2:StartsWith 14:Text(b) 17:End"),
    ("a startswith 'b'", "0:Label(a) 2:StartsWith 13:Text(b) 16:End"),
    ("a ends  with'b'", "0:Label(a) 2:EndsWith 12:Text(b) 15:End"),
    ("a endswith(", "0:Label(a) 2:EndsWith 10:Open 11:End"),
    ("all()", "0:All 5:End"),
    ("all(\t )", "0:All 7:End"),
    ("global()", "0:Global 8:End"),
    ("has(a)", "0:Has(a) 6:End"),
    ("has( a\t)", "0:Has(a) 8:End"),
    ("has(has)", "0:Has(has) 8:End"),
    ("!has(a)", "0:Not 1:Has(a) 7:End"),
    ("!!a", "0:Not 1:Not 2:Label(a) 3:End"),
    ("! (all())", "0:Not 2:Open 3:All 8:Close 9:End"),
    ("all()&&all()", "0:All 5:And 7:All 12:End"),
    ("all() || all()", "0:All 6:Or 9:All 14:End"),
    ("a.b/c-d_e0", "0:Label(a.b/c-d_e0) 10:End"),
    // Keywords after a label are operators, elsewhere labels.
    ("in in", "0:Label(in) 3:In 5:End"),
    ("in == 'in'", "0:Label(in) 3:Equal 6:Text(in) 10:End"),
    ("startswith starts with \"v\"", "0:Label(startswith) 11:StartsWith 23:Text(v) 26:End"),
    ("has == 'x'", "0:Label(has) 4:Equal 7:Text(x) 10:End"),
    ("allx", "0:Label(allx) 4:End"),
    ("hasa", "0:Label(hasa) 4:End"),
    ("notin notin {", "0:Label(notin) 6:NotIn 12:OpenSet 13:End"),
    // Strings have no escapes and end at their own quote.
    ("a == 'say \"b\"'", "0:Label(a) 2:Equal 5:Text(say \"b\") 14:End"),
    ("a == \"it's\"", "0:Label(a) 2:Equal 5:Text(it's) 11:End"),
    ("a == 'b\\'", "0:Label(a) 2:Equal 5:Text(b\\) 9:End"),
    ("a == 'ä' && b", "0:Label(a) 2:Equal 5:Text(ä) 10:And 13:Label(b) 14:End"),
];

#[test]
fn texts_are_cut_into_tokens() {
    for (text, expected) in TOKENS {
        let word = |token: &Token<'_>| {
            let kind = if let Kind::Label(name) = token.kind {
                format!("Label({name})")
            } else if let Kind::Text(value) = token.kind {
                format!("Text({value})")
            } else if let Kind::Has(name) = token.kind {
                format!("Has({name})")
            } else if let Kind::Operator(operator) = token.kind {
                format!("{operator:?}")
            } else {
                format!("{:?}", token.kind)
            };
            format!("{}:{kind}", token.offset)
        };
        let found = tokens(text).unwrap_or_else(|mistake| panic!("{text}: {mistake:?}"));
        assert_eq!(found.iter().map(word).collect::<Vec<_>>().join(" "), *expected, "{text}");
    }
}

#[test]
fn what_is_no_token_is_named_with_its_offset() {
    for (text, offset) in [
        ("a == 'b'\n", 8),
        ("a == 'b", 5),
        ("a inb", 2),
        ("a in_", 2),
        ("a containsx", 2),
        ("a notinx", 2),
        ("has(a", 0),
        ("has(", 0),
        ("a & b", 2),
        ("a = b", 2),
        ("a == 'b' ; c", 9),
        ("ä", 0),
        ("a == 'ä' ä", 10),
    ] {
        assert_eq!(tokens(text).expect_err(text).offset, offset, "{text}");
    }
}
