//! `IP`, `IP6` and their autodetection methods (calico-datamodel 7.2).

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use regex::Regex;

use super::environment::Reader;
use crate::calc::parse_duration;

/// How a node gets its address of one family.
#[derive(Clone, Debug)]
pub enum AddressSetting {
    /// Keep what is stored, whatever that is; never detect.
    Keep,
    /// Keep what is stored, detect when nothing is.
    KeepOrDetect(Method),
    /// Detect at each start.
    Detect(Method),
    /// This address. Without a prefix length the local interface's is looked up.
    Explicit(IpAddr, Option<u8>),
}

/// How an address is detected.
#[derive(Clone, Debug)]
pub enum Method {
    /// The first usable interface.
    FirstFound,
    /// The first interface that matches, one expression after another.
    Interface(Vec<Regex>),
    /// The first usable interface that matches none of these.
    SkipInterface(Vec<Regex>),
    /// The source address the kernel would use towards this host.
    CanReach(String),
    /// The first address inside one of these.
    Cidr(Vec<IpNetwork>),
}

/// The setting of a family.
pub(super) fn read(reader: &mut Reader<'_>, ipv6: bool) -> AddressSetting {
    let (name, method_name) = match ipv6 {
        false => ("IP", "IP_AUTODETECTION_METHOD"),
        true => ("IP6", "IP6_AUTODETECTION_METHOD"),
    };
    let method = reader.value(method_name, Method::FirstFound, |text| parse_method(text, ipv6));
    match reader.environment.get(name) {
        // Unset, IPv4 is detected when nothing is stored; IPv6 has to be asked for.
        None if ipv6 => AddressSetting::Keep,
        None => AddressSetting::KeepOrDetect(method),
        Some("autodetect") => AddressSetting::Detect(method),
        Some("none") => AddressSetting::Keep,
        Some(_) => reader.value(name, AddressSetting::Keep, |text| parse_address(text, ipv6)),
    }
}

/// `AUTODETECT_POLL_INTERVAL`: a duration as Go writes it, or seconds; 0 and less is never.
pub(super) fn parse_poll(text: &str) -> Result<Option<Duration>, &'static str> {
    let (negative, length) = text.strip_prefix('-').map_or((false, text), |length| (true, length));
    let seconds = || length.parse().ok().map(Duration::from_secs);
    let poll = parse_duration(length).or_else(seconds).ok_or("must be a duration such as 60s or 1m30s")?;
    Ok(Some(poll).filter(|poll| !negative && !poll.is_zero()))
}

fn parse_address(text: &str, ipv6: bool) -> Result<AddressSetting, String> {
    let rule = || {
        let example = if ipv6 {
            "IPv6 address such as fd00::1 or fd00::1/64"
        } else {
            "IPv4 address such as 10.0.0.1 or 10.0.0.1/24"
        };
        format!("must be autodetect, none or an {example}")
    };
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| rule())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| rule())?;
    // A loopback address is every node's own: peers would dial themselves.
    let usable = address.is_ipv6() == ipv6
        && !(address.is_unspecified() || address.is_multicast() || address.is_loopback());
    let longest = if ipv6 { 128 } else { 32 };
    if !usable || prefix.is_some_and(|prefix| prefix > longest) {
        return Err(rule());
    }
    Ok(AddressSetting::Explicit(address, prefix))
}

fn parse_method(text: &str, ipv6: bool) -> Result<Method, String> {
    if text == "first-found" {
        return Ok(Method::FirstFound);
    }
    let (kind, value) = text.split_once('=').unwrap_or((text, ""));
    let list = || value.split(',').map(str::trim).filter(|part| !part.is_empty());
    let regexes = || {
        let read =
            |part: &str| Regex::new(part).map_err(|error| format!("has a bad regular expression: {error}"));
        list().map(read).collect::<Result<Vec<_>, _>>()
    };
    match kind {
        "interface" | "skip-interface" | "can-reach" | "cidr" if value.is_empty() => {
            Err(format!("needs a value after {kind}="))
        }
        "interface" => regexes().map(Method::Interface),
        "skip-interface" => regexes().map(Method::SkipInterface),
        "can-reach" => Ok(Method::CanReach(value.to_owned())),
        "cidr" => {
            let read = |part: &str| match part.parse::<IpNetwork>() {
                Ok(net) if net.is_ipv6() == ipv6 => Ok(net),
                Ok(_) => Err(format!("has {part}, which is of the other address family")),
                Err(_) => Err(format!("has {part}, which is no CIDR")),
            };
            list().map(read).collect::<Result<Vec<_>, _>>().map(Method::Cidr)
        }
        _ => {
            Err("must be first-found, interface=REGEX, skip-interface=REGEX, can-reach=HOST or cidr=CIDR"
                .into())
        }
    }
}
