//! tortie-lab: the demo, a lab to look around in, and what the lab needs inside its namespaces.

use std::io::stdout;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tortie_e2e::process::bin_dir;
use tortie_e2e::report::Report;
use tortie_e2e::traffic::Transport;
use tortie_e2e::{demo, host, sandbox, traffic};

mod running;

/// A lab of network namespaces in which the real binaries run. Needs no root; touches nothing of this machine.
#[derive(Parser)]
#[command(name = "tortie-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the product's main job step by step and check each step; exit code 0 only when every check held
    Demo,
    /// Bring up nodes, sessions and pods and leave them running until Ctrl-C
    Up,
    /// The same, with a shell inside; the lab ends with the shell
    Shell,
    /// Inside a lab: run a command on a node, in a pod, on the router
    ///
    /// Example: tortie-lab exec node1 -- tortiectl node status
    Exec {
        /// The namespace: node1, node2, node3, router, outside, rack-a, rack-b or a pod
        place: String,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command in namespaces of its own, as process 1
    Enter {
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Answer TCP connections or UDP datagrams with the client's address
    Serve {
        /// tcp or udp
        transport: Transport,
        /// The port
        port: u16,
    },
    /// Ask such a server and print its answer
    Connect {
        /// tcp or udp
        transport: Transport,
        /// The server's address
        address: IpAddr,
        /// The port
        port: u16,
        /// How long to wait, in milliseconds
        #[arg(long, env = "TORTIE_LAB_WAIT_MS", default_value_t = 1000)]
        wait: u64,
    },
    /// Prepare the namespaces `enter` made, then become the command
    #[command(name = sandbox::INIT, hide = true)]
    Init {
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            tortie_e2e::report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Demo if sandbox::is_inside() => {
            let mut report = Report::starting_at(1);
            demo::run(&mut report)?;
            report.summary();
            Ok(if report.all_held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Demo => demo_outside(),
        Verb::Up if sandbox::is_inside() => running::up(),
        Verb::Shell if sandbox::is_inside() => running::shell(),
        Verb::Up => {
            let mut lab = start(&[own_path()?, "up".to_owned()])?;
            running::say_how_to_enter(lab.id())?;
            wait(&mut lab)
        }
        Verb::Shell => enter(&[own_path()?, "shell".to_owned()]),
        Verb::Exec { place, command } => running::exec(&place, &command),
        Verb::Enter { command } => enter(&command),
        Verb::Init { command } => sandbox::init(&command).map(|()| ExitCode::SUCCESS),
        Verb::Serve { transport, port } => {
            traffic::run_server(transport, port, &mut stdout()).map(|()| ExitCode::SUCCESS)
        }
        Verb::Connect { transport, address, port, wait } => {
            let seen =
                traffic::run_client(transport, SocketAddr::new(address, port), Duration::from_millis(wait))?;
            tortie_e2e::report::tell(seen);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs the demo in a sandbox and compares the machine before and after.
fn demo_outside() -> Result<ExitCode> {
    let before = host::Fingerprint::take()?;
    // In a process of its own: looking at the machine took threads, and a process with threads cannot change its user
    // namespace.
    let own = own_path()?;
    let inside =
        Command::new(&own).args(["enter", "--", &own, "demo"]).status().context("cannot start the demo")?;
    let mut report = Report::starting_at(demo::STEPS + 1);
    report.step("This machine is as it was");
    let differences = before.difference(&host::Fingerprint::take()?);
    for line in &differences {
        report.say(format!("  {line}"));
    }
    report.check(format!("{}: the same before and after", before.covers()), differences.is_empty());
    report.check("every check of every step before held", inside.success());
    report.say(if report.all_held() { "\nThe main job works." } else { "\nThe demo failed." });
    Ok(if report.all_held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn enter(command: &[String]) -> Result<ExitCode> {
    wait(&mut start(command)?)
}

fn start(command: &[String]) -> Result<Child> {
    sandbox::start(&PathBuf::from(own_path()?), &bin_dir()?, command)
}

fn wait(sandbox: &mut Child) -> Result<ExitCode> {
    let code = sandbox.wait()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn own_path() -> Result<String> {
    let path = std::env::current_exe().context("cannot tell where this program is")?;
    path.into_os_string().into_string().ok().context("this program's path is no UTF-8")
}
