//! The file as it is written. No judgement in here beyond the kind of each value.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Document {
    #[serde(rename = "as")]
    pub(super) local_as: u32,
    pub(super) router_id: Ipv4Addr,
    pub(super) listen: Option<Vec<String>>,
    pub(super) cluster_id: Option<Ipv4Addr>,
    #[serde(default)]
    pub(super) originate: Vec<IpNetwork>,
    /// What a peer does not say itself.
    #[serde(default)]
    pub(super) defaults: Entry,
    #[serde(default)]
    pub(super) peers: Vec<Entry>,
}

/// Makes [`Entry`] and the way one fills the gaps of another.
macro_rules! entry {
    ($($(#[$meta:meta])* $field:ident: $kind:ty,)*) => {
        /// A peer, or what peers have in common. Times are whole seconds.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub(super) struct Entry {
            $($(#[$meta])* pub(super) $field: Option<$kind>,)*
        }

        impl Entry {
            /// This one, with `defaults` where it says nothing.
            pub(super) fn over(&self, defaults: &Entry) -> Entry {
                Entry { $($field: self.$field.clone().or_else(|| defaults.$field.clone()),)* }
            }
        }
    };
}

entry! {
    name: String,
    address: IpAddr,
    port: u16,
    #[serde(rename = "as")]
    remote_as: u32,
    local_as: u32,
    local_address: IpAddr,
    passive: bool,
    hold_time: u64,
    keepalive_time: u64,
    connect_retry: u64,
    restart_time: u64,
    next_hop: NextHop,
    reflector_client: bool,
    allow_own_as: u32,
    password: String,
    password_file: PathBuf,
    ttl_security: u8,
    families: Vec<FamilyName>,
    extended_next_hop: bool,
    add_path: Direction,
    extended_messages: bool,
    role: RoleName,
    strict_role: bool,
    require_policy: bool,
    max_prefixes: u32,
    shutdown: String,
    import: Rules,
    export: Rules,
}

/// Whose address is the next hop.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NextHop {
    Auto,
    #[serde(rename = "self")]
    Own,
    Keep,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FamilyName {
    Ipv4,
    Ipv6,
}

/// Which ways several paths of a prefix go.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Direction {
    Off,
    Send,
    Receive,
    Both,
}

/// Our role towards the peer (RFC 9234).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RoleName {
    Provider,
    RouteServer,
    RouteServerClient,
    Customer,
    Peer,
}

/// `accept`, `reject`, or a list of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(untagged, expecting = "must be accept, reject or a list of prefixes")]
pub(super) enum Rules {
    All(Everything),
    List(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Everything {
    Accept,
    Reject,
}
