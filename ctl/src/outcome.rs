//! What a command has to say when it is done.

/// Texts for both streams and whether the command failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Data, complete with its line ends.
    pub(crate) stdout: String,
    /// Words of failure.
    pub(crate) stderr: String,
    /// Exit code 1 instead of 0.
    pub(crate) failed: bool,
}

impl Outcome {
    /// Success with data.
    pub(crate) fn ok(stdout: impl Into<String>) -> Outcome {
        Outcome { stdout: stdout.into(), ..Outcome::default() }
    }

    /// Success with one line of words.
    pub(crate) fn line(text: impl std::fmt::Display) -> Outcome {
        Outcome::ok(format!("{text}\n"))
    }

    /// Failure with words and no data.
    pub(crate) fn failed(stderr: impl Into<String>) -> Outcome {
        Outcome { stderr: stderr.into(), failed: true, ..Outcome::default() }
    }
}
