//! Steps that look: the kernel of a node and of a pod, the router's table, the keys in the store.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::eventually::{eventually, seconds};
use crate::lab::{Lab, POOL};
use crate::node::{is_learned, is_own};
use crate::report::Report;

/// `ip route`, `ip neigh` and `proxy_arp` on the node and inside the pod.
///
/// # Errors
/// When a command cannot be run.
pub fn kernel(lab: &Lab, report: &mut Report) -> Result<()> {
    report.step("What the kernel holds");
    let (node, pod) = (&lab.nodes[0], &lab.pods[0]);
    let (host, address) = (&pod.host_interface, pod.address);
    let blocks = lab.blocks()?;

    let routes = report.show("node1", &node.run("ip -4 route"))?.stdout;
    let has =
        |start: &str, right: &dyn Fn(&str) -> bool| routes.lines().any(|l| l.starts_with(start) && right(l));
    report.check(
        format!("{} is a /32 route to its own interface, scope link", pod.name),
        has(&format!("{address} dev {host} "), &|line| is_own(line) && line.contains("scope link")),
    );
    for (owner, block) in &blocks {
        match owner {
            0 => report.check(
                format!("the node's own block {block} is a blackhole"),
                has(&format!("blackhole {block} "), &is_own),
            ),
            owner => {
                let owner = &lab.nodes[*owner];
                let via = format!("{block} via {} ", next_hop(lab, 0, owner.place.address));
                report.check(
                    format!("the block {block} of {} was learned by BGP (protocol 81)", owner.name()),
                    has(&via, &is_learned),
                );
            }
        }
    }
    let neighbours = report.show("node1", &node.run(&format!("ip neigh show dev {host}")))?.stdout;
    let permanent =
        neighbours.lines().any(|l| l.starts_with(&format!("{address} ")) && l.contains("PERMANENT"));
    report.check(
        "the pod's MAC is a permanent neighbour on the node",
        permanent && neighbours.contains(&pod.mac),
    );
    let proxy_arp =
        report.show("node1", &node.run(&format!("cat /proc/sys/net/ipv4/conf/{host}/proxy_arp")))?;
    report.check("its interface answers ARP for everything", proxy_arp.stdout.trim() == "1");

    let routes = report.show(&pod.name, &pod.netns.run("ip -4 route"))?.stdout;
    report.check("the pod has exactly two routes: all through 169.254.1.1", pod_routes_are_exact(&routes));
    let addresses = report.show(&pod.name, &pod.netns.run("ip -4 -o address show dev eth0"))?.stdout;
    report.check("its address is a /32", addresses.contains(&format!("inet {address}/32 ")));
    pod.ping(lab.pods[1].address, 1).output()?;
    let neighbours = report.show(&pod.name, &pod.netns.run("ip neigh"))?.stdout;
    let gateway = neighbours.lines().find(|line| line.starts_with("169.254.1.1 ")).unwrap_or_default();
    report.check("169.254.1.1 is at the MAC of the node's side of the veth", gateway.contains(&pod.host_mac));
    Ok(())
}

/// Where a node sends packets for another node: straight to it, or to its router when only the router can reach it.
fn next_hop(lab: &Lab, from: usize, to: std::net::Ipv4Addr) -> std::net::Ipv4Addr {
    let from = &lab.nodes[from].place;
    let same_rack = from.address.octets()[..3] == to.octets()[..3];
    if same_rack || lab.ipip { to } else { from.rack.gateway }
}

/// The two routes a pod has, and no third.
pub fn pod_routes_are_exact(routes: &str) -> bool {
    let lines: Vec<&str> = routes.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines == ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"]
}

/// BIRD's table on the router.
///
/// # Errors
/// When BIRD does not answer.
pub fn router(lab: &Lab, report: &mut Report) -> Result<()> {
    report.step("What the router's BIRD learned");
    let expected = lab.blocks()?;
    if lab.ipip {
        report.show_output("router", &lab.bird.ask("show protocols")?);
        report.show_output("router", &lab.bird.ask("show route")?);
        report.check("it refuses the pool's routes, as told", lab.bird.paths(POOL)?.is_empty());
        let routes = report.show("router", &lab.topology.router.run("ip -4 route"))?.stdout;
        report.check("its kernel knows nothing of the pool", !routes.contains("172.169."));
        return Ok(());
    }
    let right = eventually("BIRD having each block from its owner", seconds(10), || {
        blocks_are_announced_once(lab, &expected)
    });
    report.show_output("router", &lab.bird.ask("show route")?);
    report.check_result(
        "each node's block is there, once per path, best from its owner; no /32 of own blocks",
        right,
    );
    report.show("router", &lab.topology.router.run("ip -4 route"))?;
    Ok(())
}

/// Whether the router has each block exactly once per path, prefers the owner, and has nothing else of the pool.
///
/// # Errors
/// What is wrong.
pub fn blocks_are_announced_once(lab: &Lab, blocks: &[(usize, String)]) -> Result<()> {
    let paths = lab.bird.paths(POOL)?;
    let prefixes: BTreeSet<&str> = paths.iter().map(|path| path.prefix.as_str()).collect();
    let wanted: BTreeSet<&str> = blocks.iter().map(|(_, block)| block.as_str()).collect();
    anyhow::ensure!(prefixes == wanted, "BIRD has {prefixes:?}, the blocks are {wanted:?}");
    for (owner, block) in blocks {
        let owner = lab.nodes[*owner].name();
        let of_block: Vec<_> = paths.iter().filter(|path| path.prefix == *block).collect();
        let sessions: BTreeSet<&str> = of_block.iter().map(|path| path.from.as_str()).collect();
        anyhow::ensure!(sessions.len() == of_block.len(), "{block} came twice from one node: {of_block:?}");
        let best: Vec<&str> =
            of_block.iter().filter(|path| path.best).map(|path| path.from.as_str()).collect();
        anyhow::ensure!(best == [owner], "{block} of {owner}: preferred from {best:?}");
    }
    Ok(())
}

/// Calico's keys, through etcd's own client.
///
/// # Errors
/// When etcdctl fails.
pub fn keys(lab: &Lab, report: &mut Report) -> Result<()> {
    report.step("What the store holds: Calico's keys, read with etcd's own client");
    let keys = report
        .show("router", &lab.etcdctl("get --prefix --keys-only /calico/resources/v3/projectcalico.org/"))?;
    let kinds = ["bgppeers", "clusterinformations", "ippools", "nodes", "workloadendpoints"];
    let missing: Vec<&str> = kinds
        .into_iter()
        .filter(|kind| !keys.stdout.contains(&format!("projectcalico.org/{kind}/")))
        .collect();
    report.check(
        format!("resources lie where Calico keeps them{}", listed(" but there are no ", &missing)),
        missing.is_empty(),
    );
    report.show("router", &lab.etcdctl("get --prefix --keys-only /calico/ipam/v2"))?;
    let matching = allocations_match_pods(lab);
    report.check_result(
        "the addresses given in /calico/ipam/v2 are those the pods have, no more, no fewer",
        matching,
    );
    Ok(())
}

/// Whether the store's allocations are exactly the pods' addresses, each with its container's handle.
///
/// # Errors
/// What differs.
pub fn allocations_match_pods(lab: &Lab) -> Result<()> {
    let handle = |pod: &crate::workload::Pod| format!("{}.{}", crate::workload::NETWORK, pod.container_id());
    let wanted: BTreeSet<_> = lab.pods.iter().map(|pod| (pod.address.to_string(), handle(pod))).collect();
    let given: BTreeSet<_> = lab.allocations()?.into_iter().collect();
    anyhow::ensure!(given == wanted, "the store has {given:?}, the pods {wanted:?}");
    Ok(())
}

fn listed(prefix: &str, items: &[&str]) -> String {
    if items.is_empty() { String::new() } else { format!("{prefix}{}", items.join(", ")) }
}
