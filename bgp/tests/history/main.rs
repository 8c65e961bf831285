//! What peers know does not depend on history: after any of it each knows, by the octets it was sent, what it would know
//! of a speaker that began just now with the same configuration and the same announcements, in whatever order; and what an
//! oracle that shares no code with the speaker reads off the standards.
//!
//! And nothing is left of what is gone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod look;
mod ops;
mod oracle;
mod route;
mod rules;
mod world;

use std::collections::BTreeMap;
use std::fmt::Debug;

use ipnetwork::IpNetwork;
use proptest::collection::vec;
use proptest::prelude::*;
use tortie_bgp::family::Prefix;

use look::Look;
use ops::{Op, apply, op, setting};
use rules::{PEERS, Rules, id};
use world::World;

/// Blocks of a large table: more than are walked in one stride, and with attributes of their own more than fit into a
/// queue.
const LARGE: u32 = 20_000;

/// A speaker that begins with what is there, peers and their routes in this order.
fn afresh(world: &World, order: &[usize], backwards: bool) -> World {
    let mut fresh = World::new(world.rules.clone());
    for peer in order.iter().copied().filter(|peer| world.live().contains(peer)) {
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

fn same<T: Debug + PartialEq>(
    peer: usize,
    have: &BTreeMap<Prefix, T>,
    want: &BTreeMap<Prefix, T>,
) -> Result<(), TestCaseError> {
    let missing = want.iter().find(|(prefix, paths)| have.get(prefix) != Some(paths));
    let surplus = have.iter().find(|(prefix, paths)| want.get(prefix) != Some(paths));
    prop_assert!(
        missing.is_none() && surplus.is_none(),
        "peer {peer} knows\n{surplus:#?}\nand should know\n{missing:#?}"
    );
    Ok(())
}

/// Everything is as the oracle says.
fn foretold(world: &World) -> Result<(), TestCaseError> {
    let config = world.rules.config();
    let oracle = world.oracle(&config);
    for (peer, want) in world.live().into_iter().zip(oracle.told()) {
        same(peer, &world.sees(peer), &want)?;
    }
    let want = oracle.table();
    let differs = |prefix: &&IpNetwork| world.table.get(prefix) != want.get(prefix);
    let prefix = world.table.keys().chain(want.keys()).find(differs);
    let both = prefix.map(|prefix| (prefix, world.table.get(prefix), want.get(prefix)));
    prop_assert!(both.is_none(), "prefix, its route, and what it should be: {both:#?}");
    Ok(())
}

fn check(world: &mut World, order: &[usize]) -> Result<(), TestCaseError> {
    world.settle();
    let snapshot = world.speaker.snapshot(world.now);
    prop_assert!(snapshot.routes == world.table, "changes add up");
    foretold(world)?;
    for backwards in [false, true] {
        let fresh = afresh(world, order, backwards);
        prop_assert!(fresh.table == world.table, "the table depends on history");
        for peer in 0..PEERS {
            same(peer, &world.knows(peer), &fresh.knows(peer))?;
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
    let mut world = World::new(Rules::default());
    ops.into_iter().for_each(|op| apply(&mut world, op, universe));
    check(&mut world, order)?;
    leave(&mut world)?;
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn after_any_history(
        begin in 0..32_u8,
        ops in vec(op(64), 1..60),
        order in Just([0, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let up = (0..PEERS).filter(|peer| begin >> peer & 1 != 0).map(Op::Up);
        story(up.chain(ops).collect(), 64, &order)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    /// Few blocks, settings far from their defaults, and only the oracle is asked: more cases of more rules in the same time.
    #[test]
    fn as_foretold(settings in vec(setting(), 0..12), ops in vec(op(8), 1..40)) {
        let up = (0..PEERS).map(Op::Up);
        let mut world = World::new(Rules { cluster: true, ..Rules::default() });
        settings.into_iter().map(Op::Set).chain(up).chain(ops).for_each(|op| apply(&mut world, op, 8));
        world.settle();
        foretold(&world)?;
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
        let mut begin = vec![Op::Up(2), Op::Up(0), Op::Announce(2, 0, LARGE, 0, Look { med: 2, unique: true, ..Look::default() })];
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
    let mut world = World::new(Rules::default());
    world.up(2);
    world.up(0);
    for round in 0..40_u32 {
        let look = Look { path: u8::try_from(round % 4).unwrap(), unique: true, ..Look::default() };
        let first = round * 3000;
        world.announce(2, first..first + 3000, 0, look);
        world.withdraw(2, first..first + 3000, 0);
        let footprint = world.speaker.footprint();
        assert_eq!((footprint.prefixes, footprint.paths), (0, 0));
        assert!(footprint.attribute_sets < 20_000, "{footprint:?} after {round} rounds");
    }
}
