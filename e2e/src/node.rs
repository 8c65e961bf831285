//! A node: its namespace, its agent, and tortiectl as typed on it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;

use crate::eventually::{eventually, seconds};
use crate::netns::Netns;
use crate::process::{Daemon, Run, bin_dir};
use crate::topology::{PLACES, Place};

/// Where all files of the lab are: on the sandbox's own tmpfs.
pub const LAB_DIR: &str = "/run/lab";

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// Its namespace.
    pub netns: Netns,
    dir: PathBuf,
    env: Vec<(String, String)>,
    agent: Option<Daemon>,
}

impl Node {
    /// A node whose agent does not run yet. `endpoints` is where the datastore listens.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn new(place: Place, netns: Netns, endpoints: &str) -> Result<Node> {
        let dir = Path::new(LAB_DIR).join(place.node);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = |name: &str| dir.join(name).display().to_string();
        let mut env: Vec<(String, String)> = [
            ("NODENAME", place.node.to_owned()),
            ("CALICO_NODENAME_FILE", file("nodename")),
            ("TORTIE_SOCKET", file("tortie.sock")),
            ("DATASTORE_TYPE", "etcdv3".to_owned()),
            ("ETCD_ENDPOINTS", endpoints.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        // The first node writes the default pools; the others must not bring back what was deleted since.
        if place != PLACES[0] {
            env.push(("NO_DEFAULT_POOLS".to_owned(), "true".to_owned()));
        }
        if let Ok(filter) = std::env::var("RUST_LOG") {
            env.push(("RUST_LOG".to_owned(), filter));
        }
        write_env(place.node, &env)?;
        Ok(Node { place, netns, dir, env, agent: None })
    }

    /// Gives the agent, from its next start on, an environment variable.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.place.node
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("tortie.sock")
    }

    /// A command on the node, with the environment its agent has.
    pub fn run(&self, line: &str) -> Run {
        self.netns.run(line).envs(&self.env)
    }

    /// `tortiectl` on the node.
    ///
    /// # Errors
    /// When the binary is not found.
    pub fn tortiectl(&self, line: &str) -> Result<Run> {
        Ok(self.run(&format!("{} {line}", bin_dir()?.join("tortiectl").display())))
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let run = self.run(&bin_dir()?.join("tortie-node").display().to_string());
        self.agent = Some(Daemon::start(&run, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// Waits until the agent says it is ready.
    ///
    /// # Errors
    /// Past the deadline or when it ends.
    pub fn wait_ready(&mut self) -> Result<()> {
        let socket = self.socket();
        let agent =
            self.agent.as_mut().ok_or_else(|| anyhow!("the agent of {} was not started", self.place.node))?;
        eventually(&format!("the agent of {} ready", self.place.node), seconds(20), || {
            agent.still_runs()?;
            let answer = get(&socket, "/ready")?;
            ensure!(answer.lines().next().is_some_and(|line| line.contains(" 200")), "{}", answer.trim());
            Ok(())
        })
    }

    /// Asks the agent's local API and returns the body of its answer.
    ///
    /// # Errors
    /// When there is none, or its status is not 200.
    pub fn ask(&self, path: &str) -> Result<String> {
        let answer = get(&self.socket(), path)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an empty line")?;
        ensure!(head.lines().next().is_some_and(|line| line.contains(" 200")), "{}", answer.trim());
        Ok(body.to_owned())
    }

    /// Process id of the agent.
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Daemon::pid)
    }

    /// Kills the agent as `kill -9` does.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill(&mut self) -> Result<()> {
        self.agent
            .take()
            .ok_or_else(|| anyhow!("no agent runs on {}", self.name()))?
            .stop(Signal::SIGKILL)
            .map(drop)
    }

    /// Stops the agent as an init system does.
    ///
    /// # Errors
    /// When none runs, or it does not end by itself.
    pub fn stop(&mut self) -> Result<()> {
        self.agent
            .take()
            .ok_or_else(|| anyhow!("no agent runs on {}", self.name()))?
            .stop(Signal::SIGTERM)
            .map(drop)
    }

    /// The agent's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }
}

/// Whether a line of `ip route` is a route learned by BGP: protocol 81, or its name where `ip` knows it.
pub fn is_learned(line: &str) -> bool {
    has_protocol(line, ["81", "tortie-bgp"])
}

/// Whether a line of `ip route` is one of the node's own: protocol 80, or its name.
pub fn is_own(line: &str) -> bool {
    has_protocol(line, ["80", "tortie"])
}

fn has_protocol(line: &str, names: [&str; 2]) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word != "proto").skip(1);
    words.next().is_some_and(|protocol| names.contains(&protocol))
}

/// `ip monitor route` in a namespace.
#[derive(Debug)]
pub struct RouteWatch {
    daemon: Daemon,
}

/// A route added to see that the watch has begun; reserved for documentation (RFC 5737).
const PROBE: &str = "198.51.100.1";

impl RouteWatch {
    /// Starts it and waits until it sees changes.
    ///
    /// # Errors
    /// When it sees none.
    pub fn start(node: &Node) -> Result<RouteWatch> {
        RouteWatch::within(&node.netns, &node.dir)
    }

    /// The same in any namespace, with its log in `dir`.
    ///
    /// # Errors
    /// As [`RouteWatch::start`].
    pub fn within(netns: &Netns, dir: &Path) -> Result<RouteWatch> {
        let log = dir.join("routes.log");
        let _ = fs::remove_file(&log);
        let mut daemon = Daemon::start(&netns.run("ip -4 monitor route"), &log)?;
        eventually("ip monitor seeing a route", seconds(5), || {
            netns.run(&format!("ip route replace unreachable {PROBE}")).ok()?;
            netns.run(&format!("ip route delete unreachable {PROBE}")).ok()?;
            daemon.still_runs()?;
            ensure!(daemon.output().contains(PROBE), "nothing");
            Ok(())
        })?;
        Ok(RouteWatch { daemon })
    }

    /// The routes deleted so far.
    pub fn deleted(&self) -> Vec<String> {
        let lines = self.daemon.output();
        let deleted = lines.lines().filter(|line| line.starts_with("Deleted ") && !line.contains(PROBE));
        deleted.map(|line| line.trim().to_owned()).collect()
    }
}

/// Asks the agent's local API.
fn get(socket: &Path, path: &str) -> Result<String> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("cannot reach {}", socket.display()))?;
    stream.set_read_timeout(Some(seconds(2)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: node\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Notes an environment for `tortie-lab exec NAME`.
fn write_env(name: &str, env: &[(String, String)]) -> Result<()> {
    let path = env_file(name);
    let text: String = env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The environment noted for a namespace; empty for those without.
pub fn read_env(name: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(env_file(name)).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn env_file(name: &str) -> PathBuf {
    Path::new(LAB_DIR).join(format!("{name}.env"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_number_and_by_name() {
        assert!(is_learned("10.0.0.0/26 via 10.1.0.12 dev eth0 proto 81 "));
        assert!(is_learned("10.0.0.0/26 via 10.2.0.11 dev tunl0 proto tortie-bgp onlink"));
        assert!(is_own("blackhole 10.0.0.0/26 proto 80") && is_own("blackhole 10.0.0.0/26 proto tortie"));
        assert!(
            !is_own("10.0.0.0/26 dev eth0 proto tortie-bgp")
                && !is_learned("10.0.0.0/26 dev eth0 proto kernel")
        );
    }
}
