//! tortie-bgpd: a BGP speaker with a file for its configuration and nothing else of Tortie around it: a route reflector or
//! route server. It learns and announces; no route of it reaches a kernel.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use ipnetwork::IpNetwork;
use tracing_subscriber::EnvFilter;

mod config;
mod daemon;
mod status;
mod watch;

use config::Config;
use status::{Of, Question, client};

/// A route reflector or route server, configured by a file.
///
/// The file is read again on SIGHUP and when it changes; a file with a mistake changes nothing. SIGTERM and SIGINT
/// stop it without a NOTIFICATION, so peers keep its routes for the restart time. RUST_LOG=debug makes it talkative.
#[derive(Parser)]
#[command(name = "tortie-bgpd", version)]
struct Cli {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "/etc/tortie/bgpd.yaml")]
    config: PathBuf,
    /// Only say whether the configuration is good
    #[arg(long)]
    check: bool,
    /// Where a running daemon answers `status` and `routes`
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "TORTIE_BGPD_SOCKET",
        default_value = "/run/tortie-bgpd.sock"
    )]
    socket: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the peers of a running daemon
    ///
    /// Example: tortie-bgpd status --json
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the best learned routes of a running daemon, those of a peer, or why a route is what it is
    ///
    /// Example: tortie-bgpd routes --peer 10.0.0.2 --in
    Routes(RoutesArgs),
}

#[derive(Args)]
struct RoutesArgs {
    /// Name or address of a peer: paths accepted from it
    #[arg(long)]
    peer: Option<String>,
    /// What the peer announced, with what became of it
    #[arg(long = "in", requires = "peer", group = "view")]
    received: bool,
    /// What the peer is told
    #[arg(long = "out", requires = "peer", group = "view")]
    sent: bool,
    /// The best routes, as without options
    #[arg(long, group = "view", conflicts_with = "peer")]
    best: bool,
    /// Why this prefix, or the longest one that holds it, is what it is; with --peer, what that peer is told
    #[arg(long, value_name = "PREFIX", group = "view")]
    explain: Option<IpNetwork>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl RoutesArgs {
    fn question(self) -> Question {
        let of = match self {
            RoutesArgs { received: true, .. } => Of::Received,
            RoutesArgs { sent: true, .. } => Of::Sent,
            _ => Of::Accepted,
        };
        match (self.explain, self.peer) {
            (Some(prefix), peer) => Question::Why(prefix, peer),
            (None, Some(peer)) => Question::Paths(of, peer),
            (None, None) => Question::Best,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(text) => say(&text),
        Err(error) => {
            // Nobody can be told that stderr is closed.
            let _ = writeln!(io::stderr(), "tortie-bgpd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is to be printed at the end.
fn run(cli: Cli) -> Result<String> {
    match cli.verb {
        Some(Verb::Status { json }) => client::ask(&cli.socket, &Question::Peers, json),
        Some(Verb::Routes(args)) => {
            let json = args.json;
            client::ask(&cli.socket, &args.question(), json)
        }
        None if cli.check => {
            let config = Config::read(&cli.config)?;
            Ok(format!("{}: good, {} peers\n", cli.config.display(), config.speaker.peers.len()))
        }
        None => {
            start_log();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("cannot start the runtime")?.block_on(daemon::run(&cli.config, &cli.socket))?;
            Ok(String::new())
        }
    }
}

fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        .init();
}

fn say(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "tortie-bgpd: cannot write the output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
