//! What is negotiated: each make lists the capabilities claimed in docs/bgp.md as ours, and those with an effect on routes have it.
//!
//! Host 1 runs ours in AS 64512, host 2 the other in AS 65000.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::bird::Bird;
use tortie_e2e::speakers::frr::Frr;
use tortie_e2e::speakers::gobgp::Gobgp;
use tortie_e2e::speakers::tortie::Tortie;
use tortie_e2e::speakers::{
    Family, Host, Lan, Make, OTHERS, Peer, Setup, Speaker, start, wait_established, wait_learned,
};

/// Hosts 1 and 2 and what each is to be; the other waits.
fn setups(lan: &Lan, family: Family, change: impl Fn(&mut Peer)) -> Result<([Host; 2], [Setup; 2])> {
    let hosts = [lan.host(1)?, lan.host(2)?];
    let to_them = Peer::new(&hosts[0], &hosts[1], family, 65000).with(&change);
    let to_us = Peer::new(&hosts[1], &hosts[0], family, 64512).with(&change).with(|peer| peer.passive = true);
    Ok((hosts, [Setup::new(64512, [to_them]), Setup::new(65000, [to_us])]))
}

fn everything(peer: &mut Peer) {
    (peer.add_path, peer.restart) = (true, Some(20));
}

on_lan!(
    fn bird_lists_our_capabilities(lan) {
        let (hosts, [ours, mut theirs]) = setups(lan, Family::V4, everything)?;
        theirs.peers[0].extra = "  enable extended messages on;\n".to_owned();
        let bird = Bird::start(&hosts[1], &theirs)?;
        let _us = Tortie::start(&hosts[0], &ours)?;
        wait_established(&bird, &hosts[0].id())?;
        let text = bird.describe(&hosts[0].id())?;
        let start = text.find("Neighbor capabilities").context("no capabilities")?;
        let end = text.find("Session:").context("no session")?;
        let listed: Vec<&str> = text[start..end].lines().skip(1).map(str::trim).collect();
        let claimed = [
            "Multiprotocol", "AF announced: ipv4", "Route refresh", "Extended message", "Graceful restart",
            "Restart time: 20", "AF supported: ipv4", "AF preserved: ipv4", "4-octet AS numbers", "ADD-PATH",
            "RX: ipv4", "TX: ipv4", "Enhanced refresh",
        ];
        let listed: Vec<&str> = listed.into_iter().filter(|line| !line.is_empty()).collect();
        ensure!(listed == claimed, "{listed:?}");
        Ok(())
    }
);

on_lan!(
    fn frr_lists_our_capabilities(lan) {
        let (hosts, [mut ours, mut theirs]) = setups(lan, Family::V6, |peer| {
            everything(peer);
            peer.ipv4_over_ipv6 = true;
        })?;
        ours.peers[0].extra = "role: provider".to_owned();
        let address = hosts[0].address(Family::V6);
        theirs.peers[0].extra = format!(" neighbor {address} local-role customer\n");
        theirs.extra = " bgp graceful-restart notification\n".to_owned();
        let frr = Frr::start(&hosts[1], &theirs)?;
        let _us = Tortie::start(&hosts[0], &ours)?;
        wait_established(&frr, &address)?;
        let peer: Value = serde_json::from_str(&frr.describe(&address)?)?;
        let listed = &peer["neighborCapabilities"];
        for name in ["4byteAs", "extendedMessage", "enhancedRouteRefresh", "extendedNexthop", "gracefulRestart", "role"] {
            ensure!(listed[name] == "advertisedAndReceived", "{name} in {listed}");
        }
        ensure!(listed["routeRefresh"] == "advertisedAndReceivedNew", "{listed}");
        for family in ["ipv4Unicast", "ipv6Unicast"] {
            ensure!(listed["multiprotocolExtensions"][family]["advertisedAndReceived"] == true, "{listed}");
            ensure!(listed["addPath"][family]["rxAdvertisedAndReceived"] == true, "{listed}");
            ensure!(listed["addPath"][family]["txAdvertisedAndReceived"] == true, "{listed}");
        }
        // RFC 8538 and RFC 9234.
        ensure!(peer["gracefulRestartInfo"]["nBit"] == true && peer["remoteRole"] == "provider", "{peer}");
        Ok(())
    }
);

on_lan!(
    fn gobgp_lists_our_capabilities(lan) {
        let (hosts, [ours, theirs]) = setups(lan, Family::V4, everything)?;
        let gobgp = Gobgp::start(&hosts[1], &theirs)?;
        let _us = Tortie::start(&hosts[0], &ours)?;
        wait_established(&gobgp, &hosts[0].id())?;
        let text = gobgp.describe(&hosts[0].id())?;
        for name in ["ipv4-unicast", "route-refresh", "graceful-restart", "4-octet-as", "add-path"] {
            ensure!(text.contains(&format!("{name}:\tadvertised and received")), "{name} in {text}");
        }
        ensure!(text.contains("forward flag set") && text.contains("enhanced-route-refresh:\treceived"), "{text}");
        Ok(())
    }
);

/// Two of ours announce one prefix to a third, which passes both paths on to a make that takes several.
///
/// ```text
///   hosts 3, 4: ours, AS 65003, 65004  ──▶  host 1: ours, AS 64512  ──▶  host 2: the other
/// ```
fn sends_both_paths(lan: &Lan, make: Make) -> Result<()> {
    let (hosts, [mut ours, theirs]) = setups(lan, Family::V4, |peer| peer.add_path = true)?;
    let sources = [(lan.host(3)?, 65003), (lan.host(4)?, 65004)];
    ours.peers.extend(sources.iter().map(|(host, asn)| Peer::new(&hosts[0], host, Family::V4, *asn)));
    let them = start(make, &hosts[1], &theirs)?;
    let _us = Tortie::start(&hosts[0], &ours)?;
    let source = |(host, asn): &(Host, u32)| {
        let setup = Setup::new(*asn, [Peer::new(host, &hosts[0], Family::V4, 64512)]);
        Tortie::start(host, &setup.originating(&["203.0.113.0/24"]))
    };
    let mut running = sources.iter().map(source).collect::<Result<Vec<_>>>()?;
    let paths = |count: usize| {
        eventually(&format!("{count} paths"), seconds(25), || {
            let learned = them.learned(Family::V4)?;
            ensure!(
                learned.len() == count && learned.iter().all(|(prefix, _)| prefix == "203.0.113.0/24"),
                "{learned:?}"
            );
            Ok(())
        })
    };
    paths(2)?;
    running.remove(0).kill()?;
    paths(1)
}

on_lan!(fn bird_gets_several_paths(lan) { sends_both_paths(lan, Make::Bird) });
on_lan!(fn frr_gets_several_paths(lan) { sends_both_paths(lan, Make::Frr) });
on_lan!(fn gobgp_gets_several_paths(lan) { sends_both_paths(lan, Make::Gobgp) });

/// The other way: a reflector of another make has two paths from two of its clients, and ours takes both. Next hops tell them apart.
fn takes_both_paths(lan: &Lan, make: Make) -> Result<()> {
    let hub = lan.host(1)?;
    let clients = [lan.host(2)?, lan.host(3)?, lan.host(4)?];
    let to_client = |host: &Host| {
        Peer::new(&hub, host, Family::V4, 64512).with(|peer| {
            (peer.client, peer.passive) = (true, true);
            peer.add_path = host.number == 4;
        })
    };
    let _hub = start(make, &hub, &Setup::new(64512, clients.iter().map(to_client)))?;
    let client = |host: &Host| {
        let peer = Peer::new(host, &hub, Family::V4, 64512).with(|peer| peer.add_path = host.number == 4);
        let prefixes: &[&str] = if host.number == 4 { &[] } else { &["203.0.113.0/24"] };
        Tortie::start(host, &Setup::new(64512, [peer]).originating(prefixes))
    };
    let running = clients.iter().map(client).collect::<Result<Vec<_>>>()?;
    eventually("both paths", seconds(25), || {
        let learned = running[2].learned(Family::V4)?;
        let hops: Vec<&str> = learned.iter().map(|(_, hop)| hop.as_str()).collect();
        ensure!(hops == ["10.9.0.2", "10.9.0.3"], "{learned:?}");
        Ok(())
    })
}

on_lan!(fn we_take_several_paths_of_bird(lan) { takes_both_paths(lan, Make::Bird) });
on_lan!(fn we_take_several_paths_of_frr(lan) { takes_both_paths(lan, Make::Frr) });
on_lan!(fn we_take_several_paths_of_gobgp(lan) { takes_both_paths(lan, Make::Gobgp) });

/// IPv4 routes over an IPv6 session, with IPv6 next hops, both ways (RFC 8950).
fn ipv4_over_ipv6(lan: &Lan, make: Make) -> Result<()> {
    let (hosts, [ours, theirs]) = setups(lan, Family::V6, |peer| peer.ipv4_over_ipv6 = true)?;
    let them = start(make, &hosts[1], &theirs.originating(&["192.0.2.0/24", "fd02::/64"]))?;
    let us = Tortie::start(&hosts[0], &ours.originating(&["172.16.1.0/26", "fd01::/64"]))?;
    let expect = |speaker: &dyn Speaker, family, prefix: &str, hop: &str| -> Result<()> {
        let learned = wait_learned(speaker, family, &[prefix])?;
        ensure!(learned == [(prefix.to_owned(), hop.to_owned())], "{learned:?}");
        Ok(())
    };
    expect(&us, Family::V4, "192.0.2.0/24", "fd09::2")?;
    expect(&us, Family::V6, "fd02::/64", "fd09::2")?;
    expect(&*them, Family::V4, "172.16.1.0/26", "fd09::1")?;
    expect(&*them, Family::V6, "fd01::/64", "fd09::1")
}

on_lan!(fn bird_and_ipv4_over_ipv6(lan) { ipv4_over_ipv6(lan, Make::Bird) });
on_lan!(fn frr_and_ipv4_over_ipv6(lan) { ipv4_over_ipv6(lan, Make::Frr) });

on_lan!(
    /// FRR and ours keep each other's routes over a Cease that is no hard reset (RFC 8538).
    fn routes_outlive_a_notification_of_frr(lan) {
        let (hosts, [ours, mut theirs]) = setups(lan, Family::V4, |peer| peer.restart = Some(20))?;
        theirs.extra = " bgp graceful-restart notification\n no bgp hard-administrative-reset\n".to_owned();
        let frr = Frr::start(&hosts[1], &theirs.originating(&["192.0.2.0/24"]))?;
        let us = Tortie::start(&hosts[0], &ours.originating(&["172.16.1.0/26"]))?;
        wait_learned(&us, Family::V4, &["192.0.2.0/24"])?;
        wait_learned(&frr, Family::V4, &["172.16.1.0/26"])?;
        frr.ask("clear bgp *")?;
        let mut lost = None;
        eventually("another session", seconds(20), || {
            let learned = us.learned(Family::V4)?;
            if learned.is_empty() {
                lost = Some(us.log());
                return Ok(());
            }
            ensure!(us.log().matches("session established").count() == 2, "not yet");
            Ok(())
        })?;
        ensure!(lost.is_none(), "the route went: {lost:?}");
        let peer = us.peer(&hosts[1].id())?;
        ensure!(peer["last_error"] == "received NOTIFICATION Cease/Administrative Reset", "{peer}");
        Ok(())
    }
);

/// What our operator says at a shutdown is read by theirs (RFC 9003), and the session stays down until ours says otherwise.
fn shutdown_words(lan: &Lan, make: Make, words_of: fn(&dyn Speaker, &[Host; 2]) -> String) -> Result<()> {
    let (hosts, [mut ours, theirs]) = setups(lan, Family::V4, |_| {})?;
    let them = start(make, &hosts[1], &theirs)?;
    let mut us = Tortie::start(&hosts[0], &ours)?;
    wait_established(&*them, &hosts[0].id())?;
    ours.peers[0].extra = "shutdown: new cable".to_owned();
    us.reconfigure(&ours)?;
    eventually("the words", seconds(10), || {
        let text = words_of(&*them, &hosts);
        ensure!(text.contains("new cable") && !them.is_established(&hosts[0].id())?, "{text}");
        Ok(())
    })?;
    ours.peers[0].extra.clear();
    us.reconfigure(&ours)?;
    wait_established(&us, &hosts[1].id())
}

on_lan!(
    fn bird_reads_why_we_shut_down(lan) {
        shutdown_words(lan, Make::Bird, |_, hosts| {
            std::fs::read_to_string(hosts[1].file("bird.log")).unwrap_or_default()
        })
    }
);

on_lan!(
    fn frr_reads_why_we_shut_down(lan) {
        shutdown_words(lan, Make::Frr, |them, hosts| them.describe(&hosts[0].id()).unwrap_or_default())
    }
);

on_lan!(
    /// Two customers of each other agree on no role, and ours says so (RFC 9234 4.2).
    fn frr_and_a_role_that_does_not_fit(lan) {
        let (hosts, [mut ours, mut theirs]) = setups(lan, Family::V4, |_| {})?;
        ours.peers[0].extra = "role: customer".to_owned();
        theirs.peers[0].extra = format!(" neighbor {} local-role customer\n", hosts[0].id());
        let _frr = Frr::start(&hosts[1], &theirs)?;
        let us = Tortie::start(&hosts[0], &ours)?;
        eventually("Role Mismatch", seconds(15), || {
            let peer = us.peer(&hosts[1].id())?;
            ensure!(peer["last_error"].to_string().contains("Role Mismatch"), "{peer}");
            Ok(())
        })
    }
);

on_lan!(
    /// All of them at once: more prefixes than agreed end the session with the count in words.
    fn too_many_prefixes_of_each_make(lan) {
        let one = lan.host(1)?;
        let hosts = [lan.host(2)?, lan.host(3)?, lan.host(4)?];
        let limited = |(host, asn): (&Host, u32)| {
            Peer::new(&one, host, Family::V4, asn).with(|peer| peer.extra = "max-prefixes: 1".to_owned())
        };
        let peers: Vec<Peer> = hosts.iter().zip(65001..).map(limited).collect();
        let mut others = Vec::new();
        for ((make, host), asn) in OTHERS.into_iter().zip(&hosts).zip(65001..) {
            let peer = Peer::new(host, &one, Family::V4, 64512).with(|peer| peer.passive = true);
            let setup = Setup::new(asn, [peer]).originating(&["192.0.2.0/24", "198.51.100.0/24"]);
            others.push(start(make, host, &setup)?);
        }
        let us = Tortie::start(&one, &Setup::new(64512, peers))?;
        for host in &hosts {
            eventually("the limit said", seconds(15), || {
                let peer = us.peer(&host.id())?;
                ensure!(peer["last_error"].to_string().contains("Maximum Number of Prefixes Reached"), "{peer}");
                ensure!(peer["state"] != "Established", "{peer}");
                Ok(())
            })?;
        }
        wait_learned(&us, Family::V4, &[]).map(drop)
    }
);
