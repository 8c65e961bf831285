//! IPv4 and IPv6 in one session over IPv6, with BIRD at the other end: next hops of the other family, path identifiers.

use std::net::IpAddr;

use tortie_bgp::PeerConfig;
use tortie_bgp::config::AddPath;
use tortie_bgp::family::Family;

use super::lab::{Bird, OURS, Session, THEIRS, eventually, ran_inside};
use super::speaker::{Speaker, config};

const IPV4: &str = "192.0.2.0/24";
const IPV6: &str = "2001:db8:1::/48";

/// Both families over IPv6; `channel` are options of BIRD's IPv4 channel.
fn lab(channel: &str, change: impl FnOnce(&mut PeerConfig)) -> (Bird, Speaker) {
    let options = format!(
        "multihop; ipv4 {{ import all; export where source = RTS_STATIC; next hop self; {channel} }};"
    );
    let session = Session { family: 1, our_as: 64512, their_as: 65000, options };
    // A second protocol with static routes, of IPv4: what stands after a prefix goes into the configuration as it is.
    let routes = format!("{IPV6} blackhole;\n}}\nprotocol static four {{\n  ipv4;\n  route {IPV4}");
    let bird = Bird::start(session.clone(), &[&routes]);
    let mut ours = config(&session);
    let peer = ours.peers.values_mut().next().unwrap();
    peer.families = [Family::Ipv4, Family::Ipv6].into();
    change(peer);
    (bird, Speaker::start(ours, &["172.16.1.0/26", "2001:db8:ffff::/64"]))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn exchange(channel: &str, add_path: AddPath) {
    let (bird, speaker) = lab(channel, |peer| (peer.extended_next_hop, peer.add_path) = (true, add_path));
    let ends = |capability: &str| bird.ask("show protocols all tortie").matches(capability).count();
    for prefix in [IPV4, IPV6] {
        let seen = speaker.until_route(prefix);
        assert_eq!(seen.routes[&prefix.parse().unwrap()].next_hops, [address(THEIRS[1])], "{prefix}");
    }
    for prefix in ["172.16.1.0/26", "2001:db8:ffff::/64"] {
        let text = bird.until(&format!("show route all {prefix} protocol tortie"), prefix);
        assert!(text.contains(&format!("BGP.next_hop: {}", OURS[1])), "{text}");
    }
    assert_eq!((ends("Extended next hop"), ends("ADD-PATH")), (2, if add_path.send { 2 } else { 0 }));
    speaker.until("End-of-RIB of both families", |snapshot| snapshot.converged);
    speaker.originate(&["2001:db8:ffff::/64"]);
    let told = || bird.ask("show route protocol tortie").contains("172.16.1.0/26");
    eventually("the withdrawal", || (!told()).then_some(()));
    assert!(bird.route("2001:db8:ffff::/64").is_some());
}

#[test]
fn ipv4_goes_over_ipv6_next_hops() {
    if !ran_inside("families::ipv4_goes_over_ipv6_next_hops") {
        exchange("extended next hop on;", AddPath::default());
    }
}

#[test]
fn paths_carry_identifiers_both_ways() {
    if !ran_inside("families::paths_carry_identifiers_both_ways") {
        exchange("extended next hop on; add paths on;", AddPath { send: true, receive: true });
    }
}

/// Without the capability an IPv4 route has no next hop over there, and the session lives without it.
#[test]
fn ipv4_stays_at_home_without_next_hops() {
    if ran_inside("families::ipv4_stays_at_home_without_next_hops") {
        return;
    }
    let (bird, speaker) = lab("", |_| {});
    speaker.until_route(IPV6);
    bird.until("show route all 2001:db8:ffff::/64", "BGP.next_hop");
    speaker.until("the start complete", |snapshot| snapshot.converged);
    assert!(!bird.ask("show route protocol tortie").contains("172.16.1.0/26"));
}
