//! What policy does besides letting packets pass, on a real kernel: lines of the log, flows that go on, counters.

#![allow(clippy::unwrap_used, reason = "a test")]

mod netns;
mod nflog;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netns::{Learned, PODS, at_rest, engine, eventually, inside, interfaces, names, run, settle, wired};
use nflog::LogGroup;
use nix::sched::{CloneFlags, setns};
use tokio::sync::watch;
use tortie_agent::dataplane::{self, Manner};
use tortie_agent::desired::{Applied, Desired, LearnedChanges};
use tortie_agent::kernel::{FlowTable, Ownership, TrackedFlow};
use tortie_agent::learned::LearnedQueue;
use tortie_agent::metrics::{self, Listen};
use tortie_model::resource::{NetworkPolicySpec, ProfileSpec, StagedNetworkPolicySpec, TierSpec};
use tortie_model::rule::{Action, EntityRule, Rule};
use tortie_policy::ir::{Limit, Period};
use tortie_policy::snapshot::{
    Endpoint, EndpointId, LogFormat, Options, PolicyBody, PolicyId, StagedBody, Surroundings,
};
use tortie_policy::{Engine, Snapshot};

fn rules(actions: &[Action]) -> Vec<Rule> {
    actions.iter().map(|action| Rule { action: *action, ..Rule::default() }).collect()
}

/// Both pods may do everything, but for policy `shop/web`, which has these rules for what comes to the second; staged
/// `shop/next` would deny it.
fn desired(actions: &[Action], options: &Options) -> Desired {
    desired_of(rules(actions), options)
}

fn desired_of(ingress: Vec<Rule>, options: &Options) -> Desired {
    let open = rules(&[Action::Allow]);
    let mut snapshot = Snapshot::default();
    let profile = ProfileSpec { ingress: open.clone(), egress: open, ..ProfileSpec::default() };
    snapshot.profiles.insert("open".into(), Some(profile));
    snapshot.tiers.insert("default".into(), TierSpec::default());
    for pod in ["1", "2"] {
        let endpoint = Endpoint {
            labels: [("pod", pod), ("projectcalico.org/namespace", "shop")].into_iter().collect(),
            profiles: vec!["open".into()],
            addresses: [format!("192.168.1.{pod}").parse().unwrap()].into(),
            interface: Some(format!("cali{pod}")),
            ..Endpoint::default()
        };
        let id = EndpointId { namespace: "shop".into(), name: format!("pod{pod}") };
        snapshot.endpoints.insert(Arc::new(id), Arc::new(endpoint));
    }
    let spec = NetworkPolicySpec { selector: "pod == '2'".into(), ingress, ..NetworkPolicySpec::default() };
    let id = PolicyId { namespace: "shop".into(), name: "web".into() };
    snapshot.policies.insert(id, PolicyBody::Network(Box::new(spec)));
    let staged = StagedNetworkPolicySpec {
        selector: "pod == '2'".into(),
        ingress: rules(&[Action::Deny]),
        ..StagedNetworkPolicySpec::default()
    };
    let id = PolicyId { namespace: "shop".into(), name: "next".into() };
    snapshot.staged.insert(id, StagedBody::Network(Box::new(staged)));
    let mut policy = Engine::default();
    policy.set_all(&snapshot);
    policy.set_surroundings(&Surroundings { options: options.clone(), ..Surroundings::default() });
    let compiled = policy.flush();
    assert_eq!(compiled.problems, []);
    Desired {
        interfaces: interfaces(&[("cali1", &["192.168.1.1"]), ("cali2", &["192.168.1.2"])]),
        ruleset: Arc::new(compiled.ruleset),
        ..Desired::default()
    }
}

fn pings() -> bool {
    let ping = ["netns", "exec", "pod1", "ping", "-c", "1", "-W", "1", "192.168.1.2"];
    Command::new("ip").args(ping).output().unwrap().status.success()
}

#[test]
fn what_a_log_rule_matches_reaches_its_group_as_often_as_it_may() {
    inside("what_a_log_rule_matches_reaches_its_group_as_often_as_it_may", || {
        run(PODS);
        let mut group = LogGroup::listen(7);
        let mut engine = engine();
        let mut logged = |limit| {
            let log = LogFormat { prefix: "%t|%k|%n|%r".into(), group: Some(7), limit };
            let options = Options { log, ..Options::default() };
            let learned = Learned { converged: true, ..Learned::default() };
            let wanted = desired(&[Action::Log, Action::Allow], &options);
            assert_eq!(wired(&settle(&mut engine, &wanted, &learned)), names(&["cali1", "cali2"]));
            if limit.is_none() {
                eventually("the pod is reached", pings);
            }
            group.prefixes();
            // Each is a flow of its own: rules see its first packet.
            assert!((0..3).all(|_| pings()));
            group.prefixes()
        };
        assert_eq!(logged(None), ["default|np|shop/web|ingress[0]: "; 3]);
        let hourly = Limit { packets: 1, period: Period::Hour, burst: 1 };
        assert_eq!(logged(Some(hourly)), ["default|np|shop/web|ingress[0]: "]);
    });
}

/// The running data plane.
struct Plane {
    runtime: tokio::runtime::Runtime,
    desired: watch::Sender<Option<Arc<Desired>>>,
    applied: watch::Receiver<Arc<Applied>>,
    options: Options,
}

impl Plane {
    fn start(reevaluate: bool) -> Plane {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (desired, desired_seen) = watch::channel(None);
        let (told, applied) = watch::channel(Arc::new(Applied::default()));
        let learned = LearnedQueue::default();
        learned.put(LearnedChanges { converged: true, ..LearnedChanges::default() });
        let manner = Manner { ownership: Ownership::Shared, reevaluate };
        let questions = dataplane::question::channel().1;
        runtime.spawn(dataplane::run(desired_seen, learned, told, questions, manner));
        let options = Options { stop_refused: reevaluate, ..Options::default() };
        Plane { runtime, desired, applied, options }
    }

    fn wants(&self, actions: &[Action]) {
        self.desired.send_replace(Some(Arc::new(desired(actions, &self.options))));
        eventually("both pods are wired", || wired(&self.applied.borrow()) == names(&["cali1", "cali2"]));
    }
}

/// Runs something in the network of a pod.
fn in_pod<T: Send + 'static>(pod: u8, body: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let file = std::fs::File::open(format!("/run/netns/pod{pod}")).unwrap();
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        body()
    });
    thread.join().unwrap()
}

/// Flows that the first pod opened to the second, by name: the two ends.
struct Flows {
    tcp: (TcpStream, TcpStream),
    udp: (UdpSocket, UdpSocket),
}

/// How long a packet that arrives at all may take; a lost one of TCP is sent again within.
const SOON: Option<Duration> = Some(Duration::from_millis(500));

impl Flows {
    fn begin() -> Flows {
        let server = |port| SocketAddr::from(([192, 168, 1, 2], port));
        let listener = in_pod(2, move || TcpListener::bind(server(0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let client = in_pod(1, move || TcpStream::connect(server(port)).unwrap());
        let tcp = (client, listener.accept().unwrap().0);
        let answering = in_pod(2, move || UdpSocket::bind(server(0)).unwrap());
        let port = answering.local_addr().unwrap().port();
        let asking = in_pod(1, || UdpSocket::bind(("192.168.1.1", 0)).unwrap());
        asking.connect(server(port)).unwrap();
        answering.connect(asking.local_addr().unwrap()).unwrap();
        for socket in [&tcp.0, &tcp.1] {
            socket.set_read_timeout(SOON).unwrap();
        }
        for socket in [&asking, &answering] {
            socket.set_read_timeout(SOON).unwrap();
        }
        let flows = Flows { tcp, udp: (asking, answering) };
        assert!(flows.passes("tcp there") && flows.passes("udp there"));
        assert!(flows.passes("tcp back") && flows.passes("udp back"));
        flows
    }

    /// Whether something sent this way arrives.
    fn passes(&self, way: &str) -> bool {
        let mut buffer = [0; 64];
        let ((client, server), (asking, answering)) = (&self.tcp, &self.udp);
        let mut stream = |mut from: &TcpStream, mut to: &TcpStream| {
            from.write_all(b"x").unwrap();
            to.read(&mut buffer).is_ok_and(|length| length > 0)
        };
        match way {
            "tcp there" => stream(client, server),
            "tcp back" => stream(server, client),
            "udp there" => asking.send(b"x").is_ok() && answering.recv(&mut buffer).is_ok(),
            _ => answering.send(b"x").is_ok() && asking.recv(&mut buffer).is_ok(),
        }
    }
}

/// Marks of others, who count flows that have another than theirs, with our bit or without, and those with our bit.
const OTHERS_MARK: &str = "nft 'table inet other { chain marks { type filter hook forward priority -10; \
     ct state new ct mark set 0x40000001; ct mark 0x40020001 counter; \
     ct state established ct mark != { 0x40000001, 0x40020001 } counter; }; }'";

const WAYS: [&str; 4] = ["tcp there", "tcp back", "udp there", "udp back"];

#[test]
fn flows_go_on_when_policy_changes_unless_told_otherwise() {
    inside("flows_go_on_when_policy_changes_unless_told_otherwise", || {
        run(PODS);
        run(OTHERS_MARK);
        for reevaluate in [false, true] {
            let plane = Plane::start(reevaluate);
            plane.wants(&[Action::Allow]);
            eventually("the pod is reached", pings);
            let flows = Flows::begin();
            plane.wants(&[Action::Deny]);
            eventually("policy denies", || !pings());
            if !reevaluate {
                assert!(WAYS.iter().all(|way| flows.passes(way)));
                continue;
            }
            for way in WAYS {
                eventually(&format!("{way} stops"), || !flows.passes(way));
            }
            // Also when the other end sends first, as it would to open a flow that policy allows.
            assert_eq!(WAYS.map(|way| flows.passes(way)), [false; 4]);
            assert!(run("nft list chain inet tortie forward").contains("policy no longer allows the flow"));
            plane.wants(&[Action::Allow]);
            for way in WAYS {
                eventually(&format!("{way} goes on"), || flows.passes(way));
            }
            let others = run("nft list chain inet other marks");
            assert!(!others.contains("0x40020001 counter packets 0"), "{others}");
            assert!(others.contains("0x40020001 } counter packets 0"), "{others}");
            drop(plane.desired);
            plane.runtime.shutdown_timeout(Duration::from_secs(10));
        }
    });
}

#[test]
fn flows_are_read_as_policy_sees_them_and_marked_one_by_one() {
    inside("flows_are_read_as_policy_sees_them_and_marked_one_by_one", || {
        run("ip addr add fd01::1/128 dev lo nodad");
        // A socket keeps the route it was connected by, and without this that may be one that discards.
        at_rest();
        run(
            "nft 'table inet other { chain track { type filter hook output priority 0; ct state new accept; }; \
             chain nat { type nat hook output priority -100; ip daddr 127.0.0.9 udp dport 99 dnat to 127.0.0.2:9; }; }'",
        );
        // Somebody takes the packets, so that no errors come in between.
        let _sink = UdpSocket::bind("[::]:9").unwrap();
        let sender = |from: &str, to: &str| {
            let socket = UdpSocket::bind((from, 4000)).unwrap();
            socket.connect(to).unwrap();
            socket
        };
        let senders = [sender("127.0.0.1", "127.0.0.9:99"), sender("fd01::1", "[fd01::1]:9")];
        let mut table = FlowTable::open().unwrap();
        let mut read = || {
            let told = |tracked: &TrackedFlow| {
                let flow = &tracked.flow;
                let (original, icmp) = (flow.original.map(SocketAddr::from), flow.icmp);
                let text = format!("{} > {} {:?}", flow.source, flow.destination, flow.ports);
                format!("{text} {original:?} {icmp:?} {}", tracked.refused)
            };
            let flows = table.flows(|_| true).unwrap();
            flows.into_iter().map(|tracked| (told(&tracked), tracked)).collect::<BTreeMap<_, _>>()
        };
        let expected = [
            "127.0.0.1 > 127.0.0.2 Some((4000, 9)) Some(127.0.0.9:99) None",
            "127.0.0.3 > 127.0.0.3 None None Some((8, 0))",
            "fd01::1 > fd01::1 None None Some((128, 0))",
            "fd01::1 > fd01::1 Some((4000, 9)) None None",
        ];
        let names = |refused: &str| -> Vec<String> {
            expected
                .iter()
                .map(|name| format!("{name} {}", name.starts_with(refused) && !refused.is_empty()))
                .collect()
        };
        let mut flows = BTreeMap::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while flows.keys().cloned().collect::<Vec<_>>() != names("") {
            assert!(Instant::now() < deadline, "tracked are {:?}", flows.keys());
            assert!(senders.iter().all(|socket| socket.send(b"x").is_ok()));
            run("ping -c 1 fd01::1; ping -c 1 -I 127.0.0.3 127.0.0.3");
            flows = read();
        }
        let first = flows.values().next().unwrap();
        let mut other = FlowTable::open().unwrap();
        for (refused, marked) in [(true, "127.0.0.1"), (true, "127.0.0.1"), (false, "")] {
            other.set_refused(&[(first, refused)]).unwrap();
            assert_eq!(read().into_keys().collect::<Vec<_>>(), names(marked));
        }
        // One that is over, or in another zone, does not matter; what the kernel cannot read does.
        let gone = TrackedFlow { zone: Some(vec![0, 9]), ..first.clone() };
        other.set_refused(&[(&gone, true)]).unwrap();
        let broken = TrackedFlow { tuple: Vec::new(), ..first.clone() };
        other.set_refused(&[(&broken, true)]).unwrap_err();
    });
}

/// What is served at a port of this machine; `None` when nobody listens any more.
fn scrape(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    Some(body.to_owned())
}

#[test]
fn metrics_tell_what_policies_counted() {
    inside("metrics_tell_what_policies_counted", || {
        run(PODS);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (wanted, reader) = watch::channel(None);
        let (told, of_rules) = watch::channel(None);
        runtime.spawn(metrics::run(reader, of_rules));
        assert_eq!(scrape(9091), None);
        wanted.send_replace(Some(Listen { host: None, port: 9091 }));
        eventually("metrics are served", || scrape(9091).is_some());
        assert!(!scrape(9091).unwrap().contains("direction"), "no table, no rules");

        let mut engine = engine();
        let learned = Learned { converged: true, ..Learned::default() };
        settle(&mut engine, &desired(&[Action::Allow], &Options::default()), &learned);
        eventually("the pod is reached", pings);
        let packets = |line: &str| -> u64 {
            let text = scrape(9091).unwrap();
            let found = text.lines().find_map(|found| found.strip_prefix(line));
            found.unwrap_or_else(|| panic!("{line} in {text}")).trim().parse().unwrap()
        };
        let lines = [
            "tortie_policy_packets_total{tier=\"default\",namespace=\"shop\",policy=\"web\",direction=\"ingress\",action=\"allow\"}",
            "tortie_staged_policy_packets_total{namespace=\"shop\",policy=\"next\",direction=\"ingress\",action=\"deny\"}",
            "tortie_profile_packets_total{profile=\"open\",direction=\"egress\",action=\"allow\"}",
        ];
        let before = lines.map(packets);
        assert!((0..3).all(|_| pings()));
        assert_eq!(lines.map(packets), before.map(|count| count + 3));
        let bytes = lines[0].replace("packets", "bytes");
        assert_eq!(packets(&bytes), 84 * packets(lines[0]), "20 of IP, 8 of ICMP, 56");

        // Three rules that become one set count by element, and nothing that was counted is lost.
        let from = |net: &str| Rule {
            source: EntityRule { nets: vec![net.parse().unwrap()], ..EntityRule::default() },
            ..Rule::default()
        };
        let nets = ["192.168.1.1/32", "192.168.1.8/32", "192.168.1.9/32"];
        let merged = desired_of(nets.map(from).into(), &Options::default());
        assert_eq!(merged.ruleset.origins.merged.len(), 1, "{:?}", merged.ruleset.origins);
        let before = lines.map(packets);
        settle(&mut engine, &merged, &learned);
        told.send_replace(Some(Arc::new(merged)));
        assert!((0..3).all(|_| pings()));
        assert_eq!(lines.map(packets), before.map(|count| count + 3));

        wanted.send_replace(Some(Listen { host: Some([127, 0, 0, 1].into()), port: 9092 }));
        eventually("metrics move", || scrape(9092).is_some() && scrape(9091).is_none());
        wanted.send_replace(None);
        eventually("metrics are off", || scrape(9092).is_none());
    });
}
