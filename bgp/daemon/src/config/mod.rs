//! The file: read, judged as a whole, turned into what a speaker is told. A mistake names file, peer, field and value.

mod document;
mod peer;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use tortie_bgp::SpeakerConfig;
use tortie_bgp::filter::Filter;
use tortie_bgp::table::OriginatedRoute;

use document::{Document, Rules};

/// BGP's port.
const PORT: u16 = 179;
/// LOCAL_PREF of originated routes on internal sessions: the usual default (RFC 4271 leaves it to us).
const LOCAL_PREF: u32 = 100;
/// Identifiers from here on are multicast addresses; other speakers refuse them.
const FIRST_MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 0);

/// What a file says.
#[derive(Debug)]
pub(crate) struct Config {
    /// The speaker and its peers.
    pub(crate) speaker: SpeakerConfig,
    /// What it originates.
    pub(crate) originate: BTreeMap<IpNetwork, OriginatedRoute>,
    /// All files this was read from: the file itself and those with passwords.
    pub(crate) files: Vec<PathBuf>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is no YAML, or has an unknown field or a value of the wrong kind.
    #[error("{}", .path.display())]
    Syntax { path: PathBuf, source: serde_yaml::Error },
    /// All values that make no sense.
    #[error("{}: {}", .path.display(), .problems.join("; "))]
    Problems { path: PathBuf, problems: Vec<String> },
}

impl Config {
    /// Reads a file, and the password files it names.
    ///
    /// # Errors
    /// [`ConfigError`]; of values that make no sense all are named.
    pub(crate) fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Config::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let document: Document = serde_yaml::from_str(text)
            .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source })?;
        let mut reading = Reading { files: vec![path.to_owned()], ..Reading::default() };
        let config = document.judge(&mut reading);
        match reading.problems.is_empty() {
            true => Ok(Config { files: reading.files, ..config }),
            false => Err(ConfigError::Problems { path: path.to_owned(), problems: reading.problems }),
        }
    }
}

/// What is gathered while a file is judged.
#[derive(Debug, Default)]
struct Reading {
    problems: Vec<String>,
    files: Vec<PathBuf>,
    /// Filters made so far: peers with the same rules share one, which makes them quick to compare.
    filters: BTreeMap<Rules, Filter>,
}

impl Reading {
    /// Notes that `field` (with the peer it belongs to) cannot be `value`.
    fn add(&mut self, field: &str, value: impl std::fmt::Display, why: &str) {
        self.problems.push(format!("{field}: {value}: {why}"));
    }
}

impl Document {
    fn judge(self, reading: &mut Reading) -> Config {
        if self.local_as == 0 {
            reading.add("as", 0, "AS 0 is reserved");
        }
        if self.router_id.is_unspecified() || self.router_id >= FIRST_MULTICAST {
            reading.add("router-id", self.router_id, "must be an ordinary address below 224.0.0.0");
        }
        let cluster_id = self.cluster_id.filter(|id| !id.is_unspecified());
        if self.cluster_id.is_some() && cluster_id.is_none() {
            reading.add("cluster-id", "0.0.0.0", "must not be zero");
        }
        let listen = self.listen(reading);
        let originate = self.originate(reading);
        self.check_defaults(reading);
        let mut peers = BTreeMap::new();
        for (index, entry) in self.peers.iter().enumerate() {
            let entry = entry.over(&self.defaults);
            let Some((id, config)) = entry.judge(index, reading) else { continue };
            if peers.insert(id, config).is_some() {
                reading.add(
                    &format!("peers[{index}]"),
                    id,
                    "there is another peer with this address and port",
                );
            }
        }
        // Clients without a cluster id of their own reflect by the router id (RFC 4456 7).
        let reflects = peers.values().any(|peer| peer.reflector_client);
        let speaker = SpeakerConfig {
            router_id: self.router_id,
            local_as: self.local_as,
            listen,
            cluster_id: cluster_id.or(reflects.then_some(self.router_id)),
            peers,
        };
        Config { speaker, originate, files: Vec::new() }
    }

    fn check_defaults(&self, reading: &mut Reading) {
        for (field, given) in [
            ("defaults.name", self.defaults.name.is_some()),
            ("defaults.address", self.defaults.address.is_some()),
        ] {
            if given {
                reading.add(field, "given", "belongs to a single peer");
            }
        }
    }

    /// Where to listen: everywhere, unless the file says where.
    fn listen(&self, reading: &mut Reading) -> Vec<SocketAddr> {
        let Some(words) = &self.listen else {
            return vec![(Ipv4Addr::UNSPECIFIED, PORT).into(), (Ipv6Addr::UNSPECIFIED, PORT).into()];
        };
        let mut listen = BTreeSet::new();
        for word in words {
            let with_port = word.parse::<SocketAddr>();
            match with_port.or_else(|_| word.parse::<IpAddr>().map(|address| (address, PORT).into())) {
                Ok(address) => drop(listen.insert(address)),
                Err(_) => reading.add("listen", word, "must be an address, with :port if it is not 179"),
            }
        }
        listen.into_iter().collect()
    }

    fn originate(&self, reading: &mut Reading) -> BTreeMap<IpNetwork, OriginatedRoute> {
        let mut routes = BTreeMap::new();
        for prefix in &self.originate {
            if prefix.ip() != prefix.network() {
                reading.add("originate", prefix, "the address has bits behind the prefix");
            }
            routes.insert(*prefix, OriginatedRoute { local_pref: LOCAL_PREF });
        }
        routes
    }
}
