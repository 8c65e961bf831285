//! Every source, every refusal.

use std::collections::BTreeMap;

use super::*;

fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let map: BTreeMap<String, String> =
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    move |name| map.get(name).cloned()
}

fn options(config: Result<StoreConfig, ConfigError>) -> EtcdOptions {
    let StoreConfig::Etcd(options) = config.unwrap();
    options
}

fn problem(config: Result<StoreConfig, ConfigError>) -> String {
    config.unwrap_err().to_string()
}

#[test]
fn the_environment_with_and_without_prefix() {
    let read = options(StoreConfig::from_environment(env(&[
        ("ETCD_ENDPOINTS", "http://10.0.0.1:2379, 10.0.0.2:2379,http://[fd00::1]:2379/"),
        ("CALICO_ETCD_USERNAME", "calico"),
        ("ETCD_USERNAME", "other"),
        ("ETCD_PASSWORD", "secret"),
    ])));
    assert_eq!(read.endpoints, ["http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://[fd00::1]:2379"]);
    assert_eq!(read.user, Some(("calico".to_owned(), "secret".to_owned())));
    let lonely = [("ETCD_ENDPOINTS", "http://a:1"), ("ETCD_USERNAME", "calico")];
    assert_eq!(options(StoreConfig::from_environment(env(&lonely))).user, None);
}

#[test]
fn all_problems_are_reported_together() {
    let text = problem(StoreConfig::from_environment(env(&[
        ("ETCD_ENDPOINTS", "http://10.0.0.1,ftp://x:1,http://ok:2379"),
        ("ETCD_CA_FILE", "/nonexistent/ca.pem"),
        ("ETCD_CERT_FILE", "/nonexistent/cert.pem"),
        ("ETCD_DISCOVERY_SRV", "example.org"),
    ])));
    for part in [
        "ETCD_ENDPOINTS: 'http://10.0.0.1' must be",
        "'ftp://x:1'",
        "ETCD_CA_CERT_FILE: cannot read '/nonexistent/ca.pem'",
        "ETCD_CERT_FILE: cannot read '/nonexistent/cert.pem'",
        "ETCD_DISCOVERY_SRV is not supported",
    ] {
        assert!(text.contains(part), "{part} missing in: {text}");
    }
}

#[test]
fn a_certificate_needs_its_key_and_pem_files_make_bare_endpoints_secure() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let pem = file("cert.pem", "-----BEGIN CERTIFICATE-----\n");
    let junk = file("junk.pem", "hello");
    let lonely = env(&[("ETCD_ENDPOINTS", "a:1"), ("ETCD_CERT_FILE", &pem)]);
    assert!(problem(StoreConfig::from_environment(lonely)).contains("ETCD_KEY_FILE is not"));
    let bad = env(&[("ETCD_ENDPOINTS", "a:1"), ("ETCD_CA_CERT_FILE", &junk)]);
    assert!(problem(StoreConfig::from_environment(bad)).contains("holds no PEM block"));
    let both = env(&[
        ("ETCD_ENDPOINTS", "a:1"),
        ("ETCD_CERT_FILE", &pem),
        ("ETCD_KEY_FILE", &pem),
        ("ETCD_CA_FILE", &pem),
    ]);
    let read = options(StoreConfig::from_environment(both));
    assert_eq!(read.endpoints, ["https://a:1"]);
    assert!(read.tls.identity.is_some() && read.tls.authorities.is_some());
}

#[test]
fn the_type_decides_and_kubernetes_is_refused_in_words() {
    let kubernetes = env(&[("DATASTORE_TYPE", "kubernetes"), ("ETCD_ENDPOINTS", "http://a:1")]);
    assert!(problem(StoreConfig::from_environment(kubernetes)).contains("'kubernetes' is not supported yet"));
    assert!(problem(StoreConfig::from_environment(env(&[]))).contains("no datastore configured"));
    let typo = env(&[("CALICO_DATASTORE_TYPE", "etcd"), ("ETCD_ENDPOINTS", "http://a:1")]);
    assert!(problem(StoreConfig::from_environment(typo)).contains("'etcd' is no datastore"));
    let empty = env(&[("DATASTORE_TYPE", "etcdv3")]);
    assert!(problem(StoreConfig::from_environment(empty)).contains("ETCD_ENDPOINTS is empty"));
}

const V3: &str = "apiVersion: projectcalico.org/v3
kind: CalicoAPIConfig
metadata:
spec:
  datastoreType: \"etcdv3\"
  etcdEndpoints: \"http://10.0.0.1:2379\"
";

#[test]
fn files_of_both_forms() {
    let read = options(StoreConfig::from_document(V3, "x"));
    assert_eq!(read.endpoints, ["http://10.0.0.1:2379"]);
    let old = "apiVersion: v1\nkind: calicoApiConfig\nmetadata:\nspec:\n  datastoreType: \"etcdv2\"\n";
    let listed = format!("{old}  etcdEndpoints: http://e1:2379,http://e2:2379\n");
    assert_eq!(options(StoreConfig::from_document(&listed, "x")).endpoints.len(), 2);
    let authority = format!("{old}  etcdAuthority: e1:2379\n  etcdScheme: https\n");
    assert_eq!(options(StoreConfig::from_document(&authority, "x")).endpoints, ["https://e1:2379"]);
}

#[test]
fn files_are_read_strictly() {
    let unknown = format!("{V3}  etcdEndpoint: x\n");
    let text = problem(StoreConfig::from_document(&unknown, "/etc/calico/calicoctl.cfg"));
    assert!(
        text.contains("/etc/calico/calicoctl.cfg") && text.contains("unknown field `etcdEndpoint`"),
        "{text}"
    );
    assert!(text.contains("line 7"), "{text}");
    let kind = V3.replace("CalicoAPIConfig", "CalicoApiConfig");
    assert!(problem(StoreConfig::from_document(&kind, "x")).contains("kind 'CalicoApiConfig'"));
    let mixed = format!("{V3}  etcdScheme: http\n");
    assert!(problem(StoreConfig::from_document(&mixed, "x")).contains("belong to apiVersion v1"));
    let broken = problem(StoreConfig::from_document("apiVersion: v1\nkind: a: b\n", "x"));
    assert!(broken.contains("line 2 column"), "{broken}");
    let twice = format!("{V3}  etcdCACert: \"-----BEGIN X\"\n  etcdCACertFile: /x\n");
    assert!(problem(StoreConfig::from_document(&twice, "x")).contains("use one of them"));
}

#[test]
fn a_named_file_must_be_there() {
    let missing = Path::new("/nonexistent/calicoctl.cfg");
    let text = problem(StoreConfig::load(Some(missing), env(&[("ETCD_ENDPOINTS", "http://a:1")])));
    assert!(text.starts_with("Error reading config file: /nonexistent/calicoctl.cfg"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calicoctl.cfg");
    std::fs::write(&path, V3).unwrap();
    let read = options(StoreConfig::load(Some(&path), env(&[("ETCD_ENDPOINTS", "http://ignored:1")])));
    assert_eq!(read.endpoints, ["http://10.0.0.1:2379"]);
}
