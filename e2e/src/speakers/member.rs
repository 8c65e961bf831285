//! A node of the lab's mesh that runs another make, as a cluster has them that is moved node by node.
//!
//! ```text
//!   rack b: node3 10.2.0.11      member 10.2.0.10 ── workload, in the member's block
//! ```

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Family, Host, Peer, Setup};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::node::{LAB_DIR, Node};
use crate::topology::NODE_AS;

/// Its name, also of its Node.
pub const NAME: &str = "member";
/// Its address.
pub const ADDRESS: &str = "10.2.0.10";
/// The document that makes it one of the mesh.
pub const NODE: &str = "apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: member}
spec: {bgp: {ipv4Address: 10.2.0.10/24}}
";

/// Where it runs.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its namespace. It knows the way to rack a and no other: what it forwards to pods it has learned.
    pub host: Host,
    /// Its block: one of the pool that no node has.
    pub block: String,
}

impl Member {
    /// Puts it into rack b.
    ///
    /// # Errors
    /// When a command fails, or the nodes have the whole pool.
    pub fn add(lab: &Lab) -> Result<Member> {
        let taken = lab.blocks()?;
        let mut blocks = [0, 64, 128, 192].map(|base| format!("172.169.10.{base}/26")).into_iter();
        let block =
            blocks.rfind(|block| taken.iter().all(|(_, other)| other != block)).context("no free block")?;
        let netns = Netns::add(NAME)?;
        let [_, switch] = &lab.topology.switches;
        switch.run(&format!("ip link add {NAME} type veth peer name eth0 netns {NAME}")).ok()?;
        switch.run(&format!("ip link set {NAME} master switch up")).ok()?;
        netns.run("ip link set eth0 up").ok()?;
        netns.run(&format!("ip address add {ADDRESS}/24 dev eth0")).ok()?;
        netns.run("ip route add 10.1.0.0/24 via 10.2.0.1").ok()?;
        netns.run("sysctl -q -w net.ipv4.ip_forward=1").ok()?;
        let dir = Path::new(LAB_DIR).join(NAME);
        std::fs::create_dir_all(&dir)?;
        Ok(Member { host: Host { number: 10, netns, dir }, block })
    }

    /// A workload of it.
    ///
    /// # Errors
    /// When a command fails.
    pub fn workload(&self) -> Result<(Netns, Ipv4Addr)> {
        let base: Ipv4Addr = self.block.trim_end_matches("/26").parse()?;
        let [gateway, address] = [1, 2].map(|offset| Ipv4Addr::from(u32::from(base) + offset));
        let workload = Netns::add("workload")?;
        self.host.netns.run("ip link add workload type veth peer name eth0 netns workload").ok()?;
        self.host.netns.run("ip link set workload up").ok()?;
        self.host.netns.run(&format!("ip address add {gateway}/26 dev workload")).ok()?;
        workload.run("ip link set eth0 up").ok()?;
        workload.run(&format!("ip address add {address}/26 dev eth0")).ok()?;
        workload.run(&format!("ip route add default via {gateway}")).ok()?;
        Ok((workload, address))
    }

    /// What it is to be: in session with every node of ours.
    pub fn setup(&self, lab: &Lab) -> Setup {
        let peer = |node: &Node| {
            Peer::new(&self.host, &self.host, Family::V4, NODE_AS).with(|peer| {
                peer.address = node.place.address.to_string();
                peer.local = ADDRESS.to_owned();
                peer.restart = Some(120);
                // Racks are routed.
                peer.multihop = true;
            })
        };
        Setup::new(NODE_AS, lab.nodes.iter().map(peer)).originating(&[&self.block])
    }
}

/// Its row in `node status` of a node.
///
/// # Errors
/// When the node does not answer.
pub fn row(node: &Node) -> Result<String> {
    let table = node.tortiectl("node status")?.ok()?;
    Ok(table.lines().find(|line| line.contains(ADDRESS)).unwrap_or_default().to_owned())
}
