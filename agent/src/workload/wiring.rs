//! What the service wants of the kernel, so that it can be tested without one.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// MAC of the host side of every workload's veth (felix-dataplane 1.2).
pub const HOST_MAC: Mac = Mac([0xee; 6]);

/// The workload's gateway. No interface has it: the host answers for it by proxy ARP, and the workload has a permanent
/// neighbour besides.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The link-local address that [`HOST_MAC`] yields: the workload's IPv6 gateway.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A veth to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Name of the host side.
    pub host_interface: String,
    /// Container and interface inside, `<container>/<interface>`; kept as the alias of the host side.
    pub owner: String,
    /// Path of the workload's network namespace.
    pub netns: PathBuf,
    /// Name of the side inside it.
    pub interface: String,
    /// MAC of the side inside.
    pub mac: Mac,
    /// MTU of both sides.
    pub mtu: u32,
    /// Addresses inside, each alone.
    pub addresses: Vec<IpAddr>,
}

/// A host interface that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLink {
    /// Who it was made for; `None` when it was not finished, or is not ours.
    pub owner: Option<String>,
    /// Its index.
    pub index: u32,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
}

/// Makes and removes the interfaces of workloads. Calls block for up to some 20 ms.
pub trait Wiring: Send + Sync + fmt::Debug {
    /// The host interface of this name.
    ///
    /// # Errors
    /// [`WiringError::Kernel`].
    fn find(&self, host_interface: &str) -> Result<Option<HostLink>, WiringError>;

    /// Makes a veth, configures the workload's side and brings both up; returns the index of the host interface, which
    /// must not exist before.
    ///
    /// # Errors
    /// [`WiringError`]; nothing is left of the veth then, unless removing it failed too.
    fn create(&self, wire: &Wire) -> Result<u32, WiringError>;

    /// Removes a veth; succeeds when there is none.
    ///
    /// # Errors
    /// [`WiringError::Kernel`].
    fn remove(&self, host_interface: &str) -> Result<(), WiringError>;

    /// Whether the workload's side is still as [`Wiring::create`] made it.
    ///
    /// # Errors
    /// [`WiringError::Changed`] when not.
    fn verify(&self, wire: &Wire) -> Result<(), WiringError>;
}

/// What can go wrong in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// The workload's namespace cannot be entered; the container may be gone.
    #[error("cannot open network namespace {path}")]
    Namespace {
        /// Its path.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The namespace is the host's own: an interface and a default route in it would cut the host off.
    #[error("network namespace {path} is the host's own; workloads on the host's network need no interface")]
    OwnNamespace {
        /// Its path.
        path: String,
    },
    /// The workload has an interface of that name already, of somebody else.
    #[error(
        "network namespace {path} has an interface {interface} already; detach whoever made it (CNI DEL), or choose another \
         name (CNI_IFNAME)"
    )]
    Occupied {
        /// Path of the namespace.
        path: String,
        /// The name inside.
        interface: String,
    },
    /// A request to the kernel failed.
    #[error("cannot {action}")]
    Kernel {
        /// What was to be done, with the object.
        action: String,
        /// Why not.
        source: io::Error,
    },
    /// The workload's side is not as it was made.
    #[error("inside the workload, {what}")]
    Changed {
        /// What differs.
        what: String,
    },
}
