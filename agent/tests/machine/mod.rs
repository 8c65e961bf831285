//! A machine in namespaces of its own, and the real tortie-node on it.

#![allow(dead_code, reason = "each test file uses its share")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::netns::{eventually, inside, run};

/// A machine with one network card.
const UPLINK: &str = "
    ip link add eth0 type veth peer name peer0
    ip addr add 10.0.0.1/24 dev eth0
    ip link set eth0 up
    ip link set peer0 up";

/// Runs `body` as the machine, whose `/run` is its own, as are the names of route protocols.
pub(crate) fn on_a_machine(test: &str, body: impl FnOnce(&Machine)) {
    inside(test, || {
        run("mount -t tmpfs tmpfs /run");
        run(UPLINK);
        body(&Machine { directory: tempfile::tempdir().unwrap() });
    });
}

pub(crate) struct Machine {
    pub(crate) directory: tempfile::TempDir,
}

/// A running agent; killed when the test fails.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
    pub(crate) log: PathBuf,
}

pub(crate) fn command(flags: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tortie-node"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.args(flags).env_clear().env("PATH", path).envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

impl Machine {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, variables: &[(&str, &str)]) -> Command {
        let mut command = command(&[], variables);
        command
            .arg("--embedded-datastore")
            .arg(self.path("data"))
            .arg("--socket")
            .arg(self.path("tortie.sock"));
        command.env("CALICO_NODENAME_FILE", self.path("nodename"));
        command
    }

    /// Starts the agent on its embedded datastore and waits until it is ready.
    pub(crate) fn start(&self, variables: &[(&str, &str)]) -> Agent {
        self.spawn(self.command(variables))
    }

    /// The same on the etcd of the machine.
    pub(crate) fn start_on_etcd(&self) -> Agent {
        let mut command = command(&[], &[("NODENAME", "n1"), ("ETCD_ENDPOINTS", "http://127.0.0.1:2379")]);
        command
            .env("CALICO_NODENAME_FILE", self.path("nodename"))
            .env("TORTIE_SOCKET", self.path("tortie.sock"));
        self.spawn(command)
    }

    pub(crate) fn spawn(&self, mut command: Command) -> Agent {
        let log = self.path("log");
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stderr(file).spawn().unwrap();
        let mut agent = Agent { child, socket: self.path("tortie.sock"), log };
        eventually("the agent is ready", || {
            assert_eq!(agent.child.try_wait().unwrap(), None, "{}", agent.log());
            agent.socket.exists() && agent.get("/ready").0 == 200
        });
        agent
    }
}

impl Agent {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Status and body of an answer; 0 when there is none.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let Ok(mut stream) = UnixStream::connect(&self.socket) else { return (0, String::new()) };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut answer = String::new();
        let asked = stream.write_all((head + body).as_bytes());
        if asked.and_then(|()| stream.read_to_string(&mut answer)).is_err() || answer.is_empty() {
            return (0, String::new());
        }
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
        let (status, text) = self.request("POST", path, &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Ends it with a signal and returns its exit code.
    pub(crate) fn stop(mut self, signal: nix::sys::signal::Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = std::io::stderr().write_all(self.log().as_bytes());
        }
    }
}

/// A real etcd on the machine's loopback; killed at the end.
pub(crate) struct Etcd(Child);

impl Etcd {
    pub(crate) fn start(directory: &Path) -> Etcd {
        let log = std::fs::File::create(directory.join("etcd.log")).unwrap();
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.join("etcd"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd (Debian: etcd-server) can be started");
        let etcd = Etcd(child);
        eventually("etcd serves", || std::net::TcpStream::connect("127.0.0.1:2379").is_ok());
        etcd
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
