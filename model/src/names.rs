//! Names composed by rule: workload endpoints, host interfaces, CIDRs and names in keys.

use ipnetwork::IpNetwork;
use sha1::{Digest, Sha1};

use crate::resource::WorkloadEndpointSpec;

/// `10.65.3.0/26` as it stands in keys: `10.65.3.0-26`.
pub fn cidr_to_key(cidr: &IpNetwork) -> String {
    format!("{}-{}", cidr.network(), cidr.prefix())
}

/// The CIDR of its text in a key; `None` unless it is exactly the text [`cidr_to_key`] writes: masked, compressed, no
/// sign or leading zero. Another spelling would be a second key for the same block.
pub fn cidr_from_key(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.rsplit_once('-')?;
    let cidr = IpNetwork::new(address.parse().ok()?, length.parse().ok()?).ok()?;
    (cidr_to_key(&cidr) == text).then_some(cidr)
}

/// Why a workload endpoint has no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A field the name is made of is empty.
    #[error("insufficient identifiers, missing '{0}'")]
    Missing(&'static str),
    /// A field the name is made of begins or ends with a dash.
    #[error("error with field {field} = '{value}' (field must not begin or end with a '-')")]
    Dash {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
}

/// The name of a workload endpoint: node, orchestrator, the orchestrator's id and the interface, dashes doubled,
/// joined by single ones (calico-datamodel 1.9).
///
/// # Errors
/// When a field it needs is empty or has a dash at an end.
pub fn workload_endpoint_name(spec: &WorkloadEndpointSpec) -> Result<String, NameError> {
    let mut parts = Vec::with_capacity(SEGMENTS);
    for (field, value) in segments(spec) {
        if value.is_empty() {
            return Err(NameError::Missing(field));
        }
        parts.push(doubled(field, value)?);
    }
    Ok(parts.join("-"))
}

/// What the names of all workload endpoints with these leading segments begin with, up to the first that is empty: a
/// whole name when none is, else an empty text or one that ends in `-`.
///
/// # Errors
/// When a segment in use has a dash at an end.
pub fn workload_endpoint_prefix(spec: &WorkloadEndpointSpec) -> Result<String, NameError> {
    let mut parts = Vec::with_capacity(SEGMENTS);
    for (field, value) in segments(spec) {
        if value.is_empty() {
            parts.push(String::new());
            break;
        }
        parts.push(doubled(field, value)?);
    }
    Ok(parts.join("-"))
}

/// What [`workload_endpoint_name`] is made of; `None` for a text it never makes.
pub fn parse_workload_endpoint_name(name: &str) -> Option<WorkloadEndpointSpec> {
    let mut parts = vec![String::new()];
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '-' {
            parts.last_mut()?.push(c);
        } else if let Some(after) = rest.strip_prefix('-') {
            parts.last_mut()?.push('-');
            rest = after;
        } else {
            parts.push(String::new());
        }
    }
    let [node, orchestrator, id, endpoint] = <[String; SEGMENTS]>::try_from(parts).ok()?;
    let mut spec = WorkloadEndpointSpec { node, orchestrator, endpoint, ..WorkloadEndpointSpec::default() };
    match spec.orchestrator.as_str() {
        "k8s" => spec.pod = id,
        "cni" => spec.container_id = id,
        "libnetwork" => {}
        _ => spec.workload = id,
    }
    // Undoubling alone is too generous: it would take `a---b`, and any id with libnetwork.
    (workload_endpoint_name(&spec).as_deref() == Ok(name)).then_some(spec)
}

const SEGMENTS: usize = 4;

/// Fields in the order they have in the name.
fn segments(spec: &WorkloadEndpointSpec) -> [(&'static str, &str); SEGMENTS] {
    let (id_field, id) = match spec.orchestrator.as_str() {
        "k8s" => ("pod", spec.pod.as_str()),
        "cni" => ("containerID", spec.container_id.as_str()),
        "libnetwork" => ("workload", "libnetwork"),
        _ => ("workload", spec.workload.as_str()),
    };
    [
        ("node", spec.node.as_str()),
        ("orchestrator", spec.orchestrator.as_str()),
        (id_field, id),
        ("endpoint", spec.endpoint.as_str()),
    ]
}

fn doubled(field: &'static str, value: &str) -> Result<String, NameError> {
    if value.starts_with('-') || value.ends_with('-') {
        return Err(NameError::Dash { field, value: value.to_owned() });
    }
    Ok(value.replace('-', "--"))
}

/// A name as it stands in one segment of a v1 key (calico-datamodel 1.4): `%` and `/` escaped, in lower case.
pub fn escape_name(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f")
}

/// The name of an escaped one. Other escapes stay as they are, as upstream leaves them.
pub fn unescape_name(escaped: &str) -> String {
    escaped.replace("%2f", "/").replace("%25", "%")
}

/// Name prefix of every interface that belongs to a workload.
pub const INTERFACE_PREFIX: &str = "cali";

/// Host interface of a Kubernetes pod: `cali` and the first 11 hexadecimal digits of SHA-1 over `namespace.pod`.
pub fn pod_interface_name(namespace: &str, pod: &str) -> String {
    let digest = hex::encode(Sha1::digest(format!("{namespace}.{pod}")));
    format!("{INTERFACE_PREFIX}{}", &digest[..11])
}

/// Host interface of a container outside Kubernetes: `cali` and the first 11 characters of its id.
pub fn container_interface_name(container_id: &str) -> String {
    format!("{INTERFACE_PREFIX}{}", container_id.chars().take(11).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_match_upstream() {
        assert_eq!(pod_interface_name("default", "nginx"), "calic440f455693");
        assert_eq!(pod_interface_name("kube-system", "coredns-0"), "cali8c346e38bf4");
        assert_eq!(container_interface_name("0123456789abcdef"), "cali0123456789a");
    }

    #[test]
    fn endpoint_names_double_dashes() {
        let mut spec = WorkloadEndpointSpec {
            node: "node-1".into(),
            orchestrator: "k8s".into(),
            pod: "pod-name".into(),
            endpoint: "eth0".into(),
            ..Default::default()
        };
        assert_eq!(workload_endpoint_name(&spec).unwrap(), "node--1-k8s-pod--name-eth0");
        spec.pod = "-x".into();
        assert!(matches!(workload_endpoint_name(&spec), Err(NameError::Dash { field: "pod", .. })));
        spec.pod.clear();
        assert_eq!(workload_endpoint_name(&spec), Err(NameError::Missing("pod")));
    }
}
