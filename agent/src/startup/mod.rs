//! What happens once, before the node works: its name, its addresses, its Node resource, default pools and resources
//! (calico-datamodel 7). The order is calico/node's; so are the log lines users look for. Detection alone happens again
//! later ([`redetect`]).

use std::io;

use tortie_datastore::init::Stamp;
use tortie_datastore::{Client, ClientError};
use tortie_model::ObjectMeta;
use tortie_model::resource::{ClusterInformationSpec, NodeInterface, NodeSpec};

pub mod address;
pub mod defaults;
pub mod interfaces;
pub mod name;
pub mod node;
pub mod pools;
pub mod tunnel;

use address::{AddressError, Decision};
use interfaces::Interface;
use node::{Addresses, Facts, NodeError};

use crate::config::{AddressSetting, Backend, Config};

/// The version of Calico whose data this agent writes.
const DATA_VERSION: &str = "v3.32.1";

/// Why the node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The interfaces cannot be read.
    #[error("cannot list the host's interfaces")]
    Interfaces(#[source] io::Error),
    /// No address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// BGP wants an address of either family.
    #[error(
        "this node has neither an IPv4 nor an IPv6 address; set IP or IP6, or CALICO_NETWORKING_BACKEND=none"
    )]
    Addressless,
    /// The Node resource.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The datastore failed.
    #[error("cannot {action}")]
    Datastore {
        /// What was to be done.
        action: &'static str,
        /// Why it failed.
        source: ClientError,
    },
}

fn failed(action: &'static str) -> impl FnOnce(ClientError) -> StartupError {
    move |source| StartupError::Datastore { action, source }
}

/// Metadata of an object that is about to be created.
fn new_metadata(name: &str) -> ObjectMeta {
    let stamp = Stamp::now();
    ObjectMeta {
        uid: Some(stamp.uid),
        creation_timestamp: Some(stamp.creation_timestamp),
        ..ObjectMeta::named(name)
    }
}

/// Registers the node `name` and sees to what every cluster has.
///
/// # Errors
/// [`StartupError`]: the node must not work then.
pub async fn register(config: &Config, client: &Client, name: &str) -> Result<(), StartupError> {
    let interfaces = interfaces::list().map_err(StartupError::Interfaces)?;
    let stored =
        client.find::<NodeSpec>(None, name).await.map_err(failed("read the Node resource of this node"))?;
    let addresses = match config.backend {
        Backend::None => None,
        Backend::Bird | Backend::Vxlan => Some(addresses(config, stored.map(|node| node.spec), &interfaces)?),
    };
    if let Some(addresses) = &addresses {
        report(addresses);
    }
    let facts = Facts {
        name: name.to_owned(),
        addresses,
        as_number: config.as_number,
        k8s_name: config.k8s_node_ref.clone(),
        interfaces: publishes_interfaces(config).then(|| node_interfaces(&interfaces)),
    };
    node::write(client, &facts, !config.skip_address_check).await?;
    let action = "create the default pools";
    pools::ensure(client, &config.pools, config.ipv6_support, &interfaces).await.map_err(failed(action))?;
    initialize(config, client).await.map_err(failed("initialise the cluster's information and tiers"))?;
    defaults::ensure(client, name).await.map_err(failed("create the default configuration"))
}

/// ClusterInformation and tiers. Where Calico's own nodes said which version the data is of, that stands.
async fn initialize(config: &Config, client: &Client) -> Result<(), ClientError> {
    let information = client.find::<ClusterInformationSpec>(None, "default").await?;
    let known = information.is_some_and(|information| !information.spec.calico_version.is_empty());
    let version = (!known).then_some(DATA_VERSION);
    tortie_datastore::init::ensure_initialized(client, version, &config.cluster_type).await
}

fn addresses(
    config: &Config,
    stored: Option<NodeSpec>,
    interfaces: &[Interface],
) -> Result<Addresses, StartupError> {
    let stored = stored.unwrap_or_default();
    let decide = |setting: &AddressSetting, ipv6: bool| {
        let source = move |host: &str| address::source_towards(host, ipv6);
        // Names may have to be looked up.
        tokio::task::block_in_place(|| {
            address::decide(setting, stored.bgp_address(ipv6), ipv6, interfaces, source)
        })
    };
    let addresses = Addresses { ipv4: decide(&config.ipv4, false)?, ipv6: decide(&config.ipv6, true)? };
    match (&addresses.ipv4, &addresses.ipv6) {
        (Decision { address: None, .. }, Decision { address: None, .. }) => Err(StartupError::Addressless),
        _ => Ok(addresses),
    }
}

fn report(addresses: &Addresses) {
    for (decision, family) in [(&addresses.ipv4, "IPv4"), (&addresses.ipv6, "IPv6")] {
        if let (Some(address), Some(interface)) = (decision.address, &decision.detected) {
            tracing::info!("Using autodetected {family} address on interface {interface}: {address}");
        }
    }
    for warning in addresses.warnings() {
        tracing::warn!("{warning}");
    }
}

/// Detects again the addresses that are to be detected, and updates the Node when they changed (calico-datamodel 7.2).
/// Returns what is worth telling an operator. Needs a runtime of several threads.
///
/// # Errors
/// [`StartupError`]; then the Node stays as it is.
pub async fn redetect(config: &Config, client: &Client, name: &str) -> Result<Vec<String>, StartupError> {
    let detects = [&config.ipv4, &config.ipv6].iter().any(|s| matches!(s, AddressSetting::Detect(_)));
    if !detects || config.backend == Backend::None {
        return Ok(Vec::new());
    }
    let stored =
        client.find::<NodeSpec>(None, name).await.map_err(failed("read the Node resource of this node"))?;
    let Some(stored) = stored else { return Ok(Vec::new()) };
    let interfaces = interfaces::list().map_err(StartupError::Interfaces)?;
    let addresses = addresses(config, Some(stored.spec), &interfaces)?;
    let warnings = addresses.warnings().cloned().collect();
    let facts = Facts {
        name: name.to_owned(),
        addresses: Some(addresses),
        interfaces: Some(node_interfaces(&interfaces)),
        ..Facts::default()
    };
    node::update(client, &facts, !config.skip_address_check).await?;
    Ok(warnings)
}

/// Only a node whose address was asked for in so many words publishes its interfaces.
fn publishes_interfaces(config: &Config) -> bool {
    [&config.ipv4, &config.ipv6]
        .into_iter()
        .any(|setting| matches!(setting, AddressSetting::Detect(_) | AddressSetting::Explicit(..)))
}

/// Interfaces that detection would look at, by name.
fn node_interfaces(interfaces: &[Interface]) -> Vec<NodeInterface> {
    let mut published: Vec<NodeInterface> = interfaces
        .iter()
        .filter(|interface| !address::is_excluded(&interface.name))
        .map(|interface| NodeInterface {
            name: interface.name.clone(),
            addresses: interface.addresses.iter().map(ToString::to_string).collect(),
        })
        .collect();
    published.sort_by(|a, b| a.name.cmp(&b.name));
    published
}
