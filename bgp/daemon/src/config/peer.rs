//! One peer: from what the file says, or leaves out, to what the speaker is told.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tortie_bgp::config::{AddPath, NextHopMode, Role};
use tortie_bgp::family::Family;
use tortie_bgp::filter::Filter;
use tortie_bgp::{PeerConfig, PeerId};

use super::document::{Direction, Entry, Everything, FamilyName, NextHop, RoleName, Rules};
use super::{PORT, Reading};

/// Twelve bits (RFC 4724 3).
const LONGEST_RESTART: u64 = 4095;
/// Longest TCP-MD5 key Linux takes.
const LONGEST_PASSWORD: usize = 80;

/// Notes problems of one peer.
struct Judge<'a> {
    peer: String,
    reading: &'a mut Reading,
}

impl Judge<'_> {
    fn add(&mut self, field: &str, value: impl std::fmt::Display, why: &str) {
        self.reading.add(&format!("{}: {field}", self.peer), value, why);
    }

    /// Whole seconds within bounds.
    fn seconds(&mut self, field: &str, value: Option<u64>, bounds: (u64, u64)) -> Option<Duration> {
        let value = value?;
        if !(bounds.0..=bounds.1).contains(&value) {
            self.add(field, value, &format!("must be {} to {} seconds", bounds.0, bounds.1));
        }
        Some(Duration::from_secs(value))
    }

    fn filter(&mut self, field: &str, rules: &Rules) -> Filter {
        if let Some(filter) = self.reading.filters.get(rules) {
            return filter.clone();
        }
        let filter = rules.filter().unwrap_or_else(|word| {
            let why =
                "must be a prefix, with ! in front to reject it and + behind it for what is inside it too";
            self.add(field, word, why);
            Filter::default()
        });
        self.reading.filters.insert(rules.clone(), filter.clone());
        filter
    }
}

impl Entry {
    /// Turns it into a peer; `None` when there is not even an address and an AS.
    pub(super) fn judge(&self, index: usize, reading: &mut Reading) -> Option<(PeerId, PeerConfig)> {
        let named = self.name.clone().or_else(|| self.address.map(|address| address.to_string()));
        let peer = format!("peers[{index}]{}", named.map_or(String::new(), |name| format!(" ({name})")));
        let judge = &mut Judge { peer, reading };
        let (Some(address), Some(remote_as)) = (self.address, self.remote_as) else {
            let missing = if self.address.is_none() { "address" } else { "as" };
            judge.add(missing, "missing", "a peer has an address and an as");
            return None;
        };
        let id = SocketAddr::new(address, self.port.unwrap_or(PORT));
        let name = self.name.clone().unwrap_or_else(|| match id.port() {
            PORT => address.to_string(),
            _ => id.to_string(),
        });
        let mut config = PeerConfig::new(name, remote_as);
        self.identity(&mut config, id, judge);
        self.timers(&mut config, judge);
        self.features(&mut config, address);
        config.password = self.secret(judge);
        self.filters(&mut config, judge);
        Some((id, config))
    }

    fn identity(&self, config: &mut PeerConfig, id: PeerId, judge: &mut Judge<'_>) {
        if id.port() == 0 {
            judge.add("port", 0, "must not be zero");
        }
        for (field, value) in [("as", self.remote_as), ("local-as", self.local_as)] {
            if value == Some(0) {
                judge.add(field, 0, "AS 0 is reserved");
            }
        }
        if let Some(local) = self.local_address.filter(|local| local.is_ipv4() != id.is_ipv4()) {
            judge.add("local-address", local, "must be of the family of the peer's address");
        }
        if self.ttl_security == Some(0) {
            judge.add("ttl-security", 0, "must be 1 to 255 hops");
        }
        if self.max_prefixes == Some(0) {
            judge.add("max-prefixes", 0, "must not be zero");
        }
        config.local_as = self.local_as;
        config.local_address = self.local_address;
        config.ttl_security = self.ttl_security;
        config.max_prefixes = self.max_prefixes;
    }

    fn timers(&self, config: &mut PeerConfig, judge: &mut Judge<'_>) {
        if let Some(hold) = self.hold_time.filter(|hold| *hold == 1 || *hold == 2) {
            judge.add("hold-time", hold, "must be 0 or at least 3 seconds");
        }
        let longest = u64::from(u16::MAX);
        let hold_time = judge.seconds("hold-time", self.hold_time, (0, longest));
        config.hold_time = hold_time.unwrap_or(config.hold_time);
        config.keepalive_time = judge.seconds("keepalive-time", self.keepalive_time, (1, longest));
        let connect_retry = judge.seconds("connect-retry", self.connect_retry, (1, longest));
        config.connect_retry = connect_retry.unwrap_or(config.connect_retry);
        let restart_time = judge.seconds("restart-time", self.restart_time, (0, LONGEST_RESTART));
        config.restart_time = restart_time.unwrap_or(config.restart_time);
        config.passive = self.passive.unwrap_or(config.passive);
    }

    fn features(&self, config: &mut PeerConfig, address: IpAddr) {
        config.next_hop = match self.next_hop {
            None | Some(NextHop::Auto) => NextHopMode::Auto,
            Some(NextHop::Own) => NextHopMode::OwnAddress,
            Some(NextHop::Keep) => NextHopMode::Keep,
        };
        config.reflector_client = self.reflector_client.unwrap_or(false);
        config.allow_own_as = self.allow_own_as.unwrap_or(0);
        config.families = match &self.families {
            None => BTreeSet::from([Family::of(address)]),
            Some(names) => names.iter().map(|name| name.family()).collect(),
        };
        config.extended_next_hop = self.extended_next_hop.unwrap_or(config.extended_next_hop);
        let (send, receive) = match self.add_path.unwrap_or(Direction::Off) {
            Direction::Off => (false, false),
            Direction::Send => (true, false),
            Direction::Receive => (false, true),
            Direction::Both => (true, true),
        };
        config.add_path = AddPath { send, receive };
        config.extended_messages = self.extended_messages.unwrap_or(config.extended_messages);
        config.role = self.role.map(RoleName::role);
        config.strict_role = self.strict_role.unwrap_or(false);
        config.shutdown.clone_from(&self.shutdown);
    }

    /// The TCP-MD5 key. One that cannot be had is a mistake: the session must not come up without it.
    fn secret(&self, judge: &mut Judge<'_>) -> Option<String> {
        let (field, secret) = match (&self.password, &self.password_file) {
            (None, None) => return None,
            (Some(_), Some(file)) => {
                judge.add("password-file", file.display(), "there is a password too");
                return None;
            }
            (Some(password), None) => ("password", password.clone()),
            (None, Some(file)) => {
                judge.reading.files.push(file.clone());
                match std::fs::read_to_string(file) {
                    Ok(text) => ("password-file", text.trim_end_matches(['\n', '\r']).to_owned()),
                    Err(error) => {
                        judge.add("password-file", file.display(), &format!("cannot be read: {error}"));
                        return None;
                    }
                }
            }
        };
        if !(1..=LONGEST_PASSWORD).contains(&secret.len()) {
            let length = format!("{} octets", secret.len());
            judge.add(field, length, &format!("a password has 1 to {LONGEST_PASSWORD}"));
        }
        Some(secret)
    }

    /// Everything goes both ways, unless the file says otherwise. Under `require-policy` what the file leaves out stays
    /// empty, for then the speaker must see that nobody wrote a filter (RFC 8212).
    fn filters(&self, config: &mut PeerConfig, judge: &mut Judge<'_>) {
        config.require_policy = self.require_policy.unwrap_or(false);
        if let Some(rules) = &self.import {
            config.import = judge.filter("import", rules);
        }
        let export = match &self.export {
            Some(rules) => judge.filter("export", rules),
            None if config.require_policy => Filter::default(),
            None => judge.filter("export", &Rules::All(Everything::Accept)),
        };
        config.export = export;
    }
}

impl FamilyName {
    fn family(self) -> Family {
        match self {
            FamilyName::Ipv4 => Family::Ipv4,
            FamilyName::Ipv6 => Family::Ipv6,
        }
    }
}

impl RoleName {
    fn role(self) -> Role {
        match self {
            RoleName::Provider => Role::Provider,
            RoleName::RouteServer => Role::RouteServer,
            RoleName::RouteServerClient => Role::RouteServerClient,
            RoleName::Customer => Role::Customer,
            RoleName::Peer => Role::Peer,
        }
    }
}
