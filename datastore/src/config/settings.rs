//! Settings as texts, from whichever source, and the one check that makes a [`StoreConfig`] of them.

use super::{StoreConfig, tls};
use crate::etcd::EtcdOptions;

/// What the settings are called where they come from, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// A file of the v3 form.
    File,
    /// A file of the v1 form.
    OldFile,
    /// The environment.
    Environment,
}

/// All settings, unchecked; `None` when unset or empty.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) names: Names,
    pub(super) datastore_type: Option<String>,
    pub(super) endpoints: Option<String>,
    pub(super) discovery_srv: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) certificate_file: Option<String>,
    pub(super) authority_file: Option<String>,
    pub(super) key: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) authority: Option<String>,
}

impl Settings {
    pub(super) fn from_environment(env: impl Fn(&str) -> Option<String>) -> Settings {
        let set = |name: &str| {
            let value = env(&format!("CALICO_{name}")).filter(|v| !v.trim().is_empty());
            value.or_else(|| env(name).filter(|v| !v.trim().is_empty()))
        };
        Settings {
            names: Names::Environment,
            datastore_type: set("DATASTORE_TYPE"),
            endpoints: set("ETCD_ENDPOINTS"),
            discovery_srv: set("ETCD_DISCOVERY_SRV"),
            username: set("ETCD_USERNAME"),
            password: set("ETCD_PASSWORD"),
            key_file: set("ETCD_KEY_FILE"),
            certificate_file: set("ETCD_CERT_FILE"),
            authority_file: set("ETCD_CA_CERT_FILE").or_else(|| set("ETCD_CA_FILE")),
            key: None,
            certificate: None,
            authority: None,
        }
    }

    /// The configuration, or every problem.
    pub(super) fn check(self) -> Result<StoreConfig, Vec<String>> {
        self.check_type().map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        if self.discovery_srv.is_some() {
            problems.push(format!(
                "{} is not supported: list the endpoints in {}",
                self.name("etcdDiscoverySrv", "ETCD_DISCOVERY_SRV"),
                self.name("etcdEndpoints", "ETCD_ENDPOINTS"),
            ));
        }
        let identity = self.identity(&mut problems);
        let authorities = self.pem(
            ("etcdCACertFile", "ETCD_CA_CERT_FILE"),
            self.authority_file.as_deref(),
            self.authority.as_deref(),
            &mut problems,
        );
        let endpoints = self.endpoints(authorities.is_some() || identity.is_some(), &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut options = EtcdOptions::new(endpoints);
        // Upstream uses credentials only when both are set.
        options.user = self.username.zip(self.password);
        options.tls = tls(authorities, identity);
        Ok(StoreConfig::Etcd(options))
    }

    fn name(&self, in_file: &'static str, in_environment: &'static str) -> &'static str {
        match self.names {
            Names::File | Names::OldFile => in_file,
            Names::Environment => in_environment,
        }
    }

    fn check_type(&self) -> Result<(), String> {
        let name = self.name("datastoreType", "DATASTORE_TYPE");
        let endpoints = self.name("etcdEndpoints", "ETCD_ENDPOINTS");
        match self.datastore_type.as_deref() {
            Some("etcdv3") => Ok(()),
            // Clusters of the v1 era named their etcd so; it is the same server, read through its v3 API.
            Some("etcdv2") if self.names == Names::OldFile => Ok(()),
            Some("kubernetes") => Err(format!(
                "{name}: the datastore 'kubernetes' is not supported yet; use etcdv3 and set {endpoints}"
            )),
            Some(other) => Err(format!("{name}: '{other}' is no datastore; it must be etcdv3")),
            None if self.endpoints.is_some() || self.discovery_srv.is_some() => Ok(()),
            None => Err(format!(
                "no datastore configured: set {endpoints}, for example to http://127.0.0.1:2379 (without it \
                 the type would be kubernetes, which is not supported yet)"
            )),
        }
    }

    fn endpoints(&self, secure: bool, problems: &mut Vec<String>) -> Vec<String> {
        let name = self.name("etcdEndpoints", "ETCD_ENDPOINTS");
        let list = self.endpoints.as_deref().unwrap_or("");
        let mut endpoints: Vec<String> = Vec::new();
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            match endpoint(text, secure) {
                Some(endpoint) if !endpoints.contains(&endpoint) => endpoints.push(endpoint),
                Some(_) => {}
                None => {
                    problems.push(format!("{name}: '{text}' must be http://host:port or https://host:port"))
                }
            }
        }
        if endpoints.is_empty() && problems.is_empty() {
            problems.push(format!("{name} is empty: set it, for example to http://127.0.0.1:2379"));
        }
        endpoints
    }

    /// Certificate and key go together.
    fn identity(&self, problems: &mut Vec<String>) -> Option<(Vec<u8>, Vec<u8>)> {
        let certificate_names = ("etcdCertFile", "ETCD_CERT_FILE");
        let key_names = ("etcdKeyFile", "ETCD_KEY_FILE");
        let before = problems.len();
        let (file, inline) = (self.certificate_file.as_deref(), self.certificate.as_deref());
        let certificate = self.pem(certificate_names, file, inline, problems);
        let key = self.pem(key_names, self.key_file.as_deref(), self.key.as_deref(), problems);
        let (certificate_name, key_name) =
            (self.name(certificate_names.0, certificate_names.1), self.name(key_names.0, key_names.1));
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) if problems.len() == before => {
                problems.push(format!("{certificate_name} is set but {key_name} is not"));
                None
            }
            (None, Some(_)) if problems.len() == before => {
                problems.push(format!("{key_name} is set but {certificate_name} is not"));
                None
            }
            _ => None,
        }
    }

    /// A PEM text from a file or inline, not both.
    fn pem(
        &self,
        names: (&'static str, &'static str),
        file: Option<&str>,
        inline: Option<&str>,
        problems: &mut Vec<String>,
    ) -> Option<Vec<u8>> {
        let name = self.name(names.0, names.1);
        let text = match (file, inline) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                problems.push(format!("{name} is set and its inline form too; use one of them"));
                return None;
            }
            (None, Some(inline)) => inline.as_bytes().to_vec(),
            (Some(path), None) => match std::fs::read(path) {
                Ok(text) => text,
                Err(error) => {
                    problems.push(format!("{name}: cannot read '{path}': {error}"));
                    return None;
                }
            },
        };
        if !String::from_utf8_lossy(&text).contains("-----BEGIN ") {
            let place = file.unwrap_or("the inline text");
            problems.push(format!("{name}: '{place}' holds no PEM block (-----BEGIN ...)"));
            return None;
        }
        Some(text)
    }
}

/// An endpoint with its scheme; as with upstream's client a bare `host:port` is one too.
fn endpoint(text: &str, secure: bool) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (scheme, authority) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), authority)) => (scheme, authority),
        Some(_) => return None,
        None => (if secure { "https" } else { "http" }, text),
    };
    let (host, port) = authority.rsplit_once(':')?;
    port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    host_ok.then(|| format!("{scheme}://{authority}"))
}
