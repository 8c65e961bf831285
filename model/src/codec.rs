//! Stored JSON to resource and back.
//!
//! Decoding tolerates fields it does not know; encoding puts them back, so that a read-modify-write by us loses
//! nothing a newer Calico wrote. Arrays that did not change keep their unknown fields too.

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::resource::{AnyResource, Object, Original, Spec};
use crate::{API_VERSION, Key, Kind, ObjectMeta};

/// Why stored bytes are no resource.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or a field of the wrong type.
    #[error("value of {key} is not a valid {kind}")]
    Json {
        /// The key.
        key: String,
        /// What stands there.
        kind: &'static str,
        /// Line, column and reason.
        source: serde_json::Error,
    },
}

/// The parts of a document; `S` is its spec.
#[derive(Serialize, Deserialize)]
struct Document<S> {
    #[serde(default)]
    kind: String,
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: S,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
}

pub(crate) fn object_from_value<S: Spec>(value: Value) -> Result<Object<S>, serde_json::Error> {
    refuse_lists(&value)?;
    let document = Document::<S>::deserialize(&value)?;
    Ok(Object {
        metadata: document.metadata,
        spec: document.spec,
        status: document.status,
        original: Original(Some(Box::new(value))),
    })
}

/// Serde would read a list as the fields in their order, which no writer means.
fn refuse_lists(value: &Value) -> Result<(), serde_json::Error> {
    let parts =
        [("a document", Some(value)), ("metadata", value.get("metadata")), ("spec", value.get("spec"))];
    match parts.into_iter().find(|(_, part)| part.is_some_and(Value::is_array)) {
        Some((what, _)) => Err(serde_json::Error::custom(format!("{what} is a list; write an object"))),
        None => Ok(()),
    }
}

pub(crate) fn object_to_value<S: Spec>(object: &Object<S>) -> Value {
    let status = match &object.status {
        None if S::WRITES_STATUS => Some(Value::Object(Map::new())),
        status => status.clone(),
    };
    let document = Document {
        kind: S::KIND.name().to_owned(),
        api_version: API_VERSION.to_owned(),
        metadata: object.metadata.clone(),
        spec: object.spec.clone(),
        status,
    };
    let known = to_value(&document);
    let Some(original) = object.original.0.as_deref() else { return known };
    let Ok(known_before) = Document::<S>::deserialize(original).map(|d| to_value(&d)) else { return known };
    with_unknown_fields(original, &known_before, known)
}

fn to_value<S: Spec>(document: &Document<S>) -> Value {
    serde_json::to_value(document).expect("resources have text keys and finite numbers")
}

/// `now` plus every field of `original` that `known_before`, our reading of it, did not know.
fn with_unknown_fields(original: &Value, known_before: &Value, now: Value) -> Value {
    match (original, known_before, now) {
        (Value::Object(original), Value::Object(before), Value::Object(now)) => {
            let mut merged = Map::new();
            for (name, new) in now {
                let value = match (original.get(&name), before.get(&name)) {
                    (Some(original), Some(before)) => with_unknown_fields(original, before, new),
                    _ => new,
                };
                merged.insert(name, value);
            }
            for (name, value) in original {
                if !before.contains_key(name) && !merged.contains_key(name) {
                    merged.insert(name.clone(), value.clone());
                }
            }
            Value::Object(merged)
        }
        (Value::Array(_), before, now) if *before == now => original.clone(),
        (_, _, now) => now,
    }
}

/// Decodes the value stored under a resource's key. `revision` is the key's mod revision.
///
/// # Errors
/// When the bytes are not JSON or a known field has the wrong type.
pub fn decode(kind: Kind, key: &Key, bytes: &[u8], revision: i64) -> Result<AnyResource, DecodeError> {
    let json_error = |source| DecodeError::Json { key: key.to_string(), kind: kind.name(), source };
    let value: Value = serde_json::from_slice(bytes).map_err(json_error)?;
    let mut resource = AnyResource::from_value(kind, value).map_err(json_error)?;
    let metadata = resource.metadata_mut();
    metadata.resource_version = Some(revision.to_string());
    // The key knows what a value made by hand left out.
    if let Key::Resource { namespace, name, .. } = key {
        if metadata.name.is_empty() {
            metadata.name.clone_from(name);
        }
        if metadata.namespace.is_none() {
            metadata.namespace.clone_from(namespace);
        }
    }
    Ok(resource)
}

/// A resource from a whole document in the form of the v3 API.
///
/// # Errors
/// When a known field has the wrong type.
pub fn from_document(kind: Kind, document: Value) -> Result<AnyResource, serde_json::Error> {
    let mut resource = AnyResource::from_value(kind, document)?;
    resource.original_mut().0 = None;
    Ok(resource)
}

/// The bytes to store: compact JSON in the field order of upstream, without `resourceVersion`.
pub fn encode(resource: &AnyResource) -> Vec<u8> {
    let mut stored = resource.clone();
    stored.metadata_mut().resource_version = None;
    let mut value = stored.to_value();
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    serde_json::to_vec(&value).expect("a JSON value serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_json_keeps_upstream_field_order_and_unknown_fields() {
        let stored = concat!(
            r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"pool-a","uid":"5f0c","#,
            r#""creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"cidr":"10.65.0.0/16","vxlanMode":"Never","#,
            r#""ipipMode":"Always","natOutgoing":true,"blockSize":26,"nodeSelector":"all()","#,
            r#""allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic","fromTheFuture":{"a":1}}}"#
        );
        let key = Key::resource(Kind::IpPool, None, "pool-a");
        let resource = decode(Kind::IpPool, &key, stored.as_bytes(), 7).unwrap();
        assert_eq!(resource.metadata().resource_version.as_deref(), Some("7"));
        assert_eq!(String::from_utf8(encode(&resource)).unwrap(), stored);

        let AnyResource::IpPool(mut pool) = resource else { panic!("wrong kind") };
        pool.spec.nat_outgoing = false;
        pool.spec.assignment_mode = None;
        let text = String::from_utf8(encode(&pool.into())).unwrap();
        assert!(!text.contains("natOutgoing") && !text.contains("assignmentMode"), "{text}");
        assert!(text.contains(r#""fromTheFuture":{"a":1}"#), "{text}");
    }

    #[test]
    fn lists_are_not_read_as_objects() {
        let key = Key::resource(Kind::Node, None, "n1");
        for (stored, reason) in [
            ("[]", "a document is a list; write an object"),
            (r#"["Node","projectcalico.org/v3"]"#, "a document is a list; write an object"),
            (r#"{"metadata":["n1"]}"#, "metadata is a list; write an object"),
            (r#"{"metadata":{"name":"n1"},"spec":[]}"#, "spec is a list; write an object"),
        ] {
            let DecodeError::Json { source, .. } =
                decode(Kind::Node, &key, stored.as_bytes(), 1).expect_err(stored);
            assert_eq!(source.to_string(), reason);
        }
    }

    #[test]
    fn a_value_without_a_name_has_its_keys() {
        let key = Key::resource(Kind::NetworkSet, Some("ns"), "s");
        let resource = decode(Kind::NetworkSet, &key, br#"{"spec":{}}"#, 1).unwrap();
        assert_eq!(
            (resource.metadata().name.as_str(), resource.metadata().namespace.as_deref()),
            ("s", Some("ns"))
        );
    }

    #[test]
    fn a_node_always_has_a_status() {
        let node = crate::resource::Node::new(ObjectMeta::named("n1"), crate::resource::NodeSpec::default());
        let text = String::from_utf8(encode(&node.into())).unwrap();
        assert!(text.ends_with(r#""spec":{},"status":{}}"#), "{text}");
    }
}
