//! From selected ends to peer configurations: de-duplication, filters, what cannot be honoured
//! (bgp-behaviour 2.2, 2.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_bgp::config::AddPath;
use tortie_bgp::filter::{Filter, Rule};
use tortie_bgp::{PeerConfig, PeerId};
use tortie_model::{Key, Kind};

use super::cluster::Cluster;
use super::filters::{self, Shared, Stream};
use super::options;
use super::selection::{self, Remote};
use super::workloads::Workload;
use crate::calc::{Problems, Secrets};

/// What sessions are made of.
pub(super) struct Inputs<'a> {
    pub(super) cluster: &'a Cluster<'a>,
    pub(super) secrets: &'a Secrets,
    pub(super) workloads: &'a [Workload],
    /// Built-in export rules, IPv4 and IPv6.
    pub(super) export: [Vec<Rule>; 2],
    /// Filters of the last calculation.
    pub(super) before: &'a Shared,
}

/// The sessions of this node and what they need around them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) peers: BTreeMap<PeerId, PeerConfig>,
    /// Gateways to peers.
    pub(super) reachable_by: BTreeMap<IpAddr, IpAddr>,
    /// Interfaces of workloads with a session, and the families of these.
    pub(super) workloads: BTreeMap<String, BTreeSet<bool>>,
    /// Filters in use.
    pub(super) filters: Shared,
}

/// All peers of this node. An end belongs to whoever claims it first, and stays claimed when that session cannot be
/// had: nothing less strict takes its place.
pub(super) fn calculate(inputs: &Inputs<'_>, problems: &mut Problems) -> Sessions {
    let cluster = inputs.cluster;
    let mut claimed = BTreeMap::new();
    let mut sessions = Sessions::default();
    let explicit = selection::explicit(cluster, inputs.workloads, problems);
    for remote in explicit.into_iter().chain(selection::mesh(cluster)) {
        let address = remote.end.ip();
        let own = cluster.own_addresses().any(|own| own == address);
        let Some(source) = cluster.own_address_towards(address) else {
            unreachable(cluster, &remote, problems);
            continue;
        };
        let name = remote.options.map(|(name, _)| name);
        if own {
            continue;
        }
        if let Some(first) = claimed.get(&remote.end).copied() {
            superseded(&remote, first, problems);
            continue;
        }
        claimed.insert(remote.end, name);
        match configure(inputs, &remote, source, &mut sessions.filters, problems) {
            Ok(peer) => sessions.add(&remote, peer, problems),
            Err(reason) => problems.add(subject(&remote), reason),
        }
    }
    sessions
}

impl Sessions {
    fn add(&mut self, remote: &Remote<'_>, peer: PeerConfig, problems: &mut Problems) {
        let address = remote.end.ip();
        if let Some(gateway) = remote.options.and_then(|(_, spec)| spec.reachable_by) {
            let first = *self.reachable_by.entry(address).or_insert(gateway);
            if first != gateway {
                let reason = format!("reachableBy {gateway}: {address} is reached by {first} already");
                problems.add(subject(remote), reason);
            }
        }
        if let Some(workload) = remote.workload {
            self.workloads.entry(workload.interface.clone()).or_default().insert(address.is_ipv6());
        }
        self.peers.insert(remote.end, peer);
    }
}

/// An end given by address that another BGPPeer has already. Ends found by selectors overlap as a matter of course.
fn superseded(remote: &Remote<'_>, first: Option<&str>, problems: &mut Problems) {
    if let (Some((name, spec)), Some(first)) = (remote.options, first)
        && name != first
        && !spec.peer_ip.is_empty()
        && !remote.reverse
    {
        problems.add(
            format!("BGPPeer {name}"),
            format!(
                "peerIP {}: this node peers with {} by BGPPeer {first} already; no second session",
                spec.peer_ip, remote.end
            ),
        );
    }
}

/// An end of a family without own address. Peers for many nodes need not fit each; one for this node alone does.
fn unreachable(cluster: &Cluster<'_>, remote: &Remote<'_>, problems: &mut Problems) {
    if let Some((name, spec)) = remote.options
        && spec.node == cluster.own_name
        && !spec.peer_ip.is_empty()
    {
        let (family, variable) = if remote.end.is_ipv6() { ("IPv6", "IP6") } else { ("IPv4", "IP") };
        problems.add(
            format!("BGPPeer {name}"),
            format!(
                "peerIP {}: this node has no {family} address ({variable} gives it one); no session",
                spec.peer_ip
            ),
        );
    }
}

fn subject(remote: &Remote<'_>) -> String {
    match remote.options {
        Some((name, _)) => format!("BGPPeer {name}"),
        None => "BGPConfiguration default".to_owned(),
    }
}

fn configure(
    inputs: &Inputs<'_>,
    remote: &Remote<'_>,
    source: IpAddr,
    shared: &mut Shared,
    problems: &mut Problems,
) -> Result<PeerConfig, String> {
    let cluster = inputs.cluster;
    let mut peer = PeerConfig::new(options::name(remote), remote.remote_as);
    peer.local_address = Some(source);
    peer.passive = remote.passive;
    // Calico's BIRD negotiates both on every session.
    peer.add_path = AddPath { send: true, receive: true };
    match remote.options {
        None => options::mesh(cluster, inputs.secrets, &mut peer)?,
        Some((_, spec)) => options::explicit(cluster, inputs.secrets, remote, spec, &mut peer)?,
    }
    let local_as = peer.local_as.unwrap_or_else(|| cluster.as_of(cluster.own));
    peer.reflector_client = local_as == peer.remote_as && is_client(cluster, remote);
    peer.import = filter(inputs, remote, false, shared, problems)?;
    peer.export = filter(inputs, remote, true, shared, problems)?;
    Ok(peer)
}

/// The filter of one direction: the BGPFilters named, then on export what is built in.
fn filter(
    inputs: &Inputs<'_>,
    remote: &Remote<'_>,
    export: bool,
    shared: &mut Shared,
    problems: &mut Problems,
) -> Result<Filter, String> {
    let names = remote.options.map_or(&[][..], |(_, spec)| &spec.filters);
    let stream = Stream { export, ipv6: remote.end.is_ipv6() };
    let cache = inputs.cluster.cache;
    let known = |name: &String| {
        cache.bgp_filters.contains_key(name)
            || cache.invalid.contains_key(&Key::resource(Kind::BgpFilter, None, name.as_str()))
    };
    if export && !names.iter().all(known) {
        let missing: Vec<&str> = names.iter().filter(|name| !known(name)).map(String::as_str).collect();
        let reason = format!("filters: there is no BGPFilter {}; it is left out", missing.join(", "));
        problems.add(subject(remote), reason);
    }
    shared.filter(inputs.before, stream, names, || {
        let mut rules = filters::rules(cache, names, stream)?;
        if export {
            rules.extend(inputs.export[usize::from(stream.ipv6)].iter().cloned());
        }
        Ok(rules)
    })
}

/// A reflector's internal peer is a client unless it is a node with the same cluster id (bgp-behaviour 2.5).
fn is_client(cluster: &Cluster<'_>, remote: &Remote<'_>) -> bool {
    let own = cluster.reflector_id(cluster.own);
    own.is_some() && remote.node.and_then(|node| cluster.reflector_id(node)) != own
}
