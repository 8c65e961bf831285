//! Much at once: 100 000 routes from BIRD through ours to each make, in messages filled to the brim, and their withdrawal.
//!
//! ```text
//!   host 2: BIRD, AS 65000     host 1: ours, AS 64512     host 3: the receiver, AS 65001
//! ```

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::bird::{Bird, protocol};
use tortie_e2e::speakers::{Family, Host, Lan, Make, Peer, Setup, Speaker, start};

const ROUTES: usize = 100_000;
/// Octets of header, lengths and attributes of a plain external route.
const OVERHEAD: usize = 23 + 40;
/// Octets of a /32 among the prefixes.
const PREFIX: usize = 5;

/// All routes, as host routes of 20.0.0.0/8.
fn routes() -> Vec<String> {
    (0..ROUTES).map(|n| format!("20.{}.{}.{}/32", n >> 16, n >> 8 & 255, n & 255)).collect()
}

struct Line {
    hosts: [Host; 3],
    bird: Bird,
    receiver: Box<dyn Speaker>,
    _us: Box<dyn Speaker>,
}

/// BIRD, ours and a receiver, all sessions dialled by ours.
fn line(lan: &Lan, make: Make, extended: bool) -> Result<Line> {
    let hosts = [lan.host(1)?, lan.host(2)?, lan.host(3)?];
    let end = |host: &Host, asn| {
        let peer =
            Peer::new(host, &hosts[0], Family::V4, 64512).with(|peer| (peer.passive, peer.hold) = (true, 90));
        Setup::new(asn, [peer])
    };
    let source = Setup { originate: routes(), ..end(&hosts[1], 65000) };
    let receiver = start(make, &hosts[2], &end(&hosts[2], 65001))?;
    let bird = Bird::start(&hosts[1], &source)?;
    let peers = [(&hosts[1], 65000), (&hosts[2], 65001)]
        .map(|(host, asn)| Peer::new(&hosts[0], host, Family::V4, asn))
        .map(|peer| peer.with(|peer| peer.extra = format!("extended-messages: {extended}")));
    let us = start(Make::Tortie, &hosts[0], &Setup::new(64512, peers))?;
    Ok(Line { hosts, bird, receiver, _us: us })
}

fn wait_received(speaker: &dyn Speaker, peer: &Host, count: usize) -> Result<()> {
    eventually(&format!("{count} routes at the receiver"), seconds(60), || {
        let have = speaker.received(&peer.id())?;
        ensure!(have == count, "{have}");
        Ok(())
    })
}

fn feed(lan: &Lan, make: Make, extended: bool) -> Result<Line> {
    let line = line(lan, make, extended)?;
    wait_received(&*line.receiver, &line.hosts[0], ROUTES)?;
    Ok(line)
}

fn withdraw(line: &Line) -> Result<()> {
    line.bird.ask(&format!("disable {}", protocol(&line.hosts[0].id())))?;
    wait_received(&*line.receiver, &line.hosts[0], 0)
}

/// FRR counts the messages: no fewer would do, and few more are sent.
fn messages(lan: &Lan, extended: bool, longest: usize) -> Result<()> {
    let line = feed(lan, Make::Frr, extended)?;
    let peer: Value = serde_json::from_str(&line.receiver.describe(&line.hosts[0].id())?)?;
    let count = peer["messageStats"]["updatesRecv"].as_u64().context("no count")?;
    let least = u64::try_from((ROUTES * PREFIX).div_ceil(longest - OVERHEAD))?;
    ensure!((least..least * 3).contains(&count), "{count} messages, {least} would do");
    withdraw(&line)
}

on_lan!(fn bird_gets_100k_routes(lan) { withdraw(&feed(lan, Make::Bird, true)?) });
on_lan!(fn frr_gets_100k_routes_in_full_messages(lan) { messages(lan, false, 4096) });
on_lan!(fn frr_gets_100k_routes_in_full_extended_messages(lan) { messages(lan, true, 65535) });
on_lan!(fn gobgp_gets_100k_routes(lan) { feed(lan, Make::Gobgp, true).map(drop) });
