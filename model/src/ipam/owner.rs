//! Who a block belongs to: a node, or a virtual owner such as the load balancer (calico-datamodel 1.5, 4.2).

use std::fmt;

use ipnetwork::IpNetwork;

use crate::Key;
use crate::names::cidr_to_key;

/// The virtual owner of addresses for services of type LoadBalancer.
pub const LOAD_BALANCER: &str = "load-balancer";

const HOST: &str = "host:";
const VIRTUAL: &str = "virtual:";

/// The owner of a block. Prints as a block's `affinity` does: `host:n1`, `virtual:load-balancer`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockOwner {
    /// A node.
    Host(String),
    /// No node.
    Virtual(String),
}

impl BlockOwner {
    /// Reads a block's `affinity`; `None` for a form nobody knows.
    pub fn parse(affinity: &str) -> Option<BlockOwner> {
        let host = affinity.strip_prefix(HOST).map(|name| BlockOwner::Host(name.to_owned()));
        host.or_else(|| affinity.strip_prefix(VIRTUAL).map(|name| BlockOwner::Virtual(name.to_owned())))
    }

    /// Its name without the kind; what the order of blocks depends on.
    pub fn name(&self) -> &str {
        match self {
            BlockOwner::Host(name) | BlockOwner::Virtual(name) => name,
        }
    }

    /// Prefix of the keys of its claims to blocks of a family.
    pub fn affinity_prefix(&self, ipv6: bool) -> String {
        match self {
            BlockOwner::Host(name) => Key::affinity_prefix(name, ipv6),
            BlockOwner::Virtual(name) => {
                let family = if ipv6 { "ipv6" } else { "ipv4" };
                format!("{}virtual/{name}/{family}/block/", Key::ipam_prefix())
            }
        }
    }

    /// Key of its claim to a block.
    pub fn affinity_key(&self, block: &IpNetwork) -> String {
        format!("{}{}", self.affinity_prefix(block.is_ipv6()), cidr_to_key(block))
    }
}

impl fmt::Display for BlockOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockOwner::Host(name) => write!(f, "{HOST}{name}"),
            BlockOwner::Virtual(name) => write!(f, "{VIRTUAL}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_read_and_print_as_upstream_writes_them() {
        for text in ["host:n1", "virtual:load-balancer"] {
            assert_eq!(BlockOwner::parse(text).map(|owner| owner.to_string()).as_deref(), Some(text));
        }
        assert_eq!(BlockOwner::parse("n1"), None);
        let block = "10.65.3.0/26".parse().unwrap();
        assert_eq!(
            BlockOwner::Virtual(LOAD_BALANCER.into()).affinity_key(&block),
            "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.65.3.0-26"
        );
        let host = BlockOwner::Host("n1".into());
        let key = Key::BlockAffinity { host: "n1".into(), block };
        assert_eq!(host.affinity_key(&block), key.to_string());
    }
}
