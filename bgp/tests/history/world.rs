//! One speaker and peers made of messages, each with what it announced and what it was told in real octets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnetwork::{IpNetwork, Ipv4Network};
use tortie_bgp::config::AddPath;
use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::filter::{Change, Filter, PrefixMatch, Rule, Verdict};
use tortie_bgp::speaker::{ConnId, Input, Output};
use tortie_bgp::table::{LearnedRoute, OriginatedRoute};
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::refresh::{self, Subtype};
use tortie_bgp::wire::update::{Encoded, Layout, RawUpdate, end_of_rib};
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Capability, Context, GracefulRestart, Kind, Open, PathAttributes, Reading, frame};
use tortie_bgp::{PeerConfig, Speaker, SpeakerConfig};

pub(crate) const OUR_AS: u32 = 64512;
/// Internal ones, one of them with add-path, then external ones, likewise.
pub(crate) const PEERS: usize = 5;
const SOME_TIME: Duration = Duration::from_secs(400);

/// What a path looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) variant: u8,
    /// Each prefix has attributes of its own.
    pub(crate) unique: bool,
}

/// Settings that change while sessions live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// By peer: which export and import filter, and whether it is a client.
    pub(crate) export: [u8; PEERS],
    pub(crate) import: [u8; PEERS],
    pub(crate) client: [bool; PEERS],
    pub(crate) cluster: bool,
    pub(crate) originated: u8,
}

/// A peer.
#[derive(Default)]
pub(crate) struct Remote {
    pub(crate) conn: Option<ConnId>,
    /// What it announced in this session.
    pub(crate) announced: BTreeMap<(u32, u32), Look>,
    /// What it was told in this session: next hop and attributes by path.
    pub(crate) told: BTreeMap<Nlri, (IpAddr, Vec<u8>)>,
    pub(crate) ends: usize,
    /// Its kernel takes nothing.
    pub(crate) stuck: bool,
    /// Octets that wait for it.
    waiting: usize,
    /// Most that ever waited.
    pub(crate) most: usize,
}

pub(crate) struct World {
    pub(crate) speaker: Speaker,
    pub(crate) now: Instant,
    pub(crate) rules: Rules,
    pub(crate) peers: [Remote; PEERS],
    pub(crate) table: BTreeMap<IpNetwork, LearnedRoute>,
    connections: u64,
}

pub(crate) fn asn(peer: usize) -> u32 {
    if peer < 2 { OUR_AS } else { 65000 + u32::try_from(peer).unwrap() }
}

pub(crate) fn add_path(peer: usize) -> bool {
    peer == 1 || peer == 3
}

fn address(host: usize) -> IpAddr {
    Ipv4Addr::from(0x0a00_0001 + u32::try_from(host).unwrap()).into()
}

pub(crate) fn id(peer: usize) -> SocketAddr {
    SocketAddr::new(address(peer + 1), 179)
}

fn prefix(number: u32) -> Prefix {
    Prefix::new(Ipv4Addr::from(0x1400_0000 + number * 64).into(), 26).unwrap()
}

fn layout(peer: usize) -> Layout {
    Layout { add_path: add_path(peer), ..Layout::plain(Family::Ipv4) }
}

/// Filters by number; 0 accepts everything.
fn filter(number: u8) -> Filter {
    let mut all = Vec::new();
    // Of every 128 blocks some do not pass, and some pass changed.
    let within = |rule: &mut Rule, third: u32| {
        let network = Ipv4Network::new(Ipv4Addr::from(0x1400_0000 + third * 0x0800), 21).unwrap();
        rule.prefix = Some(PrefixMatch::In(network.into()));
    };
    if number & 1 != 0 {
        let mut rule = Rule::new("refused", Verdict::Reject);
        within(&mut rule, 0);
        all.push(rule);
    }
    if number & 2 != 0 {
        let mut rule = Rule::new("changed", Verdict::Continue);
        rule.set = vec![Change::Med(77)];
        all.push(rule);
    }
    if number & 4 != 0 {
        let mut rule = Rule::new("refused, too", Verdict::Reject);
        within(&mut rule, 1);
        all.push(rule);
    }
    if number != 7 {
        all.push(Rule::new("everything", Verdict::Accept));
    }
    Filter::new(all)
}

impl Rules {
    pub(crate) fn new() -> Rules {
        let (export, import, client) = ([0; PEERS], [0; PEERS], [false; PEERS]);
        Rules { export, import, client, cluster: false, originated: 0 }
    }

    fn config(&self) -> SpeakerConfig {
        let router_id = Ipv4Addr::new(1, 1, 1, 1);
        let peer = |peer: usize| {
            let mut config = PeerConfig::new(format!("Peer_{peer}"), asn(peer));
            (config.passive, config.hold_time) = (true, Duration::ZERO);
            config.local_address = Some(address(0));
            config.add_path = AddPath { send: add_path(peer), receive: add_path(peer) };
            config.extended_messages = false;
            config.export = filter(self.export[peer]);
            config.import = filter(self.import[peer]);
            config.reflector_client = self.client[peer] && asn(peer) == OUR_AS;
            (id(peer), config)
        };
        let peers = (0..PEERS).map(peer).collect();
        let cluster_id = self.cluster.then_some(router_id);
        SpeakerConfig { router_id, local_as: OUR_AS, listen: vec![], cluster_id, peers }
    }

    fn originated(&self) -> BTreeMap<IpNetwork, OriginatedRoute> {
        let wanted = |number: &u32| self.originated >> (number % 8) & 1 != 0;
        let route = |number| (prefix(number).network(), OriginatedRoute { local_pref: 100 });
        (0..16).filter(wanted).map(route).collect()
    }
}

impl World {
    pub(crate) fn new(rules: Rules) -> World {
        let now = Instant::now();
        let mut world = World {
            speaker: Speaker::new(false, now),
            now,
            rules,
            peers: Default::default(),
            table: BTreeMap::new(),
            connections: 0,
        };
        world.configure();
        world
    }

    /// Tells the speaker the present rules.
    pub(crate) fn configure(&mut self) {
        self.input(Input::Configure(self.rules.config()));
        self.input(Input::Originate(self.rules.originated()));
    }

    pub(crate) fn up(&mut self, peer: usize) {
        if self.peers[peer].conn.is_some() {
            return;
        }
        self.connections += 1;
        let conn = ConnId::Accepted(self.connections);
        let stuck = self.peers[peer].stuck;
        self.peers[peer] = Remote { conn: Some(conn), stuck, ..Remote::default() };
        let remote = SocketAddr::new(id(peer).ip(), 40000);
        self.input(Input::Accepted { conn, local: address(0), remote });
        let restart = GracefulRestart {
            restarting: false,
            notification: true,
            time: 120,
            families: vec![(1, 1, true)],
        };
        let mut capabilities = vec![
            Capability::Multiprotocol(1, 1),
            Capability::RouteRefresh,
            Capability::EnhancedRefresh,
            Capability::FourOctetAs(asn(peer)),
            Capability::GracefulRestart(restart),
        ];
        if add_path(peer) {
            capabilities.push(Capability::AddPath(vec![(1, 1, 3)]));
        }
        let router_id = Ipv4Addr::new(2, 2, 2, u8::try_from(peer).unwrap() + 1);
        self.bytes(peer, Open { asn: asn(peer), hold_time: 0, router_id, capabilities }.encode());
        self.bytes(peer, frame::keepalive());
    }

    pub(crate) fn down(&mut self, peer: usize) {
        if let Some(conn) = self.peers[peer].conn.take() {
            self.input(Input::Closed { conn, reason: "lost".into() });
            self.forget(peer);
        }
    }

    fn forget(&mut self, peer: usize) {
        let stuck = self.peers[peer].stuck;
        let most = self.peers[peer].most;
        self.peers[peer] = Remote { stuck, most, ..Remote::default() };
    }

    /// Announces blocks, all with this look.
    pub(crate) fn announce(
        &mut self,
        peer: usize,
        numbers: impl Iterator<Item = u32>,
        path: u32,
        look: Look,
    ) {
        if self.peers[peer].conn.is_none() {
            return;
        }
        let path = if add_path(peer) { path } else { 0 };
        let mut out = Vec::new();
        let all: Vec<u32> = numbers.collect();
        for chunk in all.chunks(if look.unique { 1 } else { usize::MAX }) {
            let attributes = attributes(peer, look, chunk[0]);
            let (mut head, mut tail) = (Vec::new(), Vec::new());
            attributes.encode_head(&mut head);
            attributes.encode_tail(&mut tail);
            let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
            let nlri: Vec<Nlri> =
                chunk.iter().map(|number| Nlri { prefix: prefix(*number), path_id: path }).collect();
            assert!(layout(peer).announce(&mut out, encoded, nlri.iter()));
        }
        self.peers[peer].announced.extend(all.into_iter().map(|number| ((number, path), look)));
        self.bytes(peer, out);
    }

    pub(crate) fn withdraw(&mut self, peer: usize, numbers: impl Iterator<Item = u32>, path: u32) {
        if self.peers[peer].conn.is_none() {
            return;
        }
        let path = if add_path(peer) { path } else { 0 };
        let all: Vec<u32> = numbers.collect();
        let nlri: Vec<Nlri> =
            all.iter().map(|number| Nlri { prefix: prefix(*number), path_id: path }).collect();
        let mut out = Vec::new();
        layout(peer).withdraw(&mut out, nlri.iter());
        self.peers[peer]
            .announced
            .retain(|(number, id), _| *id != path || all.binary_search(number).is_err());
        self.bytes(peer, out);
    }

    /// Asks for everything once more.
    pub(crate) fn refresh(&mut self, peer: usize) {
        self.bytes(peer, refresh::encode(Family::Ipv4, Subtype::Request));
    }

    pub(crate) fn end_of_rib(&mut self, peer: usize) {
        self.bytes(peer, end_of_rib(Family::Ipv4));
    }

    /// The kernel of a peer takes up to so many octets.
    pub(crate) fn drain(&mut self, peer: usize, octets: usize) {
        let octets = octets.min(self.peers[peer].waiting);
        let Some(conn) = self.peers[peer].conn.filter(|_| octets > 0) else { return };
        self.peers[peer].waiting -= octets;
        self.input(Input::Sent { conn, octets });
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.now += time;
        self.input(Input::Tick);
    }

    /// Everybody takes what waits and says that it has told all; time enough for everything stale to go.
    pub(crate) fn settle(&mut self) {
        for peer in 0..PEERS {
            self.peers[peer].stuck = false;
            while self.peers[peer].waiting > 0 {
                self.drain(peer, usize::MAX);
            }
            self.end_of_rib(peer);
        }
        self.run(SOME_TIME);
        self.run(SOME_TIME);
    }

    fn bytes(&mut self, peer: usize, data: Vec<u8>) {
        if let Some(conn) = self.peers[peer].conn {
            self.input(Input::Bytes { conn, data });
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.speaker.handle(input, self.now);
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Send { conn, data } => self.send(conn, &data),
                Output::Close { conn } => {
                    if let Some(peer) = self.peer_of(conn) {
                        self.forget(peer);
                    }
                }
                Output::Changes(changes) => {
                    for change in changes {
                        match change.route {
                            Some(route) => drop(self.table.insert(change.prefix, route)),
                            None => drop(self.table.remove(&change.prefix).expect("it was there")),
                        }
                    }
                }
                Output::Dial { .. } | Output::Converged | Output::Note(_) => {}
            }
        }
    }

    fn peer_of(&self, conn: ConnId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.conn == Some(conn))
    }

    fn send(&mut self, conn: ConnId, data: &[u8]) {
        let Some(peer) = self.peer_of(conn) else { return };
        let mut rest = data;
        while let Some((message, more)) = frame::split(rest).expect("a header") {
            rest = more;
            if message.kind == Kind::Update {
                self.told(peer, message.body);
            }
        }
        assert!(rest.is_empty(), "whole messages");
        let state = &mut self.peers[peer];
        if state.stuck {
            state.waiting += data.len();
            state.most = state.most.max(state.waiting);
        } else {
            self.speaker.handle(Input::Sent { conn, octets: data.len() }, self.now);
        }
    }

    fn told(&mut self, peer: usize, body: &[u8]) {
        let reading = Reading { add_path: add_path(peer), extended_next_hop: false };
        let internal = asn(peer) == OUR_AS;
        let context = Context { ipv4: Some(reading), ..Context::plain(internal, true, &[]) };
        let update = judge(RawUpdate::decode(body).unwrap(), context).unwrap();
        assert_eq!(update.faults, []);
        let state = &mut self.peers[peer];
        state.ends += usize::from(update.end_of_rib.is_some());
        update.withdrawn.iter().for_each(|nlri| drop(state.told.remove(nlri)));
        if let Some(attributes) = update.attributes {
            let mut octets = Vec::new();
            attributes.encode_head(&mut octets);
            attributes.encode_tail(&mut octets);
            for nlri in update.announced {
                state.told.insert(nlri, (attributes.next_hop, octets.clone()));
            }
        }
    }

    /// What a peer knows: its paths by prefix. Identifiers do not count, they depend on the order of arrival.
    pub(crate) fn knows(&self, peer: usize) -> BTreeMap<Prefix, BTreeSet<(IpAddr, Vec<u8>)>> {
        let mut all: BTreeMap<Prefix, BTreeSet<(IpAddr, Vec<u8>)>> = BTreeMap::new();
        for (nlri, path) in &self.peers[peer].told {
            all.entry(nlri.prefix).or_default().insert(path.clone());
        }
        all
    }
}

fn attributes(peer: usize, look: Look, number: u32) -> PathAttributes<'static> {
    let Look { variant, unique } = look;
    let internal = asn(peer) == OUR_AS;
    // Now and then another peer is the next hop.
    let next_hop = if variant % 5 == 4 { id((peer + 1) % PEERS).ip() } else { id(peer).ip() };
    let mut path = Vec::new();
    if !internal || variant % 2 == 0 {
        let first = if internal { 65100 } else { asn(peer) };
        let numbers =
            if variant % 4 == 0 { vec![first] } else { vec![first, 64700 + u32::from(variant % 3)] };
        path.extend([2, u8::try_from(numbers.len()).unwrap()]);
        numbers.iter().for_each(|number| path.extend(number.to_be_bytes()));
    }
    let mut communities = vec![0xfd, 0xe8, 0, variant];
    if unique {
        communities.extend(number.to_be_bytes());
    }
    PathAttributes {
        as_path: path.into(),
        med: (variant % 3 > 0).then_some(u32::from(variant) * 10),
        local_pref: internal.then_some(100 + u32::from(variant % 2)),
        communities: communities.into(),
        ..PathAttributes::originated(next_hop)
    }
}
