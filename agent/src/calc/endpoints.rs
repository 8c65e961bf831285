//! Workload endpoints: which of them live here, with which interface and addresses, and what policy sees of all.
//!
//! An endpoint of this node that cannot be trusted in full (a foreign interface name, an address that is a network) gets
//! no interface: what is not listed is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_model::names::INTERFACE_PREFIX;
use tortie_model::resource::WorkloadEndpoint;
use tortie_policy::snapshot::{Endpoint, EndpointId};

use super::cache::{Cache, StoredEndpoint};
use super::routes::is_single;
use super::texts::Texts;
use super::{Problems, Settings};
use crate::desired::WorkloadInterface;

/// The endpoints of this node as the stages behind want them.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    /// Host interfaces.
    pub(super) interfaces: BTreeMap<String, WorkloadInterface>,
    /// What policy sees of them, with their interface.
    pub(super) all: BTreeMap<Arc<EndpointId>, Arc<Endpoint>>,
    /// What is wrong with them.
    pub(super) problems: Problems,
}

/// Judges the endpoints of this node, in order of their ids: of two that claim one interface or one address, the first has
/// it (felix-dataplane 1.4).
pub(super) fn calculate(cache: &Cache, settings: &Settings) -> Workloads {
    let mut workloads = Workloads::default();
    let mut owners: BTreeMap<IpAddr, EndpointId> = BTreeMap::new();
    let Workloads { interfaces, all, problems } = &mut workloads;
    let mut refused = Vec::new();
    for id in &cache.local {
        let Some(StoredEndpoint::Local(stored)) = cache.endpoints.get(id) else { continue };
        let endpoint = for_policy(id, stored, &mut Texts::default());
        let mut endpoint = Arc::unwrap_or_clone(usable(&Arc::new(endpoint), settings));
        if !stored.spec.ip_networks.is_empty() {
            match check_interface(stored, interfaces) {
                Ok(()) => claim(interfaces, &mut owners, id, stored, &mut endpoint, problems),
                Err(reason) => {
                    report(problems, id, reason);
                    refused.push((id, endpoint));
                    continue;
                }
            }
        }
        all.insert(id.clone(), Arc::new(endpoint));
    }
    // One that has no interface here must not lend its labels to the address of one that has.
    for (id, mut endpoint) in refused {
        endpoint.addresses = endpoint.addresses.into_iter().filter(|ip| !owners.contains_key(ip)).collect();
        all.insert(id.clone(), Arc::new(endpoint));
    }
    workloads
}

/// The endpoint with the addresses this node has to do with.
pub(super) fn usable(endpoint: &Arc<Endpoint>, settings: &Settings) -> Arc<Endpoint> {
    if settings.ipv6 || endpoint.addresses.iter().all(IpAddr::is_ipv4) {
        return Arc::clone(endpoint);
    }
    let mut endpoint = Endpoint::clone(endpoint);
    endpoint.addresses = endpoint.addresses.into_iter().filter(IpAddr::is_ipv4).collect();
    Arc::new(endpoint)
}

fn report(problems: &mut Problems, id: &EndpointId, reason: String) {
    problems.add(format!("WorkloadEndpoint {}/{}", id.namespace, id.name), reason);
}

/// What policy knows of an endpoint, before it has an interface here.
pub(super) fn for_policy(id: &EndpointId, stored: &WorkloadEndpoint, texts: &mut Texts) -> Endpoint {
    let spec = &stored.spec;
    // Labels with these prefixes come from profiles alone (calico-datamodel 1.8).
    let own =
        stored.metadata.labels.iter().filter(|(k, _)| !k.starts_with("pcns.") && !k.starts_with("pcsa."));
    let mut labels: BTreeMap<&str, &str> = own.map(|(k, v)| (k.as_str(), v.as_str())).collect();
    labels.insert("projectcalico.org/namespace", &id.namespace);
    labels.insert("projectcalico.org/orchestrator", &spec.orchestrator);
    if !spec.service_account_name.is_empty() && spec.service_account_name.len() <= 63 {
        labels.insert("projectcalico.org/serviceaccount", &spec.service_account_name);
    }
    let addresses: BTreeSet<IpAddr> =
        spec.ip_networks.iter().filter(|net| is_single(net)).map(IpNetwork::ip).collect();
    Endpoint {
        labels: texts.labels(labels),
        profiles: spec.profiles.iter().map(|name| texts.get(name)).collect(),
        addresses: addresses.into_iter().collect(),
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
    endpoint.addresses = addresses.iter().copied().collect();
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
