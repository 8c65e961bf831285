//! GoBGP.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Family, Host, Learned, Peer, Setup, Speaker};
use crate::eventually::{eventually, seconds};
use crate::process::{Daemon, Run};

/// What its state is called when the session is up, as the API numbers it.
const ESTABLISHED: u64 = 6;

/// Does to the kernel what GoBGP does to its best routes. Own ones have no next hop, others may have one that is behind a router.
const FOLLOW: &str = r#"gobgp --target "$0" monitor global rib --current | while read -r _ what prefix _ hop _; do
    [ "$hop" != 0.0.0.0 ] || continue
    read -r _ word router _ <<END
$(ip -o route get "$hop")
END
    [ "$word" != via ] || hop=$router
    case "$what" in
    "[ROUTE]") ip route replace "$prefix" via "$hop" ;;
    "[DELROUTE]") ip route delete "$prefix" ;;
    esac
done"#;

/// A running daemon.
#[derive(Debug)]
pub struct Gobgp {
    host: Host,
    setup: Setup,
    daemon: Option<Daemon>,
}

impl Gobgp {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(host: &Host, setup: &Setup) -> Result<Gobgp> {
        host.write("gobgpd.toml", &configuration(host, setup))?;
        let mut gobgp = Gobgp { host: host.clone(), setup: setup.clone(), daemon: None };
        gobgp.launch(&[])?;
        Ok(gobgp)
    }

    fn launch(&mut self, flags: &[&str]) -> Result<()> {
        // Its own routes are given by command; peers must not be told End-of-RIB before.
        let config = self.host.file("gobgpd.toml").display().to_string();
        let mut run = self.host.netns.run("gobgpd -t toml -l info --pprof-disable -f").arg(config);
        run = run.arg("--api-hosts").arg(self.target());
        for flag in flags {
            run = run.arg(*flag);
        }
        // Left by one that was killed.
        let _ = std::fs::remove_file(self.host.file("gobgp.sock"));
        let mut daemon = Daemon::start(&run, &self.host.file("gobgpd.log"))?;
        eventually("gobgpd answering", seconds(10), || {
            daemon.still_runs()?;
            self.command("global").ok()
        })?;
        self.daemon = Some(daemon);
        let prefixes: Vec<String> = self.setup.originate.clone();
        prefixes.iter().try_for_each(|prefix| self.change("add", prefix))
    }

    fn target(&self) -> String {
        format!("unix://{}", self.host.file("gobgp.sock").display())
    }

    /// A command for `gobgp`.
    pub fn command(&self, words: &str) -> Run {
        Run::line("gobgp --target").within(&self.host.netns).arg(self.target()).args(words)
    }

    /// Gives its best routes to the kernel, as they change, for as long as it lives; then they stay as they are. It programs no kernel
    /// itself: it leaves that to zebra, and 3.10 does not understand zebra 8.4.
    ///
    /// # Errors
    /// When the shell cannot be started.
    pub fn follow(&self) -> Result<Daemon> {
        let run = self.host.netns.run("sh -e -c").arg(FOLLOW).arg(self.target());
        Daemon::start(&run, &self.host.file("follow.log"))
    }

    fn change(&self, verb: &str, prefix: &str) -> Result<()> {
        let family = Family::of(prefix).word();
        // As the others do; it would say INCOMPLETE.
        self.command(&format!("global rib {verb} -a {family} {prefix} origin igp")).ok().map(drop)
    }

    fn json(&self, words: &str) -> Result<Value> {
        let text = self.command(words).arg("-j").ok()?;
        // It says nothing where others say that there is nothing.
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{words} is answered with {text:?}"))
    }
}

impl Speaker for Gobgp {
    fn is_established(&self, peer: &str) -> Result<bool> {
        Ok(self.json(&format!("neighbor {peer}"))?["state"]["session_state"] == ESTABLISHED)
    }

    fn learned(&self, family: Family) -> Result<Learned> {
        let answer = self.json(&format!("global rib -a {}", family.word()))?;
        let mut learned = Learned::new();
        for (prefix, paths) in answer.as_object().into_iter().flatten() {
            let own = |path: &&Value| path["source-id"].is_null() || path["neighbor-ip"].is_null();
            for path in paths.as_array().into_iter().flatten().filter(|path| !own(path)) {
                let hops = path["attrs"].as_array().into_iter().flatten();
                let hop = hops
                    .filter(|hop| hop["type"] == 3 || hop["type"] == 14)
                    .find_map(|hop| hop["nexthop"].as_str());
                learned.extend(hop.map(|hop| (prefix.clone(), hop.to_owned())));
            }
        }
        learned.sort();
        Ok(learned)
    }

    fn received(&self, peer: &str) -> Result<usize> {
        let neighbor = self.json(&format!("neighbor {peer}"))?;
        let families = neighbor["afi_safis"].as_array().into_iter().flatten();
        let counts = families.filter_map(|family| family["state"]["accepted"].as_u64());
        Ok(usize::try_from(counts.sum::<u64>())?)
    }

    fn describe(&self, peer: &str) -> Result<String> {
        self.command(&format!("neighbor {peer}")).ok()
    }

    fn reconfigure(&mut self, setup: &Setup) -> Result<()> {
        let before = std::mem::replace(&mut self.setup, setup.clone());
        for prefix in before.originate.iter().filter(|prefix| !setup.originate.contains(prefix)) {
            self.change("del", prefix)?;
        }
        for prefix in setup.originate.iter().filter(|prefix| !before.originate.contains(prefix)) {
            self.change("add", prefix)?;
        }
        self.host.write("gobgpd.toml", &configuration(&self.host, setup))?;
        self.signal(Signal::SIGHUP)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.daemon.as_mut().context("it does not run")?.signal(signal)
    }

    fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("it does not run")?.stop(Signal::SIGKILL).map(drop)
    }

    fn restart(&mut self) -> Result<()> {
        // Peers must find all of its routes, and some dial faster than these are given.
        let down = "[neighbors.config]\n    admin-down = true\n";
        let text = configuration(&self.host, &self.setup).replace("[neighbors.config]\n", down);
        self.host.write("gobgpd.toml", &text)?;
        self.launch(&["-r"])?;
        let mut peers = self.setup.peers.iter();
        peers.try_for_each(|peer| self.command(&format!("neighbor {} enable", peer.address)).ok().map(drop))
    }
}

fn configuration(host: &Host, setup: &Setup) -> String {
    let mut text =
        format!("[global.config]\n  as = {}\n  router-id = \"{}\"\n{}", setup.asn, host.id(), setup.extra);
    setup.peers.iter().for_each(|peer| text += &neighbor(host, peer));
    text
}

fn neighbor(host: &Host, peer: &Peer) -> String {
    let mut text = format!(
        "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n    peer-as = {}\n",
        peer.address, peer.asn
    );
    let mut section = |name: &str, lines: String| text += &format!("  {name}\n{lines}");
    if let Some(password) = &peer.password {
        section("", format!("    auth-password = \"{password}\"\n"));
    }
    let transport = format!("    passive-mode = {}\n    local-address = \"{}\"\n", peer.passive, peer.local);
    section("[neighbors.transport.config]", transport);
    let timers = format!(
        "    connect-retry = 1\n    hold-time = {}\n    keepalive-interval = {}\n    idle-hold-time-after-reset = 1\n",
        peer.hold,
        peer.hold / 3
    );
    section("[neighbors.timers.config]", timers);
    if peer.gtsm {
        section("[neighbors.ttl-security.config]", "    enabled = true\n    ttl-min = 255\n".to_owned());
    }
    if peer.client {
        let lines = format!(
            "    route-reflector-client = true\n    route-reflector-cluster-id = \"{}\"\n",
            host.id()
        );
        section("[neighbors.route-reflector.config]", lines);
    }
    if let Some(time) = peer.restart {
        let lines = format!("    enabled = true\n    restart-time = {time}\n");
        section("[neighbors.graceful-restart.config]", lines);
    }
    section("[[neighbors.afi-safis]]", String::new());
    let family = format!("      afi-safi-name = \"{}-unicast\"\n", peer.family().word());
    section("  [neighbors.afi-safis.config]", family);
    if peer.restart.is_some() {
        section("  [neighbors.afi-safis.mp-graceful-restart.config]", "      enabled = true\n".to_owned());
    }
    if peer.add_path {
        let lines = "      receive = true\n      send-max = 8\n".to_owned();
        section("  [neighbors.afi-safis.add-paths.config]", lines);
    }
    text + &peer.extra
}
