//! Logs: to stderr, filtered by level, as text for people or JSON for collectors; and how errors are written in them.

use std::error::Error;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging for the whole process. A second call changes nothing.
///
/// Libraries below only speak up from WARN on, unless the level asks for everything.
pub fn start(level: LevelFilter, format: Format) {
    let filter = match level {
        LevelFilter::TRACE => EnvFilter::new("trace"),
        level => {
            EnvFilter::new(format!("warn,tortie_agent={level},tortie_bgp={level},tortie_datastore={level}"))
        }
    };
    let filter = if level == LevelFilter::OFF { EnvFilter::new("off") } else { filter };
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Fails only when logging runs already.
    let _ = match format {
        Format::Text => builder.with_ansi(false).try_init(),
        Format::Json => builder.json().try_init(),
    };
}

/// An error and its causes in one line, outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
