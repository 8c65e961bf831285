//! Beside rules of others on node1: a table of plain nft, firewalld, Docker. What they stop, ours cannot open: `tortiectl node
//! checksystem` names it, and what it says to type opens it. Our own rules stay what the agent wants throughout.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tortie_e2e::demo::PODS;
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::firewalls::{Docker, Firewalld};
use tortie_e2e::lab::Lab;
use tortie_e2e::netns::Netns;
use tortie_e2e::process::Run;
use tortie_e2e::rules::{agree_within, all_agree, list};
use tortie_e2e::scenario;
use tortie_e2e::traffic::{connect, serve};
use tortie_e2e::workload::Pod;

/// A firewall as people write it: known flows and the machine's own needs, but not BGP, and nothing that is forwarded.
const PLAIN: &str = "
table inet fw {
	chain incoming {
		type filter hook input priority 0; policy drop;
		ct state vmap { established : accept, related : accept, invalid : drop }
		iif lo accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport { 22, 443 } accept
	}
	chain forwarded {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
	}
}
";

fn with_pods() -> Result<Lab> {
    with_pods_in(Lab::up()?)
}

/// The same where everybody may change the rules of node1, as on kernels before 6.9.
fn with_a_shared_table() -> Result<Lab> {
    let mut lab = Lab::build()?;
    lab.nodes[0].set_env("TORTIE_NFT_OWNER", "false");
    lab.configure_and_start()?;
    with_pods_in(lab)
}

fn with_pods_in(mut lab: Lab) -> Result<Lab> {
    for wanted in PODS {
        lab.add_pod(wanted)?;
    }
    lab.wait_routes()?;
    let report = check(&lab)?;
    ensure!(report.code == 0 && report.conflicts.is_empty(), "before anybody else came: {}", report.text);
    Ok(lab)
}

scenario!(
    with_pods,
    fn a_table_of_plain_nft(lab) {
        let node = &lab.nodes[0];
        node.run("nft -f -").stdin(PLAIN).ok()?;
        let shell = |line: &str| node.run("sh -c").arg(line);
        closes_and_is_opened(lab, "inet fw", &["incoming", "forwarded"], &shell)?;
        node.run("nft flush ruleset").ok()?;
        agree_within(node, seconds(1))?;
        ensure!(!list(&node.netns)?.contains("table inet fw"), "the other table was flushed");
        policy_holds(lab)
    }
);

scenario!(
    with_a_shared_table,
    fn rules_that_others_remove_are_back_within_a_second(lab) {
        let node = &lab.nodes[0];
        for command in ["nft flush ruleset", "nft delete table inet tortie", "nft flush table inet tortie"] {
            node.run(command).ok()?;
            agree_within(node, seconds(1)).context(command)?;
        }
        policy_holds(lab)
    }
);

scenario!(
    with_pods,
    fn firewalld(lab) {
        let firewalld = Firewalld::start(&lab.nodes[0])?;
        let shell = |line: &str| firewalld.shell(line);
        closes_and_is_opened(lab, "inet firewalld", &["filter_FORWARD", "filter_INPUT"], &shell)?;
        shell("firewall-cmd --reload").ok()?;
        agree_within(&lab.nodes[0], seconds(1))?;
        shell("firewall-cmd --complete-reload").ok()?;
        agree_within(&lab.nodes[0], seconds(1))?;
        policy_holds(lab)
    }
);

scenario!(
    with_pods,
    fn docker(lab) {
        let mut docker = Docker::start(&lab.nodes[0])?;
        let node = &lab.nodes[0];
        let shell = |line: &str| node.run("sh -c").arg(line);
        closes_and_is_opened(lab, "ip filter", &["FORWARD"], &shell)?;
        docker.restart()?;
        agree_within(node, seconds(1))?;
        policy_holds(lab)
    }
);

/// These chains of a table stop what is forwarded; they are named; what is to be typed opens them.
fn closes_and_is_opened(lab: &Lab, table: &str, chains: &[&str], shell: &dyn Fn(&str) -> Run) -> Result<()> {
    let [web, guest, client] = [0, 1, 2].map(|index| &lab.pods[index]);
    let pairs = [(web, client), (client, web), (guest, web)];
    all_agree(lab)?;
    for (from, to) in pairs {
        ensure!(!answers(from, to)?, "{} reaches {} although {table} drops", from.name, to.name);
    }
    let report = check(lab)?;
    ensure!(report.code == 1, "{}", report.text);
    for chain in chains {
        let named = report.conflicts.iter().any(|c| c["table"] == table && c["chain"] == *chain);
        ensure!(named, "nobody names {table} {chain}: {}", report.text);
    }
    let text = lab.nodes[0].tortiectl("node checksystem")?.output()?;
    ensure!(text.stdout.contains(&format!("table {table}, chain {}", chains[0])), "{}", text.text());
    for command in report.commands() {
        ensure!(text.stdout.contains(&command), "people are not told {command}: {}", text.text());
        shell(&command).ok()?;
    }
    for (from, to) in pairs {
        eventually(&format!("{} reaching {}", from.name, to.name), seconds(5), || {
            ensure!(answers(from, to)?, "no answer");
            Ok(())
        })?;
    }
    let report = check(lab)?;
    ensure!(report.code == 0, "after what it said was done: {}", report.text);
    all_agree(lab)?;
    lab.wait_established()?;
    policy_holds(lab)
}

/// A policy lets one pod in and another not, and goes again.
fn policy_holds(lab: &Lab) -> Result<()> {
    let [web, guest, client] = [0, 1, 2].map(|index| &lab.pods[index]);
    let _server = serve(&web.netns, "tcp", 80)?;
    let reaches = |from: &Netns| Ok::<_, anyhow::Error>(connect(from, "tcp", web.address, 80)?.success());
    lab.apply(
        "apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: default}
spec:
  selector: role == 'web'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: role == 'client'}, destination: {ports: [80]}}
",
    )?;
    eventually("the policy in force", seconds(10), || {
        ensure!(!reaches(&guest.netns)?, "{} still gets through", guest.name);
        Ok(())
    })?;
    ensure!(reaches(&client.netns)?, "{} is allowed and does not get through", client.name);
    all_agree(lab)?;
    lab.nodes[0].tortiectl("delete networkPolicy web")?.ok()?;
    eventually("the policy gone", seconds(10), || {
        ensure!(reaches(&guest.netns)?, "{} does not get through", guest.name);
        Ok(())
    })?;
    all_agree(lab)
}

fn answers(from: &Pod, to: &Pod) -> Result<bool> {
    Ok(from.netns.run(&format!("ping -n -c 1 -W 1 {}", to.address)).output()?.success())
}

/// What `node checksystem` says on node1.
struct Check {
    code: i32,
    conflicts: Vec<Value>,
    text: String,
}

fn check(lab: &Lab) -> Result<Check> {
    list(&lab.nodes[0].netns)?;
    let output = lab.nodes[0].tortiectl("node checksystem -o json")?.output()?;
    let report: Value = serde_json::from_str(&output.stdout).with_context(|| output.text())?;
    let conflicts = report["conflicts"].as_array().context("a report without conflicts")?.clone();
    Ok(Check { code: output.code.context("killed")?, conflicts, text: output.text() })
}

impl Check {
    /// What to type, in order.
    fn commands(&self) -> Vec<String> {
        let of = |conflict: &Value| conflict["remedy"].as_array().cloned().unwrap_or_default();
        let commands = self.conflicts.iter().flat_map(of);
        commands.filter_map(|command| command.as_str().map(str::to_owned)).collect()
    }
}
