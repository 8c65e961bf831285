//! What is ours in the kernel, decided once. A fresh process tells its own objects from everybody else's by these marks
//! alone; foreign ones are never touched.
//!
//! | kind | ours |
//! |---|---|
//! | rules | table `inet tortie` |
//! | interfaces | the name begins with `cali`: host side of a workload; `tunl0`: the IPIP tunnel |
//! | routes | protocol 80: workloads, blackholes; 81: learned by BGP; any other but the kernel's own on a `cali*` interface |
//! | nexthop objects | protocol 81 and a number from 1414529024 on (0x54500000), a million of them |
//! | neighbours | permanent ones on a `cali*` interface |
//! | tracked flows | bit 0x20000 of their mark |
//! | addresses | those of `tunl0` and, link-local ones apart, of `cali*` interfaces |

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::kernel::{NexthopObject, Route};

/// The nft table, of family `inet`.
pub const NFT_TABLE: &str = "tortie";
/// Prefix of the host side of a workload's veth.
pub const INTERFACE_PREFIX: &str = "cali";
/// The IPIP device: the one the kernel's ipip module makes by itself, as Calico uses it.
pub const IPIP_DEVICE: &str = "tunl0";
/// Protocol of routes to workloads and of blackholes.
pub const LOCAL_PROTOCOL: u8 = 80;
/// Protocol of routes learned by BGP. Apart from [`LOCAL_PROTOCOL`], or learned routes would be announced as our own.
pub const LEARNED_PROTOCOL: u8 = 81;
/// Numbers of our nexthop objects, far from the low ones other daemons count up from.
pub const NEXTHOP_IDS: Range<u32> = 0x5450_0000..0x5460_0000;
/// Where iproute2 looks for names of route protocols.
pub const PROTOCOL_NAMES: &str = "/etc/iproute2/rt_protos.d/tortie.conf";

/// IFNAMSIZ − 1.
const LONGEST_NAME: usize = 15;
/// ICMP redirect, kernel, router advertisement (`rtnetlink.h`): the kernel writes these by itself.
const KERNEL_PROTOCOLS: [u8; 3] = [1, 2, 9];
/// Names interface settings have besides those of interfaces, which an interface can bear too.
const RESERVED_NAMES: [&str; 2] = ["all", "default"];

/// Whether `name` is the host side of a workload: ours to configure. Nothing else passes, since the name comes from the
/// datastore and goes into paths below `/proc/sys`.
pub fn is_workload_interface(name: &str) -> bool {
    name.starts_with(INTERFACE_PREFIX)
        && name.len() <= LONGEST_NAME
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
        && !RESERVED_NAMES.contains(&name)
}

/// Devices of overlays, Calico's and ours: no underlay ever runs over them.
pub fn is_overlay(name: &str) -> bool {
    [IPIP_DEVICE, "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali"].contains(&name)
}

/// Whether a route is ours; `name` resolves interface indexes.
pub fn is_our_route<'a>(route: &Route, name: impl Fn(u32) -> Option<&'a str>) -> bool {
    if route.protocol == LOCAL_PROTOCOL || route.protocol == LEARNED_PROTOCOL {
        return true;
    }
    let on_workload = |index| name(index).is_some_and(is_workload_interface);
    !KERNEL_PROTOCOLS.contains(&route.protocol)
        && !route.hops.is_empty()
        && route.hops.iter().all(|hop| on_workload(hop.interface))
}

/// Whether a nexthop object is ours.
pub fn is_our_nexthop(id: u32, object: &NexthopObject) -> bool {
    object.protocol == LEARNED_PROTOCOL && NEXTHOP_IDS.contains(&id)
}

/// Names our route protocols for `ip route`. For people only: failing does no harm, and the caller goes on.
///
/// # Errors
/// When the file cannot be written.
pub fn name_protocols(file: &Path) -> io::Result<()> {
    let names = format!("{LOCAL_PROTOCOL} tortie\n{LEARNED_PROTOCOL} tortie-bgp\n");
    if fs::read_to_string(file).is_ok_and(|text| text == names) {
        return Ok(());
    }
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(file, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Hop, RouteKind};

    #[test]
    fn only_names_that_are_ours_and_safe_in_a_path_pass() {
        for good in ["cali0", "calic440f455693", "cali.1"] {
            assert!(is_workload_interface(good), "{good}");
        }
        for bad in [
            "",
            "eth0",
            "cal",
            "cali/../../x",
            "cali 1",
            "cali:1",
            "calixxxxxxxxxxxx",
            "tunl0",
            "cali\n",
            "calié",
        ] {
            assert!(!is_workload_interface(bad), "{bad}");
        }
    }

    #[test]
    fn routes_are_told_by_protocol_or_by_a_workload_interface() {
        let name = |index: u32| match index {
            1 => Some("eth0"),
            7 => Some("cali7"),
            _ => None,
        };
        let route = |protocol, interfaces: &[u32]| Route {
            protocol,
            kind: if interfaces.is_empty() { RouteKind::Blackhole } else { RouteKind::Unicast },
            link_scope: false,
            hops: interfaces
                .iter()
                .map(|index| Hop { gateway: None, interface: *index, onlink: false })
                .collect(),
            group: None,
        };
        for (ours, route) in [
            (true, route(80, &[1])),
            (true, route(81, &[])),
            (true, route(3, &[7])),
            (true, route(4, &[7])),
            (false, route(2, &[7])),
            (false, route(9, &[7])),
            (false, route(3, &[1])),
            (false, route(3, &[1, 7])),
            (false, route(4, &[])),
            (false, route(12, &[9])),
        ] {
            assert_eq!(is_our_route(&route, name), ours, "{route:?}");
        }
    }

    #[test]
    fn protocols_get_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rt_protos.d/tortie.conf");
        name_protocols(&file).unwrap();
        name_protocols(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "80 tortie\n81 tortie-bgp\n");
        assert!(name_protocols(&file.join("below-a-file")).is_err());
    }
}
