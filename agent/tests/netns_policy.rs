//! What policy does besides letting packets pass, on a real kernel: lines of the log.

#![allow(clippy::unwrap_used, reason = "a test")]

mod netns;

use std::process::Command;
use std::sync::Arc;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use netns::{Learned, PODS, engine, eventually, inside, interfaces, names, run, settle, wired};
use tortie_agent::desired::Desired;
use tortie_model::resource::{NetworkPolicySpec, ProfileSpec, StagedNetworkPolicySpec, TierSpec};
use tortie_model::rule::{Action, Rule};
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
    let spec = NetworkPolicySpec {
        selector: "pod == '2'".into(),
        ingress: rules(actions),
        ..NetworkPolicySpec::default()
    };
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

/// A group of nflog, of the namespace.
struct LogGroup(Socket);

impl LogGroup {
    const CONFIGURE: u16 = 4 << 8 | 1;
    const PACKET: u16 = 4 << 8;
    const PREFIX: u16 = 10;

    fn listen(group: u16) -> LogGroup {
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind_auto().unwrap();
        socket.connect(&NetlinkAddress::new(0, 0)).unwrap();
        socket.set_non_blocking(true).unwrap();
        let mut body = vec![0, 0];
        body.extend(group.to_be_bytes());
        // Bind; whole packets; tell each at once.
        for (kind, value) in [(1u16, &[1u8][..]), (2, &[0, 0, 0xff, 0xff, 2, 0][..]), (5, &[0, 0, 0, 1][..])]
        {
            body.extend((4 + value.len() as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(LogGroup::CONFIGURE.to_ne_bytes());
        bytes.extend([5, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(body);
        socket.send(&bytes, 0).unwrap();
        let mut answer = Vec::with_capacity(1 << 12);
        socket.recv(&mut answer, 0).unwrap();
        assert_eq!(answer[16..20], [0; 4], "listening to the group");
        LogGroup(socket)
    }

    /// Prefixes of what has arrived since the last time.
    fn prefixes(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut buffer = Vec::with_capacity(1 << 16);
        while self.0.recv(&mut buffer, 0).is_ok() {
            let mut rest = &buffer[..];
            while rest.len() >= 20 {
                let length = u32::from_ne_bytes(*rest.first_chunk().unwrap()) as usize;
                if u16::from_ne_bytes([rest[4], rest[5]]) == LogGroup::PACKET {
                    found.push(prefix(&rest[20..length]));
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            buffer.clear();
        }
        found
    }
}

fn prefix(mut attributes: &[u8]) -> String {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        if u16::from_ne_bytes([attributes[2], attributes[3]]) == LogGroup::PREFIX {
            return String::from_utf8_lossy(&attributes[4..length - 1]).into_owned();
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    panic!("a packet without a prefix")
}

#[test]
fn what_a_log_rule_matches_reaches_its_group_as_often_as_it_may() {
    inside("what_a_log_rule_matches_reaches_its_group_as_often_as_it_may", || {
        run(PODS);
        let mut group = LogGroup::listen(7);
        let mut engine = engine();
        let mut logged = |limit| {
            let log = LogFormat { prefix: "%t|%k|%n".into(), group: Some(7), limit };
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
        assert_eq!(logged(None), ["default|np|shop/web: "; 3]);
        let hourly = Limit { packets: 1, period: Period::Hour, burst: 1 };
        assert_eq!(logged(Some(hourly)), ["default|np|shop/web: "]);
    });
}
