//! Route refresh (RFC 2918): a peer that forgot a route asks, and has it again without a new session.
//!
//! Host 1 runs ours in AS 64512 with two routes, host 2 the other in AS 65000.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::bird::Bird;
use tortie_e2e::speakers::frr::Frr;
use tortie_e2e::speakers::tortie::Tortie;
use tortie_e2e::speakers::{Family, Host, Lan, Peer, Setup, Speaker, wait_learned};

const OURS: [&str; 2] = ["172.16.1.0/26", "172.16.1.64/26"];

fn us(lan: &Lan) -> Result<([Host; 2], Tortie, Setup)> {
    let hosts = [lan.host(1)?, lan.host(2)?];
    let to_them = Peer::new(&hosts[0], &hosts[1], Family::V4, 65000);
    let us = Tortie::start(&hosts[0], &Setup::new(64512, [to_them]).originating(&OURS))?;
    let setup = Setup::new(65000, [Peer::new(&hosts[1], &hosts[0], Family::V4, 64512)]);
    Ok((hosts, us, setup))
}

on_lan!(
    /// BIRD keeps nothing it refused, so a route comes back only if it is sent again; what is sent again is marked (RFC 7313).
    fn bird_takes_what_it_refused_before(lan) {
        let (hosts, us, mut setup) = us(lan)?;
        setup.peers[0].refuse = Some(OURS[0].to_owned());
        setup.extra = "debug protocols { packets };\n".to_owned();
        let mut bird = Bird::start(&hosts[1], &setup)?;
        wait_learned(&bird, Family::V4, &OURS[1..])?;
        setup.peers[0].refuse = None;
        bird.reconfigure(&setup)?;
        wait_learned(&bird, Family::V4, &OURS)?;
        eventually("both marks", seconds(5), || {
            let log = bird.log();
            ensure!(log.contains("Got BEGIN-OF-RR") && log.contains("Got END-OF-RR"), "{log}");
            Ok(())
        })?;
        let sessions = us.log().matches("session established").count();
        ensure!(sessions == 1, "{sessions} sessions:\n{}", us.log());
        Ok(())
    }
);

on_lan!(
    fn frr_asks_and_is_told_again(lan) {
        let (hosts, us, setup) = us(lan)?;
        let frr = Frr::start(&hosts[1], &setup)?;
        wait_learned(&frr, Family::V4, &OURS)?;
        let count = |what: &str| -> Result<u64> {
            let peer: Value = serde_json::from_str(&frr.describe(&hosts[0].id())?)?;
            peer["messageStats"][what].as_u64().with_context(|| format!("no {what} in {peer}"))
        };
        let before = count("updatesRecv")?;
        frr.ask(&format!("clear bgp {} in", hosts[0].id()))?;
        eventually("the routes sent again", seconds(10), || {
            ensure!(count("routeRefreshSent")? > 0 && count("updatesRecv")? > before, "not yet");
            Ok(())
        })?;
        wait_learned(&frr, Family::V4, &OURS)?;
        ensure!(us.log().matches("session established").count() == 1, "{}", us.log());
        Ok(())
    }
);
