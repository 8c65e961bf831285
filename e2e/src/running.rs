//! A lab to look around in: `up`, `shell` and `exec`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use tortie_e2e::demo::PODS;
use tortie_e2e::lab::Lab;
use tortie_e2e::netns::Netns;
use tortie_e2e::node::read_env;
use tortie_e2e::process::{PATH, bin_dir};
use tortie_e2e::report::tell;
use tortie_e2e::topology::DRAWING;

const HINTS: &str = "\
Inside:  tortie-lab exec node1 -- tortiectl node status
         tortie-lab exec node1 -- ip route            (nodes: node1, node2, node3)
         tortie-lab exec web -- ping 172.169.10.1     (pods: web, guest, client, far)
         tortie-lab exec router -- birdc -s /run/lab/router/bird.ctl show route
         tortie-lab exec node1 -- nft list table inet tortie
Logs:    /run/lab/node1/agent.log, /run/lab/router/bird.log, /run/lab/router/store.log";

/// Tells how to get into a lab whose first process has this id.
pub(crate) fn say_how_to_enter(pid: u32) -> Result<()> {
    let namespaces = format!("nsenter --preserve-credentials --user --mount --net --pid -t {pid}");
    let path = format!("env TORTIE_LAB_INSIDE=1 PATH={}:{PATH} bash", bin_dir()?.display());
    tell(format!("From another terminal, once it is up:  {namespaces} {path}"));
    Ok(())
}

/// Leaves a lab running until this process is killed.
pub(crate) fn up() -> Result<ExitCode> {
    let _lab = ready()?;
    tell(format!("\n{HINTS}\n\nCtrl-C ends the lab."));
    loop {
        std::thread::park();
    }
}

/// A shell inside a lab.
pub(crate) fn shell() -> Result<ExitCode> {
    let _lab = ready()?;
    tell(format!("\n{HINTS}\n\nThe lab ends with this shell."));
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let status = Command::new(&shell)
        .env("PATH", format!("{}:{PATH}", bin_dir()?.display()))
        .status()
        .with_context(|| format!("cannot start {shell}"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Runs a command in one of the lab's namespaces, with the environment a node's agent has.
pub(crate) fn exec(place: &str, command: &[String]) -> Result<ExitCode> {
    let (program, args) = command.split_first().context("no command")?;
    let status = Netns::existing(place).enter(|| {
        Command::new(program)
            .args(args)
            .env("PATH", format!("{}:{PATH}", bin_dir()?.display()))
            .envs(read_env(place))
            .status()
            .with_context(|| format!("cannot start {program}"))
    })??;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn ready() -> Result<Lab> {
    tell(DRAWING);
    let mut lab = Lab::up()?;
    for wanted in PODS {
        let pod = lab.add_pod(wanted)?;
        tell(format!("  {}: {} on {}", pod.name, pod.address, lab.nodes[pod.node].name()));
    }
    lab.wait_routes()?;
    Ok(lab)
}
