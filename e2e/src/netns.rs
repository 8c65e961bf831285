//! One named network namespace.
//!
//! Code and commands get into it through a thread of their own, since a namespace belongs to a thread and a child
//! inherits that of the thread that starts it.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::process::Run;

/// A namespace below `/run/netns`. A copy names the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Creates it, with `lo` up.
    ///
    /// # Errors
    /// When it exists already or the kernel refuses.
    pub fn add(name: &str) -> Result<Netns> {
        Run::line("ip netns add").arg(name).ok()?;
        let netns = Netns { name: name.to_owned() };
        netns.run("ip link set lo up").ok()?;
        Ok(netns)
    }

    /// One that exists.
    pub fn existing(name: &str) -> Netns {
        Netns { name: name.to_owned() }
    }

    /// Removes it. Its links go with its last process.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete(&self) -> Result<()> {
        Run::line("ip netns delete").arg(&self.name).ok().map(drop)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, as CNI wants it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command inside, its words separated by blanks.
    pub fn run(&self, line: &str) -> Run {
        Run::line(line).within(self)
    }

    /// Runs `action` in a thread inside.
    ///
    /// # Errors
    /// When the namespace is gone; `action`'s own value comes back untouched.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let file = File::open(&path).with_context(|| format!("no namespace {}", path.display()))?;
                setns(file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter {}", path.display()))?;
                Ok(action())
            });
            thread.join().unwrap_or_else(|_| Err(anyhow!("a thread inside {} panicked", self.name)))
        })
    }
}
