//! Packets seen on a wire, by tcpdump.

use std::path::Path;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::eventually::{eventually, seconds};
use crate::netns::Netns;
use crate::node::LAB_DIR;
use crate::process::Daemon;

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    daemon: Daemon,
}

impl Capture {
    /// Starts it on an interface of a namespace and waits until it listens. `filter` is tcpdump's language.
    ///
    /// # Errors
    /// When tcpdump does not start.
    pub fn start(netns: &Netns, interface: &str, filter: &str) -> Result<Capture> {
        let log = Path::new(LAB_DIR).join(format!("capture-{}-{interface}.log", netns.name()));
        let _ = std::fs::remove_file(&log);
        // There is a single user in the sandbox, so tcpdump cannot become another one.
        let run = netns.run(&format!("tcpdump -n -t -v -l -Z root -i {interface}")).arg(filter);
        let mut daemon = Daemon::start(&run, &log)?;
        daemon.wait_for_output("listening on", seconds(5))?;
        Ok(Capture { daemon })
    }

    /// Waits until a packet's description contains `text`, then stops and returns all it saw.
    ///
    /// # Errors
    /// When no such packet comes.
    pub fn wait_for(mut self, text: &str) -> Result<String> {
        self.daemon.wait_for_output(text, seconds(5))?;
        self.stop()
    }

    /// Stops and returns all it saw, one packet after the other.
    ///
    /// # Errors
    /// When tcpdump does not end.
    pub fn stop(self) -> Result<String> {
        self.daemon.stop(Signal::SIGINT)
    }

    /// Waits until it saw so many packets.
    ///
    /// # Errors
    /// When they do not come.
    pub fn wait_for_packets(&mut self, count: usize) -> Result<()> {
        eventually(&format!("{count} captured packets"), seconds(5), || {
            let seen = self.daemon.output().lines().filter(|line| line.starts_with("IP ")).count();
            anyhow::ensure!(seen >= count, "{seen}");
            Ok(())
        })
    }
}
