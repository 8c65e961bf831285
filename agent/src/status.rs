//! The node's state in the words of `calicoctl node status`. Pure: the speaker's view and the time come in.

use std::time::Duration;

use jiff::Zoned;
use tortie_bgp::PeerId;
use tortie_bgp::snapshot::{PeerSnapshot, SessionState, Snapshot};
use tortie_model::local_api::{PeerStatus, PeerType};

pub mod report;

/// One line a session, IPv4 first, by address.
pub fn peers(speaker: &Snapshot, now: &Zoned) -> Vec<PeerStatus> {
    speaker.peers.iter().map(|(end, peer)| status(*end, peer, now)).collect()
}

fn status(end: PeerId, peer: &PeerSnapshot, now: &Zoned) -> PeerStatus {
    let up = peer.state == SessionState::Established;
    let error = peer.last_error.as_deref().filter(|_| !up);
    PeerStatus {
        address: if end.port() == 179 { end.ip().to_string() } else { end.to_string() },
        peer_type: peer_type(&peer.name),
        state: if up { "up" } else { "start" }.to_owned(),
        since: since(peer.since, now),
        info: [Some(state(peer.state)), error].into_iter().flatten().collect::<Vec<_>>().join(" "),
    }
}

/// Names begin with the scope of the peering (bgp-behaviour 2.3).
fn peer_type(name: &str) -> PeerType {
    match name.split('_').next() {
        Some("Mesh") => PeerType::Mesh,
        Some("Global") => PeerType::Global,
        Some("Local") => PeerType::LocalWorkload,
        Some(_) | None => PeerType::Node,
    }
}

fn state(state: SessionState) -> &'static str {
    match state {
        SessionState::Idle => "Idle",
        SessionState::Connect => "Connect",
        SessionState::Active => "Active",
        SessionState::OpenSent => "OpenSent",
        SessionState::OpenConfirm => "OpenConfirm",
        SessionState::Established => "Established",
    }
}

/// When a state began: the local time of day, or the date when that was a day ago or more.
fn since(ago: Duration, now: &Zoned) -> String {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let format = if ago < DAY { "%H:%M:%S" } else { "%Y-%m-%d" };
    match now.checked_sub(ago) {
        Ok(start) => start.strftime(format).to_string(),
        // Only a duration beyond the calendar has no start.
        Err(_) => String::new(),
    }
}

/// How long after its start a node must have all sessions to be ready, as calico/node has it.
pub const GRACE: Duration = Duration::from_secs(30);

/// Why BGP is not ready, one line each; empty when it is (bgp-behaviour 11). For some time after the start every
/// session must be up and the routes of a restart be there; later a single session will do. Workloads do not count.
pub fn bgp_faults(speaker: &Snapshot, age: Duration) -> Vec<String> {
    let peers = speaker.peers.iter().filter(|(_, peer)| peer_type(&peer.name) != PeerType::LocalWorkload);
    let (up, down): (Vec<_>, Vec<_>) = peers.partition(|(_, peer)| peer.state == SessionState::Established);
    if down.is_empty() && up.is_empty() || age >= GRACE && !up.is_empty() {
        return Vec::new();
    }
    let lines = down.into_iter().map(|(end, peer)| {
        let error = peer.last_error.as_ref().map(|error| format!(", {error}")).unwrap_or_default();
        format!("BGP not established with {} ({}{error})", end.ip(), state(peer.state))
    });
    let waiting = (age < GRACE && !speaker.converged).then(|| "waiting for the routes of peers".to_owned());
    lines.chain(waiting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, state: SessionState, seconds: u64, last_error: Option<&str>) -> PeerSnapshot {
        PeerSnapshot {
            name: name.into(),
            state,
            since: Duration::from_secs(seconds),
            last_error: last_error.map(str::to_owned),
            held: false,
            received: 0,
            announced: 0,
        }
    }

    #[test]
    fn sessions_are_shown_as_calicoctl_shows_them() {
        let now: Zoned = "2026-03-04T12:00:05+01:00[Europe/Berlin]".parse().unwrap();
        let mut speaker = Snapshot::default();
        for (end, peer) in [
            (
                "10.0.0.2:179",
                peer("Mesh_10_0_0_2", SessionState::Established, 65, Some("Hold timer expired")),
            ),
            (
                "10.0.0.3:1790",
                peer("Node_10_0_0_3_port_1790", SessionState::Active, 86_400, Some("Connection refused")),
            ),
            ("10.64.0.5:179", peer("Local_Workload_10_64_0_5", SessionState::Established, 5, None)),
            ("[fd00::2]:179", peer("Global_fd00__2", SessionState::OpenConfirm, 3, None)),
        ] {
            speaker.peers.insert(end.parse().unwrap(), peer);
        }
        let lines: Vec<String> = peers(&speaker, &now)
            .into_iter()
            .map(|p| format!("{} | {} | {} | {} | {}", p.address, p.peer_type, p.state, p.since, p.info))
            .collect();
        let expected = [
            "10.0.0.2 | node-to-node mesh | up | 11:59:00 | Established",
            "10.0.0.3:1790 | node specific | start | 2026-03-03 | Active Connection refused",
            "10.64.0.5 | local workload | up | 12:00:00 | Established",
            "fd00::2 | global | start | 12:00:02 | OpenConfirm",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn all_sessions_count_at_first_and_one_later() {
        let young = Duration::from_secs(5);
        let mut speaker = Snapshot::default();
        assert!(bgp_faults(&speaker, young).is_empty(), "nobody to talk to");
        let mut set = |last: u8, state, converged| {
            let name =
                if last == 9 { "Local_Workload_10_0_0_9".into() } else { format!("Mesh_10_0_0_{last}") };
            let error = (state != SessionState::Established).then_some("connect: no answer");
            speaker.peers.insert(([10, 0, 0, last], 179).into(), peer(&name, state, 1, error));
            speaker.converged = converged;
            [bgp_faults(&speaker, young), bgp_faults(&speaker, GRACE)]
        };
        let down = "BGP not established with 10.0.0.2 (Active, connect: no answer)";
        assert!(set(9, SessionState::Active, false).concat().is_empty(), "a workload");
        assert_eq!(set(2, SessionState::Active, true), [[down], [down]]);
        assert_eq!(set(3, SessionState::Established, true), [vec![down.to_owned()], vec![]]);
        let waiting = vec!["waiting for the routes of peers".to_owned()];
        assert_eq!(set(2, SessionState::Established, false), [waiting, vec![]]);
        assert!(set(2, SessionState::Established, true).concat().is_empty());
    }
}
