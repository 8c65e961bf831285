//! A full mesh on a virtual clock, through real octets: packets lost, processes killed, machines without power, networks
//! apart. It comes together again each time, and meanwhile nobody loses a route whose owner can be reached.
//!
//! `cargo test` does it with 40 nodes; `make soak` with 1000, which is half a million sessions.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells its figures"
)]

mod network;
mod nodes;

use std::fs;
use std::time::{Duration, Instant};

use network::Network;
use nodes::Power;

const SECOND: Duration = Duration::from_secs(1);
/// What a peer may take to be taken for dead, and its routes to go: hold time and restart time.
const FORGOTTEN: Duration = Duration::from_secs(240 + 120);

/// Tells what each part of the story took.
struct Teller {
    wall: Instant,
    processor: Duration,
    from: Instant,
    delivered: u64,
}

impl Teller {
    fn new(network: &Network) -> Teller {
        Teller { wall: Instant::now(), processor: processor_time(), from: network.now, delivered: 0 }
    }

    fn tell(&mut self, what: &str, network: &Network) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?").trim();
        eprintln!(
            "{what}: {:.1?} of virtual time in {:.1?}, of the processor {:.1?}; {} deliveries, {} connections so far, {resident}",
            network.now - self.from,
            self.wall.elapsed(),
            processor_time() - self.processor,
            network.delivered - self.delivered,
            network.links(),
        );
        *self = Teller { delivered: network.delivered, ..Teller::new(network) };
    }
}

/// What this thread had of a processor, which on a busy machine is less than what passed.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0))
}

/// The whole story.
fn story(count: usize, both_dial: bool, loss: u64) {
    let mut network = Network::new(count, both_dial);
    let mut teller = Teller::new(&network);
    network.loss = loss;
    for node in 0..count {
        network.start(node, false);
        network.run(Duration::from_millis(1));
    }
    let took = network.until("the mesh", SECOND * 120, Network::is_whole);
    teller.tell("all nodes started", &network);
    assert!(took < SECOND * 60, "whole after {took:?}");
    network.run(SECOND * 120);
    assert!(network.nodes.iter().all(|node| node.converged));
    teller.tell("idle", &network);

    blocks_move(&mut network);
    teller.tell("every tenth node gets a block and gives one back", &network);
    processes_restart(&mut network);
    teller.tell("processes killed and started again", &network);
    machines_fail(&mut network);
    teller.tell("machines without power and back", &network);
    the_network_falls_apart(&mut network);
    teller.tell("the network in two parts and whole again", &network);
    let holes = &network.holes;
    assert!(holes.is_empty(), "{} routes lost without need, first {:?}", holes.len(), holes.iter().take(20));
}

fn blocks_move(network: &mut Network) {
    for blocks in [3, 2, 1] {
        for node in (0..network.nodes.len()).step_by(10) {
            network.originate(node, blocks);
        }
        let took = network.until("blocks everywhere", SECOND * 60, Network::is_whole);
        assert!(network.loss > 0 || took < SECOND, "took {took:?}");
    }
}

fn processes_restart(network: &mut Network) {
    let some: Vec<usize> = (0..network.nodes.len()).step_by(20).collect();
    // One after the other, as an upgrade does, then all at once.
    for node in some.iter().copied().take(5) {
        network.kill(node);
        network.run(SECOND * 2);
        network.start(node, true);
        network.run(SECOND * 5);
    }
    some.iter().for_each(|node| network.kill(*node));
    network.run(SECOND * 3);
    some.iter().for_each(|node| network.start(*node, true));
    network.until("all back", SECOND * 120, |network| {
        network.is_whole() && network.nodes.iter().all(|node| node.converged)
    });
}

fn machines_fail(network: &mut Network) {
    let some: Vec<usize> = (3..network.nodes.len()).step_by(25).collect();
    let (briefly, long) = some.split_at(some.len() / 2);
    some.iter().for_each(|node| network.crash(*node));
    network.run(SECOND * 60);
    // Their kernels begin anew, too. Those who wait to be dialled wait for the others' next KEEPALIVE.
    briefly.iter().for_each(|node| network.start(*node, false));
    network.until("those back after a minute", SECOND * 120, Network::is_whole);
    network.run(FORGOTTEN + SECOND * 30);
    for node in network.nodes.iter().filter(|node| node.power == Power::On) {
        assert!(long.iter().all(|gone| node.kernel[*gone] == 0), "no route survives its owner");
    }
    long.iter().for_each(|node| network.start(*node, false));
    network.until("the others back, too", SECOND * 120, Network::is_whole);
}

fn the_network_falls_apart(network: &mut Network) {
    let count = network.nodes.len();
    let part = |network: &mut Network| {
        (0..count).for_each(|node| network.parts[node] = u8::from(node % 3 == 0));
    };
    // Shorter than the hold time: nobody notices.
    part(network);
    network.run(SECOND * 60);
    network.heal();
    network.run(SECOND * 20);
    assert!(network.is_whole());
    // Longer than anyone waits.
    part(network);
    network.run(FORGOTTEN + SECOND * 30);
    for (own, node) in network.nodes.iter().enumerate() {
        for other in (0..count).filter(|other| *other != own) {
            let reached = network.parts[own] == network.parts[other];
            assert_eq!(node.kernel[other] != 0, reached, "{other} at {own}");
        }
    }
    network.heal();
    network.until("one mesh again", SECOND * 180, Network::is_whole);
    network.run(SECOND * 60);
    assert!(network.is_whole());
}

#[test]
fn a_mesh_of_forty() {
    story(40, false, 0);
}

#[test]
fn a_mesh_of_forty_where_both_dial_and_packets_get_lost() {
    story(40, true, 20);
}

/// `MESH_NODES` says how many; `MESH_LOSS` how many packets of 1000 are lost.
#[test]
#[ignore = "minutes and gigabytes; make soak runs it"]
fn a_mesh_of_a_thousand() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    };
    story(usize::try_from(number("MESH_NODES", 1000)).unwrap(), false, number("MESH_LOSS", 5));
}
