//! Settings of the machine and of each workload interface; pure.

use std::collections::BTreeMap;

/// Where the machine's own choice of reverse-path check stands.
pub(super) const DEFAULT_RP_FILTER: &str = "net/ipv4/conf/default/rp_filter";
/// There only when the kernel has IPv6.
pub(super) const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// What the whole machine needs: it is a router.
pub(super) fn of_machine(ipv6: bool) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from([("net/ipv4/ip_forward".to_string(), "1".to_string())]);
    if ipv6 {
        settings.insert(IPV6_FORWARDING.to_string(), "1".to_string());
    }
    settings
}

/// What a workload interface needs (felix-dataplane 1.3). The name is one of ours, thus safe in a path.
///
/// `proxy_arp` answers for 169.254.1.1 and everything else, at once (`proxy_delay`); `route_localnet` lets workloads
/// reach services translated to 127/8. `rp_filter` is the machine's default: what stops spoofing is in the rules.
pub(super) fn of_interface(name: &str, rp_filter: &str, ipv6: bool) -> Vec<(String, String)> {
    let ipv4 = [
        (format!("net/ipv4/conf/{name}/proxy_arp"), "1"),
        (format!("net/ipv4/neigh/{name}/proxy_delay"), "0"),
        (format!("net/ipv4/conf/{name}/forwarding"), "1"),
        (format!("net/ipv4/conf/{name}/route_localnet"), "1"),
        (format!("net/ipv4/conf/{name}/rp_filter"), rp_filter),
    ];
    let ipv6 = ipv6.then(|| {
        [(format!("net/ipv6/conf/{name}/accept_ra"), "0"), (format!("net/ipv6/conf/{name}/forwarding"), "1")]
    });
    ipv4.into_iter()
        .chain(ipv6.into_iter().flatten())
        .map(|(path, value)| (path, value.to_string()))
        .collect()
}

/// Whether a setting may be missing although its interface is there: IPv6 needs an MTU of 1280.
pub(super) fn is_optional(name: &str) -> bool {
    name.starts_with("net/ipv6/")
}
