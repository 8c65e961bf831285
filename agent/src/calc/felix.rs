//! The FelixConfiguration parameters that decide something here (calico-datamodel 8).
//!
//! Precedence, rising: built-in default, `default`, `node.<name>`, environment. A bad value in the datastore falls back
//! to the built-in default and is reported; a bad value in the environment is refused at start.

use serde_json::Value;
use tortie_policy::snapshot::EndpointToHost;

use super::cache::Cache;
use super::{Problems, Settings};

/// `DefaultEndpointToHostAction` in any case; `None` when it is none of the three.
pub fn parse_endpoint_to_host(text: &str) -> Option<EndpointToHost> {
    match text.to_ascii_lowercase().as_str() {
        "drop" => Some(EndpointToHost::Drop),
        "accept" => Some(EndpointToHost::Accept),
        "return" => Some(EndpointToHost::Return),
        _ => None,
    }
}

/// A parameter with the name of the object that sets it: the node's wins.
fn parameter<'a>(cache: &'a Cache, node: &str, name: &str) -> Option<(String, &'a Value)> {
    [format!("node.{node}"), "default".to_owned()].into_iter().find_map(|object| {
        let value = cache.felix_configurations.get(&object)?.parameters.get(name)?;
        (!value.is_null()).then_some((object, value))
    })
}

/// What happens to traffic from workloads to this node.
pub(super) fn endpoint_to_host(
    cache: &Cache,
    settings: &Settings,
    problems: &mut Problems,
) -> EndpointToHost {
    if let Some(action) = settings.endpoint_to_host {
        return action;
    }
    let Some((object, value)) = parameter(cache, &settings.node, "defaultEndpointToHostAction") else {
        return EndpointToHost::default();
    };
    value.as_str().and_then(parse_endpoint_to_host).unwrap_or_else(|| {
        problems.add(
            format!("FelixConfiguration {object}"),
            format!("defaultEndpointToHostAction {value} is none of Drop, Accept, Return; dropping"),
        );
        EndpointToHost::default()
    })
}

/// MTU of the IPIP device: as configured, else the host's less the 20 octets of an IPv4 header.
pub(super) fn ipip_mtu(cache: &Cache, settings: &Settings, problems: &mut Problems) -> u32 {
    let automatic = settings.host_mtu.saturating_sub(20);
    if let Some(mtu) = settings.ipip_mtu {
        return mtu;
    }
    let Some((object, value)) = parameter(cache, &settings.node, "ipipMTU") else { return automatic };
    match value.as_u64().and_then(|mtu| u32::try_from(mtu).ok()) {
        Some(0) => automatic,
        Some(mtu) if (68..=65535).contains(&mtu) => mtu,
        Some(_) | None => {
            problems.add(
                format!("FelixConfiguration {object}"),
                format!("ipipMTU {value} is not 0 or from 68 to 65535; using {automatic}"),
            );
            automatic
        }
    }
}
