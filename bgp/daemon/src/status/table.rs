//! Answers as tables for people. Pure.

use std::fmt::Write;
use std::time::Duration;

use super::rib::{Best, Path, Told, Why};
use super::{Peers, span};

/// The speaker in a line, then a row a peer.
pub(super) fn peers(answer: &Peers) -> String {
    let mut text = format!("AS {}, router id {}", answer.local_as, answer.router_id);
    if !answer.converged {
        text += ", waiting for peers to tell their routes";
    }
    text.push('\n');
    for error in &answer.listen_errors {
        // Writing to a String does not fail.
        let _ = writeln!(text, "cannot listen on {error}");
    }
    let head = ["PEER", "AS", "STATE", "FOR", "RECEIVED", "ANNOUNCED", "LAST ERROR"].map(str::to_owned);
    let rows = answer.peers.iter().map(|peer| {
        [
            peer.name.clone(),
            peer.remote_as.to_string(),
            peer.state.clone(),
            span(Duration::try_from_secs_f64(peer.since).unwrap_or_default()),
            peer.received.to_string(),
            peer.announced.to_string(),
            peer.last_error.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    text + &columns(std::iter::once(head).chain(rows).collect())
}

/// A row a route.
pub(super) fn best(answer: &Best) -> String {
    let head = ["PREFIX", "NEXT HOPS", "FROM", "LOCAL_PREF"].map(str::to_owned);
    let own = answer
        .originated
        .iter()
        .map(|prefix| [prefix.to_string(), "-".to_owned(), "originated".to_owned(), "-".to_owned()]);
    let learned = answer.learned.iter().map(|route| {
        let hops: Vec<String> = route.next_hops.iter().map(ToString::to_string).collect();
        let from = if route.internal { "internal peer" } else { "external peer" };
        [route.prefix.to_string(), hops.join(","), from.to_owned(), route.local_pref.to_string()]
    });
    columns(std::iter::once(head).chain(own).chain(learned).collect())
}

/// A row a path.
pub(super) fn paths(paths: &[Path]) -> String {
    let head =
        ["PREFIX", "NEXT HOP", "LOCAL_PREF", "MED", "AS PATH", "COMMUNITIES", "FROM", "STATE", "REASON"];
    let or_dash =
        |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let row = |path: &Path| {
        let stale = if path.stale { ",stale" } else { "" };
        let id = path.path_id.map(|id| format!(",path {id}")).unwrap_or_default();
        [
            path.prefix.to_string(),
            or_dash(path.next_hop.map(|next_hop| next_hop.to_string())),
            or_dash(path.local_pref.map(|value| value.to_string())),
            or_dash(path.med.map(|value| value.to_string())),
            or_dash(Some(path.as_path.clone())),
            or_dash(Some(path.communities.join(","))),
            or_dash(path.from.clone()),
            format!("{}{stale}{id}", path.state),
            or_dash(path.reason.clone()),
        ]
    };
    columns(std::iter::once(head.map(str::to_owned)).chain(paths.iter().map(row)).collect())
}

/// A prefix with its paths, and a row for each thing a peer is told or not.
pub(super) fn why(why: &Why) -> String {
    let Some(prefix) = why.prefix else {
        return format!("{}: neither originated nor learned, and nothing that holds it\n", why.asked);
    };
    let mut text = format!("{prefix}: {}\n\n", if why.originated { "originated" } else { "not originated" });
    if !why.paths.is_empty() {
        text += &paths(&why.paths);
        text.push('\n');
    }
    let head = ["PEER", "ANNOUNCED", "REASON"].map(str::to_owned);
    let row = |told: &Told| {
        let announced = if told.announced { "yes" } else { "no" };
        [told.peer.clone(), announced.to_owned(), told.reason.clone()]
    };
    text += &columns(std::iter::once(head).chain(why.told.iter().map(row)).collect());
    if why.omitted > 0 {
        text += &format!("and {} more peers: ask with --peer\n", why.omitted);
    }
    text
}

/// Columns two blanks apart, without blanks at the ends of lines.
fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_names_state_time_and_error() {
        let text = r#"{"as":64512,"router_id":"10.0.0.1","converged":true,"originated":0,"listen_errors":["[::]:179: no"],
            "peers":[{"name":"tor","address":"10.0.0.2","port":179,"as":65000,"state":"Established","since":187.5,
            "received":12,"announced":3,"last_error":null},{"name":"b","address":"10.0.0.3","port":179,"as":1,
            "state":"Idle","since":90000.0,"received":0,"announced":0,"last_error":"connect: Connection refused"}]}"#;
        let answer: Peers = serde_json::from_str(text).unwrap();
        assert_eq!(
            peers(&answer),
            "AS 64512, router id 10.0.0.1\n\
             cannot listen on [::]:179: no\n\
             PEER  AS     STATE        FOR    RECEIVED  ANNOUNCED  LAST ERROR\n\
             tor   65000  Established  3m07s  12        3          -\n\
             b     1      Idle         1d01h  0         0          connect: Connection refused\n"
        );
    }

    #[test]
    fn spans_have_two_units() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [of(0), of(59), of(60), of(3600), of(7620), of(90_000)],
            ["0s", "59s", "1m00s", "1h00m", "2h07m", "1d01h"]
        );
    }
}
