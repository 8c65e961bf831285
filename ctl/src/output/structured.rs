//! YAML and JSON, as calicoctl writes them (calico-datamodel 6.4): JSON in the field order of the API, YAML with
//! fields in order of name.

use serde_json::{Map, Value, json};
use tortie_model::{API_VERSION, AnyResource};

use super::{Format, Shown};

/// One resource alone, a list as `<Kind>List`, several of either as an array.
pub(super) fn document(shown: &[Shown]) -> Value {
    match shown {
        [only] => value(only),
        several => several.iter().map(value).collect(),
    }
}

fn value(shown: &Shown) -> Value {
    match shown {
        Shown::One(resource) => resource.to_value(),
        Shown::List { kind, revision, items } => json!({
            "kind": format!("{kind}List"),
            "apiVersion": API_VERSION,
            "metadata": { "resourceVersion": revision.to_string() },
            "items": items.iter().map(AnyResource::to_value).collect::<Vec<Value>>(),
        }),
    }
}

/// The text of a document; anything but [`Format::Json`] is YAML.
pub(crate) fn to_text(document: &Value, format: &Format) -> String {
    let text = if *format == Format::Json {
        serde_json::to_string_pretty(document).map(|text| text + "\n").map_err(|error| error.to_string())
    } else {
        serde_yaml::to_string(&sorted(document)).map_err(|error| error.to_string())
    };
    text.expect("a JSON value has text keys and finite numbers")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            names.into_iter().map(|name| (name.clone(), sorted(&members[name]))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
