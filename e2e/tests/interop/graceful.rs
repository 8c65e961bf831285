//! Graceful restart, both roles, with every make: who is killed comes back, and no route of it was gone at any look in between.
//!
//! Host 1 runs ours in AS 64512, host 2 the other in AS 65000. Either is killed with SIGKILL and started again as after a crash.

use anyhow::{Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::{
    Family, Host, Lan, Learned, Make, Peer, Setup, Speaker, start, wait_established, wait_learned,
};

const OURS: [&str; 2] = ["172.16.1.0/26", "172.16.1.64/26"];
const THEIRS: [&str; 2] = ["192.0.2.0/24", "198.51.100.0/24"];
/// Restart time in seconds.
const RESTART: Option<u16> = Some(20);

struct Pair {
    hosts: [Host; 2],
    setups: [Setup; 2],
    us: Box<dyn Speaker>,
    them: Box<dyn Speaker>,
}

fn pair(lan: &Lan, make: Make) -> Result<Pair> {
    let hosts = [lan.host(1)?, lan.host(2)?];
    let to_them = Peer::new(&hosts[0], &hosts[1], Family::V4, 65000).with(|peer| peer.restart = RESTART);
    let to_us = Peer::new(&hosts[1], &hosts[0], Family::V4, 64512)
        .with(|peer| (peer.restart, peer.passive) = (RESTART, make != Make::Gobgp));
    let setups =
        [Setup::new(64512, [to_them]).originating(&OURS), Setup::new(65000, [to_us]).originating(&THEIRS)];
    let them = start(make, &hosts[1], &setups[1])?;
    let us = start(Make::Tortie, &hosts[0], &setups[0])?;
    let pair = Pair { hosts, setups, us, them };
    wait_learned(&*pair.us, Family::V4, &THEIRS)?;
    wait_learned(&*pair.them, Family::V4, &OURS)?;
    Ok(pair)
}

fn all_there(speaker: &dyn Speaker, prefixes: &[&str]) -> Result<Learned> {
    let learned = speaker.learned(Family::V4)?;
    let missing: Vec<_> = prefixes.iter().filter(|p| !learned.iter().any(|(have, _)| have == *p)).collect();
    ensure!(missing.is_empty(), "{missing:?} lost");
    Ok(learned)
}

/// Looks until `done`; a route missing meanwhile fails at once.
fn keeps(
    speaker: &dyn Speaker,
    prefixes: &[&str],
    what: &str,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let mut lost = Ok(());
    eventually(what, seconds(25), || {
        if let Err(error) = all_there(speaker, prefixes) {
            lost = Err(error.context(format!("before {what}")));
            return Ok(());
        }
        ensure!(done()?, "not yet");
        Ok(())
    })?;
    lost
}

fn we_are_killed(lan: &Lan, make: Make) -> Result<()> {
    let Pair { hosts, mut setups, mut us, them } = pair(lan, make)?;
    let [our_address, their_address] = [hosts[0].id(), hosts[1].id()];
    us.kill()?;
    keeps(&*them, &OURS, "the loss noticed", || Ok(!them.is_established(&our_address)?))?;
    us.restart()?;
    keeps(&*them, &OURS, "us back", || them.is_established(&our_address))?;
    keeps(&*them, &OURS, "their routes here again", || Ok(us.received(&their_address)? == 2))?;
    // With one block less it comes back with one route less.
    us.kill()?;
    setups[0].originate.pop();
    std::fs::write(
        hosts[0].file("bgpd.yaml"),
        tortie_e2e::speakers::tortie::configuration(&hosts[0], &setups[0]),
    )?;
    us.restart()?;
    wait_learned(&*them, Family::V4, &OURS[..1])?;
    wait_established(&*them, &our_address)
}

fn they_are_killed(lan: &Lan, make: Make) -> Result<()> {
    let Pair { hosts, us, mut them, .. } = pair(lan, make)?;
    let [our_address, their_address] = [hosts[0].id(), hosts[1].id()];
    them.kill()?;
    keeps(&*us, &THEIRS, "the loss noticed", || Ok(!us.is_established(&their_address)?))?;
    them.restart()?;
    keeps(&*us, &THEIRS, "them back", || us.is_established(&their_address))?;
    keeps(&*us, &THEIRS, "our routes there again", || Ok(them.received(&our_address)? == 2))?;
    all_there(&*us, &THEIRS).map(drop)
}

on_lan!(fn we_are_killed_and_bird_keeps_our_routes(lan) { we_are_killed(lan, Make::Bird) });
on_lan!(fn we_are_killed_and_frr_keeps_our_routes(lan) { we_are_killed(lan, Make::Frr) });
on_lan!(fn we_are_killed_and_gobgp_keeps_our_routes(lan) { we_are_killed(lan, Make::Gobgp) });
on_lan!(fn bird_is_killed_and_we_keep_its_routes(lan) { they_are_killed(lan, Make::Bird) });
on_lan!(fn frr_is_killed_and_we_keep_its_routes(lan) { they_are_killed(lan, Make::Frr) });
on_lan!(fn gobgp_is_killed_and_we_keep_its_routes(lan) { they_are_killed(lan, Make::Gobgp) });
