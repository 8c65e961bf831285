//! Speakers with real sockets on 127.0.0.0/8.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::Receiver;
use tortie_bgp::filter::{Filter, Rule, Verdict};
use tortie_bgp::net::{Handle, TableEvent, start};
use tortie_bgp::snapshot::{SessionState, Snapshot};
use tortie_bgp::table::OriginatedRoute;
use tortie_bgp::{PeerConfig, SpeakerConfig};

const DEADLINE: Duration = Duration::from_secs(20);

/// A port free on every address of 127.0.0.0/8 for now.
fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn accept_all() -> Filter {
    Filter::new(vec![Rule::new("all", Verdict::Accept)])
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// Node `last` on 127.0.0.last with these peers: last octet and whether we are passive.
fn config(last: u8, port: u16, peers: &[(u8, bool)]) -> SpeakerConfig {
    let peers = peers.iter().map(|(other, passive)| {
        let mut peer = PeerConfig::new(format!("Mesh_127_0_0_{other}"), 64512);
        peer.local_address = Some(address(last));
        peer.passive = *passive;
        peer.export = accept_all();
        (SocketAddr::new(address(*other), port), peer)
    });
    SpeakerConfig {
        router_id: Ipv4Addr::new(10, 0, 0, last),
        local_as: 64512,
        listen: vec![SocketAddr::new(address(last), port)],
        cluster_id: None,
        peers: peers.collect(),
    }
}

fn routes(prefixes: &[&str]) -> BTreeMap<IpNetwork, OriginatedRoute> {
    prefixes
        .iter()
        .map(|prefix| (prefix.parse().unwrap(), OriginatedRoute { local_pref: 2147482623 }))
        .collect()
}

async fn until(handle: &Handle, what: &str, mut condition: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    let end = Instant::now() + DEADLINE;
    loop {
        let snapshot = handle.snapshot().await;
        if condition(&snapshot) {
            return snapshot;
        }
        assert!(Instant::now() < end, "never: {what}; last seen {snapshot:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn established(snapshot: &Snapshot) -> usize {
    snapshot.peers.values().filter(|peer| peer.state == SessionState::Established).count()
}

fn has(snapshot: &Snapshot, prefix: &str) -> bool {
    snapshot.routes.contains_key(&prefix.parse::<IpNetwork>().unwrap())
}

fn table(receiver: &mut Receiver<TableEvent>) -> Vec<TableEvent> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

#[tokio::test]
async fn two_nodes_exchange_routes_and_converge() {
    let port = free_port();
    let (a, mut table_a) = start(Some(config(1, port, &[(2, true)])), false);
    let (b, _table_b) = start(None, false);
    b.configure(config(2, port, &[(1, false)]));
    a.originate(routes(&["10.1.0.0/26"]));
    b.originate(routes(&["10.2.0.0/26", "10.2.0.64/26"]));
    let seen = until(&a, "two routes at a", |s| s.routes.len() == 2 && s.converged).await;
    assert_eq!(seen.routes[&"10.2.0.0/26".parse().unwrap()].next_hops, [address(2)]);
    assert_eq!(seen.routes[&"10.2.0.0/26".parse().unwrap()].local_pref, 2147482623);
    until(&b, "a route at b", |s| has(s, "10.1.0.0/26") && established(s) == 1).await;

    b.originate(routes(&["10.2.0.0/26"]));
    until(&a, "the withdrawal", |s| s.routes.len() == 1).await;
    let events = table(&mut table_a);
    assert!(matches!(events.last(), Some(TableEvent::Changes(_))), "{events:?}");
    assert!(events.contains(&TableEvent::Converged), "{events:?}");
}

#[tokio::test]
async fn both_dial_at_once_and_one_session_stays() {
    for round in 0..5 {
        let port = free_port();
        let (a, _ra) = start(Some(config(11, port, &[(12, false)])), false);
        let (b, _rb) = start(Some(config(12, port, &[(11, false)])), false);
        a.originate(routes(&["10.1.0.0/26"]));
        b.originate(routes(&["10.2.0.0/26"]));
        until(&a, &format!("b's route, round {round}"), |s| has(s, "10.2.0.0/26")).await;
        until(&b, &format!("a's route, round {round}"), |s| has(s, "10.1.0.0/26")).await;
        a.shutdown().await;
        b.shutdown().await;
    }
}

#[tokio::test]
async fn a_taken_port_is_reported_and_retried() {
    let port = free_port();
    let squatter = TcpListener::bind(SocketAddr::new(address(21), port)).unwrap();
    let (a, _ra) = start(Some(config(21, port, &[])), false);
    let seen = until(&a, "the listen error", |s| !s.listen_errors.is_empty()).await;
    assert_eq!(seen.listen_errors.values().next().unwrap(), "Address already in use");
    drop(squatter);
    until(&a, "the port taken over", |s| s.listen_errors.is_empty()).await;
}

#[tokio::test]
async fn a_refused_dial_says_so() {
    let port = free_port();
    let (a, _ra) = start(Some(config(31, port, &[(32, false)])), false);
    let seen = until(&a, "an error", |s| s.peers.values().any(|p| p.last_error.is_some())).await;
    let peer = seen.peers.values().next().unwrap();
    assert_eq!(peer.last_error.as_deref(), Some("connect: Connection refused"));
}

/// Connections without end neither fill the table of them nor keep a session from coming up.
#[tokio::test]
async fn strangers_in_a_loop_are_closed_and_others_come_up() {
    let port = free_port();
    let (a, _ra) = start(Some(config(41, port, &[(42, true)])), false);
    until(&a, "the socket", |s| s.listen_errors.is_empty()).await;
    let mut answered = 0;
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(SocketAddr::new(address(41), port)).await.unwrap();
        let mut said = Vec::new();
        // Closed or reset: both are an end.
        let end = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut said)).await;
        end.expect("closed").ok();
        answered += usize::from(!said.is_empty());
    }
    assert!((10..50).contains(&answered), "a NOTIFICATION for the first ones only: {answered}");
    let (b, _rb) = start(Some(config(42, port, &[(41, false)])), false);
    until(&b, "the session", |s| established(s) == 1).await;
}

/// A node in a runtime of its own, so that it can die without a word.
fn start_apart(
    config: SpeakerConfig,
    restarted: bool,
    prefixes: &[&str],
) -> (tokio::runtime::Runtime, Handle) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (handle, _table) = runtime.block_on(async { start(Some(config), restarted) });
    handle.originate(routes(prefixes));
    (runtime, handle)
}

#[test]
fn a_node_that_dies_and_comes_back_costs_its_peer_no_route() {
    let port = free_port();
    let watcher = tokio::runtime::Runtime::new().unwrap();
    for (peer_is_passive, stopped_cleanly) in [(true, false), (false, false), (true, true)] {
        let (b, mut table_b) =
            watcher.block_on(async { start(Some(config(42, port, &[(41, peer_is_passive)])), false) });
        b.originate(routes(&["10.2.0.0/26"]));
        let (runtime, a) = start_apart(config(41, port, &[(42, !peer_is_passive)]), false, &["10.1.0.0/26"]);
        watcher.block_on(until(&b, "a's route", |s| has(s, "10.1.0.0/26")));
        if stopped_cleanly {
            runtime.block_on(a.shutdown());
        }
        runtime.shutdown_background();
        watcher.block_on(until(&b, "the loss", |s| established(s) == 0));
        let (runtime, a) = start_apart(config(41, port, &[(42, !peer_is_passive)]), true, &["10.1.0.0/26"]);
        watcher.block_on(until(&b, "the session", |s| established(s) == 1));
        watcher.block_on(until(&a, "the start complete", |s| s.converged && has(s, "10.2.0.0/26")));
        watcher.block_on(until(&b, "the route confirmed", |s| has(s, "10.1.0.0/26")));
        let lost = |event: &TableEvent| match event {
            TableEvent::Changes(changes) => changes.iter().any(|change| change.route.is_none()),
            TableEvent::Converged => false,
        };
        assert!(!table(&mut table_b).iter().any(lost), "passive peer {peer_is_passive}");
        runtime.shutdown_background();
        watcher.block_on(b.shutdown());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_peers_that_dial_at_once_are_up_soon() {
    let port = free_port();
    let others: Vec<u8> = (51..251).collect();
    let passive: Vec<(u8, bool)> = others.iter().map(|other| (*other, true)).collect();
    let mut nodes = Vec::new();
    for other in &others {
        let node = start(Some(config(*other, port, &[(50, false)])), false);
        node.0.originate(routes(&[&format!("10.{other}.0.0/26")]));
        nodes.push(node);
    }
    let (hub, _table) = start(Some(config(50, port, &passive)), false);
    hub.originate(routes(&["10.50.0.0/26"]));
    let begin = Instant::now();
    until(&hub, "200 sessions and routes", |s| established(s) == 200 && s.routes.len() == 200).await;
    println!("200 sessions with a route each: {:?}", begin.elapsed());
    for (node, _) in &nodes {
        until(node, "the hub's route", |s| has(s, "10.50.0.0/26")).await;
    }
}

fn with_password(mut config: SpeakerConfig, password: &str) -> SpeakerConfig {
    for peer in config.peers.values_mut() {
        peer.password = Some(password.to_owned());
        peer.connect_retry = Duration::from_secs(1);
    }
    config
}

fn time_established(snapshot: &Snapshot) -> Duration {
    let peer = snapshot.peers.values().next().unwrap();
    assert_eq!(peer.state, SessionState::Established, "{peer:?}");
    peer.since
}

/// RFC 2385 4.5 wishes for it: the key changes while the session lives, first at one end, then at the other.
#[tokio::test]
async fn a_changed_password_costs_neither_the_session_nor_a_route() {
    for a_dials in [true, false] {
        let port = free_port();
        let at = |last: u8, password: &str| {
            with_password(config(last, port, &[(163 - last, (last == 81) != a_dials)]), password)
        };
        let (a, mut table_a) = start(Some(at(81, "first")), false);
        let (b, mut table_b) = start(Some(at(82, "first")), false);
        a.originate(routes(&["10.1.0.0/26"]));
        b.originate(routes(&["10.2.0.0/26"]));
        until(&a, "b's route", |s| has(s, "10.2.0.0/26")).await;
        until(&b, "a's route", |s| has(s, "10.1.0.0/26")).await;
        let begin = Instant::now();
        for password in ["second", "third"] {
            a.configure(at(81, password));
            a.originate(routes(&["10.1.0.0/26", &format!("10.1.1.{}/32", password.len())]));
            // Until the other end has the key, too, the new route cannot arrive.
            let quiet = Instant::now() + Duration::from_millis(300);
            while Instant::now() < quiet {
                assert_eq!(b.snapshot().await.routes.len(), 1);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            b.configure(at(82, password));
            until(&b, "the new route", |s| has(s, &format!("10.1.1.{}/32", password.len()))).await;
            a.originate(routes(&["10.1.0.0/26"]));
            until(&b, "its withdrawal", |s| s.routes.len() == 1).await;
        }
        for handle in [&a, &b] {
            assert!(time_established(&handle.snapshot().await) >= begin.elapsed(), "a session of before");
        }
        let lost = |events: Vec<TableEvent>| {
            events.into_iter().any(|event| match event {
                TableEvent::Changes(changes) => {
                    changes.iter().any(|c| c.route.is_none() && !c.prefix.to_string().ends_with("/32"))
                }
                TableEvent::Converged => false,
            })
        };
        assert!(!lost(table(&mut table_a)) && !lost(table(&mut table_b)));
        // A new connection is made under the new key, whoever dials.
        a.shutdown().await;
        let (a, _table) = start(Some(at(81, "third")), true);
        a.originate(routes(&["10.1.0.0/26"]));
        until(&a, "b's route again", |s| has(s, "10.2.0.0/26")).await;
        a.shutdown().await;
        b.shutdown().await;
    }
}

#[tokio::test]
async fn keys_that_differ_are_suspected() {
    let port = free_port();
    let (a, _ra) = start(Some(with_password(config(83, port, &[(84, false)]), "one")), false);
    let (b, _rb) = start(Some(with_password(config(84, port, &[(83, false)]), "two")), false);
    for handle in [&a, &b] {
        until(handle, "the suspicion", |s| {
            let error = s.peers.values().next().unwrap().last_error.clone().unwrap_or_default();
            error.starts_with("connect: no answer; is the TCP-MD5 key that of the peer?")
                && error.contains("wrong in ")
        })
        .await;
    }
    // The dial that got no answer is made anew with the new key.
    b.configure(with_password(config(84, port, &[(83, false)]), "one"));
    until(&b, "the session", |s| established(s) == 1).await;
}

/// The key of an IPv6 connection, on the one address a loopback has.
#[tokio::test]
async fn a_changed_password_over_ipv6() {
    let localhost: IpAddr = "::1".parse().unwrap();
    let (port_a, port_b) = (free_port(), free_port());
    let at = |own: u16, other: u16, password: &str| {
        let mut config = with_password(config(91, own, &[(92, own == port_b)]), password);
        config.router_id = Ipv4Addr::from(u32::from(own));
        config.listen = vec![SocketAddr::new(localhost, own)];
        let mut peer = config.peers.pop_first().unwrap().1;
        (peer.local_address, peer.hold_time) = (Some(localhost), Duration::from_secs(3));
        config.peers.insert(SocketAddr::new(localhost, other), peer);
        config
    };
    let (a, _ra) = start(Some(at(port_a, port_b, "first")), false);
    let (b, _rb) = start(Some(at(port_b, port_a, "first")), false);
    until(&a, "the session", |s| established(s) == 1).await;
    let begin = Instant::now();
    b.configure(at(port_b, port_a, "second"));
    a.configure(at(port_a, port_b, "second"));
    // KEEPALIVEs under the new key hold it beyond the hold time.
    until(&a, "the session at five seconds", |s| time_established(s) > Duration::from_secs(5)).await;
    assert!(time_established(&a.snapshot().await) >= begin.elapsed(), "a session of before");
    a.configure(at(port_a, port_b, "third"));
    until(&a, "the end of it with two keys", |s| established(s) == 0).await;
    let error = a.snapshot().await.peers.into_values().next().unwrap().last_error.unwrap();
    assert!(error.contains("Hold Timer Expired") || error.contains("connect: "), "{error}");
}
