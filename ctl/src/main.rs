//! tortiectl: the command line. Invoked as `calicoctl` it behaves the same.
//!
//! Commands return what to say ([`outcome::Outcome`]), only `datastore serve` speaks while it runs. Data goes to standard
//! output, words of failure to standard error; any failure is exit code 1; a reader that goes away is no failure.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::FromArgMatches;

mod agent;
mod checksystem;
mod cli;
mod commands;
mod context;
mod input;
mod operations;
mod outcome;
mod output;

use outcome::Outcome;

fn main() -> ExitCode {
    let matches = match cli::command(std::env::args_os().next().as_deref()).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let cli = match cli::Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    start_log(cli.global.log_level);
    let outcome = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(commands::run(cli));
            // A name lookup that hangs must not hold the answer back.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Outcome::failed(format!("cannot start the runtime: {error}")),
    };
    say(&outcome)
}

/// Help goes to standard output and succeeds; a wrong command line fails like everything else, with 1.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn say(outcome: &Outcome) -> ExitCode {
    let written =
        io::stdout().lock().write_all(outcome.stdout.as_bytes()).and_then(|()| io::stdout().flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = writeln!(io::stderr(), "cannot write the output: {error}");
        return ExitCode::FAILURE;
    }
    if !outcome.stderr.is_empty() {
        let _ = writeln!(io::stderr(), "{}", outcome.stderr.trim_end());
    }
    if outcome.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn start_log(level: cli::LogLevel) {
    use tracing_subscriber::filter::LevelFilter;
    let filter = match level {
        cli::LogLevel::Panic | cli::LogLevel::Fatal => LevelFilter::OFF,
        cli::LogLevel::Error => LevelFilter::ERROR,
        cli::LogLevel::Warn => LevelFilter::WARN,
        cli::LogLevel::Info => LevelFilter::INFO,
        cli::LogLevel::Debug => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt().with_max_level(filter).with_writer(io::stderr).init();
}
