//! `node status`: the agent's BGP sessions, printed as calicoctl prints BIRD's (calico-datamodel 6.5).

use std::net::{IpAddr, SocketAddr};

use tortie_model::local_api::{NodeStatus, PeerStatus};

use super::{chain, unanswered};
use crate::agent::{self, AgentError};
use crate::cli::NodeStatusArgs;
use crate::outcome::Outcome;
use crate::output::table::boxed;

pub(super) async fn run(args: &NodeStatusArgs) -> Outcome {
    match agent::node_status(&args.socket).await {
        Ok(status) => Outcome::ok(text(&status, args.output == "wide")),
        Err(error @ AgentError::NotRunning { .. }) => {
            Outcome::failed(format!("Calico process is not running.\n({})", unanswered(&error)))
        }
        Err(error) => Outcome::failed(format!("Error querying the agent: {}", chain(&error))),
    }
}

fn text(status: &NodeStatus, wide: bool) -> String {
    let mut text = "Calico process is running.\n".to_owned();
    for problem in &status.problems {
        text.push_str(&format!("INFO: {problem}\n"));
    }
    for (family, ipv6) in [("IPv4", false), ("IPv6", true)] {
        text.push_str(&format!("\n{family} BGP status\n"));
        let peers: Vec<&PeerStatus> =
            status.peers.iter().filter(|peer| is_ipv6(&peer.address) == ipv6).collect();
        if peers.is_empty() {
            text.push_str(&format!("No {family} peers found.\n"));
        } else {
            text.push_str(&table(&peers, wide));
        }
    }
    text.push('\n');
    text
}

fn table(peers: &[&PeerStatus], wide: bool) -> String {
    let row = |peer: &&PeerStatus| {
        let PeerStatus { address, peer_type, state, since, info, received, announced } = peer;
        let mut row =
            vec![address.clone(), peer_type.to_string(), state.clone(), since.clone(), info.clone()];
        if wide {
            row.extend([received.to_string(), announced.to_string()]);
        }
        row
    };
    let mut headers = vec!["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"];
    if wide {
        headers.extend(["RECEIVED", "ANNOUNCED"]);
    }
    boxed(&headers, &peers.iter().map(row).collect::<Vec<_>>())
}

/// Of an address with or without a port.
fn is_ipv6(address: &str) -> bool {
    let ip = address.parse::<IpAddr>().or_else(|_| address.parse::<SocketAddr>().map(|socket| socket.ip()));
    ip.is_ok_and(|ip| ip.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_model::local_api::PeerType;

    #[test]
    fn the_text_is_calicoctls() {
        let peer = |address: &str, peer_type, info: &str| PeerStatus {
            address: address.into(),
            peer_type,
            state: "up".into(),
            since: "23:30:04".into(),
            info: info.into(),
            received: 12,
            announced: 3,
        };
        let status = NodeStatus {
            peers: vec![
                peer("172.17.8.102", PeerType::Mesh, "Established"),
                peer("10.0.0.1:1790", PeerType::Node, "Established"),
            ],
            ..NodeStatus::default()
        };
        let expected = "\
Calico process is running.

IPv4 BGP status
+---------------+-------------------+-------+----------+-------------+
| PEER ADDRESS  |     PEER TYPE     | STATE |  SINCE   |    INFO     |
+---------------+-------------------+-------+----------+-------------+
| 172.17.8.102  | node-to-node mesh | up    | 23:30:04 | Established |
| 10.0.0.1:1790 | node specific     | up    | 23:30:04 | Established |
+---------------+-------------------+-------+----------+-------------+

IPv6 BGP status
No IPv6 peers found.

";
        assert_eq!(text(&status, false), expected);
        let wide = text(&status, true);
        assert!(wide.contains("|    INFO     | RECEIVED | ANNOUNCED |\n"), "{wide}");
        assert!(wide.contains("| Established |       12 |         3 |\n"), "{wide}");
        assert!(is_ipv6("fd00::1") && is_ipv6("[fd00::1]:1790") && !is_ipv6("10.0.0.1:1790"));
    }
}
