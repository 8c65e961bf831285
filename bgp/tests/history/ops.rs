//! What a history is made of.

use std::time::Duration;

use proptest::prelude::*;

use crate::look::{Look, look};
use crate::rules::{FILTERS, PEERS, Rules};
use crate::world::World;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Up(usize),
    Down(usize),
    Announce(usize, u32, u32, u32, Look),
    Withdraw(usize, u32, u32, u32),
    Set(Setting),
    Originate(u8),
    Refresh(usize),
    EndOfRib(usize),
    Stall(usize),
    Drain(usize, usize),
    Run(u64),
}

/// A change of the configuration.
#[derive(Clone, Debug)]
pub(crate) enum Setting {
    Export(usize, u8),
    Import(usize, u8),
    Client(usize),
    NextHop(usize, u8),
    OwnAs(usize, u8),
    OtherAs(usize),
    Role(usize, u8),
    Policy(usize),
    Cluster,
}

fn peer() -> impl Strategy<Value = usize> {
    0..PEERS
}

/// Operations on so many blocks.
pub(crate) fn op(universe: u32) -> impl Strategy<Value = Op> {
    let few = 1..=universe.div_ceil(8);
    // Often the same ones, now and then all at once.
    let first = prop_oneof![0..universe, 0..universe.div_ceil(16)];
    let range = (first, prop_oneof![3 => few, 1 => Just(universe)])
        .prop_map(move |(first, count)| (if count == universe { 0 } else { first }, count));
    prop_oneof![
        6 => peer().prop_map(Op::Up),
        2 => peer().prop_map(Op::Down),
        12 => (peer(), range.clone(), 0..3_u32, look())
            .prop_map(|(peer, (first, count), path, look)| Op::Announce(peer, first, count, path, look)),
        4 => (peer(), range, 0..3_u32)
            .prop_map(|(peer, (first, count), path)| Op::Withdraw(peer, first, count, path)),
        6 => setting().prop_map(Op::Set),
        1 => any::<u8>().prop_map(Op::Originate),
        2 => peer().prop_map(Op::Refresh),
        1 => peer().prop_map(Op::EndOfRib),
        3 => peer().prop_map(Op::Stall),
        3 => (peer(), prop_oneof![1..2000_usize, Just(300_000), Just(usize::MAX)])
            .prop_map(|(peer, octets)| Op::Drain(peer, octets)),
        1 => prop_oneof![1..20_u64, Just(130), Just(301)].prop_map(Op::Run),
    ]
}

pub(crate) fn setting() -> impl Strategy<Value = Setting> {
    prop_oneof![
        6 => (peer(), 0..FILTERS).prop_map(|(peer, number)| Setting::Export(peer, number)),
        3 => (peer(), 0..FILTERS).prop_map(|(peer, number)| Setting::Import(peer, number)),
        2 => peer().prop_map(Setting::Client),
        2 => Just(Setting::Cluster),
        2 => (peer(), 0..3_u8).prop_map(|(peer, mode)| Setting::NextHop(peer, mode)),
        1 => (peer(), 0..3_u8).prop_map(|(peer, most)| Setting::OwnAs(peer, most)),
        1 => peer().prop_map(Setting::OtherAs),
        1 => (peer(), 0..6_u8).prop_map(|(peer, role)| Setting::Role(peer, role)),
        1 => peer().prop_map(Setting::Policy),
    ]
}

pub(crate) fn apply(world: &mut World, op: Op, universe: u32) {
    let numbers = |first: u32, count: u32| first..universe.min(first + count);
    match op {
        Op::Up(peer) => world.up(peer),
        Op::Down(peer) => world.down(peer),
        Op::Announce(peer, first, count, path, look) => {
            world.announce(peer, numbers(first, count), path, look)
        }
        Op::Withdraw(peer, first, count, path) => world.withdraw(peer, numbers(first, count), path),
        Op::Set(setting) => set(&mut world.rules, &setting),
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

fn set(rules: &mut Rules, setting: &Setting) {
    match *setting {
        Setting::Export(peer, number) => rules.export[peer] = number,
        Setting::Import(peer, number) => rules.import[peer] = number,
        Setting::Client(peer) => rules.client[peer] ^= true,
        Setting::NextHop(peer, mode) => rules.next_hop[peer] = mode,
        Setting::OwnAs(peer, most) => rules.own_as[peer] = most,
        Setting::OtherAs(peer) => rules.other_as[peer] ^= true,
        Setting::Role(peer, role) => rules.role[peer] = role,
        Setting::Policy(peer) => rules.policy[peer] ^= true,
        Setting::Cluster => rules.cluster ^= true,
    }
}
