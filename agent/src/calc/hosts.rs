//! Host endpoints as policy sees them.

use std::net::IpAddr;
use std::sync::Arc;

use tortie_model::resource::{HostEndpoint as Stored, WorkloadEndpointPort};
use tortie_policy::snapshot::{Endpoint, HostEndpoint, HostPlace};

use super::Settings;

/// What policy knows of a host endpoint; of one of this node with what it is about.
pub(super) fn for_policy(stored: &Stored, settings: &Settings) -> Arc<HostEndpoint> {
    let spec = &stored.spec;
    let place = match (spec.node == settings.node, spec.interface_name.as_str()) {
        (false, _) => HostPlace::Elsewhere,
        (true, "") => HostPlace::Addresses,
        (true, "*") => HostPlace::All,
        (true, interface) => HostPlace::Interface(interface.to_owned()),
    };
    let port = |port: &tortie_model::resource::EndpointPort| WorkloadEndpointPort {
        name: port.name.clone(),
        protocol: port.protocol,
        port: port.port,
        host_port: 0,
        host_ip: String::new(),
    };
    let addresses = spec.expected_ips.iter().copied();
    let endpoint = Endpoint {
        labels: stored.metadata.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        profiles: spec.profiles.iter().map(|name| Arc::from(name.as_str())).collect(),
        addresses: addresses.filter(|address: &IpAddr| address.is_ipv4() || settings.ipv6).collect(),
        ports: spec.ports.iter().map(port).collect(),
        interface: None,
    };
    Arc::new(HostEndpoint { endpoint, place })
}
