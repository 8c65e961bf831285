//! What users may not write (calico-datamodel 1.11, 2.5).

use tortie_datastore::client::{Identifier, is_built_in};
use tortie_model::Kind;

use super::OperationError;

/// Policies made from Kubernetes NetworkPolicies have names that begin so.
const KUBERNETES_POLICY_PREFIX: &str = "knp.default.";

/// Refuses to write what others own. `operation` is `create`, `apply`, `update` or `delete`.
pub(super) fn refuse_write(operation: &'static str, id: &Identifier) -> Result<(), OperationError> {
    let unsupported = |reason: &str| {
        let (identifier, reason) = (id.clone(), reason.to_owned());
        Err(OperationError::Unsupported { operation, identifier, reason })
    };
    if id.kind == Kind::ClusterInformation {
        return unsupported("it is written by the nodes of the cluster");
    }
    if id.kind == Kind::BlockAffinity {
        return unsupported("it is written by IPAM");
    }
    // Creating it fails as creating anything that exists.
    if is_built_in(id) && operation != "create" {
        return unsupported("every cluster has it as it is");
    }
    if matches!(id.kind, Kind::NetworkPolicy | Kind::StagedNetworkPolicy)
        && id.name.starts_with(KUBERNETES_POLICY_PREFIX)
    {
        return unsupported("it is made from a Kubernetes NetworkPolicy; change that one through Kubernetes");
    }
    Ok(())
}
