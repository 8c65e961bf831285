//! What happens to the speaker, and the figures taken on the way. Times start after the sessions are up.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::peers::{Identity, Peer, Peers};
use crate::report::Report;
use crate::usage::{Usage, machine};
use crate::wire::{Attributes, Format, Plan};
use crate::{Measure, Scenario};

/// AS of the speaker.
const TARGET_AS: u32 = 65000;
/// Longest wait for routes.
const LIMIT: Duration = Duration::from_secs(180);
/// Quiet time between two parts, so that neither counts work of the other.
const PAUSE: Duration = Duration::from_secs(1);
/// Single routes measured.
const PROBES: u32 = 200;

/// Runs a scenario. What stops it stands in the report.
///
/// # Errors
/// When it cannot be run at all.
pub(crate) fn run(wanted: &Measure) -> Result<Report> {
    let mut report = Report::default();
    report.word("speaker", &wanted.name);
    let what = match wanted.scenario {
        Scenario::Feed => format!("feed of {}", wanted.prefixes),
        Scenario::Ebgp => format!("{} external peers × {}", wanted.peers, wanted.each),
        Scenario::Rr => format!("{} reflector clients × {}", wanted.peers, wanted.each),
    };
    let more =
        [(wanted.target.is_ipv6(), ", IPv6"), (wanted.all_capabilities, ", add-path and graceful restart")];
    let more: String = more.into_iter().filter(|(is, _)| *is).map(|(_, words)| words).collect();
    report.word("scenario", &(what + &more));
    let outcome = match wanted.scenario {
        Scenario::Feed => feed(wanted, &mut report),
        Scenario::Ebgp | Scenario::Rr => fan_out(wanted, &mut report),
    };
    report.end(outcome.err().map(|error| error.to_string()));
    Ok(report)
}

/// Own usage and the machine's at the beginning of a part.
struct Before {
    speaker: Usage,
    own: Usage,
    machine: f64,
    at: Instant,
}

impl Before {
    fn now(pid: u32) -> Before {
        let own = Usage::of(std::process::id());
        Before { speaker: Usage::of(pid), own, machine: machine(), at: Instant::now() }
    }

    fn seconds(&self) -> f64 {
        self.at.elapsed().as_secs_f64()
    }

    /// Notes what the part cost: the speaker, and everybody besides it and us.
    fn cost(&self, pid: u32, report: &mut Report) {
        let (speaker, own) = (Usage::of(pid), Usage::of(std::process::id()));
        let used = speaker.cpu - self.speaker.cpu;
        report.figure("cpu_s", used);
        report.figure("rss_mib", speaker.resident);
        report.figure("peak_mib", speaker.peak);
        report.figure("others_cpu_s", (machine() - self.machine - used - (own.cpu - self.own.cpu)).max(0.0));
    }
}

fn format(wanted: &Measure, plan: Plan) -> Format {
    let all = wanted.all_capabilities;
    Format { plan, ipv6: wanted.target.is_ipv6(), add_path: all, graceful: all }
}

/// Who a peer is; `run.sh` has the same rule for addresses and AS numbers.
fn identity(index: usize, wanted: &Measure) -> Result<Identity> {
    let (high, low) = (1 + index / 250, 1 + index % 250);
    let id = Ipv4Addr::new(10, 0, u8::try_from(high)?, u8::try_from(low)?);
    let address = match wanted.target {
        IpAddr::V4(_) => id.into(),
        // The digits stand as they are, though they are hexadecimal here.
        IpAddr::V6(_) => format!("fd00:10::{high}:{low}").parse()?,
    };
    let asn = if wanted.scenario == Scenario::Rr { TARGET_AS } else { 65001 + u32::try_from(index)? };
    Ok((address, id, asn))
}

fn connect(wanted: &Measure, format: Format, universe: u32, count: usize) -> Result<Peers> {
    let identities: Vec<Identity> = (0..count).map(|index| identity(index, wanted)).collect::<Result<_>>()?;
    Peers::new(wanted.target, format, universe, identities.into_iter())
}

/// The routes `from..to` of a peer as UPDATEs.
fn announcements(peer: &Peer, format: Format, from: u32, to: u32, per_set: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let numbers: Vec<u32> = (from..to).collect();
    for chunk in numbers.chunks(usize::try_from(per_set.max(1)).unwrap_or(1)) {
        let set = chunk.first().copied().unwrap_or_default() / per_set.max(1);
        let path = [peer.asn, 64700 + set % 200, 4_200_000_000 + set % 5000];
        let attributes = attributes(peer, format, &path, set);
        format.announce(&mut out, &attributes, chunk.iter().map(|number| format.prefix(*number)));
    }
    out
}

fn attributes(peer: &Peer, format: Format, path: &[u32], set: u32) -> Attributes {
    let internal = peer.asn == TARGET_AS;
    format.attributes(if internal { &[] } else { path }, peer.address, internal.then_some(100), set)
}

fn establish(peers: &mut Peers, which: &[usize], wanted: &Measure) -> Result<f64> {
    let start = Instant::now();
    if !peers.establish(which, Duration::from_secs(wanted.patience))? {
        bail!("sessions not up within {} s{}", wanted.patience, peers.told());
    }
    Ok(start.elapsed().as_secs_f64())
}

fn until(peers: &mut Peers, what: &str, done: impl FnMut(&[Peer]) -> bool) -> Result<f64> {
    let start = Instant::now();
    if !peers.run(LIMIT, done)? {
        bail!("{what}: not within {} s{}", LIMIT.as_secs(), peers.told());
    }
    Ok(start.elapsed().as_secs_f64())
}

fn pause(peers: &mut Peers) -> Result<()> {
    peers.run(PAUSE, |_| false).map(drop)
}

fn feed(wanted: &Measure, report: &mut Report) -> Result<()> {
    let (count, pid, format) = (wanted.prefixes, wanted.pid, format(wanted, Plan::Mixed));
    let mut peers = connect(wanted, format, count, 3)?;
    report.figure("setup_s", establish(&mut peers, &[0, 1], wanted)?);
    pause(&mut peers)?;
    let octets = announcements(&peers.all[0], format, 0, count, wanted.per_set);
    let before = Before::now(pid);
    peers.send(0, &octets);
    let mut sent = None;
    until(&mut peers, "all routes received", |all| {
        if sent.is_none() && all[0].is_drained() {
            sent = Some(before.seconds());
        }
        all[1].routes >= count
    })?;
    report.figure("converge_s", before.seconds());
    report.figure("sent_s", sent.unwrap_or_default());
    report.figure("updates", f64::from(u32::try_from(peers.all[1].updates).unwrap_or(u32::MAX)));
    pause(&mut peers)?;
    before.cost(pid, report);
    // From its dial on: the first routes may come with the last message of the handshake.
    let start = Instant::now();
    establish(&mut peers, &[2], wanted)?;
    until(&mut peers, "the late peer has all", |all| all[2].routes >= count)?;
    report.figure("late_s", start.elapsed().as_secs_f64());
    pause(&mut peers)?;
    peers.close(0);
    let gone = |all: &[Peer]| all[1].routes == 0 && all[2].routes == 0;
    report.figure("withdraw_s", until(&mut peers, "all routes withdrawn", gone)?);
    Ok(())
}

fn fan_out(wanted: &Measure, report: &mut Report) -> Result<()> {
    let (each, pid, format) = (wanted.each, wanted.pid, format(wanted, Plan::Blocks));
    let count = u32::try_from(wanted.peers)? * each;
    let mut peers = connect(wanted, format, count + PROBES, wanted.peers)?;
    let all: Vec<usize> = (0..wanted.peers).collect();
    report.figure("setup_s", establish(&mut peers, &all, wanted)?);
    pause(&mut peers)?;
    let own = |index: usize| {
        let first = u32::try_from(index).unwrap_or_default() * each;
        first..first + each
    };
    let tables: Vec<Vec<u8>> = all
        .iter()
        .map(|&index| {
            announcements(&peers.all[index], format, own(index).start, own(index).end, wanted.per_set)
        })
        .collect();
    // Whether own routes come back is the speaker's choice.
    let complete = |(index, peer): (usize, &Peer)| {
        peer.routes >= count || peer.routes >= count - each && own(index).all(|number| !peer.has(number))
    };
    let everywhere = |peers: &[Peer]| peers.iter().enumerate().all(complete);
    let before = Before::now(pid);
    all.iter().for_each(|&index| peers.send(index, &tables[index]));
    until(&mut peers, "everything everywhere", everywhere)?;
    report.figure("converge_s", before.seconds());
    pause(&mut peers)?;
    before.cost(pid, report);
    probes(&mut peers, format, count, report)?;

    peers.close(0);
    let gone = |peers: &[Peer]| peers.iter().skip(1).all(|peer| own(0).all(|number| !peer.has(number)));
    report.figure("loss_s", until(&mut peers, "a lost peer's routes gone", gone)?);
    let start = Instant::now();
    establish(&mut peers, &[0], wanted)?;
    peers.send(0, &tables[0]);
    until(&mut peers, "the peer complete again", everywhere)?;
    report.figure("rejoin_s", start.elapsed().as_secs_f64());
    Ok(())
}

/// One route at a time, from changing peers: announced until the last of the others has it, and withdrawn.
fn probes(peers: &mut Peers, format: Format, first: u32, report: &mut Report) -> Result<()> {
    let mut delays = Vec::new();
    for probe in 0..PROBES {
        let (number, from) = (first + probe, usize::try_from(probe)? * 7 % peers.all.len());
        let path = [peers.all[from].asn];
        let mut octets = Vec::new();
        let set = attributes(&peers.all[from], format, &path, probe);
        format.announce(&mut octets, &set, [format.prefix(number)].into_iter());
        let others = |all: &[Peer], have: bool| {
            all.iter().enumerate().all(|(index, peer)| index == from || peer.has(number) == have)
        };
        peers.send(from, &octets);
        delays.push(until(peers, "a single route everywhere", |all| others(all, true))? * 1e3);
        peers.send(from, &format.withdraw(format.prefix(number)));
        until(peers, "a single route gone", |all| others(all, false))?;
    }
    delays.sort_by(f64::total_cmp);
    let part = |hundredth: usize| delays.get(delays.len() * hundredth / 100).copied().unwrap_or_default();
    report.figure("probe_p50_ms", part(50));
    report.figure("probe_p99_ms", part(99));
    Ok(())
}
