//! The workload's side of a veth, configured by a thread that enters the workload's network namespace.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::socket::{Requests, Route};
use crate::workload::wiring::{GATEWAY, GATEWAY_V6, HOST_MAC, Wire, WiringError};

/// Opens a workload's network namespace, unless it is the one this process runs in.
pub(super) fn open(path: &Path) -> Result<File, WiringError> {
    let text = path.display().to_string();
    let failed = |source| WiringError::Namespace { path: text.clone(), source };
    let namespace = File::open(path).map_err(failed)?;
    let kind = fstatfs(&namespace).map_err(|error| failed(error.into()))?.filesystem_type();
    if kind != NSFS_MAGIC {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no namespace")));
    }
    let (theirs, ours) = (
        namespace.metadata().map_err(failed)?,
        std::fs::metadata("/proc/thread-self/ns/net").map_err(failed)?,
    );
    if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
        return Err(WiringError::OwnNamespace { path: text });
    }
    Ok(namespace)
}

/// Runs `work` on a thread of its own inside the namespace; the calling thread stays where it is.
pub(super) fn run<T: Send>(
    namespace: &File,
    wire: &Wire,
    work: impl FnOnce(&Wire) -> Result<T, WiringError> + Send,
) -> Result<T, WiringError> {
    let enter_and_work = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| WiringError::Namespace {
            path: wire.netns.display().to_string(),
            source: error.into(),
        })?;
        work(wire)
    };
    std::thread::scope(|scope| match scope.spawn(enter_and_work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Addresses, gateway, neighbour: all a workload needs, and nothing else (felix-dataplane 1.2).
pub(super) fn configure(wire: &Wire) -> Result<(), WiringError> {
    let ipv4 = wire.addresses.iter().any(IpAddr::is_ipv4);
    let ipv6 = wire.addresses.iter().any(IpAddr::is_ipv6);
    let mut requests = Requests::open()?;
    let missing = || WiringError::Changed { what: format!("interface {} is missing", wire.interface) };
    let index = requests.link(&wire.interface)?.ok_or_else(missing)?.index;
    if let Some(lo) = requests.link("lo")? {
        requests.bring_up(lo.index, None)?;
    }
    // Forwarding starts as the host has it, which routes; a workload does not, unless it chooses to.
    sysctl("net/ipv4/ip_forward", "0")?;
    if ipv6 {
        for of in ["all", "default", "lo", &wire.interface] {
            sysctl(&format!("net/ipv6/conf/{of}/disable_ipv6"), "0")?;
        }
        sysctl("net/ipv6/conf/all/forwarding", "0")?;
        sysctl(&format!("net/ipv6/conf/{}/accept_dad", wire.interface), "0")?;
    }
    for address in &wire.addresses {
        requests.add_address(index, *address, whole(address))?;
    }
    requests.bring_up(index, None)?;
    if ipv4 {
        let gateway = IpAddr::V4(GATEWAY);
        requests.add_neighbour(index, gateway, HOST_MAC)?;
        requests.add_link_route(index, gateway)?;
        requests.add_default_route(index, gateway)?;
    }
    if ipv6 {
        let gateway = IpAddr::V6(GATEWAY_V6);
        requests.add_neighbour(index, gateway, HOST_MAC)?;
        requests.add_default_route(index, gateway)?;
    }
    Ok(())
}

/// Waits until the interface can send. Its other end came up after it, and the kernel takes note of that a little later; a
/// packet sent in between would be lost.
pub(super) fn wait_until_running(wire: &Wire) -> Result<(), WiringError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_micros(100);
    let mut requests = Requests::open()?;
    let deadline = Instant::now() + PATIENCE;
    while requests.link(&wire.interface)?.is_some_and(|link| !link.running) {
        if Instant::now() > deadline {
            tracing::warn!(interface = wire.interface, "is up at both ends and still not running");
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether the interface is up with exactly its addresses and routes.
pub(super) fn verify(wire: &Wire) -> Result<(), WiringError> {
    let changed = |what: String| Err(WiringError::Changed { what });
    let mut requests = Requests::open()?;
    let Some(link) = requests.link(&wire.interface)? else {
        return changed(format!("interface {} is missing", wire.interface));
    };
    if !link.up {
        return changed(format!("interface {} is down", wire.interface));
    }
    let present = requests.addresses(link.index)?;
    for address in &wire.addresses {
        if !present.contains(&(*address, whole(address))) {
            return changed(format!("address {address} is missing on {}", wire.interface));
        }
    }
    for (ipv6, gateway) in [(false, IpAddr::V4(GATEWAY)), (true, IpAddr::V6(GATEWAY_V6))] {
        let wanted = wire.addresses.iter().any(|address| address.is_ipv6() == ipv6);
        if wanted && !requests.routes(link.index, ipv6)?.contains(&Route { to: None, via: Some(gateway) }) {
            return changed(format!("the default route via {gateway} is missing"));
        }
    }
    Ok(())
}

fn whole(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Sets a sysctl of the calling thread's namespace; not written when it has the value, so that a read-only `/proc/sys`
/// does not matter then. What the kernel does not have needs no setting.
fn sysctl(name: &str, value: &str) -> Result<(), WiringError> {
    let path = format!("/proc/sys/{name}");
    match std::fs::read_to_string(&path) {
        Ok(present) if present.trim() == value => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    std::fs::write(&path, value)
        .map_err(|source| WiringError::Kernel { action: format!("write {value} to {path}"), source })
}
