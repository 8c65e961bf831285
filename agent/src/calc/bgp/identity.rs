//! The BGP identifier (bgp-behaviour 1).

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Where the BGP identifier comes from (`CALICO_ROUTER_ID`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouterId {
    /// The node's IPv4 address; without one, as [`RouterId::Hash`].
    #[default]
    NodeAddress,
    /// Made from the node's name.
    Hash,
    /// This one.
    Address(Ipv4Addr),
}

impl RouterId {
    /// The identifier of a node.
    pub(super) fn resolve(self, node_ipv4: Option<IpAddr>, node_name: &str) -> Ipv4Addr {
        match (self, node_ipv4) {
            (RouterId::Address(id), _) => id,
            (RouterId::NodeAddress, Some(IpAddr::V4(address))) => address,
            (RouterId::NodeAddress | RouterId::Hash, _) => hash(node_name),
        }
    }

    /// What the identifier of another node most probably is: all of a cluster are told the same, but of those with an
    /// identifier each of their own nothing is known.
    pub(super) fn guess(self, node_ipv4: Option<IpAddr>, node_name: &str) -> Ipv4Addr {
        match self {
            RouterId::Address(_) => RouterId::NodeAddress.resolve(node_ipv4, node_name),
            RouterId::NodeAddress | RouterId::Hash => self.resolve(node_ipv4, node_name),
        }
    }
}

/// Whether peers accept it: they refuse what is no unicast address (bgp-behaviour C).
pub(super) fn is_acceptable(id: Ipv4Addr) -> bool {
    !id.is_unspecified() && id.octets()[0] < 224
}

impl FromStr for RouterId {
    type Err = String;

    fn from_str(text: &str) -> Result<RouterId, String> {
        match text {
            "" => Ok(RouterId::NodeAddress),
            "hash" => Ok(RouterId::Hash),
            address => match address.parse::<Ipv4Addr>() {
                Ok(id) if is_acceptable(id) => Ok(RouterId::Address(id)),
                Ok(_) | Err(_) => {
                    Err("must be `hash` or an IPv4 address from 0.0.0.1 to 223.255.255.255".into())
                }
            },
        }
    }
}

/// First four octets of SHA-256 over the name, the first brought below 224.
fn hash(node_name: &str) -> Ipv4Addr {
    let digest = Sha256::digest(node_name.as_bytes());
    let first = if digest[0] > 223 { digest[0] - 32 } else { digest[0] };
    Ipv4Addr::new(first, digest[1], digest[2], digest[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_made_from_names_match_upstream() {
        for (name, id) in
            [("kube-master", "25.79.212.8"), ("node-1", "53.151.27.230"), ("worker-0", "220.142.52.224")]
        {
            assert_eq!(RouterId::Hash.resolve(None, name).to_string(), id, "{name}");
        }
    }

    #[test]
    fn the_identifier_is_chosen_in_order() {
        let node = Some("10.0.0.7".parse().unwrap());
        assert_eq!("".parse::<RouterId>().unwrap().resolve(node, "n").to_string(), "10.0.0.7");
        assert_eq!("1.2.3.4".parse::<RouterId>().unwrap().resolve(node, "n").to_string(), "1.2.3.4");
        assert_eq!(RouterId::NodeAddress.resolve(None, "node-1").to_string(), "53.151.27.230");
        for bad in ["224.0.0.1", "0.0.0.0", "Hash", "1.2.3"] {
            assert!(bad.parse::<RouterId>().is_err(), "{bad}");
        }
    }
}
