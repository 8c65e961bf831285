//! FRR's bgpd, by itself or with zebra, which programs the kernel.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::zebra::{self, Zebra};
use super::{Family, Host, Learned, Peer, Setup, Speaker};
use crate::eventually::{eventually, seconds};
use crate::process::{Daemon, Run};

const BGPD: &str = "/usr/lib/frr/bgpd";

/// A running daemon.
#[derive(Debug)]
pub struct Frr {
    host: Host,
    setup: Setup,
    bgpd: Option<Daemon>,
    zebra: Option<Zebra>,
}

impl Frr {
    /// Starts bgpd alone.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(host: &Host, setup: &Setup) -> Result<Frr> {
        Frr::start_below(host, setup, None)
    }

    /// Starts zebra and bgpd. Zebra lives on when bgpd is killed.
    ///
    /// # Errors
    /// When they do not come up.
    pub fn start_with_zebra(host: &Host, setup: &Setup) -> Result<Frr> {
        Frr::start_below(host, setup, Some(Zebra::start(host)?))
    }

    fn start_below(host: &Host, setup: &Setup, zebra: Option<Zebra>) -> Result<Frr> {
        let mut frr = Frr { host: host.clone(), setup: setup.clone(), bgpd: None, zebra };
        frr.launch()?;
        Ok(frr)
    }

    fn launch(&mut self) -> Result<()> {
        let config = self.host.write("bgpd.conf", &configuration(&self.host, &self.setup))?;
        let path = |name: &str| self.host.file(name).display().to_string();
        // -S: as who we are. -Z: no zebra.
        let flags = if self.zebra.is_some() { "-S -P 0 -f" } else { "-Z -S -P 0 -f" };
        let run = self.host.netns.run(BGPD).args(flags).arg(config).arg("-i").arg(path("bgpd.pid"));
        let run = run.arg("-z").arg(zebra::socket(&self.host)).arg("--vty_socket").arg(path(""));
        let mut bgpd = Daemon::start(&run, &self.host.file("bgpd.log"))?;
        eventually("bgpd answering", seconds(10), || {
            bgpd.still_runs()?;
            self.ask("show bgp summary").map(drop)
        })?;
        self.bgpd = Some(bgpd);
        Ok(())
    }

    /// What `vtysh` answers.
    ///
    /// # Errors
    /// When bgpd does not answer.
    pub fn ask(&self, question: &str) -> Result<String> {
        self.vtysh().arg("-c").arg(question).ok()
    }

    fn vtysh(&self) -> Run {
        self.host.netns.run("vtysh -d bgpd --vty_socket").arg(self.host.dir.display().to_string())
    }

    fn json(&self, question: &str) -> Result<Value> {
        let text = self.ask(question)?;
        serde_json::from_str(&text).with_context(|| format!("{question} is answered with {text:?}"))
    }

    fn neighbor(&self, peer: &str) -> Result<Value> {
        Ok(self.json(&format!("show bgp neighbors {peer} json"))?[peer].take())
    }

    /// Changes its running configuration by these lines below `router bgp`.
    ///
    /// # Errors
    /// When it refuses one.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let mut run = self.vtysh().arg("-c").arg("configure terminal");
        run = run.arg("-c").arg(format!("router bgp {}", self.setup.asn));
        for line in lines.lines() {
            run = run.arg("-c").arg(line.trim());
        }
        let text = run.ok()?;
        ensure!(!text.contains('%'), "{text}");
        Ok(())
    }
}

impl Speaker for Frr {
    fn is_established(&self, peer: &str) -> Result<bool> {
        Ok(self.neighbor(peer)?["bgpState"] == "Established")
    }

    fn learned(&self, family: Family) -> Result<Learned> {
        let answer = self.json(&format!("show bgp {} unicast json", family.word()))?;
        let mut learned = Learned::new();
        for (prefix, paths) in answer["routes"].as_object().into_iter().flatten() {
            let from_peers =
                paths.as_array().into_iter().flatten().filter(|path| path["peerId"] != "(unspec)");
            for path in from_peers {
                let hops = path["nexthops"].as_array().into_iter().flatten();
                let hop = hops.filter(|hop| hop["scope"] != "link-local").find_map(|hop| hop["ip"].as_str());
                learned.extend(hop.map(|hop| (prefix.clone(), hop.to_owned())));
            }
        }
        learned.sort();
        Ok(learned)
    }

    fn received(&self, peer: &str) -> Result<usize> {
        let neighbor = self.neighbor(peer)?;
        let families = neighbor["addressFamilyInfo"].as_object().into_iter().flatten();
        let counts = families.filter_map(|(_, info)| info["acceptedPrefixCounter"].as_u64());
        Ok(usize::try_from(counts.sum::<u64>())?)
    }

    fn describe(&self, peer: &str) -> Result<String> {
        Ok(self.neighbor(peer)?.to_string())
    }

    fn reconfigure(&mut self, setup: &Setup) -> Result<()> {
        // Lines that say what holds already change nothing; a prefix or a peer must be taken back by name.
        let mut lines = String::new();
        for family in super::lan::FAMILIES {
            let gone = self.setup.of_family(family).filter(|prefix| !setup.originate.contains(prefix));
            let gone: String = gone.map(|prefix| format!("no network {prefix}\n")).collect();
            // Writing to a String does not fail.
            let _ = write!(lines, "address-family {} unicast\n{gone}exit-address-family\n", family.word());
        }
        for peer in self.setup.peers.iter().filter(|peer| peer.password.is_some()) {
            let _ = writeln!(lines, "no neighbor {} password", peer.address);
        }
        self.configure(&format!("{lines}{}", below_router(&self.host, setup)))?;
        self.setup = setup.clone();
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.bgpd.as_mut().context("it does not run")?.signal(signal)
    }

    fn kill(&mut self) -> Result<()> {
        self.bgpd.take().context("it does not run")?.stop(Signal::SIGKILL).map(drop)
    }

    fn restart(&mut self) -> Result<()> {
        self.launch()
    }
}

fn configuration(host: &Host, setup: &Setup) -> String {
    format!(
        "log stdout debugging\nlog timestamp precision 3\ndebug bgp neighbor-events\nrouter bgp {}\n{}",
        setup.asn,
        below_router(host, setup)
    )
}

fn below_router(host: &Host, setup: &Setup) -> String {
    let mut text = format!(
        " bgp router-id {id}\n no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n \
         coalesce-time 0\n",
        id = host.id()
    );
    if setup.peers.iter().any(|peer| peer.client) {
        // Writing to a String does not fail.
        let _ = writeln!(text, " bgp cluster-id {}", host.id());
    }
    if let Some(time) = setup.peers.iter().find_map(|peer| peer.restart) {
        let _ = write!(
            text,
            " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart restart-time {time}\n"
        );
    }
    text += &setup.extra;
    setup.peers.iter().for_each(|peer| text += &neighbor(peer));
    for family in super::lan::FAMILIES {
        let _ = writeln!(text, " address-family {} unicast", family.word());
        setup.of_family(family).for_each(|prefix| text += &format!("  network {prefix}\n"));
        let carries = |peer: &&Peer| peer.family() == family || peer.ipv4_over_ipv6;
        setup.peers.iter().filter(carries).for_each(|peer| text += &activation(peer));
        text += " exit-address-family\n";
    }
    text
}

fn neighbor(peer: &Peer) -> String {
    let address = &peer.address;
    let mut text = format!(
        " neighbor {address} remote-as {asn}\n neighbor {address} update-source {local}\n \
         neighbor {address} timers {third} {hold}\n neighbor {address} timers connect 1\n \
         neighbor {address} advertisement-interval 0\n",
        asn = peer.asn,
        local = peer.local,
        third = peer.hold / 3,
        hold = peer.hold,
    );
    let password = peer.password.as_ref().map(|key| format!("password {key}"));
    let options = [
        password,
        peer.passive.then(|| "passive".to_owned()),
        peer.gtsm.then(|| "ttl-security hops 1".to_owned()),
        peer.ipv4_over_ipv6.then(|| "capability extended-nexthop".to_owned()),
    ];
    for option in options.into_iter().flatten() {
        // Writing to a String does not fail.
        let _ = writeln!(text, " neighbor {address} {option}");
    }
    text + &peer.extra
}

fn activation(peer: &Peer) -> String {
    let mut text = format!("  neighbor {} activate\n", peer.address);
    let options = [(peer.client, "route-reflector-client"), (peer.add_path, "addpath-tx-all-paths")];
    for (_, option) in options.into_iter().filter(|(wanted, _)| *wanted) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  neighbor {} {option}", peer.address);
    }
    text
}
