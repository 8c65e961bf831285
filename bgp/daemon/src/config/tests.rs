use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tortie_bgp::config::{AddPath, NextHopMode, Role};
use tortie_bgp::family::Family;
use tortie_bgp::filter::{PrefixMatch, Verdict};

use super::Config;

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("bgpd.yaml"))
        .unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
}

/// What is wrong with a file, as an operator reads it.
fn wrong(text: &str) -> String {
    format!("{:#}", anyhow::Error::from(Config::parse(text, Path::new("bgpd.yaml")).unwrap_err()))
}

const HEAD: &str = "as: 64512\nrouter-id: 10.0.0.1\n";

fn peer(lines: &str) -> String {
    format!("{HEAD}peers:\n- address: 10.0.0.2\n  as: 65000\n{lines}")
}

#[test]
fn the_shortest_file_listens_everywhere_and_announces_everything() {
    let config = parse(&peer(""));
    assert_eq!(config.speaker.listen, ["0.0.0.0:179", "[::]:179"].map(|a| a.parse::<SocketAddr>().unwrap()));
    assert_eq!(config.speaker.cluster_id, None);
    let (id, peer) = config.speaker.peers.first_key_value().unwrap();
    assert_eq!((*id, peer.name.as_str()), ("10.0.0.2:179".parse().unwrap(), "10.0.0.2"));
    assert_eq!(peer.families, [Family::Ipv4].into());
    assert!(peer.import.rules().is_empty());
    assert_eq!(peer.export.rules()[0].verdict, Verdict::Accept);
    assert_eq!(config.files, [Path::new("bgpd.yaml")]);
}

#[test]
fn every_field_arrives() {
    let config = parse(
        "as: 64512
router-id: 10.0.0.1
listen: [10.0.0.1, '[::1]:1790', '10.0.0.9:1179']
cluster-id: 1.2.3.4
originate: [172.16.0.0/24, 'fd00::/64']
defaults: {hold-time: 9, reflector-client: true, export: reject}
peers:
- name: tor
  address: fd00::2
  port: 1790
  as: 65000
  local-as: 65001
  local-address: fd00::1
  passive: true
  hold-time: 30
  keepalive-time: 3
  connect-retry: 2
  restart-time: 0
  next-hop: self
  allow-own-as: 2
  password: secret
  ttl-security: 3
  families: [ipv4, ipv6]
  extended-next-hop: true
  add-path: both
  extended-messages: false
  role: route-server-client
  strict-role: true
  require-policy: true
  max-prefixes: 10
  shutdown: new cable
  import: ['!10.1.0.0/16', '10.0.0.0/8+']
- {address: 10.0.0.3, as: 64512}
",
    );
    assert_eq!(config.speaker.cluster_id, Some("1.2.3.4".parse().unwrap()));
    assert_eq!(config.speaker.listen.len(), 3);
    assert_eq!(config.originate.len(), 2);
    let peer = &config.speaker.peers[&"[fd00::2]:1790".parse().unwrap()];
    assert_eq!((peer.name.as_str(), peer.remote_as, peer.local_as), ("tor", 65000, Some(65001)));
    assert_eq!(peer.local_address, Some("fd00::1".parse().unwrap()));
    assert!(peer.passive && peer.extended_next_hop && peer.strict_role && peer.require_policy);
    assert!(!peer.extended_messages && peer.reflector_client);
    assert_eq!((peer.hold_time, peer.connect_retry), (Duration::from_secs(30), Duration::from_secs(2)));
    assert_eq!((peer.keepalive_time, peer.restart_time), (Some(Duration::from_secs(3)), Duration::ZERO));
    assert_eq!((peer.next_hop, peer.allow_own_as), (NextHopMode::OwnAddress, 2));
    assert_eq!((peer.password.as_deref(), peer.ttl_security), (Some("secret"), Some(3)));
    assert_eq!(peer.families, [Family::Ipv4, Family::Ipv6].into());
    assert_eq!(peer.add_path, AddPath { send: true, receive: true });
    assert_eq!((peer.role, peer.max_prefixes), (Some(Role::RouteServerClient), Some(10)));
    assert_eq!(peer.shutdown.as_deref(), Some("new cable"));
    let import: Vec<_> = peer.import.rules().iter().map(|rule| (rule.prefix, rule.verdict)).collect();
    let net = |text: &str| text.parse().unwrap();
    assert_eq!(
        import,
        [
            (Some(PrefixMatch::Equal(net("10.1.0.0/16"))), Verdict::Reject),
            (Some(PrefixMatch::In(net("10.0.0.0/8"))), Verdict::Accept),
            (None, Verdict::Reject),
        ]
    );
    let other = &config.speaker.peers[&"10.0.0.3:179".parse().unwrap()];
    assert_eq!((other.hold_time, other.reflector_client), (Duration::from_secs(9), true));
    assert_eq!(other.export.rules()[0].verdict, Verdict::Reject);
}

#[test]
fn peers_with_the_same_rules_share_a_filter() {
    let config = parse(&peer(
        "- {address: 10.0.0.3, as: 65000}\n- {address: 10.0.0.4, as: 1, export: [10.0.0.0/8]}\n",
    ));
    let exports: Vec<_> = config.speaker.peers.values().map(|peer| &peer.export).collect();
    assert!(exports[0].is_same(exports[1]) && !exports[0].is_same(exports[2]));
}

#[test]
fn clients_make_a_reflector_of_the_router_id() {
    let config = parse(&peer("  reflector-client: true\n"));
    assert_eq!(config.speaker.cluster_id, Some("10.0.0.1".parse().unwrap()));
}

#[test]
fn a_required_policy_is_not_made_up() {
    assert!(
        parse(&peer("  require-policy: true\n")).speaker.peers.values().all(|p| p.export.rules().is_empty())
    );
    let config = parse(&peer("  require-policy: true\n  export: accept\n  import: accept\n"));
    assert!(
        config.speaker.peers.values().all(|p| p.export.rules().len() == 1 && p.import.rules().len() == 1)
    );
}

#[test]
fn mistakes_name_file_field_and_value() {
    for (line, words) in [
        ("  hold-time: 2\n", "peers[0] (10.0.0.2): hold-time: 2: must be 0 or at least 3 seconds"),
        ("  hold-time: 70000\n", "hold-time: 70000: must be 0 to 65535 seconds"),
        ("  restart-time: 5000\n", "restart-time: 5000: must be 0 to 4095 seconds"),
        ("  local-as: 0\n", "local-as: 0: AS 0 is reserved"),
        ("  port: 0\n", "port: 0: must not be zero"),
        ("  ttl-security: 0\n", "ttl-security: 0: must be 1 to 255 hops"),
        ("  local-address: fd00::1\n", "local-address: fd00::1: must be of the family"),
        ("  import: [10.0.0.1/8]\n", "import: 10.0.0.1/8: must be a prefix"),
        ("  export: ['10.0.0.0']\n", "export: 10.0.0.0: must be a prefix"),
        ("  export: [all]\n", "export: all: must be a prefix"),
        ("  password: ''\n", "password: 0 octets: a password has 1 to 80"),
        ("  password-file: /nonexistent\n", "password-file: /nonexistent: cannot be read: No such file"),
        ("  hold-tiem: 3\n", "unknown field `hold-tiem`"),
        ("  hold-time: soon\n", "hold-time"),
        ("  next-hop: mine\n", "unknown variant `mine`"),
        ("  import: maybe\n", "must be accept, reject or a list of prefixes"),
        ("- {address: 10.0.0.2, as: 1}\n", "peers[1]: 10.0.0.2:179: there is another peer"),
        ("- {as: 1}\n", "peers[1]: address: missing"),
        ("- {name: x, address: 10.0.0.4}\n", "peers[1] (x): as: missing"),
    ] {
        let error = wrong(&peer(line));
        assert!(error.starts_with("bgpd.yaml: ") && error.contains(words), "{line}: {error}");
    }
    for (text, words) in [
        ("as: 0\nrouter-id: 224.0.0.1\n", "as: 0: AS 0 is reserved; router-id: 224.0.0.1: must be"),
        (
            "as: 1\nrouter-id: 10.0.0.1\noriginate: [10.0.0.1/8]\n",
            "originate: 10.0.0.1/8: the address has bits",
        ),
        ("as: 1\nrouter-id: 10.0.0.1\nlisten: [eth0]\n", "listen: eth0: must be an address"),
        ("as: 1\nrouter-id: 10.0.0.1\ncluster-id: 0.0.0.0\n", "cluster-id: 0.0.0.0: must not be zero"),
        ("as: 1\nrouter-id: 10.0.0.1\ndefaults: {address: 10.0.0.2}\n", "defaults.address: given: belongs"),
        ("router-id: 10.0.0.1\n", "missing field `as`"),
    ] {
        let error = wrong(text);
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn a_password_file_is_read_and_watched() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "key\n").unwrap();
    let config = parse(&peer(&format!("  password-file: {}\n", file.display())));
    assert!(config.speaker.peers.values().all(|peer| peer.password.as_deref() == Some("key")));
    assert_eq!(config.files[1], file);
    let error = wrong(&peer(&format!("  password-file: {}\n  password: x\n", file.display())));
    assert!(error.contains("there is a password too"), "{error}");
}
