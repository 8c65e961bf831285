//! ExaBGP, which says what it is told, faults and all: the body of an UPDATE is sent as it is given.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

use anyhow::{Context, Result};

use super::{Family, Host};
use crate::process::Daemon;

/// ExaBGP with raw UPDATEs.
const PROGRAM: &str = include_str!("exabgp-raw.py");

/// One of its sessions: own address, own AS. The other end is that of [`Exabgp::start`].
#[derive(Clone, Debug)]
pub struct Session {
    /// Own address.
    pub local: String,
    /// Own AS number.
    pub asn: u32,
}

/// A running daemon.
#[derive(Debug)]
pub struct Exabgp {
    commands: File,
    target: String,
    sent: u32,
    _daemon: Daemon,
}

impl Exabgp {
    /// Starts it with IPv4 sessions to `target` in AS `asn`; it dials.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(host: &Host, target: &Host, asn: u32, sessions: &[Session]) -> Result<Exabgp> {
        let program = host.write("exabgp-raw.py", PROGRAM)?;
        let target = target.address(Family::V4);
        let path = host.file("commands");
        let commands = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mut config = format!(
            "process feed {{ run /usr/bin/tail -s 0.05 -n +1 -f {}; encoder text; }}\n",
            path.display()
        );
        for Session { local, asn: own } in sessions {
            // What it sent is not to be sent again to a session that was reset by it.
            let _ = writeln!(
                config,
                "neighbor {target} {{\n  router-id {local}; local-address {local}; local-as {own}; peer-as {asn};\n  \
                 hold-time 30; adj-rib-out false; group-updates false;\n  family {{ ipv4 unicast; }}\n  api {{ processes [ feed ]; }}\n}}"
            );
        }
        let config = host.write("exabgp.conf", &config)?;
        let mut run = host.netns.run("/usr/bin/python3").arg(program).arg(config);
        for (name, value) in [
            ("exabgp_daemon_drop", "false"),
            ("exabgp_daemon_user", "root"),
            ("exabgp_api_cli", "false"),
            ("exabgp_api_ack", "false"),
            ("exabgp_log_destination", "stdout"),
            ("exabgp_log_level", "INFO"),
        ] {
            run = run.env(name, value);
        }
        let daemon = Daemon::start(&run, &host.file("exabgp.log"))?;
        Ok(Exabgp { commands, target, sent: 0, _daemon: daemon })
    }

    /// Sends the body of an UPDATE on a session, once that is up.
    ///
    /// # Errors
    /// When the command cannot be written.
    pub fn send(&mut self, session: &Session, body: &[u8]) -> Result<()> {
        // Its own bookkeeping wants a prefix it has not seen.
        self.sent += 1;
        let [_, _, high, low] = self.sent.to_be_bytes();
        let mut line = format!(
            "neighbor {} local-ip {} announce route 100.64.{high}.{low}/32 next-hop {} attribute [ 0xff 0xc0 0x",
            self.target, session.local, session.local
        );
        for octet in body {
            // Writing to a String does not fail.
            let _ = write!(line, "{octet:02x}");
        }
        line += " ]\n";
        self.commands.write_all(line.as_bytes()).context("cannot command ExaBGP")
    }
}
