//! Another TCP-MD5 key for a session that is up, with BIRD and FRR. Either of them ends the session itself when it gets a new one,
//! which only tells what had been agreed on; ours sets it on the living connection. So ours never ends a session here, and whether
//! routes outlive it is a matter of order.
//!
//! Host 1 runs ours in AS 64512, host 2 the other in AS 65000. Both speak graceful restart.

use std::time::Instant;

use anyhow::{Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::bird::Bird;
use tortie_e2e::speakers::frr::Frr;
use tortie_e2e::speakers::tortie::Tortie;
use tortie_e2e::speakers::{Family, Lan, Make, Peer, Setup, Speaker, wait_learned};

const OURS: &str = "172.16.1.0/26";
const THEIRS: &str = "192.0.2.0/24";
/// From then on a second connection of the peer is taken for its restart at once, see `docs/bgp.md`.
const OLD_ENOUGH: u32 = 10;

struct Pair {
    us: Tortie,
    them: Them,
    setups: [Setup; 2],
    their_address: String,
    /// Whether their route was missing at a look while there was no second session yet.
    lost_meanwhile: bool,
    /// And at any later one.
    lost_with_it: bool,
}

enum Them {
    Bird(Bird),
    Frr(Frr),
}

impl Them {
    fn speaker(&self) -> &dyn Speaker {
        match self {
            Them::Bird(bird) => bird,
            Them::Frr(frr) => frr,
        }
    }
}

impl Pair {
    fn start(lan: &Lan, make: Make) -> Result<Pair> {
        let hosts = [lan.host(1)?, lan.host(2)?];
        let change = |peer: &mut Peer| (peer.password, peer.restart) = (Some("one".to_owned()), Some(60));
        let to_them = Peer::new(&hosts[0], &hosts[1], Family::V4, 65000).with(change);
        let to_us = Peer::new(&hosts[1], &hosts[0], Family::V4, 64512).with(change);
        let setups = [
            Setup::new(64512, [to_them]).originating(&[OURS]),
            Setup::new(65000, [to_us]).originating(&[THEIRS]),
        ];
        let them = match make {
            Make::Bird => Them::Bird(Bird::start(&hosts[1], &setups[1])?),
            Make::Frr => Them::Frr(Frr::start(&hosts[1], &setups[1])?),
            Make::Tortie | Make::Gobgp => unreachable!("not asked for"),
        };
        let us = Tortie::start(&hosts[0], &setups[0])?;
        let their_address = hosts[1].id();
        let mut pair = Pair { us, them, setups, their_address, lost_meanwhile: false, lost_with_it: false };
        wait_learned(&pair.us, Family::V4, &[THEIRS])?;
        wait_learned(pair.them.speaker(), Family::V4, &[OURS])?;
        let up = Instant::now();
        pair.watch("an older session", |_| Ok(up.elapsed() > seconds(OLD_ENOUGH)))?;
        Ok(pair)
    }

    fn change_ours(&mut self) -> Result<()> {
        self.setups[0].peers[0].password = Some("two".to_owned());
        self.us.reconfigure(&self.setups[0])
    }

    fn change_theirs(&mut self) -> Result<()> {
        self.setups[1].peers[0].password = Some("two".to_owned());
        match &mut self.them {
            Them::Bird(bird) => bird.reconfigure(&self.setups[1]),
            Them::Frr(frr) => {
                frr.configure(&format!("neighbor {} password two", self.setups[1].peers[0].address))
            }
        }
    }

    /// Waits, and notes when their route was missing.
    fn watch(&mut self, what: &str, done: impl Fn(&Pair) -> Result<bool>) -> Result<()> {
        eventually(what, seconds(20), || {
            let lost = self.us.learned(Family::V4)?.is_empty();
            let back = self.sessions() > 1;
            self.lost_meanwhile |= lost && !back;
            self.lost_with_it |= lost && back;
            ensure!(done(self)?, "not yet; {}", self.us.describe(&self.their_address)?);
            Ok(())
        })
    }

    fn sessions(&self) -> usize {
        self.us.log().matches("session established").count()
    }

    /// Waits for the second session and that it carries something new; the first ended with these words.
    fn wait_back(&mut self, last_error: &str) -> Result<()> {
        self.watch("another session", |pair| {
            Ok(pair.sessions() == 2 && pair.us.is_established(&pair.their_address)?)
        })?;
        self.setups[0].originate.push("172.16.1.64/26".to_owned());
        self.us.reconfigure(&self.setups[0])?;
        wait_learned(self.them.speaker(), Family::V4, &[OURS, "172.16.1.64/26"])?;
        wait_learned(&self.us, Family::V4, &[THEIRS])?;
        let peer = self.us.peer(&self.their_address)?;
        ensure!(peer["last_error"] == last_error, "{peer}");
        let log = self.us.log();
        ensure!(self.sessions() == 2 && !log.contains("sent NOTIFICATION"), "{log}");
        Ok(())
    }
}

/// Ours first: the session lives on under two keys. What the other says when it ends it comes under the old key, so ours does not
/// hear that, only that it connects anew: a restart, over which routes stay. BIRD says then that it kept none itself (F=0), so
/// with it they are replaced when it is back.
fn ours_first(lan: &Lan, make: Make) -> Result<()> {
    let mut pair = Pair::start(lan, make)?;
    pair.change_ours()?;
    ensure!(pair.us.is_established(&pair.their_address)? && pair.sessions() == 1, "{}", pair.us.log());
    pair.change_theirs()?;
    pair.wait_back("peer restarted and connected anew")?;
    ensure!(!pair.lost_meanwhile, "the route went");
    ensure!(!pair.lost_with_it || make == Make::Bird, "the route went when the session was back");
    Ok(())
}

/// Theirs first: ours hears that the session is over, and it is back soon after ours has the key, too. Routes stay if the other speaks
/// RFC 8538, which BIRD does not.
fn theirs_first(lan: &Lan, make: Make) -> Result<()> {
    let mut pair = Pair::start(lan, make)?;
    pair.change_theirs()?;
    pair.watch("the end of the session", |pair| Ok(!pair.us.is_established(&pair.their_address)?))?;
    ensure!(pair.sessions() == 1, "{}", pair.us.log());
    pair.change_ours()?;
    pair.wait_back("received NOTIFICATION Cease/Other Configuration Change")?;
    ensure!(pair.lost_meanwhile == (make == Make::Bird), "route lost: {}", pair.lost_meanwhile);
    Ok(())
}

on_lan!(fn ours_then_bird(lan) { ours_first(lan, Make::Bird) });
on_lan!(fn ours_then_frr(lan) { ours_first(lan, Make::Frr) });
on_lan!(fn bird_then_ours(lan) { theirs_first(lan, Make::Bird) });
on_lan!(fn frr_then_ours(lan) { theirs_first(lan, Make::Frr) });
