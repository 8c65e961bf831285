//! What the demo prints: numbered headings, commands as typed on a node, their output, a line per check.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};

use anyhow::Result;

use crate::process::{Output, Run};

/// Colours, used on a terminal only.
const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// The running report. Printing goes to standard output; when nobody reads it any more, the demo goes on.
#[derive(Debug)]
pub struct Report {
    colours: bool,
    step: u32,
    held: u32,
    failed: Vec<String>,
}

impl Report {
    /// A report whose next step has this number.
    pub fn starting_at(step: u32) -> Report {
        Report { colours: stdout().is_terminal(), step, held: 0, failed: Vec::new() }
    }

    /// Begins a step.
    pub fn step(&mut self, title: &str) {
        let title = format!("{}. {title}", self.step);
        self.step += 1;
        self.print(&format!("\n{}\n", self.painted(BOLD, &title)));
    }

    /// A line or more of explanation.
    pub fn say(&self, text: impl Display) {
        self.print(&format!("{text}\n"));
    }

    /// Runs a command, shows it as typed at `place` and what it printed, and returns that.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn show(&self, place: &str, run: &Run) -> Result<Output> {
        let output = run.output()?;
        self.show_output(place, &output);
        Ok(output)
    }

    /// Shows a command that ran.
    pub fn show_output(&self, place: &str, output: &Output) {
        let prompt = self.painted(DIM, &format!("{place}#"));
        let mut text = format!("{prompt} {}\n", output.command);
        for line in output.text().trim_end().lines() {
            text += &format!("  {}\n", line.trim_end());
        }
        self.print(&text);
    }

    /// A check that holds or does not; the demo goes on either way.
    pub fn check(&mut self, what: impl Display, held: bool) {
        if held {
            self.held += 1;
            self.print(&format!("{} {what}\n", self.painted(GREEN, "✓")));
        } else {
            self.failed.push(what.to_string());
            self.print(&format!("{} {what}\n", self.painted(RED, "✗")));
        }
    }

    /// The same with a reason when it does not hold.
    pub fn check_result<T>(&mut self, what: impl Display, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.check(what, true);
                Some(value)
            }
            Err(error) => {
                self.check(format!("{what}: {error:#}"), false);
                None
            }
        }
    }

    /// Whether every check held so far.
    pub fn all_held(&self) -> bool {
        self.failed.is_empty()
    }

    /// The last lines: how many checks held, and which did not.
    pub fn summary(&self) {
        if self.failed.is_empty() {
            self.say(format!("\n{}", self.painted(GREEN, &format!("{} checks, all held.", self.held))));
            return;
        }
        self.say(format!(
            "\n{} of {} checks did not hold:",
            self.failed.len(),
            self.held as usize + self.failed.len()
        ));
        for what in &self.failed {
            self.say(format!("{} {what}", self.painted(RED, "✗")));
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }

    fn print(&self, text: &str) {
        let mut out = stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Prints a line to standard output; nobody listening is no error.
pub fn tell(text: impl Display) {
    let _ = writeln!(stdout(), "{text}");
}

/// Prints an error with all its causes to standard error.
pub fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "tortie-lab: {error:#}");
}
