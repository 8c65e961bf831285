//! Policies go by one name, whatever they are stored as (docs/decisions/0007).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{PREFIX, RunningStore, policy};

#[test]
fn policy_names_of_three_eras_are_one_policy() {
    let store = RunningStore::embedded();
    let old = |name: &str, annotations: &str| {
        store.put(
            &format!("{PREFIX}networkpolicies/default/{name}"),
            &format!(
                r#"{{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}","namespace":"default","uid":"u","creationTimestamp":"2026-01-02T03:04:05Z"{annotations}}},"spec":{{"order":1,"types":["Ingress"]}}}}"#
            ),
        );
    };
    old("default.ancient", "");
    old("default.old", r#","annotations":{"projectcalico.org/metadata":"{\"name\":\"old\"}"}"#);
    let create = store.run_with_input(&["create", "-f", "-"], &policy("new", 1));
    assert_eq!(create.code, 0, "{create:?}");
    assert_eq!(
        store.run(&["get", "np", "-o", "custom-columns=NAME"]).stdout,
        "NAME      \nancient   \nnew       \nold       \n\n"
    );
    // Shown without the annotation, stored with it, and with the tier's label.
    let shown = store.run(&["get", "np", "new", "-o", "yaml"]).stdout;
    assert!(!shown.contains("annotations"), "{shown}");
    let stored = store.value("networkpolicies/default/default.new");
    assert_eq!(stored["metadata"]["annotations"]["projectcalico.org/metadata"], r#"{"name":"new"}"#);
    assert_eq!(stored["metadata"]["labels"]["projectcalico.org/tier"], "default");
    // A change keeps the key: there must never be two of one policy.
    for name in ["ancient", "old"] {
        let create = store.run_with_input(&["create", "-f", "-"], &policy(name, 1));
        assert!(
            create.stderr.contains(&format!("already exists: NetworkPolicy(default/{name})")),
            "{create:?}"
        );
        assert_eq!(store.run_with_input(&["apply", "-f", "-"], &policy(name, 7)).code, 0);
        let stored = store.value(&format!("networkpolicies/default/default.{name}"));
        assert_eq!((&stored["spec"]["order"], &stored["metadata"]["uid"]), (&7.into(), &"u".into()));
        assert_eq!(
            store.run(&["delete", "np", name]).stdout,
            "Successfully deleted 1 'NetworkPolicy' resource(s)\n"
        );
    }
    assert_eq!(store.contents().len(), 1);
}

/// Every stored form of a policy `foo`, found, replaced and deleted by both of its names; never a second copy.
#[test]
fn a_policy_is_one_policy_under_every_name_and_in_every_form() {
    let kinds = [
        ("NetworkPolicy", "networkpolicies/default/"),
        ("GlobalNetworkPolicy", "globalnetworkpolicies/"),
        ("StagedNetworkPolicy", "stagednetworkpolicies/default/"),
        ("StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies/"),
    ];
    let store = RunningStore::embedded();
    let forms = [("default.foo", None), ("default.foo", Some("foo")), ("foo", Some("foo")), ("foo", None)];
    for (kind, prefix) in kinds {
        for (stored, noted) in forms {
            for typed in ["foo", "default.foo"] {
                let key = format!("{prefix}{stored}");
                let mut metadata = serde_json::json!({"name": stored, "uid": "u", "creationTimestamp": "t"});
                if let Some(name) = noted {
                    let note = serde_json::json!({"name": name}).to_string();
                    metadata["annotations"] = serde_json::json!({"projectcalico.org/metadata": note});
                }
                let document = serde_json::json!({
                    "kind": kind, "apiVersion": "projectcalico.org/v3", "metadata": metadata,
                    "spec": {"order": 1, "types": ["Ingress"]}
                });
                store.put(&format!("{PREFIX}{key}"), &document.to_string());
                let context = format!("{kind} {stored} {noted:?} typed {typed}");
                let get = store.run(&["get", kind, typed, "-o", "name"]);
                assert_eq!(get.stdout, format!("{}/foo\n", kind.to_lowercase()), "{context}");
                let text = policy(typed, 7).replace("NetworkPolicy", kind);
                let create = store.run_with_input(&["create", "-f", "-"], &text);
                assert!(create.stderr.contains("resource already exists: "), "{context}: {create:?}");
                for verb in ["apply", "replace"] {
                    let said = store.run_with_input(&[verb, "-f", "-"], &text);
                    assert_eq!(said.code, 0, "{context}: {said:?}");
                }
                assert_eq!(store.keys(), std::slice::from_ref(&key), "{context}");
                let written = store.value(&key);
                assert_eq!(
                    written["metadata"]["annotations"]["projectcalico.org/metadata"], r#"{"name":"foo"}"#,
                    "{context}"
                );
                assert_eq!(
                    (&written["metadata"]["name"], &written["spec"]["order"]),
                    (&stored.into(), &7.into())
                );
                assert_eq!(store.run(&["delete", kind, typed]).code, 0, "{context}");
                assert_eq!(store.keys(), [""; 0], "{context}");
            }
        }
        // A new one: the form that every version from 3.26 on can address.
        let said =
            store.run_with_input(&["create", "-f", "-"], &policy("foo", 1).replace("NetworkPolicy", kind));
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(store.keys(), [format!("{prefix}default.foo")]);
        assert_eq!(store.run(&["delete", kind, "foo"]).code, 0);
    }
}

#[test]
fn a_policy_of_another_tier_is_not_taken_for_one_of_the_default_tier() {
    let store = RunningStore::embedded();
    let documents = format!(
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: sec}}\nspec: {{order: 1}}\n---\n{}",
        policy("foo", 1).replace("order: 1", "order: 1, tier: sec")
    );
    assert_eq!(store.run_with_input(&["create", "-f", "-"], &documents).code, 0);
    assert_eq!(store.keys(), ["networkpolicies/default/foo", "tiers/sec"]);
    let other = store.run(&["get", "np", "default.foo"]);
    assert!(other.stderr.contains("does not exist: NetworkPolicy(default/default.foo)"), "{other:?}");
    // Its name is taken, in whatever tier.
    let create = store.run_with_input(&["create", "-f", "-"], &policy("foo", 1));
    assert!(create.stderr.contains("already exists: NetworkPolicy(default/foo)"), "{create:?}");
}
