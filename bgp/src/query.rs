//! What operators may ask of a speaker's routes, and the answers: plain values, readable as they are.
//!
//! A table may hold half a million routes, and keepalives must not wait for who reads them. So routes are read in pages, and
//! no page looks at more than [`MOST`] routes or some thousand prefixes. Pages follow the order in which the table keeps
//! its prefixes, not that of the prefixes: a route that stays is read once, whatever comes and goes meanwhile.

use std::fmt;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::config::PeerId;
use crate::family::Family;

mod attributes;

pub use attributes::Attributes;

/// Most routes in a page.
pub const MOST: usize = 500;

/// Peers named in an error; of more, the number.
const NAMED: usize = 20;

/// Which routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Loc-RIB: what is originated, and every accepted path with its rank.
    Table,
    /// Of Loc-RIB what is in use: originated, best, and equal to the best.
    Best,
    /// Adj-RIB-In of a peer: what it announced, before import.
    Received,
    /// Adj-RIB-Out of a peer: what it is told.
    Sent,
}

/// A question for routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Which routes.
    pub view: View,
    /// By name or address. [`View::Received`] and [`View::Sent`] need one; of Loc-RIB it selects the paths of one peer.
    pub peer: Option<String>,
    /// Where the page begins: the end of the one before.
    pub from: Cursor,
    /// Most routes in the page, itself at most [`MOST`]. All paths of a prefix are on one page, so there may be more.
    pub limit: usize,
}

impl Query {
    /// The first page of a view.
    #[must_use]
    pub fn new(view: View, peer: Option<&str>) -> Query {
        Query { view, peer: peer.map(str::to_owned), from: Cursor::default(), limit: MOST }
    }
}

/// A place in the table; written as text, it means nothing to anybody but the speaker it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) family: Family,
    pub(crate) slot: u32,
}

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { family: Family::Ipv4, slot: 0 }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.family.afi(), self.slot)
    }
}

impl FromStr for Cursor {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Cursor, QueryError> {
        let parse = || {
            let (afi, slot) = text.split_once('.')?;
            Some(Cursor { family: Family::from_code(afi.parse().ok()?, 1)?, slot: slot.parse().ok()? })
        };
        parse().ok_or_else(|| QueryError::Cursor(text.to_owned()))
    }
}

/// A part of the routes asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The routes.
    pub routes: Vec<Route>,
    /// Where the next page begins; `None` at the end. A page may be empty and not the last.
    pub next: Option<Cursor>,
}

/// A configured peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName {
    /// Its name.
    pub name: String,
    /// Its address and port.
    pub id: PeerId,
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, end(self.id))
    }
}

/// An address, with its port when that is not BGP's.
pub(crate) fn end(id: PeerId) -> String {
    if id.port() == 179 { id.ip().to_string() } else { id.to_string() }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its prefix.
    pub prefix: IpNetwork,
    /// Who announced it; `None` for this speaker itself.
    pub from: Option<PeerName>,
    /// Its identifier where several paths of a prefix are announced (RFC 7911): the peer's, or ours for what is sent.
    pub path_id: Option<u32>,
    /// As received for [`View::Received`], as accepted for Loc-RIB, as announced for [`View::Sent`].
    pub attributes: Attributes,
    /// Kept although its peer is gone, or not confirmed yet by it (RFC 4724, RFC 7313).
    pub stale: bool,
    /// What became of it.
    pub standing: Standing,
}

/// What became of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This speaker originates it. That is announced, whatever is learned.
    Originated,
    /// The best of the learned ones.
    Best,
    /// Shares the load with the best; what told the two apart.
    Multipath(String),
    /// Another one is better; by what.
    NotBest(String),
    /// Import refused it; why.
    Rejected(String),
    /// Accepted, but leads nowhere; why.
    Unusable(String),
    /// Announced to the peer.
    Announced,
    /// To be announced as soon as the peer takes more.
    Pending,
    /// Not announced for its size; the words.
    Withheld(String),
}

/// Everything about one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What was asked for, without host bits.
    pub asked: IpNetwork,
    /// The longest prefix in the table that holds it; it may be the same. `None` when there is none.
    pub prefix: Option<IpNetwork>,
    /// Attributes, when this speaker originates it.
    pub originated: Option<Attributes>,
    /// Every path learned.
    pub paths: Vec<Path>,
    /// What each peer is told; or the one asked for.
    pub peers: Vec<Told>,
    /// Peers left out of `peers`, because there would be too many.
    pub omitted: usize,
}

/// A learned path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// As received, with what became of it.
    pub received: Route,
    /// What import decided: the rule that accepted it, or why it is refused.
    pub import: String,
    /// The attributes after import, where that changed them.
    pub accepted: Option<Attributes>,
}

/// What a peer is told of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The peer.
    pub peer: PeerName,
    /// One for each route that comes into question: of most sessions the best, of add-path sessions all.
    pub routes: Vec<Announcement>,
    /// Why it is told nothing, when that does not depend on a route.
    pub nothing: Option<String>,
}

/// What becomes of a route on its way to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Who announced it to us; `None` for this speaker itself.
    pub from: Option<PeerName>,
    /// Our identifier, on add-path sessions.
    pub path_id: Option<u32>,
    /// What the peer gets, or why it does not.
    pub outcome: Result<Sent, String>,
}

/// An announced route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its attributes.
    pub attributes: Attributes,
    /// The reason of the export rule that accepted it.
    pub reason: String,
    /// The peer has yet to take it.
    pub pending: bool,
}

/// A question that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No peer has that name or address.
    #[error("no peer '{asked}'; {}", known(.peers))]
    UnknownPeer {
        /// As asked.
        asked: String,
        /// Those there are.
        peers: Vec<PeerName>,
    },
    /// Several have.
    #[error("'{asked}' is the address of several peers; {}", known(.peers))]
    AmbiguousPeer {
        /// As asked.
        asked: String,
        /// Those it could be.
        peers: Vec<PeerName>,
    },
    /// The view is of one peer.
    #[error("routes received from a peer or sent to it: which peer? {}", known(.0))]
    NoPeer(Vec<PeerName>),
    /// Not from a page of this speaker.
    #[error("'{0}' is no place in the table")]
    Cursor(String),
    /// Nobody answers any more.
    #[error("the BGP speaker has stopped")]
    Stopped,
}

fn known(peers: &[PeerName]) -> String {
    if peers.is_empty() {
        return "there are no peers".to_owned();
    }
    let mut names: Vec<String> = peers.iter().take(NAMED).map(ToString::to_string).collect();
    if peers.len() > NAMED {
        names.push(format!("{} more", peers.len() - NAMED));
    }
    format!("peers are {}", names.join(", "))
}
