//! FelixConfiguration (calico-datamodel 2.13, 8): names, and the values we can judge.
//!
//! Upstream has over 200 parameters and gets new ones with each release, so an unknown one is accepted, unless it is
//! one letter away from a known one.

use serde_json::Value;

use super::Report;
use crate::resource::FelixConfiguration;
use crate::strict::Problem;

/// Parameters of calico-datamodel 8.2 in their v3 names.
const PARAMETERS: [&str; 72] = [
    "interfacePrefix",
    "interfaceExclude",
    "defaultEndpointToHostAction",
    "chainInsertMode",
    "iptablesFilterAllowAction",
    "nftablesFilterAllowAction",
    "iptablesMangleAllowAction",
    "nftablesMangleAllowAction",
    "iptablesFilterDenyAction",
    "nftablesFilterDenyAction",
    "iptablesMarkMask",
    "nftablesMarkMask",
    "nftablesMode",
    "nftablesRefreshInterval",
    "iptablesRefreshInterval",
    "ipsetsRefreshInterval",
    "routeRefreshInterval",
    "interfaceRefreshInterval",
    "xdpRefreshInterval",
    "maxIpsetSize",
    "logPrefix",
    "failsafeInboundHostPorts",
    "failsafeOutboundHostPorts",
    "kubeNodePortRanges",
    "natPortRange",
    "natOutgoingAddress",
    "natOutgoingExclusions",
    "iptablesNATOutgoingInterfaceFilter",
    "serviceLoopPrevention",
    "workloadSourceSpoofing",
    "floatingIPs",
    "allowVXLANPacketsFromWorkloads",
    "allowIPIPPacketsFromWorkloads",
    "ipv6Support",
    "ipForwarding",
    "deviceRouteProtocol",
    "deviceRouteSourceAddress",
    "deviceRouteSourceAddressIPv6",
    "removeExternalRoutes",
    "routeSyncDisabled",
    "routeSource",
    "routeTableRange",
    "routeTableRanges",
    "ipipEnabled",
    "ipipMTU",
    "vxlanEnabled",
    "vxlanMTU",
    "vxlanMTUV6",
    "vxlanPort",
    "vxlanVNI",
    "wireguardEnabled",
    "wireguardEnabledV6",
    "wireguardMTU",
    "wireguardMTUV6",
    "wireguardListeningPort",
    "wireguardListeningPortV6",
    "wireguardHostEncryptionEnabled",
    "mtuIfacePattern",
    "externalNodesList",
    "netlinkTimeout",
    "endpointReportingEnabled",
    "reportingInterval",
    "reportingTTL",
    "healthEnabled",
    "healthHost",
    "healthPort",
    "prometheusMetricsEnabled",
    "prometheusMetricsHost",
    "prometheusMetricsPort",
    "logSeverityScreen",
    "logSeverityFile",
    "logSeveritySys",
];

pub(super) fn configuration(config: &FelixConfiguration, report: &mut Report) {
    let name = config.metadata.name.as_str();
    let parameters = &config.spec.parameters;
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    if (name == "default" || name.starts_with("node."))
        && let Some(selector) = text("nodeSelector")
    {
        report.bad("spec.nodeSelector", selector, "is not allowed in 'default' and 'node.<name>'");
    }
    let actions = ["Drop", "Return", "Accept", "DROP", "RETURN", "ACCEPT"];
    report.one_of("spec.defaultEndpointToHostAction", text("defaultEndpointToHostAction"), &actions);
    for interval in ["routeRefreshInterval", "nftablesRefreshInterval", "reportingInterval", "reportingTTL"] {
        report.duration(&format!("spec.{interval}"), text(interval));
    }
    for flag in ["ipv6Support", "ipipEnabled", "vxlanEnabled", "removeExternalRoutes", "healthEnabled"] {
        if let Some(value) = parameters.get(flag).filter(|v| !v.is_boolean() && !v.is_null()) {
            report.bad(format!("spec.{flag}"), value, "must be true or false");
        }
    }
    for port in ["healthPort", "prometheusMetricsPort", "vxlanPort", "wireguardListeningPort"] {
        let fits = |v: &Value| v.is_null() || v.as_u64().is_some_and(|n| n <= 65535);
        if let Some(value) = parameters.get(port).filter(|v| !fits(v)) {
            report.bad(format!("spec.{port}"), value, "must be a port, 0 to 65535");
        }
    }
}

/// Parameters one letter away from a known name.
pub(crate) fn misspelt_felix_parameters(spec: Option<&Value>) -> Vec<Problem> {
    let Some(Value::Object(parameters)) = spec else { return Vec::new() };
    let misspelt = |name: &String| {
        let lower = name.to_ascii_lowercase();
        let distance = |known: &&str| strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase());
        // The twins of IPv4 and IPv6 parameters differ in a digit.
        let nearest = PARAMETERS.iter().min_by_key(|known| distance(known))?;
        let is_twin = name.contains(['4', '6']) && !nearest.eq_ignore_ascii_case(name);
        (*nearest != name && distance(nearest) <= 1 && !is_twin).then(|| Problem::UnknownField {
            path: format!("spec.{name}"),
            nearest: Some((*nearest).to_owned()),
        })
    };
    parameters.keys().filter(|name| name.len() < 100).filter_map(misspelt).collect()
}
