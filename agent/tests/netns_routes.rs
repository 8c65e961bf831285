//! Routes on a real kernel: every shape we write, adoption, repair, what is left alone.

#![allow(clippy::unwrap_used, reason = "a test")]

mod netns;

use ipnetwork::IpNetwork;
use netns::{cycle, engine, gateways, inside, interfaces, learned, names, run, settle, wired};
use tortie_agent::desired::{Desired, Learned, PoolEncap, RouteContext, RouteTarget};
use tortie_model::resource::EncapMode;

const UPLINKS: &str = "
    ip link add eth0 type veth peer name peer0
    ip link add eth1 type veth peer name peer1
    ip addr add 10.0.0.1/24 dev eth0
    ip addr add 10.0.1.1/24 dev eth1
    ip addr add fd00::1/64 dev eth0 nodad
    ip link set eth0 up
    ip link set eth1 up
    ip link set peer0 up
    ip link set peer1 up
    ip link add cali1 type veth peer name pod1
    ip link add cali2 type veth peer name pod2
    ip link set cali1 up
    ip link set cali2 up
    ip link set pod1 up
    ip link set pod2 up";

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn context() -> RouteContext {
    let pool = |cidr, ipip| PoolEncap { cidr: net(cidr), ipip, vxlan: EncapMode::Never };
    RouteContext {
        node_addresses: vec![net("10.0.0.1/24"), net("fd00::1/64")],
        pools: vec![pool("192.168.0.0/16", EncapMode::Never), pool("172.20.0.0/16", EncapMode::CrossSubnet)],
        ..RouteContext::default()
    }
}

fn all_shapes() -> (Desired, Learned) {
    let desired = Desired {
        interfaces: interfaces(&[("cali1", &["192.168.1.1", "fd01::1"]), ("cali2", &["192.168.1.2"])]),
        routes: [
            (net("192.168.1.0/26"), RouteTarget::Blackhole),
            (net("fd01::/122"), RouteTarget::Blackhole),
            (net("192.168.9.0/24"), RouteTarget::Device("cali2".into())),
            (net("192.168.8.0/24"), gateways(&[("203.0.113.7", "eth1", true)])),
        ]
        .into(),
        route_context: context(),
        ..Desired::default()
    };
    let learned = learned(
        &[
            ("192.168.2.0/26", &["10.0.0.2"]),
            ("192.168.3.0/26", &["10.0.0.2", "10.0.0.3"]),
            ("192.168.4.0/26", &["10.0.1.9", "10.0.0.9"]),
            ("fd01:2::/122", &["fd00::2"]),
            ("fd01:3::/122", &["fd00::2", "fd00::3"]),
            ("198.51.100.0/24", &["10.0.1.254"]),
        ],
        true,
    );
    (desired, learned)
}

#[test]
fn every_shape_reaches_the_kernel_and_goes_again() {
    inside("every_shape_reaches_the_kernel_and_goes_again", || {
        run(UPLINKS);
        run("ip route add 203.0.113.0/24 via 10.0.0.254 proto static
            ip route add 198.18.0.0/15 dev eth1
            ip -6 route add fd99::/64 via fd00::fe proto static");
        let foreign = foreign_routes();
        let (desired, learned) = all_shapes();
        let mut engine = engine();
        let applied = settle(&mut engine, &desired, &learned);
        assert!(applied.ready);
        assert_eq!(applied.failures, Default::default());
        assert_eq!(wired(&applied), names(&["cali1", "cali2"]));
        let ours: Vec<String> = applied.routes.iter().map(ToString::to_string).collect();
        let expected = [
            "192.168.1.0/26",
            "192.168.1.1/32",
            "192.168.1.2/32",
            "192.168.8.0/24",
            "192.168.9.0/24",
            "fd01::/122",
            "fd01::1/128",
        ];
        assert_eq!(ours, expected);
        assert_eq!(
            sorted(&run("ip -4 route show proto 80; ip -4 route show proto 81")),
            sorted(
                "blackhole 192.168.1.0/26
                192.168.1.1 dev cali1 scope link
                192.168.1.2 dev cali2 scope link
                192.168.8.0/24 via 203.0.113.7 dev eth1 onlink
                192.168.9.0/24 dev cali2 scope link
                192.168.2.0/26 via 10.0.0.2 dev eth0
                192.168.3.0/26
                nexthop via 10.0.0.2 dev eth0 weight 1
                nexthop via 10.0.0.3 dev eth0 weight 1
                192.168.4.0/26
                nexthop via 10.0.0.9 dev eth0 weight 1
                nexthop via 10.0.1.9 dev eth1 weight 1
                198.51.100.0/24 via 10.0.1.254 dev eth1"
            )
        );
        assert_eq!(
            sorted(&run("ip -6 route show proto 80; ip -6 route show proto 81")),
            sorted(
                "blackhole fd01::/122 dev lo metric 1024 pref medium
                fd01::1 dev cali1 metric 1024 pref medium
                fd01:2::/122 via fd00::2 dev eth0 metric 1024 pref medium
                fd01:3::/122 metric 1024 pref medium
                nexthop via fd00::2 dev eth0 weight 1
                nexthop via fd00::3 dev eth0 weight 1"
            )
        );
        let empty = Desired { route_context: context(), ..Desired::default() };
        let applied = settle(&mut engine, &empty, &Learned { converged: true, ..Learned::default() });
        assert_eq!(applied.routes, Default::default());
        assert_eq!(
            run(
                "ip route show proto 80; ip route show proto 81; ip -6 route show proto 80; ip -6 route show proto 81"
            ),
            ""
        );
        assert_eq!(foreign_routes(), foreign);
    });
}

#[test]
fn a_new_process_adopts_what_is_there_without_writing() {
    inside("a_new_process_adopts_what_is_there_without_writing", || {
        run(UPLINKS);
        let (desired, learned) = all_shapes();
        settle(&mut engine(), &desired, &learned);
        let watch = netns::Watch::start();
        let mut second = engine();
        let applied = settle(&mut second, &desired, &learned);
        assert!(applied.ready);
        assert_eq!(wired(&applied), names(&["cali1", "cali2"]));
        assert_eq!(watch.lines_until("192.0.2.99"), Vec::<String>::new());
        // The watch does see what is written.
        let watch = netns::Watch::start();
        let mut fewer = desired.clone();
        fewer.interfaces.remove("cali2");
        settle(&mut second, &fewer, &learned);
        let seen = watch.lines_until("192.0.2.99");
        assert!(seen[0].starts_with("Deleted 192.168.1.2 dev cali2 proto 80"), "{seen:?}");
        assert!(seen.iter().all(|line| line.contains("192.168.1.2")), "{seen:?}");
    });
}

#[test]
fn before_convergence_learned_routes_stay_unless_forbidden() {
    inside("before_convergence_learned_routes_stay_unless_forbidden", || {
        run(UPLINKS);
        run("ip route add 192.168.7.0/26 via 10.0.0.7 proto 81
            ip route add 192.168.6.0/26 via 10.0.0.7 proto 81
            ip route add 172.20.1.0/26 via 10.0.1.7 proto 81
            ip route add 192.168.5.0/26 dev cali1 proto 80");
        let desired = Desired { route_context: context(), ..Desired::default() };
        let mut engine = engine();
        // 172.20.1.0/26 must go through a tunnel by now, and there is none; 192.168.6.0/26 changed its next hop.
        let routes: &[(&str, &[&str])] =
            &[("172.20.1.0/26", &["10.0.1.7"]), ("192.168.6.0/26", &["10.0.0.8"])];
        let applied = settle(&mut engine, &desired, &learned(routes, false));
        let text = "the device is not up: routes over tunl0 of pool 172.20.0.0/16 are not programmed";
        assert_eq!(applied.failures["tunl0"], text);
        let kept = "192.168.6.0/26 via 10.0.0.8 dev eth0\n192.168.7.0/26 via 10.0.0.7 dev eth0";
        assert_eq!(sorted(&run("ip route show proto 81")), sorted(kept));
        assert_eq!(run("ip route show proto 80"), "");
        settle(&mut engine, &desired, &learned(routes, true));
        assert_eq!(sorted(&run("ip route show proto 81")), sorted("192.168.6.0/26 via 10.0.0.8 dev eth0"));
    });
}

#[test]
fn an_address_moves_and_foreign_routes_of_the_same_prefix_stay() {
    inside("an_address_moves_and_foreign_routes_of_the_same_prefix_stay", || {
        run(UPLINKS);
        run("ip route add 198.51.100.0/24 via 10.0.0.77 proto static
            ip route add 192.168.1.9 dev cali1
            ip route add 192.168.1.2 dev cali1");
        let (mut desired, learned) = all_shapes();
        let mut engine = engine();
        let applied = settle(&mut engine, &desired, &learned);
        // What a CNI plugin wrote on a workload interface is ours: taken over or removed.
        assert_eq!(
            sorted(&run("ip route show 192.168.1.2")),
            sorted("192.168.1.2 dev cali2 proto 80 scope link")
        );
        assert_eq!(run("ip route show 192.168.1.9"), "");
        let foreign = run("ip route show 198.51.100.0/24");
        assert!(foreign.contains("via 10.0.0.77 dev eth0 proto static"), "{foreign}");
        assert!(
            applied.failures["routes of protocol 4"].contains("198.51.100.0/24"),
            "{:?}",
            applied.failures
        );
        desired.interfaces = interfaces(&[("cali1", &["192.168.1.2"]), ("cali2", &["192.168.1.1"])]);
        let applied = settle(&mut engine, &desired, &learned);
        assert_eq!(wired(&applied), names(&["cali1", "cali2"]));
        assert!(run("ip route show 192.168.1.2").contains("dev cali1"));
        assert!(run("ip route show 192.168.1.1").contains("dev cali2"));
        // Somebody takes the prefix before us: it is named, and stays theirs.
        run("ip route add 192.168.77.0/26 via 10.0.0.5 proto static");
        desired.routes.insert(net("192.168.77.0/26"), RouteTarget::Blackhole);
        let outcome = cycle(&mut engine, &desired, &learned);
        assert!(outcome.retry);
        assert!(
            outcome.applied.failures["route 192.168.77.0/26"].contains("File exists"),
            "{:?}",
            outcome.applied.failures
        );
        run("ip route del 192.168.77.0/26");
        assert_eq!(settle(&mut engine, &desired, &learned).failures.get("route 192.168.77.0/26"), None);
        assert!(run("ip route show 192.168.77.0/26").contains("blackhole"));
    });
}

/// Every route that is neither ours nor the kernel's.
fn foreign_routes() -> Vec<String> {
    let all = sorted(&run("ip route show; ip -6 route show"));
    all.into_iter()
        .filter(|line| !["proto 80", "proto 81", "proto kernel"].iter().any(|of| line.contains(of)))
        .collect()
}

/// Lines without what depends on the moment, in order.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.replace(" linkdown", "").split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines.retain(|line| !line.is_empty());
    lines
}
