//! A speaker: peers, routes and filters behind one pure interface.
//!
//! Call [`Speaker::handle`] with what happened, then [`Speaker::poll_output`] until it has no more, then ask
//! [`Speaker::next_deadline`] when to come back with [`Input::Tick`]. Inputs handled before a poll share one decision
//! and one round of UPDATEs. No socket, task or clock is known here.

mod catch_up;
mod configure;
mod explain;
mod kept;
mod peer;
mod query;
mod routes;
mod sessions;
mod startup;
mod transmit;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use hashbrown::DefaultHashBuilder;
use ipnetwork::IpNetwork;

use crate::config::{PeerId, SpeakerConfig};
use crate::rib::PeerKey;
use crate::table::{OriginatedRoute, TableChange};

use peer::{Admission, Conn, PeerEntry};
use routes::Routes;
use startup::Startup;

/// A TCP connection. Those we dial are named by the speaker, those we accept by the caller; no name is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    /// From us to the peer.
    Dialled(u64),
    /// From the peer to us.
    Accepted(u64),
}

impl ConnId {
    /// The peer dialled.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        matches!(self, ConnId::Accepted(_))
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The whole configuration; compared with the present one.
    Configure(SpeakerConfig),
    /// All routes to originate; compared with the present ones. No End-of-RIB is sent before the first of these, even
    /// an empty one: a restarted speaker that said so earlier would make peers drop its routes.
    Originate(BTreeMap<IpNetwork, OriginatedRoute>),
    /// An [`Output::Dial`] succeeded.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Our end.
        local: IpAddr,
    },
    /// An [`Output::Dial`] failed.
    DialFailed {
        /// The connection.
        conn: ConnId,
        /// Why, in words.
        reason: String,
    },
    /// Someone connected.
    Accepted {
        /// A new name.
        conn: ConnId,
        /// Our end.
        local: IpAddr,
        /// The other end.
        remote: SocketAddr,
    },
    /// Octets were read.
    Bytes {
        /// The connection.
        conn: ConnId,
        /// Any number of octets.
        data: Vec<u8>,
    },
    /// Octets of [`Output::Send`] went to the kernel.
    Sent {
        /// The connection.
        conn: ConnId,
        /// How many.
        octets: usize,
    },
    /// The connection ended from outside.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why, in words.
        reason: String,
    },
    /// Something outside keeps a peer's session from coming up.
    PeerFault {
        /// The peer.
        peer: PeerId,
        /// What, in words.
        reason: String,
    },
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Connect and answer [`Input::Connected`] or [`Input::DialFailed`].
    Dial {
        /// The name of the connection to be.
        conn: ConnId,
        /// Where to; its configuration holds password and hop limit.
        peer: PeerId,
        /// Where from.
        from: Option<IpAddr>,
    },
    /// Send; octets of one connection stay in order.
    Send {
        /// The connection.
        conn: ConnId,
        /// Whole messages, shared between connections where they are the same.
        data: Bytes,
    },
    /// Close after everything is sent, or stop dialling. The name is not heard of again.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Best learned routes changed.
    Changes(Vec<TableChange>),
    /// Every peer expected back has told its routes, or the time for that is over. Said once, after those changes.
    Converged,
    /// For the log.
    Note(Note),
}

/// Something an operator would mention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A session is up.
    Up {
        /// The peer's name.
        name: String,
        /// The peer.
        peer: PeerId,
    },
    /// A session is gone.
    Down {
        /// The peer's name.
        name: String,
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: String,
    },
    /// An UPDATE was faulty, but the session goes on (RFC 7606).
    Fault {
        /// The peer's name.
        name: String,
        /// The peer.
        peer: PeerId,
        /// What was wrong and what came of it.
        fault: String,
    },
    /// Someone connected who is no peer.
    Stranger {
        /// Who.
        remote: SocketAddr,
    },
}

/// A speaker.
#[derive(Debug)]
pub struct Speaker {
    /// Without its peers, which live in `peers`.
    config: Option<SpeakerConfig>,
    /// Boxed, for the map leaves almost half of its places empty, and a look-up goes through fewer octets.
    peers: BTreeMap<PeerKey, Box<PeerEntry>>,
    keys: BTreeMap<PeerId, PeerKey>,
    next_key: u32,
    /// Asked several times a message, never walked.
    conns: HashMap<ConnId, Conn, DefaultHashBuilder>,
    routes: Routes,
    startup: Startup,
    /// Connections of addresses nobody named.
    strangers: Admission,
    /// When to look at a peer; may be early, never late.
    timers: BTreeSet<(Instant, PeerKey)>,
    /// Sessions that are up and wait for their first routes.
    joining: BTreeSet<PeerKey>,
    /// Peers that may get what they missed or asked for.
    drained: BTreeSet<PeerKey>,
    /// Peers that End-of-RIB is due to.
    ending: BTreeSet<PeerKey>,
    outputs: VecDeque<Output>,
    now: Instant,
}

impl Speaker {
    /// A speaker that knows nobody yet. `restarted` says that this process follows one whose routes peers may still
    /// keep (RFC 4724).
    #[must_use]
    pub fn new(restarted: bool, now: Instant) -> Speaker {
        Speaker::with(Routes::new(!restarted, false), restarted, now)
    }

    /// One that keeps its learned routes to itself: [`Output::Changes`] never comes, and costs nothing.
    #[must_use]
    pub fn silent(restarted: bool, now: Instant) -> Speaker {
        Speaker::with(Routes::new(!restarted, true), restarted, now)
    }

    fn with(routes: Routes, restarted: bool, now: Instant) -> Speaker {
        Speaker {
            config: None,
            peers: BTreeMap::new(),
            keys: BTreeMap::new(),
            next_key: 0,
            conns: HashMap::default(),
            routes,
            startup: Startup::new(restarted),
            strangers: Admission::new(now),
            timers: BTreeSet::new(),
            joining: BTreeSet::new(),
            drained: BTreeSet::new(),
            ending: BTreeSet::new(),
            outputs: VecDeque::new(),
            now,
        }
    }

    /// Takes note of what happened at `now`, which never goes back.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.now = now;
        match input {
            Input::Configure(config) => self.configure(config),
            Input::Originate(routes) => {
                self.routes.originate(&routes);
                self.startup.originated();
            }
            Input::Connected { conn, local } => {
                self.with_conn(conn, |fsm, now, out| fsm.connected(conn, local, now, out))
            }
            Input::DialFailed { conn, reason } => {
                self.with_conn(conn, |fsm, now, _| fsm.dial_failed(conn, &reason, now));
                self.conns.remove(&conn);
            }
            Input::Accepted { conn, local, remote } => self.accepted(conn, local, remote),
            Input::Bytes { conn, data } => self.bytes(conn, &data),
            Input::Sent { conn, octets } => self.sent(conn, octets),
            Input::Closed { conn, reason } => {
                self.with_conn(conn, |fsm, now, out| fsm.closed(conn, &reason, now, out));
                self.conns.remove(&conn);
            }
            Input::PeerFault { peer, reason } => {
                if let Some(entry) = self.keys.get(&peer).and_then(|key| self.peers.get_mut(key)) {
                    entry.fsm.set_error(reason);
                }
            }
            Input::Tick => self.tick(),
        }
    }

    /// Takes octets of a connection, as [`Input::Bytes`] does.
    pub fn receive(&mut self, conn: ConnId, data: &[u8], now: Instant) {
        self.now = now;
        self.bytes(conn, data);
    }

    /// Routes there are of the peer at the other end of a connection.
    #[must_use]
    pub fn received(&self, conn: ConnId) -> usize {
        self.conns.get(&conn).map_or(0, |state| self.routes.received(state.peer).0)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.settle();
        }
        self.outputs.pop_front()
    }

    /// When to come back at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at).into_iter().chain(self.startup.deadline()).min()
    }
}
