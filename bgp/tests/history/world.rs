//! One speaker and peers made of messages, each with what it announced and what it was told in real octets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::speaker::{ConnId, Input, Output};
use tortie_bgp::table::LearnedRoute;
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::refresh::{self, Subtype};
use tortie_bgp::wire::update::{Encoded, Layout, RawUpdate, end_of_rib};
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Capability, Context, GracefulRestart, Kind, Open, Reading, frame};
use tortie_bgp::{Speaker, SpeakerConfig};

use crate::look::Look;
use crate::oracle::{Neighbour, Oracle};
use crate::route::Route;
use crate::rules::{OUR_AS, PEERS, Rules, add_path, address, asn, id, prefix, router_id};

const SOME_TIME: Duration = Duration::from_secs(400);

/// A peer.
#[derive(Default)]
pub(crate) struct Remote {
    pub(crate) conn: Option<ConnId>,
    /// What it announced in this session.
    pub(crate) announced: BTreeMap<(u32, u32), Look>,
    /// What it was told in this session: the attribute section of the last UPDATE of each path.
    pub(crate) told: BTreeMap<Nlri, Rc<[u8]>>,
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

fn layout(peer: usize) -> Layout {
    Layout { add_path: add_path(peer), ..Layout::plain(Family::Ipv4) }
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
        self.input(Input::Accepted { conn, local: address(0).into(), remote });
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
        let router_id = router_id(peer);
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
            let route = look.route(peer, chunk[0]);
            let (head, tail) = route.encode();
            let encoded = Encoded { head: &head, tail: &tail, next_hop: route.next_hop.into() };
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
        let raw = RawUpdate::decode(body).unwrap();
        let update = judge(raw, context).unwrap();
        assert_eq!(update.faults, []);
        let state = &mut self.peers[peer];
        state.ends += usize::from(update.end_of_rib.is_some());
        update.withdrawn.iter().for_each(|nlri| drop(state.told.remove(nlri)));
        let section: Rc<[u8]> = raw.attributes.into();
        state.told.extend(update.announced.into_iter().map(|nlri| (nlri, section.clone())));
    }

    /// What a peer knows: its paths by prefix. Identifiers do not count, they depend on the order of arrival.
    pub(crate) fn knows(&self, peer: usize) -> BTreeMap<Prefix, Vec<Rc<[u8]>>> {
        let mut all: BTreeMap<Prefix, Vec<Rc<[u8]>>> = BTreeMap::new();
        for (nlri, section) in &self.peers[peer].told {
            all.entry(nlri.prefix).or_default().push(section.clone());
        }
        all.values_mut().for_each(|paths| paths.sort());
        all
    }

    /// The same, read.
    pub(crate) fn sees(&self, peer: usize) -> BTreeMap<Prefix, Vec<Route>> {
        let read = |paths: Vec<Rc<[u8]>>| {
            let mut routes: Vec<Route> = paths.iter().map(|section| Route::decode(section)).collect();
            routes.sort();
            routes
        };
        self.knows(peer).into_iter().map(|(prefix, paths)| (prefix, read(paths))).collect()
    }

    /// Peers that have a session.
    pub(crate) fn live(&self) -> Vec<usize> {
        (0..PEERS).filter(|peer| self.peers[*peer].conn.is_some()).collect()
    }

    /// What an oracle is told: the configuration, and of each live peer what it announced last.
    pub(crate) fn oracle<'a>(&self, config: &'a SpeakerConfig) -> Oracle<'a> {
        let announced = |peer: usize| {
            let all = self.peers[peer].announced.iter();
            all.map(move |((number, path), look)| ((prefix(*number), *path), look.route(peer, *number)))
        };
        // Without `unique` one number stands for all of an UPDATE, and makes no difference.
        let neighbour = |peer: usize| Neighbour {
            id: id(peer),
            router_id: router_id(peer),
            add_path: add_path(peer),
            announced: announced(peer).collect(),
        };
        let neighbours = self.live().into_iter().map(neighbour).collect();
        Oracle { config, address: address(0), originated: self.rules.originated(), neighbours }
    }
}
