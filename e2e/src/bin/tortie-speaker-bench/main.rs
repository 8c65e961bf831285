//! Measures a BGP speaker from outside: one thread plays all its peers. Started by `e2e/bench/run.sh` in a namespace of its own.
//!
//! `measure` runs one scenario and prints one line of JSON; `table` makes one table of many such lines. It speaks no more BGP than
//! that takes, with a codec of its own, so that a mistake in the product's codec cannot hide here.

use std::fs;
use std::io::{Write, stdout};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

mod peers;
mod report;
mod scenario;
mod table;
mod usage;
mod wire;

/// Measures BGP speakers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run one scenario against a speaker
    Measure(Measure),
    /// Print a table of measurements, a JSON object a line
    Table {
        /// The file with the lines
        file: PathBuf,
    },
}

/// What to measure.
#[derive(Args)]
struct Measure {
    /// Name of the speaker, for the report
    #[arg(long)]
    name: String,
    /// What happens
    #[arg(long)]
    scenario: Scenario,
    /// Address of the speaker; an IPv6 one makes it all IPv6
    #[arg(long)]
    target: IpAddr,
    /// Its process
    #[arg(long)]
    pid: u32,
    /// Prefixes of a feed
    #[arg(long, default_value_t = 100_000)]
    prefixes: u32,
    /// Neighbours
    #[arg(long, default_value_t = 50)]
    peers: usize,
    /// Prefixes of each neighbour
    #[arg(long, default_value_t = 1000)]
    each: u32,
    /// Prefixes that share attributes
    #[arg(long, default_value_t = 10)]
    per_set: u32,
    /// Negotiate add-path both ways and graceful restart
    #[arg(long)]
    all_capabilities: bool,
    /// Longest wait for all sessions, in seconds
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// One external peer announces, another one receives, a third comes late, the first leaves
    Feed,
    /// All external peers announce and get everything of all others; single routes, a peer lost and back
    Ebgp,
    /// The same with clients of a reflector
    Rr,
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            tortie_e2e::report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    let (text, complete) = match verb {
        Verb::Measure(wanted) => {
            let report = scenario::run(&wanted)?;
            (format!("{}\n", report.json()), report.is_complete())
        }
        Verb::Table { file } => {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            (table::render(&text)?, true)
        }
    };
    stdout().write_all(text.as_bytes()).context("cannot print")?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
