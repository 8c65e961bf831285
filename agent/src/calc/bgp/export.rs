//! The built-in export filter of every peer (bgp-behaviour 4), in the order in which it decides. The first step there,
//! LOCAL_PREF from the metric, is done where routes are originated; BGPFilters of the peer come before what is here.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use tortie_bgp::filter::{Change, LocalPref, PeerType, PrefixMatch, Rule, Verdict};
use tortie_model::resource::{BgpConfigurationSpec, PrefixAdvertisement};

use super::cluster::Cluster;
use super::filters::{addition, community, local_pref};
use super::services::Ranges;
use crate::calc::Problems;

/// What export depends on besides the cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a> {
    pub(super) own_blocks: &'a BTreeSet<IpNetwork>,
    pub(super) services: &'a Ranges,
}

/// The rules for sessions of one family.
pub(super) fn rules(
    cluster: &Cluster<'_>,
    inputs: Inputs<'_>,
    ipv6: bool,
    problems: &mut Problems,
) -> Vec<Rule> {
    let of_family = |prefix: &&IpNetwork| prefix.is_ipv6() == ipv6;
    let pools = || cluster.cache.pools.iter().filter(|(_, pool)| of_family(&&pool.cidr));
    let mut rules = Vec::new();
    for (name, pool) in pools().filter(|(_, pool)| pool.disable_bgp_export) {
        rules.push(inside(format!("pool {name} disableBGPExport"), pool.cidr, Verdict::Reject));
    }
    rules.extend(tunnels());
    rules.extend(communities(cluster, ipv6, problems));
    for block in inputs.own_blocks.iter().filter(of_family) {
        rules.extend(own_block(*block, local_pref(cluster.normal_priority(ipv6))));
    }
    for range in inputs.services.announced.iter().filter(of_family) {
        rules.push(inside(format!("service range {range}"), *range, Verdict::Accept));
    }
    if cluster.reflector_id(cluster.own).is_some() {
        for range in inputs.services.reflected.iter().filter(of_family) {
            rules.push(inside(format!("service range {range} of others"), *range, Verdict::Accept));
        }
    }
    for (name, pool) in pools().filter(|(_, pool)| !pool.disable_bgp_export) {
        rules.push(inside(format!("pool {name}"), pool.cidr, Verdict::Accept));
    }
    rules.push(Rule::new("no rule accepts it", Verdict::Reject));
    rules
}

fn inside(reason: impl Into<String>, network: IpNetwork, verdict: Verdict) -> Rule {
    Rule { prefix: Some(PrefixMatch::In(network)), ..Rule::new(reason, verdict) }
}

/// Routes into tunnels other than those this agent makes for BGP (`tunl0`) do not leave.
fn tunnels() -> Vec<Rule> {
    let through = |pattern: &str, peer_type| Rule {
        interface: Some(pattern.to_owned()),
        peer_type,
        ..Rule::new(format!("leads into a tunnel ({pattern})"), Verdict::Reject)
    };
    let internal = Some(PeerType::Internal);
    vec![through("*.cali", internal), through("*.calico", internal), through("bpf*.cali", None)]
}

/// The block stands for what is inside, except for a workload that is moving and has the better route; addresses
/// borrowed from other nodes' blocks fall through.
fn own_block(block: IpNetwork, normal: u32) -> [Rule; 3] {
    let moving = inside(format!("moving inside own block {block}"), block, Verdict::Accept);
    [
        Rule {
            prefix: Some(PrefixMatch::Equal(block)),
            ..Rule::new(format!("own block {block}"), Verdict::Accept)
        },
        Rule { local_pref: Some(LocalPref::Above(normal)), ..moving },
        inside(format!("inside own block {block}"), block, Verdict::Reject),
    ]
}

/// Communities of `prefixAdvertisements`; a list of the node replaces the cluster's. They decide nothing.
fn communities(cluster: &Cluster<'_>, ipv6: bool, problems: &mut Problems) -> Vec<Rule> {
    let configs = [
        (format!("node.{}", cluster.own_name), cluster.node_config(cluster.own_name)),
        ("default".to_owned(), cluster.default_config()),
    ];
    let names = names(configs.iter().filter_map(|(_, config)| *config));
    let chosen = configs.iter().find_map(|(name, config)| {
        let list = &config.as_ref()?.prefix_advertisements;
        (!list.is_empty()).then_some((name, list))
    });
    let Some((object, advertisements)) = chosen else { return Vec::new() };
    let of_family = advertisements.iter().filter(|advertisement| advertisement.cidr.is_ipv6() == ipv6);
    of_family
        .map(|advertisement| {
            let (set, unknown) = changes(advertisement, &names);
            if !unknown.is_empty() {
                let list = unknown.join(", ");
                problems.add(
                    format!("BGPConfiguration {object}"),
                    format!(
                        "prefixAdvertisements of {}: no community is named or written {list}",
                        advertisement.cidr
                    ),
                );
            }
            let reason = format!("prefixAdvertisements of {}", advertisement.cidr);
            Rule { set, ..inside(reason, advertisement.cidr, Verdict::Continue) }
        })
        .collect()
}

/// Values by name; earlier configurations win.
fn names<'a>(configs: impl Iterator<Item = &'a BgpConfigurationSpec>) -> BTreeMap<&'a str, &'a str> {
    let mut names = BTreeMap::new();
    for community in configs.flat_map(|config| &config.communities) {
        names.entry(community.name.as_str()).or_insert(community.value.as_str());
    }
    names
}

/// The changes an advertisement makes, each once, and the communities nobody knows.
fn changes<'a>(
    advertisement: &'a PrefixAdvertisement,
    names: &BTreeMap<&str, &str>,
) -> (Vec<Change>, Vec<&'a str>) {
    let (mut set, mut unknown) = (Vec::new(), Vec::new());
    for text in &advertisement.communities {
        match community(names.get(text.as_str()).copied().unwrap_or(text)).map(addition) {
            Some(change) if !set.contains(&change) => set.push(change),
            Some(_) => {}
            None => unknown.push(text.as_str()),
        }
    }
    (set, unknown)
}
