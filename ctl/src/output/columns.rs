//! The columns of each kind and what stands in them (calico-datamodel 6.4). Values print as Go prints them.

use std::collections::BTreeMap;

use tortie_model::resource::{
    BgpFilterSpec, HostEndpointSpec, IpPoolSpec, LabelSelector, NodeSpec, WorkloadEndpointSpec,
};
use tortie_model::{AnyResource, Kind};

use super::table::plain;
use super::{Facts, Format, FormatError, Shown};

/// Default and wide columns.
fn columns_of(kind: Kind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        Kind::BgpConfiguration => same(&["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"]),
        Kind::BgpFilter => same(&["NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"]),
        Kind::BgpPeer => same(&["NAME", "PEERIP", "NODE", "ASN"]),
        Kind::ClusterInformation => {
            same(&["NAME", "CLUSTERGUID", "CLUSTERTYPE", "CALICOVERSION", "DATASTOREREADY"])
        }
        Kind::CalicoNodeStatus => (&["NAME", "NODE"], &["NAME", "NODE", "CLASSES"]),
        Kind::BlockAffinity | Kind::FelixConfiguration | Kind::KubeControllersConfiguration => {
            same(&["NAME"])
        }
        Kind::GlobalNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedNetworkPolicy => (&["NAME", "TIER"], &["NAME", "TIER", "ORDER", "SELECTOR"]),
        Kind::GlobalNetworkSet | Kind::NetworkSet => (&["NAME"], &["NAME", "NETS"]),
        Kind::HostEndpoint => (&["NAME", "NODE"], &["NAME", "NODE", "INTERFACE", "IPS", "PROFILES"]),
        Kind::IpReservation => (&["NAME"], &["NAME", "CIDRS"]),
        Kind::IpamConfiguration => (
            &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS"],
            &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"],
        ),
        Kind::StagedKubernetesNetworkPolicy => (&["NAME"], &["NAME", "PODSELECTOR"]),
        Kind::IpPool => (
            &["NAME", "CIDR", "SELECTOR"],
            &[
                "NAME",
                "CIDR",
                "NAT",
                "IPIPMODE",
                "VXLANMODE",
                "DISABLED",
                "DISABLEBGPEXPORT",
                "SELECTOR",
                "ASSIGNMENTMODE",
            ],
        ),
        Kind::Node => (&["NAME"], &["NAME", "ASN", "IPV4", "IPV6"]),
        Kind::Profile => (&["NAME"], &["NAME", "LABELS"]),
        Kind::Tier => same(&["NAME", "ORDER"]),
        Kind::WorkloadEndpoint => (
            &["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"],
            &["NAME", "WORKLOAD", "NODE", "NETWORKS", "INTERFACE", "PROFILES", "NATS"],
        ),
    }
}

fn same(columns: &'static [&'static str]) -> (&'static [&'static str], &'static [&'static str]) {
    (columns, columns)
}

/// The table of one resource, or of all of a kind.
///
/// # Errors
/// A column the kind does not have.
pub(super) fn table(shown: &Shown, format: &Format, facts: &Facts) -> Result<String, FormatError> {
    let kind = shown.kind();
    let (default, wide) = columns_of(kind);
    let mut columns: Vec<&str> = match format {
        Format::Columns(chosen) => chosen.iter().map(String::as_str).collect(),
        Format::Wide => wide.to_vec(),
        Format::Table | Format::Yaml | Format::Json | Format::Name => default.to_vec(),
    };
    let known = || {
        wide.iter().chain(default).copied().chain(["NAMESPACE"].into_iter().filter(|_| kind.is_namespaced()))
    };
    if let Some(column) = columns.iter().find(|column| !known().any(|known| known == **column)) {
        let known: Vec<&str> = wide.to_vec();
        return Err(FormatError::Column { column: (*column).to_owned(), kind, known: known.join(", ") });
    }
    let is_list = matches!(shown, Shown::List { .. });
    if is_list && facts.with_namespace && kind.is_namespaced() && !columns.contains(&"NAMESPACE") {
        columns.insert(0, "NAMESPACE");
    }
    let mut resources: Vec<&AnyResource> = shown.resources().iter().collect();
    if kind == Kind::Tier {
        resources.sort_by(|a, b| tier_order(a).total_cmp(&tier_order(b)));
    }
    let mut rows = vec![columns.iter().map(|&column| column.to_owned()).collect()];
    for resource in resources {
        rows.push(columns.iter().map(|column| cell(resource, column, facts)).collect());
    }
    Ok(plain(&rows))
}

/// Upstream sorts a tier without an order as if it had the default tier's.
fn tier_order(resource: &AnyResource) -> f64 {
    let order = if let AnyResource::Tier(tier) = resource { tier.spec.order } else { None };
    order.unwrap_or(1_000_000.0)
}

fn cell(resource: &AnyResource, column: &str, facts: &Facts) -> String {
    let metadata = resource.metadata();
    match column {
        "NAME" => return metadata.name.clone(),
        "NAMESPACE" => return metadata.namespace.clone().unwrap_or_default(),
        _ => {}
    }
    match resource {
        AnyResource::BgpConfiguration(config) => match column {
            "LOGSEVERITY" => config.spec.log_severity_screen.clone().unwrap_or_default(),
            "MESHENABLED" => pointer(config.spec.node_to_node_mesh_enabled),
            _ => pointer(config.spec.as_number),
        },
        AnyResource::BgpFilter(filter) => filter_cell(&filter.spec, column),
        AnyResource::BgpPeer(peer) => match column {
            "PEERIP" => peer.spec.peer_ip.clone(),
            "NODE" => [&peer.spec.node, &peer.spec.node_selector]
                .into_iter()
                .find(|text| !text.is_empty())
                .map_or_else(|| "(global)".to_owned(), Clone::clone),
            // Not a pointer upstream, so an absent number is 0.
            _ => peer.spec.as_number.map_or(0, |number| number.0).to_string(),
        },
        AnyResource::ClusterInformation(info) => match column {
            "CLUSTERGUID" => info.spec.cluster_guid.clone(),
            "CLUSTERTYPE" => info.spec.cluster_type.clone(),
            "CALICOVERSION" => info.spec.calico_version.clone(),
            _ => pointer(info.spec.datastore_ready),
        },
        AnyResource::BlockAffinity(_)
        | AnyResource::FelixConfiguration(_)
        | AnyResource::KubeControllersConfiguration(_) => String::new(),
        AnyResource::CalicoNodeStatus(status) => match column {
            "NODE" => status.spec.node.clone(),
            _ => joined(&status.spec.classes),
        },
        AnyResource::GlobalNetworkSet(set) => set.spec.nets.join(","),
        AnyResource::NetworkSet(set) => set.spec.nets.join(","),
        AnyResource::HostEndpoint(endpoint) => host_endpoint_cell(&endpoint.spec, column),
        AnyResource::IpReservation(reservation) => reservation.spec.reserved_cidrs.join(","),
        // No pointers upstream: absent is false, or 0.
        AnyResource::IpamConfiguration(config) => match column {
            "STRICTAFFINITY" => config.spec.strict_affinity.unwrap_or_default().to_string(),
            "AUTOALLOCATEBLOCKS" => config.spec.auto_allocate_blocks.unwrap_or_default().to_string(),
            _ => config.spec.max_blocks_per_host.unwrap_or_default().to_string(),
        },
        AnyResource::StagedGlobalNetworkPolicy(policy) => {
            policy_cell(&policy.spec.tier, policy.spec.order, &policy.spec.selector, column)
        }
        AnyResource::StagedKubernetesNetworkPolicy(policy) => go_selector(&policy.spec.pod_selector),
        AnyResource::StagedNetworkPolicy(policy) => {
            policy_cell(&policy.spec.tier, policy.spec.order, &policy.spec.selector, column)
        }
        AnyResource::GlobalNetworkPolicy(policy) => {
            policy_cell(&policy.spec.tier, policy.spec.order, &policy.spec.selector, column)
        }
        AnyResource::NetworkPolicy(policy) => {
            policy_cell(&policy.spec.tier, policy.spec.order, &policy.spec.selector, column)
        }
        AnyResource::IpPool(pool) => pool_cell(&pool.spec, column),
        AnyResource::Node(node) => node_cell(&node.spec, column, facts),
        AnyResource::Profile(profile) => go_map(&profile.spec.labels_to_apply),
        AnyResource::Tier(tier) => tier.spec.order.map_or_else(nil, go_float),
        AnyResource::WorkloadEndpoint(endpoint) => endpoint_cell(&endpoint.spec, column),
    }
}

fn policy_cell(tier: &Option<String>, order: Option<f64>, selector: &str, column: &str) -> String {
    match column {
        "TIER" => tier.clone().unwrap_or_else(|| "default".to_owned()),
        "ORDER" => order.map_or_else(nil, go_float),
        _ => selector.to_owned(),
    }
}

fn filter_cell(spec: &BgpFilterSpec, column: &str) -> String {
    let rules = match column {
        "NUMEXPORTV4" => spec.export_v4.len(),
        "NUMIMPORTV4" => spec.import_v4.len(),
        "NUMEXPORTV6" => spec.export_v6.len(),
        _ => spec.import_v6.len(),
    };
    rules.to_string()
}

fn host_endpoint_cell(spec: &HostEndpointSpec, column: &str) -> String {
    match column {
        "NODE" => spec.node.clone(),
        "INTERFACE" => spec.interface_name.clone(),
        "IPS" => joined(&spec.expected_ips),
        _ => spec.profiles.join(","),
    }
}

fn pool_cell(spec: &IpPoolSpec, column: &str) -> String {
    match column {
        "CIDR" => spec.cidr.to_string(),
        "NAT" => spec.nat_outgoing.to_string(),
        "IPIPMODE" => spec.ipip().to_string(),
        "VXLANMODE" => spec.vxlan().to_string(),
        "DISABLED" => spec.disabled.to_string(),
        "DISABLEBGPEXPORT" => spec.disable_bgp_export.to_string(),
        "ASSIGNMENTMODE" => pointer(spec.assignment_mode.as_deref()),
        _ => spec.node_selector.clone().unwrap_or_default(),
    }
}

fn node_cell(spec: &NodeSpec, column: &str, facts: &Facts) -> String {
    let bgp = spec.bgp.as_ref();
    let address = |network: Option<ipnetwork::IpNetwork>| network.map(|n| n.to_string()).unwrap_or_default();
    match column {
        "ASN" => match bgp.and_then(|bgp| bgp.as_number) {
            Some(number) => number.to_string(),
            None => format!("({})", facts.default_as),
        },
        "IPV4" => address(bgp.and_then(|bgp| bgp.ipv4_address)),
        _ => address(bgp.and_then(|bgp| bgp.ipv6_address)),
    }
}

fn endpoint_cell(spec: &WorkloadEndpointSpec, column: &str) -> String {
    match column {
        "WORKLOAD" => match spec.orchestrator.as_str() {
            "k8s" => spec.pod.clone(),
            "cni" => spec.container_id.clone(),
            _ => spec.workload.clone(),
        },
        "NODE" => spec.node.clone(),
        "NETWORKS" => joined(&spec.ip_networks),
        "INTERFACE" => spec.interface_name.clone(),
        "PROFILES" => spec.profiles.join(","),
        _ => joined(spec.ip_nats.iter().map(|nat| format!("{}/{}", nat.internal_ip, nat.external_ip))),
    }
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// What Go prints for a pointer to nothing.
fn nil() -> String {
    "<nil>".to_owned()
}

fn pointer<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(nil, |value| value.to_string())
}

/// A map as Go prints it: `map[a:b c:d]`.
fn go_map(map: &BTreeMap<String, String>) -> String {
    let members: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", members.join(" "))
}

/// A selector of Kubernetes as Go prints it: `{map[a:b] [{c In [d e]}]}`.
fn go_selector(selector: &LabelSelector) -> String {
    let expressions: Vec<String> = selector
        .match_expressions
        .iter()
        .map(|one| format!("{{{} {} [{}]}}", one.key, one.operator, one.values.join(" ")))
        .collect();
    format!("{{{} [{}]}}", go_map(&selector.match_labels), expressions.join(" "))
}

/// A float as Go's `%v` prints it: the shortest digits that read back, with an exponent below 10^-4 and from 10^6 on.
pub(super) fn go_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
