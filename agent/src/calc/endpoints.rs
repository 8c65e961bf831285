//! Workload endpoints: which of them live here, with which interface and addresses, and what policy sees of all.
//!
//! An endpoint of this node that cannot be trusted in full (a foreign interface name, an address that is a network) gets
//! no interface: what is not listed is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::names::INTERFACE_PREFIX;
use tortie_model::resource::WorkloadEndpoint;
use tortie_policy::snapshot::{Endpoint, EndpointId};

use super::cache::Cache;
use super::routes::is_single;
use super::{Problems, Settings};
use crate::desired::WorkloadInterface;

/// Endpoints as the stages behind want them.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    /// Host interfaces of local workloads.
    pub(super) interfaces: BTreeMap<String, WorkloadInterface>,
    /// All endpoints of the cluster for policy, local ones with their interface.
    pub(super) all: BTreeMap<EndpointId, Endpoint>,
}

/// Judges all endpoints, in order of their ids: of two that claim one interface or one address here, the first has it
/// (felix-dataplane 1.4).
pub(super) fn calculate(cache: &Cache, settings: &Settings, problems: &mut Problems) -> Endpoints {
    let mut endpoints = Endpoints::default();
    let mut owners: BTreeMap<IpAddr, EndpointId> = BTreeMap::new();
    for (id, stored) in &cache.endpoints {
        let mut endpoint = for_policy(id, stored, settings);
        if stored.spec.node == settings.node && !stored.spec.ip_networks.is_empty() {
            let outcome = check_interface(stored, &endpoints.interfaces);
            match outcome {
                Ok(()) => claim(&mut endpoints.interfaces, &mut owners, id, stored, &mut endpoint, problems),
                Err(reason) => report(problems, id, reason),
            }
        }
        endpoints.all.insert(id.clone(), endpoint);
    }
    endpoints
}

fn report(problems: &mut Problems, id: &EndpointId, reason: String) {
    problems.add(format!("WorkloadEndpoint {}/{}", id.namespace, id.name), reason);
}

/// What policy knows of an endpoint, before it has an interface here.
fn for_policy(id: &EndpointId, stored: &WorkloadEndpoint, settings: &Settings) -> Endpoint {
    let spec = &stored.spec;
    // Labels with these prefixes come from profiles alone (calico-datamodel 1.8).
    let own =
        stored.metadata.labels.iter().filter(|(k, _)| !k.starts_with("pcns.") && !k.starts_with("pcsa."));
    let mut labels: BTreeMap<String, String> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.insert("projectcalico.org/namespace".into(), id.namespace.clone());
    labels.insert("projectcalico.org/orchestrator".into(), spec.orchestrator.clone());
    if !spec.service_account_name.is_empty() && spec.service_account_name.len() <= 63 {
        labels.insert("projectcalico.org/serviceaccount".into(), spec.service_account_name.clone());
    }
    let usable = |net: &&IpNetwork| is_single(net) && (net.is_ipv4() || settings.ipv6);
    Endpoint {
        labels,
        profiles: spec.profiles.clone(),
        addresses: spec.ip_networks.iter().filter(usable).map(IpNetwork::ip).collect(),
        ports: spec.ports.iter().filter(|port| !port.name.is_empty()).cloned().collect(),
        interface: None,
    }
}

/// Whether an endpoint of this node may have the interface it names.
fn check_interface(
    stored: &WorkloadEndpoint,
    taken: &BTreeMap<String, WorkloadInterface>,
) -> Result<(), String> {
    let name = &stored.spec.interface_name;
    let plain = name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    // IFNAMSIZ less the terminating zero.
    if !name.starts_with(INTERFACE_PREFIX) || name.len() > 15 || !plain {
        return Err(format!(
            "interfaceName '{name}' is no workload interface ({INTERFACE_PREFIX}..., at most 15 characters)"
        ));
    }
    if let Some(net) = stored.spec.ip_networks.iter().find(|net| !is_single(net)) {
        return Err(format!("ipNetworks has {net}, which is not a single address"));
    }
    if taken.contains_key(name) {
        return Err(format!("interface {name} belongs to another endpoint with a lower name"));
    }
    Ok(())
}

fn claim(
    interfaces: &mut BTreeMap<String, WorkloadInterface>,
    owners: &mut BTreeMap<IpAddr, EndpointId>,
    id: &EndpointId,
    stored: &WorkloadEndpoint,
    endpoint: &mut Endpoint,
    problems: &mut Problems,
) {
    let mut addresses = BTreeSet::new();
    for address in std::mem::take(&mut endpoint.addresses) {
        let owner = owners.entry(address).or_insert_with(|| id.clone());
        if owner == id {
            addresses.insert(address);
        } else {
            let reason = format!("address {address} belongs to endpoint {}/{}", owner.namespace, owner.name);
            report(problems, id, reason);
        }
    }
    let mac = parse_mac(&stored.spec.mac);
    if mac.is_none() && !stored.spec.mac.is_empty() {
        report(
            problems,
            id,
            format!("mac '{}' is not six octets such as ee:ee:ee:ee:ee:ee", stored.spec.mac),
        );
    }
    endpoint.addresses.clone_from(&addresses);
    endpoint.interface = Some(stored.spec.interface_name.clone());
    interfaces.insert(stored.spec.interface_name.clone(), WorkloadInterface { addresses, mac });
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut octets =
        text.split(':').map(|part| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten());
    let mac = [
        octets.next()??,
        octets.next()??,
        octets.next()??,
        octets.next()??,
        octets.next()??,
        octets.next()??,
    ];
    octets.next().is_none().then_some(mac)
}
