//! TCP-MD5 and GTSM with every make, dialled by either end. That a session stays down is shown by what the kernel counts: segments
//! with a wrong key, or with too low a hop limit.
//!
//! Host 1 runs ours in AS 64512, host 2 the other in AS 65000.

use anyhow::{Context, Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::{
    Family, Host, Lan, Make, Peer, Setup, Speaker, start, wait_established, wait_learned,
};

/// A counter of `/proc/net/netstat`.
fn counter(host: &Host, name: &str) -> Result<u64> {
    let text = host.netns.run("cat /proc/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (names, values) = lines.next().zip(lines.next()).context("no TcpExt")?;
    let value = names.zip(values).find(|(n, _)| *n == name).with_context(|| format!("no counter {name}"))?.1;
    Ok(value.parse()?)
}

struct Pair {
    us: Box<dyn Speaker>,
    them: Box<dyn Speaker>,
    hosts: [Host; 2],
    setups: [Setup; 2],
}

impl Pair {
    /// Both ends with the same changes to their peer; one of them waits.
    fn start(lan: &Lan, make: Make, family: Family, we_dial: bool, change: fn(&mut Peer)) -> Result<Pair> {
        let hosts = [lan.host(1)?, lan.host(2)?];
        let to_them =
            Peer::new(&hosts[0], &hosts[1], family, 65000).with(change).with(|peer| peer.passive = !we_dial);
        let to_us =
            Peer::new(&hosts[1], &hosts[0], family, 64512).with(change).with(|peer| peer.passive = we_dial);
        let setups = [Setup::new(64512, [to_them]), Setup::new(65000, [to_us])];
        let them = start(make, &hosts[1], &setups[1])?;
        let us = start(Make::Tortie, &hosts[0], &setups[0])?;
        Ok(Pair { us, them, hosts, setups })
    }

    fn peers(&self) -> [&str; 2] {
        [&self.setups[0].peers[0].address, &self.setups[1].peers[0].address]
    }

    fn wait_established(&self) -> Result<()> {
        wait_established(&*self.us, self.peers()[0])?;
        wait_established(&*self.them, self.peers()[1])
    }

    /// Waits until the kernels have refused three more segments, with our session down all the while. Theirs may look up for a
    /// moment: what arrives together with a connection is refused by us, not by the kernel.
    fn stays_down(&self, name: &str) -> Result<()> {
        let [them, _] = self.peers();
        let down = || -> Result<()> {
            ensure!(!self.us.is_established(them)?, "up: {}", self.us.describe(them)?);
            Ok(())
        };
        let total = || -> Result<u64> { self.hosts.iter().map(|host| counter(host, name)).sum() };
        eventually("our session down", seconds(20), down)?;
        let goal = total()? + 3;
        let mut up = Ok(());
        eventually(&format!("{name} growing"), seconds(25), || {
            up = down();
            let now = total()?;
            ensure!(now >= goal || up.is_err(), "{now} of {goal}");
            Ok(())
        })?;
        up
    }
}

/// Right, wrong, and right again after the other end changed too.
fn md5(lan: &Lan, make: Make, family: Family, we_dial: bool) -> Result<()> {
    // A living connection gets the new key, so a wrong one shows when the hold time is over.
    let change = |peer: &mut Peer| (peer.password, peer.hold) = (Some("secret".to_owned()), 3);
    let mut pair = Pair::start(lan, make, family, we_dial, change)?;
    pair.wait_established()?;
    pair.setups[0].peers[0].password = Some("wrong".to_owned());
    pair.us.reconfigure(&pair.setups[0])?;
    pair.stays_down("TCPMD5Failure")?;
    pair.setups[1].peers[0].password = Some("wrong".to_owned());
    pair.them.reconfigure(&pair.setups[1])?;
    pair.wait_established()
}

on_lan!(fn md5_bird_we_dial(lan) { md5(lan, Make::Bird, Family::V4, true) });
on_lan!(fn md5_bird_they_dial(lan) { md5(lan, Make::Bird, Family::V4, false) });
on_lan!(fn md5_frr_we_dial(lan) { md5(lan, Make::Frr, Family::V4, true) });
on_lan!(fn md5_frr_they_dial_ipv6(lan) { md5(lan, Make::Frr, Family::V6, false) });
on_lan!(fn md5_gobgp_we_dial(lan) { md5(lan, Make::Gobgp, Family::V4, true) });
on_lan!(fn md5_gobgp_they_dial(lan) { md5(lan, Make::Gobgp, Family::V4, false) });

on_lan!(
    /// Both ends get another key while the session is up, and it stays up.
    fn md5_of_a_living_session_is_changed(lan) {
        let mut pair =
            Pair::start(lan, Make::Tortie, Family::V4, true, |peer| peer.password = Some("one".to_owned()))?;
        pair.wait_established()?;
        for setup in &mut pair.setups {
            setup.peers[0].password = Some("two".to_owned());
        }
        pair.us.reconfigure(&pair.setups[0])?;
        pair.them.reconfigure(&pair.setups[1])?;
        // What is announced now has to pass under the new key.
        pair.setups[0].originate.push("172.16.1.0/26".to_owned());
        pair.us.reconfigure(&pair.setups[0])?;
        wait_learned(&*pair.them, Family::V4, &["172.16.1.0/26"])?;
        let text = pair.us.describe(pair.peers()[0])?;
        ensure!(text.contains("\"last_error\":null"), "{text}");
        Ok(())
    }
);

/// With it on both ends there is a session.
fn gtsm(lan: &Lan, make: Make, family: Family, we_dial: bool) -> Result<()> {
    let pair = Pair::start(lan, make, family, we_dial, |peer| peer.gtsm = true)?;
    pair.wait_established()
}

/// Without it they send with a hop limit of 1, as anyone far away could have made it, and there is none.
fn gtsm_on_one_end(lan: &Lan, make: Make) -> Result<()> {
    let mut pair = Pair::start(lan, make, Family::V4, false, |_| {})?;
    pair.wait_established()?;
    pair.setups[0].peers[0].gtsm = true;
    pair.us.reconfigure(&pair.setups[0])?;
    pair.stays_down("TCPMinTTLDrop")
}

on_lan!(fn gtsm_bird_we_dial(lan) { gtsm(lan, Make::Bird, Family::V4, true) });
on_lan!(fn gtsm_bird_they_dial(lan) { gtsm(lan, Make::Bird, Family::V4, false) });
on_lan!(fn gtsm_bird_on_our_end_only(lan) { gtsm_on_one_end(lan, Make::Bird) });
on_lan!(fn gtsm_frr_we_dial(lan) { gtsm(lan, Make::Frr, Family::V4, true) });
on_lan!(fn gtsm_frr_they_dial_ipv6(lan) { gtsm(lan, Make::Frr, Family::V6, false) });
on_lan!(fn gtsm_frr_on_our_end_only(lan) { gtsm_on_one_end(lan, Make::Frr) });
on_lan!(fn gtsm_gobgp_we_dial(lan) { gtsm(lan, Make::Gobgp, Family::V4, true) });
on_lan!(fn gtsm_gobgp_they_dial(lan) { gtsm(lan, Make::Gobgp, Family::V4, false) });
