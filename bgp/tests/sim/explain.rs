//! What operators are told agrees with what the speaker does, whatever happened to it; and why a peer is told nothing.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use tortie_bgp::config::NextHopMode;
use tortie_bgp::filter::{Change, Filter, PrefixMatch, Rule, Verdict};
use tortie_bgp::query::{Attributes, Cursor, Explanation, Query, QueryError, Route, Standing, Told, View};
use tortie_bgp::speaker::Speaker;

use super::network::{Network, accept_all, address, config, peer, peer_id, routes};
use super::{SECOND, reflector};

const NODES: usize = 4;

/// Everything of a view, in pages of two.
fn all(speaker: &Speaker, view: View, peer: Option<&str>) -> Vec<Route> {
    let mut query = Query { limit: 2, ..Query::new(view, peer) };
    let mut routes = Vec::new();
    loop {
        let page = speaker.routes(&query).unwrap();
        routes.extend(page.routes);
        let Some(next) = page.next else { return routes };
        query.from = next.to_string().parse().unwrap();
    }
}

fn explain(network: &Network, node: usize, prefix: &str) -> Explanation {
    network.nodes[node].speaker.as_ref().unwrap().explain(prefix.parse().unwrap(), None).unwrap()
}

fn told(explanation: &Explanation, peer: usize) -> &Told {
    explanation.peers.iter().find(|told| told.peer.id == peer_id(peer)).unwrap()
}

/// Why a peer does not get the only route in question.
fn withheld(explanation: &Explanation, peer: usize) -> &str {
    match &told(explanation, peer).routes[..] {
        [only] => only.outcome.as_ref().unwrap_err(),
        routes => panic!("{routes:?}"),
    }
}

type Announced = BTreeMap<(IpNetwork, Option<u32>), Attributes>;

/// What the explanations of all prefixes say a peer is told.
fn explained(speaker: &Speaker, peer: &str) -> Announced {
    let prefixes = all(speaker, View::Table, None).into_iter().map(|route| route.prefix);
    let mut announced = Announced::new();
    for prefix in prefixes.collect::<std::collections::BTreeSet<_>>() {
        let explanation = speaker.explain(prefix, Some(peer)).unwrap();
        assert_eq!((explanation.prefix, explanation.peers.len()), (Some(prefix), 1));
        for announcement in &explanation.peers[0].routes {
            if let Ok(sent) = &announcement.outcome {
                announced.insert((prefix, announcement.path_id), sent.attributes.clone());
            }
        }
    }
    announced
}

/// What the table says it is told.
fn sent(speaker: &Speaker, peer: &str) -> Announced {
    let routes = all(speaker, View::Sent, Some(peer)).into_iter();
    let fits = routes.filter(|route| !matches!(route.standing, Standing::Withheld(_)));
    fits.map(|route| ((route.prefix, route.path_id), route.attributes)).collect()
}

/// Loc-RIB has a best path wherever one can be used, and import's reasons are those of its decisions.
fn check_table(network: &Network, node: usize) {
    let speaker = network.nodes[node].speaker.as_ref().unwrap();
    let table = all(speaker, View::Table, None);
    let best: BTreeMap<_, _> = table
        .iter()
        .filter(|route| route.standing == Standing::Best)
        .map(|route| (route.prefix, route.attributes.next_hop.unwrap()))
        .collect();
    let learned = &network.nodes[node].table;
    assert!(best.keys().eq(learned.keys()), "{best:?} {learned:?}");
    assert!(best.iter().all(|(prefix, next_hop)| learned[prefix].next_hops.contains(next_hop)));
    let used = all(speaker, View::Best, None);
    assert!(table.iter().filter(|route| used.contains(route)).count() == used.len());
    for peer in network.nodes[node].config.peers.keys() {
        let received = all(speaker, View::Received, Some(&peer.ip().to_string()));
        let rejected = |route: &&Route| matches!(route.standing, Standing::Rejected(_));
        let accepted = received.len() - received.iter().filter(rejected).count();
        assert_eq!(accepted, network.snapshot(node).peers[peer].received);
    }
}

fn check(network: &Network) {
    for node in 0..NODES {
        let Some(speaker) = &network.nodes[node].speaker else { continue };
        check_table(network, node);
        for peer in network.nodes[node].config.peers.keys() {
            let name = peer.ip().to_string();
            assert_eq!(explained(speaker, &name), sent(speaker, &name), "{node} to {name}");
        }
    }
}

/// Adj-RIB-Out of one end is Adj-RIB-In of the other.
fn check_both_ends(network: &Network) {
    for own in 0..NODES {
        for other in (0..NODES).filter(|other| *other != own) {
            let [here, there] = [own, other].map(|node| network.nodes[node].speaker.as_ref().unwrap());
            let sent = sent(here, &address(other).to_string());
            let received = all(there, View::Received, Some(&address(own).to_string()));
            let received: Announced =
                received.into_iter().map(|route| ((route.prefix, route.path_id), route.attributes)).collect();
            assert_eq!(sent, received, "{own} to {other}");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Kill(usize),
    Start(usize, bool),
    Originate(usize, Vec<u8>),
    Import(usize, usize, u8),
    Export(usize, usize, u8),
    Stick(usize),
    Run(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 0..NODES;
    prop_oneof![
        node().prop_map(Op::Kill),
        (node(), any::<bool>()).prop_map(|(node, restarted)| Op::Start(node, restarted)),
        (node(), prop::collection::vec(0..6_u8, 0..5)).prop_map(|(node, nets)| Op::Originate(node, nets)),
        (node(), 1..NODES, 0..4_u8).prop_map(|(own, step, n)| Op::Import(own, (own + step) % NODES, n)),
        (node(), 1..NODES, 0..4_u8).prop_map(|(own, step, n)| Op::Export(own, (own + step) % NODES, n)),
        node().prop_map(Op::Stick),
        prop_oneof![1..2000_u32, 1000..200_000_u32].prop_map(Op::Run),
    ]
}

/// A filter of some kind: none, all, a change, or only some prefixes.
fn filter(number: u8) -> Filter {
    let mut marked = Rule::new("marked", Verdict::Continue);
    marked.set = vec![Change::AddCommunity(0xffff_ff01), Change::Med(7)];
    marked.prefix = Some(PrefixMatch::In("172.16.2.0/23".parse().unwrap()));
    let some = Rule {
        prefix: Some(PrefixMatch::In("172.16.0.0/22".parse().unwrap())),
        ..Rule::new("quiet", Verdict::Reject)
    };
    match number {
        0 => Filter::default(),
        1 => accept_all(),
        2 => Filter::new(vec![marked, Rule::new("all", Verdict::Accept)]),
        _ => Filter::new(vec![some, Rule::new("others", Verdict::Accept)]),
    }
}

/// A reflector 0 with its client 1, an internal peer 2 and an external one 3; all know each other. 0 and 2 tell each
/// other all paths.
fn mixed() -> Network {
    let number = |node: usize| if node == 3 { 65000 } else { 64512 };
    let configs = (0..NODES).map(|own| {
        let mut config = config(own, number(own));
        for other in (0..NODES).filter(|other| *other != own) {
            let mut peer = peer(own, other, number(other));
            peer.reflector_client = (own, other) == (0, 1);
            let both = own + other == 2 && own != other;
            (peer.add_path.send, peer.add_path.receive) = (both, both);
            if (own, other) == (0, 3) {
                // What it has from there by way of the others leads to this very peer.
                (peer.import, peer.next_hop) = (filter(3), NextHopMode::Keep);
            }
            config.peers.insert(peer_id(other), peer);
        }
        config.cluster_id = (own == 0).then(|| [9, 9, 9, 9].into());
        config
    });
    let mut network = Network::new(configs.collect());
    (0..NODES).for_each(|node| network.start(node, false));
    network
}

fn apply(network: &mut Network, op: Op) {
    match op {
        Op::Kill(node) => network.kill(node),
        Op::Start(node, restarted) => {
            if network.nodes[node].speaker.is_none() {
                network.start(node, restarted);
            }
        }
        Op::Originate(node, nets) => {
            // The same ones at several nodes.
            let nets: Vec<String> = nets.iter().map(|net| format!("172.16.{net}.0/24")).collect();
            network.originate(node, &nets.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Op::Import(own, other, number) => network.configure(own, |config| {
            config.peers.get_mut(&peer_id(other)).unwrap().import = filter(number);
        }),
        Op::Export(own, other, number) => network.configure(own, |config| {
            config.peers.get_mut(&peer_id(other)).unwrap().export = filter(number);
        }),
        Op::Stick(node) if network.nodes[node].stuck => network.unstick(node),
        Op::Stick(node) => network.nodes[node].stuck = true,
        Op::Run(millis) => network.run(std::time::Duration::from_millis(millis.into())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn what_is_told_is_what_is_done(ops in prop::collection::vec(op(), 1..20)) {
        let mut network = mixed();
        network.run(SECOND * 3);
        for op in ops {
            apply(&mut network, op);
            check(&network);
        }
        for node in 0..NODES {
            network.unstick(node);
            if network.nodes[node].speaker.is_none() {
                network.start(node, true);
            }
        }
        network.run(SECOND * 700);
        check(&network);
        check_both_ends(&network);
    }
}

#[test]
fn a_prefix_is_explained_from_both_ends() {
    let mut network = reflector();
    network.run(SECOND * 2);
    // At the reflector: from a client, told to the other one.
    let explanation = explain(&network, 0, "172.16.1.5/32");
    assert_eq!(
        (explanation.asked.to_string(), explanation.prefix.unwrap().to_string()),
        ("172.16.1.5/32".to_owned(), "172.16.1.0/26".to_owned())
    );
    let [path] = &explanation.paths[..] else { panic!("{explanation:?}") };
    assert_eq!((&path.received.standing, path.import.as_str()), (&Standing::Best, "no rule rejects it"));
    assert_eq!(withheld(&explanation, 1), "it came from this peer");
    let sent = told(&explanation, 2).routes[0].outcome.clone().unwrap();
    assert_eq!((sent.reason.as_str(), sent.pending), ("test", false));
    assert_eq!(sent.attributes.originator_id.unwrap().to_string(), "1.1.1.2");
    // At the client, nothing goes back.
    let explanation = explain(&network, 2, "172.16.1.0/26");
    assert_eq!(withheld(&explanation, 0), "it came from this peer");
    assert!(explain(&network, 2, "fd00::/64").prefix.is_none());
    assert!(explain(&network, 2, "0.0.0.0/0").prefix.is_none());

    network.kill(1);
    network.run(SECOND);
    let explanation = explain(&network, 0, "172.16.1.0/26");
    assert!(explanation.paths[0].received.stale);
    let nothing = told(&explanation, 1).nothing.as_ref().unwrap();
    assert!(nothing.starts_with("there is no session ("), "{nothing}");
}

#[test]
fn the_decision_names_what_decided() {
    let mut network = Network::mesh(3, |own, other| own < other);
    let prefix = "172.16.9.0/24";
    network.originate(1, &[prefix]);
    network.nodes[2].originated = routes(&[prefix]);
    network.nodes[2].originated.values_mut().for_each(|route| route.local_pref = 5);
    let originated = network.nodes[2].originated.clone();
    network.input(2, tortie_bgp::speaker::Input::Originate(originated));
    network.run(SECOND * 2);
    let standings: Vec<Standing> =
        explain(&network, 0, prefix).paths.into_iter().map(|path| path.received.standing).collect();
    let lower = "lower LOCAL_PREF: 5, the better one has 2147482623".to_owned();
    assert_eq!(standings, [Standing::Best, Standing::NotBest(lower)]);
    network.originate(2, &[prefix]);
    network.run(SECOND);
    let standing = explain(&network, 0, prefix).paths[1].received.standing.clone();
    let higher = "higher BGP identifier: 1.1.1.3, the better one has 1.1.1.2".to_owned();
    assert_eq!(standing, Standing::Multipath(higher));
    assert_eq!(withheld(&explain(&network, 0, prefix), 1), "it came from this peer");
    let inside = "from an internal peer to an internal peer, and this speaker is no route reflector";
    assert_eq!(withheld(&explain(&network, 0, prefix), 2), inside);
}

/// RFC 8212: an external session without filters carries nothing where they are required, and says so.
#[test]
fn an_external_session_without_filters_carries_nothing() {
    let mut configs = vec![config(0, 64512), config(1, 65000)];
    configs[0].peers.insert(peer_id(1), peer(0, 1, 65000));
    configs[1].peers.insert(peer_id(0), peer(1, 0, 64512));
    let mut network = Network::new(configs);
    for node in 0..2 {
        network.nodes[node].originated = routes(&[&format!("172.16.{node}.0/26")]);
        network.start(node, false);
    }
    network.run(SECOND);
    assert_eq!((network.nodes[0].table.len(), network.nodes[1].table.len()), (1, 1));
    network.configure(0, |config| {
        let peer = config.peers.get_mut(&peer_id(1)).unwrap();
        (peer.require_policy, peer.export) = (true, Filter::default());
    });
    network.run(SECOND);
    assert_eq!((network.nodes[0].table.len(), network.nodes[1].table.len()), (0, 0));
    assert_eq!(network.established(0), 1, "without a reset");
    let import = explain(&network, 0, "172.16.1.0/26").paths[0].import.clone();
    assert_eq!(import, "the session has no import filter, and must have one (RFC 8212)");
    let reason = "the session has no export filter, and must have one (RFC 8212)";
    assert_eq!(withheld(&explain(&network, 0, "172.16.0.0/26"), 1), reason);
    network.configure(0, |config| {
        let peer = config.peers.get_mut(&peer_id(1)).unwrap();
        (peer.import, peer.export) = (accept_all(), accept_all());
    });
    network.run(SECOND);
    assert_eq!((network.nodes[0].table.len(), network.nodes[1].table.len()), (1, 1));
}

#[test]
fn an_unknown_peer_is_answered_with_those_there_are() {
    let mut network = Network::mesh(3, |own, other| own < other);
    network.run(SECOND);
    let speaker = network.nodes[0].speaker.as_ref().unwrap();
    let ask = |view, peer| speaker.routes(&Query::new(view, peer)).map(|page| page.routes.len());
    assert_eq!(ask(View::Received, Some("10.0.0.2")), ask(View::Received, Some("Mesh_10_0_0_2")));
    assert_eq!(ask(View::Sent, Some("10.0.0.2:179")), Ok(1));
    assert_eq!(ask(View::Table, Some("10.0.0.2")), Ok(1), "the paths of one peer");
    assert_eq!(ask(View::Table, None), Ok(3));
    let known = "peers are Mesh_10_0_0_2 (10.0.0.2), Mesh_10_0_0_3 (10.0.0.3)";
    let error = |view, peer| ask(view, peer).unwrap_err().to_string();
    assert_eq!(error(View::Best, Some("tor")), format!("no peer 'tor'; {known}"));
    assert!(error(View::Sent, None).ends_with(known));
    assert_eq!("x".parse::<Cursor>(), Err(QueryError::Cursor("x".to_owned())));
}
