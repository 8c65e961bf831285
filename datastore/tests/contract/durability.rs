//! What the embedded server acknowledged survives `kill -9`, and nobody else opens its file meanwhile.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tortie_datastore::etcd::EtcdStore;
use tortie_datastore::server::{Embedded, Server, ServerError, read_data_dir};
use tortie_datastore::store::{Operation, Outcome, Store, Transaction};

use crate::backend::{options, start_embedded, url};
use crate::suite::{put, put_op};

/// Kills: each hits another moment of a commit.
const ROUNDS: usize = 20;
const WRITERS: usize = 8;

const DIRECTORY: &str = "TORTIE_TEST_DATA_DIR";

/// Not a test: the child process the tests start, serving until it is killed.
#[tokio::test]
#[ignore = "started by the tests of durability as their server process"]
async fn serve_until_killed() {
    let dir = std::env::var(DIRECTORY).expect("the directory to serve");
    let server = Server::open(Path::new(&dir)).unwrap();
    let listener = Server::bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    println!("serving {}", url(listener.local_addr().unwrap()));
    server.serve(listener, std::future::pending()).await.unwrap();
}

/// A server in a process of its own.
struct ServerProcess {
    child: Child,
    url: String,
}

impl ServerProcess {
    fn start(dir: &Path) -> ServerProcess {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::serve_until_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // The test harness may put its own words in front.
        let url = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("serving ").map(|(_, url)| url.trim().to_owned()));
        ServerProcess { child, url: url.expect("the server says where it listens") }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Key to value and revision, as acknowledged.
type Acknowledged = Arc<Mutex<BTreeMap<String, (String, i64)>>>;

/// Writes until the server is gone.
async fn write_until_dead(store: Arc<EtcdStore>, name: String, acknowledged: Acknowledged) {
    for i in 0.. {
        let (key, value) = (format!("/t/{name}/{i}"), format!("value {i}"));
        let operations =
            vec![put_op(&key, value.as_bytes()), put_op(&format!("{key}/twin"), value.as_bytes())];
        match store.transact(Transaction { compares: Vec::new(), operations }).await {
            Ok(Outcome::Committed { revision }) => {
                acknowledged.lock().unwrap().insert(key, (value, revision));
            }
            Ok(Outcome::Conflict { .. }) => panic!("nothing was compared"),
            Err(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        let mut server = ServerProcess::start(dir.path());
        let store = Arc::new(EtcdStore::connect(options(&server.url)).await.unwrap());
        let writers: Vec<_> = (0..WRITERS)
            .map(|i| {
                let name = format!("{round}-{i}");
                tokio::spawn(write_until_dead(store.clone(), name, acknowledged.clone()))
            })
            .collect();
        let target = acknowledged.lock().unwrap().len() + 40 + 7 * round;
        let enough = async {
            while acknowledged.lock().unwrap().len() < target {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), enough).await.expect("writes are acknowledged");
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        let so_far = acknowledged.lock().unwrap().clone();
        check(dir.path(), &so_far).await;
    }
}

/// Opens the directory anew and looks for every acknowledged write, whole and at its revision.
async fn check(dir: &Path, acknowledged: &BTreeMap<String, (String, i64)>) {
    let embedded = start_embedded(dir).await;
    let store = EtcdStore::connect(options(&url(embedded.address()))).await.unwrap();
    let listing = store.list("/t/").await.unwrap();
    let stored: BTreeMap<&str, (&[u8], i64)> =
        listing.entries.iter().map(|kv| (kv.key.as_str(), (kv.value.as_slice(), kv.mod_revision))).collect();
    for (key, (value, revision)) in acknowledged {
        assert_eq!(stored.get(key.as_str()), Some(&(value.as_bytes(), *revision)), "{key}");
        assert!(stored.contains_key(format!("{key}/twin").as_str()), "{key} came without its twin");
    }
    // Each writer may have had one transaction under way at each kill.
    let unacknowledged = stored.len() / 2 - acknowledged.len();
    assert!(unacknowledged <= WRITERS * ROUNDS, "{unacknowledged} writes nobody was told of");
    assert_eq!(stored.len() % 2, 0, "half a transaction");
    assert!(listing.revision >= acknowledged.values().map(|(_, revision)| *revision).max().unwrap());
    drop(store);
    embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_compaction_and_leases_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = start_embedded(dir.path()).await;
    let store = EtcdStore::connect(options(&url(embedded.address()))).await.unwrap();
    let first = put(&store, "/t/a", "1").await;
    let second = put(&store, "/t/a", "2").await;
    put(&store, "/t/a", "3").await;
    let lease = store.grant_lease(2).await.unwrap();
    let leased = Operation::Put { key: "/t/leased".to_owned(), value: Vec::new(), lease };
    let last = crate::suite::write(&store, vec![leased]).await;
    let client = etcd_client::Client::connect([url(embedded.address())], None).await.unwrap();
    client.kv_client().compact(second, None).await.unwrap();
    let cluster = client.kv_client().get("x", None).await.unwrap().header().unwrap().cluster_id();
    drop((client, store));
    embedded.stop().await.unwrap();

    let embedded = start_embedded(dir.path()).await;
    let client = etcd_client::Client::connect([url(embedded.address())], None).await.unwrap();
    let at = |revision| Some(etcd_client::GetOptions::new().with_revision(revision));
    let old = client.kv_client().get("/t/a", at(second)).await.unwrap();
    assert_eq!(old.kvs()[0].value(), b"2");
    let header = old.header().unwrap();
    assert_eq!((header.revision(), header.cluster_id()), (last, cluster));
    assert!(client.kv_client().get("/t/a", at(first)).await.is_err(), "compacted before the restart");
    // The lease started anew with the server, and still ends.
    let store = EtcdStore::connect(options(&url(embedded.address()))).await.unwrap();
    let mut watch = store.watch("/t/", last + 1).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(15), watch.next()).await.expect("the lease ends");
    assert_eq!(ended.unwrap().unwrap().events.len(), 1);
    embedded.stop().await.unwrap();
}

/// The file of a small store with some history, as bytes. `clean` closes it as a stopping server does.
async fn file_of_a_store(dir: &Path, clean: bool) -> Vec<u8> {
    let file = dir.join("datastore.redb");
    let mut process = ServerProcess::start(dir);
    let store = EtcdStore::connect(options(&process.url)).await.unwrap();
    for i in 0..60 {
        put(&store, &format!("/t/{}", i % 20), &"some value ".repeat(i)).await;
    }
    drop(store);
    process.kill();
    if clean {
        drop(Server::open(dir).unwrap());
    }
    std::fs::read(file).unwrap()
}

/// Bytes changed, cut off, zeroed or appended: the server starts with what it had, or says that the file is damaged. It
/// never panics (which would end the released binary without a word), and never begins anew in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_refused_in_words() {
    let mut random =
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let (mut refused, mut opened) = (0, 0);
    for clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let whole = file_of_a_store(dir.path(), clean).await;
        let file = dir.path().join("datastore.redb");
        let listing = read_data_dir(dir.path(), "/t/").unwrap();
        assert_eq!((listing.entries.len(), listing.revision), (20, 61));
        for round in 0..DAMAGES {
            let mut bytes = whole.clone();
            damage(&mut bytes, round, &mut random);
            std::fs::write(&file, &bytes).unwrap();
            match read_data_dir(dir.path(), "/t/") {
                Err(error) => {
                    refused += 1;
                    let text = error.to_string();
                    assert!(text.contains("datastore.redb") && text.contains("damaged"), "{text}");
                }
                Ok(found) => {
                    opened += 1;
                    // What crashed before it was closed may lack the commit under way, which nobody was told of.
                    let undone = i64::from(!clean);
                    assert!(found.revision >= listing.revision - undone, "round {round}: {}", found.revision);
                    assert!(found.revision != listing.revision || found == listing, "round {round}");
                }
            }
        }
        std::fs::write(&file, b"").unwrap();
        let error = Server::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("damaged"), "an empty file is no new store: {error}");
        std::fs::write(&file, &whole).unwrap();
        assert_eq!(read_data_dir(dir.path(), "/t/").unwrap().entries.len(), 20);
    }
    assert!(refused > 10 && opened > 0, "{refused} refused, {opened} opened");
}

/// Damaged files tried.
const DAMAGES: u32 = 100;

fn damage(bytes: &mut Vec<u8>, round: u32, random: &mut proptest::test_runner::TestRng) {
    use proptest::prelude::Rng;
    let mut below = |limit: usize| usize::try_from(random.next_u64()).unwrap() % limit;
    match round % 5 {
        0 => bytes.truncate(below(bytes.len())),
        1 => {
            // Where most of the structure is.
            let at = below(bytes.len().min(4096));
            bytes[at] ^= 1 << below(8);
        }
        2 => {
            let at = below(bytes.len());
            bytes[at] ^= 1 << below(8);
        }
        3 => {
            let page = below(bytes.len() / 4096) * 4096;
            bytes[page..page + 4096].fill(0);
        }
        _ => {
            let (from, to) = (below(bytes.len() / 4096) * 4096, below(bytes.len() / 4096) * 4096);
            bytes.copy_within(from..from + 4096, to);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = ServerProcess::start(dir.path());
    let error = Embedded::start(dir.path(), "127.0.0.1:0".parse().unwrap()).await.unwrap_err();
    assert!(matches!(&error, ServerError::InUse(path) if path == dir.path()), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    process.kill();
    start_embedded(dir.path()).await.stop().await.unwrap();
}
