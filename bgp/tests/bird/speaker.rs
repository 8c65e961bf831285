//! Our side of the wire.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tortie_bgp::filter::{Filter, Rule, Verdict};
use tortie_bgp::net::{Handle, TableEvent, start};
use tortie_bgp::snapshot::{PeerSnapshot, Snapshot};
use tortie_bgp::table::OriginatedRoute;
use tortie_bgp::{PeerConfig, SpeakerConfig};

use super::lab::{OURS, Session, THEIRS, eventually};

/// A speaker in this process.
pub(crate) struct Speaker {
    runtime: Runtime,
    handle: Handle,
    pub(crate) table: Receiver<TableEvent>,
    pub(crate) config: SpeakerConfig,
}

/// The other end of BIRD's session, before the test changes it.
pub(crate) fn config(session: &Session) -> SpeakerConfig {
    let theirs: IpAddr = THEIRS[session.family].parse().unwrap();
    let mut peer = PeerConfig::new("Global_bird", session.their_as);
    peer.local_address = Some(OURS[session.family].parse().unwrap());
    peer.export = accept_all();
    SpeakerConfig {
        router_id: "1.1.1.1".parse().unwrap(),
        local_as: session.our_as,
        listen: vec!["0.0.0.0:179".parse().unwrap(), "[::]:179".parse().unwrap()],
        cluster_id: None,
        peers: BTreeMap::from([(SocketAddr::new(theirs, 179), peer)]),
    }
}

pub(crate) fn accept_all() -> Filter {
    Filter::new(vec![Rule::new("all", Verdict::Accept)])
}

impl Speaker {
    pub(crate) fn start(config: SpeakerConfig, routes: &[&str]) -> Speaker {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (handle, table) = runtime.block_on(async { start(Some(config.clone()), false) });
        let speaker = Speaker { runtime, handle, table, config };
        speaker.originate(routes);
        speaker
    }

    pub(crate) fn originate(&self, routes: &[&str]) {
        let route = |prefix: &&str| (prefix.parse().unwrap(), OriginatedRoute { local_pref: 777 });
        self.handle.originate(routes.iter().map(route).collect());
    }

    pub(crate) fn configure(&self, change: impl FnOnce(&mut SpeakerConfig)) {
        let mut config = self.config.clone();
        change(&mut config);
        self.handle.configure(config);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.runtime.block_on(self.handle.snapshot())
    }

    /// The only peer.
    pub(crate) fn peer(&self) -> PeerSnapshot {
        self.snapshot().peers.into_values().next().unwrap()
    }

    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let mut last = Snapshot::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(what, || {
                last = self.snapshot();
                condition(&last).then(|| last.clone())
            })
        }));
        result.unwrap_or_else(|_| panic!("never: {what}; last seen {last:#?}"))
    }

    pub(crate) fn until_route(&self, prefix: &str) -> Snapshot {
        let prefix: IpNetwork = prefix.parse().unwrap();
        self.until(&format!("route {prefix}"), |s| s.routes.contains_key(&prefix))
    }

    pub(crate) fn until_gone(&self, prefix: &str) {
        let prefix: IpNetwork = prefix.parse().unwrap();
        self.until(&format!("no route {prefix}"), |s| !s.routes.contains_key(&prefix));
    }

    /// Prefixes that vanished since the last call.
    pub(crate) fn lost(&mut self) -> Vec<IpNetwork> {
        let mut lost = Vec::new();
        while let Ok(event) = self.table.try_recv() {
            if let TableEvent::Changes(changes) = event {
                lost.extend(changes.into_iter().filter(|c| c.route.is_none()).map(|c| c.prefix));
            }
        }
        lost
    }

    pub(crate) fn shutdown(self) {
        self.runtime.block_on(self.handle.shutdown());
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Holds the arguments of [`process`].
const PROCESS: &str = "TORTIE_BGP_TEST_SPEAKER";

#[test]
#[ignore = "the process that other tests start and kill"]
fn process() {
    let words = std::env::var(PROCESS).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(super::program::run(words.split_whitespace().map(str::to_owned))).unwrap();
}

/// A speaker in a process of its own.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// The example `speaker`, run by this very program.
    pub(crate) fn start(session: &Session, arguments: &[&str]) -> Process {
        let theirs = SocketAddr::new(THEIRS[session.family].parse().unwrap(), 179);
        let ours = OURS[session.family];
        let words = format!(
            "{} 1.1.1.1 --listen 0.0.0.0:179 --listen [::]:179 --peer {theirs}={},from={ours} {}",
            session.our_as,
            session.their_as,
            arguments.join(" ")
        );
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "speaker::process", "--ignored", "--nocapture"])
            .env(PROCESS, words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Process { child, input, output }
    }

    /// Its state, a line for each peer and route.
    pub(crate) fn show(&mut self) -> String {
        writeln!(self.input).unwrap();
        let mut text = String::new();
        while !text.contains("converged") {
            assert!(self.output.read_line(&mut text).unwrap() > 0, "the speaker ended: {text}");
        }
        text
    }

    pub(crate) fn until(&mut self, text: &str) {
        eventually(text, || self.show().contains(text).then_some(()));
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
