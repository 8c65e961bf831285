//! How v1 names become v3 names (calico-datamodel 5.2).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sha1::{Digest, Sha1};

/// A pool is named after its CIDR: `192.168.0.0/16` is `192-168-0-0-16`.
pub(super) fn pool(cidr: &IpNetwork) -> String {
    let text = format!("{}/{}", cidr.network(), cidr.prefix());
    // A name may neither begin nor end with a dash; `::/0` would.
    text.replace(['.', ':', '/'], "-").trim_matches('-').to_owned()
}

/// A peer is named after its address, IPv6 with all digits; a peer of one node has the node's name in front.
pub(super) fn peer(node: &str, address: IpAddr) -> String {
    let address = match address {
        IpAddr::V4(v4) => v4.to_string().replace('.', "-"),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:04x}")).join("-"),
    };
    if node.is_empty() { address } else { format!("{}.{address}", node_name(node)) }
}

/// A node's name, without the hash other names get: it must stay what the node calls itself.
pub(super) fn node_name(name: &str) -> String {
    normalised(name)
}

/// Any other name; one that had to be changed gets a hash of the original, so that two names do not become one.
pub(super) fn name(original: &str) -> String {
    let name = normalised(original);
    if name == original {
        return name;
    }
    let digest = hex::encode(Sha1::digest(original));
    format!("{name}-{}", &digest[..8])
}

/// A policy's name has no dots in v3 of that time: what stands before one would be a tier.
pub(super) fn policy(original: &str) -> String {
    name(original).replace('.', "-")
}

/// Profiles of Kubernetes namespaces have a new prefix.
pub(super) fn profile(original: &str) -> String {
    match original.strip_prefix("k8s_ns.") {
        Some(namespace) => format!("kns.{namespace}"),
        None => name(original),
    }
}

/// Lower case, `/` as `.`, other illegal characters as `-`; a run of dots and dashes with a dot in it is one dot.
fn normalised(original: &str) -> String {
    let mut result = String::with_capacity(original.len());
    let mut run = String::new();
    for c in original.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => {
                result.push_str(if run.contains('.') { "." } else { &run });
                run.clear();
                result.push(c);
            }
            '.' | '/' => run.push('.'),
            _ => run.push('-'),
        }
    }
    // What precedes the first letter was pushed as a run; the last run never was.
    result.trim_start_matches(['.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pools_and_peers_come_from_addresses() {
        assert_eq!(pool(&"192.168.0.0/16".parse().unwrap()), "192-168-0-0-16");
        assert_eq!(pool(&"fd00::/48".parse().unwrap()), "fd00---48");
        assert_eq!(peer("", "10.0.0.1".parse().unwrap()), "10-0-0-1");
        assert_eq!(
            peer("Node_1", "fd00::1".parse().unwrap()),
            "node-1.fd00-0000-0000-0000-0000-0000-0000-0001"
        );
    }

    #[test]
    fn changed_names_carry_a_hash() {
        assert_eq!(name("already.fine-1"), "already.fine-1");
        // SHA-1("Big/Name_"), computed with sha1sum.
        assert_eq!(name("Big/Name_"), "big.name-8eaaf927");
        assert_eq!(node_name("Node.-Name!"), "node.name");
        assert_eq!(policy("a.b"), "a-b");
        assert_eq!(profile("k8s_ns.kube-system"), "kns.kube-system");
    }
}
