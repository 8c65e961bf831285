//! The main job on three nodes in two racks: sessions, routes, keys, CNI, NAT, policy, restarts. Topology: see
//! `e2e/src/topology.rs`. Each test has a lab of its own.

use anyhow::{Context, Result, ensure};
use tortie_e2e::demo::PODS;
use tortie_e2e::demo::looks::{allocations_match_pods, blocks_are_announced_once, pod_routes_are_exact};
use tortie_e2e::demo::moves::{expected_ttl, ping_matrix};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::lab::{Lab, POOL};
use tortie_e2e::netns::Netns;
use tortie_e2e::node::RouteWatch;
use tortie_e2e::rules::all_agree;
use tortie_e2e::scenario;
use tortie_e2e::topology::OUTSIDE;
use tortie_e2e::traffic::{LongPing, connect, serve, wait_answers};
use tortie_e2e::workload::Wanted;

/// Sessions up and the demo's four pods made.
fn with_pods() -> Result<Lab> {
    let mut lab = Lab::up()?;
    for wanted in PODS {
        lab.add_pod(wanted)?;
    }
    lab.wait_routes()?;
    all_agree(&lab)?;
    Ok(lab)
}

scenario!(
    with_pods,
    fn routes_keys_and_the_router_agree(lab) {
        allocations_match_pods(lab)?;
        let blocks = lab.blocks()?;
        ensure!(blocks.len() >= 3, "three nodes with pods have {blocks:?}");
        if lab.ipip {
            ensure!(lab.bird.paths(POOL)?.is_empty(), "the router was to refuse the pool");
        } else {
            eventually("the router's table", seconds(10), || blocks_are_announced_once(lab, &blocks))?;
        }
        let ttls = ping_matrix(lab)?;
        for (from, row) in lab.pods.iter().zip(&ttls) {
            for (to, ttl) in lab.pods.iter().zip(row).filter(|(to, _)| to.name != from.name) {
                let wanted = expected_ttl(lab, from, to);
                ensure!(*ttl == Some(wanted), "{} pings {}: TTL {ttl:?}, not {wanted}", from.name, to.name);
            }
        }
        for pod in &lab.pods {
            let routes = pod.netns.run("ip -4 route").ok()?;
            ensure!(pod_routes_are_exact(&routes), "{}: {routes}", pod.name);
        }
        let _server = serve(&lab.topology.outside, "tcp", 8080)?;
        for pod in &lab.pods {
            let seen = pod.connect("tcp", OUTSIDE, 8080)?;
            let node = lab.nodes[pod.node].place.address.to_string();
            ensure!(seen.stdout.trim() == node, "{} went out as {}", pod.name, seen.text());
        }
        all_agree(lab)
    }
);

scenario!(
    with_pods,
    fn what_others_delete_or_change_comes_back(lab) {
        let node = &lab.nodes[0];
        let pod = &lab.pods[0];
        let (_, foreign) = lab.blocks()?.into_iter().find(|(owner, _)| *owner == 1).context("no block of node2")?;
        let (_, own) = lab.blocks()?.into_iter().find(|(owner, _)| *owner == 0).context("no block of node1")?;
        for prefix in [foreign, own, pod.address.to_string()] {
            let show = node.run(&format!("ip -4 route show exact {prefix}"));
            let before = show.ok()?;
            ensure!(!before.trim().is_empty(), "no route to {prefix}");
            node.run(&format!("ip route delete {}", before.trim().replace("onlink", ""))).ok()?;
            eventually(&format!("the route to {prefix} back"), seconds(15), || {
                let now = show.ok()?;
                ensure!(now == before, "{now:?} instead of {before:?}");
                Ok(())
            })?;
        }
        // From Linux 6.9 on nobody else can; before, it comes back.
        let owned = node.run("nft list table inet tortie").ok()?.contains("flags owner");
        let deleted = node.run("nft delete table inet tortie").ok();
        ensure!(deleted.is_err() == owned, "owned: {owned}, deleted: {deleted:?}");
        eventually("the table back", seconds(15), || node.run("nft list table inet tortie").ok())?;
        // What is not ours stays as it is.
        node.run("ip route add 198.51.100.0/24 via 10.1.0.1 proto static").ok()?;
        node.run("nft add table inet others").ok()?;
        all_agree(lab)?;
        lab.nodes[0].kill()?;
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        lab.wait_established()?;
        all_agree(lab)?;
        let node = &lab.nodes[0];
        ensure!(node.run("ip route show 198.51.100.0/24").ok()?.contains("proto static"), "a foreign route is gone");
        node.run("nft list table inet others").ok()?;
        Ok(())
    }
);

scenario!(
    Lab::up,
    fn cni_calls_can_be_repeated_and_check_tells_the_truth(lab) {
        let pod = lab.add_pod(Wanted { name: "twice", node: 0, labels: &[] })?;
        let node = &lab.nodes[0];
        let version = pod.cni(node, "VERSION")?.ok()?;
        ensure!(version.contains("supportedVersions") && version.contains("1.0.0"), "{version}");
        let check = pod.cni(node, "CHECK")?;
        check.ok()?;
        let again = pod.cni(node, "ADD")?.ok()?;
        ensure!(again.contains(&format!("{}/32", pod.address)), "a second ADD answered {again}");
        check.ok()?;
        ensure!(lab.allocations()?.len() == 1, "{:?}", lab.allocations()?);

        pod.netns.run("ip link set eth0 down").ok()?;
        pod.netns.run("ip address flush dev eth0").ok()?;
        let broken = check.output()?;
        ensure!(!broken.success() && broken.stdout.contains("\"code\""), "CHECK did not see it: {}", broken.text());

        let delete = pod.cni(node, "DEL")?;
        delete.ok()?;
        delete.ok()?;
        ensure!(lab.allocations()?.is_empty(), "{:?}", lab.allocations()?);
        all_agree(lab)?;
        let links = node.run("ip -o link").ok()?;
        ensure!(!links.contains(&pod.host_interface), "{links}");
        // The namespace may be gone before DEL, and the container may never have been known.
        pod.netns.delete()?;
        delete.ok()?;
        lab.pods.clear();

        let next = lab.add_pod(Wanted { name: "next", node: 0, labels: &[] })?;
        let ping = lab.nodes[0].run(&format!("ping -n -c 1 -W 2 {}", next.address)).output()?;
        ensure!(ping.success(), "{}", ping.text());
        all_agree(lab)
    }
);

/// Waits until a policy just applied has reached the kernel of every node: `probe` must become `allowed`.
fn settle(what: &str, allowed: bool, probe: impl Fn() -> Result<bool>) -> Result<()> {
    eventually(what, seconds(10), || {
        ensure!(probe()? == allowed, "{}", if allowed { "still refused" } else { "still let through" });
        Ok(())
    })
}

scenario!(
    with_pods,
    fn policy_decides_both_ways_by_protocol_port_net_and_label(lab) {
        let [web, guest, client, far] = [0, 1, 2, 3].map(|index| lab.pods[index].clone());
        let _servers: Vec<_> = [("tcp", 80), ("tcp", 81), ("udp", 53), ("udp", 54)]
            .into_iter()
            .map(|(protocol, port)| serve(&web.netns, protocol, port))
            .collect::<Result<_>>()?;
        let reaches = |from: &Netns, protocol: &str, port: u16| -> Result<bool> {
            match protocol {
                "icmp" => Ok(from.run(&format!("ping -n -c 1 -W 1 {}", web.address)).output()?.success()),
                protocol => Ok(connect(from, protocol, web.address, port)?.success()),
            }
        };
        let expect = |cases: &[(&tortie_e2e::workload::Pod, &str, u16, bool)]| -> Result<()> {
            for (from, protocol, port, allowed) in cases {
                let passed = reaches(&from.netns, protocol, *port)?;
                ensure!(passed == *allowed, "{} to web {protocol} {port}: passed {passed}", from.name);
            }
            all_agree(lab)
        };
        for pod in [&guest, &client, &far] {
            expect(&[(pod, "tcp", 80, true), (pod, "tcp", 81, true), (pod, "udp", 53, true), (pod, "icmp", 0, true)])?;
        }

        lab.apply(
            "apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: default}
spec:
  order: 10
  selector: role == 'web'
  types: [Ingress]
  ingress:
  - {action: Deny, protocol: TCP, source: {selector: role == 'client'}, destination: {ports: [81]}}
  - {action: Allow, protocol: TCP, source: {selector: \"role in {'client', 'web'}\"}, destination: {ports: ['80:90']}}
  - {action: Allow, protocol: UDP, destination: {ports: [53]}}
",
        )?;
        settle("ingress policy", false, || reaches(&guest.netns, "tcp", 80))?;
        expect(&[
            (&client, "tcp", 80, true),
            (&client, "tcp", 81, false),
            (&client, "icmp", 0, false),
            (&client, "udp", 53, true),
            (&guest, "tcp", 80, false),
            (&guest, "udp", 53, true),
            (&guest, "udp", 54, false),
            (&far, "tcp", 80, false),
            (&far, "udp", 53, true),
            (&far, "icmp", 0, false),
        ])?;

        lab.apply(&format!(
            "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: leaving}}
spec:
  order: 20
  selector: role == 'guest'
  types: [Egress]
  egress:
  - {{action: Deny, protocol: UDP, destination: {{nets: [{POOL}], ports: [53]}}}}
  - {{action: Allow}}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {{name: web, namespace: default}}
spec:
  order: 10
  selector: role == 'web'
  types: [Ingress]
  ingress:
  - {{action: Allow, source: {{nets: [{far}/32]}}}}
  - {{action: Allow, protocol: UDP}}
",
            far = far.address
        ))?;
        settle("egress policy", false, || reaches(&guest.netns, "udp", 53))?;
        settle("the changed ingress policy", true, || reaches(&far.netns, "tcp", 80))?;
        expect(&[
            (&far, "tcp", 81, true),
            (&far, "icmp", 0, true),
            (&far, "udp", 53, false),
            (&far, "udp", 54, true),
            (&guest, "udp", 54, true),
            (&guest, "tcp", 80, false),
            (&client, "udp", 53, true),
            (&client, "tcp", 80, false),
        ])?;

        lab.nodes[0].tortiectl("delete networkPolicy web")?.ok()?;
        lab.nodes[0].tortiectl("delete globalNetworkPolicy leaving")?.ok()?;
        settle("no policy", true, || reaches(&guest.netns, "tcp", 80))?;
        settle("no policy for udp", true, || reaches(&far.netns, "udp", 53))?;
        all_agree(lab)
    }
);

scenario!(
    with_pods,
    fn no_packet_is_lost_while_agents_die_stop_and_return(lab) {
        let target = lab.pods[2].clone();
        let pings: Vec<LongPing> = [0, 3]
            .into_iter()
            .map(|index| LongPing::start(&lab.pods[index].netns, target.address))
            .collect::<Result<_>>()?;
        let watches: Vec<RouteWatch> = lab.nodes.iter().map(RouteWatch::start).collect::<Result<_>>()?;
    let more = |what: &str| wait_answers(&pings, 30, what);
        for index in [1, 0, 2] {
            let name = lab.nodes[index].name();
            lab.nodes[index].kill()?;
            more(&format!("with {name} killed"))?;
            lab.nodes[index].start()?;
            lab.nodes[index].wait_ready()?;
            lab.wait_established()?;
            lab.nodes[index].stop()?;
            more(&format!("with {name} stopped"))?;
            lab.nodes[index].start()?;
            lab.nodes[index].wait_ready()?;
            lab.wait_established()?;
            more(&format!("with {name} back"))?;
            all_agree(lab)?;
        }
        for ping in pings {
            let count = ping.stop()?;
            ensure!(count.lost() == 0, "{count:?}");
        }
        let deleted: Vec<String> = watches.iter().flat_map(RouteWatch::deleted).collect();
        ensure!(deleted.is_empty(), "routes were deleted: {deleted:?}");
        allocations_match_pods(lab)
    }
);

scenario!(
    with_pods,
    fn no_packet_is_lost_while_the_router_dies_and_returns(lab) {
        // Between racks and to the outside, where the router is on the way; and inside a rack, where it is not.
        let far = lab.pods[3].clone();
        let pings = [
            LongPing::start(&lab.pods[0].netns, far.address)?,
            LongPing::start(&far.netns, OUTSIDE)?,
            LongPing::start(&lab.pods[0].netns, lab.pods[2].address)?,
        ];
        let watches: Vec<RouteWatch> = lab.nodes.iter().map(RouteWatch::start).collect::<Result<_>>()?;
    let more = |what: &str| wait_answers(&pings, 50, what);
        for _ in 0..2 {
            lab.bird.kill()?;
            for node in &lab.nodes {
                let status = node.tortiectl("node status")?;
                eventually("the loss noticed", seconds(10), || {
                    let text = status.ok()?;
                    ensure!(text.matches("Established").count() < 3, "still up:\n{text}");
                    Ok(())
                })?;
            }
            more("without the router's BIRD")?;
            lab.bird.recover()?;
            lab.wait_established()?;
            eventually("recovery done", seconds(20), || {
                let status = lab.bird.ask("show status")?.stdout;
                ensure!(status.contains("Daemon is up") && !status.contains("recovery in progress"), "{status}");
                Ok(())
            })?;
            more("with the router back")?;
            all_agree(lab)?;
        }
        for ping in pings {
            let count = ping.stop()?;
            ensure!(count.lost() == 0, "{count:?}");
        }
        let deleted: Vec<String> = watches.iter().flat_map(RouteWatch::deleted).collect();
        ensure!(deleted.is_empty(), "routes were deleted: {deleted:?}");
        Ok(())
    }
);
