//! What a speaker is told: itself, its peers, its filters. Validated values; replaced as a whole and diffed inside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::family::Family;
use crate::filter::Filter;

/// A speaker and all its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// AS number.
    pub local_as: u32,
    /// Where to listen; empty to only dial.
    pub listen: Vec<SocketAddr>,
    /// Cluster id, when the speaker is a route reflector.
    pub cluster_id: Option<Ipv4Addr>,
    /// The peers.
    pub peers: BTreeMap<PeerId, PeerConfig>,
}

/// A configured peer is known by the address and port of its other end.
pub type PeerId = SocketAddr;

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Name for logs and status, such as `Mesh_10_0_0_1`.
    pub name: String,
    /// AS number of the other end. Internal when it equals the effective local AS.
    pub remote_as: u32,
    /// AS number to use instead of the speaker's.
    pub local_as: Option<u32>,
    /// Address to dial from, and to be the next hop; absent lets the kernel choose.
    pub local_address: Option<IpAddr>,
    /// Never dial.
    pub passive: bool,
    /// Proposed hold time.
    pub hold_time: Duration,
    /// Keepalive interval; absent means a third of the negotiated hold time.
    pub keepalive_time: Option<Duration>,
    /// Time between attempts to connect.
    pub connect_retry: Duration,
    /// Graceful-restart time to announce; zero switches it off.
    pub restart_time: Duration,
    /// Next-hop rule.
    pub next_hop: NextHopMode,
    /// The peer is a client of this reflector.
    pub reflector_client: bool,
    /// How often the own AS number may stand in a received path.
    pub allow_own_as: u32,
    /// TCP-MD5 key.
    pub password: Option<String>,
    /// GTSM: at most this many hops away.
    pub ttl_security: Option<u8>,
    /// What the session carries; empty means the family of its transport.
    pub families: BTreeSet<Family>,
    /// IPv4 routes may have IPv6 next hops (RFC 8950); counts only where IPv4 goes over IPv6.
    pub extended_next_hop: bool,
    /// Several paths per prefix (RFC 7911).
    pub add_path: AddPath,
    /// Messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Our role towards an external peer (RFC 9234).
    pub role: Option<Role>,
    /// No session with a peer that announces no role.
    pub strict_role: bool,
    /// An external session without filters carries nothing (RFC 8212).
    pub require_policy: bool,
    /// More prefixes than this end the session; it stays down until its configuration changes.
    pub max_prefixes: Option<u32>,
    /// Administratively down, with these words for the other end (RFC 9003).
    pub shutdown: Option<String>,
    /// Judges what is received; runs out into accept.
    pub import: Filter,
    /// Judges what is announced; runs out into reject.
    pub export: Filter,
}

impl PeerConfig {
    /// A peer with the timers of BIRD under Calico (bgp-behaviour 2.3) that imports everything and exports nothing.
    pub fn new(name: impl Into<String>, remote_as: u32) -> PeerConfig {
        PeerConfig {
            name: name.into(),
            remote_as,
            local_as: None,
            local_address: None,
            passive: false,
            hold_time: Duration::from_secs(240),
            keepalive_time: None,
            connect_retry: Duration::from_secs(5),
            restart_time: Duration::from_secs(120),
            next_hop: NextHopMode::Auto,
            reflector_client: false,
            allow_own_as: 0,
            password: None,
            ttl_security: None,
            families: BTreeSet::new(),
            extended_next_hop: false,
            add_path: AddPath::default(),
            extended_messages: true,
            role: None,
            strict_role: false,
            require_policy: false,
            max_prefixes: None,
            shutdown: None,
            import: Filter::default(),
            export: Filter::default(),
        }
    }
}

/// Several paths per prefix, per direction (RFC 7911).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddPath {
    /// Announce every usable path.
    pub send: bool,
    /// Take every path the peer has.
    pub receive: bool,
}

/// Our role on an external session (RFC 9234 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We sell transit to the peer.
    Provider,
    /// A route server.
    RouteServer,
    /// A client of a route server.
    RouteServerClient,
    /// We buy transit from the peer.
    Customer,
    /// Neither.
    Peer,
}

/// Next-hop rule (bgp-behaviour 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextHopMode {
    /// Own address to external peers and for originated routes; learned routes unchanged to internal peers.
    #[default]
    Auto,
    /// Always the own address.
    OwnAddress,
    /// Learned routes keep theirs.
    Keep,
}
