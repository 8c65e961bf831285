//! Text to tokens (calico-datamodel 3.1). Keywords are words only where the grammar can use them: `has(`, `all(` and
//! `global(` at the start of an operand, operators right after a label; everywhere else the same letters are a label.

/// A token and the byte offset where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) offset: usize,
}

/// What a token is. [`Kind::End`] closes every list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    Label(&'a str),
    Text(&'a str),
    Open,
    Close,
    OpenSet,
    CloseSet,
    Comma,
    And,
    Or,
    Not,
    All,
    Global,
    Has(&'a str),
    Operator(Operator),
    End,
}

/// An operator between a label and a literal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
}

/// A mistake, with the byte offset where it is.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) offset: usize,
    pub(super) reason: String,
}

/// Longest label name.
const MAX_LABEL: usize = 512;

const PUNCTUATION: [(&str, Kind<'static>); 10] = [
    ("==", Kind::Operator(Operator::Equal)),
    ("!=", Kind::Operator(Operator::NotEqual)),
    ("&&", Kind::And),
    ("||", Kind::Or),
    ("!", Kind::Not),
    ("(", Kind::Open),
    (")", Kind::Close),
    ("{", Kind::OpenSet),
    ("}", Kind::CloseSet),
    (",", Kind::Comma),
];

/// Operators spelt as words; the two words of one may be joined or apart.
const WORDS: [(&[&str], Operator); 5] = [
    (&["contains"], Operator::Contains),
    (&["starts", "with"], Operator::StartsWith),
    (&["ends", "with"], Operator::EndsWith),
    (&["not", "in"], Operator::NotIn),
    (&["in"], Operator::In),
];

/// Cuts a text into tokens, the last of which is [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Mistake> {
    let mut found = Vec::new();
    let mut rest = skip_space(text);
    let mut after_label = false;
    while !rest.is_empty() {
        let offset = text.len() - rest.len();
        let (kind, remaining) = next(rest, after_label).map_err(|reason| Mistake { offset, reason })?;
        after_label = matches!(kind, Kind::Label(_));
        found.push(Token { kind, offset });
        rest = skip_space(remaining);
    }
    found.push(Token { kind: Kind::End, offset: text.len() });
    Ok(found)
}

fn next(rest: &str, after_label: bool) -> Result<(Kind<'_>, &str), String> {
    for (sign, kind) in PUNCTUATION {
        if let Some(remaining) = rest.strip_prefix(sign) {
            return Ok((kind, remaining));
        }
    }
    for quote in ['"', '\''] {
        if let Some(body) = rest.strip_prefix(quote) {
            let (value, remaining) =
                body.split_once(quote).ok_or_else(|| format!("string is not closed by {quote}"))?;
            return Ok((Kind::Text(value), remaining));
        }
    }
    if after_label { word_operator(rest) } else { operand(rest) }
}

fn word_operator(rest: &str) -> Result<(Kind<'_>, &str), String> {
    for (words, operator) in WORDS {
        let mut remaining = Some(rest);
        for word in words {
            remaining = remaining.and_then(|r| skip_space(r).strip_prefix(word));
        }
        if let Some(remaining) = remaining.filter(|r| !r.starts_with(is_word)) {
            return Ok((Kind::Operator(operator), remaining));
        }
    }
    Err("expected an operator after the label: ==, !=, in, not in, contains, starts with, ends with"
        .to_owned())
}

fn operand(rest: &str) -> Result<(Kind<'_>, &str), String> {
    if let Some(remaining) = rest.strip_prefix("all(").and_then(|r| skip_space(r).strip_prefix(')')) {
        return Ok((Kind::All, remaining));
    }
    if let Some(remaining) = rest.strip_prefix("global(").and_then(|r| skip_space(r).strip_prefix(')')) {
        return Ok((Kind::Global, remaining));
    }
    if let Some(inside) = rest.strip_prefix("has(") {
        let (label, after) = label(skip_space(inside))?;
        let remaining = skip_space(after).strip_prefix(')').ok_or("expected ')' after the label of has(")?;
        return Ok((Kind::Has(label), remaining));
    }
    let (label, remaining) = label(rest)?;
    Ok((Kind::Label(label), remaining))
}

fn label(rest: &str) -> Result<(&str, &str), String> {
    let end = rest.find(|c| !is_label(c)).unwrap_or(rest.len());
    match end {
        0 => Err(match rest.chars().next() {
            Some(c) => format!("unexpected character {c:?}"),
            None => "expected a label name".to_owned(),
        }),
        1..=MAX_LABEL => Ok(rest.split_at(end)),
        _ => Err(format!("label name of {end} characters, at most {MAX_LABEL} are allowed")),
    }
}

fn is_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./-".contains(c)
}

/// A character after which an operator's word would go on.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

#[cfg(test)]
mod tests;
