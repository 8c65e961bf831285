//! Lists of states: whatever order they come in and whatever lies between, a state has one outcome.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use tortie_datastore::syncer::Update;
use tortie_model::{Key, Kind};

use super::world::{World, settings};
use crate::calc::{Calc, Output};

/// A calculation that is led from state to state.
struct Walk {
    calc: Calc,
    world: World,
    last: Option<Output>,
    revision: i64,
    reversed: bool,
}

impl Walk {
    fn new(reversed: bool) -> Walk {
        let mut calc = Calc::new(settings());
        calc.in_sync();
        Walk { calc, world: World::default(), last: None, revision: 0, reversed }
    }

    /// Delivers the difference to `next`, deletes among puts in key order or backwards.
    fn step(&mut self, next: &World) {
        let keys: BTreeSet<&Key> = self.world.0.keys().chain(next.0.keys()).collect();
        let mut changed: Vec<&Key> =
            keys.into_iter().filter(|key| self.world.0.get(key) != next.0.get(key)).collect();
        if self.reversed {
            changed.reverse();
        }
        for key in changed {
            self.revision += 1;
            let value = next.0.get(key).map(|stored| stored.value(key));
            self.calc.apply(Update { key: key.clone(), value, revision: self.revision });
        }
        self.world = next.clone();
    }

    fn check(&mut self, label: &str, index: usize) {
        if let Some(output) = self.calc.flush() {
            self.last = Some(output);
        }
        let outcome = self.last.as_ref().expect("the first flush has an outcome");
        assert_eq!(*outcome, self.world.output(), "{label}, state {index}");
    }
}

/// Walks the states forwards and backwards, keys both ways, with nothing, everything or no flush in between.
fn expand(states: &[World]) {
    let backwards: Vec<World> = states.iter().rev().cloned().collect();
    for (label, list) in [("forwards", states), ("backwards", &backwards)] {
        for reversed in [false, true] {
            let mut plain = Walk::new(reversed);
            let mut emptied = Walk::new(reversed);
            let mut squashed = Walk::new(reversed);
            for (index, state) in list.iter().enumerate() {
                plain.step(state);
                plain.check(label, index);
                plain.step(state);
                plain.check("repeated", index);
                emptied.step(state);
                emptied.check("after nothing", index);
                emptied.step(&World::default());
                emptied.check("emptied", index);
                squashed.step(state);
            }
            squashed.check("squashed", list.len());
        }
    }
}

fn base() -> World {
    World::nodes(3).pool("p", "10.64.0.0/16", json!({"ipipMode": "CrossSubnet", "natOutgoing": true})).with(
        Kind::Tier,
        "default",
        json!({"order": 1_000_000.0}),
    )
}

fn pod(world: World, name: &str, interface: &str, address: &str) -> World {
    world.endpoint(&format!("default/{name}"), "n1", interface, &[address])
}

#[test]
fn a_node_fills_up_and_empties() {
    let block = base().confirmed("n1", "10.64.0.0/26");
    let one = pod(block.clone(), "a", "cali1", "10.64.0.1/32");
    let two = pod(one.clone(), "b", "cali2", "10.64.0.2/32");
    let contested = pod(two.clone(), "aa", "cali2", "10.64.0.1/32");
    let borrowed = pod(two.clone(), "c", "cali3", "10.64.9.1/32");
    let moved = pod(block.clone(), "b", "cali1", "10.64.0.1/32");
    expand(&[base(), block, one, two, contested, borrowed, moved]);
}

#[test]
fn referrers_outlive_what_they_refer_to() {
    let policy = |world: World| {
        world.with(Kind::NetworkPolicy, "default/p", json!({"tier": "t", "selector": "a == 'b'"}))
    };
    let spec = json!({"orchestrator": "cni", "node": "n1", "endpoint": "eth0", "interfaceName": "cali1",
                      "ipNetworks": ["10.64.0.1/32"], "profiles": ["prof"]});
    let endpoint = |world: World| world.with(Kind::WorkloadEndpoint, "default/a", spec.clone());
    let profile = |world: World| world.with(Kind::Profile, "prof", json!({"ingress": [{"action": "Allow"}]}));
    let tier = |world: World| world.with(Kind::Tier, "t", json!({"order": 1.0}));
    expand(&[
        tier(profile(policy(endpoint(base())))),
        profile(policy(endpoint(base()))),
        policy(endpoint(base())),
        policy(endpoint(base())).unreadable(Kind::Profile, "prof"),
        policy(endpoint(base())).unreadable(Kind::NetworkPolicy, "default/p"),
        policy(endpoint(base())).unreadable(Kind::Tier, "t"),
        endpoint(World::nodes(1)),
        endpoint(World::default()),
        policy(base()),
    ]);
}

#[test]
fn policies_come_and_go_and_dispute_names() {
    let deny = |order: f64| json!({"order": order, "selector": "all()", "ingress": [{"action": "Deny"}]});
    let global =
        |world: World, name: &str, order: f64| world.with(Kind::GlobalNetworkPolicy, name, deny(order));
    let renamed = |world: World, name: &str, shown: &str, order: f64| {
        let annotation = json!({"name": shown}).to_string();
        let metadata = json!({"annotations": {"projectcalico.org/metadata": annotation}});
        world.document(Kind::GlobalNetworkPolicy, name, metadata, deny(order))
    };
    let one = || pod(base(), "a", "cali1", "10.64.0.1/32");
    let plain = || global(one(), "default.foo", 1.0);
    let two = || global(plain(), "foo", 2.0);
    let three = || renamed(two(), "bar", "default.foo", 3.0);
    expand(&[
        one(),
        plain(),
        two(),
        three(),
        renamed(three(), "baz", "bar", 4.0),
        renamed(plain(), "bar", "default.foo", 3.0),
        global(one(), "foo", 5.0),
        two().unreadable(Kind::GlobalNetworkPolicy, "foo"),
        one()
            .unreadable(Kind::NetworkPolicy, "default/default.p")
            .unreadable(Kind::NetworkPolicy, "default/p"),
    ]);
}

#[test]
fn peers_hosts_and_staged_policies_come_and_go() {
    let spec = json!({"ingress": [{"action": "Allow", "source": {"selector": "role == 'peer'"}}]});
    let policy = |world: World| world.with(Kind::GlobalNetworkPolicy, "default.p", spec.clone());
    let peer = json!({"labels": {"role": "peer"}});
    let set = |world: World, nets: &[&str]| {
        world.document(Kind::GlobalNetworkSet, "s", peer.clone(), json!({"nets": nets}))
    };
    let remote = |world: World, node: &str| {
        let spec = json!({"orchestrator": "cni", "node": node, "endpoint": "eth0", "containerID": "c0",
                          "interfaceName": "cali9", "ipNetworks": ["10.64.7.1/32"]});
        world.document(Kind::WorkloadEndpoint, "default/far", peer.clone(), spec)
    };
    let host = |world: World, interface: &str| {
        let spec = json!({"node": "n1", "interfaceName": interface, "expectedIPs": ["10.64.7.1"]});
        world.document(Kind::HostEndpoint, "h", peer.clone(), spec)
    };
    let staged = |world: World, action: &str| {
        let mut staged = spec.clone();
        staged["stagedAction"] = json!(action);
        world.with(Kind::StagedGlobalNetworkPolicy, "default.q", staged)
    };
    let start = || policy(pod(base(), "a", "cali1", "10.64.0.1/32"));
    expand(&[
        start(),
        set(start(), &["10.64.7.1", "192.0.2.0/24"]),
        remote(set(start(), &["10.64.7.1"]), "n2"),
        // It moves here, and away again.
        remote(start(), "n1"),
        remote(start(), "n3"),
        set(start(), &["0.0.0.0/0", "x"]),
        host(start(), "eth0"),
        host(remote(start(), "n2"), "*"),
        staged(host(start(), "eth0"), "Set"),
        staged(start(), "Ignore"),
        set(start(), &[]).with(Kind::FelixConfiguration, "default", json!({"vxlanPort": 4790})),
    ]);
}

#[test]
fn peerings_come_and_go_with_nodes_and_configuration() {
    let tor = json!({"peerIP": "10.0.0.2", "asNumber": 64512});
    let reflector = json!({"bgp": {"ipv4Address": "10.0.0.1/24", "routeReflectorClusterID": "1.1.1.1"}});
    let selected = json!({"nodeSelector": "has(rr)", "peerSelector": "!has(rr)"});
    expand(&[
        base(),
        base().with(Kind::BgpConfiguration, "default", json!({"nodeToNodeMeshEnabled": false})),
        base().with(Kind::BgpPeer, "p", tor.clone()),
        World::nodes(1).with(Kind::BgpPeer, "p", tor),
        base().with(Kind::Node, "n1", reflector).with(Kind::BgpPeer, "p", selected.clone()),
        base().with(Kind::BgpPeer, "p", selected).unreadable(Kind::Node, "n2"),
        base().with(Kind::Node, "n1", json!({})),
        base().unreadable(Kind::BgpPeer, "p").unreadable(Kind::BgpConfiguration, "default"),
        base().unreadable(Kind::IpPool, "p"),
    ]);
}

#[test]
fn filters_and_services_come_and_go() {
    let tor = json!({"peerIP": "10.0.0.254", "asNumber": 65100, "filters": ["f"]});
    let filter = json!({"exportV4": [{"action": "Reject", "source": "RemotePeers"}]});
    let config =
        json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}], "localWorkloadPeeringIPV4": "169.254.1.1"});
    let local = json!({"localWorkloadSelector": "all()", "asNumber": 65200});
    let with_tor = || base().with(Kind::BgpPeer, "tor", tor.clone());
    let speaking = || pod(with_tor().with(Kind::BgpPeer, "w", local.clone()), "a", "cali1", "10.64.0.1/32");
    expand(&[
        base(),
        with_tor(),
        with_tor().with(Kind::BgpFilter, "f", filter.clone()),
        with_tor().unreadable(Kind::BgpFilter, "f"),
        base().with(Kind::BgpFilter, "f", filter),
        with_tor().with(Kind::BgpConfiguration, "default", config.clone()),
        speaking(),
        speaking().with(Kind::BgpConfiguration, "default", config),
        speaking().confirmed("n1", "10.64.0.0/26"),
    ]);
}

#[test]
fn equal_rules_stay_the_same_allocation() {
    let mut walk = Walk::new(false);
    walk.step(&pod(base(), "a", "cali1", "10.64.0.1/32"));
    let before = walk.calc.flush().unwrap().desired;
    walk.step(&pod(base(), "a", "cali1", "10.64.0.1/32").confirmed("n1", "10.64.0.0/26"));
    let after = walk.calc.flush().unwrap().desired;
    assert_ne!(before.routes, after.routes);
    assert!(Arc::ptr_eq(&before.ruleset, &after.ruleset));
}
