//! What a large cluster costs one node: time from the start of the syncer to in sync, and resident memory for each
//! endpoint of other nodes. 1000 nodes, 10 000 endpoints, 2000 policies, in a real etcd on loopback and in the
//! embedded server.
//!
//! A process that has read a store once never measures the same again, so each measurement is a process of its own:
//! this binary, started with `TORTIE_SCALE_STORE` naming the store. Goals: 1 s from etcd, 1 KiB an endpoint.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tortie_agent::calc::{Calc, RouterId, Settings};
use tortie_datastore::etcd::{EtcdOptions, EtcdStore};
use tortie_datastore::server::Embedded;
use tortie_datastore::store::{MAX_OPERATIONS, Operation, Transaction};
use tortie_datastore::{Store, SyncEvent, Syncer};
use tortie_model::{Key, Kind};

const NODES: usize = 1000;
const ENDPOINTS: usize = 10_000;
const POLICIES: usize = 2000;
const NAMESPACES: usize = 100;
const STORE: &str = "TORTIE_SCALE_STORE";
/// Measurements of each kind; the median counts.
const RUNS: usize = 5;

/// What one process measured.
#[derive(Clone, Copy)]
struct Measured {
    in_sync: Duration,
    calculated: Duration,
    /// Resident memory in sync, when everything was calculated once, and the most there ever was; KiB.
    kept: i64,
    resident: i64,
    peak: i64,
}

fn main() {
    // As the agent does.
    tortie_agent::memory::one_heap();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match std::env::var(STORE) {
        Ok(url) => runtime.block_on(measure(&url)),
        Err(_) => runtime.block_on(compare()),
    }
}

/// The child: reads a store as the agent does and prints its figures.
async fn measure(url: &str) {
    let begun = Instant::now();
    let store = EtcdStore::connect(options(url)).await.expect("a connection");
    let mut syncer = Syncer::start(Arc::new(store));
    let mut calc = Calc::new(Settings {
        node: "node0".to_owned(),
        bgp: true,
        ipv6: false,
        router_id: RouterId::NodeAddress,
        service_cluster_ips: None,
        endpoint_to_host: None,
        ipip_mtu: None,
        host_mtu: 1500,
        log_group: None,
        stop_refused: false,
    });
    loop {
        match syncer.events.recv().await.expect("the syncer runs") {
            SyncEvent::Updates(updates) => updates.into_iter().for_each(|update| calc.apply(update)),
            SyncEvent::Relisting => calc.relisting(),
            SyncEvent::InSync => break calc.in_sync(),
        }
    }
    let in_sync = begun.elapsed();
    let memory = |field: &str| {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
        line.split_whitespace().nth(1).expect("a number").to_owned()
    };
    let kept = memory("VmRSS");
    let begun = Instant::now();
    let output = calc.flush().expect("something to calculate");
    let (in_sync, calculated) = (in_sync.as_micros(), begun.elapsed().as_micros());
    println!("{in_sync} {calculated} {kept} {} {}", memory("VmRSS"), memory("VmHWM"));
    drop((output, calc, syncer));
}

/// The parent: fills both stores and measures them without and with endpoints.
async fn compare() {
    let mut table = String::new();
    let mut etcd = Etcd::start();
    let store = etcd.connect().await;
    scale("etcd", &etcd.url, &store, &mut table).await;
    etcd.kill();
    let dir = tempfile::tempdir().expect("a directory");
    let embedded =
        Embedded::start(dir.path(), "127.0.0.1:0".parse().expect("a literal")).await.expect("a server");
    let url = format!("http://{}", embedded.address());
    let store = EtcdStore::connect(options(&url)).await.expect("a connection");
    scale("the embedded server", &url, &store, &mut table).await;
    embedded.stop().await.expect("the server's end");
    print!("{table}");
    // Where the table of all benchmarks finds it; the directory is criterion's.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/criterion/scale");
    std::fs::create_dir_all(target).expect("a directory for the figures");
    std::fs::write(format!("{target}/table"), table).expect("a file for the figures");
}

async fn scale(name: &str, url: &str, store: &EtcdStore, table: &mut String) {
    let profiles = (0..NAMESPACES).flat_map(profiles);
    fill(store, (0..NODES).map(node).chain((0..POLICIES).map(policy)).chain(profiles)).await;
    let without = median(url);
    fill(store, (0..ENDPOINTS).map(endpoint)).await;
    let with = median(url);
    let mut row = |what: String, figure: String| {
        let _ = writeln!(table, "| {what:<52} | {figure:<24} |");
    };
    let milliseconds = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1000.0);
    row(format!("in sync from {name}, 13 200 keys"), milliseconds(with.in_sync));
    row("first calculation after it".to_owned(), milliseconds(with.calculated));
    let each = |with: i64, without: i64| format!("{} B", (with - without) * 1024 / ENDPOINTS as i64);
    row("resident memory for a remote endpoint, in sync".to_owned(), each(with.kept, without.kept));
    row("… after the first calculation".to_owned(), each(with.resident, without.resident));
    row(
        "resident memory of all then, and at most meanwhile".to_owned(),
        format!("{} MiB, {} MiB", with.resident >> 10, with.peak >> 10),
    );
}

/// The median of each figure.
fn median(url: &str) -> Measured {
    let runs: Vec<Measured> = (0..RUNS).map(|_| run(url)).collect();
    let middle = |of: &dyn Fn(&Measured) -> i64| {
        let mut all: Vec<i64> = runs.iter().map(of).collect();
        all.sort_unstable();
        all[RUNS / 2]
    };
    let time = |of: &dyn Fn(&Measured) -> Duration| {
        Duration::from_micros(middle(&|run| of(run).as_micros() as i64).unsigned_abs())
    };
    Measured {
        in_sync: time(&|run| run.in_sync),
        calculated: time(&|run| run.calculated),
        kept: middle(&|run| run.kept),
        resident: middle(&|run| run.resident),
        peak: middle(&|run| run.peak),
    }
}

fn run(url: &str) -> Measured {
    let me = std::env::current_exe().expect("this binary");
    let output = Command::new(me).env(STORE, url).stderr(Stdio::inherit()).output().expect("a process");
    let text = String::from_utf8(output.stdout).expect("text");
    let numbers: Vec<i64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [in_sync, calculated, kept, resident, peak] = numbers[..] else { panic!("no figures: {text}") };
    let time = |micros: i64| Duration::from_micros(micros.unsigned_abs());
    Measured { in_sync: time(in_sync), calculated: time(calculated), kept, resident, peak }
}

fn options(url: &str) -> EtcdOptions {
    EtcdOptions { deadline: Duration::from_secs(30), ..EtcdOptions::new([url.to_owned()]) }
}

/// Writes keys, as many a transaction as one may have.
async fn fill(store: &EtcdStore, entries: impl Iterator<Item = (Key, String)>) {
    let mut transaction = Transaction::default();
    let mut entries = entries.peekable();
    while let Some((key, value)) = entries.next() {
        transaction.operations.push(Operation::Put {
            key: key.to_string(),
            value: value.into_bytes(),
            lease: 0,
        });
        if transaction.operations.len() == MAX_OPERATIONS || entries.peek().is_none() {
            store.transact(std::mem::take(&mut transaction)).await.expect("a write");
        }
    }
}

/// Metadata as upstream stores it.
fn metadata(name: &str, namespace: Option<usize>, n: usize, labels: &str) -> String {
    let namespace = namespace.map_or(String::new(), |ns| format!(r#""namespace":"ns{ns}","#));
    format!(
        r#"{{"name":"{name}",{namespace}"uid":"5f0c6a3e-1b7d-4f53-9d7e-{n:012}","creationTimestamp":"2026-11-21T10:00:00Z","labels":{{{labels}}}}}"#
    )
}

fn node(n: usize) -> (Key, String) {
    let meta = metadata(&format!("node{n}"), None, n, r#""rack":"r1","kubernetes.io/os":"linux""#);
    let (b, c) = (n / 250, n % 250);
    let value = format!(
        r#"{{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{meta},"spec":{{"bgp":{{"ipv4Address":"10.1.{b}.{c}/16"}},"addresses":[{{"address":"10.1.{b}.{c}/16","type":"CalicoNodeIP"}}]}},"status":{{}}}}"#
    );
    (Key::resource(Kind::Node, None, &format!("node{n}")), value)
}

/// Of a namespace and of its service account, with the labels they give.
fn profiles(ns: usize) -> [(Key, String); 2] {
    let labels = [
        (
            format!("kns.ns{ns}"),
            format!(r#""pcns.projectcalico.org/name":"ns{ns}","pcns.team":"team{}""#, ns % 10),
        ),
        (format!("ksa.ns{ns}.default"), r#""pcsa.projectcalico.org/name":"default""#.to_owned()),
    ];
    labels.map(|(name, labels)| {
        let meta = metadata(&name, None, ns, "");
        let value = format!(
            r#"{{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{meta},"spec":{{"labelsToApply":{{{labels}}}}}}}"#
        );
        (Key::resource(Kind::Profile, None, &name), value)
    })
}

/// One application of one namespace may be reached by another.
fn policy(n: usize) -> (Key, String) {
    let (ns, name) = (n % NAMESPACES, format!("default.policy{n}"));
    let meta = metadata(&name, Some(ns), n, "");
    let (app, other, order) = (n / NAMESPACES % 20, (n / NAMESPACES + 1) % 20, n);
    let value = format!(
        r#"{{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{meta},"spec":{{"order":{order},"selector":"app == 'app{app}'","types":["Ingress"],"ingress":[{{"action":"Allow","protocol":"TCP","source":{{"selector":"app == 'app{other}'"}},"destination":{{"ports":[8080]}}}}]}}}}"#
    );
    (Key::resource(Kind::NetworkPolicy, Some(&format!("ns{ns}")), &name), value)
}

/// As a CNI plugin under Kubernetes stores a pod's; ten a node.
fn endpoint(n: usize) -> (Key, String) {
    let (ns, node, app) = (n % NAMESPACES, n % NODES, n / NAMESPACES % 20);
    let pod = format!("app{app}-7d4b9c6f8-{n:05}");
    let name = format!("node{node}-k8s-app{app}--7d4b9c6f8--{n:05}-eth0");
    let labels = format!(
        r#""app":"app{app}","pod-template-hash":"7d4b9c6f8","tier":"t{}","projectcalico.org/namespace":"ns{ns}","projectcalico.org/orchestrator":"k8s","projectcalico.org/serviceaccount":"default""#,
        app % 3
    );
    let meta = metadata(&name, Some(ns), n, &labels);
    let (b, c) = (n / 250, n % 250);
    let value = format!(
        r#"{{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{meta},"spec":{{"orchestrator":"k8s","workload":"","node":"node{node}","containerID":"{n:064x}","pod":"{pod}","endpoint":"eth0","serviceAccountName":"default","ipNetworks":["10.65.{b}.{c}/32"],"profiles":["kns.ns{ns}","ksa.ns{ns}.default"],"interfaceName":"cali{n:011x}","mac":"ee:ee:ee:ee:ee:ee"}}}}"#
    );
    (Key::resource(Kind::WorkloadEndpoint, Some(&format!("ns{ns}")), &name), value)
}

/// The distribution's etcd, alone; gone with the value.
struct Etcd {
    url: String,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Etcd {
        let dir = tempfile::tempdir().expect("a directory");
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let (url, peer) = (format!("http://{}", free()), format!("http://{}", free()));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(dir.path())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start etcd: apt install etcd-server");
        Etcd { url, child, _dir: dir }
    }

    async fn connect(&self) -> EtcdStore {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match EtcdStore::connect(options(&self.url)).await {
                Ok(store) => return store,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
