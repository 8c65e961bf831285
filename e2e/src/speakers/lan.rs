//! A switch with hosts around it, and what is printed when a test on it fails.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::netns::Netns;
use crate::node::LAB_DIR;
use crate::scenario::{full_name, run_inside};
use crate::{diagnostics, sandbox};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 unicast.
    V4,
    /// IPv6 unicast.
    V6,
}

/// Both.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    /// That of an address or prefix as text.
    pub fn of(text: &str) -> Family {
        if text.contains(':') { Family::V6 } else { Family::V4 }
    }

    /// `ipv4` or `ipv6`.
    pub fn word(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }
}

/// The switch.
#[derive(Debug)]
pub struct Lan {
    switch: Netns,
    dir: PathBuf,
}

/// A host: a namespace with an address of each family, and a directory.
#[derive(Clone, Debug)]
pub struct Host {
    /// Last octet of its address.
    pub number: u8,
    /// Its namespace.
    pub netns: Netns,
    /// Where its speaker's files are.
    pub dir: PathBuf,
}

impl Lan {
    /// A switch without hosts.
    ///
    /// # Errors
    /// When a command fails.
    pub fn build() -> Result<Lan> {
        let switch = Netns::add("switch")?;
        switch.run("ip link add switch type bridge").ok()?;
        switch.run("ip link set switch up").ok()?;
        Ok(Lan { switch, dir: PathBuf::from(LAB_DIR) })
    }

    /// Connects a host.
    ///
    /// # Errors
    /// When a command fails.
    pub fn host(&self, number: u8) -> Result<Host> {
        let name = format!("host{number}");
        let netns = Netns::add(&name)?;
        let dir = self.dir.join(&name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        self.switch.run(&format!("ip link add {name} type veth peer name eth0 netns {name}")).ok()?;
        self.switch.run(&format!("ip link set {name} master switch up")).ok()?;
        let host = Host { number, netns, dir };
        host.netns.run("ip link set eth0 up").ok()?;
        host.netns.run(&format!("ip address add {}/24 dev eth0", host.address(Family::V4))).ok()?;
        host.netns.run(&format!("ip address add {}/64 dev eth0 nodad", host.address(Family::V6))).ok()?;
        host.netns.run("sysctl -q -w net.ipv4.ip_forward=1").ok()?;
        Ok(host)
    }

    /// Cuts a host's cable, or mends it.
    ///
    /// # Errors
    /// When the command fails.
    pub fn set_cable(&self, host: &Host, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.switch.run(&format!("ip link set host{} {state}", host.number)).ok().map(drop)
    }
}

impl Host {
    /// Its address.
    pub fn address(&self, family: Family) -> String {
        match family {
            Family::V4 => format!("10.9.0.{}", self.number),
            Family::V6 => format!("fd09::{}", self.number),
        }
    }

    /// Its IPv4 address, also its router id.
    pub fn id(&self) -> String {
        self.address(Family::V4)
    }

    /// A file of its.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes one in a single step, and returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<String> {
        let (draft, path) = (self.file(&format!("{name}.new")), self.file(name));
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }
}

/// Runs the test `name` of `module` in a sandbox of its own; a failure prints all files of all hosts.
///
/// # Panics
/// When the body fails.
pub fn run(module: &str, name: &str, body: fn(&Lan) -> Result<()>) {
    let name = full_name(module, name);
    if !sandbox::is_inside() {
        run_inside(&name);
        return;
    }
    let outcome = Lan::build().and_then(|lan| body(&lan));
    if let Err(error) = outcome {
        print_files(Path::new(LAB_DIR), &mut std::io::stderr());
        panic!("{name}: {error:#}");
    }
}

/// Prints the end of every file below a directory, if there is one.
pub(crate) fn print_files(dir: &Path, out: &mut impl Write) {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        if path.is_dir() {
            print_files(&path, out);
        } else if let Ok(text) = fs::read_to_string(&path) {
            diagnostics::section(
                out,
                &dir.display().to_string(),
                &path.display().to_string(),
                diagnostics::tail(&text),
            );
        }
    }
}

/// Defines a test that gets a switch: `on_lan!(fn name(lan) { …; Ok(()) });`
#[macro_export]
macro_rules! on_lan {
    ($(#[$meta:meta])* fn $name:ident($lan:ident) $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            fn test_on_lan($lan: &$crate::speakers::Lan) -> anyhow::Result<()> $body
            $crate::speakers::lan::run(module_path!(), stringify!($name), test_on_lan);
        }
    };
}
