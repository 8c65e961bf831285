//! Other programs with rules of their own on a node: firewalld behind a D-Bus of its own, Docker without containers. Both as
//! Debian packages them, with all their files in the sandbox.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::eventually::{eventually, seconds};
use crate::netns::Netns;
use crate::node::{LAB_DIR, Node};
use crate::process::{Daemon, Run};

/// What Debian's `/etc/firewalld/firewalld.conf` says, which only root may read.
const CONFIG: &str = "DefaultZone=public\nCleanupOnExit=yes\nIPv6_rpfilter=yes\nFirewallBackend=nftables\n\
                      FlushAllOnReload=yes\nRFC3964_IPv4=yes\n";

/// A bus that anybody in the sandbox may use for anything.
fn bus_config(socket: &str) -> String {
    format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig>\n<type>system</type>\n\
         <listen>unix:path={socket}</listen>\n<auth>EXTERNAL</auth>\n<policy context=\"default\">\n\
         <allow send_destination=\"*\" eavesdrop=\"true\"/>\n<allow eavesdrop=\"true\"/>\n<allow own=\"*\"/>\n\
         </policy>\n</busconfig>\n"
    )
}

/// firewalld on a node.
#[derive(Debug)]
pub struct Firewalld {
    netns: Netns,
    bus: String,
    _daemons: [Daemon; 2],
}

impl Firewalld {
    /// Starts it with the distribution's zones and waits until its rules are in the kernel.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(node: &Node) -> Result<Firewalld> {
        let dir = directory(node, "firewalld")?;
        let at = |name: &str| dir.join(name).display().to_string();
        let bus = format!("unix:path={}", at("bus"));
        fs::write(at("bus.conf"), bus_config(&at("bus")))
            .context("cannot write the configuration of D-Bus")?;
        fs::create_dir_all(at("config")).context("cannot make the directory of firewalld's configuration")?;
        fs::write(at("config/firewalld.conf"), CONFIG).context("cannot write firewalld's configuration")?;
        let line = format!("dbus-daemon --nofork --nopidfile --config-file={}", at("bus.conf"));
        let mut broker = Daemon::start(&node.netns.run(&line), &dir.join("bus.log"))?;
        eventually("D-Bus listening", seconds(5), || {
            broker.still_runs()?;
            fs::metadata(at("bus")).context("no socket").map(drop)
        })?;
        let line =
            format!("firewalld --nofork --nopid --log-target console --system-config {}", at("config"));
        let run = node.netns.run(&line).env("DBUS_SYSTEM_BUS_ADDRESS", &bus);
        let mut daemon = Daemon::start(&run, &dir.join("firewalld.log"))?;
        let state = node.netns.run("firewall-cmd --state").env("DBUS_SYSTEM_BUS_ADDRESS", &bus);
        eventually("firewalld running", seconds(20), || {
            daemon.still_runs()?;
            state.ok()
        })?;
        Ok(Firewalld { netns: node.netns.clone(), bus, _daemons: [daemon, broker] })
    }

    /// A line of the shell on the node, with this firewalld at hand.
    pub fn shell(&self, line: &str) -> Run {
        self.netns.run("sh -c").arg(line).env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
    }
}

/// Docker's daemon on a node.
#[derive(Debug)]
pub struct Docker {
    netns: Netns,
    dir: PathBuf,
    daemon: Option<Daemon>,
}

impl Docker {
    /// Starts it as on a machine that forwards nothing yet, which makes it close the chain FORWARD.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(node: &Node) -> Result<Docker> {
        node.run("sysctl -q -w net.ipv4.ip_forward=0").ok()?;
        let mut docker = Docker { netns: node.netns.clone(), dir: directory(node, "docker")?, daemon: None };
        docker.launch()?;
        Ok(docker)
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// When it does not end or come up.
    pub fn restart(&mut self) -> Result<()> {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop(Signal::SIGTERM)?;
        }
        self.launch()
    }

    fn launch(&mut self) -> Result<()> {
        let at = |name: &str| self.dir.join(name).display().to_string();
        fs::write(at("daemon.json"), "{}\n").context("cannot write Docker's configuration")?;
        // It insists on a key in a directory that only root may read.
        let line = format!(
            "mount -t tmpfs tmpfs /etc/docker && exec dockerd --config-file {} --data-root {} --exec-root {} \
             --pidfile {} --host unix://{} --group root --storage-driver vfs --bip 172.30.0.1/24 --iptables=true",
            at("daemon.json"),
            at("data"),
            at("exec"),
            at("pid"),
            at("sock"),
        );
        let run = self.netns.run("unshare --mount sh -c").arg(line).env("HOME", at("home"));
        let log = self.dir.join("docker.log");
        // Of an earlier life.
        let _ = fs::remove_file(&log);
        let mut daemon = Daemon::start(&run, &log)?;
        daemon.wait_for_output("API listen on", seconds(30))?;
        self.daemon = Some(daemon);
        Ok(())
    }
}

fn directory(node: &Node, name: &str) -> Result<PathBuf> {
    let dir = PathBuf::from(LAB_DIR).join(node.name()).join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}
