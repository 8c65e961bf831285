//! Nexthop objects on a real kernel: groups for routes with several next hops, over tunnels too, and what becomes of them.

#![allow(clippy::unwrap_used, reason = "a test")]

mod netns;

use std::process::{Child, Command, Stdio};

use ipnetwork::IpNetwork;
use netns::{Learned, cycle, engine, eventually, inside, learned, run, settle};
use tortie_agent::desired::{Desired, IpipDevice, PoolEncap, RouteContext};
use tortie_model::resource::EncapMode;

/// A stranger's objects, one of them with a number of our range; `tunl0` stands for the device this kernel may not have.
const MACHINE: &str = "
    ip link add eth0 type veth peer name peer0
    ip link add eth1 type veth peer name peer1
    ip link add tunl0 type veth peer name tunnel
    ip link set tunnel up
    ip addr add 10.0.0.1/24 dev eth0
    ip addr add 10.0.1.1/24 dev eth1
    ip addr add fd00::1/64 dev eth0 nodad
    ip link set eth0 up
    ip link set eth1 up
    ip link set peer0 up
    ip link set peer1 up
    ip nexthop add id 7 via 10.0.0.77 dev eth0 proto 81
    ip nexthop add id 1414529024 via 10.0.0.78 dev eth0 proto static";

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn desired() -> Desired {
    let pool = |cidr, ipip| PoolEncap { cidr: net(cidr), ipip, vxlan: EncapMode::Never };
    Desired {
        ipip: Some(IpipDevice { address: None, mtu: 1440 }),
        route_context: RouteContext {
            node_addresses: vec![net("10.0.0.1/24"), net("fd00::1/64")],
            pools: vec![pool("192.168.0.0/16", EncapMode::Never), pool("172.20.0.0/16", EncapMode::Always)],
            ..RouteContext::default()
        },
        ..Desired::default()
    }
}

fn table() -> Learned {
    learned(
        &[
            ("192.168.2.0/26", &["10.0.0.2", "10.0.0.3"]),
            ("192.168.3.0/26", &["10.0.0.2", "10.0.0.3"]),
            ("192.168.4.0/26", &["10.0.0.2", "10.0.1.4"]),
            ("172.20.2.0/26", &["10.0.0.2", "10.0.0.3"]),
            ("172.20.3.0/26", &["10.0.0.3"]),
            ("fd01:3::/122", &["fd00::2", "fd00::3"]),
        ],
        true,
    )
}

/// What a route leads to: its gateways with interface and `onlink`, after `group` when it is over a group.
fn way(prefix: &str) -> String {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let shown = run(&format!("ip {family} route show {prefix} proto 81"));
    let words: Vec<&str> = shown.split_whitespace().collect();
    let mut parts = Vec::new();
    if words.contains(&"nhid") {
        parts.push("group".to_string());
    }
    for (place, word) in words.iter().enumerate() {
        match *word {
            "via" => parts.push(format!("{} {}", words[place + 1], words[place + 3])),
            "onlink" => parts.last_mut().unwrap().push_str(" onlink"),
            _ => {}
        }
    }
    parts.join(", ")
}

fn objects(filter: &str) -> Vec<String> {
    let mut lines: Vec<String> = run("ip nexthop show").lines().map(|line| line.trim().to_string()).collect();
    lines.retain(|line| line.contains(filter));
    lines.sort();
    lines
}

fn ours() -> Vec<String> {
    let mut ours = objects("id 14145290");
    ours.retain(|line| line.contains("proto 81"));
    ours
}

#[test]
fn several_next_hops_are_a_group_which_routes_share() {
    inside("several_next_hops_are_a_group_which_routes_share", || {
        run(MACHINE);
        let foreign = [objects("id 7 "), objects("10.0.0.78")].concat();
        assert_eq!(foreign.len(), 2);
        let mut engine = engine();
        let applied = settle(&mut engine, &desired(), &table());
        assert_eq!(applied.failures, Default::default());
        assert_eq!(way("192.168.2.0/26"), "group, 10.0.0.2 eth0, 10.0.0.3 eth0");
        assert_eq!(way("192.168.4.0/26"), "group, 10.0.0.2 eth0, 10.0.1.4 eth1");
        assert_eq!(way("172.20.2.0/26"), "group, 10.0.0.2 tunl0 onlink, 10.0.0.3 tunl0 onlink");
        assert_eq!(way("172.20.3.0/26"), "10.0.0.3 tunl0 onlink");
        assert_eq!(way("fd01:3::/122"), "group, fd00::2 eth0, fd00::3 eth0");
        let group = |prefix: &str| {
            let shown = run(&format!("ip route show {prefix}"));
            shown.split("nhid ").nth(1).unwrap().split(' ').next().unwrap().to_string()
        };
        assert_eq!(group("192.168.2.0/26"), group("192.168.3.0/26"));
        // Four groups over seven next hops, besides the stranger's.
        assert_eq!(objects(" group ").len(), 4);
        assert_eq!(ours().len(), 11);
        // A process after this one writes nothing.
        let watch = netns::Watch::start();
        let applied = settle(&mut self::engine(), &desired(), &table());
        assert!(applied.ready);
        assert_eq!(watch.lines_until("192.0.2.99"), Vec::<String>::new());
        // Routes that move together take their group along.
        let before = group("192.168.2.0/26");
        let mut moved = table();
        for prefix in ["192.168.2.0/26", "192.168.3.0/26"] {
            moved.routes.extend(learned(&[(prefix, &["10.0.0.2", "10.0.0.4"])], true).routes);
        }
        settle(&mut engine, &desired(), &moved);
        assert_eq!(group("192.168.2.0/26"), before);
        assert_eq!(way("192.168.3.0/26"), "group, 10.0.0.2 eth0, 10.0.0.4 eth0");
        // All of it goes, the stranger's stay.
        settle(&mut engine, &desired(), &learned(&[], true));
        assert_eq!(run("ip route show proto 81; ip -6 route show proto 81"), "");
        assert_eq!(run("ip nexthop show").lines().count(), 2);
        assert_eq!([objects("id 7 "), objects("10.0.0.78")].concat(), foreign);
    });
}

#[test]
fn what_an_earlier_process_left_is_used_on_and_goes_after_its_routes() {
    inside("what_an_earlier_process_left_is_used_on_and_goes_after_its_routes", || {
        run(MACHINE);
        settle(&mut engine(), &desired(), &table());
        let all = ours();
        // Before convergence nothing goes, not even groups nobody has asked for yet.
        let mut second = engine();
        settle(&mut second, &desired(), &learned(&[("192.168.2.0/26", &["10.0.0.2", "10.0.0.3"])], false));
        assert_eq!(ours(), all);
        assert_eq!(way("192.168.4.0/26"), "group, 10.0.0.2 eth0, 10.0.1.4 eth1");
        let watch = netns::Watch::start();
        settle(&mut second, &desired(), &learned(&[("192.168.2.0/26", &["10.0.0.2", "10.0.0.3"])], true));
        let seen = watch.lines_until("192.0.2.99");
        assert!(seen.iter().all(|line| line.starts_with("Deleted ") || line.starts_with('\t')), "{seen:#?}");
        assert_eq!(objects(" group ").len(), 1);
        assert_eq!(way("192.168.2.0/26"), "group, 10.0.0.2 eth0, 10.0.0.3 eth0");
    });
}

#[test]
fn what_others_spoil_is_repaired() {
    inside("what_others_spoil_is_repaired", || {
        run(MACHINE);
        let mut engine = engine();
        settle(&mut engine, &desired(), &table());
        let good = || (["192.168.2.0/26", "192.168.4.0/26", "172.20.2.0/26"].map(way), ours().len());
        let expected = good();
        let group = objects(" group ")[0].split(' ').nth(1).unwrap().to_string();
        let member = objects(" group ")[0].split(' ').nth(3).unwrap().split('/').next().unwrap().to_string();
        for spoil in [
            format!("ip nexthop del id {group}"),
            format!("ip nexthop del id {member}"),
            format!("ip nexthop replace id {group} group {member} proto 81"),
            format!("ip nexthop replace id {member} via 10.0.0.66 dev eth0 proto 81"),
            format!("ip nexthop del id {group}; ip nexthop add id {group} via 10.0.0.66 dev eth0 proto 81"),
            "ip route replace 192.168.2.0/26 via 10.0.0.66 proto 81".to_string(),
            "ip route del 192.168.4.0/26".to_string(),
            "ip nexthop flush".to_string(),
        ] {
            run(&spoil);
            assert_ne!(good(), expected, "{spoil} does no harm");
            eventually(&spoil, || !cycle(&mut engine, &desired(), &table()).retry);
            assert_eq!(good(), expected, "{spoil}");
            if spoil.contains("flush") {
                return;
            }
        }
    });
}

#[test]
fn without_a_carrier_routes_stay_where_they_lead() {
    inside("without_a_carrier_routes_stay_where_they_lead", || {
        run(MACHINE);
        let mut engine = engine();
        settle(&mut engine, &desired(), &table());
        run("ip link set peer0 down");
        eventually("the carrier is lost", || run("ip link show eth0").contains("NO-CARRIER"));
        // The kernel has dropped the objects on eth0, and the routes that had no other.
        assert_eq!(way("192.168.2.0/26"), "");
        settle(&mut engine, &desired(), &table());
        assert_eq!(way("192.168.2.0/26"), "10.0.0.2 eth0, 10.0.0.3 eth0");
        assert_eq!(way("192.168.4.0/26"), "10.0.1.4 eth1");
        assert_eq!(way("172.20.2.0/26"), "group, 10.0.0.2 tunl0 onlink, 10.0.0.3 tunl0 onlink");
        run("ip link set peer0 up");
        eventually("the carrier is back", || !run("ip link show eth0").contains("NO-CARRIER"));
        settle(&mut engine, &desired(), &table());
        assert_eq!(way("192.168.2.0/26"), "group, 10.0.0.2 eth0, 10.0.0.3 eth0");
        assert_eq!(way("192.168.4.0/26"), "group, 10.0.0.2 eth0, 10.0.1.4 eth1");
    });
}

#[test]
fn a_neighbour_whose_network_vanishes_keeps_its_routes_for_a_while() {
    inside("a_neighbour_whose_network_vanishes_keeps_its_routes_for_a_while", || {
        run(MACHINE);
        run("ip route add default via 10.0.1.254");
        let table = learned(&[("192.168.2.0/26", &["10.0.0.2"])], true);
        let mut engine = engine();
        settle(&mut engine, &desired(), &table);
        // As when a lease is renewed clumsily. With the last address of an interface the kernel drops every route over it.
        for other in ["", "ip addr add 10.9.0.1/24 dev eth0"] {
            run(other);
            let watch = netns::Watch::start();
            run("ip addr del 10.0.0.1/24 dev eth0");
            let outcome = cycle(&mut engine, &desired(), &table);
            assert!(!outcome.retry && outcome.wake.is_some(), "{outcome:?}");
            assert!(
                outcome.applied.failures["next hop 10.0.0.2"].contains("stay as they were"),
                "{outcome:?}"
            );
            assert_eq!(way("192.168.2.0/26"), if other.is_empty() { "" } else { "10.0.0.2 eth0" });
            run("ip addr add 10.0.0.1/24 dev eth0");
            assert_eq!(settle(&mut engine, &desired(), &table).failures, Default::default());
            assert_eq!(way("192.168.2.0/26"), "10.0.0.2 eth0");
            let seen = watch.lines_until("192.0.2.99");
            let written: Vec<&String> = seen.iter().filter(|line| line.contains("192.168.2.0/26")).collect();
            assert_eq!(written.len(), usize::from(other.is_empty()), "{seen:#?}");
        }
        // A link that goes down takes the route along; it never leads elsewhere, and is back with the link.
        run("ip link set eth0 down");
        settle(&mut engine, &desired(), &table);
        assert_eq!(way("192.168.2.0/26"), "");
        run("ip link set eth0 up");
        settle(&mut engine, &desired(), &table);
        assert_eq!(way("192.168.2.0/26"), "10.0.0.2 eth0");
    });
}

/// Three gateways behind a bridge, each of which answers for all of 198.51.100.0/24 and fd98::/64.
const GATEWAYS: &str = "
    mount -t tmpfs tmpfs /run
    ip netns add fabric
    ip link add eth0 type veth peer name node netns fabric
    ip addr add 10.0.0.1/24 dev eth0
    ip addr add fd00::1/64 dev eth0 nodad
    ip link set eth0 up
    ip -n fabric link add br0 type bridge
    ip -n fabric link set node master br0
    ip -n fabric link set node up
    ip -n fabric link set br0 up
    for n in 2 3 4; do ip netns add g$n && ip link add g$n netns fabric type veth peer name eth0 netns g$n && ip -n fabric link set g$n master br0 && ip -n fabric link set g$n up && ip -n g$n addr add 10.0.0.$n/24 dev eth0 && ip -n g$n link set eth0 up && ip -n g$n link set lo up && ip -n g$n route add local 198.51.100.0/24 dev lo && ip -n g$n addr add fd00::$n/64 dev eth0 nodad && ip -n g$n -6 route add local fd98::/64 dev lo; done";

/// Echo requests without a pause worth mentioning.
fn ping(address: &str) -> Child {
    Command::new("ping")
        .args(["-n", "-q", "-i", "0.002", "-c", "1500", "-W", "1", address])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ping (iputils) can be started")
}

#[test]
fn nothing_is_lost_while_a_group_grows_and_shrinks() {
    inside("nothing_is_lost_while_a_group_grows_and_shrinks", || {
        run(GATEWAYS);
        for gateway in ["10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::2", "fd00::3", "fd00::4"] {
            eventually(gateway, || {
                let answer =
                    Command::new("ping").args(["-n", "-c", "1", "-W", "1", gateway]).output().unwrap();
                answer.status.success()
            });
        }
        let mut engine = engine();
        let hops: [&[u8]; 5] = [&[2, 3], &[2], &[2, 3, 4], &[3, 4], &[4]];
        let table = |hops: &[u8]| {
            let of = |network: &str| hops.iter().map(|last| format!("{network}{last}")).collect::<Vec<_>>();
            let (v4, v6) = (of("10.0.0."), of("fd00::"));
            let v4: Vec<&str> = v4.iter().map(String::as_str).collect();
            let v6: Vec<&str> = v6.iter().map(String::as_str).collect();
            learned(&[("198.51.100.0/24", &v4), ("198.51.101.0/24", &v4), ("fd98::/64", &v6)], true)
        };
        settle(&mut engine, &desired_plain(), &table(hops[0]));
        let targets = (1..=4).flat_map(|last| [format!("198.51.100.{last}"), format!("fd98::{last}")]);
        let mut pings: Vec<Child> = targets.map(|target| ping(&target)).collect();
        let mut changes = 0;
        while pings.iter_mut().any(|ping| ping.try_wait().unwrap().is_none()) {
            for hops in hops {
                settle(&mut engine, &desired_plain(), &table(hops));
                changes += 1;
            }
        }
        assert!(changes > 100, "{changes} changes");
        for ping in pings {
            let output = ping.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).to_string();
            assert!(text.contains("1500 packets transmitted, 1500 received"), "{text}");
        }
    });
}

fn desired_plain() -> Desired {
    Desired { ipip: None, ..desired() }
}

#[test]
fn peers_behind_gateways_and_peers_among_the_workloads_are_reached() {
    inside("peers_behind_gateways_and_peers_among_the_workloads_are_reached", || {
        run(MACHINE);
        run("ip link add cali1 type veth peer name pod1
            ip link set cali1 up
            ip link set pod1 up
            ip addr add 192.0.2.7/32 dev cali1");
        let mut desired = desired();
        desired.reachable_by = [("203.0.113.7", "10.0.0.9"), ("fd77::7", "fd00::9")]
            .map(|(peer, by)| (address(peer), address(by)))
            .into();
        let dialled = [address("169.254.9.9"), address("fd09::9")];
        desired.peering_addresses = [("cali1".to_string(), dialled.into())].into();
        desired.interfaces = netns::interfaces(&[("cali1", &["192.168.1.1", "fd01::1"])]);
        let workload = [("192.168.1.1", "cali1"), ("fd01::1", "cali1")];
        desired.workload_peers = workload.map(|(peer, name)| (address(peer), name.to_string())).into();
        let table = learned(
            &[
                ("198.51.100.0/24", &["203.0.113.7"]),
                ("fd98::/64", &["fd77::7"]),
                ("198.51.102.0/24", &["192.168.1.1"]),
                ("fd97::/64", &["fd01::1"]),
            ],
            true,
        );
        let mut engine = engine();
        let applied = settle(&mut engine, &desired, &table);
        assert_eq!(applied.failures, Default::default());
        assert!(run("ip route show 203.0.113.7").contains("via 10.0.0.9 dev eth0 proto 80"));
        assert!(run("ip -6 route show fd77::7").contains("via fd00::9 dev eth0 proto 80"));
        assert_eq!(way("198.51.100.0/24"), "10.0.0.9 eth0");
        assert_eq!(way("fd98::/64"), "fd00::9 eth0");
        assert_eq!(way("198.51.102.0/24"), "192.168.1.1 cali1 onlink");
        assert_eq!(way("fd97::/64"), "fd01::1 cali1 onlink");
        let on_cali1 = || run("ip -o addr show dev cali1 scope global");
        assert!(
            on_cali1().contains("169.254.9.9/32") && on_cali1().contains("fd09::9/128"),
            "{}",
            on_cali1()
        );
        assert!(!on_cali1().contains("192.0.2.7"));
        // A new process finds it done.
        let watch = netns::Watch::start();
        settle(&mut self::engine(), &desired, &table);
        assert_eq!(watch.lines_until("192.0.2.99"), Vec::<String>::new());
        settle(&mut engine, &self::desired(), &learned(&[], true));
        assert_eq!(run("ip route show proto 80; ip -6 route show proto 80"), "");
        assert_eq!(on_cali1(), "");
        assert!(run("ip -6 addr show dev cali1 scope link").contains("fe80"));
    });
}

fn address(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}
