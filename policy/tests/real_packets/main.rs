//! Random policies judged by real packets: what the kernel lets through must be what the resources say, as read by the oracle
//! of the other random tests, which shares no code with the compiler.
//!
//! For each rule-set a batch of packets is sent, first packets of connections all of them, from behind the node's interfaces and
//! from the node itself; nothing waits for a single one. `TORTIE_REAL_PACKETS` says how many in all, `TORTIE_REAL_SEED` which:
//! a failure tells the one to repeat it with.

#![allow(clippy::unwrap_used, reason = "a test")]

mod batch;
#[path = "../equivalence/generate.rs"]
#[allow(dead_code, unused_imports, reason = "some packets are for the other test")]
mod generate;
#[path = "../transactions/kernel.rs"]
#[allow(dead_code, reason = "reading and listing is for the other test")]
mod kernel;
#[path = "../equivalence/oracle.rs"]
#[allow(dead_code, reason = "whether a packet is tracked cannot be seen")]
mod oracle;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use tortie_policy::eval::{CtState, Packet};
use tortie_policy::{Ruleset, compile, eval, nft};

use batch::{Batch, Sent, way};
use support::words;
use wire::Arrived;
use world::World;

/// How long a packet that is allowed may be on its way. Those that are dropped nobody waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of a number of packets.
#[derive(Default)]
struct Tally {
    batches: usize,
    /// By way through the node, and whether they were let through.
    judged: BTreeMap<(&'static str, bool), usize>,
    /// The same by protocol.
    protocols: BTreeMap<(u8, bool), usize>,
    masqueraded: usize,
    /// What was generated and has no real counterpart, by the reason.
    skipped: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn add(&mut self, batch: &Batch) {
        self.batches += 1;
        for sent in &batch.sent {
            *self.judged.entry((way(&sent.packet), sent.expected.allowed)).or_default() += 1;
            *self.protocols.entry((sent.packet.protocol, sent.expected.allowed)).or_default() += 1;
            self.masqueraded += usize::from(sent.expected.masqueraded);
        }
        for (reason, count) in &batch.skipped {
            *self.skipped.entry(reason).or_default() += count;
        }
    }

    fn of(&self, verdict: bool) -> usize {
        self.judged.iter().filter(|((_, allowed), _)| *allowed == verdict).map(|(_, count)| count).sum()
    }

    /// That of `all` packets none of the kinds there are is rare: a rule-set that drops everything would look good otherwise.
    fn require_variety(&self, all: usize) {
        assert!(self.of(true).min(self.of(false)) * 4 >= all, "one verdict is rare");
        assert!(self.masqueraded > 0, "none is masqueraded");
        for verdict in [true, false] {
            for way in batch::WAYS {
                let count = self.judged.get(&(way, verdict)).copied().unwrap_or_default();
                // A node reaches its workloads whatever policy says.
                let never = way == "node to workload" && !verdict;
                assert!(never || count * 500 >= all, "from {way}, let through: {verdict}: only {count}");
            }
            for protocol in sockets::PROTOCOLS {
                let count = self.protocols.get(&(protocol, verdict)).copied().unwrap_or_default();
                assert!(count * 500 >= all, "protocol {protocol}, let through: {verdict}: only {count}");
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (allowed, dropped) = (self.of(true), self.of(false));
        for ((way, allowed), count) in &self.judged {
            writeln!(f, "{count:7} {way}, {}", if *allowed { "allowed" } else { "dropped" })?;
        }
        for (reason, count) in &self.skipped {
            writeln!(f, "{count:7} not sent: {reason}")?;
        }
        write!(f, "{allowed} allowed, {dropped} dropped, {} masqueraded ", self.masqueraded)?;
        write!(f, "under {} rule-sets", self.batches)
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn real_packets_are_judged_as_the_resources_say() {
    kernel::inside("real_packets_are_judged_as_the_resources_say", || {
        let wanted = number("TORTIE_REAL_PACKETS", 4000) as usize;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let first = number("TORTIE_REAL_SEED", now.as_nanos() as u64 % 1_000_000_007);
        let (mut world, mut tally) = (World::build(), Tally::default());
        let mut next_id = 1;
        for seed in first.. {
            if tally.of(true) + tally.of(false) >= wanted {
                break;
            }
            let batch = Batch::new(seed, next_id);
            next_id += batch.sent.len() as u32;
            judge(&mut world, &batch);
            tally.add(&batch);
        }
        println!("{tally} from seed {first}");
        // Few packets are sent to repeat a failure.
        if wanted >= 1000 {
            tally.require_variety(wanted);
        }
    });
}

/// Every packet that is dropped above is the doing of the rules: without them all arrive.
#[test]
fn without_rules_every_packet_arrives() {
    kernel::inside("without_rules_every_packet_arrives", || {
        let mut world = World::build();
        let mut next_id = 1;
        for seed in 0..8 {
            let mut batch = Batch::new(seed, next_id);
            next_id += batch.sent.len() as u32;
            for sent in &mut batch.sent {
                sent.expected = oracle::Judgement { allowed: true, masqueraded: false, untracked: false };
            }
            send(&mut world, &batch);
            let arrived = collect(&mut world, &batch);
            let wrong: Vec<String> = batch.sent.iter().filter_map(|sent| wrong(sent, &arrived)).collect();
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
        assert!(next_id > 200, "{next_id}");
    });
}

/// Loads what a batch's resources are compiled to, sends the packets and compares. Panics with all there is to know.
fn judge(world: &mut World, batch: &Batch) {
    let ruleset = compile(&batch.snapshot).ruleset;
    world.load(&ruleset);
    send(world, batch);
    let arrived = collect(world, batch);
    let wrong: Vec<String> = batch
        .sent
        .iter()
        .filter_map(|sent| {
            Some(format!("{}\n{}", wrong(sent, &arrived)?, as_evaluated(&ruleset, &sent.packet)))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "TORTIE_REAL_SEED={} TORTIE_REAL_PACKETS=1 repeats it: {} of {} packets.\n\n{}\n{}\nplaces: {:#?}\n{}",
        batch.seed,
        wrong.len(),
        batch.sent.len(),
        wrong[..wrong.len().min(5)].join("\n"),
        words::snapshot(&batch.snapshot),
        batch.places,
        nft::render_table(&ruleset),
    );
}

fn send(world: &mut World, batch: &Batch) {
    world.place(batch.places.iter().map(|(address, wire)| (address, *wire)));
    for sent in &batch.sent {
        let bytes = wire::packet(&sent.packet, sent.id);
        world.send(sent.packet.input.as_deref(), sent.packet.destination, &bytes);
    }
}

/// What arrived of a batch. Packets that should have and did not are waited for.
fn collect(world: &mut World, batch: &Batch) -> Vec<(Option<&'static str>, Arrived)> {
    let deadline = Instant::now() + PATIENCE;
    let mut arrived = Vec::new();
    loop {
        arrived.extend(world.arrived());
        let here = |sent: &&Sent| arrived.iter().any(|(_, a): &(_, Arrived)| a.id == sent.id);
        let expected = batch.sent.iter().filter(|sent| sent.expected.allowed);
        if expected.clone().filter(here).count() == expected.count() || Instant::now() > deadline {
            break;
        }
    }
    let first = batch.sent.first().map_or(0, |sent| sent.id);
    let late: Vec<_> = arrived.iter().filter(|(_, a)| a.id < first).collect();
    assert!(late.is_empty(), "arrived after its batch: {late:?}");
    arrived
}

/// What is wrong with what became of a packet, if anything.
fn wrong(sent: &Sent, arrived: &[(Option<&'static str>, Arrived)]) -> Option<String> {
    let Sent { packet, expected, id } = sent;
    // An error about a packet carries its number, too, and is of another protocol.
    let of_this = |(_, a): &&(_, Arrived)| a.id == *id && a.protocol == packet.protocol;
    let found: Vec<_> = arrived.iter().filter(of_this).collect();
    let masqueraded = |a: &Arrived| a.source.is_some_and(|source| source != packet.source);
    let good = match (&found[..], expected.allowed) {
        ([], allowed) => !allowed,
        // A node's own address stays as it is.
        ([(place, a)], true) => {
            place.map(str::to_owned) == packet.output
                && masqueraded(a) == (expected.masqueraded && !batch::is_of_node(packet.source))
        }
        _ => false,
    };
    let (allowed, masqueraded) = (expected.allowed, expected.masqueraded);
    let said = format!(
        "number {id}: {}\nthe resources say: allowed {allowed}, masqueraded {masqueraded}",
        words::packet(packet)
    );
    (!good).then(|| format!("{said}\nit arrived: {found:?}"))
}

/// What the rules do as we read them.
fn as_evaluated(ruleset: &Ruleset, packet: &Packet) -> String {
    let outcome = eval::eval(ruleset, packet);
    let trail: String = outcome.trail.iter().map(|step| format!("  {}\n", words::step(step))).collect();
    format!("the rules say: allowed {}, masqueraded {}, by\n{trail}", outcome.allowed, outcome.masqueraded)
}

/// An echo request between addresses nobody has.
fn ping() -> Packet {
    Packet {
        input: None,
        output: None,
        source: [198, 51, 100, 1].into(),
        destination: [198, 51, 100, 2].into(),
        original: None,
        protocol: 1,
        ports: None,
        icmp: Some((8, 0)),
        state: CtState::New,
        reverse_route: true,
        marked: false,
    }
}
