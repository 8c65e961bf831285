//! Names and passwords at a real etcd: refused ones, tokens that end, and authentication that is switched on later.

use std::process::Command;
use std::time::{Duration, Instant};

use tortie_datastore::etcd::{EtcdOptions, EtcdStore};
use tortie_datastore::{Store, StoreError};

use crate::backend::{Etcd, options};
use crate::suite::put;

const PASSWORD: &str = "s3cret";

fn options_of(url: &str, password: &str) -> EtcdOptions {
    EtcdOptions { user: Some(("root".to_owned(), password.to_owned())), ..options(url) }
}

/// etcdctl as root, or as nobody before there is one.
fn etcdctl(etcd: &Etcd, as_root: bool, arguments: &[&str]) {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &etcd.url]);
    if as_root {
        command.args(["--user", &format!("root:{PASSWORD}")]);
    }
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

fn switch_on(etcd: &Etcd) {
    let user = format!("root:{PASSWORD}");
    for arguments in
        [["user", "add", &user].as_slice(), &["user", "grant-role", "root", "root"], &["auth", "enable"]]
    {
        etcdctl(etcd, false, arguments);
    }
}

/// Stores whose first request from now on is another one each.
async fn stores(etcd: &Etcd) -> [EtcdStore; 4] {
    let store = async || EtcdStore::connect(options_of(&etcd.url, PASSWORD)).await.unwrap();
    [store().await, store().await, store().await, store().await]
}

async fn all_work([reader, writer, watcher, lessee]: &[EtcdStore; 4], value: &str) {
    put(writer, "/t/a", value).await;
    let read = reader.get("/t/a").await.unwrap().unwrap();
    assert_eq!(read.value, value.as_bytes());
    let mut watch = watcher.watch("/t/", read.mod_revision).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, read.mod_revision);
    assert!(lessee.grant_lease(60).await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_real_etcd() {
    let etcd = Etcd::start(&[]);
    etcd.connect().await;
    // Credentials do no harm while the cluster asks for none, and serve as soon as it does.
    let before = stores(&etcd).await;
    all_work(&before, "1").await;
    switch_on(&etcd);
    all_work(&before, "2").await;
    all_work(&stores(&etcd).await, "3").await;
    for refused in [options_of(&etcd.url, "wrong"), options(&etcd.url)] {
        let error = EtcdStore::connect(refused).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    }
    // Known, but with no right to anything.
    etcdctl(&etcd, true, &["user", "add", "guest:guest"]);
    let guest = EtcdOptions { user: Some(("guest".to_owned(), "guest".to_owned())), ..options(&etcd.url) };
    let error = EtcdStore::lazy(guest).unwrap().watch("/t/", 1).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused { reason } if reason.contains("denied")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_tokens_are_renewed() {
    let etcd = Etcd::start(&["--auth-token-ttl", "1"]);
    etcd.connect().await;
    switch_on(&etcd);
    let stores = stores(&etcd).await;
    all_work(&stores, "1").await;
    let login = etcd_client::ConnectOptions::new().with_user("root", PASSWORD);
    let witness = etcd_client::Client::connect([&etcd.url], Some(login)).await.unwrap();
    // Only time ends a token, and each use prolongs it.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        match witness.kv_client().get("/t/a", None).await {
            Err(error) => break assert!(error.to_string().contains("invalid auth token"), "{error}"),
            Ok(_) => assert!(Instant::now() < deadline, "the token does not end"),
        }
    }
    all_work(&stores, "2").await;
}

/// A JSON web token is worth nothing once any user has changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_from_before_a_change_of_users_are_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "a key of thirty-two octets or more").unwrap();
    let tokens = format!("jwt,sign-method=HS256,priv-key={},ttl=10m", key.display());
    let etcd = Etcd::start(&["--auth-token", &tokens]);
    etcd.connect().await;
    switch_on(&etcd);
    let stores = stores(&etcd).await;
    all_work(&stores, "1").await;
    etcdctl(&etcd, true, &["user", "add", "another:one"]);
    all_work(&stores, "2").await;
}
