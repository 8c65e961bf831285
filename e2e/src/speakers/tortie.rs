//! `tortie-bgpd`.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Family, Host, Learned, Peer, Setup, Speaker};
use crate::eventually::{eventually, seconds};
use crate::process::{Daemon, Run, bin_dir};

/// A running daemon.
#[derive(Debug)]
pub struct Tortie {
    host: Host,
    daemon: Option<Daemon>,
}

impl Tortie {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(host: &Host, setup: &Setup) -> Result<Tortie> {
        host.write("bgpd.yaml", &configuration(host, setup))?;
        let mut tortie = Tortie { host: host.clone(), daemon: None };
        tortie.launch()?;
        Ok(tortie)
    }

    fn launch(&mut self) -> Result<()> {
        let config = self.host.file("bgpd.yaml").display().to_string();
        let mut daemon =
            Daemon::start(&self.command("--config")?.arg(config), &self.host.file("tortie-bgpd.log"))?;
        eventually("tortie-bgpd answering", seconds(10), || {
            daemon.still_runs()?;
            self.ask("status").map(drop)
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn command(&self, verb: &str) -> Result<Run> {
        let socket = self.host.file("bgpd.sock").display().to_string();
        let program = bin_dir()?.join("tortie-bgpd");
        ensure!(program.is_file(), "no {}: run `cargo build --workspace --bins`", program.display());
        let program = program.display().to_string();
        Ok(self.host.netns.run(&program).arg("--socket").arg(socket).arg(verb))
    }

    /// `status` or `routes`, as JSON.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&self, question: &str) -> Result<Value> {
        let text = self.command(question)?.arg("--json").ok()?;
        serde_json::from_str(&text).with_context(|| format!("{question} is answered with {text:?}"))
    }

    /// A peer's entry of `status`.
    ///
    /// # Errors
    /// When there is none.
    pub fn peer(&self, address: &str) -> Result<Value> {
        let status = self.ask("status")?;
        let mut peers = status["peers"].as_array().into_iter().flatten();
        peers
            .find(|peer| peer["address"] == address)
            .cloned()
            .with_context(|| format!("no {address} in {status}"))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.host.file("tortie-bgpd.log")).unwrap_or_default()
    }

    /// Replaces its file by one of the test's own; it is read within a second.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, text: &str) -> Result<()> {
        self.host.write("bgpd.yaml", text).map(drop)
    }
}

impl Speaker for Tortie {
    fn is_established(&self, peer: &str) -> Result<bool> {
        Ok(self.peer(peer)?["state"] == "Established")
    }

    fn learned(&self, family: Family) -> Result<Learned> {
        let answer = self.ask("routes")?;
        let mut learned = Learned::new();
        for route in answer["learned"].as_array().into_iter().flatten() {
            let prefix = route["prefix"].as_str().unwrap_or_default();
            let hops = route["next_hops"].as_array().into_iter().flatten().filter_map(Value::as_str);
            learned.extend(hops.map(|hop| (prefix.to_owned(), hop.to_owned())));
        }
        learned.retain(|(prefix, _)| Family::of(prefix) == family);
        Ok(learned)
    }

    fn received(&self, peer: &str) -> Result<usize> {
        let count = self.peer(peer)?["received"].as_u64().context("no count")?;
        Ok(usize::try_from(count)?)
    }

    fn describe(&self, peer: &str) -> Result<String> {
        Ok(self.peer(peer)?.to_string())
    }

    fn reconfigure(&mut self, setup: &Setup) -> Result<()> {
        let before = self.log().matches("configuration read").count();
        self.write(&configuration(&self.host, setup))?;
        eventually("the new file read", seconds(5), || {
            ensure!(self.log().matches("configuration read").count() > before, "not yet");
            Ok(())
        })
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.daemon.as_mut().context("it does not run")?.signal(signal)
    }

    fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("it does not run")?.stop(Signal::SIGKILL).map(drop)
    }

    fn restart(&mut self) -> Result<()> {
        self.launch()
    }
}

/// The file for a setup.
pub fn configuration(host: &Host, setup: &Setup) -> String {
    let mut text =
        format!("as: {}\nrouter-id: {}\noriginate: {:?}\npeers:\n", setup.asn, host.id(), setup.originate);
    setup.peers.iter().for_each(|peer| text += &entry(peer));
    text
}

fn entry(peer: &Peer) -> String {
    let mut text = format!(
        "- address: '{}'\n  local-address: '{}'\n  as: {}\n  passive: {}\n  hold-time: {}\n  connect-retry: 1\n  \
         restart-time: {}\n  reflector-client: {}\n",
        peer.address,
        peer.local,
        peer.asn,
        peer.passive,
        peer.hold,
        peer.restart.unwrap_or(0),
        peer.client
    );
    // Writing to a String does not fail.
    let _ = match &peer.password {
        Some(password) => writeln!(text, "  password: {password:?}"),
        None => Ok(()),
    };
    if peer.gtsm {
        text += "  ttl-security: 1\n";
    }
    if peer.add_path {
        text += "  add-path: both\n";
    }
    if let Some(prefix) = &peer.refuse {
        let _ = writeln!(text, "  import: ['!{prefix}', '0.0.0.0/0+', '::/0+']");
    }
    if peer.ipv4_over_ipv6 {
        text += "  families: [ipv4, ipv6]\n  extended-next-hop: true\n";
    }
    for line in peer.extra.lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}
