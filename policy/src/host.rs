//! Host endpoints: which of them has which interface of this node, and how packets get to their policy.
//!
//! ```text
//! prerouting −300   host-raw-in         doNotTrack; allowed: mark, notrack
//! prerouting −150   host-dnat-in        preDNAT, at every interface; allowed: mark
//! input 0           host-input          normal policy, unless marked
//! forward 0         host-forward-in     applyOnForward, unless marked; then the workloads' policy; then host-forward-out
//! output −300       host-raw-out        doNotTrack
//! output 0          host-output         normal policy, unless marked, to a workload, or translated
//! postrouting −150  host-output         what was translated: only now it is known where it leaves
//! ```
//!
//! Chains exist only while some host endpoint of this node needs them.

mod failsafe;
mod hooks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Problems;
use crate::dispatch::{jump, rule};
use crate::group::Groups;
use crate::ir::{Direction, InterfaceName, Match, Rule, Verdict, WORKLOAD_PREFIX};
use crate::phase::Phase;
use crate::select::{Labelled, effective_labels};
use crate::snapshot::{HostEndpoint, HostPlace, Options, Snapshot};

pub(crate) use hooks::Hooks;

/// A host endpoint as policy sees endpoints.
pub(crate) struct Host<'a> {
    pub(crate) labelled: Labelled<'a>,
    place: &'a HostPlace,
}

/// All host endpoints of the cluster, in the order of their names.
pub(crate) fn endpoints(snapshot: &Snapshot) -> Vec<Host<'_>> {
    let all = snapshot.host_endpoints.iter();
    all.map(|(id, host)| {
        let HostEndpoint { endpoint, place } = Arc::as_ref(host);
        let labels = effective_labels(snapshot, &endpoint.labels, &endpoint.profiles);
        Host { labelled: Labelled { id, endpoint, labels }, place }
    })
    .collect()
}

/// The host endpoints of this node by what they are in charge of.
pub(crate) struct Local<'e, 'a> {
    named: BTreeMap<InterfaceName, &'e Labelled<'a>>,
    /// In charge of all other interfaces.
    rest: Option<&'e Labelled<'a>>,
}

/// Gives each interface to the host endpoint with the lowest name that is about it (felix-dataplane 3.5).
pub(crate) fn local<'e, 'a>(
    snapshot: &'a Snapshot,
    hosts: &'e [Host<'a>],
    problems: &mut Problems,
) -> Local<'e, 'a> {
    let mut local = Local { named: BTreeMap::new(), rest: None };
    for host in hosts {
        let interfaces: BTreeSet<&str> = match host.place {
            HostPlace::Elsewhere => continue,
            HostPlace::All => {
                match local.rest {
                    None => local.rest = Some(&host.labelled),
                    Some(owner) => taken(host, "*", owner, problems),
                }
                continue;
            }
            HostPlace::Interface(name) => BTreeSet::from([name.as_str()]),
            HostPlace::Addresses => with_addresses(snapshot, host, problems),
        };
        for interface in interfaces {
            match InterfaceName::new(interface).filter(|_| !interface.starts_with(WORKLOAD_PREFIX)) {
                None => {
                    let reason =
                        format!("{interface:?} is no name of an interface of the node, so it does nothing");
                    problems.add(subject(host), reason);
                }
                Some(name) => match local.named.get(&name) {
                    None => {
                        local.named.insert(name, &host.labelled);
                    }
                    Some(owner) => taken(host, interface, owner, problems),
                },
            }
        }
    }
    local
}

fn with_addresses<'a>(snapshot: &'a Snapshot, host: &Host<'_>, problems: &mut Problems) -> BTreeSet<&'a str> {
    let expected = &host.labelled.endpoint.addresses;
    let found: BTreeSet<&str> = snapshot
        .host_interfaces
        .iter()
        .filter(|(name, addresses)| {
            !name.starts_with(WORKLOAD_PREFIX) && expected.iter().any(|a| addresses.contains(a))
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if found.is_empty() {
        problems
            .add(subject(host), "no interface of this node has one of its expectedIPs, so it does nothing");
    }
    found
}

fn taken(host: &Host<'_>, interface: &str, owner: &Labelled<'_>, problems: &mut Problems) {
    let owner = &owner.id.name;
    problems.add(subject(host), format!("does nothing at {interface}: HostEndpoint {owner} has it"));
}

fn subject(host: &Host<'_>) -> String {
    format!("HostEndpoint {}", host.labelled.id.name)
}

/// Where packets of host endpoints go in one phase and direction.
#[derive(Default)]
struct Ways {
    named: BTreeMap<InterfaceName, Verdict>,
    rest: Option<String>,
}

impl Ways {
    fn new<'a>(
        local: &Local<'_, 'a>,
        phase: Phase,
        direction: Direction,
        groups: &mut Groups<'a>,
        problems: &mut Problems,
    ) -> Ways {
        let mut ways = Ways::default();
        match (local.rest, phase) {
            // The two do not go together (felix-dataplane 3.5).
            (Some(host), Phase::Untracked) if groups.concerns(host, direction, phase) => {
                let reason = "policies with doNotTrack are not applied to it, since its interfaceName is '*'";
                problems.add(format_args!("HostEndpoint {}", host.id.name), reason);
            }
            (None, _) | (Some(_), Phase::Untracked) => {}
            (Some(host), _) => ways.rest = groups.chain_for(host, direction, phase, problems),
        }
        for (interface, host) in &local.named {
            let verdict = match groups.chain_for(host, direction, phase, problems) {
                Some(chain) => Verdict::Goto(chain),
                None if ways.rest.is_some() => Verdict::Return,
                None => continue,
            };
            ways.named.insert(interface.clone(), verdict);
        }
        // What a node says to itself leaves it by no interface.
        if let (Some(_), Some(loopback)) = (&ways.rest, InterfaceName::new("lo")) {
            ways.named.entry(loopback).or_insert(Verdict::Return);
        }
        ways
    }

    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.rest.is_none()
    }
}

/// What precedes the stages in the chains of a phase.
pub(crate) fn preamble(options: &Options, phase: Phase, direction: Direction) -> Vec<Rule> {
    let invalid = || {
        let drop = rule(vec![Match::Invalid], Verdict::Drop, "invalid for connection tracking");
        (!options.accept_invalid).then_some(drop)
    };
    let failsafe = |tracked| jump(vec![], failsafe::chain_name(direction, tracked));
    match phase {
        Phase::Workload => Vec::new(),
        Phase::Forward => invalid().into_iter().collect(),
        Phase::Host | Phase::PreDnat => invalid().into_iter().chain([failsafe(true)]).collect(),
        Phase::Untracked => vec![failsafe(false)],
    }
}
