//! IPIP for real: CrossSubnet between two racks whose router knows nothing of the pool. Needs a kernel with IPIP, so it is
//! built with the feature `ipip` and run by `make vm-test`; on another kernel it fails and says so.

use anyhow::{Context, Result, ensure};
use tortie_e2e::capture::Capture;
use tortie_e2e::demo::PODS;
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::lab::{Lab, POOL};
use tortie_e2e::node::{is_learned, is_own};
use tortie_e2e::scenario;
use tortie_e2e::topology::LINK_MTU;
use tortie_e2e::traffic::serve;

/// Bytes that IPIP adds: one IPv4 header.
const IPIP_HEADER: u32 = 20;
/// Bytes of an IPv4 and an ICMP header.
const PING_HEADERS: u32 = 28;

const ICMP_FROM_ANYWHERE: &str = "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: icmp-from-anywhere}
spec: {types: [Ingress], ingress: [{action: Allow, protocol: ICMP}]}
";

fn with_pods() -> Result<Lab> {
    let mut lab = Lab::build()?;
    ensure!(lab.ipip, "needs a kernel with IPIP: run make vm-test");
    lab.configure_and_start()?;
    for wanted in PODS {
        lab.add_pod(wanted)?;
    }
    lab.wait_routes()?;
    Ok(lab)
}

scenario!(
    with_pods,
    fn racks_reach_each_other_through_tunl0_and_one_rack_does_not(lab) {
        let (web, client, far) = (&lab.pods[0], &lab.pods[2], &lab.pods[3]);
        ensure!(lab.bird.paths(POOL)?.is_empty(), "the router was to refuse the pool");
        let routes = lab.topology.router.run("ip -4 route").ok()?;
        ensure!(!routes.contains("172.169."), "the router knows the pool: {routes}");

        let routes = lab.nodes[0].run("ip -4 route").ok()?;
        for (owner, block) in lab.blocks()? {
            let (start, right): (_, fn(&str) -> bool) = match owner {
                0 => (format!("blackhole {block} "), is_own),
                1 => (format!("{block} via 10.1.0.12 dev eth0 "), is_learned),
                _ => (format!("{block} via 10.2.0.11 dev tunl0 "), |line| is_learned(line) && line.contains("onlink")),
            };
            let there = routes.lines().any(|line| line.starts_with(&start) && right(line));
            ensure!(there, "node1 has no `{start}` as it should be: {routes}");
        }

        // On the wire between node1 and its switch.
        let wire = &lab.topology.switches[0];
        let capture = Capture::start(wire, "node1", "ip")?;
        let ping = web.ping(far.address, 3).output()?;
        ensure!(ping.success() && ping.stdout.contains("ttl=62"), "{}", ping.text());
        let seen = capture.wait_for("echo reply")?.stdout;
        ensure!(seen.contains("proto IPIP (4)") && seen.contains("10.1.0.11 > 10.2.0.11"), "no outer header: {seen}");
        ensure!(seen.contains(&format!("{} > {}", web.address, far.address)), "no inner header: {seen}");

        let capture = Capture::start(wire, "node1", "icmp or ip proto 4")?;
        let ping = web.ping(client.address, 3).output()?;
        ensure!(ping.success() && ping.stdout.contains("ttl=62"), "{}", ping.text());
        let seen = capture.wait_for("echo reply")?.stdout;
        ensure!(seen.contains(&format!("{} > {}", web.address, client.address)), "{seen}");
        ensure!(!seen.contains("IPIP"), "traffic inside a rack was tunnelled: {seen}");

        let _server = serve(&far.netns, "tcp", 80)?;
        let seen = web.connect("tcp", far.address, 80)?;
        ensure!(seen.stdout.trim() == web.address.to_string(), "{}", seen.text());
        // A node's own packets go through the tunnel with its tunnel's address, which is in none of the pods' profiles, so
        // the other pod needs to be opened for them.
        lab.apply(ICMP_FROM_ANYWHERE)?;
        let capture = Capture::start(wire, "node1", "ip proto 4")?;
        eventually("node1 itself reaching a pod in the other rack", seconds(5), || {
            lab.nodes[0].run(&format!("ping -n -c 1 -W 1 {}", far.address)).ok().map(drop)
        })?;
        let tunnel = lab.nodes[0].run("ip -4 -o address show dev tunl0").ok()?;
        let tunnel = tunnel.split("inet ").nth(1).and_then(|rest| rest.split('/').next()).context("tunl0 has no address")?;
        capture.wait_for(&format!("{} > {tunnel}: ICMP echo reply", far.address)).map(drop)
    }
);

scenario!(
    with_pods,
    fn the_mtu_leaves_room_for_the_outer_header(lab) {
        let (web, far) = (&lab.pods[0], &lab.pods[3]);
        let limit = LINK_MTU - IPIP_HEADER;
        for node in &lab.nodes {
            let link = node.run("ip -o link show dev tunl0").ok()?;
            ensure!(link.contains(&format!("mtu {limit} ")) && link.contains("UP"), "{}: {link}", node.name());
        }
        let ping = |size: u32| {
            web.netns.run(&format!("ping -n -c 2 -i 0.1 -W 2 -M do -s {} {}", size - PING_HEADERS, far.address)).output()
        };
        let fits = ping(limit)?;
        ensure!(fits.success(), "{limit} bytes do not pass: {}", fits.text());
        let large = ping(limit + 1)?;
        ensure!(!large.success(), "{} bytes pass", limit + 1);
        ensure!(large.text().contains(&format!("mtu={limit}")) || large.text().contains(&format!("mtu = {limit}")),
            "no word about the MTU: {}", large.text());
        Ok(())
    }
);
