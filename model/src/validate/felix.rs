//! FelixConfiguration (calico-datamodel 2.13, 8): the forms of the parameters, and what they exclude.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use serde_json::Value;

use super::{Report, is_go_duration};
use crate::felix::{Form, form};
use crate::resource::FelixConfiguration;
use crate::scalar::{Port, Protocol};
use crate::strict::shown;

/// Most ranges in `kubeNodePortRanges`.
const MAX_PORT_RANGES: usize = 7;
/// Most routing tables in all ranges together.
const MAX_TABLES: u64 = 65535;

pub(super) fn configuration(config: &FelixConfiguration, report: &mut Report) {
    let name = config.metadata.name.as_str();
    let parameters = &config.spec.parameters;
    for (name, value) in parameters {
        let path = format!("spec.{name}");
        match form(name) {
            Some(Form::PortRanges) => port_ranges(&path, value, report),
            Some(Form::ProtoPorts) => proto_ports(&path, value, report),
            Some(Form::Ipv4List) => ipv4_list(&path, value, report),
            Some(Form::TableRange) => {
                table_range(&path, value, report);
            }
            Some(Form::TableRanges) => table_ranges(&path, value, report),
            Some(Form::Selector) => match value.as_str() {
                Some(selector) => report.selector_without_global(&path, selector),
                None => report.bad(path, shown(value), "must be a selector"),
            },
            Some(form) => {
                if let Some(rule) = broken_rule(form, value) {
                    report.bad(path, shown(value), rule);
                }
            }
            None => {}
        }
    }
    if (name == "default" || name.starts_with("node."))
        && let Some(selector) = parameters.get("nodeSelector").and_then(Value::as_str)
    {
        report.bad("spec.nodeSelector", selector, "is not allowed in 'default' and 'node.<name>'");
    }
    if parameters.contains_key("routeTableRange") && parameters.contains_key("routeTableRanges") {
        report.object("spec.routeTableRange", "routeTableRange and routeTableRanges exclude each other");
    }
}

/// What a value of a simple form should have been; `None` when it fits.
fn broken_rule(form: Form, value: &Value) -> Option<String> {
    let text = value.as_str();
    let (fits, rule) = match form {
        Form::Flag => (value.is_boolean(), "must be true or false"),
        Form::Duration => (text.is_some_and(is_go_duration), "must be a duration such as 30s or 1m30s"),
        Form::Port => (value.as_u64().is_some_and(|n| n <= 65535), "must be a port, 0 to 65535"),
        Form::Integer => (value.is_i64(), "must be a whole number"),
        Form::Mark => {
            let fits = value.as_u64().is_some_and(|n| n <= u64::from(u32::MAX));
            (fits, "must be a number of 32 bits, such as 0xffff0000 without quotes")
        }
        Form::Text => (text.is_some(), "must be text; put it in quotes"),
        Form::Choice(words) => {
            let fits = text.is_some_and(|text| {
                text.is_empty() || words.iter().any(|word| word.eq_ignore_ascii_case(text))
            });
            return (!fits).then(|| format!("must be one of {}", words.join(", ")));
        }
        Form::Ipv4 => (text.is_some_and(|t| t.parse::<Ipv4Addr>().is_ok()), "must be an IPv4 address"),
        Form::Ipv6 => (text.is_some_and(|t| t.parse::<Ipv6Addr>().is_ok()), "must be an IPv6 address"),
        Form::PortRange => (is_port_range(value), "must be a port, or a range min:max"),
        Form::Ipv4List
        | Form::PortRanges
        | Form::ProtoPorts
        | Form::TableRange
        | Form::TableRanges
        | Form::Selector
        | Form::Any => return None,
    };
    (!fits).then(|| rule.to_owned())
}

fn list<'v>(path: &str, value: &'v Value, report: &mut Report) -> Option<&'v [Value]> {
    let items = value.as_array();
    if items.is_none() {
        report.bad(path, shown(value), "must be a list");
    }
    items.map(Vec::as_slice)
}

/// A port by number, or a range of them; names stand for nothing here.
fn is_port_range(value: &Value) -> bool {
    matches!(serde_json::from_value::<Port>(value.clone()), Ok(Port::Range(..)))
}

fn port_ranges(path: &str, value: &Value, report: &mut Report) {
    let Some(ranges) = list(path, value, report) else { return };
    if ranges.len() > MAX_PORT_RANGES {
        let rule = format!("at most {MAX_PORT_RANGES} ranges are allowed");
        report.bad(path, format!("{} ranges", ranges.len()), rule);
    }
    for (i, range) in ranges.iter().enumerate().filter(|(_, range)| !is_port_range(range)) {
        report.bad(format!("{path}[{i}]"), shown(range), "must be a port, or a range min:max, without names");
    }
}

fn proto_ports(path: &str, value: &Value, report: &mut Report) {
    for (i, entry) in list(path, value, report).into_iter().flatten().enumerate() {
        let path = format!("{path}[{i}]");
        let Value::Object(fields) = entry else {
            report.bad(path, shown(entry), "must be an object with protocol and port");
            continue;
        };
        let protocol = fields.get("protocol").cloned().map(serde_json::from_value::<Protocol>);
        if !matches!(protocol, Some(Ok(_))) {
            let value = shown(fields.get("protocol").unwrap_or(&Value::Null));
            report.bad(format!("{path}.protocol"), value, "must be tcp, udp or sctp");
        }
        if fields.get("port").and_then(Value::as_u64).is_none_or(|port| port > 65535) {
            let value = shown(fields.get("port").unwrap_or(&Value::Null));
            report.bad(format!("{path}.port"), value, "must be a port, 0 to 65535");
        }
        if let Some(net) = fields.get("net").filter(|net| !net.is_null())
            && !net.as_str().is_some_and(|net| net.is_empty() || net.parse::<IpNetwork>().is_ok())
        {
            report.bad(format!("{path}.net"), shown(net), "must be a network such as 10.0.0.0/8");
        }
        for name in fields.keys().filter(|name| !["protocol", "port", "net"].contains(&name.as_str())) {
            report
                .object(format!("{path}.{name}"), "is no field of a port: those are protocol, port and net");
        }
    }
}

fn ipv4_list(path: &str, value: &Value, report: &mut Report) {
    for (i, entry) in list(path, value, report).into_iter().flatten().enumerate() {
        if entry.as_str().is_none_or(|text| text.parse::<Ipv4Network>().is_err()) {
            report.bad(format!("{path}[{i}]"), shown(entry), "must be an IPv4 address or network");
        }
    }
}

fn table_ranges(path: &str, value: &Value, report: &mut Report) {
    let mut total: u64 = 0;
    for (i, range) in list(path, value, report).into_iter().flatten().enumerate() {
        total = total.saturating_add(table_range(&format!("{path}[{i}]"), range, report));
    }
    if total > MAX_TABLES {
        report.bad(path, format!("{total} tables"), format!("at most {MAX_TABLES} tables are allowed"));
    }
}

/// Checks a range of routing tables; returns how many it has.
fn table_range(path: &str, range: &Value, report: &mut Report) -> u64 {
    let end = |name| range.get(name).and_then(Value::as_u64);
    match (end("min"), end("max")) {
        (Some(min), Some(max)) if 1 <= min && min <= max && max <= u64::from(u32::MAX) => max - min + 1,
        _ => {
            report.bad(path, shown(range), "must have min and max, 1 ≤ min ≤ max ≤ 4294967295");
            0
        }
    }
}
