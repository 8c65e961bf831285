//! Runs a test in user, mount and network namespaces of its own: real kernel, no privileges, host untouched.
//!
//! The test binary starts itself again inside `unshare`, for that one test. What it leaves behind goes with the
//! namespaces, also when it fails.

#![allow(dead_code, reason = "each test file uses its share")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tortie_agent::dataplane::cycle::{Engine, Outcome};
use tortie_agent::desired::{Applied, Desired, Gateway, LearnedChanges, RouteTarget, WorkloadInterface};
use tortie_agent::kernel::monitor::Dirty;
use tortie_agent::kernel::{Linux, Ownership};
use tortie_bgp::table::LearnedRoute;

/// Two pods at 192.168.1.1 and .2, in namespaces of their own, wired as the CNI plugin does.
pub(crate) const PODS: &str = "
    mount -t tmpfs tmpfs /run
    for pod in 1 2; do ip netns add pod$pod; ip link add cali$pod address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns pod$pod address 02:00:00:00:00:01; done
    for pod in 1 2; do ip -n pod$pod link set lo up; ip -n pod$pod addr add 192.168.1.$pod/32 dev eth0; ip -n pod$pod link set eth0 up; ip link set cali$pod up; done
    for pod in 1 2; do ip -n pod$pod route add 169.254.1.1 dev eth0 scope link; ip -n pod$pod neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0; ip -n pod$pod route add default via 169.254.1.1 dev eth0; done";

/// A whole table of learned routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Learned {
    pub(crate) routes: BTreeMap<IpNetwork, LearnedRoute>,
    pub(crate) converged: bool,
}

/// Runs `body` inside; `test` is the name of the calling test.
pub(crate) fn inside(test: &str, body: impl FnOnce()) {
    const MARK: &str = "TORTIE_TEST_NAMESPACE";
    if std::env::var_os(MARK).is_some() {
        // Names of route protocols would show in what `ip` prints, and files are the host's: none are seen, none written,
        // not even where the directory would have to be made. Link-local addresses are in force without a second of doubt.
        run("ip link set lo up
            echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
            if [ -d /etc/iproute2 ]; then mount -t tmpfs tmpfs /etc/iproute2; else mount --bind /etc /etc; fi
            if ! mountpoint -q /etc/iproute2; then mount -o remount,bind,ro /etc; fi");
        body();
        return;
    }
    let binary = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount"])
        .arg(binary)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .status()
        .expect("unshare (util-linux) can be started");
    assert!(status.success(), "{test} failed inside its namespaces");
}

/// Runs commands, one a line, and returns what they print.
pub(crate) fn run(commands: &str) -> String {
    let mut printed = String::new();
    for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {stderr}");
        printed.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    printed
}

/// Polls until it holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Adds a route nobody uses and takes it away. The kernel does so only once it is through with what it is about.
const TOUCH: &str = "ip route add unreachable 192.0.2.98 proto 99; ip route del unreachable 192.0.2.98";

/// Waits until the kernel has done what it does by itself after a link went up or got an address: all that has a carrier
/// is up, and IPv6 addresses are in force. Both it does some time later, on a busy machine much later.
pub(crate) fn at_rest() {
    eventually("links and addresses are at rest", || {
        let links = run("ip -o link");
        run(TOUCH);
        let (addresses, routes) = (run("ip -6 -o address"), run("ip -6 route show table local"));
        let is_up = |line: &str| !line.contains("LOWER_UP") || !line.contains("DOWN");
        let in_force = |line: &str| {
            let address = line.split_whitespace().nth(3).and_then(|net| net.split('/').next()).unwrap();
            // Without that route, packets to it are discarded.
            !line.contains(" tentative") && routes.contains(&format!("local {address} dev"))
        };
        links.lines().all(is_up) && addresses.lines().all(in_force)
    });
}

/// An engine on the real kernel. It leaves the table of rules to everybody, so that a test can have a second one.
pub(crate) fn engine() -> Engine<Linux> {
    Engine::new(Linux::with(Ownership::Shared).unwrap())
}

/// One as the agent has it: the table is its own.
pub(crate) fn owning_engine() -> Engine<Linux> {
    Engine::new(Linux::open().unwrap())
}

/// One cycle that reads everything.
pub(crate) fn cycle(engine: &mut Engine<Linux>, desired: &Desired, learned: &Learned) -> Outcome {
    learn(engine, desired, learned, Dirty::ALL)
}

/// One cycle with what makes the engine's table of learned routes this one.
pub(crate) fn learn(
    engine: &mut Engine<Linux>,
    desired: &Desired,
    learned: &Learned,
    dirty: Dirty,
) -> Outcome {
    let known = engine.learned().keys().filter(|prefix| !learned.routes.contains_key(prefix));
    let mut changes = LearnedChanges { converged: learned.converged, ..LearnedChanges::default() };
    changes.routes.extend(known.map(|prefix| (*prefix, None)));
    changes.routes.extend(learned.routes.iter().map(|(prefix, route)| (*prefix, Some(route.clone()))));
    engine.cycle(desired, changes, dirty, Instant::now())
}

/// One cycle that must leave nothing to do.
pub(crate) fn settle(engine: &mut Engine<Linux>, desired: &Desired, learned: &Learned) -> Applied {
    let outcome = cycle(engine, desired, learned);
    assert!(!outcome.retry, "{:?}", outcome.applied.failures);
    outcome.applied
}

/// A workload interface.
pub(crate) fn workload(addresses: &[&str]) -> WorkloadInterface {
    WorkloadInterface {
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        mac: Some([0x02, 0, 0, 0, 0, 0x01]),
    }
}

/// Interfaces by name.
pub(crate) fn interfaces(list: &[(&str, &[&str])]) -> BTreeMap<String, WorkloadInterface> {
    list.iter().map(|(name, addresses)| (name.to_string(), workload(addresses))).collect()
}

/// A route over gateways.
pub(crate) fn gateways(list: &[(&str, &str, bool)]) -> RouteTarget {
    let gateway = |(address, interface, onlink): &(&str, &str, bool)| Gateway {
        address: address.parse().unwrap(),
        interface: interface.to_string(),
        onlink: *onlink,
    };
    RouteTarget::Gateways(list.iter().map(gateway).collect())
}

/// Names of the interfaces that are wired.
pub(crate) fn wired(applied: &Applied) -> BTreeSet<String> {
    applied.interfaces.keys().cloned().collect()
}

/// A set of names.
pub(crate) fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Learned routes: prefix and next hops.
pub(crate) fn learned(list: &[(&str, &[&str])], converged: bool) -> Learned {
    let routes = list.iter().map(|(prefix, next_hops)| {
        let next_hops: Vec<IpAddr> = next_hops.iter().map(|hop| hop.parse().unwrap()).collect();
        let route = LearnedRoute { next_hops, internal: true, local_pref: 100 };
        (prefix.parse().unwrap(), route)
    });
    Learned { routes: routes.collect(), converged }
}

/// What `ip monitor` sees of routes and neighbours, except the kernel's own doings in other tables.
pub(crate) struct Watch {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Watch {
    /// Starts, and returns once it sees and the kernel has nothing left to do by itself.
    pub(crate) fn start() -> Watch {
        at_rest();
        let mut child = Command::new("ip")
            .args(["monitor", "route", "neigh", "link", "address"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(stdout).map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let watch = Watch { child, lines };
        eventually("ip monitor listening", || {
            run(TOUCH);
            watch.lines.try_iter().any(|line| line.contains("192.0.2.98"))
        });
        watch
    }

    /// What was seen until now; `mark` is an address nobody uses.
    pub(crate) fn lines_until(self, mark: &str) -> Vec<String> {
        run(&format!("ip route add unreachable {mark} proto 99; ip route del unreachable {mark}"));
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(20)).expect("the mark is seen");
            if line.contains(mark) {
                return seen;
            }
            if !line.contains("192.0.2.98") {
                seen.push(line);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
