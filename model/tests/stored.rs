//! Stored JSON of every kind, as upstream's client writes it (field order of the Go types, calico-datamodel 1.2), and what
//! becomes of it when we read and write it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use tortie_model::strict::read;
use tortie_model::validate::validate;
use tortie_model::{AnyResource, Key, Kind, codec};

/// One document of each kind with every field that may stand together.
const STORED: &str = include_str!("golden/stored.jsonl");

fn kind_of(document: &Value) -> Kind {
    Kind::from_name(document["kind"].as_str().unwrap()).unwrap()
}

fn decoded(document: &Value) -> AnyResource {
    let text = |pointer| document.pointer(pointer).and_then(Value::as_str);
    let key = Key::resource(kind_of(document), text("/metadata/namespace"), text("/metadata/name").unwrap());
    codec::decode(kind_of(document), &key, document.to_string().as_bytes(), 7).unwrap()
}

fn encoded(resource: &AnyResource) -> String {
    String::from_utf8(codec::encode(resource)).unwrap()
}

fn documents() -> Vec<Value> {
    STORED.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_kind_is_read_and_written_without_a_change() {
    let mut kinds: Vec<Kind> = documents().iter().map(kind_of).collect();
    for (line, document) in STORED.lines().zip(documents()) {
        let resource = decoded(&document);
        assert_eq!(encoded(&resource), line);
        assert_eq!(validate(&resource), [], "{line}");
        // Without the JSON it came from: what is known is known by type, in the same order. Empty sources and
        // destinations, which Go writes and we do not, are the only difference.
        let mut known = resource.clone();
        known.original_mut().0 = None;
        let lean = line
            .replace(r#","source":{},"destination":{}"#, "")
            .replace(r#","source":{},"destination""#, r#","destination""#);
        assert_eq!(encoded(&known), lean);
    }
    kinds.sort();
    assert_eq!(kinds, Kind::all().collect::<Vec<_>>());
}

#[test]
fn four_kinds_always_have_a_status() {
    for document in documents() {
        let mut bare = document.clone();
        bare.as_object_mut().unwrap().shift_remove("status");
        let kind = kind_of(&document);
        let always = [Kind::Node, Kind::Tier, Kind::CalicoNodeStatus, Kind::KubeControllersConfiguration];
        let written = encoded(&decoded(&bare));
        assert_eq!(written.ends_with(r#","status":{}}"#), always.contains(&kind), "{written}");
    }
}

#[test]
fn what_is_stored_is_a_good_document_too() {
    for document in documents() {
        let mut written = read(&document, "default").unwrap_or_else(|problems| panic!("{problems:#?}"));
        // Reading a document fills in stored defaults; a second time there is nothing left to fill in.
        written.metadata_mut().resource_version = None;
        assert_eq!(read(&written.to_value(), "default").unwrap(), written);
    }
}

/// Paths (JSON pointers) of every object of a document that has named fields, not free names.
fn objects(value: &Value, path: &str, into: &mut Vec<String>) {
    const FREE: [&str; 6] = [
        "/labels",
        "/annotations",
        "/labelsToApply",
        "/matchLabels",
        "/environmentVars",
        "/healthTimeoutOverrides",
    ];
    if FREE.iter().any(|free| path.ends_with(free)) {
        return;
    }
    match value {
        Value::Object(members) => {
            into.push(path.to_owned());
            for (name, member) in members {
                objects(member, &format!("{path}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                objects(item, &format!("{path}/{i}"), into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn an_unknown_field_in_a_users_document_is_refused_at_every_place() {
    for document in documents() {
        let mut places = Vec::new();
        objects(&document, "", &mut places);
        // Values of a FelixConfiguration have a form each instead of fields, and of a tier's status nothing is known.
        let is_loose = |place: &str| {
            place.starts_with("/spec/routeTable") || (document["kind"] == "Tier" && place == "/status")
        };
        for place in places.iter().filter(|place| !is_loose(place)) {
            let mut wrong = document.clone();
            wrong.pointer_mut(place).unwrap()["fromTheFuture"] = json!(1);
            let problems = read(&wrong, "default").expect_err(place);
            let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(said.contains("fromTheFuture"), "{} {place}: {said}", document["kind"]);
        }
    }
}

#[test]
fn a_misspelt_field_is_told_its_name_in_every_spec() {
    for document in documents() {
        let Some(spec) = document["spec"].as_object() else { continue };
        for name in spec.keys().filter(|name| name.len() > 4) {
            let misspelt = format!("{}x{}", &name[..3], &name[3..]);
            let mut wrong = document.clone();
            let fields = wrong["spec"].as_object_mut().unwrap();
            let value = fields.shift_remove(name).unwrap();
            fields.insert(misspelt.clone(), value);
            let problems = read(&wrong, "default").unwrap_err();
            let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let expected = format!("spec.{misspelt} (did you mean '{name}'?)");
            assert!(said.contains(&expected), "{}: {said}", document["kind"]);
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Fields of a newer version, anywhere in any kind, are still there after we changed something else.
    #[test]
    fn unknown_fields_survive(
        document in any::<Index>(),
        places in proptest::collection::vec((any::<Index>(), any_value()), 1..5),
    ) {
        let mut newer = document.get(&documents()).clone();
        let mut objects_of = Vec::new();
        objects(&newer, "", &mut objects_of);
        for (i, (place, value)) in places.iter().enumerate() {
            let place: &String = place.get(&objects_of);
            newer.pointer_mut(place).unwrap()[format!("fromTheFuture{i}")] = value.clone();
        }
        let resource = decoded(&newer);
        prop_assert_eq!(encoded(&resource), newer.to_string());
        let mut changed = resource;
        changed.metadata_mut().labels.insert("ours".into(), "1".into());
        let mut expected = newer;
        if expected["metadata"]["labels"].is_null() {
            expected["metadata"]["labels"] = json!({});
        }
        expected["metadata"]["labels"]["ours"] = json!("1");
        let written: Value = serde_json::from_str(&encoded(&changed)).unwrap();
        prop_assert_eq!(written, expected);
    }
}
