//! Keys in the store: their text, both ways (calico-datamodel 1.1, 1.5).

use std::fmt;

use ipnetwork::IpNetwork;

use crate::Kind;
use crate::names::{cidr_from_key, cidr_to_key};

/// Everything Calico stores lies under this prefix.
pub const ROOT: &str = "/calico/";

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
const IPAM: &str = "/calico/ipam/v2/";

/// The key of one stored value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A v3 resource.
    Resource {
        /// Its kind.
        kind: Kind,
        /// Its namespace, for namespaced kinds.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// An IPAM block.
    Block(IpNetwork),
    /// A node's affinity to a block.
    BlockAffinity {
        /// The node.
        host: String,
        /// The block.
        block: IpNetwork,
    },
    /// An IPAM handle.
    Handle(String),
    /// IPAM's record of a host.
    IpamHost(String),
    /// IPAM's configuration.
    IpamConfig,
}

fn family(cidr: &IpNetwork) -> &'static str {
    if cidr.is_ipv4() { "ipv4" } else { "ipv6" }
}

impl Key {
    /// Key of a resource.
    pub fn resource(kind: Kind, namespace: Option<&str>, name: &str) -> Key {
        Key::Resource { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    /// Prefix of all resources of a kind, ending in `/`; with a namespace, of those in it.
    pub fn resource_prefix(kind: Kind, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{RESOURCES}{}/{namespace}/", kind.plural()),
            None => format!("{RESOURCES}{}/", kind.plural()),
        }
    }

    /// Prefix of everything IPAM stores.
    pub fn ipam_prefix() -> &'static str {
        IPAM
    }

    /// Prefix of all blocks of a family.
    pub fn block_prefix(ipv6: bool) -> String {
        format!("{IPAM}assignment/{}/block/", if ipv6 { "ipv6" } else { "ipv4" })
    }

    /// Prefix of a host's affinities of a family.
    pub fn affinity_prefix(host: &str, ipv6: bool) -> String {
        format!("{IPAM}host/{host}/{}/block/", if ipv6 { "ipv6" } else { "ipv4" })
    }

    /// Reads a key; `None` for keys that are none of these.
    pub fn parse(text: &str) -> Option<Key> {
        if let Some(rest) = text.strip_prefix(RESOURCES) {
            let (plural, rest) = rest.split_once('/')?;
            let kind = Kind::from_plural(plural)?;
            let (namespace, name) = match rest.split_once('/') {
                Some((namespace, name)) => (Some(namespace), name),
                None => (None, rest),
            };
            let well_formed = namespace.is_some() == kind.is_namespaced()
                && !name.is_empty()
                && !name.contains('/')
                && namespace != Some("");
            return well_formed.then(|| Key::resource(kind, namespace, name));
        }
        let rest = text.strip_prefix(IPAM)?;
        if rest == "config" {
            return Some(Key::IpamConfig);
        }
        let (what, rest) = rest.split_once('/')?;
        match what {
            "handle" => (!rest.is_empty()).then(|| Key::Handle(rest.to_owned())),
            "assignment" => block_in(rest).map(Key::Block),
            "host" => match rest.split_once('/') {
                None => (!rest.is_empty()).then(|| Key::IpamHost(rest.to_owned())),
                Some((host, rest)) if !host.is_empty() => {
                    block_in(rest).map(|block| Key::BlockAffinity { host: host.to_owned(), block })
                }
                Some(_) => None,
            },
            _ => None,
        }
    }
}

/// The CIDR in `ipv4/block/10.65.3.0-26`.
fn block_in(text: &str) -> Option<IpNetwork> {
    let (family_text, cidr) = text.split_once("/block/")?;
    let cidr = cidr_from_key(cidr)?;
    (family_text == family(&cidr)).then_some(cidr)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Resource { kind, namespace, name } => {
                write!(f, "{}{name}", Key::resource_prefix(*kind, namespace.as_deref()))
            }
            Key::Block(cidr) => write!(f, "{IPAM}assignment/{}/block/{}", family(cidr), cidr_to_key(cidr)),
            Key::BlockAffinity { host, block } => {
                write!(f, "{IPAM}host/{host}/{}/block/{}", family(block), cidr_to_key(block))
            }
            Key::Handle(id) => write!(f, "{IPAM}handle/{id}"),
            Key::IpamHost(host) => write!(f, "{IPAM}host/{host}"),
            Key::IpamConfig => write!(f, "{IPAM}config"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_and_print_as_upstream_writes_them() {
        for text in [
            "/calico/resources/v3/projectcalico.org/ippools/pool-a",
            "/calico/resources/v3/projectcalico.org/workloadendpoints/default/n1-cni-abc-eth0",
            "/calico/ipam/v2/assignment/ipv4/block/10.65.3.0-26",
            "/calico/ipam/v2/assignment/ipv6/block/fd00:1::40-122",
            "/calico/ipam/v2/host/n1/ipv4/block/10.65.3.0-26",
            "/calico/ipam/v2/host/n1",
            "/calico/ipam/v2/handle/k8s-pod-network.0123abcd",
            "/calico/ipam/v2/config",
        ] {
            assert_eq!(Key::parse(text).map(|k| k.to_string()).as_deref(), Some(text));
        }
        for bad in [
            "/calico/resources/v3/projectcalico.org/ippools/",
            "/calico/resources/v3/projectcalico.org/ippools/a/b",
            "/calico/resources/v3/projectcalico.org/workloadendpoints/a",
            "/calico/resources/v3/projectcalico.org/unknowns/a",
            "/calico/ipam/v2/assignment/ipv6/block/10.65.3.0-26",
            "/calico/ipam/v2/assignment/ipv4/block/10.65.3.0",
            "calico/ipam/v2/config",
        ] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
    }
}
