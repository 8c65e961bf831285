//! What must hold before anything is written: the rights to program this machine's network, and that no other agent
//! does. Two agents in one network namespace would undo each other's work for ever, whatever their sockets are called.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use anyhow::Context;
use nix::sys::socket::{getsockopt, sockopt};

/// Name of the abstract socket that an agent holds. Such names belong to a network namespace, as does all that an agent
/// writes, and go with the process.
const NAME: &str = "tortie-node";

/// What the agent needs, with its number (capabilities(7)).
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// The network namespace is this agent's as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    /// Nobody connects to it but those who want to know who we are. `None`: somebody without rights has the name.
    _listener: Option<UnixListener>,
}

/// Makes the network namespace ours.
///
/// # Errors
/// When rights are missing, or another agent has it.
pub(super) fn claim() -> anyhow::Result<Claim> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let missing = missing(&status);
    anyhow::ensure!(
        missing.is_empty(),
        "tortie-node lacks {}: routes, rules and the interfaces of workloads need it; start it as root, or grant the \
         capabilities",
        missing.join(" and ")
    );
    claim_as(NAME)
}

fn claim_as(name: &str) -> anyhow::Result<Claim> {
    let address = SocketAddr::from_abstract_name(name)?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(Claim { _listener: Some(listener) }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder(&address) {
            Some((pid, uid)) if uid == 0 || uid == nix::unistd::geteuid().as_raw() => anyhow::bail!(
                "another tortie-node (process {pid}) runs in this network namespace; stop it first: two would fight over \
                 routes, rules and BGP sessions"
            ),
            // Whoever may not program the network is no agent, and must not keep one from starting.
            _ => {
                tracing::warn!(
                    "the socket @{name} is held by a process that is no agent; other agents go unnoticed"
                );
                Ok(Claim { _listener: None })
            }
        },
        Err(error) => Err(error).with_context(|| format!("cannot listen at @{name}")),
    }
}

/// Process and user of who listens at an address.
fn holder(address: &SocketAddr) -> Option<(i32, u32)> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let credentials = getsockopt(&stream, sockopt::PeerCredentials).ok()?;
    Some((credentials.pid(), credentials.uid()))
}

/// The capabilities that are not in effect, by a `/proc/PID/status`.
fn missing(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_namespace_has_one_agent() {
        // Of this process only: tests share the network namespace.
        let name = format!("tortie-test-{}", std::process::id());
        let first = claim_as(&name).unwrap();
        let error = claim_as(&name).unwrap_err().to_string();
        assert!(error.contains(&format!("another tortie-node (process {})", std::process::id())), "{error}");
        drop(first);
        claim_as(&name).unwrap();
    }

    #[test]
    fn missing_capabilities_are_named() {
        let of = |effective: &str| {
            missing(&format!("Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t{effective}\n"))
        };
        assert_eq!(of("000001ffffffffff"), Vec::<&str>::new());
        assert_eq!(of("0000000000201000"), Vec::<&str>::new());
        assert_eq!(of("0000000000200000"), ["CAP_NET_ADMIN"]);
        assert_eq!(of("0000000000000000"), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        assert_eq!(missing("Name:\tx\n"), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    }
}
