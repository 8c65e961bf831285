//! All of the lab together: racks, router with BIRD, datastore, nodes, pods, and the questions both the demo and the
//! tests ask.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::bird::{Bird, Fabric};
use crate::eventually::{eventually, seconds};
use crate::node::{LAB_DIR, Node};
use crate::process::{Daemon, Run, bin_dir};
use crate::topology::{PLACES, ROUTER_AS, Topology, kernel_has_ipip};
use crate::workload::{Pod, Wanted};

/// Where the datastore listens: in the router's namespace, which every node reaches.
pub const ENDPOINT: &str = "http://10.1.0.1:2379";
/// The pool, in the old v1 form.
pub const POOL_V1: &str = include_str!("../../manifests/examples/pool-v1.yaml");
/// The pool's CIDR.
pub const POOL: &str = "172.169.10.0/24";
/// The name the pool gets.
pub const POOL_NAME: &str = "172-169-10-0-24";

/// The lab. Everything in it ends with the sandbox.
#[derive(Debug)]
pub struct Lab {
    /// The namespaces.
    pub topology: Topology,
    /// The router's BIRD.
    pub bird: Bird,
    /// The nodes, as in [`PLACES`].
    pub nodes: Vec<Node>,
    /// The pods, in the order they were made.
    pub pods: Vec<Pod>,
    /// Whether the kernel has IPIP.
    pub ipip: bool,
    store: Daemon,
    dir: PathBuf,
}

impl Lab {
    /// Racks, router and datastore; no agent runs yet. With IPIP in the kernel the router refuses the pool's routes,
    /// since traffic between racks must not need them.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn build() -> Result<Lab> {
        let ipip = kernel_has_ipip()?;
        Lab::with_fabric(ipip, if ipip { Fabric::KnowsNoPools } else { Fabric::RoutesPools })
    }

    /// The same with a fabric of choice.
    ///
    /// # Errors
    /// As [`Lab::build`].
    pub fn with_fabric(ipip: bool, fabric: Fabric) -> Result<Lab> {
        let dir = PathBuf::from(LAB_DIR);
        let router_dir = dir.join("router");
        fs::create_dir_all(&router_dir).with_context(|| format!("cannot make {}", router_dir.display()))?;
        let topology = Topology::build()?;
        let bird = Bird::start(&topology.router, &router_dir, fabric)?;
        let nodes = PLACES
            .iter()
            .zip(&topology.nodes)
            .map(|(place, netns)| Node::new(*place, netns.clone(), ENDPOINT))
            .collect::<Result<_>>()?;
        let store = start_store(&topology, &router_dir)?;
        Ok(Lab { topology, bird, nodes, pods: Vec::new(), ipip, store, dir })
    }

    /// Racks, datastore, pool, peers and agents, with every session established.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn up() -> Result<Lab> {
        let mut lab = Lab::build()?;
        lab.configure_and_start()?;
        Ok(lab)
    }

    /// Applies the pool and the peers, starts all agents and waits for their sessions.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn configure_and_start(&mut self) -> Result<()> {
        self.apply(POOL_V1)?;
        if !self.ipip {
            self.apply(&pool_without_ipip())?;
        }
        self.apply(&peers())?;
        for node in &mut self.nodes {
            node.start()?;
        }
        for node in &mut self.nodes {
            node.wait_ready()?;
        }
        self.wait_established()
    }

    /// `tortiectl apply -f -` on the first node.
    ///
    /// # Errors
    /// When tortiectl refuses.
    pub fn apply(&self, documents: &str) -> Result<String> {
        self.nodes[0].tortiectl("apply -f -")?.stdin(documents).ok()
    }

    /// Writes a document where people inside the lab find it and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_document(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Makes a pod through CNI.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn add_pod(&mut self, wanted: Wanted<'_>) -> Result<Pod> {
        let pod = Pod::create(&self.nodes[wanted.node], wanted)
            .with_context(|| format!("pod {} on {}", wanted.name, PLACES[wanted.node].node))?;
        self.pods.push(pod.clone());
        Ok(pod)
    }

    /// Removes a pod through CNI.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let index =
            self.pods.iter().position(|pod| pod.name == name).with_context(|| format!("no pod {name}"))?;
        let pod = self.pods.remove(index);
        pod.remove(&self.nodes[pod.node])
    }

    /// Waits until every node has a session with both others and its router.
    ///
    /// # Errors
    /// Past the deadline, with the table of the node that has not.
    pub fn wait_established(&self) -> Result<()> {
        for node in &self.nodes {
            let status = node.tortiectl("node status")?;
            eventually(&format!("all sessions of {} established", node.name()), seconds(20), || {
                all_established(&status.ok()?)
            })?;
        }
        Ok(())
    }

    /// Waits until every node of `to` has a route to each block of the other nodes.
    ///
    /// # Errors
    /// Past the deadline.
    pub fn wait_routes(&self) -> Result<()> {
        let blocks = self.blocks()?;
        for (index, node) in self.nodes.iter().enumerate() {
            for (owner, block) in blocks.iter().filter(|(owner, _)| *owner != index) {
                let what =
                    format!("{} having a route to {block} of {}", node.name(), self.nodes[*owner].name());
                eventually(&what, seconds(15), || {
                    let route = node.run(&format!("ip -4 route show exact {block}")).ok()?;
                    ensure!(route.contains("via"), "{:?}", route.trim());
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Index of the node and CIDR of each confirmed IPv4 block of the pool, as the store says.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn blocks(&self) -> Result<Vec<(usize, String)>> {
        let mut blocks = Vec::new();
        for (key, value) in self.etcd_values("/calico/ipam/v2/assignment/ipv4/block/")? {
            let affinity = value["affinity"].as_str().unwrap_or_default();
            let owner = self.nodes.iter().position(|node| affinity == format!("host:{}", node.name()));
            let cidr = value["cidr"].as_str().with_context(|| format!("{key} has no cidr"))?;
            blocks.extend(owner.map(|owner| (owner, cidr.to_owned())));
        }
        Ok(blocks)
    }

    /// Addresses of the pool that are given to workloads, with their handles, as the store says.
    ///
    /// # Errors
    /// When the store does not answer or holds something else than blocks.
    pub fn allocations(&self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for (key, block) in self.etcd_values("/calico/ipam/v2/assignment/ipv4/block/")? {
            let cidr = block["cidr"].as_str().unwrap_or_default();
            let base: std::net::Ipv4Addr = cidr
                .split('/')
                .next()
                .unwrap_or_default()
                .parse()
                .with_context(|| format!("{key}: cidr {cidr:?}"))?;
            let given =
                block["allocations"].as_array().with_context(|| format!("{key} has no allocations"))?;
            for (ordinal, attribute) in given.iter().enumerate().filter_map(|(o, a)| Some((o, a.as_u64()?))) {
                let attribute = usize::try_from(attribute)?;
                let handle = block["attributes"][attribute]["handle_id"].as_str().unwrap_or_default();
                let address = std::net::Ipv4Addr::from(u32::from(base) + u32::try_from(ordinal)?);
                // Nodes have addresses of their own, for their tunnel devices.
                if !handle.contains("tunnel-addr") {
                    all.push((address.to_string(), handle.to_owned()));
                }
            }
        }
        Ok(all)
    }

    /// `etcdctl`, against the lab's datastore.
    pub fn etcdctl(&self, line: &str) -> Run {
        self.topology
            .router
            .run(&format!("etcdctl {line}"))
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", ENDPOINT)
    }

    /// Keys and JSON values below a prefix, through etcdctl.
    ///
    /// # Errors
    /// When a value is not JSON.
    pub fn etcd_values(&self, prefix: &str) -> Result<Vec<(String, Value)>> {
        let text = self.etcdctl(&format!("get --prefix {prefix}")).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        let mut values = Vec::new();
        for pair in lines.chunks(2) {
            let [key, value] = pair else { bail!("etcdctl printed a key without a value: {pair:?}") };
            let value = serde_json::from_str(value).with_context(|| format!("{key} holds {value:?}"))?;
            values.push(((*key).to_owned(), value));
        }
        Ok(values)
    }

    /// The datastore's log.
    pub fn store_log(&self) -> String {
        self.store.output()
    }
}

/// Starts the datastore and waits until etcd's own client can talk to it.
fn start_store(topology: &Topology, dir: &Path) -> Result<Daemon> {
    let line = format!(
        "{} datastore serve --insecure --listen 10.1.0.1:2379",
        bin_dir()?.join("tortiectl").display()
    );
    let run = topology.router.run(&line).arg("--data-dir").arg(dir.join("store").display().to_string());
    let mut store = Daemon::start(&run, &dir.join("store.log"))?;
    let health = topology
        .router
        .run("etcdctl endpoint health")
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", ENDPOINT);
    eventually("the datastore answering etcdctl", seconds(10), || {
        store.still_runs()?;
        health.ok()
    })?;
    Ok(store)
}

/// Checks the table of `tortiectl node status`: two nodes of the mesh and the router.
///
/// # Errors
/// When a session is missing or not established.
pub fn all_established(status: &str) -> Result<()> {
    let rows: Vec<&str> =
        status.lines().filter(|line| line.starts_with("| ") && !line.contains("PEER ADDRESS")).collect();
    let up = |row: &&&str| row.contains("| up ") && row.contains("Established");
    let count = |kind: &str| rows.iter().filter(up).filter(|row| row.contains(kind)).count();
    let (mesh, router) = (count("node-to-node mesh"), count("node specific"));
    ensure!(
        rows.len() == 3 && mesh == 2 && router == 1,
        "{mesh} of 2 mesh and {router} of 1 router sessions:\n{status}"
    );
    Ok(())
}

/// The pool for a kernel without IPIP: the router carries traffic between racks.
pub fn pool_without_ipip() -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: {POOL_NAME}\nspec:\n  cidr: {POOL}\n  \
         ipipMode: Never\n  natOutgoing: true\n"
    )
}

/// A BGPPeer per node: the router's address in its rack.
pub fn peers() -> String {
    let document = |place: &crate::topology::Place| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata:\n  name: {node}-router\nspec:\n  node: {node}\n  \
             peerIP: {gateway}\n  asNumber: {ROUTER_AS}\n",
            node = place.node,
            gateway = place.rack.gateway
        )
    };
    PLACES.iter().map(document).collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_a_session_down_is_no_success() {
        let row = |kind: &str, state: &str| {
            format!("| 10.1.0.12    | {kind} | {state} | 10:00:00 | Established |\n")
        };
        let up = row("node-to-node mesh", "up   ");
        let router = row("node specific    ", "up   ");
        assert!(all_established(&format!("{up}{up}{router}")).is_ok());
        assert!(all_established(&format!("{up}{router}")).is_err());
        let down = row("node-to-node mesh", "start").replace("Established", "Connect");
        assert!(all_established(&format!("{up}{down}{router}")).is_err());
    }
}
