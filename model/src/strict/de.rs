//! A serde deserializer over JSON values that notes every unknown field and every value of the wrong type.
//!
//! serde stops at the first wrong value. [`from_value`] then marks the place as absent and reads again, until the
//! document is read or the document itself is the wrong value: each round reports one more mistake.
//! It never changes the document and never panics on any value.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::words::{explained, plain_words};
use super::{Problem, nearest, shortened};

/// Rounds after which the rest of a hopeless document is not looked at.
const MAX_WRONG_VALUES: usize = 50;

/// Reads a `T` from `value`, which stands at `path` in the document. The value is `None` when a problem touches the
/// whole of it. Problems are in the order of the document as far as known.
pub(crate) fn from_value<T: DeserializeOwned>(path: &str, value: &Value) -> (Option<T>, Vec<Problem>) {
    let notes = Notes::default();
    let mut problems = Vec::new();
    let mut result = None;
    for _ in 0..MAX_WRONG_VALUES {
        match T::deserialize(Reader { value, path: path.to_owned(), notes: &notes }) {
            Ok(read) => {
                result = Some(read);
                break;
            }
            Err(error) => {
                let place = error.place.unwrap_or_else(|| path.to_owned());
                // A required field that was itself wrong is now missing: said once is enough.
                if !notes.is_wrong(error.problem.path()) {
                    problems.push(error.problem);
                }
                if place == path {
                    break;
                }
                notes.wrong.borrow_mut().insert(place);
            }
        }
    }
    problems.extend(notes.unknown.into_inner());
    (result, problems)
}

/// What is learned over all rounds.
#[derive(Default)]
struct Notes {
    /// Places already reported as wrong, read as absent from then on.
    wrong: RefCell<BTreeSet<String>>,
    unknown: RefCell<BTreeSet<Problem>>,
}

impl Notes {
    fn is_wrong(&self, path: &str) -> bool {
        self.wrong.borrow().contains(path)
    }
}

/// One wrong value.
#[derive(Debug)]
struct ReadError {
    problem: Problem,
    /// The place to leave out in the next round; `None` until the reader of the value has filled it in.
    place: Option<String>,
}

impl ReadError {
    fn new(rule: String) -> ReadError {
        ReadError {
            problem: Problem::BadValue { path: String::new(), value: String::new(), rule },
            place: None,
        }
    }

    /// Says where the error happened; the innermost reader knows best.
    fn at(mut self, path: &str, value: &Value) -> ReadError {
        if self.place.is_some() {
            return self;
        }
        self.place = Some(path.to_owned());
        self.problem = match self.problem {
            Problem::BadValue { rule, .. } => {
                Problem::BadValue { path: path.to_owned(), value: shown(value), rule }
            }
            Problem::BadObject { path: field, rule } => Problem::BadObject { path: join(path, &field), rule },
            other @ (Problem::UnknownField { .. } | Problem::UnknownKind { .. }) => other,
        };
        self
    }
}

/// A value as a message shows it: text bare, anything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => shortened(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            shortened(&value.to_string())
        }
    }
}

/// `path.field`, or the field alone at the root.
pub(super) fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ReadError::new(explained(&message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = plain_words(&expected.to_string());
        let is_scalar = matches!(
            found,
            Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_)
        );
        let wants_bare = expected == "true or false" || expected.contains("number");
        let quoted = |text: &str| matches!(text, "true" | "false") || text.parse::<f64>().is_ok();
        let hint = if is_scalar && expected == "text" {
            "; put it in quotes"
        } else if wants_bare && matches!(found, Unexpected::Str(text) if quoted(text)) {
            "; take it out of its quotes"
        } else {
            ""
        };
        ReadError::new(format!("must be {expected}{hint}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        ReadError::new(format!("must be {}", plain_words(&expected.to_string())))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let names: Vec<&str> = expected.iter().copied().filter(|name| !name.is_empty()).collect();
        let hint = match nearest(variant, names.iter().copied()) {
            Some(name) => format!("; did you mean '{name}'?"),
            None => String::new(),
        };
        ReadError::new(format!("must be one of {}{hint}", names.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        ReadError { problem: Problem::bad_object(field, "is required"), place: None }
    }
}

/// Reads the value at one place of the document.
struct Reader<'v> {
    value: &'v Value,
    path: String,
    notes: &'v Notes,
}

impl<'v> Reader<'v> {
    fn visit<V: Visitor<'v>>(
        self,
        visitor: V,
        fields: Option<&'static [&'static str]>,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(n), ..) => visitor.visit_u64(n),
                (_, Some(n), _) => visitor.visit_i64(n),
                (.., n) => visitor.visit_f64(n.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                path: &self.path,
                notes: self.notes,
            }),
            Value::Object(members) => {
                if let Some(fields) = fields {
                    self.note_unknown(members.keys(), fields);
                }
                visitor.visit_map(Members {
                    members: members.iter(),
                    value: None,
                    path: &self.path,
                    notes: self.notes,
                    is_struct: fields.is_some(),
                })
            }
        }
    }

    fn note_unknown<'k>(&self, names: impl Iterator<Item = &'k String>, fields: &'static [&'static str]) {
        for name in names.filter(|name| !fields.contains(&name.as_str())) {
            self.notes.unknown.borrow_mut().insert(Problem::UnknownField {
                path: join(&self.path, &shortened(name)),
                nearest: nearest(name, fields.iter().copied()).map(str::to_owned),
            });
        }
    }
}

impl<'v> de::Deserializer<'v> for Reader<'v> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let (path, value) = (self.path.clone(), self.value);
        self.visit(visitor, None).map_err(|error| error.at(&path, value))
    }

    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.value.is_null() {
            return visitor.visit_none();
        }
        let (path, value) = (self.path.clone(), self.value);
        visitor.visit_some(self).map_err(|error: ReadError| error.at(&path, value))
    }

    fn deserialize_struct<V: Visitor<'v>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let (path, value) = (self.path.clone(), self.value);
        if value.is_array() {
            // serde would read a list as the fields in order of declaration.
            let error: ReadError = de::Error::custom("must be an object with fields, not a list");
            return Err(error.at(&path, value));
        }
        self.visit(visitor, Some(fields)).map_err(|error| error.at(&path, value))
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let (path, value) = (self.path.clone(), self.value);
        visitor.visit_newtype_struct(self).map_err(|error: ReadError| error.at(&path, value))
    }

    fn deserialize_enum<V: Visitor<'v>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let result = match self.value.as_str() {
            Some(text) => visitor.visit_enum(Variant(text)),
            None => Err(de::Error::custom("must be text")),
        };
        result.map_err(|error: ReadError| error.at(&self.path, self.value))
    }

    fn deserialize_ignored_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        <V: Visitor<'v>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier
    }
}

/// The name of an enum's variant; ours carry no data.
struct Variant<'v>(&'v str);

impl<'v> EnumAccess<'v> for Variant<'v> {
    type Error = ReadError;
    type Variant = UnitOnly;

    fn variant_seed<S: DeserializeSeed<'v>>(self, seed: S) -> Result<(S::Value, UnitOnly), ReadError> {
        let deserializer: StrDeserializer<'_, ReadError> = de::IntoDeserializer::into_deserializer(self.0);
        seed.deserialize(deserializer).map(|variant| (variant, UnitOnly))
    }
}

struct UnitOnly;

impl<'v> de::VariantAccess<'v> for UnitOnly {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'v>>(self, _: S) -> Result<S::Value, ReadError> {
        Err(de::Error::custom("must be an object with fields"))
    }

    fn tuple_variant<V: Visitor<'v>>(self, _: usize, _: V) -> Result<V::Value, ReadError> {
        Err(de::Error::custom("must be a list"))
    }

    fn struct_variant<V: Visitor<'v>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, ReadError> {
        Err(de::Error::custom("must be an object with fields"))
    }
}

struct Items<'v, 'p> {
    items: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
    path: &'p str,
    notes: &'v Notes,
}

impl<'v> de::SeqAccess<'v> for Items<'v, '_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        for (index, value) in self.items.by_ref() {
            let path = format!("{}[{index}]", self.path);
            if !self.notes.is_wrong(&path) {
                let reader = Reader { value, path: path.clone(), notes: self.notes };
                return seed.deserialize(reader).map(Some).map_err(|error| error.at(&path, value));
            }
        }
        Ok(None)
    }
}

struct Members<'v, 'p> {
    members: serde_json::map::Iter<'v>,
    value: Option<(String, &'v Value)>,
    path: &'p str,
    notes: &'v Notes,
    /// A null member of a struct counts as absent, as in Go; in a map it is a wrong value.
    is_struct: bool,
}

impl<'v> de::MapAccess<'v> for Members<'v, '_> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        for (name, value) in self.members.by_ref() {
            let path = join(self.path, name);
            if self.notes.is_wrong(&path) || (self.is_struct && value.is_null()) {
                continue;
            }
            self.value = Some((path, value));
            let deserializer: StrDeserializer<'_, ReadError> =
                de::IntoDeserializer::into_deserializer(name.as_str());
            return seed.deserialize(deserializer).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let (path, value) =
            self.value.take().ok_or_else(|| -> ReadError { de::Error::custom("has no value") })?;
        let reader = Reader { value, path: path.clone(), notes: self.notes };
        seed.deserialize(reader).map_err(|error| error.at(&path, value))
    }
}
