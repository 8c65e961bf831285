//! A node: its speaker, its kernel's connections and what its table holds of whom.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use hashbrown::DefaultHashBuilder;
use ipnetwork::{IpNetwork, Ipv4Network};
use tortie_bgp::filter::{Filter, Rule, Verdict};
use tortie_bgp::speaker::ConnId;
use tortie_bgp::table::{OriginatedRoute, TableChange};
use tortie_bgp::{PeerConfig, Speaker, SpeakerConfig};

/// Blocks a node may have.
pub(crate) const BLOCKS: u32 = 4;
const FIRST_BLOCK: u32 = 0x1400_0000;
const FIRST_ADDRESS: u32 = 0x0a00_0001;
const AS: u32 = 64512;

/// What became of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    /// Its speaker is gone, its kernel answers.
    Killed,
    /// Nobody answers.
    Off,
}

/// A node.
pub(crate) struct Node {
    pub(crate) power: Power,
    pub(crate) speaker: Option<Box<Speaker>>,
    /// Which of its blocks it originates, a bit each.
    pub(crate) blocks: u8,
    /// By owner: the blocks its speaker knows, a bit each.
    pub(crate) known: Vec<u8>,
    /// The same of its kernel, which keeps routes until a new process has converged.
    pub(crate) kernel: Vec<u8>,
    pub(crate) converged: bool,
    /// The numbers of its connections.
    pub(crate) conns: HashMap<ConnId, u32, DefaultHashBuilder>,
    pub(crate) accepted: u64,
    /// When its timer is set.
    pub(crate) timer: Option<Instant>,
}

impl Node {
    pub(crate) fn new(count: usize) -> Node {
        Node {
            power: Power::Off,
            speaker: None,
            blocks: 1,
            known: vec![0; count],
            kernel: vec![0; count],
            converged: false,
            conns: HashMap::default(),
            accepted: 0,
            timer: None,
        }
    }

    /// Whether its kernel has a route to everything of these nodes.
    pub(crate) fn has_all(&self, wanted: impl Iterator<Item = (usize, u8)>) -> bool {
        wanted.into_iter().all(|(owner, blocks)| self.kernel[owner] == blocks)
    }

    /// The number and side of a connection: who dialled is on side 0.
    pub(crate) fn link(&self, conn: ConnId) -> Option<(usize, usize)> {
        self.conns.get(&conn).map(|link| link_and_side(conn, *link))
    }

    /// Forgets a connection, if it has it.
    pub(crate) fn unlink(&mut self, conn: ConnId) -> Option<(usize, usize)> {
        self.conns.remove(&conn).map(|link| link_and_side(conn, link))
    }

    /// Forgets all connections, in the order of their names.
    pub(crate) fn unlink_all(&mut self) -> Vec<(usize, usize)> {
        let mut all: Vec<(ConnId, u32)> = self.conns.drain().collect();
        all.sort_unstable();
        all.into_iter().map(|(conn, link)| link_and_side(conn, link)).collect()
    }

    /// Takes a change; the block and its owner if it went away.
    pub(crate) fn change(&mut self, change: &TableChange) -> Option<(usize, u8)> {
        let (owner, bit) = owner(change.prefix);
        match &change.route {
            Some(route) => {
                assert_eq!(route.next_hops, [address(owner)], "the way to a block is its owner");
                self.known[owner] |= bit;
                self.kernel[owner] |= bit;
                None
            }
            None => {
                assert_ne!(self.known[owner] & bit, 0, "only what was there can go");
                self.known[owner] &= !bit;
                if !self.converged {
                    return None;
                }
                self.kernel[owner] &= !bit;
                Some((owner, bit))
            }
        }
    }
}

fn link_and_side(conn: ConnId, link: u32) -> (usize, usize) {
    (usize::try_from(link).unwrap(), usize::from(conn.is_accepted()))
}

pub(crate) fn address(node: usize) -> IpAddr {
    Ipv4Addr::from(FIRST_ADDRESS + u32::try_from(node).unwrap()).into()
}

pub(crate) fn node_of(address: IpAddr) -> usize {
    let IpAddr::V4(address) = address else { panic!("{address} is no node's") };
    usize::try_from(u32::from(address) - FIRST_ADDRESS).unwrap()
}

fn owner(prefix: IpNetwork) -> (usize, u8) {
    let IpAddr::V4(address) = prefix.ip() else { panic!("{prefix} is no block") };
    let number = (u32::from(address) - FIRST_BLOCK) / 64;
    (usize::try_from(number / BLOCKS).unwrap(), 1 << (number % BLOCKS))
}

/// What a node with these blocks originates.
pub(crate) fn originated(node: usize, blocks: u8) -> BTreeMap<IpNetwork, OriginatedRoute> {
    let first = FIRST_BLOCK + u32::try_from(node).unwrap() * BLOCKS * 64;
    let block = |number: u32| {
        let network = Ipv4Network::new(Ipv4Addr::from(first + number * 64), 26).unwrap();
        (IpNetwork::from(network), OriginatedRoute { local_pref: 2147482623 })
    };
    (0..BLOCKS).filter(|number| blocks >> number & 1 != 0).map(block).collect()
}

/// Each node with every other. Of two the one with the smaller address waits, unless both dial.
pub(crate) fn config(own: usize, count: usize, both_dial: bool) -> SpeakerConfig {
    let export = Filter::new(vec![Rule::new("everything", Verdict::Accept)]);
    let peer = |other: usize| {
        let mut peer = PeerConfig::new(format!("Mesh_{}", address(other)).replace('.', "_"), AS);
        peer.local_address = Some(address(own));
        peer.passive = !both_dial && own < other;
        peer.export = export.clone();
        (SocketAddr::new(address(other), 179), peer)
    };
    let IpAddr::V4(router_id) = address(own) else { unreachable!("nodes have IPv4 addresses") };
    let peers = (0..count).filter(|other| *other != own).map(peer).collect();
    SpeakerConfig { router_id, local_as: AS, listen: vec![], cluster_id: None, peers }
}
