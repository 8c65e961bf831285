//! Many speakers joined by simulated TCP on a virtual clock, lean enough for half a million sessions in one process.
//!
//! Every octet is a real one. The kernels are made up: they lose packets, which costs time and nothing else, since TCP
//! sends again; machines lose power; networks fall apart.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tortie_bgp::Speaker;
use tortie_bgp::speaker::{ConnId, Input, Output};

use super::nodes::{self, Node, Power};

/// One way.
const LATENCY: Duration = Duration::from_millis(1);
/// TCP sends again after this, then after twice as long, and so on.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// The same for the first packet of a connection.
const SYN_RETRANSMIT: Duration = Duration::from_secs(1);

/// One end of a connection.
#[derive(Clone, Copy)]
struct End {
    node: usize,
    conn: ConnId,
    /// Its kernel knows the connection.
    open: bool,
    /// When the last octets sent to it arrive; later ones do not overtake them.
    last: Instant,
}

enum Event {
    Dial { node: usize, conn: ConnId, to: usize },
    Refused { node: usize, conn: ConnId },
    Bytes { link: usize, side: usize, data: Bytes },
    Closed { link: usize, side: usize },
    Timer { node: usize },
}

/// A route that went away although nothing was wrong with its owner.
#[derive(Debug)]
pub(crate) struct Hole {
    /// Who lost it.
    #[allow(dead_code, reason = "for the reader of a failure")]
    pub(crate) node: usize,
    /// Whose it is.
    #[allow(dead_code, reason = "for the reader of a failure")]
    pub(crate) owner: usize,
    /// When, since the start.
    #[allow(dead_code, reason = "for the reader of a failure")]
    pub(crate) at: Duration,
}

/// All nodes and what is between them.
pub(crate) struct Network {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    both_dial: bool,
    links: Vec<[End; 2]>,
    /// Time, order and place of what is to happen.
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    order: u64,
    touched: BTreeSet<usize>,
    /// Of 1000 packets so many are lost.
    pub(crate) loss: u64,
    random: u64,
    /// The part of the network each node is in.
    pub(crate) parts: Vec<u8>,
    held: Vec<Event>,
    /// Connections made, and pieces of streams delivered.
    pub(crate) delivered: u64,
    pub(crate) holes: Vec<Hole>,
}

impl Network {
    pub(crate) fn new(count: usize, both_dial: bool) -> Network {
        let start = Instant::now();
        Network {
            nodes: (0..count).map(|_| Node::new(count)).collect(),
            now: start,
            start,
            both_dial,
            links: Vec::new(),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            order: 0,
            touched: BTreeSet::new(),
            loss: 0,
            random: 1,
            parts: vec![0; count],
            held: Vec::new(),
            delivered: 0,
            holes: Vec::new(),
        }
    }

    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    /// Starts a speaker; `restarted` when its kernel holds routes of an earlier one.
    pub(crate) fn start(&mut self, node: usize, restarted: bool) {
        let count = self.nodes.len();
        let state = &mut self.nodes[node];
        state.power = Power::On;
        state.converged = false;
        state.known.fill(0);
        if !restarted {
            state.kernel.fill(0);
        }
        let mut speaker = Speaker::new(restarted, self.now);
        speaker.handle(Input::Configure(nodes::config(node, count, self.both_dial)), self.now);
        speaker.handle(Input::Originate(nodes::originated(node, state.blocks)), self.now);
        state.speaker = Some(Box::new(speaker));
        self.touch(node);
        self.carry_out();
    }

    /// kill -9: the kernel closes the connections.
    pub(crate) fn kill(&mut self, node: usize) {
        for (link, side) in self.end_process(node, Power::Killed) {
            self.send(link, 1 - side, |link, side| Event::Closed { link, side });
        }
    }

    /// Power lost: nobody is told.
    pub(crate) fn crash(&mut self, node: usize) {
        drop(self.end_process(node, Power::Off));
    }

    fn end_process(&mut self, node: usize, power: Power) -> Vec<(usize, usize)> {
        let state = &mut self.nodes[node];
        state.power = power;
        state.speaker = None;
        state.timer = None;
        let ends = state.unlink_all();
        ends.iter().for_each(|(link, side)| self.links[*link][*side].open = false);
        ends
    }

    pub(crate) fn originate(&mut self, node: usize, blocks: u8) {
        self.nodes[node].blocks = blocks;
        let now = self.now;
        if let Some(speaker) = &mut self.nodes[node].speaker {
            speaker.handle(Input::Originate(nodes::originated(node, blocks)), now);
            self.touch(node);
            self.carry_out();
        }
    }

    /// The network is whole again; TCP sends what it held.
    pub(crate) fn heal(&mut self) {
        self.parts.fill(0);
        for event in std::mem::take(&mut self.held) {
            // Before what is under way: a stream stays in order.
            self.at(self.now, event);
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            while let Some(Reverse((at, _, place))) = self.queue.peek().copied() {
                if at > self.now {
                    break;
                }
                self.queue.pop();
                self.free.push(place);
                if let Some(event) = self.events[place].take() {
                    self.happen(event);
                }
            }
            // All that happened at one instant shares one decision, as in one turn of a loop.
            self.carry_out();
        }
        self.now = end;
    }

    fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Runs until `condition` holds, and says how long that took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Network) -> bool,
    ) -> Duration {
        let begin = self.now;
        while !condition(self) {
            assert!(self.now - begin < limit, "never: {what}, at {:?}", self.now - self.start);
            self.run(Duration::from_millis(20));
        }
        self.now - begin
    }

    /// Everyone who can be reached is known by everyone who can reach him, with all that he originates.
    pub(crate) fn is_whole(&self) -> bool {
        let on = |node: &usize| self.nodes[*node].power == Power::On;
        (0..self.nodes.len()).filter(on).all(|own| {
            let others = (0..self.nodes.len()).filter(on).filter(|other| *other != own);
            let reached = others.filter(|other| self.parts[*other] == self.parts[own]);
            self.nodes[own].has_all(reached.map(|other| (other, self.nodes[other].blocks)))
        })
    }

    fn touch(&mut self, node: usize) {
        self.touched.insert(node);
    }

    fn at(&mut self, at: Instant, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.order += 1;
        self.queue.push(Reverse((at, self.order, place)));
    }

    /// Sends to an end, in order.
    fn send(&mut self, link: usize, side: usize, event: impl FnOnce(usize, usize) -> Event) {
        let arrives = self.now + LATENCY + self.lost(RETRANSMIT);
        let last = &mut self.links[link][side].last;
        *last = arrives.max(*last);
        let at = *last;
        self.at(at, event(link, side));
    }

    /// How long losses delay a packet.
    fn lost(&mut self, first: Duration) -> Duration {
        let (mut delay, mut next) = (Duration::ZERO, first);
        while self.loss > 0 && self.random() % 1000 < self.loss {
            delay += next;
            next *= 2;
        }
        delay
    }

    /// xorshift64.
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Timer { node } => {
                let now = self.now;
                if self.nodes[node].timer.is_none_or(|timer| timer > now) {
                    return;
                }
                self.nodes[node].timer = None;
                self.input(node, Input::Tick);
            }
            Event::Dial { node, conn, to } => self.dialled(node, conn, to),
            Event::Refused { node, conn } => {
                self.input(node, Input::DialFailed { conn, reason: "Connection refused".into() });
            }
            Event::Bytes { link, side, data } => {
                if self.is_cut(link) {
                    return self.held.push(Event::Bytes { link, side, data });
                }
                let End { node, conn, open, .. } = self.links[link][side];
                if !open {
                    return self.answer_unknown(link, side);
                }
                self.delivered += 1;
                let now = self.now;
                if let Some(speaker) = &mut self.nodes[node].speaker {
                    speaker.receive(conn, &data, now);
                    self.touch(node);
                }
            }
            Event::Closed { link, side } => {
                if self.is_cut(link) {
                    return self.held.push(Event::Closed { link, side });
                }
                let End { node, conn, open, .. } = self.links[link][side];
                if open {
                    self.links[link][side].open = false;
                    self.nodes[node].unlink(conn);
                    self.input(node, Input::Closed { conn, reason: "closed by peer".into() });
                }
            }
        }
    }

    /// A kernel that knows nothing of a connection resets it; a machine without power does not.
    fn answer_unknown(&mut self, link: usize, side: usize) {
        if self.nodes[self.links[link][side].node].power != Power::Off && self.links[link][1 - side].open {
            self.send(link, 1 - side, |link, side| Event::Closed { link, side });
        }
    }

    fn is_cut(&self, link: usize) -> bool {
        let [a, b] = &self.links[link];
        self.parts[a.node] != self.parts[b.node]
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = self.now;
        if let Some(speaker) = &mut self.nodes[node].speaker {
            speaker.handle(input, now);
            self.touch(node);
        }
    }

    fn dialled(&mut self, node: usize, conn: ConnId, to: usize) {
        if self.parts[node] != self.parts[to] || self.nodes[to].power == Power::Off {
            return; // No answer; the speaker gives up by itself.
        }
        if self.nodes[node].speaker.is_none() {
            return;
        }
        if self.nodes[to].speaker.is_none() {
            return self.at(self.now + LATENCY, Event::Refused { node, conn });
        }
        let accepted = ConnId::Accepted(self.nodes[to].accepted);
        self.nodes[to].accepted += 1;
        let link = self.links.len();
        let end = |node, conn| End { node, conn, open: true, last: self.now };
        self.links.push([end(node, conn), end(to, accepted)]);
        let number = u32::try_from(link).unwrap();
        self.nodes[node].conns.insert(conn, number);
        self.nodes[to].conns.insert(accepted, number);
        let (local, remote) = (nodes::address(to), SocketAddr::new(nodes::address(node), 40000));
        self.input(to, Input::Accepted { conn: accepted, local, remote });
        self.input(node, Input::Connected { conn, local: nodes::address(node) });
    }

    /// Does what the speakers say that heard something at this instant.
    fn carry_out(&mut self) {
        while let Some(node) = self.touched.pop_first() {
            let Some(mut speaker) = self.nodes[node].speaker.take() else { continue };
            while let Some(output) = speaker.poll_output() {
                self.output(node, &mut speaker, output);
            }
            let deadline = speaker.next_deadline();
            self.nodes[node].speaker = Some(speaker);
            let timer = self.nodes[node].timer;
            if let Some(deadline) = deadline.filter(|at| timer.is_none_or(|timer| *at < timer)) {
                let at = deadline.max(self.now);
                self.nodes[node].timer = Some(at);
                self.at(at, Event::Timer { node });
            }
        }
    }

    fn output(&mut self, node: usize, speaker: &mut Speaker, output: Output) {
        match output {
            Output::Dial { conn, peer, .. } => {
                let delay = LATENCY + self.lost(SYN_RETRANSMIT);
                self.at(self.now + delay, Event::Dial { node, conn, to: nodes::node_of(peer.ip()) });
            }
            Output::Send { conn, data } => {
                speaker.handle(Input::Sent { conn, octets: data.len() }, self.now);
                if let Some((link, side)) = self.nodes[node].link(conn) {
                    self.send(link, 1 - side, |link, side| Event::Bytes { link, side, data });
                }
            }
            Output::Close { conn } => {
                if let Some((link, side)) = self.nodes[node].unlink(conn) {
                    self.links[link][side].open = false;
                    self.send(link, 1 - side, |link, side| Event::Closed { link, side });
                }
            }
            Output::Changes(changes) => {
                for change in &changes {
                    if let Some((owner, block)) = self.nodes[node].change(change) {
                        self.lost_route(node, owner, block);
                    }
                }
            }
            Output::Converged => self.converged(node),
            Output::Note(_) => {}
        }
    }

    /// The kernel forgets what the new process did not learn.
    fn converged(&mut self, node: usize) {
        self.nodes[node].converged = true;
        let known = self.nodes[node].known.clone();
        let before = std::mem::replace(&mut self.nodes[node].kernel, known);
        for (owner, before) in before.into_iter().enumerate() {
            let gone = before & !self.nodes[node].known[owner];
            if gone != 0 {
                self.lost_route(node, owner, gone);
            }
        }
    }

    fn lost_route(&mut self, node: usize, owner: usize, blocks: u8) {
        let state = &self.nodes[owner];
        let there = state.power != Power::Off && self.parts[owner] == self.parts[node];
        if there && state.blocks & blocks != 0 {
            self.holes.push(Hole { node, owner, at: self.now - self.start });
        }
    }
}
