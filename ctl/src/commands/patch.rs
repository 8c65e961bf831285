//! `patch`: changes fields of one resource by a JSON merge patch (RFC 7396) or a JSON patch (RFC 6902).
//!
//! calicoctl's `strategic` type needs merge keys on the Go types; the kinds here have none, so it comes to the same.

use serde_json::Value;
use tortie_datastore::client::Identifier;
use tortie_model::AnyResource;
use tortie_model::strict::{self, Origin};

use super::{kind_of, namespace_of, words};
use crate::cli::{Global, PatchArgs, PatchType};
use crate::context;
use crate::input::{Input, located, numbered};
use crate::operations::{self, Verb, preflight};
use crate::outcome::Outcome;

pub(super) async fn run(global: &Global, args: &PatchArgs) -> anyhow::Result<Outcome> {
    let kind = kind_of(&args.kind)?;
    let failed = |reason: &str| Ok(Outcome::failed(format!("Failed to patch '{kind}' resource: {reason}")));
    let patch = match Patch::parsed(&args.patch, args.patch_type) {
        Ok(patch) => patch,
        Err(reason) => return failed(&reason),
    };
    let client = context::client(global).await?;
    let id = operations::identifier(kind, namespace_of(args.namespace.as_deref()), &args.name);
    let current = match operations::get(&client, &id).await {
        Ok(current) => current,
        Err(error) => return failed(&words(error)),
    };
    let input = match patched(current, &patch) {
        Ok(input) => input,
        Err(reason) => return failed(&reason),
    };
    match preflight(&client, Verb::Replace, std::slice::from_ref(&input)).await {
        Ok(refusals) if refusals.is_empty() => {}
        Ok(refusals) => return failed(&numbered(&refusals)),
        Err(error) => return failed(&words(error)),
    }
    match operations::replace(&client, input.resource).await {
        Ok(_) => Ok(Outcome::line(format!("Successfully patched 1 '{kind}' resource"))),
        Err(error) => failed(&words(error)),
    }
}

/// A patch as given.
enum Patch {
    /// RFC 7396.
    Merge(Value),
    /// RFC 6902.
    Operations(json_patch::Patch),
}

impl Patch {
    fn parsed(text: &str, form: PatchType) -> Result<Patch, String> {
        if form == PatchType::Json {
            let example = r#"[{"op":"replace","path":"/spec/natOutgoing","value":true}]"#;
            return serde_json::from_str(text)
                .map(Patch::Operations)
                .map_err(|error| format!("--patch: {error}; type json takes a list such as {example}"));
        }
        let documents = strict::documents("--patch", text)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        match documents.as_slice() {
            [document] if document.value.is_object() => Ok(Patch::Merge(document.value.clone())),
            _ => Err("the patch must be one object, such as {\"spec\":{\"natOutgoing\":true}}; a list of operations \
                      goes with --type json"
                .to_owned()),
        }
    }

    fn apply(&self, document: &mut Value) -> Result<(), String> {
        match self {
            Patch::Merge(patch) => merge(document, patch),
            Patch::Operations(patch) => {
                json_patch::patch(document, patch).map_err(|error| format!("--patch: {error}"))?;
            }
        }
        Ok(())
    }
}

/// The resource with the patch, read as strictly as a file, at the revision it was read at.
fn patched(current: AnyResource, patch: &Patch) -> Result<Input, String> {
    let namespace = current.metadata().namespace.clone().unwrap_or_default();
    let mut document = strictly_known(&current);
    patch.apply(&mut document)?;
    let origin = Origin { file: "--patch".to_owned(), document: 0, line: 1, item: String::new() };
    match strict::read(&document, &namespace) {
        Ok(resource) if Identifier::of(&resource) == Identifier::of(&current) => {
            Ok(Input { origin, resource })
        }
        Ok(resource) => {
            let (is, would) = (Identifier::of(&current), Identifier::of(&resource));
            Err(format!("a patch cannot make {would} of {is}: kind, name and namespace stay"))
        }
        Err(problems) => {
            let mistakes: Vec<String> = problems.iter().map(|p| located(&origin, &document, p)).collect();
            Err(numbered(&mistakes))
        }
    }
}

/// Without stored fields that are unknown to us; they stay in the store.
fn strictly_known(current: &AnyResource) -> Value {
    let mut known = current.clone();
    known.original_mut().0 = None;
    known.to_value()
}

/// RFC 7396: objects merge member by member, null removes, everything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.shift_remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_follows_the_examples_of_rfc_7396() {
        for (mut original, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        ] {
            merge(&mut original, &patch);
            assert_eq!(original, result);
        }
    }
}
