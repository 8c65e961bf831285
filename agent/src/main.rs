//! tortie-node: the agent of a node.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tortie_agent::config::{Config, ConfigError, Environment};
use tortie_agent::{app, logging, memory};

/// How long work in the kernel may go on after the end.
const LAST_WORK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    memory::one_heap();
    let config = match Config::read(std::env::args_os(), &Environment::of_process()) {
        Ok(config) => config,
        Err(ConfigError::Flags(error)) => error.exit(),
        Err(error) => return fail(&error),
    };
    logging::start(config.log_level, config.log_format);
    if let Err(error) = tortie_bgp::net::raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start threads")?;
    let outcome = runtime.block_on(app::run(config));
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

/// Before there is a log.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    // Nobody can be told that stderr is closed.
    let _ = writeln!(std::io::stderr(), "tortie-node: {}", logging::chain(error));
    ExitCode::FAILURE
}
