//! tortie-bgpd: a BGP speaker with a file for its configuration and nothing else of Tortie around it: a route reflector or
//! route server. It learns and announces; no route of it reaches a kernel.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

mod config;
mod daemon;
mod status;
mod watch;

use config::Config;
use status::{Question, client};

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
    /// Show the best learned routes of a running daemon
    Routes {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
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
        Some(Verb::Status { json }) => client::ask(&cli.socket, Question::Peers, json),
        Some(Verb::Routes { json }) => client::ask(&cli.socket, Question::Routes, json),
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
