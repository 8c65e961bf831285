//! What went wrong in a cycle, in words, by object.
//!
//! A *failure* is an operation the kernel refused: it is tried again, and the node is not ready before a cycle without.
//! A *note* names something that trying again will not change.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

use super::owner::IPIP_DEVICE;
use crate::fib::Reason;
use crate::kernel::{KernelError, chain};

/// Prefixes named in one text; of more, the number.
const NAMED: usize = 5;

/// Failures and notes of one cycle.
#[derive(Debug, Default)]
pub(super) struct Report {
    failures: BTreeMap<String, String>,
    notes: BTreeMap<String, String>,
}

impl Report {
    /// An operation on `object` failed.
    pub(super) fn failed(&mut self, object: &str, error: &KernelError) {
        self.failures.insert(object.to_string(), chain(error));
    }

    /// An operation on `object` failed the last time, and is not tried yet.
    pub(super) fn failed_before(&mut self, object: &str, reason: &str) {
        self.failures.insert(object.to_string(), reason.to_owned());
    }

    /// Something about `object` that will stay until somebody changes it.
    pub(super) fn note(&mut self, object: &str, text: String) {
        self.notes.insert(object.to_string(), text);
    }

    /// The same, unless something is noted already.
    pub(super) fn note_first(&mut self, object: &str, text: String) {
        self.notes.entry(object.to_string()).or_insert(text);
    }

    /// What was noted about `object` is no longer so.
    pub(super) fn withdraw(&mut self, object: &str) {
        self.notes.remove(object);
    }

    /// Learned routes that are not programmed, by cause.
    pub(super) fn left_out(&mut self, left_out: &BTreeMap<Reason, BTreeSet<IpNetwork>>, no_ipip: bool) {
        let mut tunnelled = BTreeSet::new();
        for (reason, prefixes) in left_out.iter().filter(|(reason, _)| !reason.is_normal()) {
            if let Reason::NoTunnel(pool) = reason {
                tunnelled.insert(pool.to_string());
                continue;
            }
            let mut names: Vec<String> = prefixes.iter().take(NAMED).map(ToString::to_string).collect();
            if prefixes.len() > NAMED {
                names.push(format!("{} more", prefixes.len() - NAMED));
            }
            self.note(&subject(reason), format!("{reason}; not programmed: {}", names.join(", ")));
        }
        if !tunnelled.is_empty() {
            let cause = if no_ipip { "kernel has no IPIP (ipip module)" } else { "the device is not up" };
            let text = format!("{cause}: routes over tunl0 of pool {} are not programmed", join(&tunnelled));
            self.note(IPIP_DEVICE, text);
        }
    }

    /// Some operation failed.
    pub(super) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// All of it, for `Applied.failures`.
    pub(super) fn texts(&self) -> BTreeMap<String, String> {
        let mut texts = self.notes.clone();
        texts.extend(self.failures.clone());
        texts
    }
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// What a reason is filed under: its next hop or pool when it concerns all routes of that.
fn subject(reason: &Reason) -> String {
    match reason {
        Reason::OwnNextHop(hop)
        | Reason::OtherFamily(hop)
        | Reason::Unreachable(hop)
        | Reason::NotOnLink(hop)
        | Reason::Loop(hop) => format!("next hop {hop}"),
        Reason::HoldsNode(node) => format!("node address {node}"),
        Reason::Service(range) => format!("services {range}"),
        Reason::Vxlan(pool) | Reason::NoTunnel(pool) => format!("pool {pool}"),
        Reason::Martian => "routes not to be routed".to_string(),
        Reason::Foreign(protocol) => format!("routes of protocol {protocol}"),
    }
}
