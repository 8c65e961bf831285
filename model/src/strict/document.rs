//! Text to documents: YAML or JSON, several in a file, lists and arrays taken apart.
//!
//! A file is cut at lines `---` before it is parsed, so a mistake in one document does not hide the others, and each
//! error has the line of the whole file.

use std::fmt;

use serde_json::Value;

/// Larger inputs are refused (calico-datamodel 6.1).
pub const MAX_INPUT_BYTES: usize = 10 << 20;

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// File name as the user gave it, `-` for standard input.
    pub file: String,
    /// 1-based, empty documents not counted; 0 for a text that is no file, such as an argument.
    pub document: usize,
    /// 1-based line where the document starts.
    pub line: usize,
    /// Place inside a list, such as `items[2]`; empty for a document of its own.
    pub item: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = if self.file == "-" { "standard input" } else { &self.file };
        if self.document == 0 {
            return f.write_str(file);
        }
        write!(f, "{file}, document {} (line {})", self.document, self.line)?;
        if self.item.is_empty() { Ok(()) } else { write!(f, ", {}", self.item) }
    }
}

/// One document, parsed but not yet understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it stands.
    pub origin: Origin,
    /// What it says.
    pub value: Value,
}

/// Text that is neither YAML nor JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: broken YAML at line {line}, column {column}: {reason}")]
pub struct SyntaxError {
    /// The document.
    pub origin: Origin,
    /// 1-based line in the file.
    pub line: usize,
    /// 1-based column.
    pub column: usize,
    /// What the parser says.
    pub reason: String,
}

/// All documents of a text; `file` is only said in origins and errors.
///
/// # Errors
/// Every document that cannot be parsed, or one error for a text over [`MAX_INPUT_BYTES`].
pub fn documents(file: &str, text: &str) -> Result<Vec<Document>, Vec<SyntaxError>> {
    let origin = |document, line| Origin { file: file.to_owned(), document, line, item: String::new() };
    if text.len() > MAX_INPUT_BYTES {
        let reason = format!("the input has {} bytes, at most {MAX_INPUT_BYTES} are read", text.len());
        return Err(vec![SyntaxError { origin: origin(1, 1), line: 1, column: 1, reason }]);
    }
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    let mut number = 0;
    for Piece { line, text } in pieces(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let origin = origin(number + 1, line);
        match parse(text) {
            Ok(Value::Null) => continue,
            Ok(value) => take_apart(Document { origin, value }, &mut documents),
            Err(_) => errors.push(syntax_error(origin, text)),
        }
        number += 1;
        if errors.len() == MAX_SYNTAX_ERRORS {
            break;
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

/// After so many the file is most likely no YAML at all.
const MAX_SYNTAX_ERRORS: usize = 20;

/// Parses a broken document once more at its place in the file, so that every line the parser names is the file's.
fn syntax_error(origin: Origin, text: &str) -> SyntaxError {
    let in_place = "\n".repeat(origin.line - 1) + text;
    let Fault { line, column, reason } = parse(&in_place).err().unwrap_or(Fault {
        line: origin.line,
        column: 1,
        reason: "cannot be parsed".to_owned(),
    });
    // serde_json counts a mistake at a line's end as column 0 of the next.
    SyntaxError { origin, line, column: column.max(1), reason }
}

/// A part of the text between separators.
struct Piece<'t> {
    /// 1-based line of its first line with content.
    line: usize,
    text: &'t str,
}

/// Cuts at lines `---` and `...`. A separator may be followed by content on its line, so it is replaced by nothing
/// only as far as its three characters go.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let separator = ["---", "..."].into_iter().find(|mark| {
            line.strip_prefix(mark)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        });
        if separator.is_some() {
            pieces.push(Piece { line: start_line, text: &text[start..offset] });
            start = offset + 3 + blanks_before_nothing(&line[3..]);
            start_line = index + 1;
        }
        offset += line.len();
    }
    pieces.push(Piece { line: start_line, text: &text[start..] });
    pieces
}

/// Length of the blanks after a separator on a line without content: the parser refuses tabs at the start of a text.
fn blanks_before_nothing(rest: &str) -> usize {
    let content = rest.trim_start_matches([' ', '\t']);
    if content.trim_end().is_empty() || content.starts_with('#') { rest.len() - content.len() } else { 0 }
}

struct Fault {
    line: usize,
    column: usize,
    reason: String,
}

/// One document. What begins like JSON is tried as JSON first; when neither parser likes it, the one that came
/// further says why.
fn parse(text: &str) -> Result<Value, Fault> {
    let looks_like_json = text.trim_start().starts_with(['{', '[']);
    let json_fault = match looks_like_json.then(|| serde_json::from_str::<Value>(text)) {
        Some(Ok(value)) => return Ok(value),
        Some(Err(error)) => {
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
            Some(Fault { line: error.line(), column: error.column(), reason })
        }
        None => None,
    };
    let yaml_fault = match parse_yaml(text) {
        Ok(value) => return Ok(value),
        Err(fault) => fault,
    };
    match json_fault {
        Some(json) if (json.line, json.column) >= (yaml_fault.line, yaml_fault.column) => Err(json),
        _ => Err(yaml_fault),
    }
}

fn parse_yaml(text: &str) -> Result<Value, Fault> {
    let fault = |error: serde_yaml::Error| {
        let (line, column) = error.location().map_or((1, 1), |l| (l.line(), l.column()));
        let reason = error.to_string();
        let place = format!(" at line {line} column {column}");
        Fault { line, column, reason: reason.replacen(&place, "", 1) }
    };
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).map_err(fault)?;
    value.apply_merge().map_err(fault)?;
    yaml_to_json(value).map_err(|reason| Fault { line: 1, column: 1, reason })
}

/// YAML's extras over JSON: keys that are no text become text; tags and non-finite numbers are refused.
fn yaml_to_json(value: serde_yaml::Value) -> Result<Value, String> {
    use serde_yaml::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => yaml_number(&number)?,
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(yaml_to_json).collect::<Result<_, _>>()?),
        Yaml::Mapping(members) => {
            let members = members.into_iter().map(|(key, value)| Ok((key_text(key)?, yaml_to_json(value)?)));
            Value::Object(members.collect::<Result<_, String>>()?)
        }
        Yaml::Tagged(tagged) => return Err(format!("tag {} is not supported", tagged.tag)),
    })
}

fn yaml_number(number: &serde_yaml::Number) -> Result<Value, String> {
    if let Some(n) = number.as_u64() {
        return Ok(n.into());
    }
    if let Some(n) = number.as_i64() {
        return Ok(n.into());
    }
    let float = number.as_f64().and_then(serde_json::Number::from_f64);
    float.map(Value::Number).ok_or_else(|| format!("the number {number} is not finite"))
}

fn key_text(key: serde_yaml::Value) -> Result<String, String> {
    use serde_yaml::Value as Yaml;
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Bool(value) => Ok(value.to_string()),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Null => Ok("null".to_owned()),
        Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => Err("a field name must be text".to_owned()),
    }
}

/// Splits arrays, `List` and `<Kind>List` into their items. An item without `kind` gets the list's.
fn take_apart(document: Document, into: &mut Vec<Document>) {
    let Document { origin, mut value } = document;
    let at = |prefix: &str, index: usize| {
        let item = format!("{prefix}[{index}]");
        let item = if origin.item.is_empty() { item } else { format!("{}.{item}", origin.item) };
        Origin { item, ..origin.clone() }
    };
    match value {
        Value::Array(items) => {
            for (index, value) in items.into_iter().enumerate() {
                take_apart(Document { origin: at("", index), value }, into);
            }
        }
        Value::Object(ref mut list) if is_list(list) => {
            let text = |name| list.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (kind, api_version) = (text("kind"), text("apiVersion"));
            let item_kind = kind.strip_suffix("List").unwrap_or_default().to_owned();
            let Some(Value::Array(items)) = list.remove("items") else { return };
            for (index, mut value) in items.into_iter().enumerate() {
                if let Value::Object(item) = &mut value
                    && !item_kind.is_empty()
                {
                    item.entry("kind").or_insert_with(|| Value::String(item_kind.clone()));
                    item.entry("apiVersion").or_insert_with(|| Value::String(api_version.clone()));
                }
                take_apart(Document { origin: at("items", index), value }, into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            into.push(Document { origin, value });
        }
    }
}

fn is_list(object: &serde_json::Map<String, Value>) -> bool {
    let named_list = object.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    named_list && matches!(object.get("items"), Some(Value::Array(_)))
}
