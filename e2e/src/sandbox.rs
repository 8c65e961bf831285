//! The namespaces everything lives in: user, mount, network and process ids.
//!
//! [`start`] runs a command as process 1 of new namespaces. When that process ends, however it ends, the kernel kills
//! all others inside, and with the last of them the links, routes, rules, mounts and files go: nothing is left to
//! clean up, also after a crash or Ctrl-C. It works for root and for ordinary users alike, and never changes the
//! namespaces of the machine.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid};

use crate::process::{BIN_DIR, PATH, Run};

/// Set inside.
const INSIDE: &str = "TORTIE_LAB_INSIDE";

/// The hidden subcommand of `tortie-lab` that prepares the new namespaces and becomes the command.
pub const INIT: &str = "init";

/// Whether this process runs inside already.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts a command in new namespaces. `tortie_lab` is the path of that binary.
///
/// This process moves into the new user namespace and must have a single thread; it can do this once.
///
/// # Errors
/// When the kernel refuses namespaces.
pub fn start(tortie_lab: &Path, bin_dir: &Path, command: &[String]) -> Result<Child> {
    // Whoever started us may be killed; then everything in here has to go too. The same holds in `init`.
    set_pdeathsig(Signal::SIGKILL).context("cannot ask for a signal at the parent's death")?;
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER).context(
        "no user namespace: allow them with `sysctl kernel.unprivileged_userns_clone=1` \
         (Ubuntu: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`), or run as root",
    )?;
    fs::write("/proc/self/setgroups", "deny").context("cannot write /proc/self/setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("cannot write /proc/self/uid_map")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("cannot write /proc/self/gid_map")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)
        .context("no mount, network and process namespaces")?;
    Command::new(tortie_lab)
        .arg(INIT)
        .args(command)
        .env(INSIDE, "1")
        .env(BIN_DIR, bin_dir)
        .spawn()
        .with_context(|| format!("cannot start {}", tortie_lab.display()))
}

/// Process 1 inside: mounts what the lab needs, then becomes the command.
///
/// # Errors
/// When that fails; on success it does not return.
pub fn init(command: &[String]) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("cannot ask for a signal at the parent's death")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("cannot make mounts private")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .context("cannot mount a tmpfs on /run")?;
    protect_files()?;
    // Only so that `ps` shows the lab alone: where a container masks /proc the kernel refuses, and nothing else needs it.
    let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>);
    Run::line("ip link set lo up").ok()?;
    let Some((program, args)) = command.split_first() else { bail!("no command to run in the lab") };
    let error = Command::new(program).args(args).env("PATH", PATH).exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}

/// Where the agent names its route protocols for `ip`.
const PROTOCOL_NAMES: &str = "/etc/iproute2/rt_protos.d";

/// Root inside is root of the machine's files when root started the lab, and the agent writes some; so the root file system
/// becomes read-only in here, and what the agent may write there is a directory of the sandbox's own.
fn protect_files() -> Result<()> {
    if Path::new(PROTOCOL_NAMES).is_dir() {
        mount(Some("tmpfs"), PROTOCOL_NAMES, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
            .with_context(|| format!("cannot mount a tmpfs on {PROTOCOL_NAMES}"))?;
    }
    // Flags set outside must be repeated: a user namespace may not lift them.
    let set = statvfs("/").context("cannot look at the root file system")?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (outside, repeated) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if set.contains(outside) {
            flags |= repeated;
        }
    }
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).context("cannot make / read-only")
}
