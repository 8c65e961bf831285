//! This node's Node resource: what a start writes into it, who else has its address, and the writing
//! (calico-datamodel 7.1, 7.3).

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use tortie_datastore::{Client, ClientError};
use tortie_model::resource::{Node, NodeBgp, NodeInterface, NodeSpec, OrchRef};
use tortie_model::scalar::AsNumber;

use super::address::Decision;
use super::new_metadata;

/// How often a write starts over when others change the Node at the same time.
const RETRIES: usize = 10;

/// Why the Node could not be written.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Two nodes would answer for one address.
    #[error(
        "Calico node '{other}' is already using the {family} address {address}; give this node another one with {variable}, \
         or delete that node if it is gone (DISABLE_NODE_IP_CHECK=true skips this check)"
    )]
    AddressInUse {
        /// The other node.
        other: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The address.
        address: IpAddr,
        /// `IP` or `IP6`.
        variable: &'static str,
    },
    /// The datastore failed.
    #[error("cannot write the Node resource of this node")]
    Datastore(#[from] ClientError),
    /// Others kept changing it.
    #[error(
        "cannot write the Node resource '{0}': it was changed by others {RETRIES} times in a row; start again"
    )]
    Contended(String),
}

/// What a start knows about its node.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its addresses; `None` without BGP, when they are nobody's business.
    pub addresses: Option<Addresses>,
    /// `AS`.
    pub as_number: Option<AsNumber>,
    /// `CALICO_K8S_NODE_REF`.
    pub k8s_name: Option<String>,
    /// Interfaces to publish, when asked for.
    pub interfaces: Option<Vec<NodeInterface>>,
}

/// Addresses of both families.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// IPv4.
    pub ipv4: Decision,
    /// IPv6.
    pub ipv6: Decision,
}

impl Addresses {
    /// What is worth telling an operator.
    pub fn warnings(&self) -> impl Iterator<Item = &String> {
        self.ipv4.warnings.iter().chain(&self.ipv6.warnings)
    }

    fn families(&self) -> [(&Decision, bool); 2] {
        [(&self.ipv4, false), (&self.ipv6, true)]
    }
}

/// The Node resource with the facts written in; everything else is left alone.
fn with_facts(node: &Node, facts: &Facts) -> Node {
    let mut node = node.clone();
    if let Some(addresses) = &facts.addresses {
        let bgp = node.spec.bgp.get_or_insert_default();
        bgp.ipv4_address = addresses.ipv4.address;
        bgp.ipv6_address = addresses.ipv6.address;
        if facts.as_number.is_some() {
            bgp.as_number = facts.as_number;
        }
        if *bgp == NodeBgp::default() {
            node.spec.bgp = None;
        }
    }
    if let Some(name) = &facts.k8s_name {
        node.spec.orch_refs.retain(|reference| reference.orchestrator != "k8s");
        node.spec.orch_refs.push(OrchRef { node_name: name.clone(), orchestrator: "k8s".into() });
    }
    if let Some(interfaces) = &facts.interfaces {
        node.spec.interfaces.clone_from(interfaces);
    }
    node
}

/// Another node with one of the addresses this start changes, and whether the address was detected.
fn conflict(stored: &Node, facts: &Facts, all: &[Node]) -> Option<(NodeError, bool)> {
    let others = || all.iter().filter(|other| other.metadata.name != facts.name);
    facts.addresses.iter().flat_map(Addresses::families).find_map(|(decision, ipv6)| {
        let address = decision.address?.ip();
        if stored.spec.bgp_address(ipv6).map(|net: IpNetwork| net.ip()) == Some(address) {
            return None;
        }
        let other = others().find(|other| other.spec.bgp_ips().any(|ip| ip == address))?;
        let error = NodeError::AddressInUse {
            other: other.metadata.name.clone(),
            family: if ipv6 { "IPv6" } else { "IPv4" },
            address,
            variable: if ipv6 { "IP6" } else { "IP" },
        };
        Some((error, decision.detected.is_some()))
    })
}

/// Creates or updates the Node resource.
///
/// # Errors
/// [`NodeError`]; an address that was detected and belongs to another node is taken out of this Node first, so that a
/// later start looks anew.
pub async fn write(client: &Client, facts: &Facts, check_addresses: bool) -> Result<(), NodeError> {
    if check_addresses && let Some((error, detected)) = stored_conflict(client, facts).await? {
        if detected {
            modify(client, &facts.name, false, |node| with_facts(node, &without_detected(facts))).await?;
        }
        return Err(error);
    }
    modify(client, &facts.name, true, |node| with_facts(node, facts)).await
}

/// Updates the Node resource of a running node. One that was deleted is not made anew.
///
/// # Errors
/// [`NodeError`]; then the Node stays as it is: sessions and routes of a node that works are not given up for an address
/// it cannot have.
pub async fn update(client: &Client, facts: &Facts, check_addresses: bool) -> Result<(), NodeError> {
    if check_addresses && let Some((error, _)) = stored_conflict(client, facts).await? {
        return Err(error);
    }
    modify(client, &facts.name, false, |node| with_facts(node, facts)).await
}

async fn stored_conflict(client: &Client, facts: &Facts) -> Result<Option<(NodeError, bool)>, ClientError> {
    let all = client.find_all::<NodeSpec>().await?;
    let own = all.iter().find(|node| node.metadata.name == facts.name).cloned();
    Ok(conflict(&own.unwrap_or_default(), facts, &all))
}

fn without_detected(facts: &Facts) -> Facts {
    let cleared = |decision: &Decision| {
        if decision.detected.is_some() { Decision::default() } else { decision.clone() }
    };
    let addresses = facts.addresses.as_ref();
    Facts {
        name: facts.name.clone(),
        addresses: addresses.map(|a| Addresses { ipv4: cleared(&a.ipv4), ipv6: cleared(&a.ipv6) }),
        ..Facts::default()
    }
}

/// Writes the address of the IPIP device into the Node, or takes it out.
///
/// # Errors
/// As [`write()`].
pub async fn write_ipip_address(
    client: &Client,
    name: &str,
    address: Option<Ipv4Addr>,
) -> Result<(), NodeError> {
    let change = |node: &Node| {
        let mut node = node.clone();
        let bgp = node.spec.bgp.get_or_insert_default();
        bgp.ipv4_ipip_tunnel_addr = address;
        if *bgp == NodeBgp::default() {
            node.spec.bgp = None;
        }
        node
    };
    modify(client, name, false, change).await
}

/// Reads, changes and writes the Node until nobody came between; writes nothing when nothing changes.
async fn modify(
    client: &Client,
    name: &str,
    create: bool,
    change: impl Fn(&Node) -> Node,
) -> Result<(), NodeError> {
    for _ in 0..RETRIES {
        let outcome = match client.find::<NodeSpec>(None, name).await? {
            Some(stored) => {
                let wanted = change(&stored);
                if wanted == stored {
                    return Ok(());
                }
                client.update(wanted.into()).await
            }
            None if create => {
                client.create(change(&Node::new(new_metadata(name), NodeSpec::default())).into()).await
            }
            None => return Ok(()),
        };
        match outcome {
            Ok(_) => return Ok(()),
            Err(ClientError::AlreadyExists(_) | ClientError::Conflict(_) | ClientError::DoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(NodeError::Contended(name.to_owned()))
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
