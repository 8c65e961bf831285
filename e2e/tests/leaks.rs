//! Nothing leaks: agents killed with -9 while pods come and go, and afterwards the addresses given out, the endpoints
//! and the interfaces are those of the pods that live.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::lab::Lab;
use tortie_e2e::process::Output;
use tortie_e2e::scenario;
use tortie_e2e::workload::{Pod, Wanted};

/// How often the agent is killed, each time a bit later.
const ROUNDS: usize = 12;
/// Pods that come or go while it is.
const PODS: usize = 4;
/// How much later each time.
const STEP: Duration = Duration::from_millis(12);

/// Calls the plugin for all pods at once and kills the agent of the first node so long afterwards, or when they all have
/// their answer; starts it again and returns the answers.
fn killed_during(lab: &mut Lab, pods: &[Pod], command: &str, after: Duration) -> Result<Vec<Output>> {
    let calls: Vec<_> = pods
        .iter()
        .map(|pod| Ok(pod.cni(&lab.nodes[0], command)?.limit(seconds(60))))
        .collect::<Result<_>>()?;
    let (answer, answers) = mpsc::channel();
    let mut threads = Vec::new();
    for call in calls {
        let answer = answer.clone();
        threads.push(thread::spawn(move || {
            let output = call.output();
            drop(answer);
            output
        }));
    }
    drop(answer);
    // Nobody sends: this returns early only when all calls are through.
    let _: Result<(), _> = answers.recv_timeout(after);
    lab.nodes[0].kill()?;
    lab.nodes[0].start()?;
    lab.nodes[0].wait_ready()?;
    threads.into_iter().map(|thread| thread.join().expect("a call does not panic")).collect()
}

/// Addresses with their handles, endpoints and host interfaces are exactly those of the pods.
fn nothing_but(lab: &Lab, pods: &[Pod]) -> Result<()> {
    let given: BTreeSet<String> = lab.allocations()?.into_iter().map(|(address, _)| address).collect();
    let wanted: BTreeSet<String> = pods.iter().map(|pod| pod.address.to_string()).collect();
    ensure!(given == wanted, "given out are {given:?}, the pods have {wanted:?}");
    let endpoints = lab.etcd_values("/calico/resources/v3/projectcalico.org/workloadendpoints/")?;
    let named: BTreeSet<String> = endpoints
        .iter()
        .filter_map(|(_, value)| value["spec"]["containerID"].as_str().map(str::to_owned))
        .collect();
    let wanted: BTreeSet<String> = pods.iter().map(Pod::container_id).collect();
    ensure!(named == wanted, "endpoints {named:?} instead of {wanted:?}");
    let links = lab.nodes[0].run("ip -o link").ok()?;
    let links = links.lines().filter(|line| line.contains(" cali")).count();
    ensure!(links == pods.len(), "{links} interfaces for {} pods", pods.len());
    Ok(())
}

scenario!(
    Lab::up,
    fn an_agent_killed_while_pods_come_and_go_leaks_nothing(lab) {
        let (mut broken_off, mut done) = (0, 0);
        for round in 0..ROUNDS {
            let after = STEP * u32::try_from(round)?;
            let names: Vec<String> = (0..PODS).map(|index| format!("r{round}p{index}")).collect();
            let pods: Vec<Pod> = names
                .iter()
                .map(|name| Pod::prepare(Wanted { name, node: 0, labels: &[] }))
                .collect::<Result<_>>()?;
            let mut living = Vec::new();
            for (mut pod, answer) in pods.iter().cloned().zip(killed_during(lab, &pods, "ADD", after)?) {
                if answer.success() {
                    pod.read_result(&answer.stdout)?;
                    living.push(pod);
                    done += 1;
                } else {
                    // As every runtime does.
                    pod.cni(&lab.nodes[0], "DEL")?.ok()?;
                    broken_off += 1;
                }
            }
            nothing_but(lab, &living).with_context(|| format!("round {round}, after ADD"))?;
            for pod in &living {
                eventually(&format!("{} answering", pod.name), seconds(15), || {
                    let ping = lab.nodes[0].run(&format!("ping -n -c 1 -W 1 {}", pod.address)).output()?;
                    ping.require()
                })?;
            }
            for (pod, answer) in living.iter().zip(killed_during(lab, &living, "DEL", after)?) {
                if answer.success() {
                    done += 1;
                } else {
                    pod.cni(&lab.nodes[0], "DEL")?.ok()?;
                    broken_off += 1;
                }
            }
            nothing_but(lab, &[]).with_context(|| format!("round {round}, after DEL"))?;
            for pod in &pods {
                pod.netns.delete()?;
            }
        }
        println!("{done} calls succeeded, {broken_off} were broken off");
        ensure!(done > 0 && broken_off > 0, "{done} calls succeeded, {broken_off} were broken off");
        Ok(())
    }
);

scenario!(
    Lab::up,
    fn a_workload_that_went_without_a_detach_gives_its_address_back(lab) {
        let gone = lab.add_pod(Wanted { name: "gone", node: 0, labels: &[] })?;
        let lives = lab.add_pod(Wanted { name: "lives", node: 0, labels: &[] })?;
        let far = lab.add_pod(Wanted { name: "far", node: 1, labels: &[] })?;
        lab.nodes[0].kill()?;
        gone.netns.delete()?;
        eventually("the interface gone", seconds(10), || {
            let links = lab.nodes[0].run("ip -o link").ok()?;
            ensure!(!links.contains(&gone.host_interface), "{links}");
            Ok(())
        })?;
        lab.nodes[0].set_env("TORTIE_LEAK_GRACE_PERIOD", "2s");
        lab.nodes[0].start()?;
        lab.nodes[0].wait_ready()?;
        eventually("its address free", seconds(20), || {
            let given = lab.allocations()?;
            ensure!(given.len() == 2, "{given:?}");
            Ok(())
        })?;
        let given: BTreeSet<String> = lab.allocations()?.into_iter().map(|(address, _)| address).collect();
        ensure!(given == BTreeSet::from([lives.address.to_string(), far.address.to_string()]), "{given:?}");
        lives.cni(&lab.nodes[0], "CHECK")?.ok()?;
        lives.ping(far.address, 1).ok()?;
        // The detach may still come.
        let endpoints = lab.etcd_values("/calico/resources/v3/projectcalico.org/workloadendpoints/")?;
        ensure!(endpoints.len() == 2, "{endpoints:?}");
        Ok(())
    }
);
