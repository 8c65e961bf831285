//! The agent's one configuration: flags and the environment variables of calico/node, read once and checked as a whole.
//! Nothing else reads either. Every problem is found before the first is reported.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ipnetwork::IpNetwork;
use tortie_datastore::config::{ConfigError as StoreConfigError, StoreConfig};
use tortie_datastore::server::{DEFAULT_ADDRESS, ServerTls, TlsFiles};
use tortie_model::local_api::DEFAULT_SOCKET;
use tortie_model::scalar::{AsNumber, ScalarError};
use tortie_policy::snapshot::EndpointToHost;
use tracing_subscriber::filter::LevelFilter;

use crate::calc::{RouterId, parse_duration, parse_endpoint_to_host};
use crate::kernel::Ownership;
use crate::logging::{Format, chain};

mod addresses;
mod environment;
mod pools;
#[cfg(test)]
mod tests;

pub use addresses::{AddressSetting, Method};
pub use environment::Environment;
use environment::Reader;
pub use pools::{PoolSettings, PoolWish};

/// The agent of a Tortie node: addresses, routes, policy and BGP for the workloads of this machine.
///
/// Further settings come from the environment variables of calico/node (NODENAME, IP, AS, ETCD_ENDPOINTS, ...);
/// docs/operations.md lists them.
#[derive(Debug, Parser)]
#[command(name = "tortie-node", version)]
struct Flags {
    /// Read the datastore's address and credentials from this file (the format of calicoctl.cfg) instead of the
    /// environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep the data in this directory and serve it to local clients, instead of using an etcd cluster.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    embedded_datastore: Option<PathBuf>,
    /// Where the embedded datastore listens (or TORTIE_EMBEDDED_LISTEN); 127.0.0.1:2379 unless told otherwise.
    #[arg(long, value_name = "ADDR:PORT", requires = "embedded_datastore")]
    embedded_listen: Option<String>,
    /// Let the embedded datastore listen on other than loopback addresses without TLS
    /// (or TORTIE_EMBEDDED_INSECURE=true).
    #[arg(long, requires = "embedded_datastore")]
    embedded_insecure: bool,
    /// Serve the embedded datastore with TLS: this certificate chain (or TORTIE_EMBEDDED_CERT_FILE). The agent shows it
    /// too, as its own.
    #[arg(long, value_name = "FILE", requires = "embedded_datastore")]
    embedded_cert_file: Option<PathBuf>,
    /// The certificate's key (or TORTIE_EMBEDDED_KEY_FILE).
    #[arg(long, value_name = "FILE", requires = "embedded_datastore")]
    embedded_key_file: Option<PathBuf>,
    /// Authorities of the clients' certificates and of the server's (or TORTIE_EMBEDDED_TRUSTED_CA_FILE).
    #[arg(long, value_name = "FILE", requires = "embedded_datastore")]
    embedded_trusted_ca_file: Option<PathBuf>,
    /// Listen for tortie-cni and tortiectl on this unix socket (or TORTIE_SOCKET).
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Log at this level: error, warn, info, debug, trace or none (or CALICO_STARTUP_LOGLEVEL).
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log lines for people, or a JSON object a line.
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    log_format: String,
}

/// Where secrets are unless `TORTIE_SECRETS_DIR` says otherwise.
const DEFAULT_SECRETS: &str = "/etc/tortie/secrets";
/// How often addresses are detected again (calico-datamodel 7.2).
const DEFAULT_POLL: Duration = Duration::from_secs(60);

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The flags are wrong, or ask for help or the version.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// Settings that make no sense; all of them.
    #[error("invalid configuration:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
}

/// Where the data is.
#[derive(Clone, Debug)]
pub enum DatastoreConfig {
    /// In a cluster.
    Cluster(StoreConfig),
    /// Served by this process.
    Embedded {
        /// Where the data is.
        directory: PathBuf,
        /// Where it listens.
        listen: SocketAddr,
        /// Whether that may be other than a loopback address.
        insecure: bool,
        /// Its certificates, which are the agent's own as well.
        tls: Option<ServerTls>,
    },
}

/// Where the node's name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameSources {
    /// `NODENAME`.
    pub explicit: Option<String>,
    /// The file an earlier start left it in.
    pub file: PathBuf,
    /// `HOSTNAME`.
    pub hostname: Option<String>,
}

/// What connects the node to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// BGP; called after the daemon upstream uses for it.
    #[default]
    Bird,
    /// VXLAN without BGP.
    Vxlan,
    /// Something else.
    None,
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Node name.
    pub name: NameSources,
    /// Datastore.
    pub datastore: DatastoreConfig,
    /// Wait for the datastore at start instead of giving up.
    pub wait_for_datastore: bool,
    /// Unix socket of the local API.
    pub socket: PathBuf,
    /// IPv4 node address.
    pub ipv4: AddressSetting,
    /// IPv6 node address.
    pub ipv6: AddressSetting,
    /// How often addresses are detected again; `None` is never.
    pub autodetect_poll: Option<Duration>,
    /// Start even when another node has the same address.
    pub skip_address_check: bool,
    /// Own AS number.
    pub as_number: Option<AsNumber>,
    /// BGP, or not.
    pub backend: Backend,
    /// BGP identifier.
    pub router_id: RouterId,
    /// Ranges of service addresses to announce, over BGPConfiguration.
    pub service_cluster_ips: Option<Vec<IpNetwork>>,
    /// Directory of the secrets BGPPeers refer to.
    pub secrets: PathBuf,
    /// Default pools.
    pub pools: PoolSettings,
    /// Name of this node in Kubernetes.
    pub k8s_node_ref: Option<String>,
    /// Comma list of what the cluster is made of.
    pub cluster_type: String,
    /// Whether IPv6 is programmed.
    pub ipv6_support: bool,
    /// Traffic from workloads to this node, over FelixConfiguration.
    pub endpoint_to_host: Option<EndpointToHost>,
    /// MTU of the IPIP device, over FelixConfiguration.
    pub ipip_mtu: Option<u32>,
    /// How long an address must look abandoned before it is released; `None` is the usual, zero never.
    pub leak_grace: Option<Duration>,
    /// Whether others may change the table of rules.
    pub ownership: Ownership,
    /// Whether flows that go on are judged again when policy changes.
    pub reevaluate: bool,
    /// Group of nflog for `Log` rules; the kernel's log when absent.
    pub log_group: Option<u16>,
    /// Level of the log.
    pub log_level: LevelFilter,
    /// Form of the log.
    pub log_format: Format,
}

impl Config {
    /// Reads flags (the program's name first) and environment.
    ///
    /// # Errors
    /// [`ConfigError::Flags`] as soon as a flag is unknown; else all problems of flags and environment together.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        environment: &Environment,
    ) -> Result<Config, ConfigError> {
        let flags = Flags::try_parse_from(args)?;
        let mut reader = Reader::new(environment);
        let config = reader.config(&flags);
        if reader.problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(reader.problems)) }
    }
}

impl Reader<'_> {
    fn config(&mut self, flags: &Flags) -> Config {
        let text = |name: &str| self.environment.get(name).map(str::to_owned);
        Config {
            name: NameSources {
                explicit: text("NODENAME"),
                file: text("CALICO_NODENAME_FILE")
                    .unwrap_or_else(|| "/var/lib/calico/nodename".into())
                    .into(),
                hostname: text("HOSTNAME"),
            },
            wait_for_datastore: self.flag("WAIT_FOR_DATASTORE", false),
            socket: flags
                .socket
                .clone()
                .unwrap_or_else(|| text("TORTIE_SOCKET").unwrap_or_else(|| DEFAULT_SOCKET.to_owned()).into()),
            k8s_node_ref: text("CALICO_K8S_NODE_REF"),
            cluster_type: text("CLUSTER_TYPE").unwrap_or_default(),
            datastore: self.datastore(flags),
            ipv4: addresses::read(self, false),
            ipv6: addresses::read(self, true),
            autodetect_poll: self.value(
                "AUTODETECT_POLL_INTERVAL",
                Some(DEFAULT_POLL),
                addresses::parse_poll,
            ),
            skip_address_check: self.flag("DISABLE_NODE_IP_CHECK", false),
            as_number: self.value("AS", None, parse_as),
            backend: self.backend(),
            router_id: self.value("CALICO_ROUTER_ID", RouterId::default(), str::parse),
            service_cluster_ips: self.value("CALICO_ADVERTISE_CLUSTER_IPS", None, |text| {
                parse_ranges(text).map(Some).ok_or("must be CIDRs with commas between them")
            }),
            secrets: text("TORTIE_SECRETS_DIR").unwrap_or_else(|| DEFAULT_SECRETS.to_owned()).into(),
            pools: pools::read(self),
            ipv6_support: self.felix("IPV6SUPPORT", true, environment::parse_bool),
            endpoint_to_host: self.felix("DEFAULTENDPOINTTOHOSTACTION", None, |text| {
                parse_endpoint_to_host(text).map(Some).ok_or("must be Drop, Accept or Return")
            }),
            ipip_mtu: self.felix("IPINIPMTU", None, parse_mtu),
            ownership: if self.flag("TORTIE_NFT_OWNER", true) {
                Ownership::Exclusive
            } else {
                Ownership::Shared
            },
            reevaluate: self.flag("TORTIE_REEVALUATE_FLOWS", false),
            log_group: self.value("TORTIE_LOG_GROUP", None, |text| {
                text.parse().map(Some).map_err(|_| "must be a group of nflog, 0 to 65535")
            }),
            leak_grace: self.value("TORTIE_LEAK_GRACE_PERIOD", None, |text| {
                parse_duration(text)
                    .map(Some)
                    .ok_or("must be a duration such as 15m, or 0 to release nothing")
            }),
            log_level: self.log_level(flags),
            log_format: if flags.log_format == "json" { Format::Json } else { Format::Text },
        }
    }

    /// With a problem the stand-in is never seen: the whole configuration is refused.
    fn datastore(&mut self, flags: &Flags) -> DatastoreConfig {
        if let Some(directory) = &flags.embedded_datastore {
            return self.embedded(directory.clone(), flags);
        }
        let env = |name: &str| self.environment.get(name).map(str::to_owned);
        let read = match &flags.config {
            Some(file) => StoreConfig::load(Some(file), env),
            None => StoreConfig::from_environment(env),
        };
        match read {
            Ok(config) => DatastoreConfig::Cluster(config),
            Err(StoreConfigError::Invalid(problems)) => {
                self.problems.extend(problems);
                DatastoreConfig::Cluster(StoreConfig::etcd([]))
            }
            Err(error) => {
                self.problems.push(chain(&error));
                DatastoreConfig::Cluster(StoreConfig::etcd([]))
            }
        }
    }

    fn embedded(&mut self, directory: PathBuf, flags: &Flags) -> DatastoreConfig {
        let rule = "must be an address and a port, such as 127.0.0.1:2379";
        let parse = |text: &str| text.parse::<SocketAddr>().map_err(|_| rule);
        let (name, listen) = match &flags.embedded_listen {
            Some(text) => {
                ("--embedded-listen", self.parsed("--embedded-listen", text, DEFAULT_ADDRESS, parse))
            }
            None => ("TORTIE_EMBEDDED_LISTEN", self.value("TORTIE_EMBEDDED_LISTEN", DEFAULT_ADDRESS, parse)),
        };
        let insecure = self.flag("TORTIE_EMBEDDED_INSECURE", false) || flags.embedded_insecure;
        let tls = self.embedded_tls(flags);
        if !insecure && tls.is_none() && !listen.ip().is_loopback() {
            self.problems.push(format!(
                "{name}: '{listen}' is no loopback address; give the embedded datastore a certificate \
                 (--embedded-cert-file, --embedded-key-file, --embedded-trusted-ca-file), or add --embedded-insecure \
                 if everybody who can reach it may change the network"
            ));
        }
        DatastoreConfig::Embedded { directory, listen, insecure, tls }
    }

    /// The certificates of the embedded datastore. The agent is its client too, and must be able to trust it: all three
    /// files or none.
    fn embedded_tls(&mut self, flags: &Flags) -> Option<ServerTls> {
        let file = |flag: &Option<PathBuf>, variable: &str| {
            flag.clone().or_else(|| self.environment.get(variable).map(PathBuf::from))
        };
        let files = TlsFiles {
            cert_file: file(&flags.embedded_cert_file, "TORTIE_EMBEDDED_CERT_FILE"),
            key_file: file(&flags.embedded_key_file, "TORTIE_EMBEDDED_KEY_FILE"),
            trusted_ca_file: file(&flags.embedded_trusted_ca_file, "TORTIE_EMBEDDED_TRUSTED_CA_FILE"),
            client_cert_auth: false,
        };
        if files.cert_file.is_some() && files.trusted_ca_file.is_none() {
            self.problems.push(
                "--embedded-cert-file needs --embedded-trusted-ca-file: without it whoever reaches the datastore could \
                 change the network, and the agent could not tell its own server"
                    .to_owned(),
            );
        }
        files.read("--embedded-").unwrap_or_else(|problems| {
            self.problems.extend(problems);
            None
        })
    }

    fn backend(&mut self) -> Backend {
        let default = match self.environment.get("CALICO_NETWORKING") {
            Some("false") => Backend::None,
            Some(_) | None => Backend::Bird,
        };
        self.value("CALICO_NETWORKING_BACKEND", default, |text| match text {
            "bird" => Ok(Backend::Bird),
            "vxlan" => Ok(Backend::Vxlan),
            "none" => Ok(Backend::None),
            _ => Err("must be bird, vxlan or none"),
        })
    }

    fn log_level(&mut self, flags: &Flags) -> LevelFilter {
        let rule = "must be error, warn, info, debug, trace or none";
        match &flags.log_level {
            Some(text) => match parse_level(text) {
                Some(level) => level,
                None => {
                    self.problems.push(format!("--log-level: '{text}' {rule}"));
                    LevelFilter::INFO
                }
            },
            None => {
                self.value("CALICO_STARTUP_LOGLEVEL", LevelFilter::INFO, |text| parse_level(text).ok_or(rule))
            }
        }
    }
}

/// Levels by our names and by those of calico/node.
fn parse_level(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "fatal" | "panic" | "critical" => LevelFilter::ERROR,
        "none" | "off" => LevelFilter::OFF,
        _ => return None,
    })
}

/// An AS number. 0 is nobody's, and peers refuse it (RFC 7607).
fn parse_as(text: &str) -> Result<Option<AsNumber>, &'static str> {
    match text.parse::<AsNumber>() {
        Ok(AsNumber(0)) => Err("must not be 0, which RFC 7607 reserves"),
        parsed => parsed.map(Some).map_err(|error: ScalarError| error.rule),
    }
}

/// Networks with commas between them; a comma at the end does no harm.
fn parse_ranges(text: &str) -> Option<Vec<IpNetwork>> {
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    texts.map(|text| text.contains('/').then(|| text.parse().ok())?).collect()
}

/// An MTU; 0 means automatic.
fn parse_mtu(text: &str) -> Result<Option<u32>, &'static str> {
    match text.parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(mtu) if (68..=65535).contains(&mtu) => Ok(Some(mtu)),
        Ok(_) | Err(_) => Err("must be 0 or from 68 to 65535"),
    }
}
