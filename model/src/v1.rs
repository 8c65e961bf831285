//! The API of Calico 2.x (`apiVersion: v1`), read strictly and converted to v3 (calico-datamodel 5).
//!
//! One way only: nothing is ever written in this form.
//!
//! | module | what it owns |
//! |---|---|
//! | `types` | the v1 documents |
//! | `names` | how v1 names become v3 names |
//! | `rules` | rules, tags and selectors |
//! | `convert` | one function a kind |

use serde_json::Value;

use crate::Kind;
use crate::strict::{Problem, nearest};

mod convert;
mod names;
mod rules;
mod types;

/// The kinds, in their exact case: `Node` with `apiVersion: v1` is Kubernetes' node, not Calico's.
const KINDS: [&str; 8] =
    ["bgpPeer", "hostEndpoint", "ipPool", "node", "policy", "profile", "tier", "workloadEndpoint"];

/// The v3 document of a v1 document. The result is well typed but not yet validated.
///
/// # Errors
/// Every problem found, in the field names of v1.
pub fn convert(document: &Value) -> Result<Value, Vec<Problem>> {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "bgpPeer" => convert::bgp_peer(document),
        "hostEndpoint" => convert::host_endpoint(document),
        "ipPool" => convert::ip_pool(document),
        "node" => convert::node(document),
        "policy" => convert::policy(document),
        "profile" => convert::profile(document),
        "tier" => convert::tier(document),
        "workloadEndpoint" => convert::workload_endpoint(document),
        _ => Err(vec![unknown_kind(kind)]),
    }
}

fn unknown_kind(kind: &str) -> Problem {
    let v3 = Kind::all().find(|k| k.name() == kind).is_some();
    let v3_hint = if v3 { format!("; or set apiVersion: {}", crate::API_VERSION) } else { String::new() };
    let hint = match nearest(kind, KINDS) {
        Some(name) => format!("; did you mean '{name}'?{v3_hint}"),
        None if v3 => format!("; set apiVersion: {}", crate::API_VERSION),
        None => format!("; kinds of the old v1 form are {}", KINDS.join(", ")),
    };
    Problem::UnknownKind { kind: kind.to_owned(), api_version: "v1".to_owned(), hint }
}

/// Where a field of the converted resource stands in the v1 document of `kind`.
pub fn v1_path(kind: &str, v3_path: &str) -> String {
    let renames: &[(&str, &str)] = match kind {
        "ipPool" => &[
            ("metadata.name", "metadata.cidr"),
            ("spec.cidr", "metadata.cidr"),
            ("spec.ipipMode", "spec.ipip.mode"),
            ("spec.natOutgoing", "spec.nat-outgoing"),
        ],
        "bgpPeer" => &[
            ("metadata.name", "metadata.peerIP"),
            ("spec.peerIP", "metadata.peerIP"),
            ("spec.node", "metadata.node"),
        ],
        "hostEndpoint" => &[("metadata.name", "metadata"), ("spec.node", "metadata.node")],
        "profile" => &[("spec.labelsToApply", "metadata.labels")],
        "workloadEndpoint" => &[
            ("metadata.name", "metadata"),
            ("spec.node", "metadata.node"),
            ("spec.orchestrator", "metadata.orchestrator"),
            ("spec.containerID", "metadata.activeInstanceID"),
            ("spec.pod", "metadata.workload"),
            ("spec.workload", "metadata.workload"),
            ("spec.endpoint", "metadata.name"),
            ("spec.allowSpoofedSourcePrefixes", "spec.allow_spoofed_source_prefixes"),
        ],
        _ => &[],
    };
    for (v3, v1) in renames {
        if let Some(rest) = v3_path.strip_prefix(v3)
            && (rest.is_empty() || rest.starts_with(['.', '[']))
        {
            return format!("{v1}{rest}");
        }
    }
    v3_path.to_owned()
}

#[cfg(test)]
mod tests;
