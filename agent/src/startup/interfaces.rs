//! The machine's interfaces and their addresses, in the kernel's order: the first address of an interface is its primary
//! one.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

/// An interface with addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Administratively up.
    pub up: bool,
    /// Addresses with the length of their subnet.
    pub addresses: Vec<IpNetwork>,
}

/// All interfaces that have an address.
///
/// # Errors
/// When the kernel does not tell.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    for entry in getifaddrs()? {
        // An IPv4 address with a label appears under the label, such as eth0:1.
        let name = entry.interface_name.split(':').next().unwrap_or_default().to_owned();
        let Some(address) = network(&entry) else { continue };
        // Gone since the list was made.
        let Ok(index) = if_nametoindex(name.as_str()) else { continue };
        let up = entry.flags.contains(InterfaceFlags::IFF_UP);
        let new = Interface { name: name.clone(), index, up, addresses: Vec::new() };
        interfaces.entry(name).or_insert(new).addresses.push(address);
    }
    Ok(interfaces.into_values().collect())
}

fn network(entry: &InterfaceAddress) -> Option<IpNetwork> {
    let (address, mask) = (ip(entry.address.as_ref()?)?, ip(entry.netmask.as_ref()?)?);
    let prefix = match mask {
        IpAddr::V4(mask) => u32::from(mask).leading_ones(),
        IpAddr::V6(mask) => u128::from(mask).leading_ones(),
    };
    IpNetwork::new(address, u8::try_from(prefix).ok()?).ok()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_address() {
        let interfaces = list().unwrap();
        let lo = interfaces.iter().find(|i| i.name == "lo").expect("every machine has a loopback");
        assert!(lo.up && lo.addresses.contains(&"127.0.0.1/8".parse().unwrap()), "{lo:?}");
    }
}
