//! The report a CalicoNodeStatus asks for (bgp-behaviour 11). Pure: views and times come in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use tortie_bgp::PeerId;
use tortie_bgp::snapshot::{PeerSnapshot, SessionState, Snapshot};
use tortie_model::local_api::PeerType;
use tortie_model::resource::{
    BgpDaemonStatus, CalicoNodeStatusStatus, NodeAgentStatus, NodeBgpStatus, NodePeerStatus, NodeRoute,
    NodeRouteSource, NodeRouteStatus, NodeStatusClass,
};

use super::{peer_type, state};

/// Routes of a family at most: the report is one value in the datastore, and etcd takes 1.5 MiB.
const MOST_ROUTES: usize = 2000;

/// Where a value would stand that there is none of.
const NONE: &str = "N/A";

/// What is reported on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The speaker.
    pub speaker: &'a Snapshot,
    /// Its BGP identifier, once it has one.
    pub router_id: Option<Ipv4Addr>,
    /// When the process began.
    pub started: Timestamp,
    /// When the speaker was configured last.
    pub configured: Option<Timestamp>,
    /// The time now.
    pub now: Timestamp,
}

/// The parts asked for; the others stay empty.
pub fn report(classes: &[NodeStatusClass], facts: &Facts<'_>) -> CalicoNodeStatusStatus {
    let mut report = CalicoNodeStatusStatus {
        last_updated: Some(seconds(facts.now)),
        ..CalicoNodeStatusStatus::default()
    };
    for class in classes {
        match class {
            NodeStatusClass::Agent => report.agent = agent(facts),
            NodeStatusClass::Bgp => report.bgp = sessions(facts),
            NodeStatusClass::Routes => report.routes = routes(facts.speaker),
        }
    }
    report
}

/// RFC 3339 without fractions.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One process does what are two daemons upstream.
fn agent(facts: &Facts<'_>) -> NodeAgentStatus {
    let daemon = BgpDaemonStatus {
        state: if facts.router_id.is_some() { "Ready" } else { "NotReady" }.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        router_id: facts.router_id.map(|id| id.to_string()).unwrap_or_default(),
        last_boot_time: seconds(facts.started),
        last_reconfiguration_time: facts.configured.map(seconds).unwrap_or_default(),
    };
    NodeAgentStatus { bird_v4: daemon.clone(), bird_v6: daemon }
}

fn sessions(facts: &Facts<'_>) -> NodeBgpStatus {
    let mut report = NodeBgpStatus::default();
    for (end, peer) in &facts.speaker.peers {
        let (up, down, list) = if end.is_ipv6() {
            (&mut report.number_established_v6, &mut report.number_not_established_v6, &mut report.peers_v6)
        } else {
            (&mut report.number_established_v4, &mut report.number_not_established_v4, &mut report.peers_v4)
        };
        *(if peer.state == SessionState::Established { up } else { down }) += 1;
        list.push(session(*end, peer, facts.now));
    }
    report
}

fn session(end: PeerId, peer: &PeerSnapshot, now: Timestamp) -> NodePeerStatus {
    NodePeerStatus {
        peer_ip: end.ip().to_string(),
        peer_type: match peer_type(&peer.name) {
            PeerType::Mesh => "NodeMesh",
            PeerType::Global => "GlobalPeer",
            PeerType::Node | PeerType::LocalWorkload => "NodePeer",
        }
        .to_owned(),
        state: state(peer.state).to_owned(),
        since: now.checked_sub(peer.since).map(seconds).unwrap_or_default(),
    }
}

fn routes(speaker: &Snapshot) -> NodeRouteStatus {
    let types: BTreeMap<IpAddr, PeerType> =
        speaker.peers.iter().map(|(end, peer)| (end.ip(), peer_type(&peer.name))).collect();
    let mut report = NodeRouteStatus::default();
    let own = speaker.originated.iter().map(|prefix| {
        let single = prefix.prefix() == if prefix.is_ipv4() { 32 } else { 128 };
        let (interface, source) = if single { (NONE, "Kernel") } else { ("blackhole", "Static") };
        let source = NodeRouteSource { source_type: source.to_owned(), peer_ip: String::new() };
        (*prefix, NONE.to_owned(), interface, source)
    });
    let learned = speaker.routes.iter().flat_map(|(prefix, route)| {
        route.next_hops.iter().map(|hop| (*prefix, hop.to_string(), "", origin(*hop, &types)))
    });
    for (prefix, gateway, interface, learned_from) in own.chain(learned) {
        let list = if prefix.is_ipv6() { &mut report.routes_v6 } else { &mut report.routes_v4 };
        if list.len() < MOST_ROUTES {
            list.push(NodeRoute {
                route_type: "FIB".to_owned(),
                destination: prefix.to_string(),
                gateway,
                interface: interface.to_owned(),
                learned_from,
            });
        }
    }
    report
}

/// Whoever has the next hop told the route, unless a reflector or a router passed it on.
fn origin(hop: IpAddr, types: &BTreeMap<IpAddr, PeerType>) -> NodeRouteSource {
    let (source_type, peer_ip) = match types.get(&hop) {
        Some(PeerType::Mesh) => ("NodeMesh", hop.to_string()),
        Some(PeerType::Node | PeerType::Global | PeerType::LocalWorkload) => ("BGPPeer", hop.to_string()),
        None => ("BGPPeer", String::new()),
    };
    NodeRouteSource { source_type: source_type.to_owned(), peer_ip }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tortie_bgp::table::LearnedRoute;

    use super::*;

    fn speaker() -> Snapshot {
        let mut speaker = Snapshot::default();
        for (end, name, state) in [
            ("10.0.0.2:179", "Mesh_10_0_0_2", SessionState::Established),
            ("10.0.0.254:180", "Global_10_0_0_254_port_180", SessionState::Active),
            ("[fd00::9]:179", "Node_fd00__9", SessionState::Idle),
        ] {
            let peer = PeerSnapshot {
                name: name.into(),
                state,
                since: Duration::from_secs(60),
                last_error: None,
                held: false,
                received: 0,
                announced: 0,
            };
            speaker.peers.insert(end.parse().unwrap(), peer);
        }
        let route = |hop: &str| LearnedRoute {
            next_hops: vec![hop.parse().unwrap()],
            internal: true,
            local_pref: 100,
        };
        speaker.routes.insert("10.64.1.0/26".parse().unwrap(), route("10.0.0.2"));
        speaker.routes.insert("0.0.0.0/0".parse().unwrap(), route("10.0.0.77"));
        speaker.originated = ["10.64.0.0/26", "10.64.9.9/32"].map(|prefix| prefix.parse().unwrap()).into();
        speaker
    }

    fn reported(classes: &[NodeStatusClass]) -> serde_json::Value {
        let speaker = speaker();
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let facts = Facts {
            speaker: &speaker,
            router_id: Some(Ipv4Addr::new(10, 0, 0, 1)),
            started: time("2026-03-04T11:00:00Z"),
            configured: Some(time("2026-03-04T11:30:00.5Z")),
            now: time("2026-03-04T12:00:05Z"),
        };
        serde_json::to_value(report(classes, &facts)).unwrap()
    }

    #[test]
    fn only_what_was_asked_for_is_reported() {
        let report = reported(&[NodeStatusClass::Agent]);
        assert_eq!(report["lastUpdated"], "2026-03-04T12:00:05Z");
        let daemon = json!({
            "state": "Ready", "version": env!("CARGO_PKG_VERSION"), "routerID": "10.0.0.1",
            "lastBootTime": "2026-03-04T11:00:00Z", "lastReconfigurationTime": "2026-03-04T11:30:00Z",
        });
        assert_eq!(report["agent"], json!({"birdV4": daemon, "birdV6": daemon}));
        assert_eq!((&report["bgp"]["numberEstablishedV4"], &report["routes"]), (&json!(0), &json!({})));
    }

    #[test]
    fn sessions_are_counted_and_listed() {
        let expected = json!({
            "numberEstablishedV4": 1, "numberNotEstablishedV4": 1,
            "numberEstablishedV6": 0, "numberNotEstablishedV6": 1,
            "peersV4": [
                {"peerIP": "10.0.0.2", "type": "NodeMesh", "state": "Established", "since": "2026-03-04T11:59:05Z"},
                {"peerIP": "10.0.0.254", "type": "GlobalPeer", "state": "Active", "since": "2026-03-04T11:59:05Z"},
            ],
            "peersV6": [
                {"peerIP": "fd00::9", "type": "NodePeer", "state": "Idle", "since": "2026-03-04T11:59:05Z"},
            ],
        });
        assert_eq!(reported(&[NodeStatusClass::Bgp])["bgp"], expected);
    }

    #[test]
    fn routes_name_their_source() {
        let route = |destination: &str, gateway: &str, more: serde_json::Value| {
            let mut route = json!({"type": "FIB", "destination": destination, "gateway": gateway});
            route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            route
        };
        let expected = json!([
            route(
                "10.64.0.0/26",
                "N/A",
                json!({"interface": "blackhole", "learnedFrom": {"sourceType": "Static"}})
            ),
            route(
                "10.64.9.9/32",
                "N/A",
                json!({"interface": "N/A", "learnedFrom": {"sourceType": "Kernel"}})
            ),
            route("0.0.0.0/0", "10.0.0.77", json!({"learnedFrom": {"sourceType": "BGPPeer"}})),
            route(
                "10.64.1.0/26",
                "10.0.0.2",
                json!({"learnedFrom": {"sourceType": "NodeMesh", "peerIP": "10.0.0.2"}})
            ),
        ]);
        assert_eq!(reported(&[NodeStatusClass::Routes])["routes"]["routesV4"], expected);
    }

    #[test]
    fn a_report_fits_into_the_datastore() {
        let mut speaker = speaker();
        speaker.originated = (0..5000_u32).map(|n| IpAddr::V4(n.into()).into()).collect();
        assert_eq!(routes(&speaker).routes_v4.len(), MOST_ROUTES);
    }
}
