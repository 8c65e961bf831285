//! Three members of the distribution's etcd on loopback, that can be killed, paused, started again and cut off.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tortie_datastore::etcd::{EtcdOptions, EtcdStore, Role};

use crate::backend::options;
use crate::network::{Network, peer_url};

/// How many members.
pub(crate) const MEMBERS: usize = 3;

/// How long a cluster may take to come up, or to agree again.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster. Dropping it ends its members.
pub(crate) struct Cluster {
    members: Vec<Member>,
    pub(crate) network: Network,
    dir: TempDir,
}

struct Member {
    url: String,
    command: Command,
    child: Option<Child>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Member {
    fn start(&mut self) {
        let child = self.command.spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("cannot start etcd ({error}): apt install etcd-server etcd-client")
        }));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cluster {
    /// Starts one and waits until it answers. `scheme` and `flags` are of the clients' side, such as those for TLS.
    pub(crate) async fn start_with(scheme: &str, flags: &[&str], options: &EtcdOptions) -> Cluster {
        // All ports at once, so that no two are the same.
        let listeners: Vec<TcpListener> =
            (0..2 * MEMBERS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        drop(listeners);
        let (clients, peers) = ports.split_at(MEMBERS);
        let network = Network::new(peers.to_vec()).await;
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { members: Vec::new(), network, dir };
        for member in 0..MEMBERS {
            let url = format!("{scheme}://127.0.0.1:{}", clients[member]);
            let command = cluster.command(member, &url, peers[member], flags);
            let mut member = Member { url, command, child: None };
            member.start();
            cluster.members.push(member);
        }
        cluster.settle(options).await;
        cluster
    }

    pub(crate) async fn start() -> Cluster {
        Cluster::start_with("http", &[], &options("")).await
    }

    fn command(&self, member: usize, url: &str, peer_port: u16, flags: &[&str]) -> Command {
        let names: Vec<String> = (0..MEMBERS).map(|i| format!("m{i}={}", peer_url(i))).collect();
        let log = std::fs::File::create(self.dir.path().join(format!("log{member}"))).unwrap();
        let (name, proxy) = self.network.environment(member);
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{member}"), "--data-dir"])
            .arg(self.dir.path().join(format!("data{member}")))
            .args(["--listen-client-urls", url, "--advertise-client-urls", url])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer_port}")])
            .args(["--initial-advertise-peer-urls", &peer_url(member)])
            .args(["--initial-cluster", &names.join(",")])
            .args(flags)
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .env(name, proxy)
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    /// The members' URLs for clients.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.url.clone()).collect()
    }

    /// Options with all endpoints.
    pub(crate) fn options(&self) -> EtcdOptions {
        EtcdOptions { endpoints: self.urls(), ..options("") }
    }

    pub(crate) async fn connect(&self) -> EtcdStore {
        EtcdStore::connect(self.options()).await.unwrap()
    }

    /// Waits until every member answers reads, and one leads. Returns the leader.
    pub(crate) async fn settle(&self, options: &EtcdOptions) -> usize {
        let options = EtcdOptions { endpoints: self.urls(), ..options.clone() };
        let store = EtcdStore::lazy(options).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = store.health().await;
            let leader =
                health.iter().position(|one| one.member.as_ref().is_some_and(|m| m.role == Role::Leader));
            match leader {
                Some(leader) if health.iter().all(|one| one.problems.is_empty()) => return leader,
                _ if Instant::now() < deadline => tokio::task::yield_now().await,
                _ => panic!("the cluster does not settle: {health:?}\n{}", self.logs()),
            }
        }
    }

    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].kill();
    }

    pub(crate) fn start_again(&mut self, member: usize) {
        self.members[member].start();
    }

    /// Of a member that runs.
    pub(crate) fn pid(&self, member: usize) -> u32 {
        self.members[member].child.as_ref().unwrap().id()
    }

    /// Ends of the members' logs.
    fn logs(&self) -> String {
        let tail = |member: usize| {
            let log =
                std::fs::read_to_string(self.dir.path().join(format!("log{member}"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("--- m{member}\n{}\n", lines[lines.len().saturating_sub(30)..].join("\n"))
        };
        (0..MEMBERS).map(tail).collect()
    }
}
