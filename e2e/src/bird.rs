//! The router's BIRD: a real top-of-rack speaker that peers with every node over eBGP.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::eventually::{eventually, seconds};
use crate::netns::Netns;
use crate::process::{Daemon, Output, Run};
use crate::topology::{NODE_AS, OUTSIDE_NET, PLACES, ROUTER_AS};

/// What the router does with the nodes' routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fabric {
    /// Learns the nodes' blocks and forwards to them.
    RoutesPools,
    /// Refuses the pool's routes: it forwards nothing but the nodes' own addresses.
    KnowsNoPools,
}

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    daemon: Option<Daemon>,
    netns: Netns,
    dir: PathBuf,
}

impl Bird {
    /// Starts it in the router's namespace, its files in `dir`.
    ///
    /// # Errors
    /// When it does not come up; with its own words.
    pub fn start(netns: &Netns, dir: &Path, fabric: Fabric) -> Result<Bird> {
        let config = dir.join("bird.conf");
        fs::write(&config, configuration(fabric))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let mut bird = Bird { daemon: None, netns: netns.clone(), dir: dir.to_owned() };
        bird.launch("")?;
        Ok(bird)
    }

    fn launch(&mut self, flags: &str) -> Result<()> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let run =
            self.netns.run("bird -f -c").arg(path("bird.conf")).arg("-s").arg(path("bird.ctl")).args(flags);
        let mut daemon = Daemon::start(&run, &self.dir.join("bird.log"))?;
        eventually("BIRD answering", seconds(10), || {
            daemon.still_runs()?;
            self.birdc("show status").ok()
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills it as `kill -9` does. The kernel keeps its routes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("BIRD does not run")?.stop(Signal::SIGKILL)?;
        // Nobody is to find the socket of the dead.
        fs::remove_file(self.dir.join("bird.ctl")).context("BIRD left no socket")
    }

    /// Starts it again as after a crash: it recovers gracefully.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn recover(&mut self) -> Result<()> {
        self.launch("-R")
    }

    /// A question for it.
    pub fn birdc(&self, question: &str) -> Run {
        Run::line("birdc -s")
            .arg(self.dir.join("bird.ctl").display().to_string())
            .arg("-r")
            .arg(question)
            .within(&self.netns)
    }

    /// The answer without its banner, with the question as people type it.
    ///
    /// # Errors
    /// When BIRD does not answer.
    pub fn ask(&self, question: &str) -> Result<Output> {
        let mut output = self.birdc(question).output()?;
        output.command = format!("birdc {question}");
        let banner = |line: &&str| !line.starts_with("BIRD ") && *line != "Access restricted";
        output.stdout = output.stdout.lines().filter(banner).map(|line| format!("{line}\n")).collect();
        Ok(output)
    }

    /// Its paths to `within` (a prefix and everything inside): prefix and next hop, in order, repetitions kept.
    ///
    /// # Errors
    /// When BIRD does not answer.
    pub fn paths(&self, within: &str) -> Result<Vec<Path4>> {
        Ok(parse_paths(&self.ask(&format!("show route table master4 where net ~ [{within}+]"))?.stdout))
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("bird.log")).unwrap_or_default()
    }
}

/// One path of BIRD's table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path4 {
    /// The prefix.
    pub prefix: String,
    /// The BGP protocol, named as the node it came from.
    pub from: String,
    /// Next hop.
    pub via: String,
    /// Whether BIRD prefers it.
    pub best: bool,
}

/// Reads `show route`: a line starts with the prefix, or with blanks for a further path to the one before; the next hop
/// follows on a line of its own.
fn parse_paths(text: &str) -> Vec<Path4> {
    let mut paths: Vec<Path4> = Vec::new();
    let mut prefix = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["via", hop, ..] = words[..] {
            if let Some(path) = paths.last_mut() {
                path.via = hop.to_owned();
            }
            continue;
        }
        if let Some(first) = words.first().filter(|word| word.contains('/') && !line.starts_with(' ')) {
            prefix = (*first).to_owned();
        }
        if let Some(from) = line.split('[').nth(1).and_then(|rest| rest.split_whitespace().next()) {
            let best = words.contains(&"*");
            paths.push(Path4 { prefix: prefix.clone(), from: from.to_owned(), via: String::new(), best });
        }
    }
    paths
}

/// Sessions with all nodes. `import table` is left off, so the table shows what was accepted.
fn configuration(fabric: Fabric) -> String {
    let import = match fabric {
        Fabric::RoutesPools => "all",
        Fabric::KnowsNoPools => "none",
    };
    let mut text = "router id 10.1.0.1;\n\
         log stderr all;\n\
         protocol device { scan time 2; }\n\
         protocol direct { ipv4; interface \"outside\"; }\n\
         protocol kernel { graceful restart; ipv4 { import none; export where source = RTS_BGP; }; }\n"
        .to_owned();
    for place in PLACES {
        text += &format!(
            "protocol bgp {} {{\n\
             \x20 local {} as {ROUTER_AS};\n\
             \x20 neighbor {} as {NODE_AS};\n\
             \x20 connect delay time 1; connect retry time 2; error wait time 1, 2; graceful restart on;\n\
             \x20 ipv4 {{ import {import}; export where net = {OUTSIDE_NET}; }};\n\
             }}\n",
            place.node, place.rack.gateway, place.address
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn show_route_is_read_with_every_path() {
        let text = "Table master4:\n\
            172.169.10.0/26      unicast [node1 23:42:15.812] * (100) [AS64512i]\n\
            \tvia 10.1.0.11 on rack-a\n\
            \x20                    unicast [node2 23:42:16.001] (100) [AS64512i]\n\
            \tvia 10.1.0.12 on rack-a\n\
            172.169.10.64/26     unicast [node2 23:42:16.001] * (100) [AS64512i]\n\
            \tvia 10.1.0.12 on rack-a\n";
        let path = |prefix: &str, from: &str, via: &str, best| Path4 {
            prefix: prefix.to_owned(),
            from: from.to_owned(),
            via: via.to_owned(),
            best,
        };
        assert_eq!(
            parse_paths(text),
            [
                path("172.169.10.0/26", "node1", "10.1.0.11", true),
                path("172.169.10.0/26", "node2", "10.1.0.12", false),
                path("172.169.10.64/26", "node2", "10.1.0.12", true),
            ]
        );
    }
}
