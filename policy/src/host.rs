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
use crate::ir::{Direction, InterfaceName, Match, Rule, Verdict, WORKLOAD_PREFIX};
use crate::phase::Phase;
use crate::snapshot::{EndpointId, HostEndpoint, HostPlace, Options, Surroundings};

pub(crate) use hooks::Hooks;

/// Host endpoints by name.
pub(crate) type Hosts = BTreeMap<Arc<EndpointId>, Arc<HostEndpoint>>;

/// Who knows what policy says of a host endpoint.
pub(crate) trait Ask {
    /// Name of the chain for a direction and phase; `None` when it would let everything on.
    fn chain(&mut self, host: &EndpointId, direction: Direction, phase: Phase) -> Option<String>;
    /// Whether there is any policy.
    fn concerns(&mut self, host: &EndpointId, direction: Direction, phase: Phase) -> bool;
}

/// The host endpoints of this node by what they are in charge of.
pub(crate) struct Local<'a> {
    named: BTreeMap<InterfaceName, &'a EndpointId>,
    /// In charge of all other interfaces.
    rest: Option<&'a EndpointId>,
}

/// Gives each interface to the host endpoint with the lowest name that is about it (felix-dataplane 3.5).
pub(crate) fn local<'a>(around: &'a Surroundings, hosts: &'a Hosts, problems: &mut Problems) -> Local<'a> {
    let mut local = Local { named: BTreeMap::new(), rest: None };
    for (id, host) in hosts {
        let interfaces: BTreeSet<&str> = match &host.place {
            HostPlace::Elsewhere => continue,
            HostPlace::All => {
                match local.rest {
                    None => local.rest = Some(id),
                    Some(owner) => taken(id, "*", owner, problems),
                }
                continue;
            }
            HostPlace::Interface(name) => BTreeSet::from([name.as_str()]),
            HostPlace::Addresses => with_addresses(around, id, host, problems),
        };
        for interface in interfaces {
            match InterfaceName::new(interface).filter(|_| !interface.starts_with(WORKLOAD_PREFIX)) {
                None => {
                    let reason =
                        format!("{interface:?} is no name of an interface of the node, so it does nothing");
                    problems.add(subject(id), reason);
                }
                Some(name) => match local.named.get(&name) {
                    None => {
                        local.named.insert(name, id);
                    }
                    Some(owner) => taken(id, interface, owner, problems),
                },
            }
        }
    }
    local
}

fn with_addresses<'a>(
    around: &'a Surroundings,
    id: &EndpointId,
    host: &HostEndpoint,
    problems: &mut Problems,
) -> BTreeSet<&'a str> {
    let expected = &host.endpoint.addresses;
    let found: BTreeSet<&str> = around
        .host_interfaces
        .iter()
        .filter(|(name, addresses)| {
            !name.starts_with(WORKLOAD_PREFIX) && expected.iter().any(|a| addresses.contains(a))
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if found.is_empty() {
        problems.add(subject(id), "no interface of this node has one of its expectedIPs, so it does nothing");
    }
    found
}

fn taken(id: &EndpointId, interface: &str, owner: &EndpointId, problems: &mut Problems) {
    let owner = &owner.name;
    problems.add(subject(id), format!("does nothing at {interface}: HostEndpoint {owner} has it"));
}

fn subject(id: &EndpointId) -> String {
    format!("HostEndpoint {}", id.name)
}

/// Where packets of host endpoints go in one phase and direction.
#[derive(Default)]
struct Ways {
    named: BTreeMap<InterfaceName, Verdict>,
    rest: Option<String>,
}

impl Ways {
    fn new(
        local: &Local<'_>,
        phase: Phase,
        direction: Direction,
        ask: &mut impl Ask,
        problems: &mut Problems,
    ) -> Ways {
        let mut ways = Ways::default();
        match (local.rest, phase) {
            // The two do not go together (felix-dataplane 3.5).
            (Some(host), Phase::Untracked) if ask.concerns(host, direction, phase) => {
                let reason = "policies with doNotTrack are not applied to it, since its interfaceName is '*'";
                problems.add(subject(host), reason);
            }
            (None, _) | (Some(_), Phase::Untracked) => {}
            (Some(host), _) => ways.rest = ask.chain(host, direction, phase),
        }
        for (interface, host) in &local.named {
            let verdict = match ask.chain(host, direction, phase) {
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
