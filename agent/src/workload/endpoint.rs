//! The WorkloadEndpoint of an attached workload, and the profile of a network outside Kubernetes. Pure, but for the
//! identity of new objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::ObjectMeta;
use tortie_model::local_api::AttachRequest;
use tortie_model::resource::{Profile, ProfileSpec, WorkloadEndpoint, WorkloadEndpointSpec};
use tortie_model::rule::{EntityRule, Rule};

use super::identity::Identity;

const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
/// What pods run as unless someone says otherwise.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// UUID and creation time of a new object. `now` is RFC 3339.
fn created(metadata: ObjectMeta, now: String) -> ObjectMeta {
    ObjectMeta { uid: Some(uuid::Uuid::new_v4().to_string()), creation_timestamp: Some(now), ..metadata }
}

/// The endpoint to store (felix-dataplane 9.2). An endpoint already there under the same name keeps its identity and
/// what we know nothing of.
pub(super) fn endpoint(
    identity: &Identity,
    request: &AttachRequest,
    stored: Option<&WorkloadEndpoint>,
    addresses: &[IpAddr],
    now: String,
) -> WorkloadEndpoint {
    let metadata = ObjectMeta::namespaced(identity.namespace.clone(), identity.endpoint.clone());
    let mut endpoint = match stored {
        Some(stored) => stored.clone(),
        None => WorkloadEndpoint::new(created(metadata, now), WorkloadEndpointSpec::default()),
    };
    endpoint.metadata.labels = labels(identity, request);
    let in_kubernetes = identity.pod.is_some();
    endpoint.spec = WorkloadEndpointSpec {
        orchestrator: identity.orchestrator.to_owned(),
        node: identity.node.clone(),
        container_id: identity.container.clone(),
        pod: identity.pod.clone().unwrap_or_default(),
        endpoint: identity.interface.clone(),
        service_account_name: if in_kubernetes { DEFAULT_SERVICE_ACCOUNT.to_owned() } else { String::new() },
        ip_networks: addresses.iter().copied().map(IpNetwork::from).collect(),
        profiles: profiles(identity),
        interface_name: identity.host_interface.clone(),
        mac: identity.mac().to_string(),
        ..WorkloadEndpointSpec::default()
    };
    endpoint
}

fn labels(identity: &Identity, request: &AttachRequest) -> BTreeMap<String, String> {
    let mut labels = request.labels.clone();
    labels.insert(NAMESPACE_LABEL.to_owned(), identity.namespace.clone());
    labels.insert(ORCHESTRATOR_LABEL.to_owned(), identity.orchestrator.to_owned());
    labels
}

fn profiles(identity: &Identity) -> Vec<String> {
    let namespace = &identity.namespace;
    match identity.pod {
        Some(_) => vec![format!("kns.{namespace}"), format!("ksa.{namespace}.{DEFAULT_SERVICE_ACCOUNT}")],
        None => vec![identity.network.clone()],
    }
}

/// The profile a network outside Kubernetes starts with: its members reach each other, and they reach everything
/// (felix-dataplane 9.2).
pub(super) fn network_profile(network: &str, now: String) -> Profile {
    let members = EntityRule { selector: format!("has({network})"), ..EntityRule::default() };
    let spec = ProfileSpec {
        ingress: vec![Rule { source: members, ..Rule::default() }],
        egress: vec![Rule::default()],
        labels_to_apply: BTreeMap::from([(network.to_owned(), String::new())]),
    };
    Profile::new(created(ObjectMeta::named(network), now), spec)
}

/// Secondary attributes of the allocation (calico-datamodel 4.6). `time` is Go's text of a time in UTC.
pub(super) fn attributes(identity: &Identity, time: String) -> BTreeMap<String, String> {
    let mut attributes =
        BTreeMap::from([("node".to_owned(), identity.node.clone()), ("timestamp".to_owned(), time)]);
    if let Some(pod) = &identity.pod {
        attributes.insert("pod".to_owned(), pod.clone());
        attributes.insert("namespace".to_owned(), identity.namespace.clone());
    }
    attributes
}
