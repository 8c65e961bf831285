//! A mesh in which one node runs BIRD, as a node of Calico does: what each side says of the sessions is true, and routes go both ways.
//!
//! ```text
//!   rack a: node1, node2 (ours)      rack b: node3 (ours), member 10.2.0.10 (BIRD, AS 64512, one block)
//! ```

use anyhow::{Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::lab::Lab;
use tortie_e2e::node::is_learned;
use tortie_e2e::scenario;
use tortie_e2e::speakers::bird::{Bird, protocol};
use tortie_e2e::speakers::member::{self, ADDRESS, Member};
use tortie_e2e::speakers::{Family, Speaker};
use tortie_e2e::workload::Wanted;

fn all_up(lab: &Lab, bird: &Bird) -> Result<()> {
    for node in 0..lab.nodes.len() {
        eventually("our side of the session", seconds(20), || {
            let row = member::row(&lab.nodes[node])?;
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
        let place = Member::add(lab)?;
        let mut bird = Bird::start(&place.host, &place.setup(lab))?;
        lab.apply(member::NODE)?;
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
                let route = lab.nodes[node].run(&format!("ip -4 route show exact {}", place.block)).ok()?;
                let tunnel = lab.ipip && node != 2 && route.contains("tunl0");
                ensure!(is_learned(&route) && (tunnel || route.contains(&format!("via {hop} "))), "{node}: {route:?}");
                Ok(())
            })?;
        }

        bird.kill()?;
        for node in 0..lab.nodes.len() {
            eventually("our side without BIRD", seconds(10), || {
                let row = member::row(&lab.nodes[node])?;
                ensure!(row.contains("| start ") && !row.contains("Established"), "node {node}: {row:?}");
                Ok(())
            })?;
        }
        bird.restart()?;
        all_up(lab, &bird)
    }
);
