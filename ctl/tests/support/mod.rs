//! Stores for the tests, and the real binary run against them.

#![allow(dead_code, reason = "each test crate uses its own part")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tortie_datastore::config::StoreConfig;
use tortie_datastore::{Store, etcd::EtcdStore};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tortiectl");

/// Before the keys of resources.
pub(crate) const PREFIX: &str = "/calico/resources/v3/projectcalico.org/";
/// Before IPAM's keys.
pub(crate) const IPAM: &str = "/calico/ipam/v2/";

/// A store on a loopback port, gone with the value.
pub(crate) struct RunningStore {
    pub(crate) endpoint: String,
    child: Child,
    data: tempfile::TempDir,
}

impl Drop for RunningStore {
    fn drop(&mut self) {
        self.kill();
    }
}

impl RunningStore {
    /// The embedded datastore, served by the binary under test.
    pub(crate) fn embedded() -> RunningStore {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(BINARY)
            .args(["datastore", "serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path().join("store"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let endpoint = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(endpoint.starts_with("http://127.0.0.1:"), "{line}");
        RunningStore { endpoint, child, data }
    }

    /// Where an embedded datastore keeps its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data.path().join("store")
    }

    /// Kills it; its data stay.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A real etcd, where one is installed.
    pub(crate) fn etcd() -> Option<RunningStore> {
        let data = tempfile::tempdir().unwrap();
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--logger",
                "zap",
                "--log-level",
                "error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => {
                let store = RunningStore { endpoint, child, data };
                store.wait_until_it_answers();
                Some(store)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("cannot start etcd: {error}"),
        }
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if run(Some(&self.endpoint), Path::new("."), &["get", "nodes"], "").code == 0 {
                return;
            }
            std::thread::yield_now();
        }
        panic!("the store at {} does not answer", self.endpoint);
    }

    /// Everything stored: key, value and revision of its last change.
    pub(crate) fn contents(&self) -> Vec<(String, String, i64)> {
        self.with_store(async |store| {
            let entries = store.list("").await.unwrap().entries;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            entries.iter().map(|e| (e.key.clone(), text(&e.value), e.mod_revision)).collect()
        })
    }

    /// The keys, without what they have in common.
    pub(crate) fn keys(&self) -> Vec<String> {
        let short = |key: String| key.replace(IPAM, "ipam/").replace(PREFIX, "");
        self.contents().into_iter().map(|(key, ..)| short(key)).collect()
    }

    /// The resource under a key, without the prefix.
    pub(crate) fn value(&self, key: &str) -> serde_json::Value {
        let contents = self.contents();
        let found = contents.iter().find(|(k, ..)| *k == format!("{PREFIX}{key}"));
        let (_, value, _) = found.unwrap_or_else(|| panic!("no {key} in {contents:#?}"));
        serde_json::from_str(value).unwrap()
    }

    /// Writes a key as some other client would.
    pub(crate) fn put(&self, key: &str, value: &str) {
        use tortie_datastore::store::{Operation, Transaction};
        let put = Operation::Put { key: key.to_owned(), value: value.as_bytes().to_vec(), lease: 0 };
        self.with_store(async |store| {
            store.transact(Transaction { compares: vec![], operations: vec![put] }).await.unwrap();
        });
    }

    fn with_store<T>(&self, work: impl AsyncFnOnce(&EtcdStore) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let StoreConfig::Etcd(options) = StoreConfig::etcd([self.endpoint.clone()]);
        runtime.block_on(async { work(&EtcdStore::connect(options).await.unwrap()).await })
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(Some(&self.endpoint), &inputs(), args, "")
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Run {
        run(Some(&self.endpoint), &inputs(), args, input)
    }
}

/// What a run said and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

/// Directory of the documents the tests read.
pub(crate) fn inputs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/input")
}

/// Runs the binary with nothing in its environment but the store.
pub(crate) fn run(endpoint: Option<&str>, directory: &Path, args: &[&str], input: &str) -> Run {
    let mut command = Command::new(BINARY);
    command.args(args).current_dir(directory).env_clear();
    if let Some(endpoint) = endpoint {
        command.env("ETCD_ENDPOINTS", endpoint);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that needs no input does not wait for it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap_or(-1),
    }
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A NetworkPolicy of the default namespace.
pub(crate) fn policy(name: &str, order: u32) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{order: {order}}}\n"
    )
}
