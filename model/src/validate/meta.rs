//! Names, namespaces, labels and annotations.

use crate::strict::Problem;
use crate::{AnyResource, Kind, ObjectMeta};

use super::Report;
use crate::names::workload_endpoint_name;

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
/// Of all annotations together, names and values.
const MAX_ANNOTATION_BYTES: usize = 256 << 10;

pub(super) fn metadata(resource: &AnyResource, report: &mut Report) {
    let metadata = resource.metadata();
    name(resource, report);
    if let Some(namespace) = &metadata.namespace
        && !is_dns_label(namespace)
    {
        report.bad("metadata.namespace", namespace, DNS_LABEL_RULE);
    }
    for (key, value) in &metadata.labels {
        label("metadata.labels", key, value, report);
    }
    annotations(metadata, report);
}

fn name(resource: &AnyResource, report: &mut Report) {
    let metadata = resource.metadata();
    let name = metadata.name.as_str();
    if let AnyResource::WorkloadEndpoint(endpoint) = resource {
        match workload_endpoint_name(&endpoint.spec) {
            Ok(expected) if expected != name && !name.is_empty() => {
                report.bad("metadata.name", name, format!("must be '{expected}', or left out"));
            }
            Ok(_) => {}
            Err(crate::names::NameError::Missing(field)) => {
                report.object(format!("spec.{field}"), "is required: the endpoint's name is made of it");
            }
            Err(crate::names::NameError::Dash { field, value }) => {
                report.bad(format!("spec.{field}"), value, "must not begin or end with a '-'");
            }
        }
        return;
    }
    if name.is_empty() {
        report.object("metadata.name", "is required");
    } else if resource.kind() == Kind::Tier {
        if !is_dns_label(name) {
            report.bad("metadata.name", name, DNS_LABEL_RULE);
        }
    } else if !is_dns_subdomain(name) {
        report.bad("metadata.name", name, DNS_SUBDOMAIN_RULE);
    } else if resource.kind().has_tiered_names() {
        policy_name(name, report);
    }
}

/// A policy's name is a label, or two joined by a dot: up to 3.31 the first one was the tier. Names of policies that
/// other systems own have three parts.
fn policy_name(name: &str, report: &mut Report) {
    let owned = ["knp.default.", "ossg.default."].iter().any(|prefix| name.starts_with(prefix));
    if !owned && name.split('.').count() > 2 {
        report.bad("metadata.name", name, "a policy's name has at most one dot");
    }
}

const DNS_LABEL_RULE: &str = "must consist of lower case letters, digits and '-', begin and end with a letter or digit, at most 63 characters";
const DNS_SUBDOMAIN_RULE: &str = "must consist of lower case letters, digits, '-' and '.', each part beginning and ending with a letter or \
     digit, at most 253 characters";
const LABEL_KEY_RULE: &str =
    "a label's name is letters, digits, '-', '_' and '.', at most 63, optionally after a DNS prefix and '/'";
const LABEL_VALUE_RULE: &str = "a label's value is letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, at most 63";

/// A label as Kubernetes defines them.
pub(super) fn label(path: &str, key: &str, value: &str, report: &mut Report) {
    if !is_qualified_name(key) {
        report.bad(path, key, LABEL_KEY_RULE);
    }
    if !value.is_empty() && !is_label_part(value) {
        report.problems.push(Problem::bad_value(format!("{path}[{key}]"), value, LABEL_VALUE_RULE));
    }
}

fn annotations(metadata: &ObjectMeta, report: &mut Report) {
    for key in metadata.annotations.keys().filter(|key| !is_qualified_name(&key.to_ascii_lowercase())) {
        report.bad("metadata.annotations", key, LABEL_KEY_RULE);
    }
    let bytes: usize = metadata.annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > MAX_ANNOTATION_BYTES {
        let rule = format!("have {bytes} bytes, at most {MAX_ANNOTATION_BYTES} are allowed");
        report.object("metadata.annotations", rule);
    }
}

/// RFC 1123 label in lower case, at most 63 characters.
pub(super) fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_LABEL
        && text.bytes().all(|b| alphanumeric(b) || b == b'-')
        && text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().last().is_some_and(alphanumeric)
}

/// RFC 1123 subdomain in lower case: labels (here of any length) joined by dots, at most 253 characters.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        part.bytes().all(|b| alphanumeric(b) || b == b'-')
            && part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().last().is_some_and(alphanumeric)
    };
    text.len() <= MAX_NAME && text.split('.').all(part)
}

fn is_label_part(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_alphanumeric();
    text.len() <= MAX_LABEL
        && text.bytes().all(|b| alphanumeric(b) || b"-_.".contains(&b))
        && text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().last().is_some_and(alphanumeric)
}

fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_part(name),
        None => is_label_part(key),
    }
}
