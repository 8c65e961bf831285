//! A change touches what depends on it and nothing else.

use std::sync::Arc;
use std::time::Instant;

use tortie_bgp::PeerId;
use tortie_datastore::syncer::Update;
use tortie_model::Key;

use super::super::world::Stored;
use super::*;

const PEERS: u32 = 1000;

/// A mesh of 1001, and a router for every node.
fn large() -> World {
    let node = |world: World, i: u32| {
        let [_, _, high, low] = (i + 1).to_be_bytes();
        world.node(&format!("n{}", i + 1), &format!("10.1.{high}.{low}/16"))
    };
    let world = (0..=PEERS).fold(World::default(), node).pool("p", "10.64.0.0/16", json!({}));
    let router = json!({"peerIP": "10.2.0.1", "asNumber": 65100, "filters": ["f"]});
    let other = json!({"peerIP": "10.2.0.2", "asNumber": 65100});
    world
        .with(Kind::BgpPeer, "a", router)
        .with(Kind::BgpPeer, "b", other)
        .with(Kind::BgpFilter, "f", json!({"importV4": [{"action": "Reject"}]}))
        .confirmed("n1", "10.64.0.0/26")
}

struct Walk {
    calc: Calc,
    world: World,
    revision: i64,
    config: Arc<SpeakerConfig>,
}

impl Walk {
    fn new(world: World) -> Walk {
        let mut calc = calc_of(&world);
        let config = calc.flush().unwrap().bgp.config.clone().unwrap();
        Walk { calc, world, revision: 1, config }
    }

    /// Goes on to another world; returns the names of the peers that are different there.
    fn step(&mut self, next: World) -> Vec<String> {
        let keys: Vec<Key> = self.world.0.keys().chain(next.0.keys()).cloned().collect();
        for key in keys.into_iter().filter(|key| self.world.0.get(key) != next.0.get(key)) {
            self.revision += 1;
            let value = next.0.get(&key).map(|stored: &Stored| stored.value(&key));
            self.calc.apply(Update { key, value, revision: self.revision });
        }
        let config = self.calc.flush().unwrap().bgp.config.clone().unwrap();
        let before = std::mem::replace(&mut self.config, config);
        self.world = next;
        let ids: std::collections::BTreeSet<&PeerId> =
            before.peers.keys().chain(self.config.peers.keys()).collect();
        let changed = ids.into_iter().filter(|id| before.peers.get(id) != self.config.peers.get(id));
        let name = |id: &PeerId| self.config.peers.get(id).or(before.peers.get(id)).unwrap().name.clone();
        changed.map(name).collect()
    }
}

#[test]
fn a_change_of_one_peer_or_filter_alters_its_peers_alone() {
    let mut walk = Walk::new(large());
    assert_eq!(walk.config.peers.len(), 1002);
    let filter = json!({"importV4": [{"action": "Accept"}]});
    let world = large().with(Kind::BgpFilter, "f", filter);
    assert_eq!(walk.step(world.clone()), ["Global_10_2_0_1"]);
    let slower = json!({"peerIP": "10.2.0.2", "asNumber": 65100, "keepaliveTime": "7s"});
    let world = world.with(Kind::BgpPeer, "b", slower);
    assert_eq!(walk.step(world.clone()), ["Global_10_2_0_2"]);
    let world = world.without(&Key::resource(Kind::BgpPeer, None, "a"));
    assert_eq!(walk.step(world.clone()), ["Global_10_2_0_1"]);
    assert_eq!(walk.step(world.node("n500", "10.3.0.1/16")), ["Mesh_10_1_1_244", "Mesh_10_3_0_1"]);
}

#[test]
fn filters_are_shared_and_stay_the_same_allocation() {
    let mut walk = Walk::new(large());
    let mesh =
        |walk: &Walk| walk.config.peers.values().filter(|p| p.name.starts_with("Mesh")).cloned().collect();
    let before: Vec<PeerConfig> = mesh(&walk);
    assert!(before.iter().all(|peer| peer.export.is_same(&before[0].export)));
    walk.step(large().with(Kind::BgpFilter, "f", json!({"importV4": [{"action": "Accept"}]})));
    let after: Vec<PeerConfig> = mesh(&walk);
    assert!(after.iter().all(|peer| peer.export.is_same(&before[0].export)));
}

#[test]
fn workloads_do_not_touch_sessions() {
    let mut walk = Walk::new(large());
    let before = Arc::clone(&walk.config);
    let calculations = walk.calc.bgp.calculations;
    let world = large().endpoint("default/a", "n1", "cali1", &["10.64.0.1/32"]);
    let world = world.endpoint("default/b", "n2", "cali2", &["10.64.1.1/32"]);
    assert_eq!(walk.step(world.clone()), [""; 0]);
    assert!(Arc::ptr_eq(&before, &walk.config));
    assert_eq!(walk.calc.bgp.calculations, calculations);
    // With a BGPPeer for local workloads they do, those of this node.
    let selector = json!({"localWorkloadSelector": "all()", "asNumber": 65200});
    let world = world.with(Kind::BgpPeer, "w", selector);
    assert_eq!(walk.step(world.clone()), ["Local_Workload_10_64_0_1"]);
    let calculations = walk.calc.bgp.calculations;
    let world = world.endpoint("default/c", "n2", "cali3", &["10.64.1.2/32"]);
    assert_eq!(walk.step(world), [""; 0]);
    assert_eq!(walk.calc.bgp.calculations, calculations);
}

#[test]
fn what_comes_to_the_same_is_the_same_allocation() {
    let mut walk = Walk::new(large());
    let before = Arc::clone(&walk.config);
    let calculations = walk.calc.bgp.calculations;
    walk.step(large().with(Kind::BgpFilter, "unused", json!({})));
    assert_eq!(walk.calc.bgp.calculations, calculations + 1);
    assert!(Arc::ptr_eq(&before, &walk.config));
}

#[test]
fn a_thousand_peers_are_calculated_quickly() {
    let mut walk = Walk::new(large());
    let begin = Instant::now();
    for number in 0..10 {
        let filter = json!({"importV4": [{"action": "Reject", "priority": number + 1}]});
        assert_eq!(walk.step(large().with(Kind::BgpFilter, "f", filter)).len(), 1);
    }
    // 10 calculations without optimization, and the making of ten worlds: quadratic effort would take minutes.
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}
