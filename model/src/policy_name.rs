//! Names of policies: what users call them and what they are stored as (calico-datamodel 1.10, decision 0007).
//!
//! Policy `foo` of tier `default` is stored as `default.foo` up to Calico 3.31 and as `foo` since; from 3.29 on an
//! annotation holds the name its user gave it. All of these are one policy. It holds for NetworkPolicy,
//! GlobalNetworkPolicy and their staged twins ([`Kind::has_tiered_names`](crate::Kind::has_tiered_names)).

use std::collections::BTreeMap;

use crate::AnyResource;
use crate::defaults::DEFAULT_TIER;

/// Annotation whose value is JSON with the name the user gave a policy. Stored, never shown.
pub const NAME_ANNOTATION: &str = "projectcalico.org/metadata";

/// What stands before the names of policies in tier `default`.
const DEFAULT_PREFIX: &str = "default.";

/// Names that other systems own; they are the same in every era.
const OWNED_PREFIXES: [&str; 5] = ["knp.", "ossg.", "kanp.", "kbanp.", "kcnp."];

fn is_owned(name: &str) -> bool {
    OWNED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn in_default_tier(tier: Option<&str>) -> bool {
    tier.is_none_or(|tier| tier.is_empty() || tier == DEFAULT_TIER)
}

/// The name users know a stored policy by: the annotation's; else without the prefix of tier `default`; else as stored.
pub fn shown(stored: &str, tier: Option<&str>, annotations: &BTreeMap<String, String>) -> String {
    if let Some(name) = annotations.get(NAME_ANNOTATION).and_then(|note| noted(note)) {
        return name;
    }
    match stored.strip_prefix(DEFAULT_PREFIX) {
        Some(name) if in_default_tier(tier) && !name.is_empty() => name.to_owned(),
        Some(_) | None => stored.to_owned(),
    }
}

/// The name in the annotation's value, if it has one.
fn noted(annotation: &str) -> Option<String> {
    let note: serde_json::Value = serde_json::from_str(annotation).ok()?;
    note.get("name")?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The annotation's value for a policy its user calls `name`.
pub fn note(name: &str) -> String {
    serde_json::json!({ "name": name }).to_string()
}

/// What a new policy is stored as: with the prefix in tier `default`, in other tiers as its user calls it.
pub fn stored(name: &str, tier: Option<&str>) -> String {
    if in_default_tier(tier) && !name.starts_with(DEFAULT_PREFIX) && !is_owned(name) {
        return format!("{DEFAULT_PREFIX}{name}");
    }
    name.to_owned()
}

/// The stored names a policy called `name` may have, in the order they are tried. Whether the one found is meant,
/// [`is_called`] knows.
pub fn candidates(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if !is_owned(name) && !name.is_empty() {
        names.push(format!("{DEFAULT_PREFIX}{name}"));
        names.extend(name.strip_prefix(DEFAULT_PREFIX).filter(|rest| !rest.is_empty()).map(str::to_owned));
    }
    names
}

/// Whether the policy stored as `stored` is the one a user means by `name`: it is stored or shown so, or it is one of tier
/// `default` and the two differ in the prefix only.
pub fn is_called(
    name: &str,
    stored: &str,
    tier: Option<&str>,
    annotations: &BTreeMap<String, String>,
) -> bool {
    let prefixed = |long: &str, short: &str| long.strip_prefix(DEFAULT_PREFIX) == Some(short);
    name == stored
        || name == shown(stored, tier, annotations)
        || (in_default_tier(tier) && !is_owned(name) && (prefixed(stored, name) || prefixed(name, stored)))
}

/// The tier of a policy, as its spec has it; `None` for other kinds too.
pub fn tier(resource: &AnyResource) -> Option<&str> {
    let tier = if let AnyResource::GlobalNetworkPolicy(policy) = resource {
        &policy.spec.tier
    } else if let AnyResource::NetworkPolicy(policy) = resource {
        &policy.spec.tier
    } else if let AnyResource::StagedGlobalNetworkPolicy(policy) = resource {
        &policy.spec.tier
    } else if let AnyResource::StagedNetworkPolicy(policy) = resource {
        &policy.spec.tier
    } else {
        return None;
    };
    tier.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_eras_are_shown_as_their_users_call_them() {
        for (stored, tier, annotation, expected) in [
            ("default.foo", None, None, "foo"),
            ("default.foo", Some("default"), None, "foo"),
            ("default.foo", Some("default"), Some(r#"{"name":"foo"}"#), "foo"),
            ("foo", Some("default"), None, "foo"),
            ("foo", Some("default"), Some(r#"{"name":"foo"}"#), "foo"),
            ("default.foo", Some("default"), Some(r#"{"name":"default.foo"}"#), "default.foo"),
            ("default.a.b", None, None, "a.b"),
            ("sec.foo", Some("sec"), None, "sec.foo"),
            ("default.foo", Some("sec"), None, "default.foo"),
            ("knp.default.foo", None, None, "knp.default.foo"),
            ("default.foo", None, Some("no JSON"), "foo"),
            ("default.foo", None, Some(r#"{"name":""}"#), "foo"),
            ("default.foo", None, Some(r#"{"name":7}"#), "foo"),
            ("default.", None, None, "default."),
        ] {
            let annotations = annotation.map(|note| (NAME_ANNOTATION.to_owned(), note.to_owned()));
            assert_eq!(shown(stored, tier, &annotations.into_iter().collect()), expected, "{stored}");
        }
    }

    #[test]
    fn new_policies_of_the_default_tier_get_its_prefix() {
        for (name, tier, expected) in [
            ("foo", None, "default.foo"),
            ("foo", Some(""), "default.foo"),
            ("foo", Some("default"), "default.foo"),
            ("default.foo", Some("default"), "default.foo"),
            ("a.b", Some("default"), "default.a.b"),
            ("foo", Some("sec"), "foo"),
            ("sec.foo", Some("sec"), "sec.foo"),
            ("knp.default.foo", None, "knp.default.foo"),
            ("ossg.default.foo", None, "ossg.default.foo"),
        ] {
            assert_eq!(stored(name, tier), expected, "{name}");
        }
    }

    #[test]
    fn a_policy_is_found_under_both_names_and_never_taken_for_another() {
        assert_eq!(candidates("foo"), ["foo", "default.foo"]);
        assert_eq!(candidates("default.foo"), ["default.foo", "default.default.foo", "foo"]);
        assert_eq!(candidates("knp.default.foo"), ["knp.default.foo"]);
        assert_eq!(candidates("default."), ["default.", "default.default."]);
        for (name, stored, tier, noted, expected) in [
            ("foo", "foo", Some("sec"), None, true),
            ("foo", "default.foo", None, None, true),
            ("foo", "default.foo", None, Some("default.foo"), true),
            ("default.foo", "foo", Some("default"), Some("foo"), true),
            ("default.foo", "default.default.foo", None, None, true),
            ("foo", "default.foo", Some("sec"), None, false),
            // A policy that moved to another tier keeps its key.
            ("foo", "default.foo", Some("sec"), Some("foo"), true),
            ("default.foo", "foo", Some("sec"), Some("foo"), false),
            ("knp.default.foo", "default.knp.default.foo", None, Some("x"), false),
        ] {
            let noted = noted.map(|name| (NAME_ANNOTATION.to_owned(), note(name))).into_iter().collect();
            assert_eq!(is_called(name, stored, tier, &noted), expected, "{name} {stored}");
        }
    }
}
