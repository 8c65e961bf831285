//! Commands that end and daemons that stay, each in a namespace of choice.
//!
//! A command has a deadline and is killed past it. A daemon is killed when its value goes out of scope. Only processes
//! started here are ever signalled, by their handle.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually::{eventually, seconds};
use crate::netns::Netns;

/// Where programs are looked for: an ordinary user's PATH lacks the sbin directories.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names the directory of our own binaries.
pub const BIN_DIR: &str = "TORTIE_BIN_DIR";

/// The directory of our own binaries: `TORTIE_BIN_DIR`, else that of the running program (a test's binary lies one
/// below).
///
/// # Errors
/// When they are not there.
pub fn bin_dir() -> Result<PathBuf> {
    let given = std::env::var_os(BIN_DIR).map(PathBuf::from);
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let candidates = given.into_iter().chain(own.ancestors().skip(1).take(2).map(Path::to_owned));
    let mut tried = Vec::new();
    for candidate in candidates {
        if ["tortie-node", "tortie-cni", "tortiectl"].iter().all(|name| candidate.join(name).is_file()) {
            return Ok(candidate);
        }
        tried.push(candidate.display().to_string());
    }
    bail!(
        "tortie-node, tortie-cni and tortiectl are in none of {}: run `cargo build --workspace --bins` or set {BIN_DIR}",
        tried.join(", ")
    )
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command, as shown to people.
    pub command: String,
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Fails unless it ended with 0.
    ///
    /// # Errors
    /// That, with what it printed.
    pub fn require(&self) -> Result<()> {
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        ensure!(self.success(), "`{}` ended with {code}: {}", self.command, self.text().trim());
        Ok(())
    }

    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A command to be run.
#[derive(Clone, Debug)]
pub struct Run {
    netns: Option<Netns>,
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Option<String>,
    limit: Duration,
}

impl Run {
    /// A command whose words are separated by blanks; there is no quoting.
    ///
    /// # Panics
    /// On an empty line.
    pub fn line(line: &str) -> Run {
        let mut words = line.split_whitespace().map(str::to_owned);
        let program = words.next().expect("a command line names a program");
        let args = words.collect();
        Run { netns: None, program, args, env: Vec::new(), stdin: None, limit: seconds(20) }
    }

    /// One more argument, blanks and all.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Run {
        self.args.push(arg.into());
        self
    }

    /// More arguments, separated by blanks.
    #[must_use]
    pub fn args(mut self, words: &str) -> Run {
        self.args.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// In a namespace.
    #[must_use]
    pub fn within(mut self, netns: &Netns) -> Run {
        self.netns = Some(netns.clone());
        self
    }

    /// With environment variables besides PATH; nothing else is inherited.
    #[must_use]
    pub fn envs(mut self, pairs: &[(String, String)]) -> Run {
        self.env.extend_from_slice(pairs);
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Run {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// With text on standard input; without, it is empty.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<String>) -> Run {
        self.stdin = Some(text.into());
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Run {
        self.limit = limit;
        self
    }

    /// The command as shown to people: the program without its directory.
    pub fn display(&self) -> String {
        let program = Path::new(&self.program).file_name().and_then(OsStr::to_str).unwrap_or(&self.program);
        let mut words = vec![program];
        words.extend(self.args.iter().map(String::as_str));
        words.join(" ")
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or takes too long; a failing exit code is no error here.
    pub fn output(&self) -> Result<Output> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), &self.stdin) {
            // A program that fails before reading its input closes the pipe; its exit code tells.
            let _ = stdin.write_all(text.as_bytes());
        }
        let stdout = child.stdout.take().map(read_all);
        let stderr = child.stderr.take().map(read_all);
        let mut texts = Vec::new();
        for reader in [stdout, stderr].into_iter().flatten() {
            match reader.recv_timeout(self.limit) {
                Ok(text) => texts.push(text),
                Err(_) => {
                    child.kill().context("cannot kill a command past its deadline")?;
                    child.wait()?;
                    bail!(
                        "`{}` did not end within {} s and was killed",
                        self.display(),
                        self.limit.as_secs()
                    );
                }
            }
        }
        let status = child.wait()?;
        let mut texts = texts.into_iter();
        Ok(Output {
            command: self.display(),
            code: status.code(),
            stdout: texts.next().unwrap_or_default(),
            stderr: texts.next().unwrap_or_default(),
        })
    }

    /// Runs it and returns its standard output.
    ///
    /// # Errors
    /// As [`Run::output`], and when it ends with anything but 0.
    pub fn ok(&self) -> Result<String> {
        let output = self.output()?;
        let place = self.netns.as_ref().map_or("the sandbox", Netns::name);
        output.require().with_context(|| format!("in {place}"))?;
        Ok(output.stdout)
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.resolve()?);
        command.args(&self.args).env_clear().env("PATH", PATH).envs(self.env.iter().cloned());
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        Ok(command)
    }

    fn resolve(&self) -> Result<PathBuf> {
        if self.program.starts_with('/') {
            return Ok(PathBuf::from(&self.program));
        }
        PATH.split(':').map(|dir| Path::new(dir).join(&self.program)).find(|path| path.is_file()).ok_or_else(
            || {
                anyhow!(
                    "`{}` is not installed (looked in {PATH}); `make demo` installs what it lacks",
                    self.program
                )
            },
        )
    }

    fn spawn(&self, command: &mut Command) -> Result<Child> {
        let child = match &self.netns {
            Some(netns) => netns.enter(|| command.spawn())?,
            None => command.spawn(),
        };
        child.with_context(|| format!("cannot start `{}`", self.display()))
    }
}

/// Reads in a thread of its own, so that neither of two pipes can fill up unread.
fn read_all(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// A process that stays until told otherwise, its output in a file.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    command: String,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; its output is appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(run: &Run, log: &Path) -> Result<Daemon> {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .with_context(|| format!("cannot write {}", log.display()))
        };
        let mut command = run.command()?;
        command.stdout(open()?).stderr(open()?);
        let child = run.spawn(&mut command)?;
        Ok(Daemon { child, command: run.display(), log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails with the end of its output when it has ended.
    ///
    /// # Errors
    /// That, or when the kernel cannot tell.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let output = self.output();
                let lines: Vec<&str> = output.lines().collect();
                let tail = lines[lines.len().saturating_sub(8)..].join("\n");
                bail!("`{}` ended with {status}: {tail}", self.command)
            }
        }
    }

    /// Waits until its output has `text`.
    ///
    /// # Errors
    /// Past the deadline, or when it ends before.
    pub fn wait_for_output(&mut self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("`{}` printing {text:?}", self.command);
        eventually(&what, limit, || {
            if self.output().contains(text) {
                return Ok(());
            }
            self.still_runs()?;
            bail!("{:?}", self.output().trim())
        })
    }

    /// Signals it, waits for its end and returns its output; kills it when it takes longer than 10 s.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(mut self, signal: Signal) -> Result<String> {
        self.signal(signal)?;
        eventually(&format!("`{}` ending", self.command), seconds(10), || match self.child.try_wait()? {
            Some(_) => Ok(()),
            None => Err(anyhow!("it still runs after {signal}")),
        })?;
        Ok(self.output())
    }

    /// Signals it.
    ///
    /// # Errors
    /// When the kernel refuses; one that has ended is no error.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Not reaped yet, so the id is still ours.
        if self.child.try_wait()?.is_none() {
            let pid = i32::try_from(self.child.id()).context("a process id out of range")?;
            kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal `{}`", self.command))?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
