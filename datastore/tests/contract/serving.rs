//! The embedded server towards its clients: TLS, limits, snapshots, what a watch of etcd's protocol may ask.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tortie_datastore::etcd::EtcdStore;
use tortie_datastore::server::{
    Embedded, Limits, Server, ServerError, ServerTls, TlsFiles, read_data_dir, read_snapshot,
};
use tortie_datastore::{Store, StoreError, connect};

use crate::backend::{Backend, options, start_embedded, url};
use crate::connection::Certificates;
use crate::etcdctl::{etcdctl, refusal, run};
use crate::suite::put;

fn files(certificates: &Certificates, with_clients: bool) -> TlsFiles {
    TlsFiles {
        cert_file: Some(certificates.path("cert").into()),
        key_file: Some(certificates.path("key").into()),
        trusted_ca_file: with_clients.then(|| certificates.path("ca").into()),
        client_cert_auth: with_clients,
    }
}

async fn start_tls(dir: &Path, tls: ServerTls) -> Embedded {
    // An address other machines could reach: with TLS that needs no further word.
    let listener = Server::bind_tls("0.0.0.0:0".parse().unwrap(), tls).await.unwrap();
    Embedded::start_on(dir, listener).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls_lets_in_who_has_a_certificate() {
    let certificates = Certificates::new();
    let dir = tempfile::tempdir().unwrap();
    let tls = files(&certificates, true).read("--").unwrap().unwrap();
    let embedded = start_tls(dir.path(), tls).await;
    let url = format!("https://127.0.0.1:{}", embedded.address().port());
    let store = EtcdStore::connect(certificates.options(&url, true)).await.unwrap();
    put(&store, "/t/a", "1").await;
    let mut watch = store.watch("/t/", 1).await.unwrap();
    assert!(watch.next().await.unwrap().is_ok());
    let bare = EtcdStore::connect(certificates.options(&url, false)).await.unwrap_err();
    assert!(matches!(bare, StoreError::Unavailable { .. }), "{bare}");
    let plain = EtcdStore::connect(options(&url.replace("https", "http"))).await.unwrap_err();
    assert!(matches!(plain, StoreError::Unavailable { .. }), "{plain}");
    // As the agent does it with its own server.
    assert!(connect(embedded.config()).await.unwrap().get("/t/a").await.unwrap().is_some());

    let (ca, cert, key) =
        (certificates.path("ca"), certificates.path("client-cert"), certificates.path("client-key"));
    let with_tls = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    assert_eq!(etcdctl(&url, &[&with_tls[..], &["get", "/t/a"]].concat()), "/t/a\n1\n");
    let members = etcdctl(&url, &[&with_tls[..], &["member", "list"]].concat());
    assert!(members.contains("https://"), "{members}");
    let without = run(&url, &["--cacert", &ca, "--command-timeout", "2s", "get", "/t/a"]);
    assert!(!without.status.success(), "{without:?}");
    embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_alone_encrypts() {
    let certificates = Certificates::new();
    let dir = tempfile::tempdir().unwrap();
    let tls = files(&certificates, false).read("--").unwrap().unwrap();
    let embedded = start_tls(dir.path(), tls).await;
    let url = format!("https://127.0.0.1:{}", embedded.address().port());
    put(&EtcdStore::connect(certificates.options(&url, false)).await.unwrap(), "/t/a", "1").await;
    let stranger = Certificates::new().options(&url, false);
    let text = EtcdStore::connect(stranger).await.unwrap_err().to_string();
    assert!(text.contains("certificate"), "{text}");
    embedded.stop().await.unwrap();
}

#[test]
fn files_that_make_no_tls_are_all_named() {
    let certificates = Certificates::new();
    let good = files(&certificates, true);
    let path = |name: &str| Some(PathBuf::from(certificates.path(name)));
    let problems = |files: TlsFiles| files.read("--").unwrap_err().join("\n");
    assert!(TlsFiles::default().read("--").unwrap().is_none());
    assert_eq!(
        problems(TlsFiles { key_file: None, ..good.clone() }),
        "--cert-file is given but --key-file is not"
    );
    assert_eq!(
        problems(TlsFiles { trusted_ca_file: None, ..good.clone() }),
        "--client-cert-auth needs --trusted-ca-file: the authorities of the clients' certificates"
    );
    let ca_alone = TlsFiles { trusted_ca_file: path("ca"), ..TlsFiles::default() };
    assert_eq!(problems(ca_alone), "client certificates need TLS: give --cert-file and --key-file too");
    let absent = problems(TlsFiles { cert_file: path("no"), key_file: path("neither"), ..good.clone() });
    assert!(
        absent.contains("--cert-file: cannot read") && absent.contains("--key-file: cannot read"),
        "{absent}"
    );
    let swapped = problems(TlsFiles { cert_file: path("key"), key_file: path("cert"), ..good.clone() });
    assert!(swapped.starts_with("--cert-file and --key-file: "), "{swapped}");
    let other = problems(TlsFiles { key_file: path("client-key"), ..good });
    assert!(other.starts_with("--cert-file and --key-file: "), "{other}");
}

async fn limited(dir: &Path, limits: Limits) -> Embedded {
    let listener = Server::bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    Embedded::serving(Server::open(dir).unwrap().with_limits(limits), listener)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_refused_and_leaves_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        connections: 4,
        streams: 3,
        watches: 2,
        requests: 50,
        large_requests: 3,
        ..Limits::default()
    };
    let embedded = limited(dir.path(), limits).await;
    let client = etcd_client::Client::connect([url(embedded.address())], None).await.unwrap();
    client.kv_client().put("k", "v", None).await.unwrap();

    // Connections beyond the limit are closed at once; one that ends makes room.
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(embedded.address()).await.unwrap());
    }
    let closed = async {
        let mut refused = TcpStream::connect(embedded.address()).await.unwrap();
        refused.read(&mut [0; 1]).await.map_or(0, |read| read)
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), closed).await.expect("closed at once"), 0);
    client.kv_client().get("k", None).await.expect("who is in stays in");
    drop(held);

    // Watches beyond their limit are refused by name, streams by etcd's error.
    let first = client.watch_client().watch("k", None).await.unwrap();
    let _second = client.watch_client().watch("k", None).await.unwrap();
    let mut third = client.watch_client().watch("k", None).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), third.message()).await.unwrap();
    match answer {
        Ok(Some(answer)) => assert_eq!(answer.cancel_reason(), "etcdserver: too many requests"),
        other => panic!("no refusal: {other:?}"),
    }
    let fourth = client.watch_client().watch("k", None).await;
    assert!(fourth.is_err(), "three streams are there");
    drop(first);
    drop(third);
    let room = async { while client.watch_client().watch("k", None).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(30), room).await.expect("room again");

    // Requests beyond theirs are refused, and the connection goes on.
    let puts = |key: &'static str, count: usize, size: usize| {
        let puts = (0..count).map(move |i| (format!("{key}{i}"), vec![b'x'; size]));
        let all = puts.map(|(key, value)| {
            let mut kv = client.kv_client();
            async move { kv.put(key, value, None).await.err().map(|error| error.to_string()) }
        });
        futures::future::join_all(all)
    };
    for (key, count, size) in [("many", 200, 10), ("large", 40, 1 << 20)] {
        let refused: Vec<String> = puts(key, count, size).await.into_iter().flatten().collect();
        assert!(!refused.is_empty() && refused.len() < count, "{key}: {} refused", refused.len());
        assert!(refused.iter().all(|text| text.contains("etcdserver: too many requests")), "{refused:?}");
        assert_eq!(puts(key, 3, size).await, [None, None, None]);
    }
    // Larger than etcd allows.
    assert!(client.kv_client().put("large", vec![0; 3 << 20], None).await.is_err());
    embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_writes_until_it_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = limited(dir.path(), Limits { bytes: 100_000, ..Limits::default() }).await;
    let url = url(embedded.address());
    let mut kv = etcd_client::Client::connect([&url], None).await.unwrap().kv_client();
    let mut refused = None;
    for _ in 0..20 {
        refused = kv.put("k", vec![b'x'; 10_000], None).await.err();
    }
    let refused = refused.expect("200 kB do not fit").to_string();
    assert!(refused.contains("etcdserver: mvcc: database space exceeded"), "{refused}");
    assert!(etcdctl(&url, &["alarm", "list"]).contains("alarm:NOSPACE"));
    kv.get("k", None).await.unwrap();
    let revision = kv.delete("k", None).await.expect("deletes go on").header().unwrap().revision();
    kv.compact(revision, None).await.unwrap();
    kv.put("k", "v", None).await.unwrap();
    assert_eq!(etcdctl(&url, &["alarm", "list"]), "");
    // What is counted is what is there after a restart too.
    embedded.stop().await.unwrap();
    let embedded = limited(dir.path(), Limits { bytes: 200, ..Limits::default() }).await;
    let mut kv = etcd_client::Client::connect([crate::backend::url(embedded.address())], None)
        .await
        .unwrap()
        .kv_client();
    assert!(kv.put("k", "v", None).await.is_err());
    embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_saved_by_etcdctl_holds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let embedded = start_embedded(&data).await;
    let url = url(embedded.address());
    let store = EtcdStore::connect(options(&url)).await.unwrap();
    for i in 0..300 {
        put(&store, &format!("/t/{i}"), &"x".repeat(i)).await;
    }
    put(&store, "/u", "elsewhere").await;
    let listing = store.list("/t/").await.unwrap();
    let file = dir.path().join("saved");
    etcdctl(&url, &["snapshot", "save", file.to_str().unwrap()]);
    // What comes later is not in it, and does not disturb it.
    put(&store, "/t/0", "changed").await;
    assert_eq!(read_snapshot(&file, "/t/").unwrap(), listing);
    let left: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("snapshot-")), "{left:?}");
    let live = read_data_dir(&data, "/t/").unwrap_err();
    assert!(matches!(live, ServerError::InUse(_)), "{live}");
    let changed = store.list("/t/").await.unwrap();
    embedded.stop().await.unwrap();
    assert_eq!(read_data_dir(&data, "/t/").unwrap(), changed);
    let nothing = read_data_dir(&dir.path().join("none"), "/t/").unwrap_err();
    assert!(matches!(nothing, ServerError::Directory { .. }), "{nothing}");

    // etcd's own tools see that it is none of theirs.
    let foreign = refusal(&url, &["snapshot", "status", file.to_str().unwrap()]);
    assert!(foreign.contains("invalid database") || foreign.contains("Error"), "{foreign}");
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for bad in [&flipped[..], &whole[..whole.len() - 100], b"", b"text"] {
        std::fs::write(&file, bad).unwrap();
        let error = read_snapshot(&file, "/t/").unwrap_err().to_string();
        assert!(error.contains("saved: its checksum does not fit"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_a_real_etcd_is_named_as_one() {
    let backend = Backend::etcd().await;
    put(backend.store.as_ref(), "/t/a", "1").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("saved");
    etcdctl(&backend.url(), &["snapshot", "save", file.to_str().unwrap()]);
    let error = read_snapshot(&file, "/t/").unwrap_err().to_string();
    assert!(error.contains("no snapshot of the embedded datastore"), "{error}");
}
