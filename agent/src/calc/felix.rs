//! The FelixConfiguration parameters that decide something here (calico-datamodel 8).
//!
//! Precedence, rising: built-in default, `default`, `node.<name>`, environment. A bad value in the datastore falls back
//! to the built-in default and is reported; a bad value in the environment is refused at start.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;
use tortie_model::resource::{EncapMode, listed_network};
use tortie_model::scalar::Protocol;
use tortie_policy::ir::{Limit, Period};
use tortie_policy::snapshot::{DenyAction, EndpointToHost, Failsafe, LogFormat, Options};

use super::cache::Cache;
use super::{Problems, Settings};
use crate::metrics::Listen;

/// TCP port of the metrics, unless told otherwise.
const METRICS_PORT: u16 = 9091;
/// Lines at once, unless told otherwise.
const LOG_BURST: u32 = 5;

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

/// Parameters that policy is compiled with.
pub(super) fn options(cache: &Cache, settings: &Settings, problems: &mut Problems) -> Options {
    let default = Options::default();
    let mut reader = Reader { cache, node: &settings.node, problems };
    Options {
        failsafe_inbound: reader.read("failsafeInboundHostPorts", failsafes, default.failsafe_inbound),
        failsafe_outbound: reader.read("failsafeOutboundHostPorts", failsafes, default.failsafe_outbound),
        ipip_from_workloads: reader.read("allowIPIPPacketsFromWorkloads", Value::as_bool, false),
        vxlan_from_workloads: reader.read("allowVXLANPacketsFromWorkloads", Value::as_bool, false),
        accept_invalid: reader.read("disableConntrackInvalidCheck", Value::as_bool, false),
        vxlan: cache.pools.values().any(|pool| pool.vxlan() != EncapMode::Never),
        vxlan_port: reader.read("vxlanPort", |v| port(v).filter(|port| *port > 0), default.vxlan_port),
        log: LogFormat {
            prefix: reader.read("logPrefix", |v| v.as_str().map(str::to_owned), default.log.prefix),
            group: settings.log_group,
            limit: reader.log_limit(),
        },
        merged_rows: default.merged_rows,
        deny: reader.deny(),
        stop_refused: settings.stop_refused,
    }
}

/// Where metrics are to be served, if at all.
pub(super) fn metrics(cache: &Cache, settings: &Settings, problems: &mut Problems) -> Option<Listen> {
    let mut reader = Reader { cache, node: &settings.node, problems };
    let enabled = reader.read("prometheusMetricsEnabled", Value::as_bool, false);
    let tls = ["prometheusMetricsCertFile", "prometheusMetricsKeyFile", "prometheusMetricsCAFile"];
    if let Some((name, object)) = tls.into_iter().find_map(|name| Some((name, reader.set_by(name)?)))
        && enabled
    {
        let reason = format!("{name}: metrics are served over plain HTTP only, so they are not served");
        reader.problems.add(format!("FelixConfiguration {object}"), reason);
        return None;
    }
    enabled.then(|| Listen {
        host: reader.read("prometheusMetricsHost", host, None),
        port: reader.read("prometheusMetricsPort", |v| port(v).filter(|port| *port > 0), METRICS_PORT),
    })
}

/// An address to listen at; all of them for an empty text.
fn host(value: &Value) -> Option<Option<IpAddr>> {
    match value.as_str()? {
        "" => Some(None),
        "localhost" => Some(Some(Ipv4Addr::LOCALHOST.into())),
        text => text.parse().ok().map(Some),
    }
}

/// Reads parameters; one that cannot be read is as if absent, and reported.
struct Reader<'a> {
    cache: &'a Cache,
    node: &'a str,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    /// The object that says something for a parameter.
    fn set_by(&self, name: &str) -> Option<String> {
        let (object, value) = parameter(self.cache, self.node, name)?;
        (value.as_str() != Some("")).then_some(object)
    }

    fn log_limit(&mut self) -> Option<Limit> {
        let burst = self.read("logActionRateLimitBurst", |value| value.as_u64().and_then(burst), LOG_BURST);
        let rate = self.read("logActionRateLimit", rate, None);
        rate.map(|(packets, period)| Limit { packets, period, burst })
    }

    /// What was meant for iptables counts where nothing is said for nftables.
    fn deny(&mut self) -> DenyAction {
        let mut read = |name| self.read(name, |value| deny_action(value).map(Some), None);
        let (nftables, iptables) = (read("nftablesFilterDenyAction"), read("iptablesFilterDenyAction"));
        nftables.or(iptables).unwrap_or_default()
    }

    fn read<T>(&mut self, name: &str, parse: impl Fn(&Value) -> Option<T>, default: T) -> T {
        let Some((object, value)) = parameter(self.cache, self.node, name) else { return default };
        parse(value).unwrap_or_else(|| {
            let reason = format!("{name} {value} cannot be read; the default counts");
            self.problems.add(format!("FelixConfiguration {object}"), reason);
            default
        })
    }
}

/// 0 is the default too: the kernel knows no limit without a burst.
fn burst(number: u64) -> Option<u32> {
    match u32::try_from(number) {
        Ok(0) => Some(LOG_BURST),
        Ok(burst @ 1..=9999) => Some(burst),
        Ok(_) | Err(_) => None,
    }
}

/// A rate such as `10/second`, or an empty text for none.
fn rate(value: &Value) -> Option<Option<(u32, Period)>> {
    let text = value.as_str()?;
    if text.is_empty() {
        return Some(None);
    }
    let (packets, period) = text.split_once('/')?;
    let period = match period {
        "second" => Period::Second,
        "minute" => Period::Minute,
        "hour" => Period::Hour,
        "day" => Period::Day,
        _ => return None,
    };
    let packets = packets.parse().ok().filter(|packets| (1..=9999).contains(packets))?;
    Some(Some((packets, period)))
}

fn deny_action(value: &Value) -> Option<DenyAction> {
    match value.as_str()?.to_ascii_lowercase().as_str() {
        "drop" => Some(DenyAction::Drop),
        "reject" => Some(DenyAction::Reject),
        _ => None,
    }
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}

/// Failsafe ports; an empty list means none.
fn failsafes(value: &Value) -> Option<Vec<Failsafe>> {
    value.as_array()?.iter().map(failsafe).collect()
}

fn failsafe(value: &Value) -> Option<Failsafe> {
    let protocol: Protocol = match value.get("protocol") {
        None | Some(Value::Null) => Protocol::Tcp,
        Some(protocol) => serde_json::from_value(protocol.clone()).ok()?,
    };
    let net = match value.get("net").and_then(Value::as_str).unwrap_or_default() {
        "" => None,
        text => Some(listed_network(text)?),
    };
    let port = port(value.get("port")?)?;
    protocol.has_ports().then_some(Failsafe { protocol: protocol.number(), port, net })
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
