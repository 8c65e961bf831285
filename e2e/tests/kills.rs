//! Agents killed with -9 and started again under a ping of 1000 packets a second, in a mesh and behind a reflector: no
//! packet is lost and no route deleted. `TORTIE_KILLS` times (3) in a row; `make e2e` asks for 20.

use anyhow::{Context, Result, ensure};
use tortie_e2e::demo::PODS;
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::lab::Lab;
use tortie_e2e::node::RouteWatch;
use tortie_e2e::scenario;
use tortie_e2e::traffic::{LongPing, wait_answers};

/// Answers to be seen between the steps of a round: a fifth of a second.
const ANSWERS: usize = 200;

fn rounds() -> Result<usize> {
    match std::env::var("TORTIE_KILLS") {
        Ok(text) => text.parse().with_context(|| format!("TORTIE_KILLS: {text:?} is no number")),
        Err(_) => Ok(3),
    }
}

fn with_pods() -> Result<Lab> {
    let mut lab = Lab::up()?;
    for wanted in PODS {
        lab.add_pod(wanted)?;
    }
    lab.wait_routes()?;
    Ok(lab)
}

/// Waits until every node has its sessions: with the router, and with the reflector or its clients or the mesh.
fn wait_established(lab: &Lab) -> Result<()> {
    for node in &lab.nodes {
        let status = node.tortiectl("node status")?;
        eventually(&format!("all sessions of {} established", node.name()), seconds(20), || {
            let text = status.ok()?;
            let sessions: Vec<&str> = text.lines().filter(|line| line.starts_with("| 10.")).collect();
            ensure!(sessions.len() >= 2 && sessions.iter().all(|row| row.contains("Established")), "{text}");
            Ok(())
        })?;
    }
    Ok(())
}

/// node1 reflects; the others have no session with each other.
fn behind_a_reflector() -> Result<Lab> {
    let lab = with_pods()?;
    let reflector = &lab.nodes[0];
    let name = reflector.name();
    reflector.tortiectl(&format!("label node {name} route-reflector=yes"))?.ok()?;
    reflector
        .tortiectl(&format!(
            "patch node {name} --patch {{\"spec\":{{\"bgp\":{{\"routeReflectorClusterID\":\"244.0.0.1\"}}}}}}"
        ))?
        .ok()?;
    lab.apply(
        "apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: reflector}
spec:
  nodeSelector: '!has(route-reflector)'
  peerSelector: has(route-reflector)
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
",
    )?;
    for node in &lab.nodes {
        let status = node.tortiectl("node status")?;
        eventually("no mesh any more", seconds(20), || {
            let text = status.ok()?;
            ensure!(!text.contains("node-to-node mesh"), "{text}");
            Ok(())
        })?;
    }
    wait_established(&lab)?;
    lab.wait_routes()?;
    Ok(lab)
}

/// Kills and starts one agent after another while pods of all nodes ping each other.
fn kill_and_start(lab: &mut Lab) -> Result<()> {
    let target = lab.pods[2].clone();
    let pings: Vec<LongPing> = [0, 3]
        .into_iter()
        .map(|index| LongPing::start_every("0.001", &lab.pods[index].netns, target.address))
        .collect::<Result<_>>()?;
    let watches: Vec<RouteWatch> = lab.nodes.iter().map(RouteWatch::start).collect::<Result<_>>()?;
    let more = |what: &str| wait_answers(&pings, ANSWERS, what);
    for round in 0..rounds()? {
        let index = round % lab.nodes.len();
        let name = lab.nodes[index].name();
        lab.nodes[index].kill()?;
        more(&format!("with {name} killed"))?;
        lab.nodes[index].start()?;
        lab.nodes[index].wait_ready()?;
        wait_established(lab)?;
        more(&format!("with {name} back"))?;
    }
    for ping in pings {
        let count = ping.stop()?;
        ensure!(count.lost() == 0, "{count:?}");
    }
    let deleted: Vec<String> = watches.iter().flat_map(RouteWatch::deleted).collect();
    ensure!(deleted.is_empty(), "routes were deleted: {deleted:?}");
    Ok(())
}

scenario!(
    with_pods,
    fn no_packet_is_lost_in_a_mesh(lab) {
        kill_and_start(lab)
    }
);

scenario!(
    behind_a_reflector,
    fn no_packet_is_lost_behind_a_reflector(lab) {
        kill_and_start(lab)
    }
);
