//! What an operator may ask a running daemon: a line on its socket, answered with JSON.

pub(crate) mod client;
mod rib;
pub(crate) mod server;
pub(crate) mod socket;
mod table;

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tortie_bgp::SpeakerConfig;
use tortie_bgp::query::View;
use tortie_bgp::snapshot::Snapshot;

/// A question, and the line it is asked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The peers: `peers`.
    Peers,
    /// What is originated, and the best learned routes: `routes`.
    Best,
    /// Routes received from a peer, sent to it, or accepted from it: `received`, `sent` or `accepted` and the peer.
    Paths(Of, String),
    /// Why a prefix is what it is: `explain`, the prefix, and perhaps a peer.
    Why(IpNetwork, Option<String>),
}

/// Which routes of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// As it announced them.
    Received,
    /// Those it is told.
    Sent,
    /// As import accepted them.
    Accepted,
}

impl Of {
    const ALL: [Of; 3] = [Of::Received, Of::Sent, Of::Accepted];

    fn word(self) -> &'static str {
        match self {
            Of::Received => "received",
            Of::Sent => "sent",
            Of::Accepted => "accepted",
        }
    }

    fn view(self) -> View {
        match self {
            Of::Received => View::Received,
            Of::Sent => View::Sent,
            Of::Accepted => View::Table,
        }
    }
}

impl Question {
    fn line(&self) -> String {
        match self {
            Question::Peers => "peers".to_owned(),
            Question::Best => "routes".to_owned(),
            Question::Paths(of, peer) => format!("{} {peer}", of.word()),
            Question::Why(prefix, peer) => {
                format!("explain {prefix} {}", peer.as_deref().unwrap_or_default())
            }
        }
    }

    fn from_line(line: &str) -> Option<Question> {
        // A name may hold blanks.
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match word {
            "peers" => Some(Question::Peers),
            "routes" => Some(Question::Best),
            "explain" => {
                let (prefix, peer) = rest.split_once(' ').unwrap_or((rest, ""));
                Some(Question::Why(prefix.parse().ok()?, (!peer.is_empty()).then(|| peer.to_owned())))
            }
            _ => {
                let of = Of::ALL.into_iter().find(|of| of.word() == word)?;
                Some(Question::Paths(of, rest.to_owned()))
            }
        }
    }
}

/// The answer to a question that has none.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    error: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let questions = [
            Question::Peers,
            Question::Best,
            Question::Paths(Of::Received, "a peer".to_owned()),
            Question::Paths(Of::Sent, "10.0.0.2".to_owned()),
            Question::Paths(Of::Accepted, "fd00::2".to_owned()),
            Question::Why("10.0.0.0/24".parse().unwrap(), None),
            Question::Why("fd00::/64".parse().unwrap(), Some("a peer".to_owned())),
        ];
        for question in questions {
            assert_eq!(Question::from_line(&format!("{}\n", question.line())), Some(question));
        }
        assert_eq!(Question::from_line("explain all"), None);
        assert_eq!(Question::from_line("anything else"), None);
    }
}
