//! What users may not write, and the profile every cluster has without storing it (calico-datamodel 1.11, 2.5).

use tortie_datastore::ClientError;
use tortie_datastore::client::Identifier;
use tortie_model::resource::{Profile, ProfileSpec};
use tortie_model::rule::Rule;
use tortie_model::{AnyResource, Kind, ObjectMeta};

use super::OperationError;

const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// Policies made from Kubernetes NetworkPolicies have names that begin so.
const KUBERNETES_POLICY_PREFIX: &str = "knp.default.";

/// Whether it is the synthetic profile.
pub(super) fn is_default_allow(id: &Identifier) -> bool {
    id.kind == Kind::Profile && id.name == DEFAULT_ALLOW
}

/// The synthetic profile: one Allow rule each way.
pub(super) fn default_allow() -> AnyResource {
    let spec =
        ProfileSpec { ingress: vec![Rule::default()], egress: vec![Rule::default()], ..ProfileSpec::default() };
    let metadata =
        ObjectMeta { resource_version: Some("1".to_owned()), ..ObjectMeta::named(DEFAULT_ALLOW) };
    Profile::new(metadata, spec).into()
}

/// Refuses to write what others own. `operation` is `create`, `apply`, `update` or `delete`.
pub(super) fn refuse_write(operation: &'static str, id: &Identifier) -> Result<(), OperationError> {
    let unsupported = |reason: &str| {
        let (identifier, reason) = (id.clone(), reason.to_owned());
        Err(OperationError::Unsupported { operation, identifier, reason })
    };
    if id.kind == Kind::ClusterInformation {
        return unsupported("it is written by the nodes of the cluster");
    }
    if is_default_allow(id) {
        return match operation {
            "create" => Err(ClientError::AlreadyExists(id.clone()).into()),
            _ => unsupported("every cluster has it as it is"),
        };
    }
    if id.kind == Kind::NetworkPolicy && id.name.starts_with(KUBERNETES_POLICY_PREFIX) {
        return unsupported("it is made from a Kubernetes NetworkPolicy; change that one through Kubernetes");
    }
    Ok(())
}
