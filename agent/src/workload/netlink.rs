//! The real [`Wiring`]: a veth made from the host side, its peer born inside the workload's namespace.
//!
//! Moving a peer there afterwards would cost 16 ms more (kernel-programming 4).

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};

use super::wiring::{GATEWAY_V6, HOST_MAC, HostLink, Mac, Wire, Wiring, WiringError};
use socket::Requests;

mod inside;
mod socket;

/// Prefix length of link-local addresses.
const LINK_LOCAL_PREFIX: u8 = 64;

/// Works in the network namespace of the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Netlink;

impl Wiring for Netlink {
    fn find(&self, host_interface: &str) -> Result<Option<HostLink>, WiringError> {
        let link = Requests::open()?.link(host_interface)?;
        Ok(link.map(|link| HostLink {
            owner: link.alias,
            index: link.index,
            mac: link.mac.unwrap_or(Mac([0; 6])),
            mtu: link.mtu,
        }))
    }

    fn create(&self, wire: &Wire) -> Result<u32, WiringError> {
        let namespace = inside::open(&wire.netns)?;
        let mut requests = Requests::open()?;
        if let Err(error) = requests.create_link(veth(wire, &namespace), &wire.host_interface) {
            // The kernel does not say on which side. On the host's there was none.
            let is_inside = is_existing(&error) && requests.link(&wire.host_interface)?.is_none();
            return Err(if is_inside { occupied(wire) } else { error });
        }
        let finished = finish(&mut requests, wire, &namespace);
        if finished.is_err()
            && let Err(error) = requests.remove_link(&wire.host_interface)
        {
            tracing::warn!(interface = wire.host_interface, %error, "a half-made interface stays");
        }
        finished
    }

    fn remove(&self, host_interface: &str) -> Result<(), WiringError> {
        Requests::open()?.remove_link(host_interface)
    }

    fn verify(&self, wire: &Wire) -> Result<(), WiringError> {
        let namespace = inside::open(&wire.netns)?;
        inside::run(&namespace, wire, inside::verify)
    }
}

fn is_existing(error: &WiringError) -> bool {
    matches!(error, WiringError::Kernel { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
}

fn occupied(wire: &Wire) -> WiringError {
    WiringError::Occupied { path: wire.netns.display().to_string(), interface: wire.interface.clone() }
}

/// Both sides of the pair in one request.
fn veth(wire: &Wire, namespace: &File) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(wire.interface.clone()),
        LinkAttribute::Mtu(wire.mtu),
        LinkAttribute::Address(wire.mac.0.to_vec()),
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
    ];
    let mut host = LinkMessage::default();
    host.attributes = vec![
        LinkAttribute::IfName(wire.host_interface.clone()),
        LinkAttribute::Mtu(wire.mtu),
        // A MAC given at creation is left alone by udev and systemd, which like to replace others.
        LinkAttribute::Address(HOST_MAC.0.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    host
}

/// The workload's side first: once the host side is up, packets flow. The alias comes last; an interface that has it is
/// complete.
fn finish(requests: &mut Requests, wire: &Wire, namespace: &File) -> Result<u32, WiringError> {
    inside::run(namespace, wire, inside::configure)?;
    let vanished =
        || WiringError::Changed { what: format!("{} vanished while it was made", wire.host_interface) };
    let index = requests.link(&wire.host_interface)?.ok_or_else(vanished)?.index;
    if wire.addresses.iter().any(IpAddr::is_ipv6) {
        // Without duplicate detection it answers at once; the kernel would try it for a second first.
        requests.add_address(index, GATEWAY_V6.into(), LINK_LOCAL_PREFIX)?;
    }
    requests.bring_up(index, Some(&wire.owner))?;
    inside::run(namespace, wire, inside::wait_until_running)?;
    Ok(index)
}
