//! Interfaces on a real kernel: settings, neighbours, connections, the tunnel, and the running data plane as links come and
//! go.

#![allow(clippy::unwrap_used, reason = "a test")]

mod netns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use netns::{
    Learned, cycle, engine, eventually, inside, interfaces, learn, learned, names, run, settle, wired,
};
use tokio::sync::watch;
use tortie_agent::dataplane::{self, Manner};
use tortie_agent::desired::{Applied, Desired, IpipDevice, LearnedChanges, PoolEncap, RouteContext};
use tortie_agent::kernel::{self, Ownership};
use tortie_agent::learned::LearnedQueue;
use tortie_model::resource::EncapMode;

const WORKLOADS: &str = "
    ip link add cali1 type veth peer name pod1
    ip link add cali2 type veth peer name pod2
    ip link set cali1 up
    ip link set cali2 up
    ip link set pod1 up
    ip link set pod2 up";

fn converged() -> Learned {
    Learned { converged: true, ..Learned::default() }
}

fn setting(path: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_string()
}

#[test]
fn settings_and_neighbours_are_as_calico_has_them() {
    inside("settings_and_neighbours_are_as_calico_has_them", || {
        run(WORKLOADS);
        run("echo 2 > /proc/sys/net/ipv4/conf/default/rp_filter
            echo 0 > /proc/sys/net/ipv4/ip_forward
            echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
            ip link add eth0 type veth peer name peer0
            ip addr add 10.0.0.1/24 dev eth0
            ip link set eth0 up
            ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:99 dev eth0 nud permanent
            ip neigh add 192.168.1.77 lladdr 02:00:00:00:00:77 dev cali1 nud permanent
            ip neigh add 192.168.1.1 lladdr 02:00:00:00:00:78 dev cali1 nud reachable");
        let desired = Desired {
            interfaces: interfaces(&[("cali1", &["192.168.1.1", "fd01::1"]), ("cali9", &["192.168.1.9"])]),
            ..Desired::default()
        };
        let mut engine = engine();
        let applied = settle(&mut engine, &desired, &converged());
        assert!(applied.ready);
        assert_eq!(wired(&applied), names(&["cali1"]));
        for (path, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/cali1/proxy_arp", "1"),
            ("ipv4/neigh/cali1/proxy_delay", "0"),
            ("ipv4/conf/cali1/forwarding", "1"),
            ("ipv4/conf/cali1/route_localnet", "1"),
            ("ipv4/conf/cali1/rp_filter", "2"),
            ("ipv6/conf/cali1/accept_ra", "0"),
            ("ipv6/conf/cali1/forwarding", "1"),
            ("ipv4/conf/cali2/proxy_arp", "0"),
            ("ipv4/conf/eth0/proxy_arp", "0"),
            ("ipv4/conf/eth0/route_localnet", "0"),
        ] {
            assert_eq!(setting(path), value, "{path}");
        }
        let neighbours = run("ip -4 neigh show nud permanent | sort");
        let expected = "10.0.0.9 dev eth0 lladdr 02:00:00:00:00:99 PERMANENT \n\
                        192.168.1.1 dev cali1 lladdr 02:00:00:00:00:01 PERMANENT \n";
        assert_eq!(neighbours, expected);
        settle(&mut engine, &Desired::default(), &converged());
        assert_eq!(run("ip -4 neigh show dev cali1 nud permanent"), "");
        assert!(run("ip neigh show dev eth0 nud permanent").contains("10.0.0.9"));
    });
}

#[test]
fn connections_of_a_freed_address_are_forgotten() {
    inside("connections_of_a_freed_address_are_forgotten", || {
        run(WORKLOADS);
        let mut engine = engine();
        let both = |first: &str, second: &str| Desired {
            interfaces: interfaces(&[("cali1", &[first, "fd01::1"]), ("cali2", &[second])]),
            ..Desired::default()
        };
        settle(&mut engine, &both("192.168.1.1", "192.168.1.2"), &converged());
        // Connection tracking is only at work where a rule asks for it. These flows go to the host itself.
        run("nft add table ip test
            nft add chain ip test out { type filter hook output priority 0 \\; }
            nft add rule ip test out ct state new accept
            ip addr add 192.168.1.1/32 dev lo
            ip addr add 192.168.1.2/32 dev lo
            ip -6 addr add fd01::1/128 dev lo nodad");
        let flow = |from: &str, to: &str| {
            let socket = std::net::UdpSocket::bind((from.parse::<std::net::IpAddr>().unwrap(), 0)).unwrap();
            socket.send_to(b"x", (to.parse::<std::net::IpAddr>().unwrap(), 9)).unwrap();
        };
        let table = || run("cat /proc/net/nf_conntrack 2>/dev/null || conntrack -L 2>/dev/null || true");
        let count = || setting("netfilter/nf_conntrack_count").parse::<u32>().unwrap();
        flow("192.168.1.1", "127.0.0.1");
        flow("127.0.0.1", "192.168.1.1");
        flow("192.168.1.2", "127.0.0.2");
        flow("fd01::1", "::1");
        assert_eq!(count(), 4, "{}", table());
        run("ip addr del 192.168.1.1/32 dev lo
            ip addr del 192.168.1.2/32 dev lo
            ip -6 addr del fd01::1/128 dev lo");
        let mut desired = both("192.168.1.1", "192.168.1.2");
        desired.interfaces.remove("cali1");
        let applied = settle(&mut engine, &desired, &converged());
        assert_eq!(applied.failures, Default::default());
        assert_eq!(count(), 1, "only 192.168.1.2 stays: {}", table());
        // An address that changes hands loses them too.
        desired.interfaces = interfaces(&[("cali1", &["192.168.1.2"])]);
        settle(&mut engine, &desired, &converged());
        assert_eq!(count(), 0, "{}", table());
    });
}

/// On a kernel with IPIP the device comes up with our address alone; on one without, its routes are left out and named.
#[test]
fn the_tunnel_carries_routes_or_is_named_as_missing() {
    inside("the_tunnel_carries_routes_or_is_named_as_missing", || {
        run("ip link add eth0 type veth peer name peer0
            ip addr add 10.0.0.1/24 dev eth0
            ip link set eth0 up
            ip link set peer0 up
            ip route add default via 10.0.0.254");
        let pool = |ipip| PoolEncap { cidr: "172.20.0.0/16".parse().unwrap(), ipip, vxlan: EncapMode::Never };
        let mut desired = Desired {
            ipip: Some(IpipDevice { address: Some([172, 20, 0, 1].into()), mtu: 1440 }),
            route_context: RouteContext {
                node_addresses: vec!["10.0.0.1/24".parse().unwrap()],
                pools: vec![pool(EncapMode::CrossSubnet)],
                ..RouteContext::default()
            },
            ..Desired::default()
        };
        let routes: &[(&str, &[&str])] = &[
            ("172.20.1.0/26", &["10.0.0.2"]),
            ("172.20.2.0/26", &["10.9.0.2"]),
            ("172.20.3.0/26", &["10.9.0.2", "10.9.0.3"]),
        ];
        let mut engine = engine();
        let applied = settle(&mut engine, &desired, &learned(routes, true));
        assert!(applied.ready);
        let shown = run("ip route show proto 81");
        assert!(shown.contains("172.20.1.0/26 via 10.0.0.2 dev eth0"), "{shown}");
        if let Some(text) = applied.failures.get("tunl0") {
            println!("this kernel has no IPIP");
            let expected = "kernel has no IPIP (ipip module): routes over tunl0 of pool 172.20.0.0/16 are not programmed";
            assert_eq!(text, expected);
            assert!(!shown.contains("172.20.2.0/26") && !shown.contains("172.20.3.0/26"), "{shown}");
            return;
        }
        println!("this kernel has IPIP");
        let shown: String = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains("172.20.2.0/26 via 10.9.0.2 dev tunl0 onlink"), "{shown}");
        let group =
            "nexthop via 10.9.0.2 dev tunl0 weight 1 onlink nexthop via 10.9.0.3 dev tunl0 weight 1 onlink";
        assert!(shown.contains("172.20.3.0/26 nhid ") && shown.contains(group), "{shown}");
        let device = run("ip addr show tunl0");
        assert!(
            device.contains("mtu 1440") && device.contains("UP") && device.contains("inet 172.20.0.1/32"),
            "{device}"
        );
        run("ip addr add 172.20.0.66/32 dev tunl0; ip link set tunl0 mtu 1300");
        desired.route_context.pools = vec![pool(EncapMode::Always)];
        settle(&mut engine, &desired, &learned(routes, true));
        let device = run("ip addr show tunl0");
        assert!(device.contains("mtu 1440") && !device.contains("172.20.0.66"), "{device}");
        let shown = run("ip route show proto 81");
        assert!(shown.contains("172.20.1.0/26 via 10.0.0.2 dev tunl0"), "{shown}");
        desired.ipip = None;
        settle(&mut engine, &desired, &learned(&[], true));
        assert!(!run("ip addr show tunl0").contains("inet "));
    });
}

#[test]
fn the_running_data_plane_follows_links_and_repairs_what_others_break() {
    inside("the_running_data_plane_follows_links_and_repairs_what_others_break", || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (desired, desired_seen) = watch::channel(None);
        let learned = LearnedQueue::default();
        let (applied, applied_seen) = watch::channel(Arc::new(Applied::default()));
        let questions = dataplane::question::channel().1;
        let task = runtime.spawn(dataplane::run(
            desired_seen,
            learned.clone(),
            applied,
            questions,
            Manner { ownership: Ownership::Shared, ..Manner::default() },
        ));
        let wired = || wired(&applied_seen.borrow());
        run("ip link add eth0 type veth peer name peer0
            ip addr add 10.0.0.1/24 dev eth0
            ip link set eth0 up
            ip link set peer0 up
            ip route add 192.168.1.0/26 dev eth0 proto 80");
        let routes = netns::learned(&[("192.168.2.0/26", &["10.0.0.2"])], true).routes;
        let routes = routes.into_iter().map(|(prefix, route)| (prefix, Some(route))).collect();
        learned.put(LearnedChanges { routes, converged: true });
        // Not in sync: not even the stale route of ours goes.
        let before = run("ip route show; ip rule show; nft list ruleset");
        desired.send_replace(None);
        assert_eq!(run("ip route show; ip rule show; nft list ruleset"), before);
        assert!(!applied_seen.borrow().ready);

        let interfaces = interfaces(&[("cali1", &["192.168.1.1"])]);
        desired.send_replace(Some(Arc::new(Desired { interfaces, ..Desired::default() })));
        eventually("the node is ready", || applied_seen.borrow().ready);
        assert_eq!(wired(), names(&[]));
        eventually("the stale route goes", || run("ip route show 192.168.1.0/26").is_empty());
        run("ip link add cali1 type veth peer name pod1; ip link set pod1 up; ip link set cali1 up");
        eventually("cali1 is wired", || wired() == names(&["cali1"]));
        assert!(run("ip route show 192.168.1.1").contains("cali1"));
        assert_eq!(setting("ipv4/conf/cali1/proxy_arp"), "1");

        run("ip route del 192.168.1.1");
        eventually("a removed route is back", || run("ip route show 192.168.1.1").contains("cali1"));
        run("ip route replace 192.168.2.0/26 via 10.0.0.66 proto 81");
        eventually("a bent route is straight", || {
            run("ip route show 192.168.2.0/26").contains("via 10.0.0.2 ")
        });
        run("nft delete table inet tortie");
        let deleted = Instant::now();
        eventually("the rules are back", || run("nft list tables").contains("inet tortie"));
        run("nft flush chain inet tortie forward");
        eventually("a chain is full again", || {
            run("nft list chain inet tortie forward").contains("known flows")
        });
        assert!(deleted.elapsed() < Duration::from_secs(2), "took {:?}", deleted.elapsed());

        run("ip link set cali1 down");
        eventually("cali1 is no longer wired", || wired() == names(&[]));
        run("echo 0 > /proc/sys/net/ipv4/conf/cali1/proxy_arp; ip link set cali1 up");
        eventually("cali1 is wired again", || wired() == names(&["cali1"]));
        assert_eq!(setting("ipv4/conf/cali1/proxy_arp"), "1");
        run("ip link del cali1");
        eventually("cali1 is gone", || wired() == names(&[]));
        run("ip link add cali1 type veth peer name pod1; ip link set pod1 up; ip link set cali1 up");
        eventually("the new cali1 is wired", || {
            wired() == names(&["cali1"])
                && run("ip neigh show dev cali1 nud permanent").contains("192.168.1.1")
        });
        assert_eq!(setting("ipv4/conf/cali1/proxy_arp"), "1");

        run("ip link set eth0 down");
        eventually("a route without its way goes", || run("ip route show 192.168.2.0/26").is_empty());
        eventually("and is named", || applied_seen.borrow().failures.contains_key("next hop 10.0.0.2"));
        run("ip link set eth0 up");
        eventually("it is back", || run("ip route show 192.168.2.0/26").contains("via 10.0.0.2 "));
        eventually("and no longer named", || applied_seen.borrow().failures.is_empty());

        // Stopping removes nothing.
        let before = run("ip route show; ip neigh show nud permanent; nft list ruleset");
        drop(desired);
        runtime.block_on(task).unwrap().unwrap();
        assert_eq!(run("ip route show; ip neigh show nud permanent; nft list ruleset"), before);
    });
}

#[test]
fn interfaces_can_be_read_for_address_autodetection() {
    inside("interfaces_can_be_read_for_address_autodetection", || {
        run("ip link add eth0 mtu 1400 type veth peer name peer0
            ip addr add 10.0.0.1/24 dev eth0
            ip addr add 10.0.0.2/24 dev eth0
            ip addr add fd00::1/64 dev eth0 nodad
            ip link set eth0 up");
        let links = kernel::interfaces().unwrap();
        let eth0 = &links["eth0"];
        assert!(eth0.up && !links["peer0"].up);
        assert_eq!((eth0.mtu, eth0.kind.as_str()), (1400, "veth"));
        let addresses: Vec<String> =
            eth0.addresses.iter().map(ToString::to_string).filter(|text| !text.starts_with("fe80")).collect();
        assert_eq!(addresses, ["10.0.0.1/24", "10.0.0.2/24", "fd00::1/64"]);
        assert_eq!(kernel::mtu_of("10.0.0.2".parse().unwrap()).unwrap(), Some(1400));
        assert_eq!(kernel::mtu_of("10.0.0.3".parse().unwrap()).unwrap(), None);
    });
}

#[test]
fn a_link_that_vanishes_under_our_hands_is_no_failure() {
    inside("a_link_that_vanishes_under_our_hands_is_no_failure", || {
        run(WORKLOADS);
        let mut engine = engine();
        settle(&mut engine, &Desired::default(), &converged());
        let desired =
            Desired { interfaces: interfaces(&[("cali1", &["192.168.1.1"])]), ..Desired::default() };
        run("ip link del cali1");
        // Nothing is read before writing: the plan is made with a link that is gone.
        let outcome = learn(&mut engine, &desired, &converged(), Default::default());
        assert!(outcome.retry);
        let outcome = learn(&mut engine, &desired, &converged(), Default::default());
        assert!(!outcome.retry && outcome.applied.failures.is_empty(), "{outcome:?}");
        assert_eq!(wired(&outcome.applied), names(&[]));
        run("ip link add cali1 type veth peer name pod1; ip link set cali1 up");
        assert_eq!(wired(&cycle(&mut engine, &desired, &converged()).applied), names(&["cali1"]));
    });
}
