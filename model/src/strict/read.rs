//! One document to one resource: which kind it is, the old v1 form, stored defaults, validation.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

use super::{Problem, from_value, nearest};
use crate::resource::{AnyResource, Object, Spec, SpecVisitor};
use crate::{API_VERSION, Kind, ObjectMeta, defaults, v1, validate};

/// Kinds of Calico's API that live in Kubernetes only or in no store; a document of one is no typing mistake.
const KINDS_NOT_STORED: [&str; 3] = ["IPAMBlock", "IPAMHandle", "LiveMigration"];

/// A resource from a user's document: v3 or the old v1 form, strictly read, stored defaults filled in, validated.
/// A namespaced resource without a namespace gets `default_namespace`.
///
/// # Errors
/// Every problem found, in the field names of the form the document is in.
pub fn read(document: &Value, default_namespace: &str) -> Result<AnyResource, Vec<Problem>> {
    let head = Head::of(document)?;
    if head.is_v1() {
        let v3 = v1::convert(document)?;
        return read_v3(&v3, default_namespace).map_err(|problems| {
            problems.into_iter().map(|p| p.renamed(|path| v1::v1_path(&head.kind, path))).collect()
        });
    }
    read_v3(document, default_namespace)
}

/// The document in v3 form: as it is, or converted from v1, with its stored defaults.
///
/// # Errors
/// Every problem found.
pub fn v3_document(document: &Value, default_namespace: &str) -> Result<Value, Vec<Problem>> {
    read(document, default_namespace).map(|resource| resource.to_value())
}

/// The document in v3 form without defaults and validation; its fields must be known and of the right type.
///
/// # Errors
/// Every problem found.
pub fn unvalidated_v3_document(document: &Value) -> Result<Value, Vec<Problem>> {
    let head = Head::of(document)?;
    if head.is_v1() {
        return v1::convert(document);
    }
    AnyResource::visit_spec_type(head.v3_kind()?, ReadV3(document)).map(|resource| resource.to_value())
}

/// The kind a document names, in any case.
pub fn known_kind(name: &str) -> Option<Kind> {
    Kind::all().find(|kind| kind.name().eq_ignore_ascii_case(name))
}

fn read_v3(document: &Value, default_namespace: &str) -> Result<AnyResource, Vec<Problem>> {
    let kind = Head::of(document)?.v3_kind()?;
    let mut resource = AnyResource::visit_spec_type(kind, ReadV3(document))?;
    defaults::apply(&mut resource, default_namespace);
    let mut problems = validate::validate(&resource);
    if kind.has_tiered_names() || kind == Kind::Profile {
        problems.extend(validate::nets_without_length(document.get("spec")));
    }
    if kind == Kind::IpPool && document.pointer("/spec/cidr").is_none() {
        problems.retain(|problem| problem.path() != "spec.cidr");
        problems.insert(0, Problem::bad_object("spec.cidr", "is required"));
    }
    if problems.is_empty() { Ok(resource) } else { Err(problems) }
}

/// What says which form a document has.
struct Head {
    kind: String,
    api_version: String,
}

impl Head {
    fn of(document: &Value) -> Result<Head, Vec<Problem>> {
        let Value::Object(members) = document else {
            let rule = "must be an object with the fields apiVersion, kind, metadata and spec";
            return Err(vec![Problem::bad_value("document", document, rule)]);
        };
        let mut problems = Vec::new();
        let mut text = |name: &str| match members.get(name) {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            Some(other) if !other.is_null() => {
                problems.push(Problem::bad_value(name, other, "must be text"));
                String::new()
            }
            _ => {
                let similar = nearest(name, members.keys().map(String::as_str).filter(|k| *k != name));
                let hint = similar.map(|s| format!("; is '{s}' a typing mistake?")).unwrap_or_default();
                problems.push(Problem::bad_object(name, format!("is required{hint}")));
                String::new()
            }
        };
        let head = Head { api_version: text("apiVersion"), kind: text("kind") };
        if problems.is_empty() { Ok(head) } else { Err(problems) }
    }

    /// `apiVersion: v1` is the API of Calico 2.x.
    fn is_v1(&self) -> bool {
        self.api_version == "v1"
    }

    fn v3_kind(&self) -> Result<Kind, Vec<Problem>> {
        let unknown = |hint: String| {
            vec![Problem::UnknownKind {
                kind: self.kind.clone(),
                api_version: self.api_version.clone(),
                hint,
            }]
        };
        if self.api_version != API_VERSION {
            return Err(unknown(format!("; apiVersion must be {API_VERSION}, or v1 for the old form")));
        }
        if let Some(kind) = known_kind(&self.kind) {
            return Ok(kind);
        }
        if KINDS_NOT_STORED.contains(&self.kind.as_str()) {
            return Err(unknown("; Calico keeps these by itself, they cannot be written".to_owned()));
        }
        let hint = match nearest(&self.kind, Kind::all().map(Kind::name)) {
            Some(name) => format!("; did you mean '{name}'?"),
            None => format!("; kinds are {}", Kind::all().map(Kind::name).collect::<Vec<_>>().join(", ")),
        };
        Err(unknown(hint))
    }
}

/// A document as users write it; fields the server fills in are accepted and not used.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound = "S: Spec + DeserializeOwned")]
struct InputDocument<S: Spec> {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "apiVersion")]
    _api_version: String,
    metadata: InputMetadata,
    spec: S,
    status: Option<S::Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct InputMetadata {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    generate_name: Option<String>,
    #[serde(rename = "selfLink")]
    _self_link: Option<Value>,
    #[serde(rename = "generation")]
    _generation: Option<Value>,
    #[serde(rename = "deletionTimestamp")]
    _deletion_timestamp: Option<Value>,
    #[serde(rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: Option<Value>,
    #[serde(rename = "ownerReferences")]
    _owner_references: Option<Value>,
    #[serde(rename = "finalizers")]
    _finalizers: Option<Value>,
    #[serde(rename = "managedFields")]
    _managed_fields: Option<Value>,
}

/// Reads a v3 document with the spec type of its kind.
struct ReadV3<'d>(&'d Value);

impl SpecVisitor for ReadV3<'_> {
    type Output = Result<AnyResource, Vec<Problem>>;

    fn visit<S: Spec>(self) -> Self::Output
    where
        Object<S>: Into<AnyResource>,
    {
        let (document, mut problems) = from_value::<InputDocument<S>>("", self.0);
        let Some(document) = document else { return Err(problems) };
        if let Some(prefix) = document.metadata.generate_name.as_deref().filter(|p| !p.is_empty()) {
            let rule = "is not supported; give metadata.name";
            problems.push(Problem::bad_value("metadata.generateName", prefix, rule));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let metadata = document.metadata;
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace.filter(|n| !n.is_empty()),
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            creation_timestamp: metadata.creation_timestamp,
            labels: metadata.labels,
            annotations: metadata.annotations,
        };
        let mut object = Object::new(metadata, document.spec);
        // Read for its mistakes only; the JSON is what is kept.
        object.status = document.status.and_then(|_| self.0.get("status").cloned());
        Ok(object.into())
    }
}
