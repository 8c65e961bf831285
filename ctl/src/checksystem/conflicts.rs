//! Which of a node's packets other tables stop; pure.
//!
//! In nftables `accept` ends only the base chain it is in, and a drop anywhere is final: nothing of ours can open what another
//! table closes. So samples of what a node needs are sent through every base chain of others.

use std::collections::BTreeSet;

use nftables::types::NfHook;
use serde::Serialize;

use super::listing::{Listing, Table, TableName};
use super::packet::{IPIP, Interface, Packet, TCP, UDP};
use super::remedy::{self, Opening};
use super::walk::{self, Stop};

/// A base chain of somebody else's that stops what a node needs.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conflict {
    /// Family and name.
    pub(crate) table: String,
    /// The base chain.
    pub(crate) chain: String,
    /// Where the kernel calls it.
    pub(crate) hook: &'static str,
    /// What it stops: new connections of these kinds.
    pub(crate) stops: Vec<String>,
    /// Why.
    pub(crate) reason: String,
    /// False where some rules cannot be judged, or not every node needs what is stopped.
    pub(crate) certain: bool,
    /// Commands that let it through.
    pub(crate) remedy: Vec<String>,
}

/// Something a node needs.
struct Sample {
    what: &'static str,
    /// Hooks it passes.
    hooks: &'static [NfHook],
    /// Its interfaces, protocol and port; the family is to be filled in.
    packet: Packet,
    opening: Opening,
    /// Every node needs it.
    always: bool,
}

const FORWARDED: &[NfHook] = &[NfHook::Prerouting, NfHook::Forward, NfHook::Postrouting];
const RECEIVED: &[NfHook] = &[NfHook::Prerouting, NfHook::Input];
const SENT: &[NfHook] = &[NfHook::Output, NfHook::Postrouting];

/// `uplink` is the interface other nodes are reached by, as far as it is known.
fn samples(uplink: Option<&str>) -> Vec<Sample> {
    let elsewhere = || uplink.map_or(Interface::Other, |name| Interface::Named(name.to_owned()));
    let forwarded = |what, input, output, opening| Sample {
        what,
        hooks: FORWARDED,
        packet: Packet { ipv6: false, input, output, protocol: TCP, port: None },
        opening,
        always: true,
    };
    let received = |what, protocol, port, opening, always| Sample {
        what,
        hooks: RECEIVED,
        packet: Packet { ipv6: false, input: elsewhere(), output: Interface::None, protocol, port },
        opening,
        always,
    };
    vec![
        forwarded("from workloads to elsewhere", Interface::Workload, elsewhere(), Opening::FromWorkloads),
        forwarded("to workloads from elsewhere", elsewhere(), Interface::Workload, Opening::ToWorkloads),
        forwarded(
            "between workloads of this node",
            Interface::Workload,
            Interface::Workload,
            Opening::FromWorkloads,
        ),
        received("BGP from other nodes (TCP port 179)", TCP, Some(179), Opening::Bgp, true),
        received("IPIP from other nodes (protocol 4)", IPIP, None, Opening::Ipip, false),
        received("VXLAN from other nodes (UDP port 4789)", UDP, Some(4789), Opening::Vxlan, false),
        Sample {
            what: "from this node to its workloads",
            hooks: SENT,
            packet: Packet {
                ipv6: false,
                input: Interface::None,
                output: Interface::Workload,
                protocol: TCP,
                port: None,
            },
            opening: Opening::ToWorkloads,
            always: true,
        },
    ]
}

/// All conflicts, in the order of tables and chains, certain ones first.
pub(crate) fn find(listing: &Listing, uplink: Option<&str>) -> Vec<Conflict> {
    let samples = samples(uplink);
    let mut found = Vec::new();
    for (name, table) in &listing.tables {
        for (chain_name, chain) in &table.chains {
            if let Some(base) = chain.base {
                let stopped = stopped(name, table, chain_name, base.hook, &samples);
                found.extend([true, false].into_iter().filter_map(|certain| {
                    let of_kind: Vec<_> = stopped.iter().filter(|s| s.is_certain() == certain).collect();
                    conflict(name, table, chain_name, base.hook, certain, &of_kind)
                }));
            }
        }
    }
    found
}

/// A sample that does not pass.
struct Stopped<'a> {
    sample: &'a Sample,
    /// In a table of both families only this one is stopped.
    only: Option<&'static str>,
    /// IPv4 passes, or is none of the table's business.
    spares_ipv4: bool,
    stop: Stop,
}

impl Stopped<'_> {
    /// Not every node has IPv6.
    fn is_certain(&self) -> bool {
        self.sample.always && self.stop.doubts == 0 && !self.spares_ipv4
    }

    fn words(&self) -> String {
        let only = self.only.map(|family| format!(", {family} only")).unwrap_or_default();
        format!("{}{only}", self.sample.what)
    }
}

fn stopped<'a>(
    name: &TableName,
    table: &Table,
    chain: &str,
    hook: NfHook,
    samples: &'a [Sample],
) -> Vec<Stopped<'a>> {
    let judge = |sample: &'a Sample| {
        // A tunnel between nodes is IPv4.
        let in_ipv6 = sample.packet.protocol != IPIP;
        let of_family = |ipv6: bool| {
            let packet = Packet { ipv6, ..sample.packet.clone() };
            let exists = name.family == "inet" || (name.family == "ip6") == ipv6;
            (exists && (in_ipv6 || !ipv6)).then(|| walk::stop(table, chain, &packet)).flatten()
        };
        let (ipv4, ipv6) = (of_family(false), of_family(true));
        let only = match (&ipv4, &ipv6) {
            (Some(_), None) if name.family == "inet" && in_ipv6 => Some("IPv4"),
            (None, Some(_)) if name.family == "inet" => Some("IPv6"),
            _ => None,
        };
        let spares_ipv4 = ipv4.is_none();
        Some(Stopped { sample, only, spares_ipv4, stop: ipv4.or(ipv6)? })
    };
    samples.iter().filter(|sample| sample.hooks.contains(&hook)).filter_map(judge).collect()
}

fn conflict(
    name: &TableName,
    table: &Table,
    chain: &str,
    hook: NfHook,
    certain: bool,
    stopped: &[&Stopped<'_>],
) -> Option<Conflict> {
    if stopped.is_empty() {
        return None;
    }
    let openings: BTreeSet<Opening> = stopped.iter().map(|stopped| stopped.sample.opening).collect();
    let reasons: BTreeSet<String> = stopped
        .iter()
        .map(|stopped| match &stopped.stop.chain {
            Some(chain) => format!("a rule of chain {chain} drops or rejects it"),
            None => "what no rule accepts is dropped (policy drop)".to_owned(),
        })
        .collect();
    let mut reason = reasons.into_iter().collect::<Vec<_>>().join("; ");
    let doubts = stopped.iter().map(|stopped| stopped.stop.doubts).max().unwrap_or_default();
    if doubts > 0 {
        reason.push_str(&format!("; rules before it that cannot be judged here may accept it ({doubts})"));
    }
    Some(Conflict {
        table: name.to_string(),
        chain: chain.to_owned(),
        hook: hook_name(hook),
        stops: stopped.iter().map(|stopped| stopped.words()).collect(),
        reason,
        certain,
        remedy: remedy::commands((name, &table.chains), (chain, hook), &openings),
    })
}

fn hook_name(hook: NfHook) -> &'static str {
    match hook {
        NfHook::Ingress => "ingress",
        NfHook::Prerouting => "prerouting",
        NfHook::Forward => "forward",
        NfHook::Input => "input",
        NfHook::Output => "output",
        NfHook::Postrouting => "postrouting",
        NfHook::Egress => "egress",
    }
}
