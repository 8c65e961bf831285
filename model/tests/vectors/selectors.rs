//! The selector language: matches, mistakes with their column, canonical text and identifier (calico-datamodel 3).

use std::collections::BTreeMap;

use tortie_model::selector::{LabelRestriction, Selector};

fn parse(text: &str) -> Selector {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// `a=b c=` is label a with value b, and c with the empty value.
fn labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').expect("name=value"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Selector, sets of labels that match it, sets that do not. Sets are parted by `|`, an empty one has no labels, `!`
/// stands for no set.
const MATCHES: &[(&str, &str, &str)] = &[
    ("", "|a=b", "!"),
    (" \t ", "|a=b", "!"),
    ("all()", "|a=b", "!"),
    ("all( \t)", "|a=b", "!"),
    ("global()", "|a=b", "!"),
    ("!all()", "!", "|a=b"),
    ("!!all()", "|a=b", "!"),
    ("a == 'b'", "a=b|a=b c=d", "|a=|a=B|a=bb|A=b|c=b"),
    ("a == \"b\"", "a=b", "|a=c"),
    ("a == ''", "a=", "|a=b"),
    ("a != 'b'", "|a=c|a=|a=B", "a=b|a=b c=d"),
    ("a != ''", "|a=b", "a="),
    ("!a == 'b'", "|a=c", "a=b"),
    ("!a != 'b'", "a=b", "|a=c"),
    ("has(a)", "a=|a=b", "|b=a"),
    ("!has(a)", "|b=a", "a=|a=b"),
    ("a in {}", "!", "|a=|a=b"),
    ("a not in {}", "|a=|a=b", "!"),
    ("a in {'b'}", "a=b", "|a=|a=c"),
    ("a in {'b', \"c\",}", "a=b|a=c", "|a=|a=d|a=b,c"),
    ("a in {''}", "a=", "|a=b"),
    ("a not in {'b', 'c'}", "|a=|a=d", "a=b|a=c"),
    ("a notin {'b'}", "|a=c", "a=b"),
    ("!a in {'b'}", "|a=c", "a=b"),
    ("!a not in {'b'}", "a=b", "|a=c"),
    ("a contains 'bc'", "a=bc|a=abcd|a=bbc", "|a=|a=b|a=bBc|a=cb"),
    ("a contains ''", "a=|a=b", "|b="),
    ("a starts with 'bc'", "a=bc|a=bcd", "|a=b|a=abc|a=Bc"),
    ("a startswith ''", "a=|a=b", "|b="),
    ("a ends with 'bc'", "a=bc|a=abc", "|a=c|a=bcd"),
    ("a endswith ''", "a=|a=b", "|b="),
    ("!a contains 'b'", "|a=c", "a=b"),
    ("!a starts with 'b'", "|a=cb", "a=bc"),
    ("!a ends with 'b'", "|a=bc", "a=cb"),
    ("has(a) && has(b)", "a= b=", "|a=|b="),
    ("has(a) || has(b)", "a=|b=|a= b=", "|c="),
    ("has(a) || has(b) && has(c)", "a=|b= c=", "|b=|c="),
    ("has(a) && has(b) || has(c)", "a= b=|c=", "|a=|b="),
    ("(has(a) || has(b)) && has(c)", "a= c=|b= c=", "|a=|b=|c=|a= b="),
    ("!has(a) && has(b)", "b=", "|a=|a= b="),
    ("!(has(a) && has(b))", "|a=|b=", "a= b="),
    ("!(has(a) || has(b))", "|c=", "a=|b="),
    ("!!has(a)", "a=", "|b="),
    ("! ! ! has(a)", "", "a="),
    ("a == 'x' && a == 'y'", "!", "|a=x|a=y"),
    ("has(a) || !has(a)", "|a=", "!"),
    // Keywords are labels wherever the grammar wants a label.
    ("in == 'x'", "in=x", "|in=y"),
    ("in in {'x'}", "in=x", "|in=y"),
    ("not not in {'x'}", "|not=y", "not=x"),
    ("contains contains 'x'", "contains=axb", "|contains=y"),
    ("startswith starts with 'v'", "startswith=vw", "|startswith=w"),
    ("ends ends with 'v'", "ends=wv", "|ends=w"),
    ("has == 'x'", "has=x", "|a=x"),
    ("all == 'x' && global != 'y'", "all=x", "|all=x global=y"),
    ("has(has)", "has=", "|a="),
    ("has(in) && in in {'in'}", "in=in", "|in="),
    // Space and no space.
    ("a=='b'", "a=b", "|a=c"),
    ("a!='x'&&!has(b)||c in{\"d\"}", "|a=y|b= c=d|a=x c=d", "a=x|b="),
    ("a in{'b'}", "a=b", "|a=c"),
    ("a notin{'b'}", "|a=c", "a=b"),
    ("a not   in{'b'}", "|a=c", "a=b"),
    ("a contains'b'", "a=abc", "|a=c"),
    ("a starts \t with'b'", "a=bc", "|a=c"),
    ("a endswith\"b\"", "a=cb", "|a=c"),
    ("\thas(\ta\t)\t", "a=", "|b="),
    ("((((a == 'b'))))", "a=b", "|a=c"),
    // All characters of labels, and values the language does not restrict.
    ("a.b/c-d_e0 == '1'", "a.b/c-d_e0=1", "|a.b/c-d_e=1"),
    ("-._/ == 'x'", "-._/=x", "|a=x"),
    ("0 == '0'", "0=0", "|0=1"),
    ("A == 'x'", "A=x", "|a=x"),
    ("a == \"it's\"", "a=it's", "|a=its"),
    ("a == 'say\"x'", "a=say\"x", "|a=sayx"),
    ("a == '&&!(){},=='", "a=&&!(){},==", "|a=&&"),
    ("a contains '\\'", "a=\\", "|a=/"),
    ("a == 'ä€😀'", "a=ä€😀", "|a=ä"),
];

#[test]
fn matches() {
    for (text, matching, others) in MATCHES {
        let selector = parse(text);
        for (sets, expected) in [(matching, true), (others, false)] {
            for set in sets.split('|').filter(|set| *set != "!") {
                assert_eq!(selector.matches(&labels(set)), expected, "{text} on {{{set}}}");
            }
        }
    }
}

/// Text, 1-based column of the mistake, a word of the reason.
const MISTAKES: &[(&str, usize, &str)] = &[
    ("a", 2, "operator"),
    ("a b", 3, "operator"),
    ("a = 'b'", 3, "operator"),
    ("a === 'b'", 5, "unexpected"),
    ("a == b", 6, "string"),
    ("a ==", 5, "string"),
    ("a == 'b", 6, "closed"),
    ("a == b'", 7, "closed"),
    ("a == 'b\"", 6, "closed"),
    ("a == 'b' 'c'", 10, "end"),
    ("a == 'b' has(c)", 10, "end"),
    ("a inb", 3, "operator"),
    ("a in_ {'b'}", 3, "operator"),
    ("a in 'b'", 6, "'{'"),
    ("a in {'b'", 10, "set"),
    ("a in {'b' 'c'}", 11, "set"),
    ("a in {,'b'}", 7, "set"),
    ("a in {'b',,'c'}", 11, "set"),
    ("a in {b}", 7, "string"),
    ("a in ('b')", 6, "'{'"),
    ("a not {'b'}", 3, "operator"),
    ("a no tin {'b'}", 3, "operator"),
    ("a notinn {'b'}", 3, "operator"),
    ("a starts 'b'", 3, "operator"),
    ("a with 'b'", 3, "operator"),
    ("a startswithx 'b'", 3, "operator"),
    ("a contains {'b'}", 12, "string"),
    ("a Contains 'b'", 3, "operator"),
    ("a IN {'b'}", 3, "operator"),
    ("has", 4, "operator"),
    ("has(", 1, "label"),
    ("has()", 1, "unexpected"),
    ("has(a", 1, "')'"),
    ("has('a')", 1, "unexpected"),
    ("has (a)", 5, "operator"),
    ("HAS(a)", 4, "operator"),
    ("all", 4, "operator"),
    ("all ()", 5, "operator"),
    ("all(", 4, "operator"),
    ("global(a)", 7, "operator"),
    ("all() all()", 7, "end"),
    ("all() in {'b'}", 7, "end"),
    ("all() and has(a)", 11, "operator"),
    ("()", 2, "label"),
    ("(", 2, "label"),
    (")", 1, "label"),
    ("(has(a)", 8, "')'"),
    ("has(a))", 7, "end"),
    ("(has(a) has(b))", 9, "')'"),
    ("&& has(a)", 1, "label"),
    ("has(a) &&", 10, "label"),
    ("has(a) && && has(b)", 11, "label"),
    ("has(a) & has(b)", 8, "unexpected"),
    ("has(a) | has(b)", 8, "unexpected"),
    ("has(a) || || has(b)", 11, "label"),
    ("!", 2, "label"),
    ("has(a) !", 8, "end"),
    ("a ! == 'b'", 3, "operator"),
    ("'a' == 'b'", 1, "label"),
    ("{'a'}", 1, "label"),
    (", has(a)", 1, "label"),
    ("== 'a'", 1, "label"),
    ("a == 'b'\n", 9, "unexpected"),
    ("a ==\u{a0}'b'", 5, "unexpected"),
    ("a == 'b'\r", 9, "unexpected"),
    ("ä == 'b'", 1, "unexpected"),
    ("a == 'ä' ä", 10, "unexpected"),
    ("a:b == 'c'", 2, "operator"),
    ("a@ == 'c'", 2, "operator"),
    ("has(a) # b", 8, "unexpected"),
];

#[test]
fn mistakes_have_their_column() {
    for (text, column, word) in MISTAKES {
        let error = text.parse::<Selector>().expect_err(text);
        assert_eq!(error.column, *column, "{error}");
        assert!(error.reason.contains(word), "{error}");
    }
}

/// Text, canonical text, identifier. The identifiers were computed apart from our code, with Python:
/// `"s:" + urlsafe_b64encode(sha224(b"s:" + canonical).digest()).rstrip(b"=")`. Those of the first three rows are
/// upstream's own.
const CANONICAL: &[(&str, &str, &str)] = &[
    ("", "all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
    ("! (has( b)||! has(a ))", "!(has(b) || !has(a))", "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q"),
    (
        "! (a == \"b\"&&! c != \"d\")",
        "!(a == \"b\" && !c != \"d\")",
        "s:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w",
    ),
    ("  ", "all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
    ("all( )", "all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
    ("(all())", "all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
    ("global()", "global()", "s:fiJDJdBoaP_zQxty70sMjIrxwAb5lgM6LYCAow"),
    ("!all()", "!all()", "s:Z9zLaL1EHxF9kgXz1JwBD_e-AJbeJyFDpG-oKw"),
    ("a=='b'", "a == \"b\"", "s:flMh0m0X_BowkAK_W3j3MgH8oQOsj3WxGDoXCQ"),
    ("((a == 'b'))", "a == \"b\"", "s:flMh0m0X_BowkAK_W3j3MgH8oQOsj3WxGDoXCQ"),
    ("a == 'b\"c'", "a == 'b\"c'", "s:QSxJSZxHJwyW1ce6Op0w-M2Jc4us_NTq8sXiMA"),
    ("a == \"b'c\"", "a == \"b'c\"", "s:PK__jrIuA2bigpWgrkVxf1o-drEoVevRSdxBtw"),
    ("a == ''", "a == \"\"", "s:eKfdFJbAF5Xg5k6WX9C09dMzhMPbZErhhP07gg"),
    ("a!='b'", "a != \"b\"", "s:w8cB9lYGgPdxKIznYRyiLzdgqboN8ZbHwER-Sw"),
    ("a in {'c','b','c',}", "a in {\"b\", \"c\"}", "s:SWnTWyWAHLeqA5PXVyAxVZVSk3-7hrbBcNkTsA"),
    ("a in {}", "a in {}", "s:kb2fVDRrw4GCK1BiCSFIDXY6INw32pzbLrG4dQ"),
    ("a notin {'b'}", "a not in {\"b\"}", "s:szHD77Zj0J8wC-PDMvAdDp8Nw7x4NzsnPvE4qQ"),
    ("a not  in{}", "a not in {}", "s:Bg4ONC7zmSROAdxwdGHq4RKf_s32O173Jm-mjA"),
    ("a in {'b\"',\"a\"}", "a in {\"a\", 'b\"'}", "s:bTgZJZVidOGejY0iy1gSBpcyVxMDiglNWDZdjA"),
    ("a in {'b', 'B', ''}", "a in {\"\", \"B\", \"b\"}", "s:bCL_kFK-Qp-aSgOUxqqN1OWKl1Zcq82OPd0w5A"),
    (
        "a in {'é', 'z', '10', '9'}",
        "a in {\"10\", \"9\", \"z\", \"é\"}",
        "s:BpvTxPOgXrrgKnLJPf-2A2En268EBFEBzukSLg",
    ),
    ("a contains'b'", "a contains \"b\"", "s:wfw20Eu5B1vV1Xg5q6m45BnNJZWv3tw5oqc5nw"),
    ("a startswith 'b'", "a starts with \"b\"", "s:0_mDrlSDd1VefHEzd3W4qIONvihbls9Mq36o2A"),
    ("a starts   with 'b'", "a starts with \"b\"", "s:0_mDrlSDd1VefHEzd3W4qIONvihbls9Mq36o2A"),
    ("a endswith 'b'", "a ends with \"b\"", "s:Kfj4_0Sws3Md6f6TCoZZjXQYTp0-jDa0VQQtjw"),
    ("has( a )", "has(a)", "s:JpRGrxZ4kdS6g7WoF-uG_g7qlh2ipw2zGYBMpQ"),
    ("!has(a)", "!has(a)", "s:o54_r2fLf2o-LJfoAaKVj8JvPRHKmJA2mXVR7g"),
    ("! !has(a)", "has(a)", "s:JpRGrxZ4kdS6g7WoF-uG_g7qlh2ipw2zGYBMpQ"),
    ("!!!has(a)", "!has(a)", "s:o54_r2fLf2o-LJfoAaKVj8JvPRHKmJA2mXVR7g"),
    ("has(a)&&has(b)", "(has(a) && has(b))", "s:L5otXtcYTF2aQ7bsYVZbHuREmgTax44U4byxrA"),
    ("has(a)||has(b)", "(has(a) || has(b))", "s:2_Qt2VI8nhnum8EbAgIMZKBUPACwKvNlEW8l2A"),
    ("has(b)&&has(a)", "(has(b) && has(a))", "s:Tblh-WRDl4HQrF_XxjlnElDpIlKZroqfyNbe-A"),
    (
        "has(a) && has(b) && has(c)",
        "(has(a) && has(b) && has(c))",
        "s:gs_eSa6x0NGzKI8LLBurWaB1D2ygJtb_lVCaaw",
    ),
    (
        "has(a) && (has(b) && has(c))",
        "(has(a) && (has(b) && has(c)))",
        "s:GljJ0y7HNsY9N3Ua0ALAS9k3IgkAjQ1rtMfBmg",
    ),
    (
        "has(a) && has(b) || has(c)",
        "((has(a) && has(b)) || has(c))",
        "s:KWF1hm0FW8sh9F1JgatEiY1dJys4bLH89t1b7A",
    ),
    (
        "has(a) || has(b) && has(c)",
        "(has(a) || (has(b) && has(c)))",
        "s:aR3P0TthpWZBiEvH12l5FjwojhR3P6Oc07XEqw",
    ),
    (
        "(has(a) || has(b)) && has(c)",
        "((has(a) || has(b)) && has(c))",
        "s:6PomCkFfR13o-d-CXaZiWTNvYJivnXr0a_W-dA",
    ),
    ("!(has(a))", "!has(a)", "s:o54_r2fLf2o-LJfoAaKVj8JvPRHKmJA2mXVR7g"),
    ("!(has(a) && has(b))", "!(has(a) && has(b))", "s:M3YRIBNiT2a_gmUpSckmgY5yK0TbbXpQAOILHQ"),
    ("! a == 'b' && c == 'd'", "(!a == \"b\" && c == \"d\")", "s:TmdQDDZT_iH1CXuLwEofBjfNOn5v-rUsaNp56Q"),
    ("a.b/c-d_E == 'x'", "a.b/c-d_E == \"x\"", "s:5r7w9WEiM4wG7WY4DFmaeFFlVKakCCn7nac3tA"),
    (
        "(a == 'b') && projectcalico.org/namespace == 'ns1'",
        "(a == \"b\" && projectcalico.org/namespace == \"ns1\")",
        "s:Ogh0WlBy4g2h6YEjfQ7ec7QTODhBk-SMx_kZ9g",
    ),
];

#[test]
fn canonical_text_and_identifier() {
    for (text, canonical, id) in CANONICAL {
        let selector = parse(text);
        assert_eq!(selector.to_string(), *canonical, "{text}");
        assert_eq!(selector.unique_id(), *id, "{text}");
        let again = parse(canonical);
        assert_eq!(again, selector);
        assert_eq!(again.to_string(), *canonical, "canonical text is a fixed point");
    }
}

#[test]
fn labels_have_at_most_512_characters() {
    let name = |length| "a".repeat(length);
    for text in [format!("{} == 'b'", name(512)), format!("has({})", name(512))] {
        assert!(text.parse::<Selector>().is_ok());
    }
    for text in [format!("{} == 'b'", name(513)), format!("has({})", name(513))] {
        assert!(text.parse::<Selector>().is_err());
    }
}

/// Selector and what it asks of labels: `a` present, `-a` absent, `a=b,c` one of the values; `never` when nothing
/// matches, empty when nothing is sure.
const RESTRICTIONS: &[(&str, &str)] = &[
    ("", ""),
    ("global()", ""),
    ("!all()", "never"),
    ("a == 'b'", "a=b"),
    ("a != 'b'", ""),
    ("!a == 'b'", ""),
    ("!a != 'b'", "a=b"),
    ("a in {'c', 'b'}", "a=b,c"),
    ("a in {}", "never"),
    ("!a in {'b'}", ""),
    ("!a not in {'c', 'b'}", "a=b,c"),
    ("!a not in {}", "never"),
    ("a not in {'b'}", ""),
    ("has(a)", "a"),
    ("!has(a)", "-a"),
    ("!!has(a)", "a"),
    ("a contains 'b'", "a"),
    ("a starts with 'b'", "a"),
    ("a ends with 'b'", "a"),
    ("!a contains 'b'", ""),
    ("!a starts with 'b'", ""),
    ("!a ends with 'b'", ""),
    // A conjunction asks for all of it, and narrows.
    ("has(a) && b == 'c' && !has(d)", "a b=c -d"),
    ("has(a) && a == 'b'", "a=b"),
    ("a == 'b' && has(a)", "a=b"),
    ("a in {'b', 'c'} && a in {'c', 'd'}", "a=c"),
    ("a == 'b' && a == 'c'", "never"),
    ("has(a) && !has(a)", "never"),
    ("!has(a) && a == 'b'", "never"),
    ("!has(a) && !has(a)", "-a"),
    ("has(a) && a in {}", "never"),
    ("all() && has(a)", "a"),
    ("a != 'b' && has(a)", "a"),
    // A disjunction asks for what all its members ask for, and widens.
    ("a == 'b' || a == 'c'", "a=b,c"),
    ("a == 'b' || has(a)", "a"),
    ("has(a) || a in {'b'}", "a"),
    ("a == 'b' || !has(a)", ""),
    ("!has(a) || has(a)", ""),
    ("!has(a) || !has(a)", "-a"),
    ("a == 'b' || b == 'a'", ""),
    ("a == 'b' && has(c) || a == 'd' && has(e)", "a=b,d"),
    ("a == 'b' || all()", ""),
    ("a == 'b' || a in {}", "a=b"),
    ("a in {} || b in {}", "never"),
    ("(a == 'b' && a == 'c') || d == 'e'", "d=e"),
    // The opposite turns one into the other.
    ("!(has(a) || has(b))", "-a -b"),
    ("!(has(a) && has(b))", ""),
    ("!(a != 'b' || c != 'd')", "a=b c=d"),
    ("!(a != 'b' && a != 'c')", "a=b,c"),
    ("!(!(a == 'b'))", "a=b"),
    ("!(all() && a == 'b')", ""),
    ("!(all() || a == 'b')", "never"),
];

#[test]
fn restrictions() {
    for (text, expected) in RESTRICTIONS {
        let selector = parse(text);
        let found = selector.restrictions().map_or("never".to_owned(), |restrictions| {
            let words = restrictions.iter().map(|(label, restriction)| match restriction {
                LabelRestriction::MustBePresent => (*label).to_owned(),
                LabelRestriction::MustBeAbsent => format!("-{label}"),
                LabelRestriction::MustHaveOneOfValues(values) => {
                    format!("{label}={}", values.iter().copied().collect::<Vec<_>>().join(","))
                }
            });
            words.collect::<Vec<_>>().join(" ")
        });
        assert_eq!(&found, expected, "{text}");
    }
}
