//! Graceful restart with packets: FRR or GoBGP beside a node, killed and back, and the node's agent likewise, under pings of 200
//! packets a second each way through routes that either has learned from the other. Not one packet is lost.
//!
//! Topology: see `e2e/src/speakers/member.rs`; here its only session is with node3, which has the pod. FRR forwards by its own
//! zebra, which keeps only the routes of peers that are in session when its bgpd has heard enough, so a second peer would lose some.
//! For GoBGP, which has no kernel side of its own, the namespace follows its table while it lives, and stays as it is after that.

use anyhow::{Context, Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::lab::{Lab, POOL};
use tortie_e2e::netns::Netns;
use tortie_e2e::node::{RouteWatch, is_learned};
use tortie_e2e::process::Daemon;
use tortie_e2e::scenario;
use tortie_e2e::speakers::frr::Frr;
use tortie_e2e::speakers::gobgp::Gobgp;
use tortie_e2e::speakers::member::{self, Member};
use tortie_e2e::speakers::{Family, Make, Speaker};
use tortie_e2e::traffic::{LongPing, wait_answers};
use tortie_e2e::workload::Wanted;

/// The index of node3.
const OURS: usize = 2;
const ROUNDS: usize = 2;
/// Answers to be seen between the steps of a round: a quarter of a second.
const ANSWERS: usize = 50;

/// The member with what runs on it.
struct Running {
    member: Member,
    speaker: Box<dyn Speaker>,
    _follower: Option<Daemon>,
}

impl Running {
    fn start(lab: &Lab, make: Make) -> Result<Running> {
        let member = Member::add(lab)?;
        let mut setup = member.setup(lab);
        setup.peers.retain(|peer| peer.address == lab.nodes[OURS].place.address.to_string());
        if make == Make::Frr {
            // As it is by itself: without its delay FRR may say End-of-RIB before its routes.
            setup.extra = " coalesce-time 1000\n".to_owned();
        }
        let (speaker, follower): (Box<dyn Speaker>, _) = match make {
            Make::Frr => (Box::new(Frr::start_with_zebra(&member.host, &setup)?), None),
            Make::Gobgp => {
                let gobgp = Gobgp::start(&member.host, &setup)?;
                let follower = gobgp.follow()?;
                (Box::new(gobgp), Some(follower))
            }
            Make::Tortie | Make::Bird => unreachable!("not asked for"),
        };
        Ok(Running { member, speaker, _follower: follower })
    }

    /// Waits until the session is up at both ends and each end has the other's routes.
    fn wait_whole(&self, lab: &Lab) -> Result<()> {
        let node = &lab.nodes[OURS];
        let address = node.place.address.to_string();
        eventually("the session with the member", seconds(30), || {
            let row = member::row(node)?;
            ensure!(row.contains("Established"), "{row:?}");
            ensure!(self.speaker.is_established(&address)?, "{}", self.speaker.describe(&address)?);
            let learned = self.speaker.learned(Family::V4)?;
            for (_, block) in lab.blocks()?.iter().filter(|(owner, _)| *owner == OURS) {
                ensure!(learned.contains(&(block.clone(), address.clone())), "no {block} in {learned:?}");
                kernel_route(&self.member.host.netns, block)?;
            }
            let route = kernel_route(&node.netns, &self.member.block)?;
            ensure!(is_learned(&route) && route.contains(&format!("via {} ", member::ADDRESS)), "{route:?}");
            Ok(())
        })
    }
}

/// The route to exactly this prefix.
fn kernel_route(netns: &Netns, prefix: &str) -> Result<String> {
    let route = netns.run(&format!("ip -4 route show exact {prefix}")).ok()?;
    ensure!(route.contains("via"), "{route:?} to {prefix} in {}", netns.name());
    Ok(route)
}

const PEER: &str = "apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: member}
spec: {node: node3, peerIP: 10.2.0.10, asNumber: 64512}
";
/// Without it a pod answers only its own kind.
const OPEN: &str = "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: open}
spec: {selector: all(), ingress: [{action: Allow}], egress: [{action: Allow}]}
";

/// The lab with a member and pings under way.
struct Road {
    them: Running,
    pings: Vec<LongPing>,
    watches: Vec<RouteWatch>,
}

fn with_pod() -> Result<Lab> {
    let mut lab = Lab::up()?;
    lab.add_pod(Wanted { name: "pod", node: OURS, labels: &[] })?;
    Ok(lab)
}

impl Road {
    fn build(lab: &Lab, make: Make) -> Result<Road> {
        let them = Running::start(lab, make)?;
        let (workload, address) = them.member.workload()?;
        lab.apply(PEER)?;
        lab.apply(OPEN)?;
        them.wait_whole(lab)?;
        let ours = &lab.nodes[OURS];
        // The router knows ways, too; a route that is gone must not hide behind the default one.
        ours.run(&format!("ip route add unreachable {POOL} metric 4000000000")).ok()?;
        let pod = lab.pods.last().context("no pod")?;
        let mut once = workload.run("ping -n -c 1 -W 1");
        once = once.arg(pod.address.to_string());
        eventually("the policy in force", seconds(10), || once.ok())?;
        let pings = vec![
            LongPing::start_every("0.005", &pod.netns, address)?,
            LongPing::start_every("0.005", &workload, pod.address)?,
        ];
        let theirs = &them.member.host;
        let watches = vec![RouteWatch::start(ours)?, RouteWatch::within(&theirs.netns, &theirs.dir)?];
        Ok(Road { them, pings, watches })
    }

    fn more(&self, what: &str) -> Result<()> {
        wait_answers(&self.pings, ANSWERS, what)
    }

    fn nothing_lost(self) -> Result<()> {
        let deleted: Vec<String> = self.watches.iter().flat_map(RouteWatch::deleted).collect();
        for ping in self.pings {
            let count = ping.stop()?;
            ensure!(count.lost() == 0, "{count:?}; routes deleted: {deleted:?}");
        }
        ensure!(deleted.is_empty(), "routes were deleted: {deleted:?}");
        Ok(())
    }
}

/// The member is killed; our kernel goes on sending to it. What its own kernel does is not ours: zebra drops a route now and then
/// when bgpd is back, so it has a static way to the pod.
fn they_are_killed(lab: &Lab, make: Make) -> Result<()> {
    let mut road = Road::build(lab, make)?;
    let node = &lab.nodes[OURS].place.address;
    let pod = lab.pods[0].address;
    road.them.member.host.netns.run(&format!("ip route add {pod} via {node} proto static")).ok()?;
    road.watches.truncate(1);
    for _ in 0..ROUNDS {
        road.them.speaker.kill()?;
        eventually("the loss noticed", seconds(10), || {
            let row = member::row(&lab.nodes[OURS])?;
            ensure!(!row.contains("Established"), "{row}");
            Ok(())
        })?;
        road.more("with the member killed")?;
        road.them.speaker.restart()?;
        road.them.wait_whole(lab)?;
        road.more("with the member back")?;
    }
    road.nothing_lost()
}

/// Our agent is killed; the member's kernel goes on sending to us.
fn we_are_killed(lab: &mut Lab, make: Make) -> Result<()> {
    let road = Road::build(lab, make)?;
    let address = lab.nodes[OURS].place.address.to_string();
    for _ in 0..ROUNDS {
        lab.nodes[OURS].kill()?;
        eventually("the loss noticed", seconds(10), || {
            ensure!(!road.them.speaker.is_established(&address)?, "still up");
            Ok(())
        })?;
        road.more("with our agent killed")?;
        lab.nodes[OURS].start()?;
        lab.nodes[OURS].wait_ready()?;
        road.them.wait_whole(lab)?;
        road.more("with our agent back")?;
    }
    road.nothing_lost()
}

scenario!(with_pod, fn frr_is_killed_and_no_packet_is_lost(lab) { they_are_killed(lab, Make::Frr) });
scenario!(with_pod, fn gobgp_is_killed_and_no_packet_is_lost(lab) { they_are_killed(lab, Make::Gobgp) });
scenario!(with_pod, fn we_are_killed_beside_frr_and_no_packet_is_lost(lab) { we_are_killed(lab, Make::Frr) });
scenario!(with_pod, fn we_are_killed_beside_gobgp_and_no_packet_is_lost(lab) { we_are_killed(lab, Make::Gobgp) });
