//! What peers know does not depend on history: after any of it each knows, by the octets it was sent, what it would know
//! of a speaker that began just now with the same configuration and the same announcements, in whatever order.
//!
//! And nothing is left of what is gone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use world::{Look, PEERS, Rules, World, id};

#[derive(Clone, Debug)]
enum Op {
    Up(usize),
    Down(usize),
    Announce(usize, u32, u32, u32, Look),
    Withdraw(usize, u32, u32, u32),
    Export(usize, u8),
    Import(usize, u8),
    Client(usize),
    Cluster,
    Originate(u8),
    Refresh(usize),
    EndOfRib(usize),
    Stall(usize),
    Drain(usize, usize),
    Run(u64),
}

/// Blocks of a large table: more than are walked in one stride, and with attributes of their own more than fit into a
/// queue.
const LARGE: u32 = 20_000;

/// Operations on so many blocks.
fn op(universe: u32) -> impl Strategy<Value = Op> {
    let peer = || 0..PEERS;
    let few = 1..=universe.div_ceil(8);
    // Now and then all of them at once.
    let range = (0..universe, prop_oneof![4 => few, 1 => Just(universe)])
        .prop_map(move |(first, count)| (if count == universe { 0 } else { first }, count));
    let look =
        (any::<u8>(), any::<bool>()).prop_map(|(variant, unique)| Look { variant: variant % 12, unique });
    prop_oneof![
        6 => peer().prop_map(Op::Up),
        2 => peer().prop_map(Op::Down),
        8 => (peer(), range.clone(), 0..3_u32, look)
            .prop_map(|(peer, (first, count), path, look)| Op::Announce(peer, first, count, path, look)),
        4 => (peer(), range, 0..3_u32)
            .prop_map(|(peer, (first, count), path)| Op::Withdraw(peer, first, count, path)),
        2 => (peer(), 0..8_u8).prop_map(|(peer, number)| Op::Export(peer, number)),
        1 => (peer(), 0..8_u8).prop_map(|(peer, number)| Op::Import(peer, number)),
        1 => peer().prop_map(Op::Client),
        1 => Just(Op::Cluster),
        1 => any::<u8>().prop_map(Op::Originate),
        2 => peer().prop_map(Op::Refresh),
        1 => peer().prop_map(Op::EndOfRib),
        3 => peer().prop_map(Op::Stall),
        3 => (peer(), prop_oneof![1..2000_usize, Just(300_000), Just(usize::MAX)])
            .prop_map(|(peer, octets)| Op::Drain(peer, octets)),
        1 => prop_oneof![1..20_u64, Just(130), Just(301)].prop_map(Op::Run),
    ]
}

fn apply(world: &mut World, op: Op, universe: u32) {
    let numbers = |first: u32, count: u32| first..universe.min(first + count);
    match op {
        Op::Up(peer) => world.up(peer),
        Op::Down(peer) => world.down(peer),
        Op::Announce(peer, first, count, path, look) => {
            world.announce(peer, numbers(first, count), path, look)
        }
        Op::Withdraw(peer, first, count, path) => world.withdraw(peer, numbers(first, count), path),
        Op::Export(peer, number) => world.rules.export[peer] = number,
        Op::Import(peer, number) => world.rules.import[peer] = number,
        Op::Client(peer) => world.rules.client[peer] ^= true,
        Op::Cluster => world.rules.cluster ^= true,
        Op::Originate(which) => world.rules.originated = which,
        Op::Refresh(peer) => world.refresh(peer),
        Op::EndOfRib(peer) => world.end_of_rib(peer),
        Op::Stall(peer) => world.peers[peer].stuck = true,
        Op::Drain(peer, octets) => {
            if octets == usize::MAX {
                world.peers[peer].stuck = false;
            }
            world.drain(peer, octets);
        }
        Op::Run(seconds) => world.run(Duration::from_secs(seconds)),
    }
    world.configure();
}

/// A speaker that begins with what is there, peers and their routes in this order.
fn afresh(world: &World, order: &[usize], backwards: bool) -> World {
    let mut fresh = World::new(world.rules.clone());
    for peer in order.iter().copied().filter(|peer| world.peers[*peer].conn.is_some()) {
        fresh.up(peer);
        let routes: Vec<_> = world.peers[peer].announced.iter().map(|(key, look)| (*key, *look)).collect();
        let mut runs: Vec<_> = routes.chunk_by(|a, b| (a.0.1, a.1) == (b.0.1, b.1)).collect();
        if backwards {
            runs.reverse();
        }
        for run in runs {
            let ((_, path), look) = run[0];
            fresh.announce(peer, run.iter().map(|((number, _), _)| *number), path, look);
        }
    }
    fresh.settle();
    fresh
}

fn check(world: &mut World, order: &[usize]) -> Result<(), TestCaseError> {
    world.settle();
    let snapshot = world.speaker.snapshot(world.now);
    prop_assert!(snapshot.routes == world.table, "changes add up");
    for backwards in [false, true] {
        let fresh = afresh(world, order, backwards);
        prop_assert!(fresh.table == world.table, "the table depends on history");
        for peer in 0..PEERS {
            let (have, want) = (world.knows(peer), fresh.knows(peer));
            if have != want {
                let missing = want.iter().find(|(prefix, paths)| have.get(prefix) != Some(paths));
                let surplus = have.iter().find(|(prefix, paths)| want.get(prefix) != Some(paths));
                prop_assert!(false, "peer {peer} knows {surplus:?} and should know {missing:?}");
            }
        }
    }
    for (peer, state) in world.peers.iter().enumerate().filter(|(_, state)| state.conn.is_some()) {
        let counted = &snapshot.peers[&id(peer)];
        prop_assert_eq!(counted.announced, state.told.len(), "as counted for peer {}", peer);
        prop_assert!(counted.received <= state.announced.len());
        prop_assert_eq!(state.ends, 1, "one End-of-RIB to peer {}", peer);
    }
    Ok(())
}

/// Everybody leaves: nothing stays.
fn leave(world: &mut World) -> Result<(), TestCaseError> {
    world.rules.originated = 0;
    world.configure();
    (0..PEERS).for_each(|peer| world.down(peer));
    world.settle();
    prop_assert!(world.table.is_empty());
    let footprint = world.speaker.footprint();
    prop_assert_eq!(
        (footprint.prefixes, footprint.paths, footprint.groups, footprint.connections),
        (0, 0, 0, 0)
    );
    Ok(())
}

fn story(ops: Vec<Op>, universe: u32, order: &[usize]) -> Result<World, TestCaseError> {
    let mut world = World::new(Rules::new());
    ops.into_iter().for_each(|op| apply(&mut world, op, universe));
    check(&mut world, order)?;
    leave(&mut world)?;
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn after_any_history(ops in vec(op(64), 1..60), order in Just([0, 1, 2, 3, 4]).prop_shuffle()) {
        story(ops, 64, &order)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 20, ..ProptestConfig::default() })]
    /// The same where tables are walked in several strides and queues fill up.
    #[test]
    fn after_any_history_of_a_large_table(
        ops in vec(op(LARGE), 8..20),
        order in Just([0, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let mut begin = vec![Op::Up(2), Op::Up(0), Op::Announce(2, 0, LARGE, 0, Look { variant: 1, unique: true })];
        // Those who do not drain join in the middle.
        begin.extend([Op::Stall(0), Op::Stall(1), Op::Up(1), Op::Stall(3), Op::Up(3)]);
        begin.extend(ops);
        let world = story(begin, LARGE, &order)?;
        prop_assert!(world.peers.iter().any(|peer| peer.most > 1 << 20), "queues filled up");
    }
}

/// Attributes nobody has any more do not pile up.
#[test]
fn attributes_are_forgotten() {
    let mut world = World::new(Rules::new());
    world.up(2);
    world.up(0);
    for round in 0..40_u32 {
        let look = Look { variant: u8::try_from(round % 12).unwrap(), unique: true };
        let first = round * 3000;
        world.announce(2, first..first + 3000, 0, look);
        world.withdraw(2, first..first + 3000, 0);
        let footprint = world.speaker.footprint();
        assert_eq!((footprint.prefixes, footprint.paths), (0, 0));
        assert!(footprint.attribute_sets < 20_000, "{footprint:?} after {round} rounds");
    }
}
