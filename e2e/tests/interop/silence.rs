//! A peer that falls silent, either end: the session ends after the hold time of 3 s, and is back once the process goes on.
//!
//! Host 1 runs ours in AS 64512, host 2 the other in AS 65000.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::tortie::Tortie;
use tortie_e2e::speakers::{Family, Lan, Make, Peer, Setup, Speaker, start, wait_established, wait_learned};

fn silence(lan: &Lan, make: Make) -> Result<()> {
    let [one, two] = [lan.host(1)?, lan.host(2)?];
    let to_them = Peer::new(&one, &two, Family::V4, 65000).with(|peer| peer.hold = 3);
    let to_us = Peer::new(&two, &one, Family::V4, 64512).with(|peer| (peer.hold, peer.passive) = (3, true));
    let mut them = start(make, &two, &Setup::new(65000, [to_us]).originating(&["192.0.2.0/24"]))?;
    let mut us = Tortie::start(&one, &Setup::new(64512, [to_them]).originating(&["172.16.1.0/26"]))?;
    wait_learned(&us, Family::V4, &["192.0.2.0/24"])?;

    them.signal(Signal::SIGSTOP)?;
    wait_learned(&us, Family::V4, &[])?;
    let peer = us.peer(&two.id())?;
    ensure!(peer["last_error"] == "sent NOTIFICATION Hold Timer Expired", "{peer}");
    them.signal(Signal::SIGCONT)?;
    wait_learned(&us, Family::V4, &["192.0.2.0/24"])?;
    wait_learned(&*them, Family::V4, &["172.16.1.0/26"])?;

    us.signal(Signal::SIGSTOP)?;
    eventually("they drop us", seconds(15), || {
        ensure!(!them.is_established(&one.id())?, "still up");
        Ok(())
    })?;
    us.signal(Signal::SIGCONT)?;
    wait_established(&*them, &one.id())?;
    wait_learned(&*them, Family::V4, &["172.16.1.0/26"])?;
    wait_learned(&us, Family::V4, &["192.0.2.0/24"]).map(drop)
}

on_lan!(fn bird(lan) { silence(lan, Make::Bird) });
on_lan!(fn frr(lan) { silence(lan, Make::Frr) });
on_lan!(fn gobgp(lan) { silence(lan, Make::Gobgp) });
