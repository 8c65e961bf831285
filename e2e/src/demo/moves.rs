//! Steps that send packets: pings, NAT, policy, a killed agent; and the removal.

use anyhow::{Context, Result, ensure};

use crate::capture::Capture;
use crate::eventually::{eventually, seconds};
use crate::lab::{Lab, POOL};
use crate::node::RouteWatch;
use crate::report::Report;
use crate::rules::all_agree;
use crate::topology::OUTSIDE;
use crate::traffic::{LongPing, ping_ttl, serve};
use crate::workload::Pod;

/// The policy of the demo.
pub const POLICY: &str = include_str!("../../../manifests/examples/policy-web.yaml");

/// Answers wanted while an agent restarts: half a second before, one second after.
const ANSWERS_BEFORE: usize = 50;
const ANSWERS_AFTER: usize = 100;

/// TTL of an answer from `to` as `from` sees it: 64 less one a hop. A tunnel counts as one hop, the router as another.
pub fn expected_ttl(lab: &Lab, from: &Pod, to: &Pod) -> u8 {
    let (from, to) = (&lab.nodes[from.node].place, &lab.nodes[to.node].place);
    match (from.node == to.node, from.rack == to.rack || lab.ipip) {
        (true, _) => 63,
        (false, true) => 62,
        (false, false) => 61,
    }
}

/// Every pod pings every other.
///
/// # Errors
/// When ping cannot be run.
pub fn pings(lab: &Lab, report: &mut Report) -> Result<()> {
    report.step("Every pod pings every other");
    let across = if lab.ipip {
        "62 between racks, through the tunnel"
    } else {
        "61 between racks, the router being a hop too"
    };
    report.say(format!(
        "Expected TTL of the answers: 63 on one node, 62 to another node of the rack, {across}."
    ));
    report.show(&lab.pods[0].name, &lab.pods[0].ping(lab.pods[2].address, 2))?;
    let ttls = ping_matrix(lab)?;
    report.say(matrix_text(lab, &ttls));
    let right = |from: usize, to: usize| {
        from == to || ttls[from][to] == Some(expected_ttl(lab, &lab.pods[from], &lab.pods[to]))
    };
    let count = lab.pods.len();
    let good = (0..count).all(|from| (0..count).all(|to| right(from, to)));
    report.check("all answer, each with the expected TTL", good);
    let own = eventually("node1 reaching its own pod", seconds(5), || {
        lab.nodes[0].run(&format!("ping -n -c 1 -W 1 {}", lab.pods[0].address)).ok()
    });
    report.check_result("a node reaches its own pods", own);
    Ok(())
}

/// TTL of the answer for each pair; `None` where none came. All pings run at once.
///
/// # Errors
/// When ping cannot be run.
pub fn ping_matrix(lab: &Lab) -> Result<Vec<Vec<Option<u8>>>> {
    let ask = |from: &Pod, to: &Pod| -> Result<Option<u8>> {
        let output =
            from.netns.run(&format!("ping -n -c 1 -w {} {}", seconds(3).as_secs(), to.address)).output()?;
        Ok(ping_ttl(&output.stdout))
    };
    std::thread::scope(|scope| {
        let row = |from| lab.pods.iter().map(|to| scope.spawn(move || ask(from, to))).collect::<Vec<_>>();
        let threads: Vec<_> = lab.pods.iter().map(row).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Option<u8>>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a ping's thread panicked")))
        };
        threads.into_iter().map(|row| row.into_iter().map(join).collect()).collect()
    })
}

fn matrix_text(lab: &Lab, ttls: &[Vec<Option<u8>>]) -> String {
    let title = |pod: &Pod| format!("{} ({})", pod.name, lab.nodes[pod.node].name());
    let mut text = format!("  {:<16}", "from \\ to");
    for pod in &lab.pods {
        text += &format!("{:>16}", title(pod));
    }
    for (pod, row) in lab.pods.iter().zip(ttls) {
        text += &format!("\n  {:<16}", title(pod));
        for ttl in row {
            text += &format!("{:>16}", ttl.map_or("no answer".to_owned(), |ttl| format!("ttl {ttl}")));
        }
    }
    text
}

/// Out to a host that knows no pool.
///
/// # Errors
/// When a command cannot be run.
pub fn nat(lab: &Lab, report: &mut Report) -> Result<()> {
    report.step("Out to a host that knows nothing of the pool");
    report.show("outside", &lab.topology.outside.run("ip -4 route"))?;
    let capture = Capture::start(&lab.topology.outside, "eth0", "icmp")?;
    let pod = &lab.pods[0];
    let ping = report.show(&pod.name, &pod.ping(OUTSIDE, 3))?;
    report.check("it answers", ping.success());
    let node = lab.nodes[pod.node].place.address;
    let seen = capture.wait_for(&format!("{node} > {OUTSIDE}"));
    let from_pool = seen.as_ref().is_ok_and(|seen| seen.stdout.contains(&pod.address.to_string()));
    if let Ok(seen) = &seen {
        report.show_output("outside", seen);
    }
    report.check_result(format!("it saw the node's address {node}"), seen);
    report.check("and never the pod's", !from_pool);

    let _server = serve(&lab.topology.outside, "tcp", 8080)?;
    for pod in &lab.pods {
        let seen = pod.connect("tcp", OUTSIDE, 8080)?;
        report.show_output(&pod.name, &seen);
        let node = &lab.nodes[pod.node].place;
        report.check(
            format!("a server outside sees {} as {} ({})", pod.name, node.address, node.node),
            seen.stdout.trim() == node.address.to_string(),
        );
    }
    let web = &lab.pods[0];
    let _server = serve(&web.netns, "tcp", 80)?;
    let seen = lab.pods[3].connect("tcp", web.address, 80)?;
    report.show_output(&lab.pods[3].name, &seen);
    report.check(
        "pods see each other's own addresses, across racks too",
        seen.stdout.trim() == lab.pods[3].address.to_string(),
    );
    Ok(())
}

/// A policy: one connection fails from now on, another still works.
///
/// # Errors
/// When a command cannot be run.
pub fn policy(lab: &Lab, report: &mut Report) -> Result<()> {
    report.step("A policy");
    let [web, guest, client, far] = [0, 1, 2, 3].map(|index| &lab.pods[index]);
    let _servers = [serve(&web.netns, "tcp", 80)?, serve(&web.netns, "tcp", 81)?];
    for pod in [guest, client, far] {
        let seen = pod.connect("tcp", web.address, 80)?;
        report.show_output(&pod.name, &seen);
        report.check(format!("before: {} reaches {} on port 80", pod.name, web.name), seen.success());
    }
    let path = lab.write_document("policy.yaml", POLICY)?.display().to_string();
    report.show("node1", &lab.nodes[0].run("cat").arg(&path))?;
    let applied = report.show("node1", &lab.nodes[0].tortiectl("apply -f")?.arg(&path))?;
    report.check("the policy is applied", applied.success());
    // The rules reach the kernel a moment after the store; from then on the refusal has to last.
    let closed = eventually("the policy in the kernel", seconds(10), || {
        ensure!(!guest.connect("tcp", web.address, 80)?.success(), "{} still gets through", guest.name);
        Ok(())
    });
    report.check_result("it takes effect", closed);
    let cases = [
        (client, 80, true, "has role=client"),
        (guest, 80, false, "is on the same node, but no client"),
        (far, 80, false, "is no client"),
        (client, 81, false, "asks for another port"),
    ];
    for (pod, port, allowed, why) in cases {
        let seen = pod.connect("tcp", web.address, port)?;
        report.show_output(&pod.name, &seen);
        let verb = if allowed { "still reaches" } else { "no longer reaches" };
        report.check(
            format!("{} {verb} {} on port {port}: it {why}", pod.name, web.name),
            seen.success() == allowed,
        );
    }
    report.check_result("the kernel of every node holds the rules its agent wants", all_agree(lab));
    let ping = far.ping(web.address, 1).output()?;
    report.check("ICMP, which the policy allows, still passes", ping.success());
    let deleted = report.show("node1", &lab.nodes[0].tortiectl("delete -f")?.arg(&path))?;
    report.check("the policy is deleted", deleted.success());
    let open =
        eventually("the policy gone", seconds(10), || guest.connect("tcp", web.address, 80)?.require());
    report.check_result("and the refused connection works again", open);
    Ok(())
}

/// An agent is killed and started again under running pings.
///
/// # Errors
/// When something does not come back.
pub fn restart(lab: &mut Lab, report: &mut Report) -> Result<()> {
    report.step("The agent of node2 killed with -9 and started again, under running pings");
    let target = lab.pods.iter().find(|pod| pod.node == 1).context("no pod on node2")?.clone();
    let sources: Vec<Pod> = lab.pods.iter().filter(|pod| pod.node != 1).cloned().collect();
    let pings: Vec<(String, LongPing)> = sources
        .iter()
        .map(|pod| Ok((pod.name.clone(), LongPing::start(&pod.netns, target.address)?)))
        .collect::<Result<_>>()?;
    wait_answers(&pings, ANSWERS_BEFORE)?;
    let watches: Vec<RouteWatch> = lab.nodes.iter().map(RouteWatch::start).collect::<Result<_>>()?;
    report.say(format!("node2# kill -9 {}", lab.nodes[1].agent_pid().unwrap_or_default()));
    lab.nodes[1].kill()?;
    wait_answers(&pings, ANSWERS_AFTER)?;
    report.say("node2# NO_DEFAULT_POOLS=true tortie-node &");
    lab.nodes[1].start()?;
    lab.nodes[1].wait_ready()?;
    lab.wait_established()?;
    wait_answers(&pings, ANSWERS_AFTER)?;
    for (name, ping) in pings {
        let count = ping.stop()?;
        report.say(format!(
            "  {name} → {}: {} sent, {} answered, {} lost",
            target.name,
            count.sent,
            count.received,
            count.lost()
        ));
        report.check(format!("{} packets lost from {name}", count.lost()), count.lost() == 0);
    }
    let status = report.show("node2", &lab.nodes[1].tortiectl("node status")?)?;
    report
        .check_result("node2's sessions are Established again", crate::lab::all_established(&status.stdout));
    let deleted: Vec<String> = watches.iter().flat_map(RouteWatch::deleted).collect();
    for line in &deleted {
        report.say(format!("  {line}"));
    }
    report.check("meanwhile no route was deleted on any node", deleted.is_empty());
    Ok(())
}

/// Waits until every ping got `more` further answers.
fn wait_answers(pings: &[(String, LongPing)], more: usize) -> Result<()> {
    for (name, ping) in pings {
        let goal = ping.answers() + more;
        eventually(&format!("{more} more answers to {name}"), seconds(10), || {
            let answers = ping.answers();
            ensure!(answers >= goal, "{} to go", goal - answers);
            Ok(())
        })?;
    }
    Ok(())
}

/// Everything is removed.
///
/// # Errors
/// When the plugin or tortiectl fails.
pub fn removal(lab: &mut Lab, report: &mut Report) -> Result<()> {
    report.step("Everything removed");
    let pods = lab.pods.clone();
    for pod in &pods {
        report.say(format!(
            "{}# CNI_COMMAND=DEL CNI_CONTAINERID=… CNI_IFNAME=eth0 tortie-cni < lab-net.json",
            lab.nodes[pod.node].name()
        ));
        lab.remove_pod(&pod.name)?;
    }
    report.check("the store has no address given to a workload any more", lab.allocations()?.is_empty());
    let endpoints = lab
        .etcdctl("get --prefix --keys-only /calico/resources/v3/projectcalico.org/workloadendpoints/")
        .ok()?;
    report.check("and no WorkloadEndpoint", endpoints.trim().is_empty());
    for (index, node) in lab.nodes.iter().enumerate() {
        let gone = eventually("interfaces and routes gone", seconds(10), || {
            let links = node.run("ip -o link").ok()?;
            ensure!(!links.contains(" cali"), "{links}");
            let routes = node.run("ip -4 route").ok()?;
            let left = pods
                .iter()
                .filter(|pod| pod.node == index)
                .find(|pod| routes.contains(&format!("{} dev", pod.address)));
            ensure!(left.is_none(), "{routes}");
            Ok(())
        });
        report.check_result(format!("{}: no cali interface and no pod's route is left", node.name()), gone);
    }
    let deleted = report.show("node1", &lab.nodes[0].tortiectl("delete ipPool")?.arg(POOL))?;
    report.check("the pool is deleted", deleted.success());
    let places: Vec<_> = lab.nodes.iter().map(|node| &node.netns).chain([&lab.topology.router]).collect();
    let gone = eventually("no route of the pool anywhere", seconds(10), || {
        for netns in &places {
            let routes = netns.run("ip -4 route").ok()?;
            ensure!(!routes.contains("172.169."), "{}: {routes}", netns.name());
        }
        Ok(())
    });
    report.show("node1", &lab.nodes[0].run("ip -4 route"))?;
    report.check_result(
        "its blocks are withdrawn: no node and not the router has a route of the pool any more",
        gone,
    );
    let keys = lab.etcdctl("get --prefix --keys-only /calico/ipam/v2/assignment").ok()?;
    report.check("IPAM has no block left", keys.trim().is_empty());
    report.check_result("the kernel of every node holds the rules its agent wants", all_agree(lab));
    for node in &mut lab.nodes {
        let stopped = node.stop();
        report.check_result(format!("{}: the agent stops when told to", node.name()), stopped);
    }
    Ok(())
}
