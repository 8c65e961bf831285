//! Who may reach the server: this machine, whoever TLS lets in, or everybody.
//!
//! Owns the rule about addresses and the server's certificates. Flags are named as etcd's (`--cert-file`, `--key-file`,
//! `--trusted-ca-file`, `--client-cert-auth`), and mean the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::error::ServerError;
use crate::config::StoreConfig;
use crate::etcd::Tls;

/// How long a client may take over the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// PEM files of the server, as the command line names them.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Authorities of clients. With it every client must show a certificate, as in etcd.
    pub trusted_ca_file: Option<PathBuf>,
    /// Clients must show a certificate; needs the authorities.
    pub client_cert_auth: bool,
}

/// The server's TLS: PEM texts that fit together.
#[derive(Clone)]
pub struct ServerTls {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// Authorities of clients; without them every client is let in.
    clients: Option<Vec<u8>>,
}

impl std::fmt::Debug for ServerTls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("authenticates", &self.authenticates_clients())
            .finish_non_exhaustive()
    }
}

impl TlsFiles {
    /// Reads and checks the files; `None` when none is named. `prefix` is what stands before the flags' names.
    ///
    /// # Errors
    /// Every problem, each naming its flag and file.
    pub fn read(&self, prefix: &str) -> Result<Option<ServerTls>, Vec<String>> {
        let mut problems = Vec::new();
        let mut pem = |flag: &str, path: &Option<PathBuf>| {
            let path = path.as_deref()?;
            read_pem(path).map_err(|reason| problems.push(format!("{prefix}{flag}: {reason}"))).ok()
        };
        let certificate = pem("cert-file", &self.cert_file);
        let key = pem("key-file", &self.key_file);
        let clients = pem("trusted-ca-file", &self.trusted_ca_file);
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => {
                problems.push(format!("{prefix}cert-file is given but {prefix}key-file is not"))
            }
            (None, Some(_)) => {
                problems.push(format!("{prefix}key-file is given but {prefix}cert-file is not"))
            }
            (None, None) if self.trusted_ca_file.is_some() || self.client_cert_auth => problems.push(
                format!("client certificates need TLS: give {prefix}cert-file and {prefix}key-file too"),
            ),
            (None, None) | (Some(_), Some(_)) => {}
        }
        if self.client_cert_auth && self.trusted_ca_file.is_none() {
            problems.push(format!(
                "{prefix}client-cert-auth needs {prefix}trusted-ca-file: the authorities of the clients' certificates"
            ));
        }
        let (Some(certificate), Some(key), true) = (certificate, key, problems.is_empty()) else {
            return if problems.is_empty() { Ok(None) } else { Err(problems) };
        };
        let tls = ServerTls { certificate, key, clients };
        match tonic::transport::Server::builder().tls_config(tls.config()) {
            Ok(_) => Ok(Some(tls)),
            Err(error) => Err(vec![format!("{prefix}cert-file and {prefix}key-file: {}", causes(&error))]),
        }
    }
}

impl ServerTls {
    /// Whether clients must show a certificate.
    pub fn authenticates_clients(&self) -> bool {
        self.clients.is_some()
    }

    pub(super) fn config(&self) -> ServerTlsConfig {
        let config = ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .timeout(HANDSHAKE);
        match &self.clients {
            Some(authorities) => config.client_ca_root(Certificate::from_pem(authorities)),
            None => config,
        }
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let text = std::fs::read(path).map_err(|error| format!("cannot read '{}': {error}", path.display()))?;
    let is_pem = String::from_utf8_lossy(&text).contains("-----BEGIN ");
    if is_pem { Ok(text) } else { Err(format!("'{}' holds no PEM block (-----BEGIN ...)", path.display())) }
}

/// An error with its causes, each said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// An address listened on, and who is let in.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<ServerTls>,
}

impl Listener {
    /// Listens without TLS: on a loopback address, or on any when `insecure` says so.
    pub(super) async fn plain(address: SocketAddr, insecure: bool) -> Result<Listener, ServerError> {
        if !insecure && !address.ip().is_loopback() {
            return Err(ServerError::NotLoopback(address));
        }
        Listener::bind(address, None).await
    }

    /// Listens with TLS, on any address.
    pub(super) async fn secure(address: SocketAddr, tls: ServerTls) -> Result<Listener, ServerError> {
        let listener = Listener::bind(address, Some(tls)).await?;
        if !listener.authenticates_clients() && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "clients need no certificate: whoever reaches this address may change the network; \
                 --trusted-ca-file makes them show one"
            );
        }
        Ok(listener)
    }

    async fn bind(address: SocketAddr, tls: Option<ServerTls>) -> Result<Listener, ServerError> {
        let failed = |source| ServerError::Listen { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Listener { socket, address, tls })
    }

    fn authenticates_clients(&self) -> bool {
        self.tls.as_ref().is_some_and(ServerTls::authenticates_clients)
    }

    /// The address, with the port the system chose.
    ///
    /// # Errors
    /// None any more: the address was asked when the listener was made.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// How clients name it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// How this process connects to it. With TLS it is its own client: the server's certificate serves as the client's
    /// too, and the clients' authorities must have signed it.
    pub(super) fn own_config(&self) -> StoreConfig {
        let mut address = self.address;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        let Some(tls) = &self.tls else { return StoreConfig::etcd([format!("http://{address}")]) };
        let StoreConfig::Etcd(mut options) = StoreConfig::etcd([format!("https://{address}")]);
        options.tls = Tls {
            authorities: Some(tls.clients.clone().unwrap_or_else(|| tls.certificate.clone())),
            identity: tls.clients.is_some().then(|| (tls.certificate.clone(), tls.key.clone())),
        };
        StoreConfig::Etcd(options)
    }
}
