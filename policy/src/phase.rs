//! Where on its way a packet meets policy. Each phase asks its own policies, and what "allowed" leads to differs.

use crate::ir::{Action, Direction, Verdict};
use crate::snapshot::DenyAction;

/// Chain that marks a packet as allowed and lets it go on.
pub(crate) const ALLOWED: &str = "host-allowed";
/// The same for a packet that is not to be tracked.
pub(crate) const ALLOWED_UNTRACKED: &str = "host-untracked";

/// A place where policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// At a workload.
    Workload,
    /// At a host endpoint, before connection tracking.
    Untracked,
    /// At a host endpoint, before a service's address is translated; received packets only.
    PreDnat,
    /// At a host endpoint, for packets this node forwards.
    Forward,
    /// At a host endpoint, for packets to and from this node itself.
    Host,
}

/// The phases a policy is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// At workloads and hosts; perhaps for what hosts forward, too.
    Tracked { forward: bool },
    /// `preDNAT`.
    PreDnat,
    /// `doNotTrack`, which outranks `preDNAT`.
    Untracked,
}

impl Reach {
    pub(crate) fn covers(self, phase: Phase) -> bool {
        match (self, phase) {
            (Reach::Tracked { .. }, Phase::Workload | Phase::Host)
            | (Reach::Tracked { forward: true }, Phase::Forward)
            | (Reach::PreDnat, Phase::PreDnat)
            | (Reach::Untracked, Phase::Untracked) => true,
            (Reach::Tracked { .. } | Reach::PreDnat | Reach::Untracked, _) => false,
        }
    }
}

impl Phase {
    /// Whether profiles are asked, and what nothing allowed is dropped. Otherwise it goes on: a forwarding host is open
    /// unless a policy says otherwise, and what comes before tracking or translation has its turn later.
    pub(crate) fn is_closed(self) -> bool {
        match self {
            Phase::Workload | Phase::Host => true,
            Phase::Untracked | Phase::PreDnat | Phase::Forward => false,
        }
    }

    /// Whether the default action of tiers counts; before tracking and translation all of them pass (felix-dataplane 3.5).
    pub(crate) fn tiers_end(self) -> bool {
        match self {
            Phase::Workload | Phase::Host | Phase::Forward => true,
            Phase::Untracked | Phase::PreDnat => false,
        }
    }

    /// What "allowed" means. Where another endpoint has to agree it leads back to the chain that asks that one.
    pub(crate) fn allow(self, direction: Direction) -> Verdict {
        match (self, direction) {
            (Phase::Workload, Direction::Ingress) | (Phase::Host, _) => Verdict::Accept,
            (Phase::Workload, Direction::Egress) | (Phase::Forward, _) => Verdict::Return,
            (Phase::PreDnat, _) => Verdict::Goto(ALLOWED.to_owned()),
            (Phase::Untracked, _) => Verdict::Goto(ALLOWED_UNTRACKED.to_owned()),
        }
    }

    /// What "denied" means. Only filters tell the sender: before tracking and translation Calico has none that could, and
    /// what a host sends may be judged after routing, where the kernel does not take it.
    pub(crate) fn deny(self, direction: Direction, wanted: DenyAction) -> Action {
        match (self, direction, wanted) {
            (Phase::Workload | Phase::Forward, _, DenyAction::Reject)
            | (Phase::Host, Direction::Ingress, DenyAction::Reject) => Action::Reject,
            (Phase::Host, Direction::Egress, DenyAction::Reject)
            | (Phase::PreDnat | Phase::Untracked, _, DenyAction::Reject)
            | (_, _, DenyAction::Drop) => Action::Verdict(Verdict::Drop),
        }
    }

    /// How the names of its chains begin.
    pub(crate) fn prefix(self, direction: Direction) -> &'static str {
        let names = match self {
            Phase::Workload => ["in-", "out-"],
            Phase::Host => ["host-in-", "host-out-"],
            Phase::Forward => ["forward-in-", "forward-out-"],
            Phase::PreDnat => ["dnat-in-", "dnat-out-"],
            Phase::Untracked => ["raw-in-", "raw-out-"],
        };
        match direction {
            Direction::Ingress => names[0],
            Direction::Egress => names[1],
        }
    }
}
