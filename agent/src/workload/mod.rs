//! Attach and detach: the one service that gives workloads an interface, for the CNI plugin and for Docker.
//!
//! An attach allocates addresses and writes the WorkloadEndpoint in one transaction, makes the veth with its peer born
//! inside the workload's namespace, hands its own writes to calc and answers once the data plane has wired the
//! interface: addresses answer and policy is in force. What fails is undone. Host-side settings, routes and rules are
//! the data plane's; nothing here writes them.
//!
//! | module | what it owns |
//! |---|---|
//! | `service` | the order of things, and undoing them |
//! | `identity` | names made from a request, and which requests are refused; pure |
//! | `endpoint` | the WorkloadEndpoint and the profile of a network; pure |
//! | `wiring` | what the service wants of the kernel |
//! | `netlink` | how it gets it: links here and in the workload's namespace |
//! | `locks` | one operation at a time for an interface |
//! | `leaks` | what is held for workloads that are gone |

mod endpoint;
mod error;
mod identity;
mod leaks;
mod locks;
mod netlink;
mod service;
pub mod wiring;

pub use error::{ErrorKind, WorkloadError};
pub use leaks::{Asker, Search};
pub use netlink::Netlink;
pub use service::{Service, ServiceConfig};
