//! Connections: refused, hanging, TLS, several endpoints, and what is said of each.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use tortie_datastore::etcd::{EtcdOptions, EtcdStore, Role, Tls};
use tortie_datastore::server::{Server, ServerError};
use tortie_datastore::{Store, StoreConfig, StoreError, connect};

use crate::backend::{Backend, Etcd, options};
use crate::cluster::Cluster;
use crate::suite::put;

/// A port that accepts connections and never says a word.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// A port nobody listens on.
fn closed() -> String {
    silent().1
}

#[tokio::test]
async fn an_unreachable_store_is_named_in_time() {
    let (_listener, silent) = silent();
    let closed = closed();
    let begun = Instant::now();
    let error = connect(StoreConfig::etcd([closed.clone(), silent.clone()])).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let text = error.to_string();
    assert!(text.starts_with(&format!("datastore unreachable at {closed},{silent}: ")), "{text}");
    let (first, second) = (format!("{closed}: "), format!("{silent}: no answer within "));
    assert!(text.contains(&first) && text.contains("refused") && text.contains(&second), "{text}");
    let begun = Instant::now();
    let error = connect(StoreConfig::etcd([closed])).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_and_hanging_endpoints_are_passed_over() {
    let backend = Backend::embedded().await;
    let (_listener, silent) = silent();
    let mut options = options(&silent);
    options.endpoints = vec![closed(), silent, backend.url()];
    options.deadline = Duration::from_secs(4);
    let store = EtcdStore::connect(options.clone()).await.unwrap();
    put(&store, "/t/a", "1").await;
    // Without the probe the dead ones come first: a read gets past both, a write past the one it cannot reach.
    let store = EtcdStore::lazy(options.clone()).unwrap();
    assert!(store.get("/t/a").await.unwrap().is_some());
    options.endpoints.remove(1);
    let store = EtcdStore::lazy(options).unwrap();
    put(&store, "/t/a", "2").await;
}

#[tokio::test]
async fn the_embedded_server_listens_on_loopback_only_unless_told() {
    let error = Server::bind("0.0.0.0:0".parse().unwrap(), false).await.unwrap_err();
    assert!(matches!(error, ServerError::NotLoopback(_)));
    assert!(error.to_string().contains("--insecure"), "{error}");
    Server::bind("[::1]:0".parse().unwrap(), false).await.unwrap();
    Server::bind("0.0.0.0:0".parse().unwrap(), true).await.unwrap();
}

/// A certificate authority and what it signed, as PEM texts and files.
pub(crate) struct Certificates {
    dir: tempfile::TempDir,
    authority: String,
    client: (String, String),
}

impl Certificates {
    pub(crate) fn new() -> Certificates {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let signed = |names: &[&str]| {
            let key = KeyPair::generate().unwrap();
            let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let params = CertificateParams::new(names).unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let (server, client) = (signed(&["127.0.0.1", "localhost"]), signed(&["client"]));
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("ca", &authority),
            ("cert", &server.0),
            ("key", &server.1),
            ("client-cert", &client.0),
            ("client-key", &client.1),
        ];
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Certificates { dir, authority, client }
    }

    /// Of `ca`, `cert`, `key`, `client-cert` or `client-key`.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) fn options(&self, url: &str, with_identity: bool) -> EtcdOptions {
        let mut options = options(url);
        let identity = (self.client.0.clone().into_bytes(), self.client.1.clone().into_bytes());
        options.tls = Tls {
            authorities: Some(self.authority.clone().into_bytes()),
            identity: with_identity.then_some(identity),
        };
        options
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls_to_a_real_etcd() {
    let certificates = Certificates::new();
    let (ca, cert, key) = (certificates.path("ca"), certificates.path("cert"), certificates.path("key"));
    let etcd = Etcd::start(&[
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-cert-auth",
    ]);
    let store = etcd.connect_with(certificates.options(&etcd.url, true)).await.unwrap();
    put(&store, "/t/a", "1").await;
    let mut watch = store.watch("/t/", 1).await.unwrap();
    assert!(watch.next().await.unwrap().is_ok());
    // Without its own certificate, and with an authority that did not sign the server's.
    let bare = EtcdStore::connect(certificates.options(&etcd.url, false)).await.unwrap_err();
    assert!(matches!(bare, StoreError::Unavailable { .. }), "{bare}");
    let stranger = Certificates::new().options(&etcd.url, true);
    let text = EtcdStore::connect(stranger).await.unwrap_err().to_string();
    assert!(text.contains("certificate"), "{text}");
}

/// As an operator configures it, on three members: files named by the environment, by either name of the authority's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls_to_a_cluster_from_the_environment() {
    let certificates = Certificates::new();
    let (ca, cert, key) = (certificates.path("ca"), certificates.path("cert"), certificates.path("key"));
    let flags = ["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca, "--client-cert-auth"];
    let mut cluster = Cluster::start_with("https", &flags, &certificates.options("", true)).await;
    let (client_cert, client_key) = (certificates.path("client-cert"), certificates.path("client-key"));
    for authority in ["ETCD_CA_FILE", "ETCD_CA_CERT_FILE"] {
        let environment = BTreeMap::from([
            ("ETCD_ENDPOINTS", cluster.urls().join(",")),
            (authority, ca.clone()),
            ("ETCD_CERT_FILE", client_cert.clone()),
            ("ETCD_KEY_FILE", client_key.clone()),
        ]);
        let config = StoreConfig::from_environment(|name| environment.get(name).cloned()).unwrap();
        let store = connect(config).await.unwrap();
        let key = format!("/t/{authority}");
        put(store.as_ref(), &key, "1").await;
        if authority == "ETCD_CA_FILE" {
            // The member it uses may be another one; then nothing is to be noticed either.
            cluster.kill(0);
        }
        assert!(store.get(&key).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_is_reported() {
    let mut cluster = Cluster::start().await;
    let stranger = Backend::embedded().await;
    cluster.kill(2);
    let mut options = cluster.options();
    options.endpoints.push(stranger.url());
    let store = EtcdStore::lazy(options.clone()).unwrap();
    // The survivors may have to elect a leader first.
    let deadline = Instant::now() + Duration::from_secs(60);
    let health = loop {
        let health = store.health().await;
        if health[..2].iter().all(|one| one.problems.is_empty()) || Instant::now() > deadline {
            break health;
        }
    };
    let endpoints: Vec<&str> = health.iter().map(|one| one.endpoint.as_str()).collect();
    assert_eq!(endpoints, options.endpoints);
    let leaders = health[..2].iter().filter(|one| one.member.as_ref().unwrap().role == Role::Leader).count();
    assert_eq!(leaders, 1, "{health:?}");
    assert!(health[..2].iter().all(|one| one.problems.is_empty()), "{health:?}");
    assert!(health[2].member.is_none() && health[2].problems[0].contains("refused"), "{:?}", health[2]);
    assert_eq!(health[3].problems, [format!("belongs to another cluster than {}", endpoints[0])]);

    // One of three cannot answer reads.
    cluster.kill(0);
    let health = store.health().await;
    assert!(!health[1].problems.is_empty(), "{health:?}");
}
