//! One function a kind: v1 document in, v3 document out (calico-datamodel 5.2).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::types::{self, Document};
use super::{names, rules};
use crate::defaults::{NAMESPACE_LABEL, ORCHESTRATOR_LABEL};
use crate::resource::{
    BgpPeerSpec, EncapMode, GlobalNetworkPolicySpec, HostEndpointSpec, IpPoolSpec, NodeBgp, NodeSpec,
    PolicyType, ProfileSpec, TierSpec, WorkloadEndpointSpec, default_types,
};
use crate::strict::{Problem, from_value};
use crate::{AnyResource, Object, ObjectMeta, Spec};

type Converted = Result<Value, Vec<Problem>>;

fn read<M: DeserializeOwned, S: DeserializeOwned + Default>(
    document: &Value,
) -> Result<(M, S), Vec<Problem>> {
    let (read, problems) = from_value::<Document<M, S>>("", document);
    if let Some(read) = read
        && problems.is_empty()
    {
        let metadata = read.metadata.ok_or_else(|| vec![Problem::bad_object("metadata", "is required")])?;
        return Ok((metadata, read.spec));
    }
    Err(problems)
}

fn resource<S: Spec>(metadata: ObjectMeta, spec: S) -> Converted
where
    Object<S>: Into<AnyResource>,
{
    let resource: AnyResource = Object::new(metadata, spec).into();
    Ok(resource.to_value())
}

pub(super) fn ip_pool(document: &Value) -> Converted {
    let (metadata, spec) = read::<types::PoolMetadata, types::PoolSpec>(document)?;
    let ipip = match (spec.ipip.enabled, spec.ipip.mode) {
        (false, _) => EncapMode::Never,
        (true, types::IpipMode::Always) => EncapMode::Always,
        (true, types::IpipMode::CrossSubnet) => EncapMode::CrossSubnet,
    };
    resource(
        ObjectMeta::named(names::pool(&metadata.cidr)),
        IpPoolSpec {
            cidr: metadata.cidr,
            ipip_mode: Some(ipip),
            vxlan_mode: Some(EncapMode::Never),
            nat_outgoing: spec.nat_outgoing,
            disabled: spec.disabled,
            ..IpPoolSpec::default()
        },
    )
}

pub(super) fn bgp_peer(document: &Value) -> Converted {
    let (metadata, spec) = read::<types::PeerMetadata, types::PeerSpec>(document)?;
    match (metadata.scope, metadata.node.is_empty()) {
        (types::PeerScope::Node, true) => {
            return Err(vec![Problem::bad_object("metadata.node", "is required with scope node")]);
        }
        (types::PeerScope::Global, false) => {
            return Err(vec![Problem::bad_value("metadata.node", &metadata.node, "needs scope node")]);
        }
        _ => {}
    }
    let node = if metadata.node.is_empty() { String::new() } else { names::node_name(&metadata.node) };
    resource(
        ObjectMeta::named(names::peer(&metadata.node, metadata.peer_ip)),
        BgpPeerSpec {
            node,
            peer_ip: metadata.peer_ip.to_string(),
            as_number: spec.as_number,
            ..BgpPeerSpec::default()
        },
    )
}

pub(super) fn node(document: &Value) -> Converted {
    let (metadata, spec) = read::<types::NamedMetadata, types::NodeSpec>(document)?;
    let bgp = spec.bgp.map(|bgp| NodeBgp {
        as_number: bgp.as_number,
        ipv4_address: bgp.ipv4_address,
        ipv6_address: bgp.ipv6_address,
        ..NodeBgp::default()
    });
    resource(
        ObjectMeta::named(names::node_name(&metadata.name)),
        NodeSpec {
            bgp: bgp.filter(|bgp| *bgp != NodeBgp::default()),
            orch_refs: spec.orch_refs,
            ..NodeSpec::default()
        },
    )
}

pub(super) fn policy(document: &Value) -> Converted {
    let (metadata, spec) = read::<types::PolicyMetadata, types::PolicySpec>(document)?;
    let (ingress, egress) = (rules::rules(&spec.ingress), rules::rules(&spec.egress));
    let types: Vec<PolicyType> = spec
        .types
        .iter()
        .map(|t| match t {
            types::PolicyType::Ingress => PolicyType::Ingress,
            types::PolicyType::Egress => PolicyType::Egress,
        })
        .collect();
    let name = names::policy(&metadata.name);
    resource(
        ObjectMeta { annotations: metadata.annotations, ..ObjectMeta::named(name) },
        GlobalNetworkPolicySpec {
            order: spec.order,
            types: if types.is_empty() { default_types(&ingress, &egress) } else { types },
            ingress,
            egress,
            selector: rules::selector(&spec.selector),
            do_not_track: spec.do_not_track,
            pre_dnat: spec.pre_dnat,
            apply_on_forward: spec.do_not_track || spec.pre_dnat,
            ..GlobalNetworkPolicySpec::default()
        },
    )
}

pub(super) fn tier(document: &Value) -> Converted {
    let (metadata, spec) = read::<types::NamedMetadata, types::TierSpec>(document)?;
    resource(
        ObjectMeta::named(names::name(&metadata.name)),
        TierSpec { order: spec.order, ..TierSpec::default() },
    )
}

pub(super) fn profile(document: &Value) -> Converted {
    let (metadata, spec) = read::<types::ProfileMetadata, types::ProfileSpec>(document)?;
    let mut labels = metadata.labels;
    for (i, tag) in metadata.tags.iter().enumerate() {
        if labels.insert(tag.clone(), String::new()).is_some_and(|value| !value.is_empty()) {
            let rule = "a label has the same name; tags become labels in v3";
            return Err(vec![Problem::bad_value(format!("metadata.tags[{i}]"), tag, rule)]);
        }
    }
    resource(
        ObjectMeta::named(names::profile(&metadata.name)),
        ProfileSpec {
            ingress: rules::rules(&spec.ingress),
            egress: rules::rules(&spec.egress),
            labels_to_apply: labels,
        },
    )
}

pub(super) fn host_endpoint(document: &Value) -> Converted {
    let (metadata, spec) = read::<types::HostEndpointMetadata, types::HostEndpointSpec>(document)?;
    let name = names::name(&format!("{}.{}", metadata.node, metadata.name));
    resource(
        ObjectMeta { labels: metadata.labels, ..ObjectMeta::named(name) },
        HostEndpointSpec {
            node: names::node_name(&metadata.node),
            interface_name: spec.interface_name,
            expected_ips: spec.expected_ips,
            profiles: spec.profiles.iter().map(|p| names::profile(p)).collect(),
            ports: spec.ports,
        },
    )
}

pub(super) fn workload_endpoint(document: &Value) -> Converted {
    let (metadata, spec) = read::<types::WorkloadMetadata, types::WorkloadSpec>(document)?;
    let (namespace, pod, workload) = if metadata.orchestrator == "k8s" {
        let Some((namespace, pod)) = metadata.workload.split_once('.') else {
            let rule = "must be <namespace>.<pod> for orchestrator k8s";
            return Err(vec![Problem::bad_value("metadata.workload", &metadata.workload, rule)]);
        };
        (namespace.to_owned(), pod.to_owned(), String::new())
    } else {
        ("default".to_owned(), String::new(), names::name(&metadata.workload))
    };
    let mut labels: BTreeMap<String, String> =
        metadata.labels.into_iter().filter(|(name, _)| name != "calico/k8s_ns").collect();
    labels.insert(NAMESPACE_LABEL.to_owned(), namespace.clone());
    labels.insert(ORCHESTRATOR_LABEL.to_owned(), metadata.orchestrator.clone());
    let spec = WorkloadEndpointSpec {
        orchestrator: metadata.orchestrator,
        workload,
        node: names::node_name(&metadata.node),
        container_id: metadata.active_instance_id,
        pod,
        endpoint: metadata.name,
        ip_networks: spec.ip_networks,
        ip_nats: spec.ip_nats,
        ipv4_gateway: spec.ipv4_gateway,
        ipv6_gateway: spec.ipv6_gateway,
        profiles: spec.profiles.iter().map(|p| names::profile(p)).collect(),
        interface_name: spec.interface_name,
        mac: spec.mac,
        ports: spec.ports,
        allow_spoofed_source_prefixes: spec.allow_spoofed_source_prefixes,
        ..WorkloadEndpointSpec::default()
    };
    resource(ObjectMeta { labels, ..ObjectMeta::namespaced(namespace, "") }, spec)
}
