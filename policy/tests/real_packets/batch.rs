//! Random resources, where addresses are, and packets between them that can be sent for real.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tortie_model::rule::Action;
use tortie_policy::Snapshot;
use tortie_policy::eval::Packet;
use tortie_policy::snapshot::{HostPlace, PolicyBody};

use crate::oracle::{self, Judgement};
use crate::world::{NODE, UNKNOWN, WIRES};
use crate::{generate, support, wire};

/// Packets tried for one rule-set. So few of them are sent that they fit a socket's buffer.
const CANDIDATES: usize = 1000;
/// Where addresses are.
const PLACES: [&str; 8] = ["cali0", "cali0", "cali1", "cali2", "cali9", "eth0", "eth0", "eth1"];
/// All ways there are.
pub(crate) const WAYS: [&str; 8] = [
    "workload to workload",
    "workload to outside",
    "outside to workload",
    "outside to outside",
    "workload to node",
    "outside to node",
    "node to workload",
    "node to outside",
];

/// What made the verdict about a packet, and how many of one way and verdict are sent under one rule-set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DecidedBy {
    /// A policy's rule: without it the verdict is another.
    Rules = 8,
    /// What counts when no rule of a policy matches.
    Defaults = 3,
    /// Policy was not asked.
    Nobody = 1,
}

/// A packet with its number, and what should happen.
pub(crate) struct Sent {
    pub(crate) id: u32,
    pub(crate) packet: Packet,
    pub(crate) expected: Judgement,
}

/// What is tried under one rule-set.
pub(crate) struct Batch {
    pub(crate) seed: u64,
    pub(crate) snapshot: Snapshot,
    /// Which addresses are behind which interface; the others are the node's.
    pub(crate) places: BTreeMap<IpAddr, &'static str>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) skipped: BTreeMap<&'static str, usize>,
}

pub(crate) fn is_of_node(address: IpAddr) -> bool {
    NODE.iter().any(|own| own.parse() == Ok(address))
}

/// Between whom a packet travels.
pub(crate) fn way(packet: &Packet) -> &'static str {
    let workload = |name: &Option<String>| name.as_ref().map(|name| name.starts_with("cali"));
    match (workload(&packet.input), workload(&packet.output)) {
        (Some(true), Some(true)) => "workload to workload",
        (Some(true), Some(false)) => "workload to outside",
        (Some(false), Some(true)) => "outside to workload",
        (Some(false), Some(false)) => "outside to outside",
        (Some(true), None) => "workload to node",
        (Some(false), None) => "outside to node",
        (None, Some(true)) => "node to workload",
        (None, _) => "node to outside",
    }
}

/// The same policies asked about what is forwarded: few are otherwise, and few of those are about an interface of the node.
fn forwarding(mut snapshot: Snapshot) -> Snapshot {
    for body in snapshot.policies.values_mut() {
        if let PolicyBody::Global(spec) = body {
            (spec.do_not_track, spec.pre_dnat, spec.apply_on_forward) = (false, false, true);
        }
    }
    for host in snapshot.host_endpoints.values_mut().filter(|host| !host.is_local()) {
        Arc::make_mut(host).place = HostPlace::All;
    }
    snapshot
}

/// The same policies, whose rules let everything pass on.
fn undecided(snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    let rules = snapshot.policies.values_mut().flat_map(support::rule_lists).flatten();
    rules.for_each(|rule| rule.action = Action::Log);
    snapshot
}

/// Whether policy is asked. It is not about forged sources and workloads nobody knows.
fn is_asked_about(packet: &Packet) -> bool {
    let (input, output) = (packet.input.as_deref(), packet.output.as_deref());
    let forged = !packet.reverse_route && input.is_some_and(|name| name.starts_with("cali"));
    !forged && ![input, output].contains(&Some(UNKNOWN))
}

impl Batch {
    /// The same for the same seed, but for the packets' numbers, which begin with `id`.
    pub(crate) fn new(seed: u64, id: u32) -> Batch {
        let mut random = Random::new(seed);
        let snapshot = match seed % 8 {
            0..3 => random.one(generate::snapshot()),
            3 => random.one(generate::peer_snapshot()),
            4 | 5 => random.one(generate::run_snapshot()),
            6 => random.one(generate::host_snapshot()),
            _ => forwarding(random.one(generate::host_snapshot())),
        };
        let addresses = generate::ADDRESSES.map(|text| text.parse().expect("a literal"));
        let elsewhere = addresses.into_iter().filter(|address| !is_of_node(*address));
        let places = elsewhere.map(|address| (address, random.one(select(&PLACES[..])))).collect();
        let mut batch = Batch { seed, snapshot, places, sent: Vec::new(), skipped: BTreeMap::new() };
        batch.fill(&mut random, id);
        batch
    }

    /// Packets of each kind, as far as there are such: resources made at random mostly deny, and mostly for the same reasons.
    fn fill(&mut self, random: &mut Random, first: u32) {
        let undecided = undecided(&self.snapshot);
        let mut flows = Flows::default();
        let mut count: BTreeMap<_, usize> = BTreeMap::new();
        for _ in 0..CANDIDATES {
            let packet = match self.packet(random) {
                Ok(packet) => packet,
                Err(reason) => {
                    *self.skipped.entry(reason).or_default() += 1;
                    continue;
                }
            };
            let expected = oracle::judge(&self.snapshot, &packet);
            let decided_by = match is_asked_about(&packet) {
                true if oracle::judge(&undecided, &packet).allowed != expected.allowed => DecidedBy::Rules,
                true => DecidedBy::Defaults,
                false => DecidedBy::Nobody,
            };
            let count = count.entry((way(&packet), expected.allowed, decided_by)).or_default();
            if *count == decided_by as usize {
                continue;
            }
            if !flows.begins_one(&packet, &expected) {
                *self.skipped.entry("of a flow there is").or_default() += 1;
                continue;
            }
            *count += 1;
            let id = first + self.sent.len() as u32;
            self.sent.push(Sent { id, packet, expected });
        }
    }

    /// A packet as the generators make it, on the way the node's routes give it.
    fn packet(&self, random: &mut Random) -> Result<Packet, &'static str> {
        let packet = random.one(prop_oneof![generate::packet().boxed(), generate::run_packet().boxed()]);
        let anywhere = select(&WIRES[..]).prop_map(Some);
        let own = self.places.get(&packet.source).copied();
        // Mostly from where its source is.
        let from =
            random.one(prop_oneof![8 => Just(own).boxed(), 1 => anywhere.boxed(), 1 => Just(None).boxed()]);
        let to = self.places.get(&packet.destination).copied();
        if from.is_none() && to.is_none() {
            return Err("from the node to itself");
        }
        if from.is_some() && own.is_none() {
            return Err("from elsewhere in the node's name");
        }
        let packet = Packet {
            input: from.map(str::to_owned),
            output: to.map(str::to_owned),
            original: None,
            marked: false,
            reverse_route: own == from,
            ..packet
        };
        Ok(Packet { state: wire::state(&packet), ..packet })
    }
}

/// Protocol and both ends, as connection tracking tells flows apart.
type Flow = (u8, (IpAddr, u16), (IpAddr, u16));

/// Flows that may be known to connection tracking by now. A packet that could be taken for one of them or for an answer is no
/// first packet.
#[derive(Default)]
struct Flows {
    known: BTreeSet<Flow>,
    /// The other ends of translated flows, for which the kernel chose a port.
    answering: BTreeSet<(u8, (IpAddr, u16))>,
}

impl Flows {
    fn begins_one(&mut self, packet: &Packet, expected: &Judgement) -> bool {
        let Packet { protocol, source, destination, .. } = *packet;
        // Each request of ICMP has a number of its own, and nothing else makes a flow.
        if protocol == 1 || protocol == 58 {
            return true;
        }
        let ports = packet.ports.filter(|_| protocol == 6 || protocol == 17);
        let (source_port, destination_port) = ports.unwrap_or_default();
        let mut flow = (protocol, (source, source_port), (destination, destination_port));
        let answers = |flow: Flow| (flow.0, flow.2, flow.1);
        let is_known =
            |flows: &Flows, flow| flows.known.contains(&flow) || flows.known.contains(&answers(flow));
        if is_known(self, flow) || self.answering.contains(&(protocol, flow.1)) && is_of_node(destination) {
            return false;
        }
        self.known.insert(flow);
        if expected.masqueraded && ports.is_some() {
            self.answering.insert((protocol, flow.2));
        } else if expected.masqueraded {
            // Without ports two of them would look alike from outside, and the kernel drops the second.
            let node = NODE.map(|own| own.parse::<IpAddr>().expect("a literal"));
            flow.1.0 = node[usize::from(source.is_ipv6())];
            return flow.1.0 == source || (!is_known(self, flow) && self.known.insert(flow));
        }
        true
    }
}

/// Values of strategies by a seed.
struct Random(TestRunner);

impl Random {
    fn new(seed: u64) -> Random {
        let bytes: Vec<u8> = seed.to_le_bytes().into_iter().chain([0; 24]).collect();
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Random(TestRunner::new_with_rng(Config::default(), random))
    }

    fn one<S: Strategy>(&mut self, of: S) -> S::Value {
        of.new_tree(&mut self.0).expect("a value").current()
    }
}
