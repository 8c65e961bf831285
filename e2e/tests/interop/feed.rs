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
/// Octets of a message without extended messages, less header, lengths and attributes of a plain external route.
const ROOM: usize = 4096 - 23 - 40;
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
fn line(lan: &Lan, make: Make, bird: impl FnOnce(&mut Setup)) -> Result<Line> {
    let hosts = [lan.host(1)?, lan.host(2)?, lan.host(3)?];
    let end = |host: &Host, asn| {
        let peer =
            Peer::new(host, &hosts[0], Family::V4, 64512).with(|peer| (peer.passive, peer.hold) = (true, 90));
        Setup::new(asn, [peer])
    };
    let mut source = end(&hosts[1], 65000);
    bird(&mut source);
    let receiver = start(make, &hosts[2], &end(&hosts[2], 65001))?;
    let bird = Bird::start(&hosts[1], &source)?;
    let peers = [(&hosts[1], 65000), (&hosts[2], 65001)]
        .map(|(host, asn)| Peer::new(&hosts[0], host, Family::V4, asn));
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

fn feed(lan: &Lan, make: Make) -> Result<Line> {
    let line = line(lan, make, |setup| setup.originate = routes())?;
    wait_received(&*line.receiver, &line.hosts[0], ROUTES)?;
    Ok(line)
}

fn withdraw(line: &Line) -> Result<()> {
    line.bird.ask(&format!("disable {}", protocol(&line.hosts[0].id())))?;
    wait_received(&*line.receiver, &line.hosts[0], 0)
}

on_lan!(fn bird_gets_100k_routes(lan) { withdraw(&feed(lan, Make::Bird)?) });

on_lan!(
    /// FRR counts the messages: no fewer would do, and few more are sent.
    fn frr_gets_100k_routes_in_full_messages(lan) {
        let line = feed(lan, Make::Frr)?;
        let peer: Value = serde_json::from_str(&line.receiver.describe(&line.hosts[0].id())?)?;
        let messages = peer["messageStats"]["updatesRecv"].as_u64().context("no count")?;
        let least = u64::try_from((ROUTES * PREFIX).div_ceil(ROOM))?;
        ensure!((least..least * 2).contains(&messages), "{messages} messages, {least} would do");
        withdraw(&line)
    }
);

on_lan!(fn gobgp_gets_100k_routes(lan) { feed(lan, Make::Gobgp).map(drop) });
