//! Blocks, handles and claims against endpoints and nodes: what leaked, and what contradicts itself (calico-datamodel
//! 4.8, 6.6). Pure but for [`load`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tortie_datastore::Client;
use tortie_model::Key;
use tortie_model::ipam::{Block, Handle};
use tortie_model::resource::{
    ClusterInformationSpec, IpPool, IpPoolSpec, Node, NodeSpec, WorkloadEndpoint, WorkloadEndpointSpec,
};

use super::OperationError;

/// The type of an allocation whose users, Services, are not in the datastore.
const LOAD_BALANCER: &str = "loadBalancer";

/// Everything a check looks at.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) blocks: Vec<Block>,
    /// Node and block of each claim.
    pub(crate) claims: Vec<(String, IpNetwork)>,
    /// Id, revision and value.
    pub(crate) handles: Vec<(String, i64, Handle)>,
    pub(crate) pools: Vec<IpPool>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) endpoints: Vec<WorkloadEndpoint>,
    pub(crate) head: Head,
    /// Values that are not what their keys say.
    pub(crate) unreadable: Vec<String>,
}

/// Which cluster, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    pub(crate) version: String,
    #[serde(rename = "clusterGUID")]
    pub(crate) cluster_guid: String,
    pub(crate) datastore_locked: bool,
    pub(crate) cluster_information_revision: String,
    pub(crate) cluster_type: String,
}

/// What a check found; written by `-o`, read by `ipam release --from-report`.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) head: Head,
    #[serde(default)]
    pub(crate) allocations: BTreeMap<IpAddr, Vec<Allocation>>,
    #[serde(default)]
    pub(crate) leaked_handles: Vec<LeakedHandle>,
    /// Contradictions, in words.
    #[serde(default)]
    pub(crate) problems: Vec<String>,
}

/// An allocation of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Allocation {
    pub(crate) ip: String,
    pub(crate) handle: String,
    pub(crate) sequence_number: u64,
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) node: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) creation_timestamp: String,
    pub(crate) in_use: bool,
    pub(crate) borrowed: bool,
    pub(crate) cooling_down: bool,
    pub(crate) owners: Vec<String>,
}

impl Allocation {
    /// Whether nobody uses the address and nobody will.
    pub(crate) fn is_leaked(&self) -> bool {
        !self.in_use && !self.cooling_down
    }
}

/// A handle that holds nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LeakedHandle {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "UID", default)]
    pub(crate) uid: String,
    #[serde(rename = "Revision")]
    pub(crate) revision: String,
}

/// Reads everything. IPAM's records come first: what is released and given out anew meanwhile then has an endpoint.
pub(crate) async fn load(client: &Client) -> Result<Inputs, OperationError> {
    let mut inputs = Inputs { head: head(client).await?, ..Inputs::default() };
    for entry in client.store().list(Key::ipam_prefix()).await?.entries {
        let damaged = |error: String| format!("value of {} cannot be used: {error}", entry.key);
        match Key::parse(&entry.key) {
            Some(Key::Block(_)) => match serde_json::from_slice::<Block>(&entry.value) {
                Ok(block) => inputs.blocks.push(block),
                Err(error) => inputs.unreadable.push(damaged(error.to_string())),
            },
            Some(Key::Handle(id)) => match serde_json::from_slice(&entry.value) {
                Ok(handle) => inputs.handles.push((id, entry.mod_revision, handle)),
                Err(error) => inputs.unreadable.push(damaged(error.to_string())),
            },
            Some(Key::BlockAffinity { host, block }) => inputs.claims.push((host, block)),
            Some(Key::IpamHost(_) | Key::IpamConfig | Key::Resource { .. }) | None => {}
        }
    }
    inputs.pools = client.find_every::<IpPoolSpec>().await?;
    inputs.nodes = client.find_every::<NodeSpec>().await?;
    inputs.endpoints = client.find_every::<WorkloadEndpointSpec>().await?;
    Ok(inputs)
}

/// Which cluster this is.
pub(crate) async fn head(client: &Client) -> Result<Head, OperationError> {
    let found = client.find::<ClusterInformationSpec>(None, "default").await?;
    let information = found.unwrap_or_default();
    Ok(Head {
        version: crate::commands::CLIENT_VERSION.to_owned(),
        cluster_guid: information.spec.cluster_guid,
        datastore_locked: information.spec.datastore_ready == Some(false),
        cluster_information_revision: information.metadata.resource_version.unwrap_or_default(),
        cluster_type: information.spec.cluster_type,
    })
}

/// The addresses that endpoints and nodes use, and who they are.
pub(crate) fn in_use(inputs: &Inputs) -> BTreeMap<IpAddr, Vec<String>> {
    let mut users: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for endpoint in &inputs.endpoints {
        let namespace = endpoint.metadata.namespace.as_deref().unwrap_or_default();
        for network in &endpoint.spec.ip_networks {
            let user = format!("Workload({namespace}/{})", endpoint.metadata.name);
            users.entry(network.ip()).or_default().push(user);
        }
    }
    for node in &inputs.nodes {
        let spec = &node.spec;
        let wireguard = spec.wireguard.iter();
        let wireguard = wireguard.flat_map(|w| [&w.interface_ipv4_address, &w.interface_ipv6_address]);
        let wireguard = wireguard.filter_map(|address| address.parse().ok());
        let tunnels = [
            spec.bgp.as_ref().and_then(|bgp| bgp.ipv4_ipip_tunnel_addr).map(IpAddr::V4),
            spec.ipv4_vxlan_tunnel_addr.map(IpAddr::V4),
            spec.ipv6_vxlan_tunnel_addr.map(IpAddr::V6),
        ];
        for address in tunnels.into_iter().flatten().chain(wireguard) {
            users.entry(address).or_default().push(format!("Node({})", node.metadata.name));
        }
    }
    users
}

/// Finds what leaked and what contradicts itself.
pub(crate) fn check(inputs: &Inputs) -> Report {
    let users = in_use(inputs);
    let mut report = Report { head: inputs.head.clone(), ..Report::default() };
    report.problems.extend(inputs.unreadable.iter().cloned());
    for block in &inputs.blocks {
        if let Err(fault) = block.check() {
            report.problems.push(fault.to_string());
        }
        for (address, owner) in block.in_use().chain(block.cooling()) {
            let attribute = |name: &str| {
                owner.secondary.as_ref().and_then(|all| all.get(name)).cloned().unwrap_or_default()
            };
            let owners = users.get(&address).cloned().unwrap_or_default();
            let (node, kind) = (attribute("node"), attribute("type"));
            report.allocations.entry(address).or_default().push(Allocation {
                ip: address.to_string(),
                handle: owner.handle_id.clone().unwrap_or_default(),
                sequence_number: block.sequence_of(address).unwrap_or_default(),
                pod: attribute("pod"),
                namespace: attribute("namespace"),
                in_use: !owners.is_empty() || kind == LOAD_BALANCER,
                borrowed: block.host().is_some_and(|host| !node.is_empty() && host != node),
                cooling_down: owner.released_at.is_some(),
                creation_timestamp: attribute("timestamp"),
                node,
                kind,
                owners,
            });
        }
    }
    report.problems.extend(contradictions(inputs, &users, &report.allocations));
    report.leaked_handles = handles_without_addresses(inputs);
    report
}

fn contradictions(
    inputs: &Inputs,
    users: &BTreeMap<IpAddr, Vec<String>>,
    allocations: &BTreeMap<IpAddr, Vec<Allocation>>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (address, several) in allocations.iter().filter(|(_, several)| several.len() > 1) {
        let handles: Vec<&str> = several.iter().map(|one| one.handle.as_str()).collect();
        problems.push(format!("{address} is allocated more than once: to handles {}", handles.join(", ")));
    }
    for (address, owners) in users {
        let owners = owners.join(", ");
        if owners.contains(", ") {
            problems.push(format!("{address} is used by several: {owners}"));
        }
        if allocations.get(address).is_some_and(|all| all.iter().any(|one| !one.cooling_down)) {
            continue;
        }
        let pool = inputs.pools.iter().find(|pool| !pool.spec.disabled && pool.spec.cidr.contains(*address));
        problems.push(match pool {
            Some(_) => format!("{address} is used by {owners} but not allocated"),
            None => format!("{address} is used by {owners} and in no active pool"),
        });
    }
    let known: BTreeSet<&str> = inputs.handles.iter().map(|(id, ..)| id.as_str()).collect();
    let held: BTreeSet<&str> = allocations
        .values()
        .flatten()
        .filter(|one| !one.cooling_down && !one.handle.is_empty())
        .map(|one| one.handle.as_str())
        .collect();
    let missing = held.difference(&known);
    problems.extend(missing.map(|handle| format!("handle {handle} holds addresses but is not there itself")));
    problems.extend(claims_without_blocks(inputs));
    problems
}

/// Claims and blocks that do not agree on whose a block is. A client in the middle of a claim leaves some too.
fn claims_without_blocks(inputs: &Inputs) -> Vec<String> {
    let owner = |cidr: &IpNetwork| inputs.blocks.iter().find(|block| block.cidr == *cidr).map(Block::host);
    let mut problems = Vec::new();
    for (host, cidr) in &inputs.claims {
        match owner(cidr) {
            None => problems.push(format!("node {host} claims block {cidr}, which is not there")),
            Some(Some(other)) if other != host => {
                problems.push(format!("node {host} claims block {cidr}, which is node {other}'s"));
            }
            Some(None) => problems.push(format!("node {host} claims block {cidr}, which is nobody's")),
            Some(Some(_)) => {}
        }
    }
    for block in &inputs.blocks {
        if let Some(host) = block.host()
            && !inputs.claims.iter().any(|(node, cidr)| node == host && *cidr == block.cidr)
        {
            problems.push(format!("block {} is node {host}'s, which does not claim it", block.cidr));
        }
    }
    problems
}

fn handles_without_addresses(inputs: &Inputs) -> Vec<LeakedHandle> {
    let holds = |id: &str| inputs.blocks.iter().any(|block| !block.held_by(id).is_empty());
    let empty = inputs.handles.iter().filter(|(id, ..)| !holds(id));
    empty
        .map(|(id, revision, _)| LeakedHandle {
            id: id.clone(),
            uid: String::new(),
            revision: revision.to_string(),
        })
        .collect()
}

/// What every report calls leaked: allocations and handles, as they were.
pub(crate) fn leaked_in_all(reports: &[Report]) -> (Vec<Allocation>, Vec<LeakedHandle>) {
    let Some((first, others)) = reports.split_first() else { return (Vec::new(), Vec::new()) };
    let leaks = |report: &Report, wanted: &Allocation| {
        let found = report.allocations.values().flatten();
        found.filter(|one| one.is_leaked()).any(|one| {
            (&one.ip, &one.handle, one.sequence_number)
                == (&wanted.ip, &wanted.handle, wanted.sequence_number)
        })
    };
    let allocations = first.allocations.values().flatten().filter(|one| one.is_leaked());
    let allocations = allocations.filter(|one| others.iter().all(|other| leaks(other, one))).cloned();
    let handles = first.leaked_handles.iter();
    let handles =
        handles.filter(|one| others.iter().all(|other| other.leaked_handles.contains(one))).cloned();
    (allocations.collect(), handles.collect())
}

#[cfg(test)]
mod tests;
