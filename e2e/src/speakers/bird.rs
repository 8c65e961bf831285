//! BIRD 2.

use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{Family, Host, Learned, Peer, Setup, Speaker};
use crate::eventually::{eventually, seconds};
use crate::process::Daemon;

/// A running daemon.
#[derive(Debug)]
pub struct Bird {
    host: Host,
    daemon: Option<Daemon>,
}

impl Bird {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(host: &Host, setup: &Setup) -> Result<Bird> {
        host.write("bird.conf", &configuration(host, setup))?;
        let mut bird = Bird { host: host.clone(), daemon: None };
        bird.launch(&[])?;
        Ok(bird)
    }

    fn launch(&mut self, flags: &[&str]) -> Result<()> {
        let path = |name: &str| self.host.file(name).display().to_string();
        let mut run =
            self.host.netns.run("bird -f -c").arg(path("bird.conf")).arg("-s").arg(path("bird.ctl"));
        run = run.arg("-P").arg(path("bird.pid"));
        for flag in flags {
            run = run.arg(*flag);
        }
        let mut daemon = Daemon::start(&run, &self.host.file("bird.log"))?;
        eventually("BIRD answering", seconds(10), || {
            daemon.still_runs()?;
            self.ask("show status").map(drop)
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// What `birdc` answers.
    ///
    /// # Errors
    /// When BIRD does not answer; that it found nothing is an answer.
    pub fn ask(&self, question: &str) -> Result<String> {
        let socket = self.host.file("bird.ctl").display().to_string();
        let run = self.host.netns.run("birdc -s").arg(socket).arg(question);
        let output = run.output()?;
        ensure!(output.stdout.contains("ready."), "{}", output.text());
        Ok(output.stdout)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.host.file("bird.log")).unwrap_or_default()
    }
}

/// The protocol of a peer.
pub fn protocol(peer: &str) -> String {
    format!("p_{}", peer.replace(['.', ':'], "_"))
}

impl Speaker for Bird {
    fn is_established(&self, peer: &str) -> Result<bool> {
        Ok(self.ask(&format!("show protocols {}", protocol(peer)))?.contains("Established"))
    }

    fn learned(&self, family: Family) -> Result<Learned> {
        let table = if family == Family::V4 { "master4" } else { "master6" };
        Ok(paths(&self.ask(&format!("show route all table {table} where source = RTS_BGP"))?))
    }

    fn received(&self, peer: &str) -> Result<usize> {
        let text = self.describe(peer)?;
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("Routes:"));
        // One line a channel.
        lines
            .map(|line| {
                line.split_whitespace().next().context("no count")?.parse::<usize>().context("no count")
            })
            .sum()
    }

    fn describe(&self, peer: &str) -> Result<String> {
        self.ask(&format!("show protocols all {}", protocol(peer)))
    }

    fn reconfigure(&mut self, setup: &Setup) -> Result<()> {
        self.host.write("bird.conf", &configuration(&self.host, setup))?;
        let answer = self.ask("configure")?;
        ensure!(answer.contains("Reconfigured") || answer.contains("in progress"), "{answer}");
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.daemon.as_mut().context("it does not run")?.signal(signal)
    }

    fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("it does not run")?.stop(Signal::SIGKILL)?;
        // Nobody else may find the socket of the dead.
        std::fs::remove_file(self.host.file("bird.ctl")).context("no control socket")
    }

    fn restart(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            bail!("it still runs");
        }
        self.launch(&["-R"])
    }
}

/// Reads `show route all`: a line with a prefix, or blanks for a further path of the one before, then its attributes.
fn paths(text: &str) -> Learned {
    let mut learned = Learned::new();
    let mut prefix = "";
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !line.starts_with(['\t', ' ']) && first.contains('/') {
            prefix = first;
        }
        if let Some(hop) = line.trim().strip_prefix("BGP.next_hop: ") {
            // An IPv6 next hop may be followed by a link-local one.
            let hop = hop.split_whitespace().next().unwrap_or_default();
            learned.push((prefix.to_owned(), hop.to_owned()));
        }
    }
    learned.sort();
    learned
}

fn configuration(host: &Host, setup: &Setup) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {};\ngraceful restart wait 20;\nprotocol device {{ }}\nprotocol direct {{ ipv4; ipv6; }}\n",
        host.id()
    );
    for family in super::lan::FAMILIES {
        let word = family.word();
        let routes: String =
            setup.of_family(family).map(|prefix| format!("  route {prefix} blackhole;\n")).collect();
        // Writing to a String does not fail.
        let _ = write!(text, "protocol static static_{word} {{\n  {word};\n{routes}}}\n");
    }
    text += &setup.extra;
    setup.peers.iter().for_each(|peer| text += &section(host, setup.asn, peer));
    text
}

fn section(host: &Host, asn: u32, peer: &Peer) -> String {
    let on = |flag: bool, words: &str| if flag { format!("  {words}\n") } else { String::new() };
    let password = peer.password.as_ref().map_or(String::new(), |key| format!("  password \"{key}\";\n"));
    let restart = match peer.restart {
        Some(time) => format!("  graceful restart on;\n  graceful restart time {time};\n"),
        None => "  graceful restart off;\n".to_owned(),
    };
    let add_path = on(peer.add_path, "  add paths on;");
    let channel = |word: &str, more: &str| {
        let import =
            peer.refuse.as_ref().map_or("import all".to_owned(), |net| format!("import where net != {net}"));
        let export = "export where source ~ [RTS_STATIC, RTS_BGP]";
        format!("  {word} {{\n    {import}; {export};\n{add_path}{more}  }};\n")
    };
    let mut channels = channel(peer.family().word(), "");
    if peer.ipv4_over_ipv6 {
        channels += &channel("ipv4", "    extended next hop on;\n");
    }
    let client = on(peer.client, &format!("rr client; rr cluster id {};", host.id()));
    format!(
        "protocol bgp {name} {{\n  local {local} as {asn};\n  neighbor {address} as {their_as};\n  {distance};\n  \
         connect delay time 1; connect retry time 1; error wait time 1, 2;\n  hold time {hold};\n\
         {passive}{gtsm}{client}{password}{restart}{extra}{channels}}}\n",
        name = protocol(&peer.address),
        local = peer.local,
        address = peer.address,
        their_as = peer.asn,
        distance = if peer.multihop { "multihop" } else { "direct" },
        hold = peer.hold,
        passive = on(peer.passive, "passive on;"),
        gtsm = on(peer.gtsm, "ttl security on;"),
        extra = peer.extra,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_read() {
        let text = "BIRD 2.0.12 ready.\nTable master4:\n\
            10.0.0.0/24          unicast [p_1 12:00:00.000] * (100) [AS1i]\n\tvia 10.9.0.1 on eth0\n\tType: BGP univ\n\
            \tBGP.next_hop: 10.9.0.1\n\
            \x20                    unicast [p_2 12:00:00.000] (100) [AS2i]\n\tBGP.next_hop: 10.9.0.2 fe80::1\n";
        let path = |hop: &str| ("10.0.0.0/24".to_owned(), hop.to_owned());
        assert_eq!(paths(text), [path("10.9.0.1"), path("10.9.0.2")]);
    }
}
