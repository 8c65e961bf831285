//! Read-only views of a speaker for operators.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::PeerId;
use crate::table::LearnedRoute;

/// Session state as RFC 4271 names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionState {
    /// Not trying.
    #[default]
    Idle,
    /// TCP under way.
    Connect,
    /// Waiting to dial again, or to be dialled.
    Active,
    /// OPEN sent.
    OpenSent,
    /// OPEN accepted, waiting for the KEEPALIVE.
    OpenConfirm,
    /// Up.
    Established,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionState::Idle => "Idle",
            SessionState::Connect => "Connect",
            SessionState::Active => "Active",
            SessionState::OpenSent => "OpenSent",
            SessionState::OpenConfirm => "OpenConfirm",
            SessionState::Established => "Established",
        })
    }
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// Its configured name.
    pub name: String,
    /// Its state.
    pub state: SessionState,
    /// Time in this state.
    pub since: Duration,
    /// Why the last session ended, or what keeps it from coming up.
    pub last_error: Option<String>,
    /// It is kept down until its configuration changes, and `last_error` says why: by the operator, or for too many
    /// prefixes.
    pub held: bool,
    /// Prefixes accepted from it.
    pub received: usize,
    /// Prefixes announced to it.
    pub announced: usize,
}

/// The whole speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Peers.
    pub peers: BTreeMap<PeerId, PeerSnapshot>,
    /// Best learned routes.
    pub routes: BTreeMap<IpNetwork, LearnedRoute>,
    /// Routes originated.
    pub originated: Vec<IpNetwork>,
    /// Addresses that cannot be listened on, and why; each is retried.
    pub listen_errors: BTreeMap<SocketAddr, String>,
    /// Every peer expected back has told its routes, or the time for that is over.
    pub converged: bool,
}

/// What a speaker holds in memory, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Prefixes known of both families.
    pub prefixes: usize,
    /// Paths received.
    pub paths: usize,
    /// Sets of attributes; those no longer in use are forgotten when their number has doubled.
    pub attribute_sets: usize,
    /// Groups of peers that are told the same.
    pub groups: usize,
    /// TCP connections.
    pub connections: usize,
}
