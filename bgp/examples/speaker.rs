//! A speaker from the command line, for trying things out and for tests that need a process to kill.
//!
//! ```text
//! speaker AS ROUTER-ID [--listen ADDR:PORT]... [--peer ADDR:PORT=AS[,passive][,from=ADDR]]... [--restarted] [PREFIX]...
//! ```
//!
//! Every line on standard input is answered with the speaker's state. Runs until standard input ends, then stops cleanly.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tortie_bgp::filter::{Filter, Rule, Verdict};
use tortie_bgp::net::{Handle, start};
use tortie_bgp::table::OriginatedRoute;
use tortie_bgp::{PeerConfig, SpeakerConfig};

struct Arguments {
    config: SpeakerConfig,
    routes: BTreeMap<IpNetwork, OriginatedRoute>,
    restarted: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    run(std::env::args().skip(1)).await
}

/// Runs a speaker with these arguments until standard input ends.
pub(crate) async fn run(words: impl Iterator<Item = String>) -> Result<()> {
    let Arguments { config, routes, restarted } = arguments(words)?;
    let (handle, mut table) = start(Some(config), restarted);
    handle.originate(routes);
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(_) => show(&handle).await?,
                None => break,
            },
            Some(_) = table.recv() => {}
        }
    }
    handle.shutdown().await;
    Ok(())
}

async fn show(handle: &Handle) -> Result<()> {
    let snapshot = handle.snapshot().await;
    let mut out = std::io::stdout().lock();
    for (id, peer) in &snapshot.peers {
        let error = peer.last_error.as_deref().unwrap_or("-");
        writeln!(
            out,
            "peer {id} {:?} {} received {} announced; {error}",
            peer.state, peer.received, peer.announced
        )?;
    }
    for (prefix, route) in &snapshot.routes {
        writeln!(out, "route {prefix} via {:?} preference {}", route.next_hops, route.local_pref)?;
    }
    writeln!(out, "converged {}", snapshot.converged)?;
    Ok(())
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let usage = "usage: speaker AS ROUTER-ID [--listen A:P] [--peer A:P=AS[,passive][,from=A]] [--restarted] [PREFIX]";
    let mut config = SpeakerConfig {
        local_as: words.next().context(usage)?.parse().context("AS")?,
        router_id: words.next().context(usage)?.parse().context("ROUTER-ID")?,
        listen: Vec::new(),
        cluster_id: None,
        peers: BTreeMap::new(),
    };
    let mut routes = BTreeMap::new();
    let mut restarted = false;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--restarted" => restarted = true,
            "--listen" => config.listen.push(words.next().context(usage)?.parse().context("--listen")?),
            "--peer" => {
                let (id, peer) = peer(&words.next().context(usage)?)?;
                config.peers.insert(id, peer);
            }
            prefix => {
                let prefix = prefix.parse().with_context(|| format!("prefix {prefix}"))?;
                routes.insert(prefix, OriginatedRoute { local_pref: 100 });
            }
        }
    }
    Ok(Arguments { config, routes, restarted })
}

fn peer(text: &str) -> Result<(SocketAddr, PeerConfig)> {
    let (id, rest) = text.split_once('=').context("a peer is ADDR:PORT=AS")?;
    let mut words = rest.split(',');
    let remote_as = words.next().unwrap_or_default().parse().context("AS of a peer")?;
    let id: SocketAddr = id.parse().with_context(|| format!("peer {id}"))?;
    let mut peer = PeerConfig::new(format!("Global_{}", id.ip()).replace(['.', ':'], "_"), remote_as);
    peer.export = Filter::new(vec![Rule::new("everything", Verdict::Accept)]);
    for word in words {
        match word.split_once('=') {
            None if word == "passive" => peer.passive = true,
            Some(("from", address)) => peer.local_address = Some(address.parse().context("from")?),
            _ => bail!("peer option {word} is unknown: passive, from=ADDR"),
        }
    }
    Ok((id, peer))
}
