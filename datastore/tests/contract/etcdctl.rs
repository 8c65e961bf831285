//! etcdctl against the embedded server: what an operator types.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::backend::{Backend, Etcd};
use crate::suite::put;

pub(crate) fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", url]).args(arguments);
    command
}

pub(crate) fn run(url: &str, arguments: &[&str]) -> Output {
    command(url, arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run etcdctl ({error}): apt install etcd-client"))
}

/// Its output; it must succeed.
pub(crate) fn etcdctl(url: &str, arguments: &[&str]) -> String {
    let output = run(url, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Its words when it fails.
pub(crate) fn refusal(url: &str, arguments: &[&str]) -> String {
    let output = run(url, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys() {
    let backend = Backend::embedded().await;
    let url = &backend.url();
    for (key, value) in [("/t/a", "1"), ("/t/b", "2"), ("/u", "3")] {
        assert_eq!(etcdctl(url, &["put", key, value]), "OK\n");
    }
    assert_eq!(etcdctl(url, &["get", "/t/a"]), "/t/a\n1\n");
    assert_eq!(etcdctl(url, &["get", "--prefix", "/t/"]), "/t/a\n1\n/t/b\n2\n");
    assert_eq!(etcdctl(url, &["get", "--from-key", "/t/b", "--keys-only"]), "/t/b\n\n/u\n\n");
    assert_eq!(etcdctl(url, &["get", "", "--prefix", "--limit", "1", "--print-value-only"]), "1\n");
    assert_eq!(
        etcdctl(url, &["get", "/", "--prefix", "--order", "DESCEND", "--sort-by", "MODIFY", "--limit", "1"]),
        "/u\n3\n"
    );
    assert_eq!(etcdctl(url, &["put", "/t/a", "9", "--prev-kv"]), "OK\n/t/a\n1\n");
    assert_eq!(etcdctl(url, &["get", "/t/a", "--rev", "2"]), "/t/a\n1\n");
    let count = etcdctl(url, &["get", "/", "--prefix", "--limit", "1", "--write-out", "fields"]);
    assert!(count.contains("\"Count\" : 3"), "{count}");
    assert_eq!(etcdctl(url, &["del", "--prefix", "/t/", "--prev-kv"]), "2\n/t/a\n9\n/t/b\n2\n");
    assert_eq!(etcdctl(url, &["del", "/t/a"]), "0\n");
    let ignore = refusal(url, &["put", "/t/none", "--ignore-value"]);
    assert!(ignore.contains("etcdserver: key not found"), "{ignore}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions() {
    let backend = Backend::embedded().await;
    let url = &backend.url();
    put(backend.store.as_ref(), "/t/a", "1").await;
    let script = "value(\"/t/a\") = \"1\"\nmod(\"/t/b\") = \"0\"\n\nput /t/b 2\nget /t/a\n\nput /t/c 3\n\n";
    for expected in ["SUCCESS\n\nOK\n\n/t/a\n1\n", "FAILURE\n\nOK\n"] {
        let mut child = command(url, &["txn"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
    line.expect("a line within twenty seconds").unwrap().expect("a line")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches() {
    let backend = Backend::embedded().await;
    let url = backend.url();
    let store = backend.store.as_ref();
    put(store, "/t/a", "1").await;
    let mut child = tokio::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &url, "watch", "--prefix", "/t/", "--rev", "2", "--prev-kv"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for expected in ["PUT", "/t/a", "1"] {
        assert_eq!(line(&mut lines).await, expected);
    }
    etcdctl(&url, &["put", "/t/a", "2"]);
    for expected in ["PUT", "/t/a", "1", "/t/a", "2"] {
        assert_eq!(line(&mut lines).await, expected);
    }
    etcdctl(&url, &["del", "/t/a"]);
    for expected in ["DELETE", "/t/a", "2", "/t/a", ""] {
        assert_eq!(line(&mut lines).await, expected);
    }
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases() {
    let backend = Backend::embedded().await;
    let url = &backend.url();
    let granted = etcdctl(url, &["lease", "grant", "100"]);
    let id = granted.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(100s)\n"));
    etcdctl(url, &["put", "/t/a", "1", "--lease", &id]);
    let ttl = etcdctl(url, &["lease", "timetolive", &id, "--keys"]);
    assert!(
        ttl.contains("granted with TTL(100s), remaining(") && ttl.contains("attached keys([/t/a])"),
        "{ttl}"
    );
    assert!(etcdctl(url, &["lease", "list"]).contains(&id));
    let alive = etcdctl(url, &["lease", "keep-alive", "--once", &id]);
    assert_eq!(alive, format!("lease {id} keepalived with TTL(100)\n"));
    assert_eq!(etcdctl(url, &["lease", "revoke", &id]), format!("lease {id} revoked\n"));
    assert_eq!(etcdctl(url, &["get", "/t/a"]), "");
    let unknown = refusal(url, &["lease", "revoke", &id]);
    assert!(unknown.contains("requested lease not found"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operation() {
    let backend = Backend::embedded().await;
    let url = &backend.url();
    put(backend.store.as_ref(), "/t/a", "1").await;
    put(backend.store.as_ref(), "/t/a", "2").await;
    assert_eq!(etcdctl(url, &["compact", "3"]), "compacted revision 3\n");
    let again = refusal(url, &["compact", "2"]);
    assert!(again.contains("required revision has been compacted"), "{again}");
    let old = refusal(url, &["get", "/t/a", "--rev", "2"]);
    assert!(old.contains("required revision has been compacted"), "{old}");
    // etcdctl 3.4 sends the endpoint as `:authority` here, and a scheme in it is malformed HTTP/2.
    let bare = url.strip_prefix("http://").unwrap();
    let status = etcdctl(bare, &["endpoint", "status"]);
    assert!(status.starts_with(&format!("{bare}, ")) && status.contains(", 3.5.0+tortie-"), "{status}");
    let health = run(url, &["endpoint", "health"]);
    assert!(health.status.success(), "{health:?}");
    let members = etcdctl(url, &["member", "list"]);
    assert!(members.contains(", started, embedded, ") && members.contains(url.as_str()), "{members}");
    assert!(etcdctl(bare, &["defrag"]).contains("Finished defragmenting"));
    assert_eq!(etcdctl(url, &["alarm", "list"]), "");
    let member: &[&str] = &["member", "add", "x", "--peer-urls", "http://127.0.0.1:1"];
    for arguments in [member, &["user", "list"], &["auth", "enable"]] {
        let refused = refusal(url, arguments);
        assert!(
            refused.contains("not supported by the embedded datastore; use an etcd cluster"),
            "{refused}"
        );
    }
    assert_eq!(etcdctl(url, &["get", "/t/a"]), "/t/a\n2\n");
}

/// The way to a cluster the documentation names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_moves_everything_to_an_etcd() {
    let backend = Backend::embedded().await;
    let etcd = Etcd::start(&[]);
    let target = etcd.connect().await;
    for i in 0..50 {
        put(backend.store.as_ref(), &format!("/calico/k{i}"), &i.to_string()).await;
    }
    let mut mirror = tokio::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &backend.url(), "make-mirror", "--prefix", "/calico/", &etcd.url])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let copied = async |wanted: usize| {
        let copied = async {
            while tortie_datastore::Store::list(&target, "/calico/").await.unwrap().entries.len() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), copied).await.expect("the mirror catches up");
    };
    copied(50).await;
    // It follows changes too, so that nodes can be moved one by one.
    put(backend.store.as_ref(), "/calico/late", "x").await;
    copied(51).await;
    mirror.kill().await.unwrap();
}
