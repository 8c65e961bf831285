//! What an operator may ask a running daemon: a line on its socket, answered with JSON.

pub(crate) mod client;
pub(crate) mod server;
pub(crate) mod socket;
mod table;

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tortie_bgp::SpeakerConfig;
use tortie_bgp::snapshot::Snapshot;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The peers.
    Peers,
    /// The best learned routes.
    Routes,
}

impl Question {
    /// The line it is asked with.
    fn word(self) -> &'static str {
        match self {
            Question::Peers => "peers",
            Question::Routes => "routes",
        }
    }

    fn from_word(word: &str) -> Option<Question> {
        [Question::Peers, Question::Routes].into_iter().find(|question| question.word() == word)
    }
}

/// The answer to [`Question::Peers`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peers {
    #[serde(rename = "as")]
    local_as: u32,
    router_id: String,
    /// Every peer expected back after a restart has told its routes.
    converged: bool,
    originated: usize,
    /// Addresses that cannot be listened on, and why.
    listen_errors: Vec<String>,
    peers: Vec<Peer>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Peer {
    name: String,
    address: IpAddr,
    port: u16,
    #[serde(rename = "as")]
    remote_as: u32,
    /// In the words of RFC 4271.
    state: String,
    /// Seconds in it.
    since: f64,
    /// Prefixes accepted.
    received: usize,
    /// Prefixes announced.
    announced: usize,
    last_error: Option<String>,
}

/// The answer to [`Question::Routes`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Routes {
    originated: Vec<IpNetwork>,
    learned: Vec<Route>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Route {
    prefix: IpNetwork,
    next_hops: Vec<IpAddr>,
    internal: bool,
    local_pref: u32,
}

impl Peers {
    fn new(config: &SpeakerConfig, snapshot: &Snapshot) -> Peers {
        let peers = snapshot.peers.iter().map(|(id, peer)| Peer {
            name: peer.name.clone(),
            address: id.ip(),
            port: id.port(),
            // Gone from the configuration a moment ago, perhaps.
            remote_as: config.peers.get(id).map_or(0, |peer| peer.remote_as),
            state: format!("{:?}", peer.state),
            since: peer.since.as_secs_f64(),
            received: peer.received,
            announced: peer.announced,
            last_error: peer.last_error.clone(),
        });
        let listen_errors =
            snapshot.listen_errors.iter().map(|(address, reason)| format!("{address}: {reason}"));
        Peers {
            local_as: config.local_as,
            router_id: config.router_id.to_string(),
            converged: snapshot.converged,
            originated: snapshot.originated.len(),
            listen_errors: listen_errors.collect(),
            peers: peers.collect(),
        }
    }
}

impl Routes {
    fn new(snapshot: Snapshot) -> Routes {
        let learned = snapshot.routes.into_iter().map(|(prefix, route)| Route {
            prefix,
            next_hops: route.next_hops,
            internal: route.internal,
            local_pref: route.local_pref,
        });
        Routes { learned: learned.collect(), originated: snapshot.originated }
    }
}

/// A span of time in at most two units: `42s`, `3m05s`, `2h07m`, `12d04h`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}
