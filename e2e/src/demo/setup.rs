//! Steps that build: topology, datastore, pool, nodes, pods.

use anyhow::{Context, Result};

use super::PODS;
use crate::eventually::{eventually, seconds};
use crate::lab::{ENDPOINT, Lab, POOL, POOL_NAME, POOL_V1, all_established, peers, pool_without_ipip};
use crate::report::Report;
use crate::topology::{DRAWING, kernel_release};

/// Racks, router, host outside and datastore.
///
/// # Errors
/// When something does not come up.
pub fn topology(report: &mut Report) -> Result<Lab> {
    report.step("Two racks, a router, a datastore: all of them network namespaces, none of them on this machine's network");
    report.say(DRAWING);
    let lab = Lab::build()?;
    let release = kernel_release()?;
    report.say(match lab.ipip {
        true => format!("Kernel {release} has IPIP: packets between racks are tunnelled, and the router refuses the pool's routes."),
        false => format!(
            "Kernel {release} lacks IPIP: the pool's ipipMode becomes Never, and the router carries packets between racks by BGP.\n\
             (`make vm-test` shows the tunnels on a kernel that has them.)"
        ),
    });
    let health = report.show("router", &lab.etcdctl("endpoint health"))?;
    report.check(
        format!("etcd's own client finds the embedded datastore healthy at {ENDPOINT}"),
        health.success(),
    );
    Ok(lab)
}

/// The first node writes default pools; the pool of the issue replaces them.
///
/// # Errors
/// When the agent does not come up or tortiectl fails.
pub fn pool(lab: &mut Lab, report: &mut Report) -> Result<()> {
    report.step("A pool");
    report.say("The first agent to start writes default pools, as calico/node does.");
    lab.nodes[0].start()?;
    report.say("node1# tortie-node &");
    lab.nodes[0].wait_ready()?;
    let node = &lab.nodes[0];
    let listed = report.show("node1", &node.tortiectl("get ipPool -o wide")?)?;
    report.check("there is the default pool 192.168.0.0/16", listed.stdout.contains(" 192.168.0.0/16 "));
    let defaults: Vec<String> = listed
        .stdout
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(str::to_owned)
        .collect();

    let path = lab.write_document("pool.yaml", POOL_V1)?.display().to_string();
    report.show("node1", &node.run("cat").arg(&path))?;
    let applied = report.show("node1", &node.tortiectl("apply -f")?.arg(&path))?;
    report.check("tortiectl takes it, old form and all", applied.success());
    for cidr in defaults {
        let deleted = report.show("node1", &node.tortiectl("delete ipPool")?.arg(&cidr))?;
        report.check(format!("the default pool {cidr} is deleted"), deleted.success());
    }
    if !lab.ipip {
        let path = lab.write_document("pool-without-ipip.yaml", &pool_without_ipip())?.display().to_string();
        report.show("node1", &node.tortiectl("apply -f")?.arg(path))?;
    }
    let listed = report.show("node1", &node.tortiectl("get ipPool -o wide")?)?.stdout;
    let mode = if lab.ipip { "CrossSubnet" } else { "Never" };
    let rows: Vec<&str> = listed.lines().skip(1).filter(|line| !line.trim().is_empty()).collect();
    let good = rows.len() == 1 && [POOL_NAME, POOL, "true", mode].iter().all(|cell| rows[0].contains(cell));
    report.check(format!("{POOL} is the only pool left: natOutgoing, ipipMode {mode}"), good);

    let path = lab.write_document("bgp-peers.yaml", &peers())?.display().to_string();
    report.show("node1", &node.run("cat").arg(&path))?;
    let applied = report.show("node1", &node.tortiectl("apply -f")?.arg(&path))?;
    report.check("each node is told its rack's router as an eBGP peer", applied.success());
    Ok(())
}

/// The other agents start, and all sessions come up.
///
/// # Errors
/// When an agent does not come up.
pub fn nodes(lab: &mut Lab, report: &mut Report) -> Result<()> {
    report.step("Nodes");
    for index in [1, 2] {
        report.say(format!("{}# NO_DEFAULT_POOLS=true tortie-node &", lab.nodes[index].name()));
        lab.nodes[index].start()?;
    }
    for node in &mut lab.nodes {
        node.wait_ready()?;
    }
    report.show("node1", &lab.nodes[0].tortiectl("get nodes -o wide")?)?;
    for node in &lab.nodes {
        let status = node.tortiectl("node status")?;
        let up = eventually("all sessions established", seconds(20), || all_established(&status.ok()?));
        report.show(node.name(), &status)?;
        report.check_result(format!("{}: both nodes and the router are Established", node.name()), up);
    }
    Ok(())
}

/// Pods through CNI.
///
/// # Errors
/// When the plugin fails.
pub fn pods(lab: &mut Lab, report: &mut Report) -> Result<()> {
    report.step("Pods, made by the CNI plugin");
    for wanted in PODS {
        let (name, place) = (wanted.name, lab.nodes[wanted.node].name());
        report.say(format!(
            "{place}# CNI_COMMAND=ADD CNI_CONTAINERID=… CNI_NETNS=/run/netns/{name} CNI_IFNAME=eth0 tortie-cni < lab-net.json"
        ));
        let pod = lab.add_pod(wanted)?;
        report.say(format!("  {} on {} ({})", pod.address, pod.host_interface, labels_text(wanted.labels)));
    }
    let listed = report.show("node1", &lab.nodes[0].tortiectl("get workloadEndpoints")?)?;
    let each = lab.pods.iter().all(|pod| listed.stdout.contains(&format!("{}/32", pod.address)));
    report.check("every pod is a WorkloadEndpoint in the store, with its address", each);
    let mut addresses: Vec<_> = lab.pods.iter().map(|pod| pod.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let inside = addresses.iter().all(|address| address.octets()[..3] == [172, 169, 10]);
    report
        .check(format!("their addresses differ and lie in {POOL}"), addresses.len() == PODS.len() && inside);
    lab.wait_routes().context("routes between the nodes")
}

fn labels_text(labels: &[(&str, &str)]) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}
