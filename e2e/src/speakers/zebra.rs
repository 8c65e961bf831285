//! FRR's zebra: what gives the routes of its bgpd to the kernel.

use anyhow::Result;

use super::Host;
use crate::eventually::{eventually, seconds};
use crate::process::{Daemon, Run};

/// What lets it start where groups cannot be changed.
const NO_SETGROUPS: &str = include_str!("no-setgroups.py");

/// Its user has to belong to this group, and the numbers of the machine's own users are not there in a sandbox.
const GROUPS: &str = "root:x:0:\nfrrvty:x:0:\n";

/// A running daemon.
#[derive(Debug)]
pub struct Zebra {
    _daemon: Daemon,
}

impl Zebra {
    /// Starts it; bgpd finds it at [`socket`]. The sandbox gets a list of groups of its own.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(host: &Host) -> Result<Zebra> {
        let program = host.write("no-setgroups.py", NO_SETGROUPS)?;
        let config = host.write("zebra.conf", "log stdout debugging\n")?;
        let groups = host.write("group", GROUPS)?;
        Run::line("mount --bind").arg(groups).arg("/etc/group").ok()?;
        let path = |name: &str| host.file(name).display().to_string();
        let run =
            host.netns.run("/usr/bin/python3").arg(program).args("/usr/lib/frr/zebra -u root -g root -P 0");
        let run = run.arg("-f").arg(config).arg("-i").arg(path("zebra.pid"));
        let run = run.arg("-z").arg(socket(host)).arg("--vty_socket").arg(path(""));
        let mut daemon = Daemon::start(&run, &host.file("zebra.log"))?;
        let question =
            host.netns.run("vtysh -d zebra --vty_socket").arg(path("")).args("-c").arg("show zebra");
        eventually("zebra answering", seconds(10), || {
            daemon.still_runs()?;
            question.ok()
        })?;
        Ok(Zebra { _daemon: daemon })
    }
}

/// Where it talks to bgpd.
pub fn socket(host: &Host) -> String {
    host.file("zserv").display().to_string()
}
