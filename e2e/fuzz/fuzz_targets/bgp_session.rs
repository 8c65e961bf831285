//! Any octets as the other end of a session, half open or established, beside a session that must not suffer.
//!
//! The input is a script: how the session is set up, then messages, raw octets, silence and reconnections. Never panics;
//! all that is answered decodes; the peer beside it stays up, is told nothing faulty and in the end nothing of it.
#![no_main]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use libfuzzer_sys::fuzz_target;
use tortie_bgp::config::AddPath;
use tortie_bgp::family::Family;
use tortie_bgp::filter::{Filter, Rule, Verdict};
use tortie_bgp::snapshot::SessionState;
use tortie_bgp::speaker::{ConnId, Input, Output, Speaker};
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::update::RawUpdate;
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Capability, Context, GracefulRestart, Kind, Notification, Open, Reading, frame, refresh};
use tortie_bgp::{PeerConfig, PeerId, SpeakerConfig};

const OWN_AS: u32 = 64512;
const WITNESS_AS: u32 = 64513;
const WITNESS: ConnId = ConnId::Accepted(0);

/// Prefixes the attacker may announce where there is a limit.
const LIMIT: u32 = 3;

/// The session under attack, as the first two octets of a script set it up.
#[derive(Clone, Copy)]
struct Setup(u8, u8);

impl Setup {
    fn established(self) -> bool {
        self.0 & 1 == 0
    }
    fn asn(self) -> u32 {
        if self.0 & 2 == 0 { 64600 } else { OWN_AS }
    }
    fn family(self) -> Family {
        if self.0 & 4 == 0 { Family::Ipv4 } else { Family::Ipv6 }
    }
    fn four_octet(self) -> bool {
        self.0 & 8 == 0
    }
    fn graceful(self) -> bool {
        self.0 & 16 == 0
    }
    fn reflector_client(self) -> bool {
        self.0 & 32 != 0
    }
    fn drains(self) -> bool {
        self.0 & 64 == 0
    }
    fn add_path(self) -> bool {
        self.1 & 1 != 0
    }
    fn both_families(self) -> bool {
        self.1 & 2 != 0
    }
    fn extended_messages(self) -> bool {
        self.1 & 4 != 0
    }
    fn enhanced_refresh(self) -> bool {
        self.1 & 8 != 0
    }
    fn notification(self) -> bool {
        self.1 & 16 != 0
    }
    fn limited(self) -> bool {
        self.1 & 32 != 0
    }
    fn witness_add_path(self) -> bool {
        self.1 & 64 != 0
    }
    fn extended_next_hop(self) -> bool {
        self.1 & 128 != 0
    }

    fn families(self) -> Vec<Family> {
        if self.both_families() { vec![Family::Ipv4, Family::Ipv6] } else { vec![self.family()] }
    }

    /// Whether what the peer of this host is told has path identifiers.
    fn adds_paths(self, host: u8) -> bool {
        if host == 2 { self.witness_add_path() } else { self.add_path() }
    }

    /// How what we send to the peer of this host is to be read; the same as how it is read from there.
    fn context(self, host: u8) -> Context {
        let reading = |family| {
            let extended_next_hop = self.extended_next_hop() && family == Family::Ipv4;
            let reading = Reading { add_path: self.adds_paths(host), extended_next_hop };
            self.families().contains(&family).then_some(reading)
        };
        let four_octet = self.four_octet() || host == 2;
        let internal = host != 2 && self.asn() == OWN_AS;
        Context { internal, four_octet, ipv4: reading(Family::Ipv4), ipv6: reading(Family::Ipv6) }
    }

    fn address(self, host: u8) -> IpAddr {
        match self.family() {
            Family::Ipv4 => IpAddr::from([10, 0, 0, host]),
            Family::Ipv6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)]),
        }
    }

    fn peer(self, host: u8, asn: u32) -> (PeerId, PeerConfig) {
        let mut peer = PeerConfig::new(format!("Peer_{host}"), asn);
        (peer.passive, peer.local_address) = (true, Some(self.address(1)));
        peer.reflector_client = self.reflector_client() && asn == OWN_AS;
        peer.export = Filter::new(vec![Rule::new("everything", Verdict::Accept)]);
        peer.families = self.families().into_iter().collect();
        peer.extended_next_hop = self.extended_next_hop();
        peer.add_path = AddPath { send: self.adds_paths(host), receive: self.adds_paths(host) };
        peer.extended_messages = self.extended_messages();
        peer.max_prefixes = (host == 3 && self.limited()).then_some(LIMIT);
        (SocketAddr::new(self.address(host), 179), peer)
    }

    fn handshake(self, host: u8, asn: u32) -> Vec<u8> {
        let afis = || self.families().into_iter().map(Family::afi);
        let mut capabilities: Vec<Capability> = afis().map(|afi| Capability::Multiprotocol(afi, 1)).collect();
        capabilities.push(Capability::RouteRefresh);
        if self.four_octet() || host == 2 {
            capabilities.push(Capability::FourOctetAs(asn));
        }
        if self.graceful() {
            let families = afis().map(|afi| (afi, 1, true)).collect();
            let notification = self.notification();
            let restart = GracefulRestart { restarting: false, notification, time: 120, families };
            capabilities.push(Capability::GracefulRestart(restart));
        }
        if self.adds_paths(host) {
            capabilities.push(Capability::AddPath(afis().map(|afi| (afi, 1, 3)).collect()));
        }
        if self.extended_next_hop() {
            capabilities.push(Capability::ExtendedNextHop(vec![(1, 1, 2)]));
        }
        if self.extended_messages() {
            capabilities.push(Capability::ExtendedMessage);
        }
        if self.enhanced_refresh() {
            capabilities.push(Capability::EnhancedRefresh);
        }
        let router_id = Ipv4Addr::new(1, 1, 1, host);
        let mut octets = Open { asn, hold_time: 240, router_id, capabilities }.encode();
        octets.extend(frame::keepalive());
        octets
    }
}

struct World {
    setup: Setup,
    speaker: Speaker,
    now: Instant,
    /// The connection under attack; its number counts up.
    attacker: u64,
    /// What the speaker said it learned.
    learned: BTreeSet<IpNetwork>,
    /// What the witness was told.
    told: BTreeSet<Nlri>,
}

impl World {
    fn new(setup: Setup) -> World {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let now = *START;
        let (learned, told) = (BTreeSet::new(), BTreeSet::new());
        let mut world = World { setup, speaker: Speaker::new(false, now), now, attacker: 0, learned, told };
        let peers = [setup.peer(2, WITNESS_AS), setup.peer(3, setup.asn())].into();
        let router_id = Ipv4Addr::new(1, 1, 1, 1);
        let listen = Vec::new();
        let cluster_id = setup.reflector_client().then_some(router_id);
        let config = SpeakerConfig { router_id, local_as: OWN_AS, listen, cluster_id, peers };
        world.input(Input::Configure(config));
        world.input(Input::Originate([("172.16.0.0/26"), ("fd01::/122")].map(route).into()));
        world.accept(WITNESS, 2);
        world.bytes(WITNESS, &setup.handshake(2, WITNESS_AS));
        world.connect();
        world
    }

    /// The attacker connects anew.
    fn connect(&mut self) {
        self.attacker += 1;
        let conn = ConnId::Accepted(self.attacker);
        self.accept(conn, 3);
        if self.setup.established() {
            self.bytes(conn, &self.setup.handshake(3, self.setup.asn()));
        }
    }

    fn accept(&mut self, conn: ConnId, host: u8) {
        let (local, remote) = (self.setup.address(1), SocketAddr::new(self.setup.address(host), 40000));
        self.input(Input::Accepted { conn, local, remote });
    }

    fn bytes(&mut self, conn: ConnId, data: &[u8]) {
        self.input(Input::Bytes { conn, data: data.to_vec() });
    }

    fn attack(&mut self, data: &[u8], cut: usize) {
        let (first, second) = data.split_at(cut.min(data.len()));
        self.bytes(ConnId::Accepted(self.attacker), first);
        self.bytes(ConnId::Accepted(self.attacker), second);
    }

    /// Only the witness speaks for a while.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.bytes(WITNESS, &frame::keepalive());
        self.input(Input::Tick);
    }

    fn close(&mut self) {
        let conn = ConnId::Accepted(self.attacker);
        self.input(Input::Closed { conn, reason: "reset".into() });
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle(input, self.now);
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Send { conn, data } => {
                    self.read(conn, &data);
                    if conn == WITNESS || self.setup.drains() {
                        self.speaker.handle(Input::Sent { conn, octets: data.len() }, self.now);
                    }
                }
                Output::Changes(changes) => {
                    for change in changes {
                        match change.route {
                            Some(_) => drop(self.learned.insert(change.prefix)),
                            None => {
                                assert!(self.learned.remove(&change.prefix), "only what was there can go")
                            }
                        }
                    }
                }
                Output::Close { conn } => assert_ne!(conn, WITNESS, "others do not suffer"),
                Output::Dial { .. } | Output::Converged | Output::Note(_) => {}
            }
        }
        assert!(self.speaker.next_deadline().is_some(), "sessions have timers");
    }

    /// Whole messages, each without a fault.
    fn read(&mut self, conn: ConnId, mut data: &[u8]) {
        while !data.is_empty() {
            let longest =
                if self.setup.extended_messages() { frame::EXTENDED_MESSAGE } else { frame::MAX_MESSAGE };
            let (frame, rest) =
                frame::split_within(data, longest).expect("a header").expect("a whole message");
            data = rest;
            match frame.kind {
                Kind::Open => drop(Open::decode(frame.body).expect("an OPEN")),
                Kind::Update => self.update(conn, frame.body),
                Kind::Notification => {
                    drop(Notification::decode(frame.body).expect("a NOTIFICATION").to_string())
                }
                Kind::Keepalive => {}
                Kind::Refresh => drop(refresh::decode(frame.body).expect("a family we carry")),
            }
        }
    }

    fn update(&mut self, conn: ConnId, body: &[u8]) {
        let raw = RawUpdate::decode(body).expect("an UPDATE");
        let witness = conn == WITNESS;
        if !witness && !self.setup.established() {
            return; // What was negotiated is the fuzzer's choice.
        }
        let context = self.setup.context(if witness { 2 } else { 3 });
        let update = judge(raw, context).expect("readable");
        assert_eq!(update.faults, []);
        if witness {
            update.withdrawn.iter().for_each(|nlri| assert!(self.told.remove(nlri), "told before"));
            self.told.extend(update.announced);
        }
    }

    /// The attacker goes for good; nothing stays of it.
    fn finish(mut self) {
        let snapshot = self.speaker.snapshot(self.now);
        assert!(snapshot.routes.keys().eq(&self.learned), "changes add up");
        let attacker = &snapshot.peers[&self.setup.peer(3, self.setup.asn()).0];
        let limit = LIMIT as usize * self.setup.families().len();
        assert!(!self.setup.limited() || attacker.received <= limit, "within its limit");
        self.close();
        // As long as a peer may ask to wait for it (RFC 4724 3), and somewhat longer.
        (0..22).for_each(|_| self.wait(Duration::from_secs(200)));
        assert_eq!(self.learned, BTreeSet::new());
        // Our address is the next hop of both only where IPv4 may have one of IPv6.
        let next_hop = |family: &&Family| {
            **family == self.setup.family() || **family == Family::Ipv4 && self.setup.extended_next_hop()
        };
        let own = self.setup.families().iter().filter(next_hop).count();
        assert_eq!(self.told.len(), own, "routes of our own: {:?}", self.told);
        let snapshot = self.speaker.snapshot(self.now);
        assert_eq!(snapshot.peers[&self.setup.peer(2, WITNESS_AS).0].state, SessionState::Established);
    }
}

fn route(prefix: &str) -> (IpNetwork, tortie_bgp::table::OriginatedRoute) {
    (prefix.parse().expect("a literal"), tortie_bgp::table::OriginatedRoute { local_pref: 100 })
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(u16::try_from(body.len() + frame::HEADER).unwrap_or(u16::MAX).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

fuzz_target!(|script: &[u8]| {
    let Some(([first, second], mut script)) = script.split_first_chunk::<2>() else { return };
    let mut world = World::new(Setup(*first, *second));
    while let Some(([operation, high, low], rest)) = script.split_first_chunk::<3>() {
        let argument = usize::from(u16::from_be_bytes([*high, *low]));
        let (data, after) = rest.split_at(argument.min(rest.len()));
        let cut = usize::from(operation >> 3);
        script = after;
        match operation & 7 {
            kind @ 0..=4 => world.attack(&message(kind + 1, data), cut),
            5 => world.attack(data, cut),
            6 => {
                world.wait(Duration::from_secs(u64::from(*low)));
                script = rest;
            }
            _ => {
                world.close();
                world.connect();
                script = rest;
            }
        }
    }
    world.finish();
});
