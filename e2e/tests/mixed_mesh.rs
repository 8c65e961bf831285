//! A mesh in which one node runs BIRD, as a node of Calico does: what each side says of the sessions is true, and routes go both ways.
//!
//! ```text
//!   rack a: node1, node2 (ours)      rack b: node3 (ours), bird1 10.2.0.12 (BIRD, AS 64512, one block)
//! ```

use std::path::Path;

use anyhow::{Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::lab::Lab;
use tortie_e2e::netns::Netns;
use tortie_e2e::node::{LAB_DIR, is_learned};
use tortie_e2e::scenario;
use tortie_e2e::speakers::bird::{Bird, protocol};
use tortie_e2e::speakers::{Family, Host, Peer, Setup, Speaker};
use tortie_e2e::topology::NODE_AS;
use tortie_e2e::workload::Wanted;

const ADDRESS: &str = "10.2.0.12";
const BLOCK: &str = "172.169.10.192/26";
const NODE: &str = "apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: bird1}
spec: {bgp: {ipv4Address: 10.2.0.12/24}}
";

/// A host in rack b.
fn host(lab: &Lab) -> Result<Host> {
    let netns = Netns::add("bird1")?;
    let [_, switch] = &lab.topology.switches;
    switch.run("ip link add bird1 type veth peer name eth0 netns bird1").ok()?;
    switch.run("ip link set bird1 master switch up").ok()?;
    netns.run("ip link set eth0 up").ok()?;
    netns.run(&format!("ip address add {ADDRESS}/24 dev eth0")).ok()?;
    netns.run("ip route add default via 10.2.0.1").ok()?;
    let dir = Path::new(LAB_DIR).join("bird1");
    std::fs::create_dir_all(&dir)?;
    Ok(Host { number: 12, netns, dir })
}

/// Its sessions: with every node of ours.
fn setup(lab: &Lab, host: &Host) -> Setup {
    let peer = |node: &tortie_e2e::node::Node| {
        Peer::new(host, host, Family::V4, NODE_AS).with(|peer| {
            peer.address = node.place.address.to_string();
            peer.local = ADDRESS.to_owned();
            peer.restart = Some(120);
            // Racks are routed.
            peer.multihop = true;
        })
    };
    Setup::new(NODE_AS, lab.nodes.iter().map(peer)).originating(&[BLOCK])
}

/// The row of BIRD in the table of a node.
fn row(lab: &Lab, node: usize) -> Result<String> {
    let table = lab.nodes[node].tortiectl("node status")?.ok()?;
    Ok(table.lines().find(|line| line.contains(ADDRESS)).unwrap_or_default().to_owned())
}

fn all_up(lab: &Lab, bird: &Bird) -> Result<()> {
    for node in 0..lab.nodes.len() {
        eventually("our side of the session", seconds(20), || {
            let row = row(lab, node)?;
            let words = ["node-to-node mesh", "| up ", "Established"];
            ensure!(words.iter().all(|word| row.contains(word)), "node {node}: {row:?}");
            Ok(())
        })?;
        let address = lab.nodes[node].place.address.to_string();
        eventually("BIRD's side of the session", seconds(10), || {
            ensure!(bird.is_established(&address)?, "{}", bird.describe(&address)?);
            Ok(())
        })?;
    }
    Ok(())
}

scenario!(
    Lab::up,
    fn bird_is_a_node_among_ours(lab) {
        lab.add_pod(Wanted { name: "web", node: 0, labels: &[] })?;
        let host = host(lab)?;
        let mut bird = Bird::start(&host, &setup(lab, &host))?;
        lab.apply(NODE)?;
        all_up(lab, &bird)?;

        let text = bird.ask(&format!("show protocols all {}", protocol("10.1.0.11")))?;
        let theirs = text.split("Neighbor capabilities").nth(1).unwrap_or_default();
        for claimed in ["AF announced: ipv4", "Route refresh", "Graceful restart", "AF preserved: ipv4", "4-octet AS numbers", "Enhanced refresh"] {
            ensure!(theirs.contains(claimed), "no {claimed} among what BIRD lists of ours: {theirs}");
        }
        for (owner, block) in lab.blocks()? {
            let hop = lab.nodes[owner].place.address.to_string();
            eventually("our block at BIRD", seconds(10), || {
                let learned = bird.learned(Family::V4)?;
                ensure!(learned.contains(&(block.clone(), hop.clone())), "{block} via {hop} is not in {learned:?}");
                Ok(())
            })?;
        }
        // In a rack straight to it, from the other one by the router.
        for (node, hop) in [(0, "10.1.0.1"), (1, "10.1.0.1"), (2, ADDRESS)] {
            eventually("BIRD's block in our kernel", seconds(10), || {
                let route = lab.nodes[node].run(&format!("ip -4 route show exact {BLOCK}")).ok()?;
                let tunnel = lab.ipip && node != 2 && route.contains("tunl0");
                ensure!(is_learned(&route) && (tunnel || route.contains(&format!("via {hop} "))), "{node}: {route:?}");
                Ok(())
            })?;
        }

        bird.kill()?;
        for node in 0..lab.nodes.len() {
            eventually("our side without BIRD", seconds(10), || {
                let row = row(lab, node)?;
                ensure!(row.contains("| start ") && !row.contains("Established"), "node {node}: {row:?}");
                Ok(())
            })?;
        }
        bird.restart()?;
        all_up(lab, &bird)
    }
);
