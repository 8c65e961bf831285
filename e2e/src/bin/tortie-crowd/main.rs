//! A crowd of peers around one speaker that it starts itself: how long a mesh of a thousand takes from the start of the
//! process, and whether a peer that behaves badly slows the others. Started by `e2e/bench/crowd.sh` in namespaces.

use std::io::{Write, stdout};
use std::net::Ipv4Addr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

mod attack;
mod crowd;
#[allow(dead_code, reason = "the other program asks for more")]
#[path = "../tortie-speaker-bench/usage.rs"]
mod usage;
mod wire;

use attack::{Attack, Kind, MANY};
use crowd::{Crowd, Peer};
use usage::Usage;

const TARGET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TARGET_AS: u32 = 65000;
const LIMIT: Duration = Duration::from_secs(120);
/// What the announcing peer of an attack has besides single routes.
const TABLE: u32 = 20_000;
const PROBES: usize = 400;

/// A crowd of peers around one speaker.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How to start the speaker
    #[arg(last = true, global = true)]
    command: Vec<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// From the start of the speaker to a complete mesh
    Mesh {
        /// How many internal peers; one external one more listens to what they announce
        #[arg(long, default_value_t = 1000)]
        peers: usize,
        /// The speaker dials
        #[arg(long)]
        speaker_dials: bool,
    },
    /// Delay of single routes between two peers while a third behaves badly
    Attack {
        /// How; nothing to measure how it is without
        #[arg(long)]
        kind: Option<Kind>,
        /// What the row is called
        #[arg(long)]
        name: String,
    },
}

/// Address of a peer; the script knows the same rule.
fn address(index: usize) -> Ipv4Addr {
    let octet = |number: usize| u8::try_from(1 + number).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 0, octet(index / 250), octet(index % 250))
}

/// The speaker; ends with this.
struct Speaker(Child);

impl Speaker {
    fn start(command: &[String]) -> Result<Speaker> {
        let (program, arguments) = command.split_first().context("nothing to start")?;
        let mut child = Command::new(program);
        child.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Speaker(child.spawn().with_context(|| format!("cannot start {program}"))?))
    }

    fn usage(&self) -> Usage {
        Usage::of(self.0.id())
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> ExitCode {
    let outcome = run(&Cli::parse()).and_then(|line| Ok(stdout().write_all(line.as_bytes())?));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tortie_e2e::report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<String> {
    match &cli.verb {
        Verb::Mesh { peers, speaker_dials } => mesh(*peers, *speaker_dials, &cli.command),
        Verb::Attack { kind, name } => attack(*kind, name, &cli.command),
    }
}

/// The block of a peer.
fn block(index: usize) -> (u32, u8) {
    (0x1400_0000 + u32::try_from(index).unwrap_or(0) * 64, 26)
}

fn mesh(count: usize, speaker_dials: bool, command: &[String]) -> Result<String> {
    let peer = |index: usize| {
        let (asn, mut says) = (if index < count { TARGET_AS } else { 65001 }, Vec::new());
        if index < count {
            let attributes = wire::attributes(None, address(index), 0);
            wire::announce(&attributes, [block(index)].into_iter(), &mut says);
        }
        says.extend(wire::end());
        Peer::new(address(index), asn, says)
    };
    let mut crowd = Crowd::new(TARGET, (0..=count).map(peer).collect(), !speaker_dials)?;
    let begin = Instant::now();
    let speaker = Speaker::start(command)?;
    let mut up = None;
    // The speaker has one route of its own, which everyone gets; the listener gets all.
    let all = i64::try_from(count)? + 1;
    let complete = |peers: &mut [Peer]| {
        if up.is_none() && peers.iter().all(|peer| peer.established) {
            up = Some(begin.elapsed());
        }
        up.is_some() && peers[count].routes == all && peers[..count].iter().all(|peer| peer.routes == 1)
    };
    let done = crowd.run(LIMIT, complete)?;
    let took = begin.elapsed();
    let usage = speaker.usage();
    if !done {
        let established = crowd.all.iter().filter(|peer| peer.established).count();
        bail!("{established} of {} sessions, {} of {all} routes", count + 1, crowd.all[count].routes);
    }
    let direction = if speaker_dials { "the speaker dials" } else { "the peers dial" };
    Ok(format!(
        "| {count} peers, {direction} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {} |\n",
        up.unwrap_or_default().as_secs_f64(),
        took.as_secs_f64(),
        usage.cpu,
        usage.resident,
        usage.peak,
        crowd.lost,
    ))
}

fn attack(kind: Option<Kind>, name: &str, command: &[String]) -> Result<String> {
    let attacker = 2;
    let mut table = Vec::new();
    let from = wire::attributes(Some(65001), address(0), 0);
    let blocks = (0..TABLE).map(|number| (0x2000_0000 + number * 64, 26));
    wire::announce(&from, blocks, &mut table);
    table.extend(wire::end());
    let peers = vec![Peer::new(address(0), 65001, table), Peer::new(address(1), 65002, wire::end())];
    let mut crowd = Crowd::new(TARGET, peers, true)?;
    let speaker = Speaker::start(command)?;
    if !crowd.run(LIMIT, |peers| peers[1].routes >= i64::from(TABLE))? {
        bail!("no table before the attack");
    }
    crowd.run(Duration::from_secs(1), |_| false)?;
    let attack = kind.map(|kind| Attack::start(kind, address(attacker), 65003, TARGET));
    crowd.run(Duration::from_millis(500), |_| false)?;
    let (begin, before) = (Instant::now(), speaker.usage());
    let mut delays = Vec::new();
    for probe in 0..PROBES {
        let prefix = (0x6400_0000 + u32::try_from(probe)?, 32);
        delays.push(delay(&mut crowd, prefix, &from)? * 1e3);
        crowd.run(Duration::from_millis(5), |_| false)?;
    }
    if kind == Some(Kind::Routes) {
        // Until the last of them is there or refused.
        crowd.run(Duration::from_secs(20), |peers| peers[1].routes >= i64::from(TABLE + MANY))?;
    }
    let (took, usage) = (begin.elapsed().as_secs_f64(), speaker.usage());
    let done = attack.as_ref().map_or(0, Attack::done);
    attack.into_iter().for_each(Attack::end);
    delays.sort_by(f64::total_cmp);
    let part = |hundredth: usize| delays.get(delays.len() * hundredth / 100).copied().unwrap_or_default();
    Ok(format!(
        "| {name} | {:.3} | {:.3} | {:.3} | {:.0} | {:.0} | {:.0} | {done} | {} |\n",
        part(50),
        part(99),
        delays.last().copied().unwrap_or_default(),
        (usage.cpu - before.cpu) / took * 100.0,
        usage.resident,
        usage.peak,
        crowd.lost,
    ))
}

/// Seconds from the announcement of a route by the first peer until the second has it.
fn delay(crowd: &mut Crowd, prefix: (u32, u8), attributes: &[u8]) -> Result<f64> {
    crowd.all[1].watches = Some(prefix);
    let mut octets = Vec::new();
    wire::announce(attributes, [prefix].into_iter(), &mut octets);
    let begin = Instant::now();
    crowd.all[0].send(&octets);
    let seen =
        |peers: &mut [Peer]| peers[1].saw.is_some_and(|(seen, announced, _)| seen == prefix && announced);
    if !crowd.run(LIMIT, seen)? {
        bail!("a route never came; {} sessions lost", crowd.lost);
    }
    let at = crowd.all[1].saw.map_or(begin, |(_, _, at)| at);
    let took = at.duration_since(begin).as_secs_f64();
    octets.clear();
    wire::withdraw([prefix].into_iter(), &mut octets);
    crowd.all[0].send(&octets);
    Ok(took)
}
