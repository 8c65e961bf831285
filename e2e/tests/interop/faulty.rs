//! Faulty UPDATEs of each class of RFC 7606, said by ExaBGP: what comes of each is seen in our routes, status and log. The table in
//! docs/bgp.md is this one.
//!
//! Host 1 runs ours in AS 64512; host 2 ExaBGP with an external session (10.9.0.2, AS 65000), an internal one (10.9.0.3), and an external
//! one for each fault that ends a session (10.9.0.20 and on).

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::exabgp::{Exabgp, Session};
use tortie_e2e::speakers::frr::Frr;
use tortie_e2e::speakers::tortie::Tortie;
use tortie_e2e::speakers::{Family, Host, Lan, Peer, Setup, Speaker, wait_established, wait_learned};

/// What comes of a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// No fault after all: the route is taken.
    Accepted,
    /// The attribute is left out, the route taken.
    Discard,
    /// The route counts as withdrawn.
    Withdraw,
    /// The session ends with this NOTIFICATION.
    Reset(&'static str),
}
use Outcome::{Accepted, Discard, Reset, Withdraw};

const LIST: Outcome = Reset("Malformed Attribute List");
const OPTIONAL: Outcome = Reset("Optional Attribute Error");
const NETWORK: Outcome = Reset("Invalid Network Field");

/// Which session says it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    External,
    Internal,
}
use Side::{External, Internal};

/// How an UPDATE differs from a sound one.
#[derive(Clone, Copy)]
enum Change {
    /// Another attribute of this code, or one more: flags, code, value.
    Attribute(u8, u8, &'static [u8]),
    /// One more, even if there is one.
    Second(u8, u8, &'static [u8]),
    /// None of this code.
    Without(u8),
    /// These octets behind the attributes.
    Tail(&'static [u8]),
    /// These octets behind the prefix.
    Nlri(&'static [u8]),
    /// These octets as withdrawn routes.
    Withdrawn(&'static [u8]),
    /// So much is added to the length of the withdrawn routes.
    WithdrawnLength(u16),
    /// So much is added to the length of the attributes.
    AttributesLength(u16),
}
use Change::{Attribute, AttributesLength, Nlri, Second, Tail, Withdrawn, WithdrawnLength, Without};

type Row = (&'static str, &'static str, Side, Change, Outcome);

/// MP_REACH_NLRI with 203.0.113.250/32, twice.
const REACH_TWICE: &[u8] = &[
    0x80, 14, 14, 0, 1, 1, 4, 10, 9, 0, 9, 0, 32, 203, 0, 113, 250, //
    0x80, 14, 14, 0, 1, 1, 4, 10, 9, 0, 9, 0, 32, 203, 0, 113, 250,
];

const ROWS: &[Row] = &[
    ("ORIGIN", "length 2", External, Attribute(0x40, 1, &[0, 0]), Withdraw),
    ("ORIGIN", "value 7", External, Attribute(0x40, 1, &[7]), Withdraw),
    ("ORIGIN", "flags: optional", External, Attribute(0xc0, 1, &[0]), Withdraw),
    ("ORIGIN", "missing", External, Without(1), Withdraw),
    ("ORIGIN", "twice", External, Second(0x40, 1, &[2]), Discard),
    ("AS_PATH", "unknown segment type", External, Attribute(0x40, 2, &[9, 1, 0, 0, 0xfd, 0xe8]), Withdraw),
    ("AS_PATH", "segment cut short", External, Attribute(0x40, 2, &[2, 2, 0, 0, 0xfd, 0xe8]), Withdraw),
    ("AS_PATH", "empty segment", External, Attribute(0x40, 2, &[2, 0]), Withdraw),
    ("AS_PATH", "AS 0", External, Attribute(0x40, 2, &[2, 2, 0, 0, 0xfd, 0xe8, 0, 0, 0, 0]), Withdraw),
    ("AS_PATH", "confederation segment", External, Attribute(0x40, 2, &[3, 1, 0, 0, 0xfd, 0xe8]), Withdraw),
    ("AS_PATH", "flags: optional", External, Attribute(0xc0, 2, &[2, 1, 0, 0, 0xfd, 0xe8]), Withdraw),
    ("AS_PATH", "missing", External, Without(2), Withdraw),
    ("NEXT_HOP", "length 5", External, Attribute(0x40, 3, &[10, 9, 0, 9, 0]), Withdraw),
    ("NEXT_HOP", "0.0.0.0", External, Attribute(0x40, 3, &[0, 0, 0, 0]), Withdraw),
    ("NEXT_HOP", "224.0.0.1", External, Attribute(0x40, 3, &[224, 0, 0, 1]), Withdraw),
    ("NEXT_HOP", "flags: not transitive", External, Attribute(0x00, 3, &[10, 9, 0, 9]), Withdraw),
    ("NEXT_HOP", "missing", External, Without(3), Withdraw),
    ("MULTI_EXIT_DISC", "length 3", External, Attribute(0x80, 4, &[0, 0, 1]), Withdraw),
    ("MULTI_EXIT_DISC", "flags: transitive", External, Attribute(0xc0, 4, &[0, 0, 0, 1]), Withdraw),
    ("LOCAL_PREF", "length 3", Internal, Attribute(0x40, 5, &[0, 0, 1]), Withdraw),
    ("LOCAL_PREF", "from an external peer", External, Attribute(0x40, 5, &[0, 0, 0, 1]), Discard),
    ("LOCAL_PREF", "from an external peer, length 3", External, Attribute(0x40, 5, &[0, 0, 1]), Discard),
    ("ATOMIC_AGGREGATE", "length 1", External, Attribute(0x40, 6, &[0]), Discard),
    ("AGGREGATOR", "length 7", External, Attribute(0xc0, 7, &[0, 0, 0xfd, 0xe8, 10, 9, 0]), Discard),
    ("COMMUNITIES", "length 5", External, Attribute(0xc0, 8, &[0, 1, 0, 2, 0]), Withdraw),
    ("COMMUNITIES", "empty", External, Attribute(0xc0, 8, &[]), Withdraw),
    ("COMMUNITIES", "flags: not transitive", External, Attribute(0x80, 8, &[0, 1, 0, 2]), Withdraw),
    ("ORIGINATOR_ID", "length 3", Internal, Attribute(0x80, 9, &[1, 2, 3]), Withdraw),
    ("ORIGINATOR_ID", "from an external peer", External, Attribute(0x80, 9, &[1, 2, 3]), Discard),
    ("CLUSTER_LIST", "length 5", Internal, Attribute(0x80, 10, &[1, 2, 3, 4, 5]), Withdraw),
    ("CLUSTER_LIST", "from an external peer", External, Attribute(0x80, 10, &[1, 2, 3, 4]), Discard),
    ("EXTENDED COMMUNITIES", "length 7", External, Attribute(0xc0, 16, &[0; 7]), Withdraw),
    ("AS4_PATH", "from a four-octet peer", External, Attribute(0xc0, 17, &[2, 1, 0, 0, 0, 1]), Discard),
    (
        "AS4_AGGREGATOR",
        "from a four-octet peer",
        External,
        Attribute(0xc0, 18, &[0, 0, 0, 1, 1, 1, 1, 1]),
        Discard,
    ),
    ("LARGE_COMMUNITY", "length 11", External, Attribute(0xc0, 32, &[0; 11]), Withdraw),
    ("unknown", "said to be well-known", External, Attribute(0x40, 99, &[1]), Withdraw),
    ("unknown", "optional, transitive (no fault)", External, Attribute(0xc0, 99, &[1]), Accepted),
    ("the last attribute", "longer than the section", External, Tail(&[0xc0, 8, 40, 0, 1, 0, 2]), Withdraw),
    ("the section", "an octet left over", External, Tail(&[0xc0]), Withdraw),
    ("the section", "longer than the message", External, AttributesLength(400), LIST),
    ("withdrawn routes", "longer than the message", External, WithdrawnLength(400), LIST),
    ("withdrawn routes", "prefix of 33 bits", External, Withdrawn(&[33, 203, 0, 113, 1, 0]), NETWORK),
    ("NLRI", "prefix of 33 bits", External, Nlri(&[33, 203, 0, 113, 1, 0]), NETWORK),
    ("NLRI", "cut short", External, Nlri(&[32, 203, 0]), NETWORK),
    ("MP_REACH_NLRI", "twice", External, Tail(REACH_TWICE), LIST),
    (
        "MP_REACH_NLRI",
        "next hop of 5 octets",
        External,
        Attribute(0x80, 14, &[0, 1, 1, 5, 10, 9, 0, 9, 0, 0]),
        OPTIONAL,
    ),
    ("MP_REACH_NLRI", "cut short", External, Attribute(0x80, 14, &[0, 1, 1, 40, 10]), OPTIONAL),
    ("MP_UNREACH_NLRI", "cut short", External, Attribute(0x80, 15, &[0, 1]), OPTIONAL),
];

/// The body of an UPDATE: the prefix with mandatory attributes and this next hop, changed.
fn body(index: usize, side: Side, hop: u8, change: Option<Change>) -> Vec<u8> {
    let path: &[u8] = if side == External { &[2, 1, 0, 0, 0xfd, 0xe8] } else { &[] };
    let hop = [10, 9, 0, hop];
    let mut attributes: Vec<(u8, u8, &[u8])> = vec![(0x40, 1, &[0]), (0x40, 2, path), (0x40, 3, &hop)];
    if side == Internal {
        attributes.push((0x40, 5, &[0, 0, 0, 100]));
    }
    match change {
        Some(Attribute(flags, code, value)) => {
            attributes.retain(|(_, have, _)| *have != code);
            attributes.push((flags, code, value));
        }
        Some(Second(flags, code, value)) => attributes.push((flags, code, value)),
        Some(Without(code)) => attributes.retain(|(_, have, _)| *have != code),
        _ => {}
    }
    let mut section: Vec<u8> = Vec::new();
    for (flags, code, value) in attributes {
        section.extend([flags, code, u8::try_from(value.len()).unwrap_or(0)]);
        section.extend(value);
    }
    let mut nlri = vec![32, 203, 0, 113, u8::try_from(index).unwrap_or(0)];
    let mut withdrawn: &[u8] = &[];
    let (mut more_withdrawn, mut more_attributes) = (0, 0);
    match change {
        Some(Tail(octets)) => section.extend(octets),
        Some(Nlri(octets)) => nlri.extend(octets),
        Some(Withdrawn(octets)) => withdrawn = octets,
        Some(WithdrawnLength(more)) => more_withdrawn = more,
        Some(AttributesLength(more)) => more_attributes = more,
        _ => {}
    }
    let length = |octets: &[u8], more: u16| (u16::try_from(octets.len()).unwrap_or(0) + more).to_be_bytes();
    [&length(withdrawn, more_withdrawn)[..], withdrawn, &length(&section, more_attributes), &section, &nlri]
        .concat()
}

fn prefix(index: usize) -> String {
    format!("203.0.113.{index}/32")
}

/// Hosts 1 and 2 with all sessions up; ours also dials these peers.
fn sessions(lan: &Lan, more: impl FnOnce(&Host) -> Vec<Peer>) -> Result<(Tortie, Exabgp, Vec<Session>)> {
    let [one, two] = [lan.host(1)?, lan.host(2)?];
    let mut sessions = vec![("10.9.0.2".to_owned(), 65000), ("10.9.0.3".to_owned(), 64512)];
    sessions.extend((0..resets().count()).map(|n| (format!("10.9.0.{}", n + 20), 65000)));
    let mut peers = more(&one);
    for (address, asn) in &sessions {
        if *address != two.id() {
            two.netns.run(&format!("ip address add {address}/24 dev eth0")).ok()?;
        }
        let peer = Peer::new(&one, &two, Family::V4, *asn);
        peers.push(peer.with(|peer| (peer.address, peer.passive) = (address.clone(), true)));
    }
    let us = Tortie::start(&one, &Setup::new(64512, peers))?;
    let sessions: Vec<Session> = sessions.into_iter().map(|(local, asn)| Session { local, asn }).collect();
    let exabgp = Exabgp::start(&two, &one, 64512, &sessions)?;
    for session in &sessions {
        wait_established(&us, &session.local)?;
    }
    Ok((us, exabgp, sessions))
}

/// The faults a session survives, with their places in the table.
fn milder() -> impl Iterator<Item = (usize, &'static Row)> {
    ROWS.iter().enumerate().filter(|(_, row)| !matches!(row.4, Reset(_)))
}

/// The others.
fn resets() -> impl Iterator<Item = (usize, &'static Row)> {
    ROWS.iter().enumerate().filter(|(_, row)| matches!(row.4, Reset(_)))
}

/// Waits for routes with exactly these next hops.
fn wait_routes(us: &Tortie, wanted: &BTreeMap<String, String>, what: &str) -> Result<()> {
    eventually(what, seconds(30), || {
        let have: BTreeMap<String, String> = us.learned(Family::V4)?.into_iter().collect();
        let differ = |(prefix, hop): &(&String, &String)| have.get(*prefix) != Some(hop);
        let wrong: Vec<_> =
            wanted.iter().filter(differ).map(|(prefix, hop)| (prefix, hop, have.get(prefix))).collect();
        let more: Vec<_> = have.keys().filter(|prefix| !wanted.contains_key(*prefix)).collect();
        ensure!(wrong.is_empty() && more.is_empty(), "wanted and seen: {wrong:?}; not wanted: {more:?}");
        Ok(())
    })
}

on_lan!(
    fn each_fault_has_its_outcome(lan) {
        let (us, mut exabgp, sessions) = sessions(lan, |_| Vec::new())?;
        let session = |side| &sessions[usize::from(side == Internal)];
        // Sound routes first, each by the session that is to spoil it.
        let mut wanted = BTreeMap::new();
        for (index, (_, _, side, _, _)) in milder() {
            exabgp.send(session(*side), &body(index, *side, 8, None))?;
            wanted.insert(prefix(index), "10.9.0.8".to_owned());
        }
        wait_routes(&us, &wanted, "sound routes")?;
        for (index, (_, _, side, change, outcome)) in milder() {
            exabgp.send(session(*side), &body(index, *side, 9, Some(*change)))?;
            match outcome {
                Withdraw => drop(wanted.remove(&prefix(index))),
                Accepted | Discard | Reset(_) => drop(wanted.insert(prefix(index), "10.9.0.9".to_owned())),
            }
        }
        wait_routes(&us, &wanted, "each fault with its outcome")?;
        for session in &sessions[..2] {
            let peer = us.peer(&session.local)?;
            ensure!(peer["state"] == "Established" && peer["last_error"].is_null(), "a session suffered: {peer}");
        }
        let told = us.log();
        for (words, outcome) in [("attribute discarded", Discard), ("treated as withdrawn", Withdraw)] {
            let faults = milder().filter(|(_, row)| row.4 == outcome).count();
            let lines = told.lines().filter(|line| line.contains(words)).count();
            ensure!(lines >= faults, "{lines} lines of {words} for {faults} faults");
        }

        for ((index, (_, _, side, change, _)), session) in resets().zip(&sessions[2..]) {
            exabgp.send(session, &body(index, *side, 9, Some(*change)))?;
        }
        for ((_, (attribute, fault, _, _, outcome)), session) in resets().zip(&sessions[2..]) {
            let Reset(words) = outcome else { continue };
            eventually(&format!("a NOTIFICATION for {attribute} {fault}"), seconds(15), || {
                let error = us.peer(&session.local)?["last_error"].to_string();
                ensure!(error.contains("sent NOTIFICATION UPDATE Message Error/") && error.contains(words), "{error}");
                Ok(())
            })?;
        }
        wait_routes(&us, &wanted, "the other sessions untouched")
    }
);

#[test]
fn the_table_in_the_docs_is_this_one() {
    let mut table = "| attribute | fault | outcome |\n|---|---|---|\n".to_owned();
    for (attribute, fault, side, _, outcome) in ROWS {
        let side = if *side == Internal { ", internal session" } else { "" };
        let outcome = match outcome {
            Accepted => "taken".to_owned(),
            Discard => "attribute discarded".to_owned(),
            Withdraw => "treated as withdrawn".to_owned(),
            Reset(words) => format!("session reset: {words}"),
        };
        table += &format!("| {attribute} | {fault}{side} | {outcome} |\n");
    }
    let page = include_str!("../../../docs/bgp.md");
    assert!(
        page.contains(&table),
        "docs/bgp.md, Faulty UPDATEs as counted against ExaBGP, is to have:\n{table}"
    );
}

on_lan!(
    /// An UPDATE of 4096 octets, 3960 of them communities, arrives, and leaves with one AS number more, so in two. FRR is the receiver.
    fn the_longest_message_passes(lan) {
        const COMMUNITIES: u32 = 330;
        let four = lan.host(4)?;
        let (us, mut exabgp, sessions) = sessions(lan, |one| vec![Peer::new(one, &four, Family::V4, 65001)])?;
        let to_us = Peer { address: "10.9.0.1".to_owned(), local: four.id(), asn: 64512, ..Peer::new(&four, &four, Family::V4, 64512) };
        let frr = Frr::start(&four, &Setup::new(65001, [to_us]))?;
        wait_established(&frr, "10.9.0.1")?;
        let mut section = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8, 0x40, 3, 4, 10, 9, 0, 2];
        section.extend([0xd0, 32]);
        section.extend(u16::try_from(COMMUNITIES * 12)?.to_be_bytes());
        for community in 0..COMMUNITIES {
            [65000, 1, community].into_iter().for_each(|word| section.extend(word.to_be_bytes()));
        }
        let mut nlri = vec![24, 198, 51, 100];
        (0..17).for_each(|n| nlri.extend([32, 203, 0, 113, n]));
        let body = [&[0, 0][..], &u16::try_from(section.len())?.to_be_bytes(), &section, &nlri].concat();
        ensure!(body.len() == 4096 - 19, "{}", body.len());
        exabgp.send(&sessions[0], &body)?;
        let prefixes: Vec<String> = (0..17).map(prefix).chain(["198.51.100.0/24".to_owned()]).collect();
        let wanted = prefixes.iter().map(|prefix| (prefix.clone(), "10.9.0.2".to_owned())).collect();
        wait_routes(&us, &wanted, "all of the message")?;
        wait_learned(&frr, Family::V4, &prefixes.iter().map(String::as_str).collect::<Vec<_>>())?;
        let text = frr.ask("show bgp ipv4 unicast 198.51.100.0/24")?;
        ensure!(text.matches("65000:1:").count() == 330, "{text}");
        Ok(())
    }
);
