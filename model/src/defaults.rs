//! Defaults that clients write into the store (calico-datamodel 1.11, 2.1, 2.5): what a resource gets before it is
//! validated and stored. Readers must not rely on them: other clients and older versions leave some out.

use serde_json::Value;

use crate::AnyResource;
use crate::names::workload_endpoint_name;
use crate::resource::{
    AllowedUse, BgpConfiguration, EncapMode, FelixConfiguration, IpPoolSpec, PolicyType, StagedAction, Tier,
    TierAction, WorkloadEndpoint, default_types,
};
use crate::rule::Rule;

/// Tier of policies that name none.
pub const DEFAULT_TIER: &str = "default";

/// Label on policies with the name of their tier.
pub const TIER_LABEL: &str = "projectcalico.org/tier";

/// Label on workload endpoints with their namespace; also what `namespaceSelector` compares.
pub const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

/// Label on workload endpoints with their orchestrator.
pub const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";

/// Fills in everything a client stores without being told. What cannot be worked out, such as the name of an
/// incomplete workload endpoint, stays empty for validation to report.
pub fn apply(resource: &mut AnyResource, default_namespace: &str) {
    if resource.kind().is_namespaced() {
        resource.metadata_mut().namespace.get_or_insert_with(|| default_namespace.to_owned());
    } else {
        resource.metadata_mut().namespace = None;
    }
    match resource {
        AnyResource::IpPool(pool) => ip_pool(&mut pool.spec),
        AnyResource::NetworkPolicy(policy) => {
            let spec = &mut policy.spec;
            let tier = policy_defaults(&mut spec.tier, &mut spec.types, &spec.ingress, &spec.egress);
            policy.metadata.labels.insert(TIER_LABEL.to_owned(), tier);
        }
        AnyResource::GlobalNetworkPolicy(policy) => {
            let spec = &mut policy.spec;
            let tier = policy_defaults(&mut spec.tier, &mut spec.types, &spec.ingress, &spec.egress);
            policy.metadata.labels.insert(TIER_LABEL.to_owned(), tier);
        }
        AnyResource::StagedNetworkPolicy(policy) => {
            let (metadata, spec) = (&mut policy.metadata, &mut policy.spec);
            let action = *spec.staged_action.get_or_insert_default();
            let tier = staged_defaults(action, &mut spec.tier, &mut spec.types, &spec.ingress, &spec.egress);
            metadata.labels.insert(TIER_LABEL.to_owned(), tier);
        }
        AnyResource::StagedGlobalNetworkPolicy(policy) => {
            let (metadata, spec) = (&mut policy.metadata, &mut policy.spec);
            let action = *spec.staged_action.get_or_insert_default();
            let tier = staged_defaults(action, &mut spec.tier, &mut spec.types, &spec.ingress, &spec.egress);
            metadata.labels.insert(TIER_LABEL.to_owned(), tier);
        }
        AnyResource::StagedKubernetesNetworkPolicy(policy) => {
            policy.spec.staged_action.get_or_insert_default();
        }
        AnyResource::IpamConfiguration(config) => {
            let spec = &mut config.spec;
            spec.strict_affinity.get_or_insert(false);
            spec.max_blocks_per_host.get_or_insert(0);
            spec.auto_allocate_blocks.get_or_insert(true);
        }
        AnyResource::WorkloadEndpoint(endpoint) => workload_endpoint(endpoint),
        AnyResource::BgpConfiguration(config) => bgp_configuration(config),
        AnyResource::FelixConfiguration(config) => felix_configuration(config),
        AnyResource::Tier(tier) => tier_defaults(tier),
        AnyResource::BgpFilter(_)
        | AnyResource::BgpPeer(_)
        | AnyResource::BlockAffinity(_)
        | AnyResource::CalicoNodeStatus(_)
        | AnyResource::ClusterInformation(_)
        | AnyResource::GlobalNetworkSet(_)
        | AnyResource::HostEndpoint(_)
        | AnyResource::IpReservation(_)
        | AnyResource::KubeControllersConfiguration(_)
        | AnyResource::NetworkSet(_)
        | AnyResource::Node(_)
        | AnyResource::Profile(_) => {}
    }
}

fn ip_pool(spec: &mut IpPoolSpec) {
    spec.block_size = Some(spec.block_prefix());
    spec.vxlan_mode.get_or_insert(EncapMode::Never);
    spec.ipip_mode.get_or_insert(EncapMode::Never);
    if spec.node_selector.as_deref().is_none_or(str::is_empty) {
        spec.node_selector = Some("all()".to_owned());
    }
    if spec.allowed_uses.as_deref().is_none_or(<[AllowedUse]>::is_empty) {
        spec.allowed_uses = Some(vec![AllowedUse::Workload, AllowedUse::Tunnel]);
    }
    if spec.assignment_mode.as_deref().is_none_or(str::is_empty) {
        spec.assignment_mode = Some("Automatic".to_owned());
    }
}

/// Tier and types; returns the tier for the label, which clients since 3.32 always store.
fn policy_defaults(
    tier: &mut Option<String>,
    types: &mut Vec<PolicyType>,
    ingress: &[Rule],
    egress: &[Rule],
) -> String {
    if types.is_empty() {
        *types = default_types(ingress, egress);
    }
    if tier.as_deref().is_none_or(str::is_empty) {
        *tier = Some(DEFAULT_TIER.to_owned());
    }
    tier.clone().unwrap_or_default()
}

/// The same for a staged policy; one that stands for a deletion has nothing but its tier.
fn staged_defaults(
    action: StagedAction,
    tier: &mut Option<String>,
    types: &mut Vec<PolicyType>,
    ingress: &[Rule],
    egress: &[Rule],
) -> String {
    let had_types = !types.is_empty();
    let tier = policy_defaults(tier, types, ingress, egress);
    if action == StagedAction::Delete && !had_types {
        types.clear();
    }
    tier
}

fn workload_endpoint(endpoint: &mut WorkloadEndpoint) {
    let (metadata, spec) = (&mut endpoint.metadata, &endpoint.spec);
    if metadata.name.is_empty()
        && let Ok(name) = workload_endpoint_name(spec)
    {
        metadata.name = name;
    }
    if let Some(namespace) = &metadata.namespace {
        metadata.labels.insert(NAMESPACE_LABEL.to_owned(), namespace.clone());
    }
    if !spec.orchestrator.is_empty() {
        metadata.labels.insert(ORCHESTRATOR_LABEL.to_owned(), spec.orchestrator.clone());
    }
}

/// Only `default`: a default stored in a node's own object would override the cluster's value.
fn bgp_configuration(config: &mut BgpConfiguration) {
    if config.metadata.name != "default" {
        return;
    }
    let spec = &mut config.spec;
    spec.log_severity_screen.get_or_insert_with(|| "Info".to_owned());
    spec.service_load_balancer_aggregation.get_or_insert_with(|| "Enabled".to_owned());
}

fn felix_configuration(config: &mut FelixConfiguration) {
    if config.metadata.name != "default" {
        return;
    }
    for (name, value) in [
        ("floatingIPs", "Disabled"),
        ("bpfConnectTimeLoadBalancing", "TCP"),
        ("bpfHostNetworkedNATWithoutCTLB", "Enabled"),
    ] {
        config.spec.parameters.entry(name).or_insert_with(|| Value::String(value.to_owned()));
    }
}

fn tier_defaults(tier: &mut Tier) {
    let action = match tier.metadata.name.as_str() {
        "kube-admin" | "kube-baseline" | "adminnetworkpolicy" | "baselineadminnetworkpolicy" => {
            TierAction::Pass
        }
        _ => TierAction::Deny,
    };
    tier.spec.default_action.get_or_insert(action);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::codec::{encode, from_document};

    fn stored(kind: Kind, document: &str) -> String {
        let mut resource = from_document(kind, serde_json::from_str(document).unwrap()).unwrap();
        apply(&mut resource, "default");
        String::from_utf8(encode(&resource)).unwrap()
    }

    #[test]
    fn a_pool_is_stored_as_upstream_stores_it() {
        assert_eq!(
            stored(Kind::IpPool, r#"{"metadata":{"name":"p"},"spec":{"cidr":"10.65.0.0/16"}}"#),
            concat!(
                r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},"spec":{"#,
                r#""cidr":"10.65.0.0/16","vxlanMode":"Never","ipipMode":"Never","blockSize":26,"#,
                r#""nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}}"#
            )
        );
        assert!(stored(Kind::IpPool, r#"{"spec":{"cidr":"fd00::/48"}}"#).contains(r#""blockSize":122"#));
    }

    #[test]
    fn policies_get_types_tier_and_the_tier_label() {
        let text = stored(Kind::GlobalNetworkPolicy, r#"{"metadata":{"name":"p"},"spec":{"egress":[{}]}}"#);
        assert!(text.contains(r#""types":["Egress"]"#) && text.contains(r#""tier":"default""#), "{text}");
        assert!(text.contains(r#""labels":{"projectcalico.org/tier":"default"}"#), "{text}");
        let text = stored(Kind::NetworkPolicy, r#"{"metadata":{"name":"p"},"spec":{"tier":"sec"}}"#);
        assert!(
            text.contains(r#""types":["Ingress"]"#) && text.contains(r#""namespace":"default""#),
            "{text}"
        );
        assert!(text.contains(r#""projectcalico.org/tier":"sec""#), "{text}");
    }

    #[test]
    fn staged_policies_get_the_same_unless_they_delete() {
        for (kind, spec, expected) in [
            (
                Kind::StagedNetworkPolicy,
                r#"{"egress":[{}]}"#,
                r#""spec":{"stagedAction":"Set","tier":"default","egress":[{"action":"Allow"}],"types":["Egress"]}}"#,
            ),
            (
                Kind::StagedGlobalNetworkPolicy,
                r#"{"stagedAction":"Learn","tier":"sec"}"#,
                r#""spec":{"stagedAction":"Learn","tier":"sec","types":["Ingress"]}}"#,
            ),
            (
                Kind::StagedGlobalNetworkPolicy,
                r#"{"stagedAction":"Delete"}"#,
                r#""spec":{"stagedAction":"Delete","tier":"default"}}"#,
            ),
            (Kind::StagedKubernetesNetworkPolicy, "{}", r#""spec":{"stagedAction":"Set","podSelector":{}}}"#),
            (
                Kind::IpamConfiguration,
                r#"{"autoAllocateBlocks":false}"#,
                r#""spec":{"strictAffinity":false,"maxBlocksPerHost":0,"autoAllocateBlocks":false}}"#,
            ),
        ] {
            let text = stored(kind, &format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#));
            assert!(text.ends_with(expected), "{text}");
            let tier = if spec.contains("sec") { "sec" } else { "default" };
            let label = format!(r#""projectcalico.org/tier":"{tier}""#);
            assert_eq!(text.contains(&label), kind.has_tiered_names(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_gets_its_name_and_labels() {
        let text = stored(
            Kind::WorkloadEndpoint,
            r#"{"spec":{"node":"n-1","orchestrator":"k8s","pod":"a","endpoint":"eth0"}}"#,
        );
        assert!(text.contains(r#""name":"n--1-k8s-a-eth0","namespace":"default""#), "{text}");
        assert!(text.contains(r#""projectcalico.org/orchestrator":"k8s""#), "{text}");
    }

    #[test]
    fn a_nodes_own_configuration_overrides_nothing_it_does_not_say() {
        assert!(
            stored(Kind::BgpConfiguration, r#"{"metadata":{"name":"node.n1"}}"#).ends_with(r#""spec":{}}"#)
        );
    }
}
