//! Speakers joined by simulated TCP on a virtual clock. Every octet is a real one; only the kernel is made up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tortie_bgp::filter::{Filter, Rule, Verdict};
use tortie_bgp::snapshot::{SessionState, Snapshot};
use tortie_bgp::speaker::{ConnId, Input, Note, Output, Speaker};
use tortie_bgp::table::{LearnedRoute, OriginatedRoute};
use tortie_bgp::{PeerConfig, SpeakerConfig};

pub(crate) const LATENCY: Duration = Duration::from_millis(2);

/// A speaker with what it said about its table.
pub(crate) struct Node {
    pub(crate) config: SpeakerConfig,
    pub(crate) originated: BTreeMap<IpNetwork, OriginatedRoute>,
    pub(crate) speaker: Option<Speaker>,
    pub(crate) table: BTreeMap<IpNetwork, LearnedRoute>,
    /// Prefixes that vanished from the table since the last look.
    pub(crate) lost: Vec<IpNetwork>,
    pub(crate) converged: bool,
    pub(crate) notes: Vec<Note>,
    /// Its kernel takes nothing more from it.
    pub(crate) stuck: bool,
    stuck_octets: BTreeMap<ConnId, usize>,
    accepted: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct End {
    node: usize,
    conn: ConnId,
}

enum Event {
    Dial { from: End, to: SocketAddr, source: IpAddr },
    Bytes { from: End, data: Vec<u8> },
    Closed { from: End },
}

/// All nodes and the wires between them.
pub(crate) struct Network {
    pub(crate) nodes: Vec<Node>,
    start: Instant,
    pub(crate) now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    /// Both ends of each connection.
    peers: BTreeMap<End, End>,
    /// Wires that are cut, by both orders of their ends.
    cut: BTreeSet<(usize, usize)>,
    /// What TCP would send again when the wire is whole.
    waiting: VecDeque<Event>,
}

pub(crate) fn accept_all() -> Filter {
    Filter::new(vec![rule(Verdict::Accept)])
}

pub(crate) fn rule(verdict: Verdict) -> Rule {
    Rule::new("test", verdict)
}

pub(crate) fn address(node: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(node).unwrap() + 1])
}

pub(crate) fn peer_id(node: usize) -> SocketAddr {
    SocketAddr::new(address(node), 179)
}

pub(crate) fn routes(prefixes: &[&str]) -> BTreeMap<IpNetwork, OriginatedRoute> {
    prefixes
        .iter()
        .map(|prefix| (prefix.parse().unwrap(), OriginatedRoute { local_pref: 2147482623 }))
        .collect()
}

/// A speaker without peers.
pub(crate) fn config(node: usize, local_as: u32) -> SpeakerConfig {
    let id = Ipv4Addr::new(1, 1, 1, u8::try_from(node).unwrap() + 1);
    SpeakerConfig { router_id: id, local_as, listen: vec![], cluster_id: None, peers: BTreeMap::new() }
}

/// A peer that gets everything.
pub(crate) fn peer(own: usize, other: usize, remote_as: u32) -> PeerConfig {
    let mut peer = PeerConfig::new(format!("Mesh_{}", address(other)).replace('.', "_"), remote_as);
    peer.local_address = Some(address(own));
    peer.export = accept_all();
    peer
}

impl Network {
    pub(crate) fn new(configs: Vec<SpeakerConfig>) -> Network {
        let start = Instant::now();
        let nodes = configs.into_iter().map(|config| Node {
            config,
            originated: BTreeMap::new(),
            speaker: None,
            table: BTreeMap::new(),
            lost: Vec::new(),
            converged: false,
            notes: Vec::new(),
            stuck: false,
            stuck_octets: BTreeMap::new(),
            accepted: 0,
        });
        Network {
            nodes: nodes.collect(),
            start,
            now: start,
            queue: BTreeMap::new(),
            sequence: 0,
            peers: BTreeMap::new(),
            cut: BTreeSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// `count` nodes, each with every other; `passive` decides who waits to be dialled.
    pub(crate) fn mesh(count: usize, passive: impl Fn(usize, usize) -> bool) -> Network {
        let configs = (0..count).map(|own| {
            let mut config = config(own, 64512);
            for other in (0..count).filter(|other| *other != own) {
                let mut peer = peer(own, other, 64512);
                peer.passive = passive(own, other);
                config.peers.insert(peer_id(other), peer);
            }
            config
        });
        let mut network = Network::new(configs.collect());
        for own in 0..count {
            network.nodes[own].originated = routes(&[&format!("172.16.{own}.0/26")]);
            network.start(own, false);
        }
        network
    }

    /// Starts a node's speaker; its table is that of a new process.
    pub(crate) fn start(&mut self, node: usize, restarted: bool) {
        let originated = self.nodes[node].originated.clone();
        self.start_mute(node, restarted);
        self.input(node, Input::Originate(originated));
    }

    /// Starts a node's speaker that does not know yet what it originates.
    pub(crate) fn start_mute(&mut self, node: usize, restarted: bool) {
        let state = &mut self.nodes[node];
        state.speaker = Some(Speaker::new(restarted, self.now));
        state.table.clear();
        state.converged = false;
        let config = state.config.clone();
        self.input(node, Input::Configure(config));
    }

    /// kill -9: the kernel closes the connections.
    pub(crate) fn kill(&mut self, node: usize) {
        for from in self.orphan(node) {
            self.later(LATENCY, Event::Closed { from });
        }
    }

    /// Power lost: nobody is told.
    pub(crate) fn crash(&mut self, node: usize) {
        for end in self.orphan(node) {
            self.peers.remove(&end);
        }
    }

    /// Ends a process. Its ends of connections get other names, since the next process will use the old ones.
    fn orphan(&mut self, node: usize) -> Vec<End> {
        self.nodes[node].speaker = None;
        let ends: Vec<(End, End)> =
            self.peers.iter().filter(|(a, _)| a.node == node).map(|(a, b)| (*a, *b)).collect();
        let mut orphans = Vec::new();
        for (end, other) in ends {
            self.sequence += 1;
            let orphan = End { node, conn: ConnId::Accepted(u64::MAX - self.sequence) };
            self.peers.remove(&end);
            self.peers.insert(orphan, other);
            if let Some(back) = self.peers.get_mut(&other) {
                *back = orphan;
            }
            orphans.push(orphan);
        }
        orphans
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        for event in std::mem::take(&mut self.waiting) {
            // Before what is under way: a stream stays in order.
            self.later(Duration::ZERO, event);
        }
    }

    pub(crate) fn originate(&mut self, node: usize, prefixes: &[&str]) {
        self.nodes[node].originated = routes(prefixes);
        let originated = self.nodes[node].originated.clone();
        self.input(node, Input::Originate(originated));
    }

    pub(crate) fn configure(&mut self, node: usize, change: impl FnOnce(&mut SpeakerConfig)) {
        change(&mut self.nodes[node].config);
        let config = self.nodes[node].config.clone();
        self.input(node, Input::Configure(config));
    }

    /// The kernel of a node takes octets again.
    pub(crate) fn unstick(&mut self, node: usize) {
        self.nodes[node].stuck = false;
        for (conn, octets) in std::mem::take(&mut self.nodes[node].stuck_octets) {
            self.input(node, Input::Sent { conn, octets });
        }
    }

    pub(crate) fn snapshot(&self, node: usize) -> Snapshot {
        self.nodes[node].speaker.as_ref().map(|speaker| speaker.snapshot(self.now)).unwrap_or_default()
    }

    pub(crate) fn established(&self, node: usize) -> usize {
        let up = |state: SessionState| state == SessionState::Established;
        self.snapshot(node).peers.values().filter(|peer| up(peer.state)).count()
    }

    pub(crate) fn prefixes(&self, node: usize) -> Vec<String> {
        self.nodes[node].table.keys().map(ToString::to_string).collect()
    }

    /// What vanished from a node's table since the last call.
    pub(crate) fn take_lost(&mut self, node: usize) -> Vec<IpNetwork> {
        std::mem::take(&mut self.nodes[node].lost)
    }

    /// Hands an input to a node that runs and does what it says.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let now = self.now;
        let Some(speaker) = &mut self.nodes[node].speaker else { return };
        speaker.handle(input, now);
        while let Some(output) = self.nodes[node].speaker.as_mut().and_then(Speaker::poll_output) {
            self.output(node, output);
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Dial { conn, peer, from } => {
                let from_address = from.unwrap_or(address(node));
                let event = Event::Dial { from: End { node, conn }, to: peer, source: from_address };
                self.later(LATENCY, event);
            }
            Output::Send { conn, data } => {
                let from = End { node, conn };
                // Messages do not keep their limits in a stream.
                let at = data.len() / 2;
                self.later(LATENCY, Event::Bytes { from, data: data[..at].to_vec() });
                self.later(LATENCY, Event::Bytes { from, data: data[at..].to_vec() });
                if self.nodes[node].stuck {
                    *self.nodes[node].stuck_octets.entry(conn).or_default() += data.len();
                } else {
                    self.input(node, Input::Sent { conn, octets: data.len() });
                }
            }
            Output::Close { conn } => self.later(LATENCY, Event::Closed { from: End { node, conn } }),
            Output::Changes(changes) => {
                let state = &mut self.nodes[node];
                for change in changes {
                    match change.route {
                        Some(route) => {
                            state.table.insert(change.prefix, route);
                        }
                        None => {
                            state.table.remove(&change.prefix).expect("only what was there can go");
                            state.lost.push(change.prefix);
                        }
                    }
                }
            }
            Output::Converged => {
                assert!(!self.nodes[node].converged, "said once");
                self.nodes[node].converged = true;
            }
            Output::Note(note) => self.nodes[node].notes.push(note),
        }
    }

    fn later(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timer = self.nodes.iter().filter_map(|n| n.speaker.as_ref()?.next_deadline()).min();
            let next = event.into_iter().chain(timer).min().filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let event = entry.remove();
                self.arrive(event);
            }
            for node in 0..self.nodes.len() {
                let due = |s: &Speaker| s.next_deadline().is_some_and(|at| at <= self.now);
                if self.nodes[node].speaker.as_ref().is_some_and(due) {
                    self.input(node, Input::Tick);
                }
            }
        }
        self.now = end;
    }

    /// Runs until `condition` holds, and says how long that took.
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&Network) -> bool) -> Duration {
        let begin = self.now;
        while !condition(self) {
            assert!(
                self.now - begin < Duration::from_secs(600),
                "never: {what} at {:?}",
                self.now - self.start
            );
            self.run(Duration::from_millis(5));
        }
        self.now - begin
    }

    fn arrive(&mut self, event: Event) {
        match event {
            Event::Dial { from, to, source } => self.dialled(from, to, source),
            Event::Bytes { from, data } => {
                let Some(to) = self.peers.get(&from).copied() else { return };
                if self.cut.contains(&(from.node, to.node)) {
                    return self.waiting.push_back(Event::Bytes { from, data });
                }
                if self.peers.contains_key(&to) {
                    self.input(to.node, Input::Bytes { conn: to.conn, data });
                } else {
                    // The other kernel knows nothing of this connection any more.
                    self.peers.remove(&from);
                    self.input(from.node, Input::Closed { conn: from.conn, reason: "reset".into() });
                }
            }
            Event::Closed { from } => {
                let Some(to) = self.peers.get(&from).copied() else { return };
                if self.cut.contains(&(from.node, to.node)) {
                    return self.waiting.push_back(Event::Closed { from });
                }
                self.peers.remove(&from);
                if self.peers.remove(&to).is_some() {
                    self.input(to.node, Input::Closed { conn: to.conn, reason: "closed by peer".into() });
                }
            }
        }
    }

    fn dialled(&mut self, from: End, to: SocketAddr, source: IpAddr) {
        let Some(target) = (0..self.nodes.len()).find(|node| address(*node) == to.ip()) else { return };
        if self.cut.contains(&(from.node, target)) {
            return; // No answer.
        }
        if self.nodes[target].speaker.is_none() {
            let input = Input::DialFailed { conn: from.conn, reason: "Connection refused".into() };
            return self.input(from.node, input);
        }
        let conn = ConnId::Accepted(self.nodes[target].accepted);
        self.nodes[target].accepted += 1;
        let end = End { node: target, conn };
        self.peers.insert(from, end);
        self.peers.insert(end, from);
        let remote = SocketAddr::new(source, 40000);
        self.input(target, Input::Accepted { conn, local: to.ip(), remote });
        self.input(from.node, Input::Connected { conn: from.conn, local: source });
    }
}
