//! The node's address of each family: kept, given or detected (calico-datamodel 7.2). The choice is pure; only
//! [`source_towards`] asks the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};

use ipnetwork::IpNetwork;

use super::interfaces::Interface;
use crate::config::{AddressSetting, Method};

/// Interfaces first-found does not look at: those of container runtimes and of tunnels.
const EXCLUDED: [&str; 19] = [
    "docker",
    "cbr",
    "dummy",
    "podman",
    "virbr",
    "lxcbr",
    "veth",
    "lo",
    "br-",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    "wg-v6.cali",
    "nodelocaldns",
];

/// Why the node has no address of a family.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Nothing was found and nothing is stored.
    #[error(
        "unable to autodetect an {family} address with {variable}_AUTODETECTION_METHOD={method}: {reason}; set {variable} \
         to the node's address, or another method"
    )]
    NotFound {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// `IP` or `IP6`.
        variable: &'static str,
        /// The method as it would be written.
        method: String,
        /// What was looked at.
        reason: String,
    },
}

/// The outcome for one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The address with the length of its subnet.
    pub address: Option<IpNetwork>,
    /// The interface it was detected on just now.
    pub detected: Option<String>,
    /// Worth telling an operator.
    pub warnings: Vec<String>,
}

/// Decides on the address of a family. `source` gives the source address towards a host, for `can-reach`.
///
/// # Errors
/// [`AddressError::NotFound`] when detection is wanted, finds nothing, and nothing is stored.
pub fn decide(
    setting: &AddressSetting,
    stored: Option<IpNetwork>,
    ipv6: bool,
    interfaces: &[Interface],
    source: impl FnOnce(&str) -> io::Result<IpAddr>,
) -> Result<Decision, AddressError> {
    let kept = |address: Option<IpNetwork>| {
        let foreign = address.filter(|stored| holder_of(stored.ip(), interfaces).is_none());
        Decision {
            address,
            detected: None,
            warnings: foreign.map(|a| unassigned(a.ip())).into_iter().collect(),
        }
    };
    let method = match setting {
        AddressSetting::Keep => return Ok(kept(stored)),
        AddressSetting::KeepOrDetect(_) if stored.is_some() => return Ok(kept(stored)),
        AddressSetting::Explicit(address, prefix) => return Ok(explicit(*address, *prefix, interfaces)),
        AddressSetting::KeepOrDetect(method) | AddressSetting::Detect(method) => method,
    };
    match (detect(method, ipv6, interfaces, source), stored) {
        (Ok((interface, address)), stored) => {
            let family = family(ipv6);
            let changed = stored.filter(|stored| *stored != address);
            let warning = |old| {
                format!(
                    "{family} address has changed. This could happen if there are multiple nodes with the same name: was {old}, now {address}"
                )
            };
            Ok(Decision {
                address: Some(address),
                detected: Some(interface),
                warnings: changed.map(warning).into_iter().collect(),
            })
        }
        (Err(reason), Some(_)) => {
            let warning =
                format!("unable to autodetect an {} address: {reason}; keeping the stored one", family(ipv6));
            let mut decision = kept(stored);
            decision.warnings.push(warning);
            Ok(decision)
        }
        (Err(reason), None) => Err(AddressError::NotFound {
            family: family(ipv6),
            variable: if ipv6 { "IP6" } else { "IP" },
            method: describe(method),
            reason,
        }),
    }
}

fn family(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}

/// An address given by the operator, with the prefix length of the interface that has it unless that is given too.
fn explicit(address: IpAddr, prefix: Option<u8>, interfaces: &[Interface]) -> Decision {
    let local = holder_of(address, interfaces);
    let longest = if address.is_ipv6() { 128 } else { 32 };
    let prefix = prefix.or(local.map(IpNetwork::prefix)).unwrap_or(longest);
    Decision {
        address: IpNetwork::new(address, prefix).ok(),
        detected: None,
        warnings: if local.is_some() { Vec::new() } else { vec![unassigned(address)] },
    }
}

/// An address as the interface that has it has it.
fn holder_of(address: IpAddr, interfaces: &[Interface]) -> Option<&IpNetwork> {
    interfaces.iter().flat_map(|interface| &interface.addresses).find(|net| net.ip() == address)
}

/// The machine may have got another address, or the name of another node.
fn unassigned(address: IpAddr) -> String {
    let variable = if address.is_ipv6() { "IP6" } else { "IP" };
    format!(
        "no interface has the address {address}; other nodes may not reach this one ({variable}=autodetect detects it \
         at each start)"
    )
}

/// The interface and address a method finds, or what it looked at in vain.
fn detect(
    method: &Method,
    ipv6: bool,
    interfaces: &[Interface],
    source: impl FnOnce(&str) -> io::Result<IpAddr>,
) -> Result<(String, IpNetwork), String> {
    let mut up: Vec<&Interface> = interfaces.iter().filter(|interface| interface.up).collect();
    up.sort_by_key(|interface| std::cmp::Reverse(interface.index));
    let not_excluded = |interface: &&&Interface| !is_excluded(&interface.name);
    let usable = |interface: &&Interface| {
        let address = interface.addresses.iter().find(|net| net.is_ipv6() == ipv6 && is_global(net.ip()))?;
        Some((interface.name.clone(), *address))
    };
    let found = match method {
        Method::FirstFound => up.iter().filter(not_excluded).find_map(usable),
        Method::Interface(patterns) => patterns.iter().find_map(|pattern| {
            up.iter().filter(|interface| pattern.is_match(&interface.name)).find_map(usable)
        }),
        Method::SkipInterface(patterns) => {
            let skipped =
                |interface: &&&Interface| patterns.iter().any(|pattern| pattern.is_match(&interface.name));
            up.iter().filter(not_excluded).filter(|i| !skipped(i)).find_map(usable)
        }
        Method::Cidr(nets) => up.iter().find_map(|interface| {
            let inside =
                |net: &&IpNetwork| is_global(net.ip()) && nets.iter().any(|wanted| wanted.contains(net.ip()));
            interface.addresses.iter().find(inside).map(|net| (interface.name.clone(), *net))
        }),
        Method::CanReach(host) => {
            let source = source(host).map_err(|error| format!("no route towards {host}: {error}"))?;
            let holder = |interface: &&Interface| {
                let address = interface.addresses.iter().find(|net| net.ip() == source)?;
                Some((interface.name.clone(), *address))
            };
            return up
                .iter()
                .find_map(holder)
                .ok_or_else(|| format!("no interface has {source}, from where {host} is reached"));
        }
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = up.iter().map(|interface| interface.name.as_str()).collect();
        format!("no usable address on an interface that is up ({})", names.join(", "))
    })
}

/// Whether first-found passes an interface over.
pub(super) fn is_excluded(name: &str) -> bool {
    EXCLUDED.iter().any(|prefix| name.starts_with(prefix))
}

/// Go's "global unicast": private and unique local addresses count.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.is_link_local()
                || a.is_broadcast())
        }
        IpAddr::V6(a) => {
            !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_unicast_link_local())
        }
    }
}

fn describe(method: &Method) -> String {
    let list =
        |patterns: &[regex::Regex]| patterns.iter().map(regex::Regex::as_str).collect::<Vec<_>>().join(",");
    match method {
        Method::FirstFound => "first-found".into(),
        Method::Interface(patterns) => format!("interface={}", list(patterns)),
        Method::SkipInterface(patterns) => format!("skip-interface={}", list(patterns)),
        Method::CanReach(host) => format!("can-reach={host}"),
        Method::Cidr(nets) => {
            format!("cidr={}", nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        }
    }
}

/// The source address the kernel chooses for UDP to port 80 of a host. Nothing is sent.
///
/// # Errors
/// When the host has no address of the family, or there is no route.
pub fn source_towards(host: &str, ipv6: bool) -> io::Result<IpAddr> {
    let target =
        (host, 80).to_socket_addrs()?.find(|address| address.is_ipv6() == ipv6).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{host} has no {} address", family(ipv6)))
        })?;
    let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
