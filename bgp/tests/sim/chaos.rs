//! Random failures in a mesh; whatever happened, it is whole again when the failures end.

use proptest::prelude::*;

use super::SECOND;
use super::network::Network;

const NODES: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Kill(usize),
    Crash(usize),
    Start(usize, bool),
    Cut(usize, usize),
    Heal,
    Originate(usize, Vec<u8>),
    Run(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 0..NODES;
    prop_oneof![
        node().prop_map(Op::Kill),
        node().prop_map(Op::Crash),
        (node(), any::<bool>()).prop_map(|(node, restarted)| Op::Start(node, restarted)),
        (node(), node()).prop_map(|(a, b)| Op::Cut(a, b)),
        Just(Op::Heal),
        (node(), prop::collection::vec(0..4_u8, 0..4)).prop_map(|(node, blocks)| Op::Originate(node, blocks)),
        prop_oneof![1..2000_u32, 1000..300_000_u32].prop_map(Op::Run),
    ]
}

fn apply(network: &mut Network, op: Op) {
    match op {
        Op::Kill(node) => network.kill(node),
        Op::Crash(node) => network.crash(node),
        Op::Start(node, restarted) => {
            if network.nodes[node].speaker.is_none() {
                network.start(node, restarted);
            }
        }
        Op::Cut(a, b) => network.cut(a, b),
        Op::Heal => network.heal(),
        Op::Originate(node, blocks) => {
            let blocks: Vec<String> =
                blocks.iter().map(|block| format!("172.16.{node}.{}/26", block * 64)).collect();
            network.originate(node, &blocks.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Op::Run(millis) => network.run(std::time::Duration::from_millis(millis.into())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn a_mesh_heals(ops in prop::collection::vec(op(), 1..25), order in 0..3_usize) {
        let passive = [|a: usize, b: usize| a < b, |a: usize, b: usize| a > b, |_: usize, _: usize| false][order];
        let mut network = Network::mesh(NODES, passive);
        for op in ops {
            apply(&mut network, op);
        }
        network.heal();
        for node in 0..NODES {
            if network.nodes[node].speaker.is_none() {
                network.start(node, true);
            }
        }
        network.run(SECOND * 700);
        for own in 0..NODES {
            prop_assert_eq!(network.established(own), NODES - 1, "{:#?}", network.snapshot(own));
            prop_assert!(network.nodes[own].converged);
            let mut expected: Vec<String> = (0..NODES)
                .filter(|other| *other != own)
                .flat_map(|other| network.nodes[other].originated.keys().map(ToString::to_string).collect::<Vec<_>>())
                .collect();
            expected.sort();
            let mut seen = network.prefixes(own);
            seen.sort();
            prop_assert_eq!(seen, expected, "at {}", own);
        }
    }
}
